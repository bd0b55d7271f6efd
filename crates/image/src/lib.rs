//! From the bytes of a native module to a linked image.
//!
//! The path, and the file that holds each step:
//!
//! ```text
//! bytes of the file
//!   -> open.rs               which reader the files are for
//!   -> elf/identity.rs       class, byte order, machine, kind of file
//!   -> elf/shared/           a shared object:
//!        segments.rs         where each segment goes, and each page's final protection
//!        tls.rs, eh_frame.rs its thread-local block; its call frame information
//!        notes.rs, ../note.rs what it says of itself
//!        dynamic.rs          the dynamic table: where the other tables are, what is asked for
//!        symbols.rs, hash.rs, versions.rs, ../../linking/strings.rs
//!        uses.rs             every relocation looked at once, before anything is written
//!        local_exec.rs       what a linker has let pass that only a program can do
//!   -> macho/                the same of Mach-O files for arm64 (macho/mod.rs says what is where)
//!   =  Image                 what has been checked; it borrows from the bytes (image.rs, source.rs, parts.rs)
//!   -> Image::link           segments copied, fix-ups applied (relocate.rs, fixup.rs) for one address
//!   -> Image::init           what the module wants called, read back from the linked memory
//! ```
//!
//! What the caller owes: the bytes do not change while an [`Image`] borrows them; the memory given
//! to [`Image::link`] is zeroed, will execute at the address given with it, and gets the
//! protections of [`Image::regions`] afterwards. What the caller gets: no input makes this crate
//! panic, read or write out of bounds, loop without end, or allocate more than a small multiple of
//! the file's size; and whatever is not supported is refused by name in [`Image::parse`], before
//! anything has been mapped.
//!
//! Nothing here is chosen by the machine it runs on: both instruction sets are compiled and tested
//! on every host, and the page size is a parameter.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod archive;
pub mod debug;
mod elf;
mod error;
pub mod fixup;
#[doc(hidden)]
pub mod fuzzing;
mod image;
mod linking;
mod machine;
mod macho;
mod open;
mod pages;
mod parts;
mod shared_definitions;
mod source;
pub mod unwind;

pub use elf::note::DeclaredState;
pub use elf::shared::ExportTables;
pub use error::{Error, NoteProblem, Refusal};
pub use image::Image;
pub use machine::Machine;
pub use parts::{
    Binding, Export, ExportKind, Host, Import, ImportKind, Indirect, Lookup, Protection, Region, ThreadLocal,
    ThreadLocals, Unwind, Verbatim, Window,
};
pub use source::{Format, Input};
