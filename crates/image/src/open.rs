//! Which reader a module's files are for.

use alloc::boxed::Box;

use crate::elf::identity::{FileType, identify};
use crate::elf::object::Objects;
use crate::elf::shared::{self, Shared};
use crate::image::Image;
use crate::source::{Format, Input, Source};
use crate::{Error, Machine, archive, macho};

impl<'data> Image<'data> {
    /// Reads and checks a shared object (of Mach-O a dylib or bundle), an object file or a static
    /// archive. Whatever is not supported is refused here, before anything is mapped.
    ///
    /// `page_size` is that of the system that will run it. The memory of the image, and its
    /// alignment, may be `max_span` bytes at most.
    pub fn parse(bytes: &'data [u8], machine: Machine, page_size: u64, max_span: u64) -> Result<Self, Error> {
        Self::parse_all(&[Input { name: "", bytes }], machine, page_size, max_span)
    }

    /// As [`parse`](Self::parse), of a module that is made of several object files and archives, as
    /// they would stand on a linker's command line. A shared object stands alone.
    pub fn parse_all(
        inputs: &[Input<'data>],
        machine: Machine,
        page_size: u64,
        max_span: u64,
    ) -> Result<Self, Error> {
        let format = if macho::is_macho(inputs) { Format::MachO } else { Format::Elf };
        let source: Box<dyn Source<'data> + Send + Sync + 'data> = match inputs {
            _ if format == Format::MachO => macho::parse(inputs, machine, page_size, max_span)?,
            [one] if !archive::is_archive(one.bytes) => match identify(one.bytes, machine)? {
                (header, FileType::Shared) => {
                    Box::new(Shared::parse(one.bytes, header, machine, page_size, max_span)?)
                }
                (_, FileType::Object) => Box::new(Objects::parse(inputs, machine, page_size, max_span)?),
            },
            several => Box::new(Objects::parse(several, machine, page_size, max_span)?),
        };
        Ok(Self::new(machine, format, source))
    }

    /// How much of a shared object's file loading it needs, given its first bytes: without the
    /// tables for linkers and debuggers, which are a quarter of an ordinary file.
    /// [`symbols`](Self::symbols) and [`debug`](Self::debug) of so much of it are empty. None:
    /// all of it, as of other files and of what declares [states](Self::states), of which debug
    /// information says the layout; or it cannot be told.
    pub fn loaded_length(start: &[u8]) -> Option<u64> {
        shared::loaded_length(start)
    }
}
