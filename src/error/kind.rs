//! What kind of error it is: the C API's codes.

use super::{Error, StateProblem};

/// What kind of error an [`Error`] is. The numbers are those that the C API returns
/// (`RUNTIME_ERROR_*` of runtime_types.h says what each means); none changes its meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum ErrorKind {
    /// An argument is not what the function takes.
    InvalidArgument = -1,
    /// The runtime is not running. The C API only.
    NotInitialized = -2,
    /// This system, or midflight, does not support it.
    Unsupported = -3,
    /// A file could not be read, written or watched.
    Io = -4,
    /// The file is not a module that can be loaded.
    InvalidModule = -5,
    /// The module needs what cannot be found, or what more than one offers.
    Unresolved = -6,
    /// The version does not fit the one that is loaded, who calls it, or what it shares with the
    /// process.
    Incompatible = -7,
    /// Whether it fits cannot be known. The C API only.
    CompatibilityUnknown = -8,
    /// No module of that name is loaded.
    NotLoaded = -9,
    /// The module has no such function.
    NoSuchSymbol = -10,
    /// Other modules call it.
    InUse = -11,
    /// The system gives no memory.
    OutOfMemory = -12,
    /// The limit on code memory is reached.
    MemoryLimit = -13,
    /// It took too long.
    Timeout = -14,
    /// The call was made from the midst of another.
    Busy = -15,
    /// What is in memory is not what was linked.
    Integrity = -16,
    /// The module's own `module_init` refused.
    Refused = -17,
    /// There is no earlier version.
    NoPreviousVersion = -18,
    /// The frame is not open (C API), not this thread's (C API), or of a generation that does not
    /// have what was asked for.
    WrongFrame = -19,
    /// The file is not watched.
    NotWatched = -20,
    /// This process was forked from the one in which the runtime was started.
    Forked = -21,
    /// The kernel refused something that it should not.
    System = -22,
    /// A defect of midflight. The C API only.
    Internal = -23,
    /// A hook refused the load.
    Vetoed = -24,
    /// It conflicts with what is loaded, or another change came before: a transaction is to be begun
    /// again.
    Conflict = -25,
    /// The journal could not be opened, read or written, or what it has not loaded.
    Journal = -26,
}

impl ErrorKind {
    /// All of them, by their numbers.
    pub const ALL: [Self; 26] = [
        Self::InvalidArgument,
        Self::NotInitialized,
        Self::Unsupported,
        Self::Io,
        Self::InvalidModule,
        Self::Unresolved,
        Self::Incompatible,
        Self::CompatibilityUnknown,
        Self::NotLoaded,
        Self::NoSuchSymbol,
        Self::InUse,
        Self::OutOfMemory,
        Self::MemoryLimit,
        Self::Timeout,
        Self::Busy,
        Self::Integrity,
        Self::Refused,
        Self::NoPreviousVersion,
        Self::WrongFrame,
        Self::NotWatched,
        Self::Forked,
        Self::System,
        Self::Internal,
        Self::Vetoed,
        Self::Conflict,
        Self::Journal,
    ];
}

impl Error {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported { .. } | Self::Convention { .. } | Self::ThreadLocalOutOfReach { .. } => {
                ErrorKind::Unsupported
            }
            Self::Read { .. } | Self::Profile { .. } | Self::Watch { .. } => ErrorKind::Io,
            Self::Unresolved { .. }
            | Self::Image { source: midflight_image::Error::UnresolvedImport { .. }, .. }
            | Self::Library { .. }
            | Self::DataImport { .. }
            | Self::MissingModule { .. }
            | Self::Ambiguous { .. } => ErrorKind::Unresolved,
            Self::Image { .. } | Self::NoName { .. } => ErrorKind::InvalidModule,
            Self::DuplicateModule { .. }
            | Self::NoFiles
            | Self::SeveralFunctions { .. }
            | Self::ReadOnly
            | Self::TransactionFull { .. }
            | Self::AlreadyInTransaction { .. }
            | Self::NoSavepoint => ErrorKind::InvalidArgument,
            Self::State { problem: StateProblem::OutOfReach, .. } => ErrorKind::InvalidModule,
            Self::State { problem: StateProblem::NotMigrated { .. }, .. } => ErrorKind::Refused,
            Self::State { problem: StateProblem::Changed { .. }, .. }
            | Self::NotCarried { .. }
            | Self::MissingFunctions { .. }
            | Self::Incompatible { .. }
            | Self::NoAdapter { .. }
            | Self::MixedCallers { .. }
            | Self::AnotherSize { .. } => ErrorKind::Incompatible,
            Self::VersionNotMet { .. } | Self::Conflicting { .. } | Self::NotMerged { .. } => {
                ErrorKind::Conflict
            }
            Self::UnknownSignature { .. } => ErrorKind::CompatibilityUnknown,
            Self::NoSuchFunction { .. } => ErrorKind::NoSuchSymbol,
            Self::NewerThanFrame { .. } => ErrorKind::WrongFrame,
            Self::NotLoaded { .. } => ErrorKind::NotLoaded,
            Self::StillImported { .. } => ErrorKind::InUse,
            Self::CodeMemory { .. } | Self::TooManySlots { .. } => ErrorKind::OutOfMemory,
            Self::MemoryLimit { .. } => ErrorKind::MemoryLimit,
            Self::Quiescence { .. } | Self::Synchronise { .. } | Self::Threads { .. } => ErrorKind::System,
            Self::NotInHistory { .. } | Self::NoPreviousVersion { .. } => ErrorKind::NoPreviousVersion,
            Self::Timeout { .. } | Self::Occupied { .. } => ErrorKind::Timeout,
            Self::Reentered => ErrorKind::Busy,
            Self::Integrity { .. } => ErrorKind::Integrity,
            Self::Refused { .. } => ErrorKind::Refused,
            Self::Vetoed { .. } => ErrorKind::Vetoed,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Journal { .. } | Self::NotRestored { .. } => ErrorKind::Journal,
            Self::NotWatched { .. } => ErrorKind::NotWatched,
            Self::Forked => ErrorKind::Forked,
        }
    }
}
