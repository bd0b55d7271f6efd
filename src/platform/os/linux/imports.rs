//! What the libraries of the process import: glibc's <link.h>, and the gABI ("Dynamic Section").

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use libc::{Elf64_Sym, c_char, c_void};

/// The public part of `struct link_map`.
#[repr(C)]
struct LinkMap {
    bias: usize,
    name: *const c_char,
    dynamic: *const Dynamic,
}

#[repr(C)]
struct Dynamic {
    tag: i64,
    value: usize,
}

const DT_NULL: i64 = 0;
const DT_NEEDED: i64 = 1;
const DT_HASH: i64 = 4;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_GNU_HASH: i64 = 0x6fff_fef5;

/// By which a library starts threads.
const STARTS: [&CStr; 4] = [c"pthread_create", c"thrd_create", c"clone", c"clone3"];

/// Whether a library, or one that it needs, imports what starts threads. Of those for which
/// `is_known` this does not count.
///
/// # Safety
///
/// `handle` is dlopen's, and the library stays.
pub(crate) unsafe fn starts_threads(handle: *mut c_void, is_known: impl Fn(&str) -> bool) -> bool {
    /// By the address of its entry: what a library imports and needs does not change, and those
    /// that are asked of stay.
    static ASKED: Mutex<Option<HashMap<usize, About>>> = Mutex::new(None);
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = asked.get_or_insert_default();
    // SAFETY: the caller promises that the handle is dlopen's and the library stays.
    let Some(first) = (unsafe { link_map(handle) }) else { return true };
    let (mut found, mut next) = (vec![ptr::from_ref(first).expose_provenance()], 0);
    while let Some(&at) = found.get(next) {
        next += 1;
        // SAFETY: an entry of a library that stays, as those do that it needs.
        let library = unsafe { &*ptr::with_exposed_provenance::<LinkMap>(at) };
        // SAFETY: as above.
        let about = asked.entry(at).or_insert_with(|| unsafe { About::new(library) });
        // SAFETY: as above.
        if about.starts && !is_known(&unsafe { CStr::from_ptr(library.name) }.to_string_lossy()) {
            return true;
        }
        let new = about.needs.iter().filter(|library| !found.contains(library)).copied().collect::<Vec<_>>();
        found.extend(new);
    }
    false
}

/// What is known of a library.
struct About {
    /// It imports what starts threads.
    starts: bool,
    /// The entries of those that it needs.
    needs: Vec<usize>,
}

impl About {
    /// # Safety
    ///
    /// As for [`starts_threads`].
    unsafe fn new(library: &LinkMap) -> Self {
        // SAFETY: the caller promises that the library stays.
        let (starts, needed) = unsafe { (imports(library), needed(library)) };
        Self { starts, needs: needed.into_iter().map(|map| ptr::from_ref(map).expose_provenance()).collect() }
    }
}

/// # Safety
///
/// As for [`starts_threads`].
unsafe fn link_map<'l>(handle: *mut c_void) -> Option<&'l LinkMap> {
    let mut map: *const LinkMap = ptr::null();
    // SAFETY: an open handle, and a place for the pointer.
    let result = unsafe { libc::dlinfo(handle, libc::RTLD_DI_LINKMAP, (&raw mut map).cast()) };
    // SAFETY: written, and there as long as the library is.
    (result == 0).then(|| unsafe { &*map })
}

/// The entries of its dynamic section.
///
/// # Safety
///
/// The library stays.
unsafe fn entries(library: &LinkMap) -> impl Iterator<Item = &Dynamic> {
    // SAFETY: the section ends with DT_NULL.
    (0..).map(|at| unsafe { &*library.dynamic.add(at) }).take_while(|entry| entry.tag != DT_NULL)
}

/// The address that an entry has: ld.so has added where the library is, or left it where that may
/// not be written.
fn address<T>(library: &LinkMap, value: usize) -> *const T {
    ptr::with_exposed_provenance(if value < library.bias { value + library.bias } else { value })
}

/// # Safety
///
/// As for [`entries`].
unsafe fn table<T>(library: &LinkMap, tag: i64) -> Option<*const T> {
    // SAFETY: the caller promises that the library stays.
    let entry = unsafe { entries(library) }.find(|entry| entry.tag == tag)?;
    Some(address(library, entry.value))
}

/// The libraries that it names and that the process has.
///
/// # Safety
///
/// As for [`entries`].
unsafe fn needed<'l>(library: &LinkMap) -> Vec<&'l LinkMap> {
    // SAFETY: the caller promises that the library stays.
    let Some(strings) = (unsafe { table::<c_char>(library, DT_STRTAB) }) else { return Vec::new() };
    // SAFETY: as above.
    let named = unsafe { entries(library) }.filter(|entry| entry.tag == DT_NEEDED);
    let open = |entry: &Dynamic| {
        // SAFETY: the entry is an offset of a string. RTLD_NOLOAD runs no code.
        unsafe {
            let name: CString = CStr::from_ptr(strings.add(entry.value)).into();
            let handle = libc::dlopen(name.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_NOW);
            if handle.is_null() {
                return None;
            }
            let map = link_map(handle);
            // It stays as long as what needs it.
            libc::dlclose(handle);
            map
        }
    };
    named.filter_map(open).collect()
}

/// Whether it imports what starts threads; or may, for want of a table that says how many symbols
/// it has.
///
/// # Safety
///
/// As for [`entries`].
unsafe fn imports(library: &LinkMap) -> bool {
    // SAFETY: the caller promises that the library stays, for all that follows: tables as the gABI
    // has them. What is imported is in no GNU hash table, and comes before the first symbol that
    // is, whose number is its second word; the other table's second word is how many there are.
    unsafe {
        let count = table::<u32>(library, DT_GNU_HASH).or_else(|| table(library, DT_HASH));
        let symbols = table::<Elf64_Sym>(library, DT_SYMTAB);
        let (Some(count), Some(symbols), Some(strings)) =
            (count, symbols, table::<c_char>(library, DT_STRTAB))
        else {
            return true;
        };
        (1..*count.add(1) as usize).map(|at| &*symbols.add(at)).any(|symbol| {
            symbol.st_shndx == 0 && STARTS.contains(&CStr::from_ptr(strings.add(symbol.st_name as usize)))
        })
    }
}
