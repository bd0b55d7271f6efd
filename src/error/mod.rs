//! What can go wrong, each with what to do about it.

mod adapters;
mod failure;
mod kind;
mod state;
pub(crate) mod symbols;

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

pub use adapters::NoAdapter;
pub use failure::{Failure, FailureCause, FailurePlace};
pub use kind::ErrorKind;
pub use state::{NotCarried, StateLayout, StateProblem};
use symbols::Shown;

/// Why a call of the runtime failed. After all but [`Error::Integrity`] nothing was published, and
/// the old versions go on serving.
#[non_exhaustive]
pub enum Error {
    /// This system lacks something that the runtime cannot do without.
    Unsupported {
        /// What, and what to do.
        what: String,
    },
    /// The module's file could not be read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a module that can be loaded, or does not link.
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with symbol and address.
        source: midflight_image::Error,
    },
    /// Nothing defines what the module needs.
    Unresolved {
        /// The file.
        path: PathBuf,
        /// Each symbol that is missing.
        symbols: Vec<MissingSymbol>,
        /// How many more there are.
        omitted: usize,
    },
    /// The module has no name: no SONAME, and its file name gives none either.
    NoName {
        /// The file.
        path: PathBuf,
    },
    /// Two files of one publication are the same module.
    DuplicateModule {
        /// The module.
        module: String,
        /// The files.
        paths: [PathBuf; 2],
    },
    /// A library that the module needs (DT_NEEDED) could not be loaded.
    Library {
        /// The module's file.
        path: PathBuf,
        /// The library.
        library: String,
        /// The dynamic linker's reason.
        reason: String,
    },
    /// The module uses a variable of another module.
    DataImport {
        /// The file.
        path: PathBuf,
        /// The variable.
        symbol: String,
        /// The module that defines it.
        module: String,
    },
    /// The module is compiled for another system, and cannot use what this one has under that name.
    Convention {
        /// The file.
        path: PathBuf,
        /// What it uses.
        symbol: String,
        /// Why it would go wrong, and what to do.
        reason: &'static str,
    },
    /// A variable of which a process has one is of another size in the module than where it is.
    AnotherSize {
        /// The file.
        path: PathBuf,
        /// The variable.
        symbol: String,
        /// Of how many bytes it is where it is, and in the module.
        sizes: [u64; 2],
    },
    /// More than one other module exports what the module uses.
    Ambiguous {
        /// The file.
        path: PathBuf,
        /// What it uses.
        symbol: String,
        /// The modules that export it.
        modules: Vec<String>,
    },
    /// What was asked for on behalf of a profiler could not be written.
    Profile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The version lacks functions that the program or other modules call.
    MissingFunctions {
        /// The file.
        path: PathBuf,
        /// The module.
        module: String,
        /// The functions.
        symbols: Vec<String>,
    },
    /// A symbol was asked for that the module does not define as a function.
    NoSuchFunction {
        /// The module.
        module: String,
        /// The symbol.
        symbol: String,
        /// Functions that it has of the same name, but for their parameters.
        alike: Vec<String>,
    },
    /// The module has more than one function of the name that was asked for.
    SeveralFunctions {
        /// The module.
        module: String,
        /// What was asked for.
        symbol: String,
        /// The symbols of the functions.
        functions: Vec<String>,
    },
    /// An address was asked for in a frame whose generation does not have the function: called
    /// there, it would end the process.
    NewerThanFrame {
        /// The module.
        module: String,
        /// The symbol.
        symbol: String,
        /// The generation of the calling thread's frame.
        frame: u64,
        /// The current generation, which has it.
        generation: u64,
    },
    /// The module was asked for and is not loaded.
    NotLoaded {
        /// The module.
        module: String,
    },
    /// The module cannot be unloaded because others call it or say that they need it.
    StillImported {
        /// The module.
        module: String,
        /// Those modules.
        by: Vec<String>,
    },
    /// Memory for code could not be had, or its protection not changed.
    CodeMemory {
        /// For what.
        of: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Loading would need more memory than [`Config::max_memory`](crate::Config::max_memory)
    /// allows.
    MemoryLimit {
        /// That limit, in bytes.
        limit: usize,
        /// Bytes that the new versions need.
        needed: usize,
        /// Bytes of the current versions.
        current: usize,
        /// Bytes of old versions that are still there.
        old: usize,
        /// Generations that frames hold.
        held: usize,
        /// The threads in those frames. A generation that none of them is in waits for one to join
        /// it.
        holders: Vec<crate::Holder>,
        /// Versions that are kept because an address of their module has escaped.
        retained: usize,
        /// Versions that their own threads are in.
        busy: usize,
    },
    /// The threads could not be looked at.
    Quiescence {
        /// Why.
        source: io::Error,
    },
    /// A generation was asked for that history has not got.
    NotInHistory {
        /// The generation.
        generation: u64,
        /// The oldest that it has; the current one if it has none.
        oldest: u64,
        /// The current one.
        current: u64,
    },
    /// The cores could not be synchronised.
    Synchronise {
        /// The kernel's reason.
        source: io::Error,
    },
    /// The thread-local table pointer is too far from the thread pointer for a trampoline.
    ThreadLocalOutOfReach {
        /// Bytes from the thread pointer.
        offset: i64,
    },
    /// The process has used up its slots.
    TooManySlots {
        /// How many there are.
        limit: usize,
    },
    /// A module that this one says it needs (runtime_module.h) is not loaded.
    MissingModule {
        /// The file.
        path: PathBuf,
        /// The module that it needs.
        needs: String,
    },
    /// A module says which versions of another it needs, and the one that is loaded, or about to be,
    /// is none of them.
    VersionNotMet {
        /// The file.
        path: PathBuf,
        /// The module that needs the other.
        module: String,
        /// The other.
        needs: String,
        /// Which versions will do.
        range: String,
        /// What the other says it is, such as `version 3.0`, and why that cannot be judged if so.
        found: String,
    },
    /// The version conflicts with what is loaded
    /// ([`LoadOptions::conflicts`](crate::LoadOptions::conflicts)).
    Conflicting {
        /// The file.
        path: PathBuf,
        /// What conflicts, the gravest first: all that was not resolved.
        conflicts: Vec<midflight_conflict::Conflict>,
        /// Of the first of them, what was decided, and why.
        because: String,
    },
    /// A function has adapters, and of a module it is not known which signature it has, or was built
    /// against ([`Runtime::add_adapter`](crate::Runtime::add_adapter)).
    UnknownSignature {
        /// The module that calls it. None: it is the one that has it.
        caller: Option<String>,
        /// The module of the function.
        module: String,
        /// The function.
        symbol: String,
    },
    /// Nothing does as a function that somebody was built against: it has another signature, or is
    /// gone, and there is no adapter.
    NoAdapter(Box<NoAdapter>),
    /// Callers of a function that are loaded were built against different signatures, and so an
    /// adapter cannot be for some of them only.
    MixedCallers {
        /// The module of the function.
        module: String,
        /// The function.
        symbol: String,
        /// Each signature, and who was built against it.
        callers: Vec<(String, Vec<String>)>,
    },
    /// A transaction has lost, and cannot be merged with what has won
    /// ([`TransactionOptions::merge`](crate::TransactionOptions::merge)).
    NotMerged {
        /// The modules that both have changed: the numbers of their versions.
        collisions: Vec<midflight_conflict::Collision<u64>>,
        /// If there are none of those: what conflicts in the set of both, the gravest first.
        conflicts: Vec<midflight_conflict::Conflict>,
    },
    /// The version does not fit the one that is loaded
    /// ([`LoadOptions::validate`](crate::LoadOptions::validate)).
    Incompatible {
        /// The file.
        path: PathBuf,
        /// How they differ.
        report: Box<midflight_interface::Report>,
    },
    /// A state that the module declares (`runtime_module.h`) cannot be kept.
    State {
        /// The file.
        path: PathBuf,
        /// The state's name.
        state: String,
        /// Why not, and what to do.
        problem: StateProblem,
    },
    /// Variables cannot be carried over that were to be
    /// ([`Carry::All`](crate::Carry::All)).
    NotCarried {
        /// Each that cannot.
        variables: Vec<NotCarried>,
    },
    /// Values of modules were to be carried over, and somebody is inside them.
    Occupied {
        /// The modules.
        modules: Vec<String>,
        /// Who is, or may be.
        by: Vec<String>,
    },
    /// The version's own `module_init` refused.
    Refused {
        /// The file.
        path: PathBuf,
        /// What it returned.
        code: i32,
    },
    /// A hook refused ([`ReloadHooks::before`](crate::ReloadHooks::before)): nothing was linked or
    /// run.
    Vetoed {
        /// The file, or the first of the load.
        path: PathBuf,
        /// The hook's name.
        by: String,
        /// What it returned.
        code: i32,
    },
    /// A load took longer than it was given. Nothing was published.
    Timeout {
        /// What it was given.
        limit: Duration,
    },
    /// What is in memory is not what was linked
    /// ([`LoadOptions::verify`](crate::LoadOptions::verify)).
    Integrity {
        /// The file.
        path: PathBuf,
        /// The module.
        module: String,
        /// The first byte that differs, from the beginning of the image.
        offset: usize,
        /// Whether the versions that were replaced were published again.
        rolled_back: bool,
    },
    /// No earlier version of the module was kept
    /// ([`LoadOptions::keep_previous`](crate::LoadOptions::keep_previous)).
    NoPreviousVersion {
        /// The module.
        module: String,
    },
    /// A file cannot be watched.
    Watch {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not watched.
    NotWatched {
        /// The file.
        path: PathBuf,
    },
    /// Threads for staging could not be started.
    Threads {
        /// Why.
        source: io::Error,
    },
    /// The runtime was called from where it is busy: a module's constructor or destructor, or a
    /// load's progress callback.
    Reentered,
    /// This process was forked from the one in which the runtime was started.
    Forked,
    /// There was nothing to load.
    NoFiles,
    /// What a transaction rests on has changed: another one came before. It is rolled back.
    Conflict {
        /// The module that has changed.
        module: String,
        /// The version that the transaction has seen; None: not loaded.
        then: Option<u64>,
        /// The version that is current.
        now: Option<u64>,
    },
    /// The journal ([`Config::journal`](crate::Config::journal)) could not be opened, read or
    /// written. Of a publication nothing was published.
    Journal {
        /// Its folder.
        folder: PathBuf,
        /// Why, and what to do.
        source: Box<midflight_journal::Error>,
    },
    /// What the journal has could not be loaded. Nothing of it was, and the journal is as it was.
    NotRestored {
        /// The journal's folder.
        folder: PathBuf,
        /// The module to blame, if it is one.
        module: Option<String>,
        /// Why.
        source: Box<Self>,
    },
    /// An operation was added to a transaction that is read-only.
    ReadOnly,
    /// A transaction has as many operations as it may have.
    TransactionFull {
        /// So many.
        limit: usize,
    },
    /// A transaction has an operation of this module already.
    AlreadyInTransaction {
        /// The module.
        module: String,
    },
    /// A savepoint is another transaction's, or was before one that was gone back to.
    NoSavepoint,
}

impl Error {
    /// The file that is to blame, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::Image { path, .. }
            | Self::NoName { path }
            | Self::Unresolved { path, .. }
            | Self::Library { path, .. }
            | Self::DataImport { path, .. }
            | Self::Convention { path, .. }
            | Self::AnotherSize { path, .. }
            | Self::Ambiguous { path, .. }
            | Self::MissingFunctions { path, .. }
            | Self::MissingModule { path, .. }
            | Self::VersionNotMet { path, .. }
            | Self::Conflicting { path, .. }
            | Self::Incompatible { path, .. }
            | Self::State { path, .. }
            | Self::Refused { path, .. }
            | Self::Vetoed { path, .. }
            | Self::Integrity { path, .. }
            | Self::Watch { path, .. }
            | Self::NotWatched { path } => Some(path),
            Self::DuplicateModule { paths: [_, second], .. } => Some(second),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { what } => f.write_str(what),
            Self::Read { path, source } => write!(f, "{}: cannot be read: {source}", path.display()),
            Self::Image { path, source } => write!(f, "{}: {source}", path.display()),
            Self::NoName { path } => write!(
                f,
                "{}: the module has no name: give the file a name in UTF-8 or link it with -Wl,-soname,libNAME.so",
                path.display()
            ),
            Self::DuplicateModule { module, paths: [first, second] } => write!(
                f,
                "{} and {} are both module `{module}`: publish one version at a time, or link them with different sonames",
                first.display(),
                second.display()
            ),
            Self::Library { path, library, reason } => write!(
                f,
                "{}: needs the library {library}, which cannot be loaded: {reason}. Install it, or link the module without it",
                path.display()
            ),
            Self::DataImport { path, symbol, module } => write!(
                f,
                "{}: uses the variable {} of module `{module}`, whose address changes with every version: \
                 export a function from `{module}` that returns it",
                path.display(),
                Shown(symbol)
            ),
            Self::Convention { path, symbol, reason } => {
                write!(f, "{}: {} {reason}", path.display(), Shown(symbol))
            }
            Self::AnotherSize { path, symbol, sizes: [there, here] } => write!(
                f,
                "{}: {} has {there} bytes in the process, which it is shared with, and {here} in the module: \
                 it is a variable of a header that both include, so build both from the same one",
                path.display(),
                Shown(symbol)
            ),
            Self::Ambiguous { path, symbol, modules } => write!(
                f,
                "{}: uses {}, which {} all export: link it with the one it means, so that DT_NEEDED names it",
                path.display(),
                Shown(symbol),
                list(modules)
            ),
            Self::Unresolved { path, symbols, omitted } => {
                let advice = "define it in the module, load what does, or export it from the host (-rdynamic)";
                let path = path.display();
                match &symbols[..] {
                    [symbol] => write!(f, "{path}: nothing defines {symbol}: {advice}"),
                    symbols => {
                        let count = symbols.len() + omitted;
                        write!(f, "{path}: nothing defines {count} symbols that it needs. Of each: {advice}")?;
                        symbols.iter().try_for_each(|symbol| write!(f, "\n  {symbol}"))?;
                        if *omitted > 0 { write!(f, "\n  and {omitted} more") } else { Ok(()) }
                    }
                }
            }
            Self::Profile { path, source } => write!(
                f,
                "{}: cannot be written: {source}. Make room for it, or start the runtime without Config::perf_map and jitdump",
                path.display()
            ),
            Self::MissingFunctions { path, module, symbols } => write!(
                f,
                "{}: this version of `{module}` does not export {}, which the program or another module calls: \
                 export it with C linkage and default visibility, or remove the declaration",
                path.display(),
                list(symbols)
            ),
            Self::NoSuchFunction { module, symbol, alike } if alike.is_empty() => {
                write!(f, "module `{module}` exports no function {}: check the name", Shown(symbol))
            }
            Self::NoSuchFunction { module, symbol, alike } => {
                write!(f, "module `{module}` exports no function {}, but {}", Shown(symbol), list(alike))
            }
            Self::SeveralFunctions { module, symbol, functions } => write!(
                f,
                "module `{module}` exports several functions `{symbol}`: say which, with its parameters: {}",
                list(functions)
            ),
            Self::NewerThanFrame { module, symbol, frame, generation } => write!(
                f,
                "this thread is in a frame of generation {frame}, which does not have {} of module `{module}`; the \
                 current one, {generation}, does: end the frame, ask again, and call it in frames that are opened after that",
                Shown(symbol)
            ),
            Self::NotLoaded { module } => write!(f, "module `{module}` is not loaded"),
            Self::StillImported { module, by } => {
                write!(f, "module `{module}` is called or needed by {}: unload them first, or with it", list(by))
            }
            Self::CodeMemory { of, source } => write!(
                f,
                "no code memory for {of}: {source}. Check the limits on address space, on mappings (vm.max_map_count) and on \
                 executable memory (SELinux execmem, noexec)"
            ),
            Self::MemoryLimit { limit, needed, current, old, held, holders, retained, busy } => write!(
                f,
                "{needed} bytes more of code memory would go past the limit of {limit}. Current versions have {current} bytes, old \
                 ones have {old}. What keeps old versions: {held} generations that frames are inside{}; {retained} versions may be \
                 called outside frames; threads are inside {busy}. End those frames and threads, free with runtime_gc_collect() \
                 (Runtime::collect_quiescent) what nobody is inside, or raise max_memory_usage (Config::max_memory)",
                match holders.iter().map(|holder| holder.to_string()).collect::<Vec<_>>() {
                    none if none.is_empty() => String::new(),
                    holders => format!(" ({})", holders.join(", ")),
                }
            ),
            Self::Quiescence { source } => write!(
                f,
                "the threads could not be looked at: {source}. What is retained stays so: free it with `collect_escaped` when \
                 nobody is inside"
            ),
            Self::NotInHistory { generation, oldest, current } if oldest < current => write!(
                f,
                "generation {generation} cannot be had back: those from {oldest} to {} can (Config::history says how many)",
                current - 1
            ),
            Self::NotInHistory { generation, .. } => write!(
                f,
                "generation {generation} cannot be had back: there is no history (Config::history says how much to keep)"
            ),
            Self::Synchronise { source } => write!(f, "the cores could not be synchronised: {source}"),
            Self::ThreadLocalOutOfReach { .. } if cfg!(target_os = "macos") => f.write_str(
                "the process has no four pthread keys in a row left, or does not have their values at its thread register: start the \
                 runtime earlier",
            ),
            Self::ThreadLocalOutOfReach { offset } => write!(
                f,
                "the runtime's thread-local word is {offset} bytes from the thread pointer, out of a trampoline's reach: \
                 link the runtime into the executable, or reduce its static thread-local storage"
            ),
            Self::TooManySlots { limit } => {
                write!(f, "all {limit} slots are in use: a process can call at most that many functions of modules")
            }
            Self::MissingModule { path, needs } => write!(
                f,
                "{}: needs the module `{needs}`, which is not loaded: load it before, or with this one",
                path.display()
            ),
            Self::VersionNotMet { path, module, needs, range, found } => write!(
                f,
                "{}: `{module}` needs `{needs}` in a version of `{range}`, and it is {found}: load a version of `{needs}` that will do, \
                 or of `{module}`, before or with it",
                path.display()
            ),
            Self::Conflicting { path, conflicts, because } => {
                write!(f, "{}: conflicts with what is loaded, and was not resolved ({because}):", path.display())?;
                conflicts.iter().try_for_each(|conflict| write!(f, "\n  {conflict}"))
            }
            Self::UnknownSignature { caller: Some(caller), module, symbol } => write!(
                f,
                "`{symbol}` of {module} has an adapter for old callers, and {caller} does not say which signature it was built against: \
                 build it with -g (clang: and -O1), or say with the adapter what such callers are taken for"
            ),
            Self::UnknownSignature { caller: None, module, symbol } => write!(
                f,
                "`{symbol}` of {module} has an adapter for old callers, and the module does not say its signature: build it with -g"
            ),
            Self::NoAdapter(missing) => missing.fmt(f),
            Self::MixedCallers { module, symbol, callers } => {
                write!(f, "`{symbol}` of {module} is called by modules that were built against different signatures:")?;
                callers.iter().try_for_each(|(signature, by)| write!(f, " `{signature}` by {};", by.join(", ")))?;
                f.write_str(" load those anew that do not fit, and then add the adapter")
            }
            Self::NotMerged { collisions, conflicts } => {
                f.write_str(
                    "Transaction conflict detected, rolling back: it cannot be merged with what was committed since it began. Begin it \
                     again, and look at what has changed:",
                )?;
                collisions.iter().try_for_each(|collision| write!(f, "\n  {collision}"))?;
                conflicts.iter().try_for_each(|conflict| write!(f, "\n  {conflict}"))
            }
            Self::Incompatible { path, report } => write!(
                f,
                "{}: does not fit the version that is loaded: {report}. Restore what changed, or load it without validation if \
                 nothing depends on that",
                path.display()
            ),
            Self::State { path, state, problem } => {
                write!(f, "{}: the state `{state}`: {problem}", path.display())
            }
            Self::NotCarried { variables } => {
                f.write_str("these variables cannot be carried over; have them begin anew (Carry::Possible), or restore them:")?;
                variables.iter().try_for_each(|variable| write!(f, "\n  {variable}"))
            }
            Self::Occupied { modules, by } => write!(
                f,
                "the variables of {} cannot be carried over while somebody is inside: {}. End those frames, calls and threads, and \
                 load again",
                list(modules),
                by.join(", ")
            ),
            Self::Refused { path, code } => {
                write!(f, "{}: its module_init() returned {code}: it does not want to be loaded", path.display())
            }
            Self::Vetoed { path, by, code } => {
                write!(f, "{}: the hook `{by}` does not let it be loaded now: it returned {code}", path.display())
            }
            Self::Timeout { limit } => write!(f, "Hot-reload timeout after {}ms", limit.as_millis()),
            Self::Integrity { path, module, offset, rolled_back } => write!(
                f,
                "{}: the code of `{module}` in memory is not what was linked, from byte {offset:#x} on: something in this process has \
                 written to it. {}",
                path.display(),
                match rolled_back {
                    true => "The version before it is current again",
                    false => "It is current nevertheless: roll it back, or load it again",
                }
            ),
            Self::NoPreviousVersion { module } => write!(
                f,
                "no earlier version of `{module}` was kept: reload it with backup_current_state (LoadOptions::keep_previous)"
            ),
            Self::Watch { path, source } => write!(f, "{}: cannot be watched: {source}", path.display()),
            Self::NotWatched { path } => write!(f, "{}: is not watched", path.display()),
            Self::Threads { source } => {
                write!(f, "threads to stage modules on could not be started: {source}. Stage on the calling thread, or raise the limit")
            }
            Self::Forked => f.write_str(
                "the runtime was started by this process's parent: code can be called here, but not loaded or freed; \
                 start the runtime after the fork, or exec",
            ),
            Self::NoFiles => f.write_str("no files were given to load"),
            Self::Conflict { module, then, now } => {
                write!(f, "Transaction conflict detected, rolling back: module `{module}` was ")?;
                standing(f, *then)?;
                f.write_str(" when this transaction looked, and now is ")?;
                standing(f, *now)?;
                f.write_str(". Begin it again (Runtime::transact does so by itself)")
            }
            Self::Journal { folder, source } => write!(f, "the journal in {}: {source}", folder.display()),
            Self::NotRestored { folder, module, source } => {
                match module {
                    Some(module) => write!(f, "module `{module}` of the journal in {}", folder.display())?,
                    None => write!(f, "the modules of the journal in {}", folder.display())?,
                }
                write!(
                    f,
                    " cannot be loaded again: {source}. Nothing of it is loaded, and the journal is as it was: mend that and start \
                     again, or start without the journal, or with an empty folder"
                )
            }
            Self::ReadOnly => f.write_str(
                "this transaction is read-only, and takes no operations: begin another one for them",
            ),
            Self::TransactionFull { limit } => write!(
                f,
                "this transaction has {limit} operations, and takes no more: divide it, or raise max_transaction_size \
                 (TransactionOptions::max_operations)"
            ),
            Self::AlreadyInTransaction { module } => write!(
                f,
                "this transaction has an operation of module `{module}` already, and takes one of each: go back to a savepoint \
                 before it, or begin another one"
            ),
            Self::NoSavepoint => f.write_str(
                "this transaction has no such savepoint: it is another one's, or from after one that was gone back to",
            ),
            Self::Reentered => f.write_str(
                "the runtime was called from a module's constructor or destructor, or from the progress callback of a load: it is busy \
                 with that module; call it later",
            ),
        }
    }
}

/// The same text: it is what a program sees whose `main` returns the error.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A symbol that nothing defines.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MissingSymbol {
    /// As the file has it, with its version if it has one.
    pub symbol: String,
    /// What is like it, and where: what may have been meant.
    pub alike: Vec<String>,
}

/// "`ns::f(float)` (_ZN2ns1fEf), but `physics` has `ns::f(int)` (_ZN2ns1fEi)".
impl fmt::Display for MissingSymbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Shown(&self.symbol))?;
        match self.alike.is_empty() {
            true => Ok(()),
            false => write!(f, ", but {}", self.alike.join(", ")),
        }
    }
}

/// What a module is: "version 3", "not loaded".
fn standing(f: &mut fmt::Formatter<'_>, version: Option<u64>) -> fmt::Result {
    match version {
        Some(version) => write!(f, "version {version}"),
        None => f.write_str("not loaded"),
    }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| Shown(name).to_string()).collect::<Vec<_>>().join(", ")
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. }
            | Self::Profile { source, .. }
            | Self::CodeMemory { source, .. }
            | Self::Quiescence { source }
            | Self::Watch { source, .. }
            | Self::Threads { source }
            | Self::Synchronise { source } => Some(source),
            Self::Image { source, .. } => Some(source),
            Self::Journal { source, .. } => Some(&**source),
            Self::NotRestored { source, .. } => Some(&**source),
            _ => None,
        }
    }
}
