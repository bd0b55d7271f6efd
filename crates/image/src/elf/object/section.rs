//! Sections: which of them are loaded, and among what.

use super::calls;
use super::file::{File, SectionHeader};
use crate::elf::format::malformed;
use crate::error::label;
use crate::linking::frames;
use crate::linking::section::{Part, Role, Section, State};
use crate::{Error, Machine};
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::SectionHeader as _;

/// Of binutils 2.40 and later.
const SHT_GNU_SFRAME: u32 = 0x6FFF_FFF4;

/// Reads the header of a section of `file`.
pub(super) fn read<'data>(
    file: &File<'data>,
    header: &SectionHeader,
    machine: Machine,
) -> Result<Section<'data>, Error> {
    let mut section = Section {
        state: State::NotLoaded,
        size: header.sh_size(LE),
        align: header.sh_addralign(LE).max(1),
        ..Section::own(Part::Constants)
    };
    let has = |flag: u32| header.sh_flags(LE) & u64::from(flag) != 0;
    if !has(elf::SHF_ALLOC) || has(elf::SHF_EXCLUDE) {
        refuse(file, header)?;
        return Ok(section);
    }
    let name = file.section_name(header)?;
    let unsupported = |problem| {
        let section = label(file.section_bytes(header)?);
        Err(Error::UnsupportedSection { section, problem })
    };
    let unwind = header.sh_type(LE) == elf::SHT_X86_64_UNWIND && machine == Machine::X86_64;
    match header.sh_type(LE) {
        // For unwinders that are told of it by a segment (PT_GNU_SFRAME), which an image has not.
        SHT_GNU_SFRAME => return Ok(section),
        elf::SHT_NULL | elf::SHT_SYMTAB | elf::SHT_STRTAB | elf::SHT_RELA | elf::SHT_REL => {
            return Ok(section);
        }
        // What the linker makes of these concerns a whole program (branch targets, shadow stacks).
        elf::SHT_NOTE if name == ".note.gnu.property" => return Ok(section),
        elf::SHT_PREINIT_ARRAY => {
            return unsupported(
                "is called before any library's constructors, which only a program can ask for: use a constructor",
            );
        }
        elf::SHT_PROGBITS | elf::SHT_NOTE | elf::SHT_INIT_ARRAY | elf::SHT_FINI_ARRAY => {
            section.bytes = file.contents(header)?;
        }
        elf::SHT_NOBITS => {}
        // What systems and compilers add is memory like any other, unless it says that it is not
        // (SHF_OS_NONCONFORMING).
        elf::SHT_LOOS..=elf::SHT_HIOS if !has(elf::SHF_OS_NONCONFORMING) => {
            section.bytes = file.contents(header)?;
        }
        _ if unwind => section.bytes = file.contents(header)?,
        _ => return unsupported("is of a type that is not known here: compile without what asks for it"),
    }
    if !section.align.is_power_of_two() {
        return Err(malformed("section header table", "an alignment is no power of two", section.align));
    }
    if has(elf::SHF_COMPRESSED) {
        return Err(malformed(
            "section header table",
            "what is to be loaded is compressed",
            header.sh_offset(LE),
        ));
    }
    let (write, execute) = (has(elf::SHF_WRITE), has(elf::SHF_EXECINSTR));
    let zero = header.sh_type(LE) == elf::SHT_NOBITS;
    if write && execute {
        return unsupported("is writable and executable: keep code and variables in sections of their own");
    }
    if matches!(name, ".init" | ".fini") && section.size != 0 {
        return unsupported(
            "is part of a function that a linker assembles of many pieces (crti.o, crtn.o): use constructors, and \
             leave out the compiler's start files",
        );
    }
    if let Some(turn) = calls::of(name, header.sh_type(LE)) {
        section.role = Role::Calls(turn);
    } else if is_identifier(name) && !has(elf::SHF_TLS) {
        section.role = Role::Set;
    }
    let part = if name == ".eh_frame" || unwind {
        section.bytes = frames::records(section.bytes)?;
        section.size = section.bytes.len() as u64;
        Part::Frames
    } else if has(elf::SHF_TLS) {
        if zero { Part::TemplateZero } else { Part::Template }
    } else if execute {
        Part::Code
    } else if matches!(section.role, Role::Calls(_)) || (write && name.starts_with(".data.rel.ro")) {
        Part::Relocated
    } else if !write {
        Part::Constants
    } else if zero {
        Part::Zero
    } else {
        Part::Variables
    };
    section.state = State::Kept(part);
    Ok(section)
}

/// What the sections that are not loaded say about the whole file.
fn refuse(file: &File<'_>, header: &SectionHeader) -> Result<(), Error> {
    let executable = header.sh_flags(LE) & u64::from(elf::SHF_EXECINSTR) != 0;
    if executable && file.section_name(header)? == ".note.GNU-stack" {
        return Err(Error::ExecutableStack);
    }
    Ok(())
}

/// Whether `__start_` and `__stop_` with this name are the bounds of all sections that have it.
fn is_identifier(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let mut bytes = name.bytes();
    bytes.next().is_some_and(letter) && bytes.all(|byte| letter(byte) || byte.is_ascii_digit())
}
