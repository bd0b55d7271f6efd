//! What goes wrong, as C learns of it: codes, the thread's last message, counts, panics.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use midflight::{Error, ErrorKind};

use crate::pointers::c_string;
use crate::runtime_types::get_timestamp_ns;

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    /// A version was rolled back by itself.
    pub(crate) recovered: bool,
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), recovered: false }
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let recovered = matches!(error, Error::Integrity { rolled_back: true, .. });
        Self { kind: error.kind(), message: error.to_string(), recovered }
    }
}

/// What failed calls have come to. Relaxed throughout: each is a figure by itself.
pub(crate) struct Counts {
    failed: AtomicU64,
    recovered: AtomicU64,
    last: AtomicU64,
}

pub(crate) static COUNTS: Counts =
    Counts { failed: AtomicU64::new(0), recovered: AtomicU64::new(0), last: AtomicU64::new(0) };

impl Counts {
    pub(crate) fn reset(&self) {
        for count in [&self.failed, &self.recovered, &self.last] {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// All, those after which a version was rolled back by itself, the time of the last.
    pub(crate) fn get(&self) -> [u64; 3] {
        [&self.failed, &self.recovered, &self.last].map(|count| count.load(Ordering::Relaxed))
    }
}

thread_local! {
    static MESSAGE: RefCell<Option<CString>> = const { RefCell::new(None) };
    /// Of the last failed call. It has no destructor, so a thread that is ending has it still.
    static CODE: Cell<c_int> = const { Cell::new(0) };
}

/// Counts a failure, and keeps its message for the thread.
pub(crate) fn failed(failure: Failure) -> c_int {
    let code = failure.kind as c_int;
    COUNTS.failed.fetch_add(1, Ordering::Relaxed);
    COUNTS.recovered.fetch_add(failure.recovered.into(), Ordering::Relaxed);
    COUNTS.last.store(get_timestamp_ns(), Ordering::Relaxed);
    CODE.set(code);
    let message = c_string(failure.message);
    // A thread whose thread-locals are destroyed has the code only.
    let _ = MESSAGE.try_with(|kept| *kept.borrow_mut() = Some(message));
    code
}

/// The thread's last message; empty if it has none.
pub(crate) fn last_message() -> *const c_char {
    if CODE.get() == 0 {
        return c"".as_ptr();
    }
    // The text stays where it is until the thread's next failure.
    let kept = MESSAGE.try_with(|kept| kept.borrow().as_ref().map(|message| message.as_ptr()));
    kept.ok().flatten().unwrap_or_else(|| text(CODE.get()).as_ptr())
}

/// A thread that is not cancelled (pthread_cancel(3)) as long as this is there: cancelling unwinds
/// it, and what it was in the midst of would be left half done. Afterwards it is cancelled where it
/// would be.
struct Uncancelled(c_int);

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

impl Uncancelled {
    fn new() -> Self {
        const DISABLE: c_int = if cfg!(target_os = "macos") { 0 } else { 1 };
        let mut before = 0;
        // SAFETY: the thread's own, and room for what it was.
        unsafe { pthread_setcancelstate(DISABLE, &raw mut before) };
        Self(before)
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: as it was.
        unsafe { pthread_setcancelstate(self.0, std::ptr::null_mut()) };
    }
}

/// Runs what a function of the headers does.
pub(crate) fn guarded(body: impl FnOnce() -> Outcome) -> c_int {
    let _uncancelled = Uncancelled::new();
    // Whatever a panic leaves half done is the runtime's, which keeps its state whole
    // (`Runtime::lock`), or in an output, which is only written at the end.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(failure)) => failed(failure),
        Err(panic) => {
            let message = format!("a defect of midflight: {}. Please report it", panic_text(&*panic));
            let code = failed(Failure::new(ErrorKind::Internal, message));
            // What a panic carries may panic when it is dropped.
            std::mem::forget(panic);
            code
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text")
}

/// A code's name and meaning.
pub(crate) fn text(code: c_int) -> &'static CStr {
    if code == 0 {
        return c"RUNTIME_OK: done";
    }
    let Some(kind) = ErrorKind::ALL.into_iter().find(|kind| *kind as c_int == code) else {
        return c"no code of midflight";
    };
    match kind {
        ErrorKind::InvalidArgument => {
            c"RUNTIME_ERROR_INVALID_ARGUMENT: an argument is not what the function takes"
        }
        ErrorKind::NotInitialized => c"RUNTIME_ERROR_NOT_INITIALIZED: the runtime is not running",
        ErrorKind::Unsupported => c"RUNTIME_ERROR_UNSUPPORTED: not supported by this system, or by midflight",
        ErrorKind::Io => c"RUNTIME_ERROR_IO: a file could not be read or written",
        ErrorKind::InvalidModule => c"RUNTIME_ERROR_INVALID_MODULE: not a module that can be loaded",
        ErrorKind::Unresolved => c"RUNTIME_ERROR_UNRESOLVED: symbols or libraries that cannot be found",
        ErrorKind::Incompatible => c"RUNTIME_ERROR_INCOMPATIBLE: the new version does not fit",
        ErrorKind::CompatibilityUnknown => {
            c"RUNTIME_ERROR_COMPATIBILITY_UNKNOWN: there is no debug information to compare"
        }
        ErrorKind::NotLoaded => c"RUNTIME_ERROR_NOT_LOADED: no module of that name is loaded",
        ErrorKind::NoSuchSymbol => c"RUNTIME_ERROR_NO_SUCH_SYMBOL: the module has no such function",
        ErrorKind::InUse => c"RUNTIME_ERROR_IN_USE: other modules call it",
        ErrorKind::OutOfMemory => c"RUNTIME_ERROR_OUT_OF_MEMORY: the system gives no memory",
        ErrorKind::MemoryLimit => c"RUNTIME_ERROR_MEMORY_LIMIT: max_memory_usage is reached",
        ErrorKind::Timeout => c"RUNTIME_ERROR_TIMEOUT: it took too long, and nothing was published",
        ErrorKind::Busy => c"RUNTIME_ERROR_BUSY: called from the midst of another call",
        ErrorKind::Integrity => c"RUNTIME_ERROR_INTEGRITY: what is in memory is not what was linked",
        ErrorKind::Refused => c"RUNTIME_ERROR_REFUSED: the module's module_init() refused",
        ErrorKind::NoPreviousVersion => {
            c"RUNTIME_ERROR_NO_PREVIOUS_VERSION: no earlier version to go back to"
        }
        ErrorKind::WrongFrame => {
            c"RUNTIME_ERROR_WRONG_FRAME: not open, not this thread's, or of another generation"
        }
        ErrorKind::NotWatched => c"RUNTIME_ERROR_NOT_WATCHED: the file is not watched",
        ErrorKind::Forked => c"RUNTIME_ERROR_FORKED: this process was forked from the runtime's",
        ErrorKind::System => c"RUNTIME_ERROR_SYSTEM: the kernel refused what it should not",
        ErrorKind::Internal => c"RUNTIME_ERROR_INTERNAL: a defect of midflight",
        ErrorKind::Vetoed => c"RUNTIME_ERROR_VETOED: a hook does not let it be loaded now",
        ErrorKind::Conflict => {
            c"RUNTIME_ERROR_CONFLICT: it conflicts with what is loaded, or another change came before"
        }
        ErrorKind::Journal => c"RUNTIME_ERROR_JOURNAL: the journal could not be opened, read or written",
        // The tests look that each has one.
        _ => c"no code of midflight",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> String {
        // SAFETY: never NULL, and it stays until the next failure.
        unsafe { CStr::from_ptr(last_message()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn panics_are_internal_errors() {
        assert_eq!(last(), "");
        assert_eq!(guarded(|| panic!("{} is odd", 4)), ErrorKind::Internal as c_int);
        assert_eq!(last(), "a defect of midflight: 4 is odd. Please report it");
        assert_eq!(guarded(|| panic!("odd")), -23);
        assert!(last().contains(": odd."));
        assert_eq!(guarded(|| std::panic::panic_any(5)), -23);
        assert!(last().contains("without a text"));
        // What succeeds leaves it as it is; another thread has its own.
        assert_eq!(guarded(|| Ok(())), 0);
        assert!(last().contains("without a text"));
        std::thread::scope(|scope| scope.spawn(|| assert_eq!(last(), "")).join().unwrap());
    }

    #[test]
    fn a_thread_that_ends_has_the_code() {
        struct AtTheEnd;
        impl Drop for AtTheEnd {
            fn drop(&mut self) {
                failed(Failure::argument("too late"));
                let message = last();
                assert!(
                    message == "too late" || message.starts_with("RUNTIME_ERROR_INVALID_ARGUMENT: "),
                    "{message}"
                );
                SEEN.store(1, Ordering::Relaxed);
            }
        }
        thread_local!(static LATE: AtTheEnd = const { AtTheEnd });
        static SEEN: AtomicU64 = AtomicU64::new(0);
        std::thread::spawn(|| {
            // Destroyed in the reverse order of their first use, or in the same: both are tried
            // here.
            LATE.with(|_| ());
            failed(Failure::argument("in time"));
        })
        .join()
        .unwrap();
        assert_eq!(SEEN.swap(0, Ordering::Relaxed), 1);
        std::thread::spawn(|| {
            failed(Failure::argument("in time"));
            LATE.with(|_| ());
        })
        .join()
        .unwrap();
        assert_eq!(SEEN.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn every_code_has_a_text() {
        let texts: std::collections::HashSet<_> =
            ErrorKind::ALL.into_iter().map(|kind| text(kind as c_int)).collect();
        assert_eq!(texts.len(), ErrorKind::ALL.len());
        assert!(texts.iter().all(|text| text.to_bytes().starts_with(b"RUNTIME_ERROR_")));
        assert_eq!(text(1), text(-1000));
        assert_eq!(text(c_int::MIN), text(1));
    }
}
