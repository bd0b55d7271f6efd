//! Modules that are loaded again whenever their files were written again.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::Runtime;
use super::Wanted;
use crate::module::Source;
use crate::platform::files::{self, ContentHash, Identity};
use crate::runtime::watch::{Contents, Outcome, Settle, WatchId, Watcher};
use crate::{Error, Event, LoadOptions, ModuleVersion, Publication};

/// The files that are watched, by absolute path.
pub(crate) struct Watches {
    watcher: Watcher,
    ids: Mutex<HashMap<PathBuf, WatchId>>,
}

impl Watches {
    pub(super) fn new() -> Self {
        Self { watcher: Watcher::new(), ids: Mutex::default() }
    }

    /// How many files are watched.
    pub(super) fn len(&self) -> usize {
        self.ids.lock().len()
    }

    /// Returns the files that were watched.
    pub(super) fn stop(&self) -> Vec<PathBuf> {
        let ids = std::mem::take(&mut *self.ids.lock());
        self.watcher.stop();
        ids.into_keys().collect()
    }
}

/// Says on stderr what came of a load that nobody asked for: for [`Runtime::watch`] where nothing
/// else is done with it.
///
/// ```no_run
/// # fn main() -> Result<(), midflight::Error> {
/// # let (rt, options) = (midflight::Runtime::start()?, midflight::LoadOptions::default());
/// unsafe { rt.watch("libmovement.so", &options, |path, outcome| midflight::print_outcome(path, &outcome)) }?;
/// # Ok(())
/// # }
/// ```
pub fn print_outcome(path: &Path, outcome: &Result<Publication, Error>) {
    // In one piece. If it cannot be written there is nobody to tell.
    let _ = std::io::stderr().write_all(line(path, outcome).as_bytes());
}

fn line(path: &Path, outcome: &Result<Publication, Error>) -> String {
    let path = path.display();
    match outcome {
        Ok(Publication { modules, generation, .. }) => {
            let versions: Vec<_> = modules.iter().map(|of| format!("{} {}", of.name, of.version)).collect();
            let how = match modules.iter().all(|of| of.is_unchanged() == Some(true)) {
                true => "was loaded again, as it was before",
                false => "was loaded",
            };
            let changes: String = modules.iter().map(changes).collect();
            let versions = versions.join(", ");
            format!("midflight: {path} {how}: {versions}, from generation {generation} on{changes}\n")
        }
        Err(error) => format!("midflight: {path} was not loaded: {error}\n"),
    }
}

/// Which functions of a module are other code, as far as that is known.
fn changes(of: &ModuleVersion) -> String {
    /// So many are named.
    const NAMED: usize = 8;
    let Some(functions) = of.replaced.as_ref().and_then(|replaced| replaced.functions.as_ref()) else {
        return String::new();
    };
    let all = [
        ("changed", &functions.changed),
        ("added", &functions.added),
        ("removed", &functions.removed),
        ("not known whether changed", &functions.unknown),
    ];
    let list = |(what, names): (&str, &Vec<String>)| {
        let more = match names.len().checked_sub(NAMED) {
            None | Some(0) => String::new(),
            Some(more) => format!(" and {more} more"),
        };
        format!("; {what}: {}{more}", names[..names.len().min(NAMED)].join(", "))
    };
    all.into_iter().filter(|(_, names)| !names.is_empty()).map(list).collect()
}

impl Runtime {
    /// Loads a module whenever its file has been rewritten and is complete: renamed over, made anew
    /// or rewritten in place, in one go or in small pieces. Each complete content is loaded at
    /// most once, by content, not by time stamp; a partial one never. What the file holds now
    /// counts as loaded; it need not be there yet. A path that is watched already is watched in the
    /// new way.
    ///
    /// `outcome` is told of each load, on the thread that watches: [`print_outcome`] is one. Also
    /// that the file cannot be read, or that somebody has had it open for writing for two
    /// seconds without changing it.
    ///
    /// # Errors
    ///
    /// If the file's folder cannot be watched.
    ///
    /// # Safety
    ///
    /// As for [`load`](Self::load), of every version that the file will have.
    pub unsafe fn watch(
        &self,
        path: impl AsRef<Path>,
        options: &LoadOptions<'static>,
        mut outcome: impl FnMut(&Path, Result<Publication, Error>) + Send + 'static,
    ) -> Result<(), Error> {
        let given = path.as_ref().to_owned();
        let failed = |source| Error::Watch { path: given.clone(), source };
        let absolute = std::path::absolute(&given).map_err(failed)?;
        // What cannot be read now is waited for.
        let loaded = files::open(&absolute).and_then(|(file, metadata)| {
            Ok((ContentHash::of_file(file.get()?)?, Identity::from(&metadata), file.get()?.metadata()?))
        });
        // Not waited for: who loads may wait for this thread. Then nothing is known of what is
        // loaded.
        if let Ok((hash, identity, after)) = &loaded
            && Identity::from(after) == *identity
            && let Some(state) = self.shared.state.try_lock()
        {
            state.note_content(&absolute, *identity, *hash);
        }
        let (runtime, options, name) = (*self, *options, given.clone());
        let callback = move |_: &Path, found: Outcome| {
            let source = match found {
                Outcome::Version(Contents { bytes, identity, digest }) => {
                    let sources = vec![Source::read(&name, bytes, identity, digest)];
                    let wanted = Wanted { watched: true, ..Wanted::load(sources) };
                    // SAFETY: the caller vouches for every version that the file will have, as for
                    // `load`.
                    return outcome(&name, unsafe { runtime.load_and_tell(wanted, &options) });
                }
                Outcome::Failed(source) => source,
                Outcome::Panicked(message) => std::io::Error::other(message),
            };
            let error = Error::Watch { path: name.clone(), source };
            runtime.tell(&Event::WatchFailed { path: &name, error: &error });
            outcome(&name, Err(error));
        };
        // Before the lock: it may wait for a callback, which may ask how many are watched.
        let _ = self.unwatch(&absolute);
        let id = self
            .shared
            .watches
            .watcher
            .watch(&absolute, Settle::default(), loaded.ok().map(|(hash, ..)| hash), Box::new(callback))
            .map_err(failed)?;
        // Another thread may have watched it meanwhile. Not with the lock: see above.
        let other = self.shared.watches.ids.lock().insert(absolute, id);
        other.map(|other| self.shared.watches.watcher.unwatch(other));
        self.tell(&Event::Watched { path: &given });
        Ok(())
    }

    /// Ends a watch. A load that is under way for it is waited for, unless this is called from its
    /// `outcome`.
    ///
    /// # Errors
    ///
    /// If the file is not watched.
    pub fn unwatch(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let absolute =
            std::path::absolute(path).map_err(|source| Error::Watch { path: path.into(), source })?;
        let id = self.shared.watches.ids.lock().remove(&absolute);
        match id.is_some_and(|id| self.shared.watches.watcher.unwatch(id)) {
            true => {
                self.tell(&Event::Unwatched { path: &absolute });
                Ok(())
            }
            false => Err(Error::NotWatched { path: path.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::interface::ChangedFunctions;
    use crate::{Phases, Replaced};

    fn said(content: Option<u8>, replaced: Option<(Option<u8>, Option<ChangedFunctions>)>) -> String {
        let hash = |content: u8| ContentHash([content; 32]);
        let module = ModuleVersion {
            name: "movement".into(),
            version: 2,
            declared: None,
            debug_omitted: None,
            path: "libmovement.so".into(),
            content: content.map(hash),
            replaced: replaced.map(|(content, functions)| Replaced {
                version: 1,
                content: content.map(hash),
                functions,
            }),
        };
        let (stage, publish, phases) = (Duration::ZERO, Duration::ZERO, Phases::default());
        let (modules, gone) = (vec![module], Vec::new());
        let (back, carried, anew) = (Vec::new(), Vec::new(), Vec::new());
        let publication =
            Publication { generation: 3, stage, publish, phases, modules, back, gone, carried, anew };
        line(Path::new("libmovement.so"), &Ok(publication))
    }

    #[test]
    fn nothing_is_said_to_have_changed_that_has_not() {
        let loaded = "midflight: libmovement.so was loaded: movement 2, from generation 3 on";
        let again =
            "midflight: libmovement.so was loaded again, as it was before: movement 2, from generation 3 on";
        assert_eq!(said(Some(1), None), format!("{loaded}\n"));
        assert_eq!(said(Some(1), Some((Some(2), None))), format!("{loaded}\n"));
        assert_eq!(said(Some(1), Some((Some(1), None))), format!("{again}\n"));
        for (now, before) in [(None, None), (None, Some(1)), (Some(1), None)] {
            assert_eq!(said(now, Some((before, None))), format!("{loaded}\n"), "that is not known");
        }
        let mut functions = ChangedFunctions::default();
        assert_eq!(said(Some(1), Some((Some(2), Some(functions.clone())))), format!("{loaded}\n"));
        functions.changed = (0..10).map(|n| format!("f{n}")).collect();
        functions.unknown = vec!["g".into()];
        let told = said(Some(1), Some((Some(2), Some(functions))));
        let changes = "; changed: f0, f1, f2, f3, f4, f5, f6, f7 and 2 more; not known whether changed: g";
        assert_eq!(told, format!("{loaded}{changes}\n"));
    }
}
