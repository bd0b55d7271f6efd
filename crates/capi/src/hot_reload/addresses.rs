//! What there is at an address. Async-signal-safe, so without messages.

use std::ffi::{c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;

use midflight::{AddressDescription, ErrorKind, Standing, describe_address};

use crate::pointers::{Plain, fill_bytes};
use crate::runtime_types::Bool;
use crate::sized::{self, Sized};

/// `hot_reload_address_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct HotReloadAddress {
    pub struct_size: u32,
    pub standing: i32,
    pub version: u64,
    pub offset: u64,
    pub file_address: u64,
    pub is_code: Bool,
    pub reserved: [u8; 7],
    pub module: [c_char; 128],
    pub symbol: [c_char; 256],
    pub path: [c_char; 512],
}

// SAFETY: numbers, bytes and characters.
unsafe impl Plain for HotReloadAddress {}
// SAFETY: as the size says, below.
unsafe impl Sized for HotReloadAddress {}
const _: () = assert!(size_of::<HotReloadAddress>() == 2 * 4 + 3 * 8 + 8 + 128 + 256 + 512);

impl HotReloadAddress {
    fn of(found: &AddressDescription<'_>) -> Self {
        Self {
            struct_size: 0,
            standing: match found.standing {
                Standing::Coming => 1,
                Standing::Current => 2,
                Standing::Old => 3,
                Standing::Gone => 4,
                Standing::Trampoline => 5,
                // None that this knows.
                _ => 0,
            },
            version: found.version.unwrap_or(0),
            offset: found.offset,
            file_address: found.file_address,
            is_code: found.is_code.into(),
            reserved: [0; 7],
            module: fill_bytes(found.module.as_bytes()),
            symbol: fill_bytes(found.symbol.unwrap_or_default()),
            path: fill_bytes(found.path.map_or(&[], |path| path.as_os_str().as_bytes())),
        }
    }
}

/// `hot_reload_describe_address()`. Async-signal-safe.
///
/// # Safety
///
/// `description` is a `hot_reload_address_t` that says its size, or none at all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_describe_address(
    address: *const c_void,
    description: *mut HotReloadAddress,
) -> c_int {
    let Some(output) = sized::Output::quiet(description) else { return ErrorKind::InvalidArgument as c_int };
    match describe_address(address.cast(), |found| output.put(&HotReloadAddress::of(found))) {
        Some(()) => 0,
        None => ErrorKind::NotLoaded as c_int,
    }
}
