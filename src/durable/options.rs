//! Where a journal is, and how it is used.

use std::path::{Path, PathBuf};

use midflight_journal::{OpenError, Opened, Options};

/// When a commit is on the disk, if the runtime has a journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
#[repr(i32)]
pub enum Durability {
    /// Before it is published: a thread that has seen it has seen what is kept, whatever becomes of
    /// the machine.
    #[default]
    Durable = 0,
    /// It outlives the process as soon as it is published, and the machine from the next durable
    /// commit on. There is no sync of it.
    Lazy = 1,
    /// It is not committed. The next publication that is durable or lazy commits all that is loaded,
    /// this included: what is brought back was loaded at one moment, as a whole.
    Off = 2,
}

impl Durability {
    /// All, the safest first.
    pub const ALL: [Self; 3] = [Self::Durable, Self::Lazy, Self::Off];
}

/// A journal for [`Config::journal`](crate::Config::journal): a folder in which the set of modules
/// is kept over the end of the process and of the machine. docs/journal.md has what is promised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalOptions {
    folder: PathBuf,
    two_phase: bool,
    rebuild: bool,
    kept_records: Option<usize>,
    module_bytes: Option<u64>,
}

impl JournalOptions {
    /// A journal in this folder, which is made if it is not there. One process has it at a time.
    ///
    /// # Safety
    ///
    /// Starting the runtime with it loads the modules that are in it. So what [`Runtime::load`]
    /// asks of a module's code holds of each of them, and nobody else may write to the folder.
    ///
    /// [`Runtime::load`]: crate::Runtime::load
    pub unsafe fn new(folder: impl Into<PathBuf>) -> Self {
        let (two_phase, rebuild) = (false, false);
        Self { folder: folder.into(), two_phase, rebuild, kept_records: None, module_bytes: None }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a commit is written in two steps with a sync each. With one step, the default, a
    /// commit that was written in part is told by a checksum that is not cryptographic.
    #[must_use]
    pub fn two_phase(self, two_phase: bool) -> Self {
        Self { two_phase, ..self }
    }

    /// Whether to go on if the journal's store is damaged, with what its witness has. docs/journal.md
    /// says what that may lack.
    #[must_use]
    pub fn rebuild(self, rebuild: bool) -> Self {
        Self { rebuild, ..self }
    }

    /// How many records of what has happened are kept: 10,000 by default.
    #[must_use]
    pub fn kept_records(self, records: usize) -> Self {
        Self { kept_records: Some(records), ..self }
    }

    /// How many bytes the modules' files may take before those go that only old records name: 1 GiB
    /// by default. What is loaded stays, also if it is more.
    #[must_use]
    pub fn module_bytes(self, bytes: u64) -> Self {
        Self { module_bytes: Some(bytes), ..self }
    }

    pub(super) fn open(&self) -> Result<Opened, OpenError> {
        let mut options = Options::new().two_phase(self.two_phase).rebuild(self.rebuild);
        if let Some(records) = self.kept_records {
            options = options.kept_records(records);
        }
        if let Some(bytes) = self.module_bytes {
            options = options.module_bytes(bytes);
        }
        options.open(&self.folder)
    }
}
