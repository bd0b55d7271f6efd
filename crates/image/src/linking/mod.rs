//! What linking has in common, whatever the format of the files: names, sections and where they go.
//! ELF's object files are in `../elf/object`, Mach-O's in `../macho/object`.
//!
//! Each format has its own `resolve`, `symbols` and `relocate`, which look alike and differ by
//! nature. In ELF a common block prevails over a weak definition, in Mach-O it is the other way
//! round. ELF has groups, visibilities and versions of names, and Mach-O aliases, names that may be
//! hidden, and symbols that are shared wherever they stand in the table. ELF's relocations are
//! applied one by one, with instructions that are made shorter, and Mach-O's in pairs.

pub(crate) mod calls;
pub(crate) mod definition;
pub(crate) mod frames;
pub(crate) mod label;
pub(crate) mod layout;
pub(crate) mod members;
pub(crate) mod memory;
pub(crate) mod names;
pub(crate) mod section;
pub(crate) mod strings;
