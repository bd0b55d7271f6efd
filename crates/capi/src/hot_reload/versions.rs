//! What is in memory.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;

use midflight::{LoadedVersion, VersionState};

use crate::errors::{Failure, guarded};
use crate::gate::Call;
use crate::pointers::{Plain, c_string};
use crate::sized::{Sized, Told};

/// `hot_reload_version_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct HotReloadVersion {
    pub struct_size: u32,
    pub state: i32,
    pub module: *const c_char,
    pub declared: *const c_char,
    pub path: *const c_char,
    pub version: u64,
    pub until: u64,
    pub code_bytes: u64,
    pub holders: u32,
    pub reserved: u32,
}

// SAFETY: numbers and pointers.
unsafe impl Plain for HotReloadVersion {}
// SAFETY: as the size says.
unsafe impl Sized for HotReloadVersion {}
const _: () = assert!(size_of::<HotReloadVersion>() == 4 * 4 + 3 * 8 + 3 * 8);

/// `hot_reload_version_callback_t`. It may not unwind; should it, the process ends.
pub type VersionCallback = unsafe extern "C-unwind" fn(version: *const HotReloadVersion, user: *mut c_void);

/// What the strings of a version are.
struct Strings([CString; 3]);

impl Strings {
    fn of(version: &LoadedVersion) -> Self {
        let declared = version.declared.clone().unwrap_or_default();
        Self([c_string(&*version.module), c_string(declared), c_string(version.path.as_os_str().as_bytes())])
    }
}

fn describe(version: &LoadedVersion, Strings(strings): &Strings) -> HotReloadVersion {
    let [module, declared, path] = strings.each_ref().map(|string| string.as_ptr());
    HotReloadVersion {
        struct_size: 0,
        state: match version.state {
            VersionState::Current => 1,
            VersionState::Retired => 2,
            VersionState::Retained => 3,
            VersionState::Backup => 4,
            VersionState::Busy => 5,
            // None that this knows.
            _ => 0,
        },
        module,
        declared,
        path,
        version: version.version,
        until: version.until.unwrap_or(0),
        code_bytes: version.bytes as u64,
        holders: version.holders as u32,
        reserved: 0,
    }
}

/// `hot_reload_list_versions()`.
///
/// # Safety
///
/// The callback is NULL or a `hot_reload_version_callback_t`, which may be called with `user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_list_versions(
    struct_size: usize,
    callback: Option<VersionCallback>,
    user: *mut c_void,
) -> c_int {
    guarded(|| {
        let call = Call::begin()?;
        let callback = callback.ok_or_else(|| Failure::argument("callback is NULL"))?;
        let mut told = Told::new(struct_size, "hot_reload_version_t")?;
        // No lock is held while the host is told.
        for version in call.runtime.versions()? {
            let strings = Strings::of(&version);
            // SAFETY: the host's callback; the structure and its strings live as long as the call.
            unsafe { callback(told.of(&describe(&version, &strings)), user) };
        }
        Ok(())
    })
}
