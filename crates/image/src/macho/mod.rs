//! Mach-O for arm64: dylibs and bundles, and object files linked here.
//!
//! ```text
//! identity.rs              which file it is, and of a universal one the part for arm64
//! commands.rs, bytes.rs    the load commands: where the tables are, what is asked for
//! segments.rs, sections.rs where each segment goes, and each page's final protection; what sections are for
//! exports.rs, symbols.rs   what the module defines
//! chained.rs, opcodes.rs   every fix-up looked at once, in either form (fixups.rs), before anything is written
//! tls.rs                   thread-local variables: the block, and the descriptors
//! =  Shared (shared.rs)
//! object/                  object files
//! unwind/                  compact unwind information, turned into DWARF
//! ```
//!
//! Apple's headers say what is in the tables (<mach-o/loader.h>, <mach-o/fixup-chains.h>,
//! <mach-o/nlist.h>), and dyld's sources what a loader makes of them.

mod bytes;
mod chained;
mod commands;
mod exports;
mod fixups;
mod format;
mod identity;
pub(crate) mod object;
mod opcodes;
mod sections;
mod segments;
mod shared;
mod symbols;
mod tls;
pub(crate) mod unwind;

use crate::source::{Input, Source};
use crate::{Error, Machine, archive};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Whether these files are for this reader: the first one says it.
pub(crate) fn is_macho(inputs: &[Input<'_>]) -> bool {
    let Some(first) = inputs.first() else { return false };
    if !archive::is_archive(first.bytes) {
        return identity::is_macho(first.bytes);
    }
    // What is wrong with an archive is said by who reads it.
    archive::members(first.bytes)
        .is_ok_and(|members| members.first().is_some_and(|member| identity::is_macho(member.bytes)))
}

/// Reads and checks a dylib or a bundle, or object files and archives.
pub(crate) fn parse<'data>(
    inputs: &[Input<'data>],
    machine: Machine,
    page_size: u64,
    max_span: u64,
) -> Result<Box<dyn Source<'data> + Send + Sync + 'data>, Error> {
    if machine != Machine::Aarch64 {
        return Err(identity::wrong_machine(inputs, machine));
    }
    // Of universal files the parts for arm64, which may be archives.
    let thin = |input: &Input<'data>| Ok(Input { bytes: identity::thin(input.bytes)?, ..*input });
    let inputs = inputs.iter().map(thin).collect::<Result<Vec<_>, Error>>()?;
    if let [one] = &inputs[..]
        && !archive::is_archive(one.bytes)
    {
        let (header, file_type) = identity::identify(one.bytes, machine)?;
        if file_type == identity::FileType::Shared {
            return Ok(Box::new(shared::Shared::parse(one.bytes, header, page_size, max_span)?));
        }
    }
    Ok(Box::new(object::Objects::parse(&inputs, page_size, max_span)?))
}
