//! Where the events of the runtime go: a file or stdout, and a callback.

use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use midflight::ErrorKind;
use midflight::private::Record;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::{DefaultFields, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::errors::{Failure, Outcome};
use crate::gate;
use crate::pointers::c_string;
use crate::runtime_core::LogCallback;

/// `log_level_t`.
const DEFAULT: i32 = 0;
const TRACE: i32 = 1;
const DEBUG: i32 = 2;
const INFO: i32 = 3;
const OFF: i32 = 6;

/// A level as C has it, with its default. None if there is no such level.
pub(crate) fn level(level: i32) -> Option<i32> {
    match level {
        DEFAULT => Some(INFO),
        TRACE..=OFF => Some(level),
        _ => None,
    }
}

pub(crate) fn no_such_level(what: &str, level: i32) -> Failure {
    Failure::argument(format!("{what} is {level}, which is none of log_level_t"))
}

/// As C has it.
fn number(level: &Level) -> i32 {
    match *level {
        Level::TRACE => TRACE,
        Level::DEBUG => DEBUG,
        Level::INFO => INFO,
        Level::WARN => 4,
        Level::ERROR => 5,
    }
}

/// Where lines go, and which.
pub(crate) struct Destination {
    output: Option<Output>,
    level: i32,
}

enum Output {
    File(Record, PathBuf),
    Stdout,
}

impl Destination {
    /// What `runtime_config_t` asks for. Opens the file.
    pub(crate) fn open(file: Option<&Path>, log_level: i32, debug: bool) -> Outcome<Self> {
        let asked = log_level != DEFAULT || debug;
        let level = level(log_level).ok_or_else(|| no_such_level("log_level", log_level))?;
        let level = if debug && level != TRACE { DEBUG } else { level };
        let output = match file {
            Some(path) => {
                let opened = OpenOptions::new().append(true).create(true).open(path);
                let file = opened.and_then(|file| Record::new(path, file)).map_err(|error| {
                    let message = format!("{}: the log file cannot be opened: {error}", path.display());
                    Failure::new(ErrorKind::Io, message)
                })?;
                Some(Output::File(file, path.into()))
            }
            None if asked => Some(Output::Stdout),
            None => None,
        };
        Ok(Self { output, level })
    }
}

/// Both levels are [`OFF`] where there is nothing to write to. Relaxed: whoever sees a level too
/// early or too late finds out under the lock what there is.
static FILE_LEVEL: AtomicU8 = AtomicU8::new(OFF as u8);
static CALLBACK_LEVEL: AtomicU8 = AtomicU8::new(OFF as u8);

struct Sinks {
    output: Option<Output>,
    callback: Option<(LogCallback, User)>,
    /// Lines that could not be written, and why the first could not.
    lost: Option<(u64, io::Error)>,
}

/// The callback's own.
#[derive(Clone, Copy)]
struct User(*mut c_void);
// SAFETY: handed on only; what it is for is between the host and its callback.
unsafe impl Send for User {}

static SINKS: Mutex<Sinks> = Mutex::new(Sinks { output: None, callback: None, lost: None });

thread_local! {
    /// This thread is writing a line.
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in the log's callback, or about to write a line.
pub(crate) fn is_writing() -> bool {
    WRITING.get()
}

fn lock() -> MutexGuard<'static, Sinks> {
    SINKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives lines to a file, to stdout or to neither from now on.
pub(crate) fn set_destination(destination: Destination) {
    let level = if destination.output.is_some() { destination.level } else { OFF };
    let lost = {
        let mut sinks = lock();
        sinks.output = destination.output;
        sinks.lost.take()
    };
    FILE_LEVEL.store(level as u8, Ordering::Relaxed);
    levels_changed();
    if let Some((lines, error)) = lost {
        tracing::warn!(target: "midflight::log", lines, %error, "lines of the log before this could not be written");
    }
}

/// Gives lines to a callback, or to none, from now on. The caller has checked the level.
pub(crate) fn set_callback(callback: Option<LogCallback>, level: i32, user: *mut c_void) -> Outcome {
    if WRITING.get() {
        let message =
            "runtime_set_log_callback() was called from the log's callback: call it when that has returned";
        return Err(Failure::new(ErrorKind::Busy, message));
    }
    let to = if callback.is_some() { level } else { OFF };
    // The callback is called under this lock: once it is taken back, nobody is inside.
    lock().callback = callback.map(|callback| (callback, User(user)));
    CALLBACK_LEVEL.store(to as u8, Ordering::Relaxed);
    levels_changed();
    Ok(())
}

/// Ends the output, at shutdown. The callback stays.
///
/// # Errors
///
/// If lines could not be written.
pub(crate) fn end() -> Outcome {
    let (output, lost) = {
        let mut sinks = lock();
        (sinks.output.take(), sinks.lost.take())
    };
    FILE_LEVEL.store(OFF as u8, Ordering::Relaxed);
    levels_changed();
    let Some((lines, error)) = lost else { return Ok(()) };
    let to = match &output {
        Some(Output::File(_, path)) => path.display().to_string(),
        _ => "stdout".into(),
    };
    let message = format!(
        "the runtime has stopped; but {lines} lines of its log could not be written to {to}: {error}"
    );
    Err(Failure::new(ErrorKind::Io, message))
}

/// Tells `tracing`, which keeps for each place that has events whether anybody wants them.
fn levels_changed() {
    static INSTALL: Once = Once::new();
    if lowest() < OFF {
        INSTALL.call_once(|| {
            // A host in Rust may have one of its own, which gets the events then.
            let ours = tracing_subscriber::registry().with(Lines);
            if tracing::subscriber::set_global_default(ours).is_err() {
                tracing::warn!(
                    target: "midflight::log",
                    "this process has a tracing subscriber already: log_level, log_file_path and runtime_set_log_callback() have no effect"
                );
            }
        });
    }
    tracing::callsite::rebuild_interest_cache();
}

fn lowest() -> i32 {
    let [file, callback] = [&FILE_LEVEL, &CALLBACK_LEVEL].map(|level| level.load(Ordering::Relaxed));
    file.min(callback).into()
}

/// What `tracing` gives events to.
struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        is_wanted(metadata)
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Asked again when the levels change.
        if is_wanted(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match lowest() {
            TRACE => LevelFilter::TRACE,
            DEBUG => LevelFilter::DEBUG,
            INFO => LevelFilter::INFO,
            4 => LevelFilter::WARN,
            5 => LevelFilter::ERROR,
            _ => LevelFilter::OFF,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = number(event.metadata().level());
        // The callback may run code that has events: they are not its business. In a forked child
        // the lock may be a thread's that is not there.
        if gate::is_child() || WRITING.replace(true) {
            return;
        }
        let _end = End;
        let target = event.metadata().target();
        let mut text = String::new();
        if DefaultFields::new().format_fields(Writer::new(&mut text), event).is_err() {
            text.push_str(" (a field of it cannot be shown)");
        }
        let mut sinks = lock();
        if level >= FILE_LEVEL.load(Ordering::Relaxed).into() {
            sinks.write(event.metadata().level(), target, &text);
        }
        if level >= CALLBACK_LEVEL.load(Ordering::Relaxed).into() {
            sinks.call(level, target, &text);
        }
    }
}

/// The end of a line, also by a panic.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        WRITING.set(false);
    }
}

/// A Rust host has other events than ours, and spans.
fn is_wanted(metadata: &Metadata<'_>) -> bool {
    let ours = metadata
        .target()
        .strip_prefix("midflight")
        .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
    ours && metadata.is_event() && number(metadata.level()) >= lowest()
}

impl Sinks {
    fn write(&mut self, level: &Level, target: &str, text: &str) {
        let mut line = String::new();
        // RFC 3339, in UTC, with microseconds. Writing to a string does not fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut line));
        line.push_str(&format!(" {level:>5} {target}: {text}"));
        // One line is one line, whatever a path in it is.
        let mut line = line.replace('\n', "\\n");
        line.push('\n');
        // In one go, so that lines of several processes stay whole.
        let written = match &mut self.output {
            None => return,
            Some(Output::File(file, _)) => file.add(line.as_bytes()),
            Some(Output::Stdout) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush())
            }
        };
        match (written, &mut self.lost) {
            (Ok(()), _) => {}
            (Err(_), Some((lines, _))) => *lines += 1,
            (Err(error), lost) => {
                let message = format!("the log cannot be written: {error}. Until it can be, lines are lost");
                *lost = Some((1, error));
                self.call(4, "midflight::log", &message);
            }
        }
    }

    fn call(&self, level: i32, target: &str, text: &str) {
        let Some((callback, User(user))) = self.callback else { return };
        let _inside = gate::Inside::new();
        let [target, text]: [CString; 2] = [target, text].map(c_string);
        // SAFETY: the host's callback, with strings that live as long as the call.
        unsafe { callback(level, target.as_ptr(), text.as_ptr(), user) };
    }
}
