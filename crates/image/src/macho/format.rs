//! The shapes that Mach-O is read in.

use crate::Error;
pub(crate) use ::object::LittleEndian as LE;
use ::object::macho;

pub(crate) type Header = macho::MachHeader64<LE>;
pub(crate) type Short = ::object::U16<LE>;
pub(crate) type Half = ::object::U32<LE>;
pub(crate) type Word = ::object::U64<LE>;

/// A linked file has a map of its object files only, which may be gone; and those of several are
/// not one without being rewritten.
pub(crate) const DEBUG_OMITTED: &str = "debug information of Mach-O files is not read; that of ELF files is, on Linux: build the module as such to have it";

pub(crate) fn malformed(table: &'static str, problem: &'static str, at: u64) -> Error {
    Error::Malformed { table, problem, at }
}

/// The first `count` entries of a table, none if there are not that many bytes.
pub(crate) fn table_of<T: ::object::Pod>(bytes: &[u8], count: usize) -> &[T] {
    ::object::pod::slice_from_bytes(bytes, count).map_or(&[], |(table, _)| table)
}
