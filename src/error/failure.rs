//! Failures of module code that were contained.

use std::fmt;
use std::path::PathBuf;

use super::symbols::Shown;

/// Code of a module failed in a guarded call, and the process goes on: what the code had begun is
/// left as it was then. docs/containment.md says what that means.
///
/// A version that has failed is quarantined: guarded calls do not enter it any more.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure(Box<Details>);

#[derive(Clone, PartialEq, Eq)]
struct Details {
    cause: FailureCause,
    place: Option<FailurePlace>,
}

/// How module code failed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FailureCause {
    /// By a fault of an instruction.
    Fault {
        /// SIGSEGV, SIGBUS, SIGILL, SIGFPE or SIGTRAP.
        signal: i32,
        /// `si_code`: sigaction(2).
        code: i32,
        /// What could not be accessed, of SIGSEGV and SIGBUS; of the others, the instruction.
        address: usize,
        /// It was the stack that had no more room.
        is_stack_overflow: bool,
    },
    /// It called abort(3), or an assertion of it did not hold.
    Aborted,
    /// It called exit(3) or one like it.
    Exited {
        /// The process's status, had it ended.
        status: i32,
    },
    /// An exception of C++ left it.
    Exception,
    /// A panic of Rust left it.
    Panic,
    /// An exception of another language left it.
    ForeignException,
    /// It was not entered: its version had failed before.
    Quarantined,
    /// It was not entered: there cannot be a guarded call here.
    Unguarded {
        /// Why.
        reason: String,
    },
}

/// Where in a module something is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FailurePlace {
    /// The module's name.
    pub module: String,
    /// The number of its version.
    pub version: u64,
    /// The file that it was read from.
    pub path: PathBuf,
    /// The exported function that it is in, as the file has it, if there is one.
    pub symbol: Option<String>,
    /// How far it is from the start of that.
    pub offset: u64,
    /// Its address in the file's own numbering, as `addr2line` takes it.
    pub file_address: u64,
}

impl Failure {
    pub(crate) fn new(cause: FailureCause, place: Option<FailurePlace>) -> Self {
        Self(Box::new(Details { cause, place }))
    }

    /// How it failed.
    pub fn cause(&self) -> &FailureCause {
        &self.0.cause
    }

    /// Where: of a fault the instruction, of all else the function that was called. None if that is
    /// in no module.
    pub fn place(&self) -> Option<&FailurePlace> {
        self.0.place.as_ref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place() {
            Some(place) => write!(f, "{place} ")?,
            None => f.write_str("a module's function ")?,
        }
        write!(f, "{}", self.0.cause)
    }
}

/// The same text: it is what a program sees whose `main` returns it.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

/// "`movement` version 3 (step+0x12, 0x1134 in the file)".
impl fmt::Display for FailurePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` version {} (", self.module, self.version)?;
        if let Some(symbol) = &self.symbol {
            write!(f, "{}+{:#x}, ", Shown(symbol), self.offset)?;
        }
        write!(f, "{:#x} in the file)", self.file_address)
    }
}

/// "failed: SIGSEGV at 0x0".
impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault { is_stack_overflow: true, address, .. } => {
                write!(f, "has used up the stack (at {address:#x}): look for a recursion without end")
            }
            Self::Fault { signal, address, .. } => {
                let name = match *signal {
                    libc::SIGSEGV => "SIGSEGV",
                    libc::SIGBUS => "SIGBUS",
                    libc::SIGILL => "SIGILL",
                    libc::SIGFPE => "SIGFPE",
                    libc::SIGTRAP => "SIGTRAP",
                    _ => return write!(f, "failed: signal {signal} at {address:#x}"),
                };
                write!(f, "failed: {name} at {address:#x}")
            }
            Self::Aborted => f.write_str("called abort()"),
            Self::Exited { status } => write!(f, "called exit({status}): the process ends by its host alone"),
            Self::Exception => f.write_str("let a C++ exception out of a guarded call"),
            Self::Panic => f.write_str("let a panic out of a guarded call"),
            Self::ForeignException => f.write_str("let an exception out of a guarded call"),
            Self::Quarantined => {
                f.write_str("was not entered: this version has failed before. Roll the module back, or load a mended version")
            }
            Self::Unguarded { reason } => write!(f, "was not entered: there is no guarded call here: {reason}"),
        }
    }
}
