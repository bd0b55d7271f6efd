//! Structures that grow: they begin with `uint32_t struct_size`, which the caller sets to what its
//! compiler made of them. So a host that was compiled with earlier or later headers than this
//! library's is understood.
//!
//! The rule is that of Linux's openat2(2) and clone3(2). An input that is shorter than we know it
//! is completed with zeroes, which are the defaults; one that is longer is taken if what we do not
//! know of it is zero. Of an output, what both know is written, and what only the caller knows is
//! zeroed. Fields are only added at the end, and none leaves a gap: what is padding today would be
//! a field of garbage tomorrow (`tests/layout.rs`).

use std::ops::RangeInclusive;

use crate::errors::{Failure, Outcome};
use crate::pointers::{Plain, check};
use crate::probe::{Access, is_accessible};
use midflight::ErrorKind;

/// A structure that grows.
///
/// # Safety
///
/// It begins with `struct_size: u32`, and has no padding.
pub(crate) unsafe trait Sized: Plain {}

/// What a structure may say. What is not set is seldom in here; and whether memory can be written
/// is asked of 8 bytes at least.
const SIZES: RangeInclusive<usize> = 8..=4096;
const SIZE: usize = size_of::<u32>();

/// The size that a caller says a structure has.
fn size_of_given<T>(pointer: *const T, what: &str) -> Outcome<usize> {
    check(pointer.addr(), align_of::<T>(), SIZE, Access::Read, what)?;
    // SAFETY: there and aligned.
    let size = unsafe { pointer.cast::<u32>().read() } as usize;
    match SIZES.contains(&size) {
        true => Ok(size),
        false => Err(Failure::argument(format!("{what}: its struct_size is {size}: set it to its sizeof"))),
    }
}

/// A copy of an input.
pub(crate) fn read<T: Sized>(pointer: *const T, what: &str) -> Outcome<T> {
    let size = size_of_given(pointer, what)?;
    check(pointer.addr(), align_of::<T>(), size, Access::Read, what)?;
    let known = size.min(size_of::<T>());
    // SAFETY: so many bytes can be read; any pattern is a value, and so are zeroes behind it.
    let (value, unknown) = unsafe {
        let mut value: T = std::mem::zeroed();
        (&raw mut value).cast::<u8>().copy_from_nonoverlapping(pointer.cast(), known);
        (value, std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known))
    };
    match unknown.iter().position(|byte| *byte != 0) {
        None => Ok(value),
        Some(at) => Err(Failure::new(
            ErrorKind::Unsupported,
            format!(
                "{what}: at offset {} it is not 0, where this midflight ({}) knows no field: it was compiled for a later one",
                known + at,
                env!("CARGO_PKG_VERSION")
            ),
        )),
    }
}

/// A structure of the library's own that a callback is given: as long as the caller knows it.
pub(crate) struct Told {
    size: usize,
    words: [u64; *SIZES.end() / 8],
}

impl Told {
    /// `size`: that of the structure, as the caller knows it.
    pub(crate) fn new(size: usize, what: &str) -> Outcome<Self> {
        match SIZES.contains(&size) {
            true => Ok(Self { size, words: [0; *SIZES.end() / 8] }),
            false => Err(Failure::argument(format!("struct_size is {size}: set it to sizeof({what})"))),
        }
    }

    pub(crate) fn of<T: Sized>(&mut self, value: &T) -> *const T {
        const { assert!(align_of::<T>() <= align_of::<u64>() && size_of::<T>() <= *SIZES.end()) };
        let to = self.words.as_mut_ptr();
        // SAFETY: there is room for the largest; what is behind the value is 0.
        unsafe {
            to.cast::<u8>()
                .copy_from_nonoverlapping((&raw const *value).cast(), size_of::<T>().min(self.size));
            to.cast::<u32>().write(self.size as u32);
        }
        to.cast()
    }
}

/// Where a result goes. It has zeroes so far, but for its size.
#[derive(Debug)]
pub(crate) struct Output<T>(*mut T, usize);

impl<T: Sized> Output<T> {
    pub(crate) fn new(pointer: *mut T, what: &str) -> Outcome<Self> {
        let size = size_of_given(pointer, what)?;
        check(pointer.addr(), align_of::<T>(), size, Access::Write, what)?;
        Ok(Self::zeroed(pointer, size))
    }

    /// As above, async-signal-safe: without a message.
    pub(crate) fn quiet(pointer: *mut T) -> Option<Self> {
        let is_there =
            !pointer.is_null() && pointer.is_aligned() && is_accessible(pointer.addr(), SIZE, Access::Read);
        // SAFETY: there and aligned.
        let size = is_there.then(|| unsafe { pointer.cast::<u32>().read() } as usize)?;
        let can = SIZES.contains(&size) && is_accessible(pointer.addr(), size, Access::Write);
        can.then(|| Self::zeroed(pointer, size))
    }

    fn zeroed(pointer: *mut T, size: usize) -> Self {
        // SAFETY: so many bytes can be written, and whatever was behind the size has no meaning.
        // The size itself has been overwritten by the look.
        unsafe {
            pointer.cast::<u8>().write_bytes(0, size);
            pointer.cast::<u32>().write(size as u32);
        }
        Self(pointer, size)
    }

    /// Its `struct_size` stays the caller's.
    pub(crate) fn put(&self, value: &T) {
        let known = self.1.min(size_of::<T>());
        // SAFETY: checked when it was made, and outputs are the callee's during the call.
        unsafe {
            let (to, from) = (self.0.cast::<u8>(), (&raw const *value).cast::<u8>());
            to.add(SIZE).copy_from_nonoverlapping(from.add(SIZE), known - SIZE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[repr(C)]
    struct Today {
        struct_size: u32,
        count: u32,
        address: u64,
        limit: u64,
    }
    // SAFETY: numbers.
    unsafe impl Plain for Today {}
    // SAFETY: 4 + 4 + 8 + 8.
    unsafe impl Sized for Today {}

    const TODAY: usize = size_of::<Today>();
    const MORE: usize = TODAY + 16;

    #[repr(C, align(8))]
    struct Given([u8; MORE + 8]);

    impl Given {
        /// As large as it says, each byte but those behind `set` having its own value.
        fn new(size: usize, set: usize) -> Self {
            let mut bytes = [0xEE; MORE + 8];
            for (at, byte) in bytes.iter_mut().enumerate().take(size) {
                *byte = if at < set { at as u8 + 1 } else { 0 };
            }
            bytes[..4].copy_from_slice(&(size as u32).to_le_bytes());
            Self(bytes)
        }

        fn pointer(&mut self) -> *mut Today {
            self.0.as_mut_ptr().cast()
        }
    }

    fn bytes(value: &Today) -> [u8; TODAY] {
        // SAFETY: it has no padding.
        unsafe { std::mem::transmute(*value) }
    }

    #[test]
    fn inputs_of_every_size() {
        for size in 8..=MORE {
            for set in 8..=size {
                let mut given = Given::new(size, set);
                let read = read(given.pointer(), "options");
                if set > TODAY {
                    let failure = read.unwrap_err();
                    assert_eq!(failure.kind, ErrorKind::Unsupported);
                    assert!(
                        failure.message.contains(&format!("options: at offset {TODAY} ")),
                        "{}",
                        failure.message
                    );
                    continue;
                }
                let read = bytes(&read.unwrap());
                let known = size.min(TODAY);
                assert_eq!(read[..known], given.0[..known], "{size} {set}");
                assert!(read[known..].iter().all(|byte| *byte == 0), "{size} {set}");
            }
        }
        // Where it is that is not known.
        let mut given = Given::new(MORE, 8);
        given.0[MORE - 1] = 1;
        let failure = read(given.pointer(), "options").unwrap_err();
        assert!(failure.message.contains(&format!("at offset {} ", MORE - 1)), "{}", failure.message);
    }

    #[test]
    fn outputs_of_every_size() {
        let value = Today { struct_size: 0, count: 0x0101_0101, address: !0, limit: 0x1234_5678_9abc_def0 };
        for size in 8..=MORE {
            for quiet in [false, true] {
                let mut given = Given::new(size, size);
                let pointer = given.pointer();
                let output = match quiet {
                    true => Output::quiet(pointer).unwrap(),
                    false => Output::new(pointer, "info").unwrap(),
                };
                // Only its zeroes.
                assert!(given.0[4..size].iter().all(|byte| *byte == 0), "{size}");
                assert!(given.0[size..].iter().all(|byte| *byte == 0xEE), "{size}");
                output.put(&value);
                let known = size.min(TODAY);
                assert_eq!(given.0[..4], (size as u32).to_le_bytes());
                assert_eq!(given.0[4..known], bytes(&value)[4..known], "{size}");
                assert!(given.0[known..size].iter().all(|byte| *byte == 0), "{size}");
                assert!(given.0[size..].iter().all(|byte| *byte == 0xEE), "{size}");

                let mut told = Told::new(size, "today").unwrap();
                for _ in 0..2 {
                    // SAFETY: so many bytes are told.
                    let told = unsafe { std::slice::from_raw_parts(told.of(&value).cast::<u8>(), size) };
                    assert_eq!(told, &given.0[..size]);
                }
            }
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for size in [0, 1, 7, 4097, 0xEEEE_EEEE, u32::MAX] {
            let mut given = Given::new(8, 8);
            given.0[..4].copy_from_slice(&size.to_le_bytes());
            let failures = [
                read(given.pointer(), "options").unwrap_err(),
                Output::new(given.pointer(), "options").unwrap_err(),
            ];
            for failure in failures {
                assert_eq!(failure.kind, ErrorKind::InvalidArgument);
                let expected = format!("options: its struct_size is {size}: set it to its sizeof");
                assert_eq!(failure.message, expected);
            }
            assert!(Output::quiet(given.pointer()).is_none());
            assert!(Told::new(size as usize, "today").is_err());
        }
        let none = std::ptr::null_mut::<Today>();
        assert_eq!(read(none, "options").unwrap_err().message, "options is NULL");
        assert!(Output::quiet(none).is_none());
        assert!(Output::quiet(none.wrapping_byte_add(3)).is_none());
        assert!(Output::quiet(none.wrapping_byte_add(64)).is_none());
    }
}
