//! Which module a library's name means.

use std::collections::HashMap;
use std::sync::Arc;

use super::state::Next;
use crate::module::Version;

/// The names of the current versions' libraries.
#[derive(Default)]
pub(crate) struct Libraries {
    modules: HashMap<Box<str>, Arc<str>>,
    names: HashMap<Arc<str>, Box<str>>,
}

impl Libraries {
    /// The module whose library has this name.
    pub(super) fn module(&self, library: &str) -> Option<&Arc<str>> {
        self.modules.get(library)
    }

    /// Modules are at other versions now, or not loaded.
    pub(super) fn changed(&mut self, next: &Next) {
        for (module, version) in next {
            let name = version.as_deref().and_then(Version::library);
            if self.names.get(module).map(|name| &**name) == name {
                continue;
            }
            if let Some(before) = self.names.remove(module)
                && self.modules.get(&before) == Some(module)
            {
                self.modules.remove(&before);
            }
            if let Some(name) = name {
                self.modules.insert(name.into(), module.clone());
                self.names.insert(module.clone(), name.into());
            }
        }
    }
}
