//! What is wrong with a state that a module declares, and with variables that are to be carried
//! over.

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
        before: Box<StateLayout>,
        /// That of the new one.
        now: Box<StateLayout>,
        /// The members whose values cannot be carried over without a doubt, and why; empty if
        /// nothing is known of members.
        obstacles: Vec<String>,
    },
    /// The module's own `module_migrate_state` refused.
    NotMigrated {
        /// What it returned.
        code: i32,
    },
}

/// What is known of a state's layout.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StateLayout {
    /// The number that the module counts its layouts with.
    pub schema: u32,
    /// Bytes.
    pub size: u64,
    /// The type and its members, if debug information says them.
    pub members: Option<String>,
}

impl fmt::Display for StateLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schema version {}, {} bytes", self.schema, self.size)?;
        match &self.members {
            Some(members) => write!(f, "; {members}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for StateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfReach => f.write_str(
                "the module does not export it, or refers to it without its symbol, and so would not see what is kept: \
                 compile with -fPIC, and link without -Bsymbolic and without a version script that hides it; link Mach-O object \
                 files to a dylib",
            ),
            Self::Changed { before, now, obstacles } => {
                write!(
                    f,
                    "it had another layout ({before}) than it has now ({now}): restore the layout, export \
                     module_migrate_state(), or unload the module first and lose the state"
                )?;
                match obstacles.is_empty() {
                    true => f.write_str(". Without debug information (-g) in both versions nothing can be planned"),
                    false => obstacles.iter().try_for_each(|obstacle| write!(f, "\n  {obstacle}")),
                }
            }
            Self::NotMigrated { code } => {
                write!(f, "module_migrate_state() returned {code}: it cannot make it of the older one")
            }
        }
    }
}

/// A variable that cannot be carried over.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NotCarried {
    /// The module.
    pub module: String,
    /// The variable, with namespaces and function. Empty: all of them.
    pub variable: String,
    /// Why not.
    pub reason: String,
}

impl fmt::Display for NotCarried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.variable {
            "" => write!(f, "`{}`: {}", self.module, self.reason),
            variable => write!(f, "`{variable}` of `{}`: {}", self.module, self.reason),
        }
    }
}
