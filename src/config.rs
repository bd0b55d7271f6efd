//! How the runtime works.

use std::path::PathBuf;
use std::time::Duration;

use crate::Error;
use crate::code::Backing;
use crate::os::memory;

/// How the runtime works; all defaults are right for production.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Config {
    /// How code is written before it executes.
    pub backing: Backing,
    /// Order pins and publications by fences even where the kernel has membarrier: dearer pins, no system calls.
    pub force_fences: bool,
    /// Lay code memory out in pages of so many bytes: a power of two, at least the system's page and at most 64 KiB. The system's by
    /// default. To see here what modules will be like on systems with larger pages.
    pub page_size: Option<usize>,
    /// How many publications can be taken back: their generations can be had [again](crate::Runtime::rollback) at once, because what they
    /// replaced is kept as it was. 0 by default: what is replaced ends when nobody is inside it any more.
    pub history: usize,
    /// Bytes of code memory that all versions may have, old ones included. What would go past it is refused with
    /// [`Error::MemoryLimit`], after history has been forgotten as far as need be. No limit by default.
    pub max_memory: Option<usize>,
    /// Whether calls into versions that are gone are reported.
    pub stale_calls: StaleCalls,
    /// Whether the use of frames is checked.
    pub checks: Checks,
    /// How long a thread may be in a generation that was replaced before checked mode reports it.
    /// 10 s by default.
    pub longest_frame: Option<Duration>,
    /// Of how many versions that were freed the pages are not used again yet (fewer, if that is
    /// more than 16 MiB). A call into a version that is gone is known by its trap, until another
    /// has the pages: with 0, the default, perhaps after two reloads. Without effect where each
    /// version has address space of its own, which goes with it: on macOS ([`Backing::Toggled`]),
    /// and for modules of more than 64 MiB.
    pub hold_back: usize,
    /// When gdb is told the names and lines of what is loaded.
    pub gdb: Gdb,
    /// Write the names of what is loaded to `/tmp/perf-PID.map`, for perf. Off by default. Code is then backed by
    /// [`Backing::WriteOnce`], since perf asks such a map about anonymous memory only.
    pub perf_map: bool,
    /// Write all code that is loaded, with names and lines, to `jit-PID.dump` in this folder, for `perf inject --jit`.
    /// Off by default.
    pub jitdump: Option<PathBuf>,
}

/// Names, separated by commas, of what the runtime is to do as it does on systems that lack something, whatever its
/// [`Config`] says: `no-membarrier` ([`Config::force_fences`]), `write-once` or `toggled` ([`Config::backing`]), `page-size=16384`
/// ([`Config::page_size`]). For tests and for finding faults.
const FALLBACKS: &str = "MIDFLIGHT_FALLBACKS";

impl Config {
    /// With what the environment forces.
    pub(crate) fn forced(mut self) -> Result<Self, Error> {
        let Some(names) = std::env::var_os(FALLBACKS) else { return self.checked() };
        let unknown = |name: &str| Error::Unsupported {
            what: format!(
                "{FALLBACKS} has {name:?}: the words are no-membarrier, write-once, toggled and page-size=BYTES, separated by commas"
            ),
        };
        let names = names.to_str().ok_or_else(|| unknown(&names.to_string_lossy()))?;
        for name in names.split(',').filter(|name| !name.is_empty()) {
            match name.split_once('=') {
                None if name == "no-membarrier" => self.force_fences = true,
                None if name == "write-once" => self.backing = Backing::WriteOnce,
                None if name == "toggled" => self.backing = Backing::Toggled,
                Some(("page-size", size)) => self.page_size = Some(size.parse().map_err(|_| unknown(name))?),
                _ => return Err(unknown(name)),
            }
        }
        tracing::info!(fallbacks = names, "forced by the environment");
        self.checked()
    }

    fn checked(self) -> Result<Self, Error> {
        let system = memory::page_size();
        match self.page_size {
            Some(size) if !size.is_power_of_two() || !(system..=MAX_PAGE).contains(&size) => {
                let what = format!(
                    "pages of {size} bytes: a power of two from {system} to {MAX_PAGE} is possible here"
                );
                Err(Error::Unsupported { what })
            }
            _ => Ok(self),
        }
    }
}

/// The largest pages of AArch64 (Arm ARM, D8.2, "Translation granules").
const MAX_PAGE: usize = 64 << 10;

/// Whether stderr is told of a call into a version that is gone when it traps: which function of
/// which version of which module it was, replaced when, and what to do. Then the process ends as it
/// would have.
///
/// Before the first version is freed, a handler is installed for SIGILL, SIGTRAP, SIGSEGV and
/// SIGBUS. It goes on to the program's, which were there before, or ends the process by the same
/// signal. A program that wants its handlers alone has [`explain_address`](crate::explain_address)
/// for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum StaleCalls {
    /// It is told.
    #[default]
    Reported,
    /// No handler is installed.
    Unreported,
}

/// Whether the use of frames is checked. A call outside every frame to an address of
/// [`frame_symbol`](crate::Runtime::frame_symbol) then ends the process, with the name of the
/// function and of the thread; and a thread that is inside a frame for longer than
/// [`Config::longest_frame`] after that was replaced is reported when somebody publishes or
/// collects: to the log, or to stderr where nobody reads one.
///
/// The environment variable `MIDFLIGHT_CHECKS` (`on`, `off`, `longest-frame=MILLISECONDS`,
/// `hold-back=VERSIONS`; separated by commas) goes before the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Checks {
    /// In debug builds (`debug_assertions`) of a crate that declares modules; of midflight itself,
    /// if none does.
    #[default]
    ByBuild,
    /// It is checked.
    On,
    /// It is not, and costs nothing.
    Off,
}

/// When gdb is told the names and lines of what is loaded. Telling it takes a copy of a module's symbols and debug
/// information with the addresses they have here: 8 % of the time of loading a small module without any, and 1.6 ms for
/// each MiB of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Gdb {
    /// From when it is attached: it then waits for new symbol files by a breakpoint, which is seen. What was loaded
    /// before it came is told at its next reload.
    #[default]
    WhenAttached,
    /// Always: for programs that it is attached to later, and for debuggers that leave no breakpoint in memory
    /// (emulators' gdb servers).
    Always,
    /// Never.
    Never,
}
