//! The process's own symbols and the system's libraries, by dlopen(3) and dlsym(3).

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use libc::{c_char, c_void};

use crate::platform::os::imports;
use crate::platform::os::symbol::lookup;

/// A library of the system that a module needs.
///
/// Once it is opened for a module it stays in the process (RTLD_NODELETE): the system closes
/// libraries without asking whether threads of theirs go on in them, and what they have left with
/// others (keys' destructors, handlers of signals, callbacks) nobody can see. A library is opened
/// once, however often modules that need it come and go: so what stays is bounded by how many there
/// are.
pub(crate) struct Library {
    handle: NonNull<c_void>,
}

// SAFETY: a dlopen handle may be used and closed on any thread (POSIX dlopen: the functions are
// MT-Safe).
unsafe impl Send for Library {}
// SAFETY: as for Send; dlsym through & does not change the handle.
unsafe impl Sync for Library {}

impl Library {
    /// Opens the library, if the process has it not already. From now on it stays. The error is
    /// ld.so's own text.
    ///
    /// # Safety
    ///
    /// The library's constructors run.
    pub(crate) unsafe fn open(name: impl Into<Vec<u8>>) -> Result<Self, String> {
        let name = CString::new(name).map_err(|_| "the name contains a NUL".to_owned())?;
        // SAFETY: the caller accepts the constructors; the name is a C string.
        let handle =
            unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL | libc::RTLD_NODELETE) };
        NonNull::new(handle).map(|handle| Self { handle }).ok_or_else(last_error)
    }

    /// The library, if the process has it already. That keeps it no longer than this value is
    /// there.
    pub(crate) fn loaded(name: impl Into<Vec<u8>>) -> Option<Self> {
        Self::there(name, 0)
    }

    /// As [`Self::loaded`], for a module: from now on it stays.
    pub(crate) fn kept(name: impl Into<Vec<u8>>) -> Option<Self> {
        Self::there(name, libc::RTLD_NODELETE)
    }

    fn there(name: impl Into<Vec<u8>>, flags: libc::c_int) -> Option<Self> {
        let name = CString::new(name).ok()?;
        let flags = flags | libc::RTLD_NOLOAD | libc::RTLD_NOW | libc::RTLD_LOCAL;
        // SAFETY: RTLD_NOLOAD runs no code; the name is a C string.
        let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
        NonNull::new(handle).map(|handle| Self { handle })
    }

    /// What dlsym(3) knows it by.
    pub(crate) fn handle(&self) -> usize {
        self.handle.as_ptr().expose_provenance()
    }

    pub(crate) fn symbol(&self, name: &CStr, version: Option<&CStr>) -> Option<u64> {
        lookup(self.handle.as_ptr(), name, version)
    }

    /// Whether it, or one that it needs, starts threads; but for those that are known.
    pub(crate) fn starts_threads(&self, is_known: impl Fn(&str) -> bool) -> bool {
        // SAFETY: opened, and it stays.
        unsafe { imports::starts_threads(self.handle.as_ptr(), is_known) }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: the handle came from dlopen and is closed once. A failure would leave the library
        // loaded, which harms no one.
        unsafe { libc::dlclose(self.handle.as_ptr()) };
    }
}

/// Where a module's libraries are looked for.
pub(crate) struct Search {
    /// The module's own folder.
    pub(crate) origin: PathBuf,
    /// Folders, separated by colons.
    pub(crate) path: Option<Vec<u8>>,
    /// What the libraries need is looked for there as well (DT_RPATH).
    #[cfg_attr(target_os = "macos", allow(dead_code, reason = "dyld's libraries say it themselves"))]
    pub(crate) inherited: bool,
}

impl Search {
    /// A path with the module's folder in it, where it says so.
    pub(crate) fn expand(&self, path: &[u8]) -> Vec<u8> {
        let (mut expanded, mut rest) = (Vec::with_capacity(path.len()), path);
        while let [first, behind @ ..] = rest {
            let origin = [&b"$ORIGIN"[..], b"${ORIGIN}"].iter().find_map(|name| rest.strip_prefix(*name));
            expanded.extend_from_slice(origin.map_or(&[*first], |_| self.origin.as_os_str().as_bytes()));
            rest = origin.unwrap_or(behind);
        }
        expanded
    }

    /// The path of a library, if it is in one of the folders.
    pub(crate) fn find(&self, library: &[u8]) -> Option<Vec<u8>> {
        let folders = self.path.iter().flat_map(|path| path.split(|byte| *byte == b':'));
        let mut paths =
            folders.filter(|folder| !folder.is_empty()).map(|folder| [folder, b"/", library].concat());
        paths.find(|path| !library.contains(&b'/') && Path::new(OsStr::from_bytes(path)).exists())
    }

    /// Opens libraries one after the other: what the process has already, then what is in the
    /// search path, then what the system finds.
    ///
    /// # Safety
    ///
    /// The libraries' constructors run.
    pub(crate) unsafe fn open_each(&self, libraries: &[&str]) -> Result<Vec<Library>, String> {
        let open = |library: &&str| match Library::kept(*library) {
            Some(kept) => Ok(kept),
            // SAFETY: the caller accepts the libraries' constructors.
            None => unsafe {
                Library::open(self.find(library.as_bytes()).unwrap_or_else(|| (*library).into()))
            },
        };
        libraries.iter().map(open).collect()
    }
}

/// A symbol of the executable or of a library in its global scope.
pub(crate) fn process_symbol(name: &CStr, version: Option<&CStr>) -> Option<u64> {
    lookup(libc::RTLD_DEFAULT, name, version)
}

fn last_error() -> String {
    // SAFETY: dlerror returns NULL or a C string that lasts until this thread's next dl call.
    unsafe {
        let text: *const c_char = libc::dlerror();
        if text.is_null() {
            "no reason given".into()
        } else {
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}
