//! Functions whose numbers differ: Apple's <sys/fcntl.h> and <locale.h> against Linux's.

use std::ffi::{c_char, c_int, c_long};
use std::ptr::null_mut;

use libc::mode_t;

/// `O_*`: Apple's, and Linux's. Apple's read, write and both are Linux's too.
const FLAGS: [(c_int, c_int); 12] = [
    (0x4, libc::O_NONBLOCK),
    (0x8, libc::O_APPEND),
    (0x40, libc::O_ASYNC),
    (0x80, libc::O_SYNC),
    (0x100, libc::O_NOFOLLOW),
    (0x200, libc::O_CREAT),
    (0x400, libc::O_TRUNC),
    (0x800, libc::O_EXCL),
    (0x2_0000, libc::O_NOCTTY),
    (0x10_0000, libc::O_DIRECTORY),
    (0x40_0000, libc::O_DSYNC),
    (0x100_0000, libc::O_CLOEXEC),
];

/// Linux's flags for Apple's. None: one is not known, or Linux has nothing like it.
pub(super) fn to_linux(apple: c_int) -> Option<c_int> {
    let (mut linux, mut rest) = (apple & libc::O_ACCMODE, apple & !libc::O_ACCMODE);
    for (from, to) in FLAGS {
        if rest & from != 0 {
            (linux, rest) = (linux | to, rest & !from);
        }
    }
    (rest == 0).then_some(linux)
}

/// Apple's flags for Linux's, which may have more.
pub(super) fn to_apple(linux: c_int) -> c_int {
    // O_SYNC is O_DSYNC and a bit more.
    let all = FLAGS.iter().filter(|(_, flag)| linux & flag == *flag);
    all.fold(linux & libc::O_ACCMODE, |apple, (flag, _)| apple | flag)
}

/// What F_GETFL tells of an open file. Linux's has more than this.
const STATUS: c_int =
    libc::O_ACCMODE | libc::O_NONBLOCK | libc::O_APPEND | libc::O_ASYNC | libc::O_SYNC | libc::O_DSYNC;

/// Fails as Apple's do for what they do not know: EINVAL, which is 22 on both.
fn invalid() -> c_int {
    // SAFETY: the thread's own variable.
    unsafe { *libc::__errno_location() = libc::EINVAL };
    -1
}

/// lseek(2): SEEK_HOLE and SEEK_DATA are 3 and 4 in Apple's <sys/unistd.h>, and the other way about
/// on Linux.
pub(super) extern "C" fn lseek(file: c_int, offset: libc::off_t, whence: c_int) -> libc::off_t {
    let whence = match whence {
        3 => libc::SEEK_HOLE,
        4 => libc::SEEK_DATA,
        whence => whence,
    };
    // SAFETY: touches no memory.
    unsafe { libc::lseek(file, offset, whence) }
}

/// Apple's.
const PATH_MAX: usize = 1024;

/// getwd(3) into a buffer of Apple's PATH_MAX.
///
/// # Safety
///
/// Such a buffer.
pub(super) unsafe extern "C" fn getwd(into: *mut c_char) -> *mut c_char {
    // SAFETY: the caller's buffer has PATH_MAX bytes. What does not fit is ERANGE.
    unsafe { libc::getcwd(into, PATH_MAX) }
}

/// realpath(3) into a buffer of Apple's PATH_MAX; Linux's is four times as long.
///
/// # Safety
///
/// A C string, and null or such a buffer.
pub(super) unsafe extern "C" fn realpath(path: *const c_char, into: *mut c_char) -> *mut c_char {
    // SAFETY: the caller passes a C string; with null the C library allocates as much as it needs.
    let found = unsafe { libc::realpath(path, null_mut()) };
    if found.is_null() || into.is_null() {
        return found;
    }
    // SAFETY: a C string just made; it fits into the buffer, or is not copied.
    unsafe {
        let size = libc::strlen(found) + 1;
        let result = if size <= PATH_MAX {
            into.copy_from_nonoverlapping(found, size);
            into
        } else {
            *libc::__errno_location() = libc::ENAMETOOLONG;
            null_mut()
        };
        let error = *libc::__errno_location();
        libc::free(found.cast());
        *libc::__errno_location() = error;
        result
    }
}

/// setbuf(3) with a buffer of Apple's BUFSIZ; Linux's is eight times as long.
///
/// # Safety
///
/// A stream, and null or a buffer that stays as long as the stream is open.
pub(super) unsafe extern "C" fn setbuf(stream: *mut libc::FILE, buffer: *mut c_char) {
    const BUFSIZ: usize = 1024;
    let mode = if buffer.is_null() { libc::_IONBF } else { libc::_IOFBF };
    // SAFETY: the caller passes a stream, and a buffer that outlives it. setbuf has no result to
    // say that it failed.
    unsafe { libc::setvbuf(stream, buffer, mode, BUFSIZ) };
}

/// open(2) with Apple's flags.
///
/// # Safety
///
/// A C string.
pub(super) unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    let Some(flags) = to_linux(flags) else { return invalid() };
    // SAFETY: the caller passes a C string.
    unsafe { libc::open(path, flags, mode as mode_t) }
}

/// openat(2) with Apple's flags.
///
/// # Safety
///
/// A C string.
pub(super) unsafe extern "C" fn openat(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: c_int,
) -> c_int {
    let Some(flags) = to_linux(flags) else { return invalid() };
    /// Apple's AT_FDCWD.
    const WORKING_FOLDER: c_int = -2;
    let folder = if folder == WORKING_FOLDER { libc::AT_FDCWD } else { folder };
    // SAFETY: the caller passes a C string.
    unsafe { libc::openat(folder, path, flags, mode as mode_t) }
}

/// fcntl(2) with Apple's commands: those that duplicate, read and change flags, and write to the
/// disk. Others fail with EINVAL.
///
/// # Safety
///
/// None that the caller could break: no command here has a pointer.
pub(super) unsafe extern "C" fn fcntl(file: c_int, command: c_int, argument: c_long) -> c_int {
    let number = argument as c_int;
    // SAFETY: commands whose argument is a number.
    unsafe {
        match command {
            0 => libc::fcntl(file, libc::F_DUPFD, number),
            1 => libc::fcntl(file, libc::F_GETFD),
            2 => libc::fcntl(file, libc::F_SETFD, number),
            3 => match libc::fcntl(file, libc::F_GETFL) {
                -1 => -1,
                flags => to_apple(flags & STATUS),
            },
            4 => match to_linux(number) {
                Some(flags) => libc::fcntl(file, libc::F_SETFL, flags),
                None => invalid(),
            },
            // F_FULLFSYNC, F_BARRIERFSYNC.
            51 | 85 => libc::fsync(file),
            67 => libc::fcntl(file, libc::F_DUPFD_CLOEXEC, number),
            _ => invalid(),
        }
    }
}

/// setlocale(3) with Apple's numbers of categories.
///
/// # Safety
///
/// A C string or null.
pub(super) unsafe extern "C" fn setlocale(category: c_int, locale: *const c_char) -> *mut c_char {
    const CATEGORIES: [c_int; 7] = [
        libc::LC_ALL,
        libc::LC_COLLATE,
        libc::LC_CTYPE,
        libc::LC_MONETARY,
        libc::LC_NUMERIC,
        libc::LC_TIME,
        libc::LC_MESSAGES,
    ];
    let category = usize::try_from(category).ok().and_then(|at| CATEGORIES.get(at));
    match category {
        // SAFETY: the caller passes a C string or null.
        Some(category) => unsafe { libc::setlocale(*category, locale) },
        None => std::ptr::null_mut(),
    }
}
