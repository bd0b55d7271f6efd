//! Which modules are called outside of frames: what is replaced of those is kept until a look at
//! all threads shows that none is inside.

use std::sync::Arc;

use super::State;
use crate::Error;
use crate::host::{self, signals};
use crate::module::Version;

impl State {
    /// Modules that are called by threads of other modules' are called outside of frames.
    pub(super) fn follow_threads(&mut self) {
        for id in host::take_new_with_threads() {
            let version = self.current().find(|version| version.is_tenant(id));
            if let Some(name) = version.map(|version| version.name().clone()) {
                self.follow(self.called_by(&name));
            }
        }
    }

    /// Modules that have handlers of signals installed are called outside of frames, with all that
    /// they call.
    pub(super) fn follow_handlers(&mut self) {
        let all = || self.current().map(|version| &**version).chain(self.retirement.remaining());
        if !all().any(Version::handles) {
            return;
        }
        let version = |id| all().find(|version| version.is_tenant(id));
        // What an old version calls may not be what the current one does.
        let of = |version: &Version| -> Vec<Arc<str>> {
            version.calls().map(|(called, _)| called.into()).chain([version.name().clone()]).collect()
        };
        self.follow(signals::handlers().filter_map(|(_, id)| version(id)).flat_map(of).collect());
    }

    /// A new version of an escaped module may call modules that the old one did not.
    pub(in crate::publish) fn follow_escapes(&mut self, changed: &[Arc<str>]) {
        let escaped = changed.iter().filter(|name| self.retirement.has_escaped(name));
        self.follow(escaped.flat_map(|name| self.called_by(name)).collect());
    }

    /// See [`crate::Runtime::retain`].
    pub(crate) fn retain(&mut self, module: &str) -> Result<(), Error> {
        let name = self.loaded(module)?.name().clone();
        self.retirement.make_opaque(name.clone());
        self.follow(vec![name]);
        Ok(())
    }

    /// Marks modules as escaped, with all that they call.
    pub(super) fn follow(&mut self, mut modules: Vec<Arc<str>>) {
        while let Some(name) = modules.pop() {
            if self.retirement.escape(name.clone()) {
                modules.extend(self.called_by(&name));
            }
        }
    }

    pub(super) fn called_by(&self, module: &str) -> Vec<Arc<str>> {
        let version = self.loaded(module).into_iter();
        let called = version.flat_map(|version| version.calls()).map(|(called, _)| called);
        let called: Vec<&str> = called.chain([module]).collect();
        // A slot of it may lead to an adapter.
        let adapting = called.iter().flat_map(|called| self.layers.adapting(called));
        called.iter().copied().filter(|called| *called != module).chain(adapting).map(Into::into).collect()
    }
}
