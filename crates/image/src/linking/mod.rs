//! What linking has in common, whatever the format of the files: names, sections and where they go.
//! ELF's object files are in `../elf/object`, Mach-O's in `../macho/object`.

pub(crate) mod calls;
pub(crate) mod frames;
pub(crate) mod label;
pub(crate) mod layout;
pub(crate) mod members;
pub(crate) mod names;
pub(crate) mod section;
pub(crate) mod strings;
