//! What is otherwise than ld.so would have it, and is said when a module is loaded
//! (docs/modules.md).

use std::mem::discriminant;
use std::sync::Arc;

/// Where a module is bound in another way than in a program without midflight.
pub(super) enum Remark {
    /// A variable that the module has for itself, and another module has for itself as well.
    Twin { symbol: Box<str>, module: Arc<str> },
    /// A module is taken for a library of another name.
    AnotherName { library: Box<str>, module: Arc<str> },
    /// A function of another module whose address is used: that of its trampoline.
    Address { symbol: Box<str>, module: Arc<str> },
    /// A module that the process has as a library, too.
    Copy { library: Box<str>, module: Arc<str> },
}

impl Remark {
    /// Notes the first of its kind: of variables and functions there may be many.
    pub(super) fn add_first(self, remarks: &mut Vec<Self>) {
        if !remarks.iter().any(|other| discriminant(other) == discriminant(&self)) {
            remarks.push(self);
        }
    }

    /// Says them, of a module; of one that is reloaded not what has been said before.
    pub(super) fn say(remarks: &[Self], of: &str, reloaded: bool) {
        for remark in remarks {
            match remark {
                Self::Twin { .. } | Self::AnotherName { .. } | Self::Address { .. } if reloaded => {}
                Self::Twin { symbol, module } => tracing::warn!(
                    module = of,
                    other = &**module,
                    "has variables of its own, such as `{symbol}`, which the other module has for itself as well: what modules are to \
                     share, the host or a library that they need must export"
                ),
                // Code that calls by addresses (-fno-plt, as Rust's) does so as well.
                Self::Address { symbol, module } => tracing::info!(
                    module = of,
                    other = &**module,
                    "uses the address of a function of the other module, `{symbol}`: that of a trampoline, which follows each version, and \
                     so is not the one that the other module has of it itself"
                ),
                Self::AnotherName { library, module } => tracing::warn!(
                    module = of,
                    "needs the library {library}, for which module `{module}` is taken, whose file says another name: link both \
                     with the same one"
                ),
                Self::Copy { library, module } => tracing::warn!(
                    module = of,
                    "{library} is in the process as a library, and is module `{module}` as well: what was bound to the library calls that \
                     and has its variables, whatever is loaded as the module. Load the module before what needs it, or in one \
                     publication with it; and a library that needs it as a module, too"
                ),
            }
        }
    }
}
