//! What macOS lacks of Linux: names for mappings, and executable memory behind a descriptor.

use std::fs::File;
use std::io;
use std::ptr::NonNull;

use midflight_image::Protection;

pub(crate) use crate::os::posix::memory::{
    discard, map_zeroed, page_size, protect, release, reserve_aligned, unreserve, write_all_at,
};

/// macOS has no names for anonymous mappings.
pub(crate) fn name(_at: NonNull<u8>, _len: usize, _text: &str) {}

fn no_memfd<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "Backing::Memfd needs Linux; use Backing::WriteOnce"))
}

/// Linux only.
pub(crate) fn shared_memory(_len: usize, _name: &str) -> io::Result<File> {
    no_memfd()
}

/// Linux only.
///
/// # Safety
///
/// None needed: it always fails.
pub(crate) unsafe fn map_private(
    _at: NonNull<u8>,
    _len: usize,
    _protection: Protection,
    _memory: &File,
    _offset: usize,
) -> io::Result<()> {
    no_memfd()
}

/// Linux only.
pub(crate) fn punch_hole(_memory: &File, _offset: usize, _len: usize) -> io::Result<()> {
    no_memfd()
}

/// Code that must be in a window of addresses is that of x86-64 or of object files for Linux.
pub(crate) fn reserve_within(
    _: usize,
    _: usize,
    _: usize,
    _: usize,
    _: usize,
) -> io::Result<(NonNull<u8>, usize)> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "modules that need a certain address: compile them with -fPIC",
    ))
}
