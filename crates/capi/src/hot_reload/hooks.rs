//! Hooks before and after reloads.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;

use midflight::{HooksId, ReloadHooks, Upcoming};

use crate::errors::{Failure, guarded};
use crate::gate::{Call, Inside};
use crate::pointers::{self, Output, Plain, c_string};
use crate::sized::{self, Sized, Told};

/// `hot_reload_change_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct HotReloadChange {
    pub struct_size: u32,
    pub module_count: u32,
    pub modules: *const *const c_char,
    pub paths: *const *const c_char,
    pub replaces: *const u64,
    pub message: *const c_char,
    pub code: i32,
    pub reserved: u32,
    pub generation: u64,
}

// SAFETY: numbers and pointers.
unsafe impl Plain for HotReloadChange {}
// SAFETY: as the size says.
unsafe impl Sized for HotReloadChange {}
const _: () = assert!(size_of::<HotReloadChange>() == 4 * 4 + 5 * 8);

/// `hot_reload_before_t`. It may not unwind; should it, the process ends.
pub type BeforeCallback =
    unsafe extern "C-unwind" fn(change: *const HotReloadChange, user: *mut c_void) -> c_int;
/// `hot_reload_after_t`. As above.
pub type AfterCallback = unsafe extern "C-unwind" fn(change: *const HotReloadChange, user: *mut c_void);

/// `hot_reload_hooks_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct HotReloadHooks {
    pub struct_size: u32,
    pub change_size: u32,
    pub name: *const c_char,
    pub before: Option<BeforeCallback>,
    pub after: Option<AfterCallback>,
    pub user: *mut c_void,
}

// SAFETY: numbers, pointers, and addresses of functions, of which 0 is none.
unsafe impl Plain for HotReloadHooks {}
// SAFETY: as the size says.
unsafe impl Sized for HotReloadHooks {}
const _: () = assert!(size_of::<HotReloadHooks>() == 2 * 4 + 4 * 8);

/// What the host gave for its callbacks.
#[derive(Clone, Copy)]
struct User {
    pointer: *mut c_void,
    change_size: usize,
}

// SAFETY: handed back only, to callbacks that any thread may call.
unsafe impl Send for User {}
// SAFETY: as above.
unsafe impl Sync for User {}

/// What came of a reload.
struct Ended<'e> {
    code: i32,
    message: &'e str,
    generation: u64,
}

impl User {
    /// Tells a callback of a change.
    fn tell<R>(
        self,
        upcoming: &[Upcoming],
        ended: &Ended<'_>,
        call: impl FnOnce(*const HotReloadChange, *mut c_void) -> R,
    ) -> R {
        let modules: Vec<CString> = upcoming.iter().map(|of| c_string(&*of.module)).collect();
        let paths: Vec<CString> =
            upcoming.iter().map(|of| c_string(of.path.as_os_str().as_bytes())).collect();
        let [modules, paths] = [&modules, &paths]
            .map(|strings| strings.iter().map(|string| string.as_ptr()).collect::<Vec<_>>());
        let replaces: Vec<u64> = upcoming.iter().map(|of| of.replaces.unwrap_or(0)).collect();
        let message = c_string(ended.message);
        let change = HotReloadChange {
            struct_size: 0,
            module_count: upcoming.len() as u32,
            modules: modules.as_ptr(),
            paths: paths.as_ptr(),
            replaces: replaces.as_ptr(),
            message: message.as_ptr(),
            code: ended.code,
            reserved: 0,
            generation: ended.generation,
        };
        let mut told = Told::new(self.change_size, "hot_reload_change_t").expect("it was looked at");
        // A watch's thread is in no call of ours.
        let _inside = Inside::new();
        call(told.of(&change), self.pointer)
    }
}

/// `hot_reload_add_hooks()`.
///
/// # Safety
///
/// The arguments are what the header says; the callbacks may be called with `user` until they are
/// removed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_add_hooks(hooks: *const HotReloadHooks, id: *mut u64) -> c_int {
    guarded(|| {
        let output = Output::new(id, "id")?;
        let call = Call::begin()?;
        let given = sized::read(hooks, "hooks")?;
        let user = User { pointer: given.user, change_size: given.change_size as usize };
        Told::new(user.change_size, "hot_reload_change_t")
            .map_err(|failure| Failure::argument(format!("hooks: change_size: {}", failure.message)))?;
        let mut hooks = ReloadHooks::new(pointers::name(given.name, "hooks: name")?);
        if given.before.is_none() && given.after.is_none() {
            return Err(Failure::argument("hooks: before and after are NULL"));
        }
        if let Some(before) = given.before {
            hooks = hooks.before(move |upcoming| {
                let ended = Ended { code: 0, message: "", generation: 0 };
                // SAFETY: the host's callback; the structure and all it leads to live as long as
                // the call.
                match user.tell(upcoming, &ended, |change, user| unsafe { before(change, user) }) {
                    0 => Ok(()),
                    code => Err(code),
                }
            });
        }
        if let Some(after) = given.after {
            hooks = hooks.after(move |upcoming, result| {
                let message = result.err().map(ToString::to_string).unwrap_or_default();
                let ended = Ended {
                    code: result.err().map_or(0, |error| error.kind() as i32),
                    message: &message,
                    generation: result.map_or(0, |publication| publication.generation),
                };
                // SAFETY: as above.
                user.tell(upcoming, &ended, |change, user| unsafe { after(change, user) });
            });
        }
        output.put(call.runtime.add_hooks(hooks).number());
        Ok(())
    })
}

/// `hot_reload_remove_hooks()`.
#[unsafe(no_mangle)]
pub extern "C" fn hot_reload_remove_hooks(id: u64) -> c_int {
    guarded(|| match Call::begin()?.runtime.remove_hooks(HooksId::from_number(id)) {
        true => Ok(()),
        false => {
            Err(Failure::argument(format!("there are no hooks {id}: they were removed, or never added")))
        }
    })
}
