//! The journal's beginning and end: what was committed is loaded again.

use std::collections::BTreeSet;

use super::{Busy, Files, Runtime, Wanted};
use crate::durable::{Durable, Found};
use crate::module::ModuleFile;
use crate::publish::State;
use crate::{Carry, Error, JournalOptions, LoadOptions};

impl Runtime {
    /// Opens the journal and loads what it has; see [`start_with`](Self::start_with).
    pub(super) fn open_journal(&self, options: &JournalOptions) -> Result<(), Error> {
        // A constructor of what is brought back would wait for itself.
        drop(Busy::enter()?);
        let _restoring = self.shared.restoring.lock();
        {
            let state = self.lock()?;
            match state.journal() {
                Some(journal) if journal.folder() == options.folder() => return Ok(()),
                Some(journal) => {
                    let (this, other) = (journal.folder().display(), options.folder().display());
                    let what = format!(
                        "the journal in {other}: the runtime has the one in {this} until it is shut down"
                    );
                    return Err(Error::Unsupported { what });
                }
                None => no_modules(&state, options)?,
            }
        }
        let found = Durable::open(options)?;
        let restored = self.restore(&found, options);
        if restored.is_err() {
            let Found { durable, .. } = found;
            if let Err(error) = durable.close() {
                tracing::warn!(%error, "the journal could not be closed");
            }
            return restored;
        }
        let modules = found.committed.len();
        *self.shared.loader.journal.lock() = Some(found.durable.clone());
        tracing::info!(folder = %options.folder().display(), modules, "the journal is open");
        found.applied();
        Ok(())
    }

    /// Loads the committed set, and has what is published from then on committed.
    fn restore(&self, found: &Found, options: &JournalOptions) -> Result<(), Error> {
        let Found { durable, committed, .. } = found;
        if committed.is_empty() {
            let mut state = self.lock()?;
            no_modules(&state, options)?;
            state.set_journal(Some(durable.clone()));
            return Ok(());
        }
        let not_restored = |module: Option<&String>, source: Error| Error::NotRestored {
            folder: durable.folder().into(),
            module: module.cloned(),
            source: Box::new(source),
        };
        let extent = self.shared.loader.extent(&LoadOptions::new().validate(true), true);
        let (mut files, mut verified, mut carried) = (Vec::new(), false, false);
        for (name, digest) in committed {
            let restored = ModuleFile::restore(durable, *digest, extent);
            let (file, with) = restored.map_err(|source| not_restored(Some(name), source))?;
            verified |= with.verified;
            carried |= with.carried;
            files.push(file);
        }
        // Of several modules what one asks for is done with all: it does them no harm.
        let carry = if carried { Carry::Possible } else { Carry::Nothing };
        let load = LoadOptions::new().verify(verified).rollback_on_failure(true).carry(carry);
        let agreed = |state: &State| no_modules(state, options);
        let paths: Vec<_> = files.iter().map(|file| file.path().to_owned()).collect();
        let wanted = Wanted {
            files: Files::Read(files),
            agreed: &agreed,
            restores: Some(durable),
            ..Wanted::load(Vec::new())
        };
        // SAFETY: who gave the journal's folder has vouched for what is in it
        // (`JournalOptions::new`).
        let published = unsafe { self.load_and_tell(wanted, &load) };
        match published {
            Ok(publication) => {
                let names: BTreeSet<_> = publication.modules.into_iter().map(|module| module.name).collect();
                debug_assert!(names.iter().eq(committed.keys()), "{names:?}");
                Ok(())
            }
            Err(error) => {
                let blamed = error.path().and_then(|path| paths.iter().position(|of| of == path));
                Err(not_restored(blamed.and_then(|at| committed.keys().nth(at)), error))
            }
        }
    }

    /// Closes the journal, if there is one. What is committed stays so.
    pub(super) fn close_journal(&self) -> Result<(), Error> {
        let _restoring = self.shared.restoring.lock();
        let journal = self.lock()?.set_journal(None);
        drop(self.shared.loader.journal.lock().take());
        journal.map_or(Ok(()), Durable::close)
    }
}

/// That no module is loaded: one that is would not be in the journal.
fn no_modules(state: &State, options: &JournalOptions) -> Result<(), Error> {
    match state.numbers().into_keys().next() {
        None => Ok(()),
        Some(module) => {
            let folder = options.folder().display();
            let what = format!(
                "the journal in {folder}: `{module}` is loaded already, and is not in it. Start the runtime with its journal before \
                 anything is loaded"
            );
            Err(Error::Unsupported { what })
        }
    }
}
