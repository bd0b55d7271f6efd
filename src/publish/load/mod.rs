//! What loading does before and around the runtime's lock: turns and time-outs (`gate`), threads
//! (`crew`), reading. `publish/steps` has what is done behind it.

mod crew;
mod gate;
pub(crate) mod options;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

pub(crate) use crew::Crew;
pub(crate) use gate::{Deadline, Gate};

use crate::durable::{Durability, Durable};
use crate::module::debug::Observers;
use crate::module::{Extent, Interfaces, LoadedWith, ModuleFile, Origin, Source};
use crate::{Error, LoadOptions};

/// What all loads share.
pub(crate) struct Loader {
    pub(crate) gate: Gate,
    pub(crate) crew: Crew,
    pub(crate) interfaces: Interfaces,
    pub(crate) observers: Mutex<Observers>,
    /// See [`crate::Runtime::set_keep_files`]. Relaxed, as the next: a load takes it as it finds
    /// it.
    pub(crate) keep_files: AtomicBool,
    /// The journal, if there is one.
    pub(crate) journal: Mutex<Option<Arc<Durable>>>,
    /// See [`crate::Runtime::set_eager_collection`].
    pub(crate) eager: AtomicBool,
    /// There are adapters, and so all files are asked what they were built against.
    pub(crate) adapts: AtomicBool,
}

impl Loader {
    pub(crate) fn new(observers: Observers) -> Self {
        Self {
            gate: Gate::default(),
            crew: Crew::default(),
            interfaces: Interfaces::default(),
            observers: Mutex::new(observers),
            keep_files: AtomicBool::new(false),
            journal: Mutex::default(),
            eager: AtomicBool::new(false),
            adapts: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_eager(&self) -> bool {
        self.eager.load(Ordering::Relaxed)
    }

    /// How much is read of the files of a load.
    pub(crate) fn extent(&self, options: &LoadOptions<'_>, recorded: bool) -> Extent {
        match self.keep_files.load(Ordering::Relaxed)
            || self.adapts.load(Ordering::Relaxed)
            || options.validate
            || options.looks_for_conflicts()
            || options.carry != options::Carry::Nothing
            || recorded
            || self.journal.lock().is_some()
        {
            _ if self.observers.lock().are_there() => Extent::Observed,
            true => Extent::Whole,
            false => Extent::Loaded,
        }
    }
}

/// A load that is under way.
pub(crate) struct Load<'l> {
    pub(crate) loader: &'l Loader,
    pub(crate) options: &'l LoadOptions<'l>,
    pub(crate) deadline: Deadline,
    pub(crate) begin: Instant,
    /// Somebody asks what the files hold and which functions change.
    pub(crate) recorded: bool,
    /// When it is on the disk, if there is a journal.
    pub(crate) durability: Durability,
    paths: Vec<PathBuf>,
    /// There are hooks.
    hooked: bool,
    /// For progress callbacks and hooks that ask.
    figures: Mutex<Figures>,
}

/// What the state knows of itself, for statistics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) generation: u64,
    pub(crate) modules: usize,
    pub(crate) current_bytes: usize,
    pub(crate) old_bytes: usize,
    pub(crate) retained_bytes: usize,
}

thread_local! {
    static TOLD: Cell<Option<Figures>> = const { Cell::new(None) };
}

/// On a thread that is in a progress callback: what its load knows of the state.
pub(crate) fn told_figures() -> Option<Figures> {
    TOLD.get()
}

/// A progress callback that runs.
struct Telling;

impl Telling {
    fn new(figures: Figures) -> Self {
        TOLD.set(Some(figures));
        Self
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        TOLD.set(None);
    }
}

impl<'l> Load<'l> {
    pub(crate) fn new(
        loader: &'l Loader,
        options: &'l LoadOptions<'l>,
        paths: &[Option<&Path>],
        recorded: bool,
    ) -> Self {
        let paths = match options.progress {
            Some(_) => paths.iter().flatten().copied().map(Into::into).collect(),
            None => Vec::new(),
        };
        Self {
            loader,
            options,
            deadline: Deadline::after(options.timeout),
            begin: Instant::now(),
            recorded,
            durability: Durability::default(),
            paths,
            hooked: false,
            figures: Mutex::default(),
        }
    }

    /// One that is given up at this time, if its own time-out does not come first.
    pub(crate) fn until(mut self, deadline: Deadline) -> Self {
        self.deadline = self.deadline.or_sooner(deadline);
        self
    }

    /// One that is on the disk then.
    pub(crate) fn durable(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// What the journal is told of its modules besides what their sources say.
    pub(crate) fn with(&self) -> LoadedWith {
        LoadedWith { verified: self.options.verify, carried: self.options.carry != options::Carry::Nothing }
    }

    /// Puts the files into the journal, if there is one.
    pub(crate) fn keep(&self, files: &[ModuleFile]) -> Result<(), Error> {
        let Some(journal) = self.loader.journal.lock().clone() else { return Ok(()) };
        self.each(files, |file| file.keep(&journal, self.with())).map(drop)
    }

    /// Whether conflicts are looked for.
    pub(crate) fn looks_for_conflicts(&self) -> bool {
        self.options.looks_for_conflicts()
    }

    /// One of which hooks are asked that may ask in turn.
    pub(crate) fn with_hooks(mut self, hooked: bool) -> Self {
        self.hooked = hooked;
        self
    }

    /// Runs a callback that may ask for statistics: it is told what this load knows of the state.
    pub(crate) fn telling<R>(&self, run: impl FnOnce() -> R) -> R {
        let _telling = Telling::new(*self.figures.lock());
        run()
    }

    /// Notes what the state is, if somebody may ask in a progress callback or a hook.
    pub(crate) fn note_figures(&self, figures: impl FnOnce() -> Result<Figures, Error>) -> Result<(), Error> {
        if self.options.progress.is_some() || self.hooked || self.options.resolve_conflicts {
            *self.figures.lock() = figures()?;
        }
        Ok(())
    }

    /// Tells how far it is, and whether it may go on.
    pub(crate) fn reached(&self, percent: u32) -> Result<(), Error> {
        self.tell(percent);
        self.deadline.check()
    }

    /// Tells how far it is.
    pub(crate) fn tell(&self, percent: u32) {
        if let Some(progress) = self.options.progress {
            self.telling(|| self.paths.iter().for_each(|path| progress(path, percent)));
        }
    }

    /// What `work` makes of each item, side by side if that was asked for.
    pub(crate) fn each<'i, T: Sync, R: Send + Sync>(
        &self,
        items: &'i [T],
        work: impl Fn(&'i T) -> Result<R, Error> + Sync,
    ) -> Result<Vec<R>, Error> {
        self.loader.crew.map(self.options.threads, items, work)?.into_iter().collect()
    }

    /// Reads the files.
    pub(crate) fn read(&self, sources: Vec<Source>) -> Result<Vec<ModuleFile>, Error> {
        if sources.is_empty() {
            return Err(Error::NoFiles);
        }
        let extent = self.loader.extent(self.options, self.recorded);
        if self.options.threads < 2 {
            return sources.into_iter().map(|source| ModuleFile::read(source, extent)).collect();
        }
        let sources: Vec<_> = sources.into_iter().map(|source| Mutex::new(Some(source))).collect();
        self.each(&sources, |source| {
            ModuleFile::read(source.lock().take().expect("each is read once"), extent)
        })
    }

    /// Reads one module's files, debug information included.
    pub(crate) fn read_whole(&self, source: Source) -> Result<ModuleFile, Error> {
        let extent = self.loader.extent(self.options, true);
        ModuleFile::read(source, extent)
    }

    /// What is to be kept of a file for later comparisons.
    pub(crate) fn origin(&self, file: &mut ModuleFile) -> Arc<Origin> {
        let origin = match file.take_interface() {
            Some(interface) => Origin::from(interface),
            None if file.is_restored() || self.loader.keep_files.load(Ordering::Relaxed) => {
                Origin::from(file.take_contents())
            }
            None => Origin::from(file.on_disk()),
        };
        Arc::new(origin)
    }
}
