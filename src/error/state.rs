//! What is wrong with a state that a module declares.

use std::fmt;

/// What is wrong with a state that a module declares (`runtime_module.h`).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StateProblem {
    /// The module reaches the variable in its own memory, so that it would not see what is kept.
    OutOfReach,
    /// It has another layout than in the version that is loaded, and nothing carries it over.
    Changed {
        /// That of the version that is loaded.
        before: StateLayout,
        /// That of the new one.
        now: StateLayout,
    },
}

/// What a module declares of a state's layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StateLayout {
    /// The number that the module counts its layouts with.
    pub schema: u32,
    /// Bytes.
    pub size: u64,
}

impl fmt::Display for StateLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schema version {}, {} bytes", self.schema, self.size)
    }
}

impl fmt::Display for StateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfReach => f.write_str(
                "the module does not export it, or refers to it without its symbol, and so would not see what is kept: \
                 compile with -fPIC, and link without -Bsymbolic and without a version script that hides it",
            ),
            Self::Changed { before, now } => write!(
                f,
                "it had another layout ({before}) than it has now ({now}): restore the layout, or unload the module first and \
                 lose the state"
            ),
        }
    }
}
