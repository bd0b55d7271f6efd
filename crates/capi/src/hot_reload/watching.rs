//! Watches: what the watching thread tells the callbacks.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use midflight::{Error, Publication, Runtime};

use super::HotReloadConfig;
use crate::errors::{Failure, Outcome};
use crate::gate::{Inside, Reload};
use crate::pointers::c_string;

/// A file that is watched. The thread that watches has it, and [`WATCHED`].
struct Watched {
    path: PathBuf,
    string: CString,
    config: HotReloadConfig,
    /// Since when a reload is under way.
    reload: Mutex<Option<(Instant, Reload)>>,
}

/// For [`progress`], which is given nothing but a path.
static WATCHED: Mutex<Vec<Arc<Watched>>> = Mutex::new(Vec::new());

fn watched() -> MutexGuard<'static, Vec<Arc<Watched>>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A watch that has not ended: what is told of it belongs to this.
struct Watch(Arc<Watched>);

impl Drop for Watch {
    fn drop(&mut self) {
        watched().retain(|other| !Arc::ptr_eq(other, &self.0));
    }
}

pub(super) fn watch(runtime: &Runtime, path: PathBuf, config: HotReloadConfig) -> Outcome {
    if config.dry_run.get() {
        let message =
            "a watch with dry_run would load nothing: watch without it, or call hot_reload_module() with it";
        return Err(Failure::argument(message));
    }
    let string = c_string(path.as_os_str().as_bytes());
    let this = Watch(Arc::new(Watched { path: path.clone(), string, config, reload: Mutex::new(None) }));
    watched().push(this.0.clone());
    let outcome = move |_: &Path, result| this.0.ended(result);
    // SAFETY: the host vouches for what it loads (hot_reload.h: "load what you trust").
    Ok(unsafe { runtime.watch(path, &config.options(Some(&progress)), outcome) }?)
}

/// How far a reload is.
fn progress(path: &Path, percent: u32) {
    // The last one, if it is being replaced.
    let this = watched().iter().rfind(|watched| watched.path == path).cloned();
    let Some(this) = this else { return };
    this.reload().get_or_insert_with(|| (Instant::now(), Reload::new()));
    if let Some(callback) = this.config.progress_callback {
        let _inside = Inside::new();
        // SAFETY: the host's callback; the string lives as long as the call.
        unsafe { callback(this.string.as_ptr(), percent) };
    }
}

impl Watched {
    fn reload(&self) -> MutexGuard<'_, Option<(Instant, Reload)>> {
        self.reload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reload has ended. Counted from the first that was heard of it.
    fn ended(&self, result: Result<Publication, Error>) {
        let begun = self.reload().take().map(|(begun, _)| begun);
        let took = || begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        let _inside = Inside::new();
        let success = result.is_ok();
        let told = match success {
            true => self.config.complete_callback.is_some() || self.config.error_callback.is_some(),
            false => self.config.error_callback.is_some(),
        };
        if !told {
            midflight::print_outcome(&self.path, &result);
        }
        if let Err(error) = result {
            self.config.tell_error(self.string.as_ptr(), &Failure::from(error));
        }
        self.config.tell_complete(self.string.as_ptr(), success, took());
    }
}
