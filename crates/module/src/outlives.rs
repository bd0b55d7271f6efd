//! What may be kept while code is replaced.

use std::cell::UnsafeCell;
use std::sync::atomic::*;
#[cfg(target_os = "linux")]
use std::sync::{Mutex, RwLock};

/// A type whose values stay good when the code that made them is gone.
///
/// Numbers are such, atomics of them, and arrays and locks of what is such. For a structure of
/// your own say so:
///
/// ```
/// use midflight_module::Outlives;
/// use std::sync::atomic::AtomicU64;
///
/// #[repr(C)]
/// struct World {
///     tick: AtomicU64,
///     agents: [AtomicU64; 1000],
/// }
///
/// // SAFETY: numbers only, and `repr(C)` lays them out alike in each version.
/// unsafe impl Outlives for World {}
/// ```
///
/// # Safety
///
/// - No value has an address of the module in it: no `&'static str` and no other reference to a
///   static, no function, no `dyn Trait`, no `std::thread::LocalKey`, no `TypeId`. Addresses of the
///   heap are good if the module's allocator is the process's, as it is unless there is a
///   `#[global_allocator]`: a `Vec` of such values may be kept, but see the next point.
/// - Each version of the module that has the same schema version lays the type out alike: it is
///   `repr(C)`, a number, or of the standard library and all versions are built by the same
///   compiler. With debug information in both versions that is checked when a version is loaded.
/// - Nothing is lost if a value is never dropped: states are not.
pub unsafe trait Outlives: 'static {}

macro_rules! outlive {
    ($($what:ty),+ $(,)?) => {$(
        // SAFETY: it is a number.
        unsafe impl Outlives for $what {}
    )+};
}

outlive!(
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    f32,
    f64,
    (),
    AtomicBool,
    AtomicU8,
    AtomicU16,
    AtomicU32,
    AtomicU64,
    AtomicUsize,
    AtomicI8,
    AtomicI16,
    AtomicI32,
    AtomicI64,
    AtomicIsize,
);

// SAFETY: values one behind the other.
unsafe impl<T: Outlives, const N: usize> Outlives for [T; N] {}
// SAFETY: the value alone.
unsafe impl<T: Outlives> Outlives for UnsafeCell<T> {}
// SAFETY: on Linux, where states are, a number that the kernel waits at, a mark, and the value.
#[cfg(target_os = "linux")]
unsafe impl<T: Outlives> Outlives for Mutex<T> {}
// SAFETY: as above, with two numbers.
#[cfg(target_os = "linux")]
unsafe impl<T: Outlives> Outlives for RwLock<T> {}
