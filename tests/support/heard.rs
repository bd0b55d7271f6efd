//! What a subscriber was told.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use midflight::{Error, Event, LoadOptions, ModuleVersion, Publication, Record, Runtime, Subscription};

/// What was told, as short texts and, of loads, as records.
#[derive(Default)]
pub(crate) struct Heard {
    told: Mutex<Vec<String>>,
    pub(crate) records: Mutex<Vec<Record>>,
}

impl Heard {
    pub(crate) fn new(rt: Runtime) -> (Arc<Self>, Subscription) {
        let heard = Arc::<Self>::default();
        let hears = heard.clone();
        (heard, rt.subscribe(move |event| hears.hear(event)))
    }

    fn hear(&self, event: &Event<'_>) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(text(event));
        self.records.lock().unwrap_or_else(PoisonError::into_inner).extend(Record::of(event));
    }

    /// Since the last question.
    pub(crate) fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The one record since the last question.
    pub(crate) fn record(&self) -> Record {
        self.told();
        let mut records = std::mem::take(&mut *self.records.lock().unwrap_or_else(PoisonError::into_inner));
        assert_eq!(records.len(), 1, "{records:#?}");
        records.remove(0)
    }
}

fn names(modules: &[ModuleVersion]) -> String {
    let one = |module: &ModuleVersion| match &module.replaced {
        None => format!("{} {}", module.name, module.version),
        Some(replaced) => format!("{} {} for {}", module.name, module.version, replaced.version),
    };
    modules.iter().map(one).collect::<Vec<_>>().join(" and ")
}

pub(crate) fn text(event: &Event<'_>) -> String {
    let all = |publication: &Publication| names(&publication.modules);
    match event {
        Event::Published { publication, watched: false, .. } => format!("published {}", all(publication)),
        Event::Published { publication, .. } => format!("published by a watch {}", all(publication)),
        Event::Refused { files, error, .. } => format!("refused {}: {:?}", files.len(), error.kind()),
        Event::Damaged { publication, .. } => format!("damaged {}", all(publication)),
        Event::RolledBack { publication, damaged: None, .. } => format!("back {}", all(publication)),
        Event::RolledBack { publication, damaged: Some((damaged, error)), .. } => {
            format!("back {} after {}: {:?}", all(publication), all(damaged), error.kind())
        }
        Event::NotRolledBack { error, .. } => format!("not back: {:?}", error.kind()),
        Event::Unloaded { modules, .. } => format!("unloaded {}", names(modules)),
        Event::Retained(kept) => format!("kept {} {} until {:?}", kept.module, kept.version, kept.until),
        Event::Retired(gone) => format!("gone {} {}", gone.module, gone.version),
        Event::Watched { path } => format!("watched {}", file(path)),
        Event::Unwatched { path } => format!("unwatched {}", file(path)),
        Event::WatchFailed { path, .. } => format!("failed {}", file(path)),
        Event::Stopped { error } => format!("stopped {}", error.is_none()),
        other => panic!("an event that this test does not know: {other:?}"),
    }
}

pub(crate) fn file(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

pub(crate) fn load(rt: Runtime, path: impl AsRef<Path>) -> Result<Publication, Error> {
    load_with(rt, path, &LoadOptions::default())
}

pub(crate) fn load_with(
    rt: Runtime,
    path: impl AsRef<Path>,
    options: &LoadOptions<'_>,
) -> Result<Publication, Error> {
    // SAFETY: the tests' modules have functions of the declared types, and are called by them only.
    unsafe { rt.load_with([path.as_ref()], options) }
}

pub(crate) const ONE: &str = "int value(void) { return 1; }";
pub(crate) const TWO: &str = "int value(void) { return 2; }";
