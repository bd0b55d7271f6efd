//! What modules ask of the dynamic linker, which does not know them: dlsym(3), dlopen(3) and
//! dladdr(3) for callers in modules.
//!
//! dlsym and dlopen answer by who calls. For a caller that is not in a module, as where a module
//! jumps to them, they are the C library's.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use libc::{Dl_info, c_char, c_int, c_void};

use super::loaded::{self, Object};
use super::symbol as replaced;
use crate::platform::os::library::{Library, Search, process_symbol};
use crate::platform::os::symbol::lookup;

/// What a version reaches by names: only of versions that ask.
pub(crate) struct Scope {
    /// The libraries that it needs, in that order. They are open as long as the version is there.
    libraries: Box<[usize]>,
    search: Search,
}

impl Scope {
    /// Whether a module that imports this name asks.
    pub(crate) fn is_asked_by(import: &str) -> bool {
        matches!(import, "dlsym" | "dlvsym" | "dlopen")
    }

    pub(crate) fn new(libraries: &[Library], search: Search) -> Self {
        Self { libraries: libraries.iter().map(Library::handle).collect(), search }
    }
}

/// What a module's import of this name binds to before the process's own.
pub(crate) fn symbol(name: &str) -> Option<u64> {
    use super::spawn;
    let function = match name {
        "dlsym" => spawn::midflight_dlsym as *const (),
        "dlvsym" => spawn::midflight_dlvsym as *const (),
        "dlopen" => spawn::midflight_dlopen as *const (),
        "dladdr" => spawn::midflight_dladdr as *const (),
        _ => return None,
    };
    Some(function as u64)
}

/// dlsym(3), called from `caller`.
///
/// # Safety
///
/// As for that function.
pub(crate) unsafe extern "C" fn dlsym(
    handle: *mut c_void,
    name: *const c_char,
    caller: usize,
) -> *mut c_void {
    // SAFETY: the caller passes what dlsym(3) asks for: the name is a C string.
    unsafe { find(handle, CStr::from_ptr(name), None, caller) }
}

/// dlvsym(3), called from `caller`.
///
/// # Safety
///
/// As for that function.
pub(crate) unsafe extern "C" fn dlvsym(
    handle: *mut c_void,
    name: *const c_char,
    version: *const c_char,
    caller: usize,
) -> *mut c_void {
    // SAFETY: the caller passes what dlvsym(3) asks for: both are C strings.
    unsafe { find(handle, CStr::from_ptr(name), Some(CStr::from_ptr(version)), caller) }
}

/// # Safety
///
/// As for dlsym(3).
unsafe fn find(handle: *mut c_void, name: &CStr, version: Option<&CStr>, caller: usize) -> *mut c_void {
    let (next, default) = (handle == libc::RTLD_NEXT, handle == libc::RTLD_DEFAULT);
    let asked = |object: &Object| {
        let own = || own(object, name).filter(|_| default);
        object.scope.clone().map(|scope| (scope, own()))
    };
    let Some((scope, own)) = loaded::find(caller as u64, asked).flatten() else {
        return address(lookup(handle, name, version));
    };
    // What comes after a module is what it needs: dl-sym.c of glibc, and "Finding symbols" of dyld.
    // Of a whole program a module sees first what all see, then itself.
    let needed = || scope.libraries.iter().find_map(|library| lookup(*library as *mut c_void, name, version));
    let everywhere = || process_symbol(name, version);
    let found = match (next, default) {
        (true, _) => needed().or_else(everywhere),
        // Last again, for the error that dlerror(3) is to tell.
        (_, true) => everywhere().or(own).or_else(needed).or_else(everywhere),
        _ => lookup(handle, name, version),
    };
    // What modules are given in place of the C library's they are given here, too: else their
    // threads and exit functions would not be known.
    let replacement = |found| {
        let name = name.to_str().ok()?;
        symbol(name).or_else(|| replaced(name, || Some(found)))
    };
    address(found.map(|found| replacement(found).unwrap_or(found)))
}

fn address(found: Option<u64>) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(found.unwrap_or(0) as usize)
}

/// What the version itself exports by a name.
fn own(object: &Object, name: &CStr) -> Option<u64> {
    let tables = object.exports.as_ref()?;
    // SAFETY: whoever asks is in the version, so its memory is there; the image says that this is a
    // region that is only read.
    let bytes = unsafe { bytes(object, tables.region()) };
    let (kind, offset) = tables.find(bytes, name.to_str().ok()?, |offset| object.is_code(offset))?;
    (kind != midflight_image::ExportKind::ThreadLocal).then_some(object.base + offset)
}

/// The name of the function of a version that begins at an address. The calling thread is in that
/// version.
pub(super) fn name(function: usize) -> Option<CString> {
    let of = |object: &Object| {
        let tables = object.exports.as_ref()?;
        let offset = function as u64 - object.base;
        // SAFETY: the caller is in the version, so its memory is there; and as in `own`.
        let (name, start) = tables.nearest(unsafe { bytes(object, tables.region()) }, offset)?;
        (start == offset).then(|| name.to_owned())
    };
    loaded::find(function as u64, of).flatten()
}

/// # Safety
///
/// The version's memory is there, and the part is only read.
unsafe fn bytes<'a>(object: &Object, part: std::ops::Range<usize>) -> &'a [u8] {
    let start = std::ptr::with_exposed_provenance(object.base as usize + part.start);
    // SAFETY: the caller promises that the version's memory is there and this part is only read.
    unsafe { std::slice::from_raw_parts(start, part.len()) }
}

/// dlopen(3), called from `caller`: a library that is not in the process is looked for where the
/// module says (DT_RUNPATH), then where the system finds it.
///
/// # Safety
///
/// As for that function.
pub(crate) unsafe extern "C-unwind" fn dlopen(
    file: *const c_char,
    mode: c_int,
    caller: usize,
) -> *mut c_void {
    let scope = loaded::find(caller as u64, |object| object.scope.clone()).flatten();
    // SAFETY: null, or a C string, as the caller promises.
    let name = (!file.is_null()).then(|| unsafe { CStr::from_ptr(file) });
    let found = scope.zip(name).and_then(|(scope, name)| place(&scope, name));
    // SAFETY: the caller passes what dlopen(3) asks for; a path, or what the caller gave.
    unsafe { libc::dlopen(found.as_ref().map_or(file, |found| found.as_ptr()), mode) }
}

/// The path of a library in a version's search path, if it is to be looked for there.
fn place(scope: &Arc<Scope>, name: &CStr) -> Option<CString> {
    let name = name.to_bytes();
    if name.contains(&b'/') {
        let expanded = scope.search.expand(name);
        return (expanded != name).then(|| CString::new(expanded).ok()).flatten();
    }
    if Library::loaded(name).is_some() {
        return None;
    }
    scope.search.find(name).and_then(|path| CString::new(path).ok())
}

/// dladdr(3), called from `caller`. Lock-free and async-signal-safe for addresses in modules. A
/// module is told names of its own symbols only: another may go meanwhile.
///
/// # Safety
///
/// As for that function.
pub(crate) unsafe extern "C" fn dladdr(address: *const c_void, info: *mut Dl_info, caller: usize) -> c_int {
    let place = address as u64;
    let found = loaded::find(place, |object| {
        let mut found = Dl_info {
            dli_fname: object.file.path(),
            dli_fbase: std::ptr::with_exposed_provenance_mut(object.base as usize),
            dli_sname: std::ptr::null(),
            dli_saddr: std::ptr::null_mut(),
        };
        if object.contains(caller as u64)
            && let Some(tables) = &object.exports
        {
            // SAFETY: the caller is in the version, so its memory is there; and as in `own`.
            let bytes = unsafe { bytes(object, tables.region()) };
            if let Some((name, offset)) = tables.nearest(bytes, place - object.base) {
                found.dli_sname = name.as_ptr();
                found.dli_saddr = std::ptr::with_exposed_provenance_mut((object.base + offset) as usize);
            }
        }
        found
    });
    match found {
        Some(found) => {
            // SAFETY: the caller passes what dladdr(3) asks for: `info` can be written to.
            unsafe { info.write(found) };
            1
        }
        // SAFETY: as above.
        None => unsafe { libc::dladdr(address, info) },
    }
}
