//! What is to be published: the files of a load, and what a transaction wants with them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::loading::Ended;
use super::{Busy, Guard, Runtime};
use crate::durable::{Durability, Durable};
use crate::interface::Verdict;
use crate::module::{ModuleFile, Source};
use crate::publish::load::{Deadline, Load};
use crate::publish::{Besides, Candidate, Candidates, Checked, State};
use crate::{Error, ErrorKind, LoadOptions};

/// What is to be published together.
pub(crate) struct Wanted<'w> {
    pub(crate) files: Files,
    pub(crate) besides: Besides,
    /// The modules of which what is known to be incompatible is refused;
    /// [`LoadOptions::validate`] is for all.
    pub(crate) validates: BTreeSet<Arc<str>>,
    /// Asked behind the runtime's lock, before anything is linked: an error refuses all.
    pub(crate) agreed: &'w dyn Fn(&State) -> Result<(), Error>,
    /// Besides the time-out of the options.
    pub(crate) deadline: Deadline,
    /// It is for a watch, not for who called.
    pub(crate) watched: bool,
    /// When it is on the disk, if there is a journal.
    pub(crate) durability: Durability,
    /// It is what this journal has, which what is published from then on is committed to.
    pub(crate) restores: Option<&'w Arc<Durable>>,
}

/// The files of a publication.
pub(crate) enum Files {
    /// To be read: one at least.
    Sources(Vec<Source>),
    /// Read already; perhaps none.
    Read(Vec<ModuleFile>),
}

impl Wanted<'_> {
    /// A load: nothing but files.
    pub(crate) fn load(sources: Vec<Source>) -> Self {
        Self {
            files: Files::Sources(sources),
            besides: Besides::default(),
            validates: BTreeSet::new(),
            agreed: &|_| Ok(()),
            deadline: Deadline::after(None),
            watched: false,
            durability: Durability::default(),
            restores: None,
        }
    }
}

impl Files {
    /// The first file of each, if it has one.
    pub(super) fn paths(&self) -> Vec<Option<&std::path::Path>> {
        match self {
            Self::Sources(sources) => sources.iter().map(Source::path).collect(),
            Self::Read(files) => files.iter().map(|file| Some(file.path())).collect(),
        }
    }

    pub(super) fn read(self, load: &Load<'_>) -> Result<Vec<ModuleFile>, Error> {
        match self {
            Self::Sources(sources) => load.read(sources),
            Self::Read(files) => Ok(files),
        }
    }
}

/// A file that was read for a later publication.
pub(crate) struct Tried {
    pub(crate) file: ModuleFile,
    /// The module's name.
    pub(crate) name: Arc<str>,
    /// The number of the version that is current. None: the module is not loaded.
    pub(crate) current: Option<u64>,
    /// The number that its next version has.
    pub(crate) next: u64,
    /// The generation that this is of.
    pub(crate) generation: u64,
}

impl Runtime {
    /// Reads a file, and says what is wrong with it as far as it alone and what is loaded tell.
    /// What may come right by what is published with it is not wrong yet. Nothing is published, run
    /// or changed. `rehearsed`: it is bound and linked; else only read.
    pub(crate) fn try_out(
        &self,
        source: Source,
        options: &LoadOptions<'_>,
        deadline: Deadline,
        rehearsed: bool,
    ) -> Result<Tried, Error> {
        let _busy = Busy::enter()?;
        let recorded = self.shared.events.are_recorded();
        let load = Load::new(&self.shared.loader, options, &[source.path()], recorded).until(deadline);
        load.deadline.check()?;
        // Wholly: whoever commits may ask what it conflicts with.
        let file = load.read_whole(source)?;
        load.keep(std::slice::from_ref(&file))?;
        let name = {
            let candidates = Candidates::new(vec![Candidate::new(&file, self.shared.page_size)?])?;
            let none = Besides::default();
            if rehearsed && options.validate {
                let compared = self.validate(&candidates, &none, |_| true, &load, &mut Ended::default());
                compared.map(drop).or_else(refuse_what_breaks)?;
            }
            if rehearsed {
                let mut state = self.state_until(&load)?;
                let checked = Checked::new(&mut state, &candidates, &none, &load);
                checked.and_then(Checked::rehearse).or_else(refuse_for_good)?;
            }
            candidates[0].name.clone()
        };
        load.deadline.check()?;
        let state = self.state_until(&load)?;
        let (current, next) = (state.version(&name), state.next_number(&name));
        let generation = state.figures().generation;
        drop(state);
        Ok(Tried { file, name, current, next, generation })
    }
}

impl Runtime {
    /// Whether a file that was read exports such a function.
    pub(crate) fn file_has_function(&self, file: &ModuleFile, symbol: &str) -> Result<bool, Error> {
        Ok(Candidate::new(file, self.shared.page_size)?.function(symbol))
    }

    /// The state, unless that takes too long.
    pub(crate) fn lock_until(&self, deadline: Deadline) -> Result<Guard, Error> {
        let busy = Busy::enter()?;
        let state = match deadline.at() {
            None => self.shared.state.lock(),
            Some(at) => self.shared.state.try_lock_until(at).ok_or_else(|| deadline.error())?,
        };
        Ok(Guard { runtime: *self, held: Some((state, busy)) })
    }
}

/// Passes over what another operation of the same publication may make right.
fn refuse_for_good(error: Error) -> Result<(), Error> {
    match error {
        Error::MissingFunctions { .. } => Ok(()),
        error if matches!(error.kind(), ErrorKind::Unresolved | ErrorKind::MemoryLimit) => Ok(()),
        error => Err(error),
    }
}

/// The same of a comparison: whether it links, others may make right.
fn refuse_what_breaks(error: Error) -> Result<(), Error> {
    match &error {
        Error::Incompatible { report, .. }
            if ![report.calls, report.state].contains(&Verdict::Incompatible) =>
        {
            Ok(())
        }
        _ => Err(error),
    }
}
