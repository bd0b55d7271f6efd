//! Checked mode: what frames are for, and no type sees to. An address for frames that is called
//! outside of them ends the process and is named; a frame that is held for long, or never ended, is
//! reported, as is (by the C API) one that another thread ends.
//!
//! Nothing of it costs anything where it is off: addresses for frames are then the plain
//! trampolines.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::call::slots::{self, DECLARED};
use crate::platform::os;
use crate::platform::threads::Thread;
use crate::{Error, code};

/// Whether the use of frames is checked. A call outside every frame to an address of
/// [`frame_symbol`](crate::Runtime::frame_symbol) then ends the process, with the name of the
/// function and of the thread; and a thread that is inside a frame for longer than
/// [`Config::longest_frame`](crate::Config::longest_frame) after that was replaced is reported when
/// somebody publishes or collects: to the log, or to stderr where nobody reads one.
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

/// What reports are called in the log: who filters by it does not follow this file's moves.
const LOG: &str = "midflight::checks";

/// Relaxed, both: who looks too early or too late has checked or not checked one thing more.
static ON: AtomicBool = AtomicBool::new(false);
/// In milliseconds.
static LONGEST: AtomicU64 = AtomicU64::new(0);

/// Says `on` or `off` whatever the configuration says, `longest-frame=MILLISECONDS` for
/// [`Config::longest_frame`](crate::Config::longest_frame) and `hold-back=VERSIONS` for
/// [`Config::hold_back`](crate::Config::hold_back); several words separated by commas.
const VARIABLE: &str = "MIDFLIGHT_CHECKS";

/// What the environment forces.
#[derive(Default)]
struct Forced {
    on: Option<bool>,
    longest: Option<Duration>,
    hold_back: Option<usize>,
}

static FORCED: OnceLock<Forced> = OnceLock::new();

fn forced() -> Result<Forced, Error> {
    let mut forced = Forced::default();
    let Some(words) = std::env::var_os(VARIABLE) else { return Ok(forced) };
    let words = words.to_string_lossy();
    let wrong = |word: &str| Error::Unsupported {
        what: format!(
            "{VARIABLE} has {word:?}: the words are on, off, longest-frame=MILLISECONDS and hold-back=VERSIONS, separated by commas"
        ),
    };
    for word in words.split(',').filter(|word| !word.is_empty()) {
        let number = |text: &str| text.parse::<u32>().map_err(|_| wrong(word));
        match word.split_once('=') {
            None if word == "on" => forced.on = Some(true),
            None if word == "off" => forced.on = Some(false),
            Some(("longest-frame", text)) => {
                forced.longest = Some(Duration::from_millis(number(text)?.into()))
            }
            Some(("hold-back", text)) => forced.hold_back = Some(number(text)? as usize),
            _ => return Err(wrong(word)),
        }
    }
    Ok(forced)
}

/// As the environment says, else as the configuration does: whether, how long a frame may be open,
/// and of how many versions the pages are held back.
pub(crate) fn start(checks: Checks, longest_frame: Option<Duration>, hold_back: usize) -> Result<(), Error> {
    let forced = forced()?;
    let longest = forced.longest.or(longest_frame).unwrap_or(LONGEST_FRAME);
    code::hold_back(forced.hold_back.unwrap_or(hold_back));
    LONGEST.store(longest.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    // The runtime starts once.
    FORCED.get_or_init(|| forced);
    set(checks);
    Ok(())
}

const LONGEST_FRAME: Duration = Duration::from_secs(10);

/// Unless the environment says otherwise.
pub(crate) fn set(checks: Checks) {
    let on = match checks {
        Checks::On => true,
        Checks::Off => false,
        Checks::ByBuild => is_debug_build(),
    };
    ON.store(FORCED.get().and_then(|forced| forced.on).unwrap_or(on), Ordering::Relaxed);
}

/// Whether the program is a debug build: a crate that declares modules was compiled as one, or this
/// one if none does.
fn is_debug_build() -> bool {
    match DECLARED.static_slice() {
        [] => cfg!(debug_assertions),
        declared => declared.iter().any(|slot| slot.is_of_debug_build()),
    }
}

/// Whether checked mode is on.
pub fn are_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// How long a frame may be open unreported.
pub fn longest_frame() -> Duration {
    Duration::from_millis(LONGEST.load(Ordering::Relaxed))
}

/// What the calling thread is called in reports: its number and name.
pub fn this_thread() -> String {
    Thread::new(os::stop::gettid()).to_string()
}

/// Reports to the log, or to stderr where nobody reads one.
pub fn report(what: fmt::Arguments<'_>) {
    if tracing::event_enabled!(target: LOG, tracing::Level::WARN) {
        tracing::warn!(target: LOG, "{what}");
    } else {
        eprintln!("midflight: {what}");
    }
}

/// An address for frames was called on a thread that has none open. Its old versions are freed
/// without regard to who calls it so: the process stops here rather than some reloads later.
pub(crate) fn outside_frame(slot: u32) -> ! {
    let (module, symbol) = slots::name(slot).and_then(|name| name.split_once("::")).unwrap_or_default();
    let what = format!(
        "`{symbol}` of `{module}` was called outside a frame (hot_reload_frame_symbol), by {}: open a frame around the call, or \
         ask hot_reload_symbol() or Runtime::symbol() for an address that may be called anywhere",
        this_thread()
    );
    tracing::error!(target: LOG, "{what}");
    eprintln!("midflight: {what}");
    std::process::abort()
}
