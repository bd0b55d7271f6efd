//! Compatibility layers, as the host asks for them. `publish/layers.rs` has what becomes of calls.

use std::sync::atomic::Ordering;

use super::Runtime;
use crate::{Adapter, Error};

/// An adapter that was added.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AdapterId(u64);

impl AdapterId {
    /// As a number, from 1.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The adapter of this number.
    pub fn of(number: u64) -> Self {
        Self(number)
    }
}

impl Runtime {
    /// Has a function do for callers that were built against an old signature of another one, from
    /// the publication on that brings the other one with a new signature, or without it.
    ///
    /// Add it before that, while what is loaded has the old signature: the program, which does not
    /// say what it was built against, is taken to fit that. In that publication, old callers come to be bound to the adapter. What is
    /// loaded with it or later is bound by what it was built against: to the function itself, or to
    /// the adapter. So an adapter that calls the new function has that and not itself.
    ///
    /// From then on the function's callers are held to what they were built against: what has no
    /// adapter is refused with [`Error::NoAdapter`], by loads, rollbacks and unloads alike. An
    /// adapter for the same signature takes the place of the one before. The program's addresses and
    /// declarations of the function stay for the signature that they are for now; for another one it
    /// [asks](Self::symbol) by `twice as double (double)`.
    ///
    /// Until it is [removed](Self::remove_adapter), or the runtime is [shut down](Self::shutdown).
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSignature`] if debug information does not say the signature of what is
    /// loaded, or what a caller was built against and [`Adapter::unsaid`] does not either;
    /// [`Error::MixedCallers`]. [`Error::Unsupported`] while a journal is open: what it brings back
    /// at the next start would be bound before the adapter is there.
    pub fn add_adapter(&self, adapter: &Adapter) -> Result<AdapterId, Error> {
        let loader = &self.shared.loader;
        let mut state = self.lock()?;
        if let Some(journal) = state.journal() {
            let folder = journal.folder().display();
            let what = format!(
                "the journal in {folder} does not keep adapters: add them before the runtime is started with its journal, each time"
            );
            return Err(Error::Unsupported { what });
        }
        let id = state.add_adapter(adapter, &loader.interfaces)?;
        // Relaxed: a load that reads its files meanwhile and lacks what they say is refused.
        loader.adapts.store(true, Ordering::Relaxed);
        drop(state);
        self.shared.resolutions.adapt(id, Some((&adapter.module, &adapter.symbol)));
        Ok(AdapterId(id))
    }

    /// Takes an adapter out that nobody goes by: false if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::NoAdapter`], if somebody who is loaded goes by it: it stays.
    pub fn remove_adapter(&self, id: AdapterId) -> Result<bool, Error> {
        let removed = self.lock()?.remove_adapter(id.0)?;
        if removed {
            self.shared.resolutions.adapt(id.0, None);
        }
        Ok(removed)
    }

    /// The signature of a function that is loaded, as C writes it: `int (int)`. Const and typedefs
    /// are left out, and of structures there is only the name. None: the module is not loaded or has
    /// no such function, or its debug information does not say, or was not kept.
    ///
    /// # Errors
    ///
    /// As for [`modules`](Self::modules).
    pub fn signature(&self, module: &str, symbol: &str) -> Result<Option<String>, Error> {
        let origin = self.lock()?.origin(module).and_then(|(_, origin)| origin);
        let interface = origin.and_then(|origin| origin.interface(&self.shared.loader.interfaces).ok());
        Ok(interface.and_then(|interface| interface.signature(symbol)))
    }
}
