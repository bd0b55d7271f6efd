//! How the runtime works.

use std::path::PathBuf;
use std::time::Duration;

use crate::code::{Backing, CodeMemory};
use crate::platform::os::{barrier, memory};
use crate::{Checks, Error, Gdb, JournalOptions, StaleCalls};

/// How the runtime works; all defaults are right for production.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Config {
    /// How code is written before it executes.
    pub backing: Backing,
    /// Order pins and publications by fences even where the kernel has membarrier: dearer pins, no
    /// system calls.
    pub force_fences: bool,
    /// Lay code memory out in pages of so many bytes: a power of two, at least the system's page
    /// and at most 64 KiB. The system's by default. To see here what modules will be like on
    /// systems with larger pages.
    pub page_size: Option<usize>,
    /// How many publications can be taken back: their generations can be had
    /// [again](crate::Runtime::rollback) at once, because what they replaced is kept as it was.
    /// 0 by default: what is replaced ends when nobody is inside it any more.
    pub history: usize,
    /// Bytes of code memory that all versions may have, old ones included. What would go past it is
    /// refused with [`Error::MemoryLimit`], after history has been forgotten as far as need be.
    /// No limit by default.
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
    /// Write the names of what is loaded to `/tmp/perf-PID.map`, for perf. Off by default. Code is
    /// then backed by [`Backing::WriteOnce`], since perf asks such a map about anonymous memory
    /// only.
    pub perf_map: bool,
    /// Write all code that is loaded, with names and lines, to `jit-PID.dump` in this folder, for
    /// `perf inject --jit`. Off by default.
    pub jitdump: Option<PathBuf>,
    /// Keep what is loaded in this journal, and bring it back when the runtime is started again.
    /// None by default.
    ///
    /// From the start on each load, unload and rollback is on the disk before it is published. See
    /// [`Runtime::start_with`](crate::Runtime::start_with) and docs/journal.md.
    pub journal: Option<JournalOptions>,
}

/// Names, separated by commas, of what the runtime is to do as it does on systems that lack
/// something, whatever its [`Config`] says: `no-membarrier` ([`Config::force_fences`]),
/// `write-once` or `toggled` ([`Config::backing`]), `page-size=16384` ([`Config::page_size`]). For
/// tests and for finding faults.
const FALLBACKS: &str = "MIDFLIGHT_FALLBACKS";

impl Config {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`backing`](Self#structfield.backing).
    #[must_use]
    pub fn backing(self, backing: Backing) -> Self {
        Self { backing, ..self }
    }

    /// Sets [`force_fences`](Self#structfield.force_fences).
    #[must_use]
    pub fn force_fences(self, force_fences: bool) -> Self {
        Self { force_fences, ..self }
    }

    /// Sets [`page_size`](Self#structfield.page_size).
    #[must_use]
    pub fn page_size(self, page_size: impl Into<Option<usize>>) -> Self {
        Self { page_size: page_size.into(), ..self }
    }

    /// Sets [`history`](Self#structfield.history).
    #[must_use]
    pub fn history(self, history: usize) -> Self {
        Self { history, ..self }
    }

    /// Sets [`max_memory`](Self#structfield.max_memory).
    #[must_use]
    pub fn max_memory(self, max_memory: impl Into<Option<usize>>) -> Self {
        Self { max_memory: max_memory.into(), ..self }
    }

    /// Sets [`stale_calls`](Self#structfield.stale_calls).
    #[must_use]
    pub fn stale_calls(self, stale_calls: StaleCalls) -> Self {
        Self { stale_calls, ..self }
    }

    /// Sets [`checks`](Self#structfield.checks).
    #[must_use]
    pub fn checks(self, checks: Checks) -> Self {
        Self { checks, ..self }
    }

    /// Sets [`longest_frame`](Self#structfield.longest_frame).
    #[must_use]
    pub fn longest_frame(self, longest_frame: impl Into<Option<Duration>>) -> Self {
        Self { longest_frame: longest_frame.into(), ..self }
    }

    /// Sets [`hold_back`](Self#structfield.hold_back).
    #[must_use]
    pub fn hold_back(self, hold_back: usize) -> Self {
        Self { hold_back, ..self }
    }

    /// Sets [`gdb`](Self#structfield.gdb).
    #[must_use]
    pub fn gdb(self, gdb: Gdb) -> Self {
        Self { gdb, ..self }
    }

    /// Sets [`perf_map`](Self#structfield.perf_map).
    #[must_use]
    pub fn perf_map(self, perf_map: bool) -> Self {
        Self { perf_map, ..self }
    }

    /// Sets [`jitdump`](Self#structfield.jitdump).
    #[must_use]
    pub fn jitdump(self, jitdump: impl Into<PathBuf>) -> Self {
        Self { jitdump: Some(jitdump.into()), ..self }
    }

    /// Sets [`journal`](Self#structfield.journal).
    #[must_use]
    pub fn journal(self, journal: impl Into<Option<JournalOptions>>) -> Self {
        Self { journal: journal.into(), ..self }
    }
}

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

    /// Where code will be, as this asks for it.
    pub(crate) fn code_memory(&self) -> Result<CodeMemory, Error> {
        let backing = match self.backing {
            Backing::Memfd if self.perf_map => Backing::WriteOnce,
            // Where the system executes nothing else.
            Backing::WriteOnce if memory::must_toggle() => Backing::Toggled,
            asked => asked,
        };
        let page_size = self.page_size.unwrap_or_else(memory::page_size);
        tracing::info!(?backing, page_size, membarrier = barrier::is_asymmetric(), "code memory");
        CodeMemory::new(backing, page_size)
            .map_err(|source| Error::CodeMemory { of: "the runtime".into(), source })
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
