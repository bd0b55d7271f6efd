//! Destructors of variables that a module shares with the process (docs/modules.md).
//!
//! Whoever uses such a variable first constructs it, and registers a destructor for the end of the
//! process. If a module does so, it registers its own copy of the destructor. But the variable
//! outlives the module's version, whose code goes. So instead the destructor of the same name is
//! called that the program or library with the variable has; if it has none, none is called.

use std::ffi::{CStr, c_int, c_void};
use std::mem::MaybeUninit;

use libc::Dl_info;

use super::dynamic;
use crate::platform::os::exit;
use crate::platform::os::library::{Library, process_symbol};

/// If it is a destructor's registration of such a variable: does what is to be done in its place.
pub(super) fn register(destructor: usize, variable: *mut c_void) -> Option<c_int> {
    let mut owner = MaybeUninit::<Dl_info>::uninit();
    // Of null, and of modules' own variables, the dynamic linker knows nothing.
    // SAFETY: any address may be asked about, and there is room for the answer.
    if unsafe { libc::dladdr(variable, owner.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: the answer is there.
    let owner = unsafe { owner.assume_init() };
    let name = dynamic::name(destructor);
    let found = name.as_ref().and_then(|name| of_owner(&owner, name));
    let Some(found) = found else {
        tracing::warn!(
            destructor = ?name,
            "a module has made a variable that it shares with the process, and its destructor is called at no time: only the module \
             has it, which may go before. Have the host use the variable first"
        );
        return Some(0);
    };
    // SAFETY: the function of this name in what the variable is of: the one definition rule says
    // that it is the same. One more argument than it takes is passed, and ignored as it is in the C
    // library.
    Some(unsafe {
        let found: unsafe extern "C" fn(*mut c_void, c_int) =
            std::mem::transmute(std::ptr::with_exposed_provenance::<()>(found as usize));
        exit::at_exit(found, variable, owner.dli_fbase)
    })
}

/// The function of this name that the variable's object has, which stays in the process from now
/// on.
fn of_owner(owner: &Dl_info, name: &CStr) -> Option<u64> {
    // SAFETY: dladdr gives a C string.
    let path = (!owner.dli_fname.is_null()).then(|| unsafe { CStr::from_ptr(owner.dli_fname) })?;
    match path.to_str().ok().and_then(Library::kept) {
        Some(library) => library.symbol(name, None),
        // The program itself is not known by its path.
        None => process_symbol(name, None),
    }
}
