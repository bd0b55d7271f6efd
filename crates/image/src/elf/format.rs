//! The shapes that ELF64, little-endian, is read in.

use crate::Error;
use ::object::LittleEndian as LE;
use ::object::elf;

pub(crate) type Header = elf::FileHeader64<LE>;
pub(crate) type Half = ::object::U32<LE>;
pub(crate) type Word = ::object::U64<LE>;

pub(crate) fn malformed(table: &'static str, problem: &'static str, at: u64) -> Error {
    Error::Malformed { table, problem, at }
}

/// The first `count` entries of a table, none if there are not that many bytes.
pub(crate) fn table_of<T: ::object::Pod>(bytes: &[u8], count: usize) -> &[T] {
    ::object::pod::slice_from_bytes(bytes, count).map_or(&[], |(table, _)| table)
}
