//! Sections: which of them are loaded, among what, and which have a meaning of their own. Apple's
//! <mach-o/loader.h>, at `section_64`.

use super::super::sections::{name, refusal};
use super::file::{File, is_zero};
use crate::Error;
use crate::linking::calls::{Calls, LAST, Turn};
use crate::linking::frames;
use crate::linking::section::{Part, Role, Section, State};
use crate::macho::format::{LE, malformed};
use object::macho;

/// What a section is, as far as not every section is treated like it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Plain,
    /// `S_THREAD_LOCAL_VARIABLES`: three words for each variable.
    Descriptors,
    /// `__LD,__compact_unwind`: for the linker, who makes something else of it.
    CompactUnwind,
    /// `__TEXT,__eh_frame`.
    Frames,
    /// `__midflight`: what the module says of itself.
    Notes,
}

/// Reads the header of a section of `file`.
pub(super) fn read<'data>(file: &File<'data>, index: u32) -> Result<(Section<'data>, Kind), Error> {
    let header = file.sections[index as usize];
    let (section_name, segment) = (name(&header.sectname), name(&header.segname));
    let flags = header.flags.get(LE);
    let section_type = flags & macho::SECTION_TYPE;
    let mut section = Section { size: header.size.get(LE), ..Section::own(Part::Constants) };
    let unsupported =
        |problem| Err(Error::UnsupportedSection { section: file.section_label(index), problem });
    section.align = 1u64
        .checked_shl(header.align.get(LE))
        .ok_or_else(|| malformed("table of sections", "an alignment is too large", index.into()))?;
    if &*segment == "__LD" && &*section_name == "__compact_unwind" {
        section.bytes = file.contents(header)?;
        section.state = State::NotLoaded;
        return Ok((section, Kind::CompactUnwind));
    }
    let for_tools = matches!(&*segment, "__DWARF" | "__LD" | "__LLVM" | "__LINKEDIT")
        || matches!(&*section_name, "__llvm_addrsig" | "__unwind_info");
    if for_tools || flags & macho::S_ATTR_DEBUG != 0 {
        section.state = State::NotLoaded;
        return Ok((section, Kind::Plain));
    }
    if section.size != 0
        && let Some(problem) = refusal(&section_name, &header.segname, section_type)
    {
        return unsupported(problem);
    }
    section.bytes = file.contents(header)?;
    let turn = |calls| Role::Calls(Turn { calls, priority: LAST, backwards: false });
    let code = flags & (macho::S_ATTR_PURE_INSTRUCTIONS | macho::S_ATTR_SOME_INSTRUCTIONS) != 0;
    let text = segment.starts_with("__TEXT");
    let mut kind = Kind::Plain;
    let part = match section_type {
        macho::S_THREAD_LOCAL_REGULAR => Part::Template,
        macho::S_THREAD_LOCAL_ZEROFILL => Part::TemplateZero,
        macho::S_THREAD_LOCAL_VARIABLES => {
            kind = Kind::Descriptors;
            Part::Relocated
        }
        macho::S_MOD_INIT_FUNC_POINTERS => {
            section.role = turn(Calls::Init);
            Part::Relocated
        }
        macho::S_MOD_TERM_FUNC_POINTERS => {
            section.role = turn(Calls::Fini);
            Part::Relocated
        }
        macho::S_LITERAL_POINTERS => Part::Relocated,
        macho::S_REGULAR
        | macho::S_COALESCED
        | macho::S_ZEROFILL
        | macho::S_GB_ZEROFILL
        | macho::S_CSTRING_LITERALS
        | macho::S_4BYTE_LITERALS
        | macho::S_8BYTE_LITERALS
        | macho::S_16BYTE_LITERALS => {
            if &*section_name == "__eh_frame" {
                kind = Kind::Frames;
                section.bytes = frames::records(section.bytes)?;
                section.size = section.bytes.len() as u64;
                Part::Frames
            } else if code && !text {
                return unsupported("is code among variables: keep code in the segment __TEXT");
            } else if is_zero(header) {
                Part::Zero
            } else if code {
                Part::Code
            } else if &*section_name == "__midflight" {
                kind = Kind::Notes;
                Part::Constants
            } else if text {
                Part::Constants
            } else if &*section_name == "__const" || segment.starts_with("__DATA_CONST") {
                Part::Relocated
            } else {
                Part::Variables
            }
        }
        macho::S_NON_LAZY_SYMBOL_POINTERS
        | macho::S_LAZY_SYMBOL_POINTERS
        | macho::S_SYMBOL_STUBS
        | macho::S_THREAD_LOCAL_VARIABLE_POINTERS => {
            return unsupported(
                "has entries for the linker in a form of before arm64: compile for macOS 11 or later",
            );
        }
        _ => return unsupported("is of a type that is not known here: compile without what asks for it"),
    };
    section.state = State::Kept(part);
    Ok((section, kind))
}
