//! A state that is made of what a version before has in another layout.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{mem, slice};

use crate::Outlives;

/// One state that is to be made of that of the version before.
#[derive(Debug)]
pub struct Migration<'m> {
    state: &'m str,
    old_schema: u32,
    old: &'m [u8],
    new: &'m mut [u8],
}

/// Why a state cannot be made: a code of the module's own, which the error of the load has. It is
/// not 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal(pub std::num::NonZero<i32>);

impl Refusal {
    /// What a function that panics comes to.
    pub const PANICKED: Self = Self(std::num::NonZero::<i32>::MIN);
    /// For states that the module does not know how to make.
    pub const UNKNOWN: Self = Self(std::num::NonZero::<i32>::MAX);
}

impl Migration<'_> {
    /// Its name, as in [`state!`](crate::state!).
    pub fn state(&self) -> &str {
        self.state
    }

    /// The schema version that the version before declares.
    pub fn old_schema(&self) -> u32 {
        self.old_schema
    }

    /// The version before's bytes. It has them again if it comes back.
    pub fn old_bytes(&self) -> &[u8] {
        self.old
    }

    /// The new version's bytes, which have the first value of the declaration.
    pub fn new_bytes(&mut self) -> &mut [u8] {
        self.new
    }

    /// Both, as what they are. None: one of them has another size, or another alignment.
    ///
    /// # Safety
    ///
    /// A version that declares `old_schema()` has this state as an `Old`, and this version has it
    /// as a `New`. No other thread holds locks that are in `Old`: nobody is inside the module now,
    /// but for who keeps a guard over frames.
    pub unsafe fn values<Old: Outlives, New: Outlives>(&mut self) -> Option<(&Old, &mut New)> {
        let fits = |bytes: &[u8], size: usize, align: usize| {
            bytes.len() == size && bytes.as_ptr().addr().is_multiple_of(align)
        };
        let fit = fits(self.old, size_of::<Old>(), mem::align_of::<Old>())
            && fits(self.new, size_of::<New>(), mem::align_of::<New>());
        // SAFETY: as large and as aligned as they are, and by the caller's word such values; the
        // new ones are this function's alone, as long as it has the bytes.
        fit.then(|| unsafe { (&*self.old.as_ptr().cast(), &mut *self.new.as_mut_ptr().cast()) })
    }
}

/// What `module_migrate_state` of a module does: calls the module's own function.
///
/// # Safety
///
/// The runtime calls it: the arguments are as `runtime_module.h` says.
#[doc(hidden)]
pub unsafe fn call(
    migrate: fn(&mut Migration<'_>) -> Result<(), Refusal>,
    state: *const c_char,
    old: (*const u8, usize, c_uint),
    new: (*mut u8, usize),
) -> c_int {
    // SAFETY: a string, and bytes of which the old ones are not changed and the new ones nobody
    // else's, as long as the call.
    let (state, old_bytes, new) = unsafe {
        (CStr::from_ptr(state), slice::from_raw_parts(old.0, old.1), slice::from_raw_parts_mut(new.0, new.1))
    };
    let Ok(state) = state.to_str() else { return Refusal::UNKNOWN.0.get() };
    let mut migration = Migration { state, old_schema: old.2, old: old_bytes, new };
    // What a panic leaves half-way is dropped with the new version.
    match catch_unwind(AssertUnwindSafe(|| migrate(&mut migration))) {
        Ok(Ok(())) => 0,
        Ok(Err(refusal)) => refusal.0.get(),
        Err(_) => Refusal::PANICKED.0.get(),
    }
}

/// Names the function that makes states of what a version before has in another layout:
/// `module_migrate_state()` of `runtime_module.h`. A module has one.
///
/// ```
/// use midflight_module::{Migration, Refusal};
///
/// midflight_module::migrate!(migrate);
///
/// fn migrate(change: &mut Migration<'_>) -> Result<(), Refusal> {
///     match (change.state(), change.old_schema()) {
///         // Seconds have become milliseconds.
///         ("TIME", 1) => {
///             // SAFETY: so it was in version 1, and is now.
///             let (seconds, milliseconds) =
///                 unsafe { change.values::<f64, u64>() }.ok_or(Refusal::UNKNOWN)?;
///             *milliseconds = (seconds * 1000.0) as u64;
///             Ok(())
///         }
///         _ => Err(Refusal::UNKNOWN),
///     }
/// }
/// ```
///
/// It is called as docs/state.md says, while nobody is inside the module. What it returns as an
/// error refuses the load, and so does a panic; nothing has changed then.
#[macro_export]
macro_rules! migrate {
    ($function:path) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn module_migrate_state(
            state: *const ::core::ffi::c_char,
            old_bytes: *const u8,
            old_size: usize,
            old_schema: ::core::ffi::c_uint,
            new_bytes: *mut u8,
            new_size: usize,
        ) -> ::core::ffi::c_int {
            // SAFETY: the runtime's word.
            unsafe {
                $crate::call($function, state, (old_bytes, old_size, old_schema), (new_bytes, new_size))
            }
        }
    };
}
