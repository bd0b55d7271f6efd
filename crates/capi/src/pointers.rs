//! What C gives us: checked, and copied.

use std::ffi::{CString, OsString, c_char};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::errors::{Failure, Outcome};
use crate::probe::{Access, PAGE, is_accessible};

/// The longest string, without its zero.
const LONGEST: usize = 4095;

/// A structure of the headers.
///
/// # Safety
///
/// Every pattern of bits is a value of it; it has the layout of the header's.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: pointers have no invalid values.
unsafe impl<T> Plain for *mut T {}
// SAFETY: as above.
unsafe impl<T> Plain for *const T {}
// SAFETY: a number.
unsafe impl Plain for u64 {}

pub(crate) fn check(address: usize, align: usize, size: usize, access: Access, what: &str) -> Outcome {
    if address == 0 {
        return Err(Failure::argument(format!("{what} is NULL")));
    }
    if !address.is_multiple_of(align) {
        return Err(Failure::argument(format!(
            "{what} is {address:#x}, which is not aligned to {align} bytes"
        )));
    }
    if !is_accessible(address, size, access) {
        let can = if access == Access::Read { "read" } else { "written" };
        return Err(Failure::argument(format!("{what}: the {size} bytes at {address:#x} cannot be {can}")));
    }
    Ok(())
}

/// A copy of an argument.
pub(crate) fn read<T: Plain>(pointer: *const T, what: &str) -> Outcome<T> {
    check(pointer.addr(), align_of::<T>(), size_of::<T>(), Access::Read, what)?;
    // SAFETY: there, aligned, and any pattern is a value.
    Ok(unsafe { pointer.read() })
}

/// A copy of an array.
pub(crate) fn array<T: Plain>(pointer: *const T, count: usize, what: &str) -> Outcome<Vec<T>> {
    let size = size_of::<T>().saturating_mul(count);
    check(pointer.addr(), align_of::<T>(), size, Access::Read, what)?;
    // SAFETY: as above, of each.
    Ok((0..count).map(|i| unsafe { pointer.add(i).read() }).collect())
}

/// Where a result goes. It has zeroes so far.
pub(crate) struct Output<T>(*mut T);

impl<T: Plain> Output<T> {
    pub(crate) fn new(pointer: *mut T, what: &str) -> Outcome<Self> {
        check(pointer.addr(), align_of::<T>(), size_of::<T>(), Access::Write, what)?;
        // SAFETY: there and aligned; whatever was there has no meaning.
        unsafe { pointer.write_bytes(0, 1) };
        Ok(Self(pointer))
    }

    pub(crate) fn put(&self, value: T) {
        // SAFETY: checked when it was made; outputs are the callee's during the call.
        unsafe { self.0.write(value) };
    }
}

fn bytes(pointer: *const c_char, what: &str) -> Outcome<Vec<u8>> {
    if pointer.is_null() {
        return Err(Failure::argument(format!("{what} is NULL")));
    }
    let mut bytes = Vec::new();
    while bytes.len() <= LONGEST {
        let at = pointer.addr() + bytes.len();
        if !is_accessible(at, 1, Access::Read) {
            return Err(Failure::argument(format!(
                "{what}: the string at {:#x} cannot be read",
                pointer.addr()
            )));
        }
        let in_page = (PAGE - at % PAGE).min(LONGEST + 1 - bytes.len());
        // SAFETY: so many bytes of the page can be read. What is behind the string's zero is
        // somebody else's, who may be writing it: only up to it becomes a slice.
        let (zero, part) = unsafe {
            let start = pointer.add(bytes.len());
            let zero = libc::memchr(start.cast(), 0, in_page);
            let size = if zero.is_null() { in_page } else { zero.addr() - at };
            (zero, std::slice::from_raw_parts(start.cast::<u8>(), size))
        };
        bytes.extend_from_slice(part);
        if !zero.is_null() {
            return Ok(bytes);
        }
    }
    Err(Failure::argument(format!("{what} is longer than {LONGEST} bytes, or has no zero at its end")))
}

/// A file's path: any bytes, but some.
pub(crate) fn path(pointer: *const c_char, what: &str) -> Outcome<PathBuf> {
    match bytes(pointer, what)? {
        none if none.is_empty() => Err(Failure::argument(format!("{what} is empty"))),
        bytes => Ok(OsString::from_vec(bytes).into()),
    }
}

/// The name of a module or a symbol.
pub(crate) fn name(pointer: *const c_char, what: &str) -> Outcome<String> {
    match String::from_utf8(bytes(pointer, what)?) {
        Ok(name) if name.is_empty() => Err(Failure::argument(format!("{what} is empty"))),
        Ok(name) => Ok(name),
        Err(error) => Err(Failure::argument(format!("{what} is not UTF-8: {error}"))),
    }
}

/// A text for C: what C would take for its end is left out.
pub(crate) fn c_string(text: impl Into<Vec<u8>>) -> CString {
    let mut text = text.into();
    text.retain(|&byte| byte != 0);
    CString::new(text).expect("it has no zero")
}

/// A text that is written where C wants it, as much of it as has room. Async-signal-safe.
pub(crate) struct Text {
    at: *mut c_char,
    /// Without the zero.
    room: usize,
    length: usize,
}

impl Text {
    /// None if there is no room for 8 bytes.
    pub(crate) fn new(at: *mut c_char, size: usize) -> Option<Self> {
        const LEAST: usize = 8;
        let size = size.min(isize::MAX as usize);
        let has_room = !at.is_null() && size >= LEAST && is_accessible(at.addr(), size, Access::Write);
        has_room.then(|| Self { at, room: size - 1, length: 0 })
    }

    pub(crate) fn end(self) {
        // SAFETY: room was left for it.
        unsafe { self.at.add(self.length).write(0) };
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let mut end = text.len().min(self.room - self.length);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let part = &text[..end];
        // SAFETY: the caller's memory, which was looked at.
        unsafe { self.at.add(self.length).cast::<u8>().copy_from(part.as_ptr(), part.len()) };
        self.length += part.len();
        if part.len() == text.len() { Ok(()) } else { Err(std::fmt::Error) }
    }
}

/// Puts a text into a field of characters, as much of it as has room.
pub(crate) fn fill<const N: usize>(text: &str) -> [c_char; N] {
    let mut room = text.len().min(N - 1);
    while !text.is_char_boundary(room) {
        room -= 1;
    }
    fill_bytes(&text.as_bytes()[..room])
}

/// As above, of what may not be UTF-8. Async-signal-safe.
pub(crate) fn fill_bytes<const N: usize>(text: &[u8]) -> [c_char; N] {
    let mut field = [0; N];
    for (to, from) in field[..N - 1].iter_mut().zip(text) {
        *to = *from as c_char;
    }
    field
}

/// The text of a field that the host may have changed: up to its zero, or its end.
pub(crate) fn text(field: &[c_char]) -> String {
    let bytes: Vec<u8> = field.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    fn message<T>(outcome: Outcome<T>) -> String {
        outcome.err().expect("it is refused").message
    }

    #[test]
    fn strings() {
        let at = |text: &[u8]| text.as_ptr().cast::<c_char>();
        assert_eq!(name(at(b"physics\0more\0"), "module").ok().as_deref(), Some("physics"));
        assert_eq!(message(name(ptr::null(), "module")), "module is NULL");
        assert_eq!(message(name(at(b"\0"), "module")), "module is empty");
        assert!(message(name(at(b"a\xff\0"), "module")).starts_with("module is not UTF-8"));
        assert_eq!(path(at(b"/tmp/\xff\0"), "path").ok().unwrap().into_os_string().into_vec(), b"/tmp/\xff");
        assert_eq!(message(name(8 as *const c_char, "symbol")), "symbol: the string at 0x8 cannot be read");
        assert!(message(name(usize::MAX as *const c_char, "symbol")).ends_with("cannot be read"));

        let mut long = vec![b'x'; LONGEST];
        long.push(0);
        assert_eq!(name(at(&long), "symbol").ok().unwrap().len(), LONGEST);
        *long.last_mut().unwrap() = b'x';
        long.push(0);
        assert!(message(name(at(&long), "symbol")).contains("longer than 4095 bytes"));
    }

    #[test]
    fn a_string_that_ends_at_the_end_of_what_is_mapped() {
        // SAFETY: new memory, taken away again.
        unsafe {
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let memory =
                libc::mmap(ptr::null_mut(), 2 * page, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            assert_ne!(memory, libc::MAP_FAILED);
            assert_eq!(libc::munmap(memory.byte_add(page), page), 0);
            let end = memory.byte_add(page).cast::<c_char>();
            ptr::copy_nonoverlapping(c"abc".as_ptr(), end.sub(4), 4);
            assert_eq!(name(end.sub(4), "symbol").ok().as_deref(), Some("abc"));
            end.sub(1).write(b'd' as c_char);
            assert!(message(name(end.sub(4), "symbol")).ends_with("cannot be read"));
            libc::munmap(memory, page);
        }
    }

    #[test]
    fn structures() {
        let value = 5 as *const u8;
        assert_eq!(read(&raw const value, "value").ok(), Some(value));
        assert_eq!(message(read(ptr::null::<*const u8>(), "value")), "value is NULL");
        let odd = (&raw const value).wrapping_byte_add(1);
        assert!(message(read(odd, "value")).ends_with("not aligned to 8 bytes"));
        assert!(message(Output::new(odd.cast_mut(), "value")).ends_with("not aligned to 8 bytes"));
        assert!(
            message(read(64 as *const *const u8, "value")).ends_with("the 8 bytes at 0x40 cannot be read")
        );
        static CONSTANT: usize = 7;
        let constant = (&raw const CONSTANT).cast::<*const u8>().cast_mut();
        assert!(message(Output::new(constant, "value")).ends_with("cannot be written"));
        assert_eq!(message(array(ptr::null::<*const u8>(), 2, "values")), "values is NULL");
        assert!(array(&raw const value, 1 << 40, "values").is_err());
        assert!(array(&raw const value, usize::MAX, "values").is_err());
    }

    #[test]
    fn texts_in_fields() {
        assert_eq!(fill::<4>("abcdef"), [b'a' as c_char, b'b' as c_char, b'c' as c_char, 0]);
        assert_eq!(fill::<4>(""), [0; 4]);
        // A character of two bytes is there or not.
        assert_eq!(fill::<4>("abé"), [b'a' as c_char, b'b' as c_char, 0, 0]);
        assert_eq!(c_string("a\0b").as_bytes(), b"ab");
    }
}
