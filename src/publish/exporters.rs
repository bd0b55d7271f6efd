//! Which modules export a symbol, of those that somebody has asked for.
//!
//! What a module imports may be in any other. With 1,000 modules asking all of them took two thirds
//! of a reload: mostly for weak symbols of the compiler's start files, which nobody has. So an
//! answer is kept, and each publication corrects the answers for the modules that it changes.

use std::collections::HashMap;

use super::state::Next;
use crate::module::Found;

/// Answers that are kept; past that, none is. They are looked at for every module that is
/// published.
const KEPT: usize = 4096;

/// Modules that a publication may change for the answers to be corrected.
const CORRECTED: usize = 64;

/// Exporters of symbols among the current versions.
#[derive(Default)]
pub(crate) struct Exporters {
    known: HashMap<Box<str>, Vec<Found>>,
}

impl Exporters {
    /// The exporters of a symbol, `ask`ed for if it is the first time.
    pub(crate) fn of(&mut self, symbol: &str, ask: impl FnOnce() -> Vec<Found>) -> &[Found] {
        if !self.known.contains_key(symbol) {
            if self.known.len() == KEPT {
                self.known.clear();
            }
            self.known.insert(symbol.into(), ask());
        }
        &self.known[symbol]
    }

    /// Modules are at other versions now, or not loaded.
    pub(crate) fn changed(&mut self, next: &Next) {
        // To correct each answer for each module would cost more than to ask anew.
        if next.len() > CORRECTED {
            self.known.clear();
        }
        for (symbol, exporters) in &mut self.known {
            for (module, version) in next {
                exporters.retain(|found| found.module != *module);
                exporters.extend(version.as_ref().and_then(|version| Found::of(version, symbol)));
            }
        }
    }
}
