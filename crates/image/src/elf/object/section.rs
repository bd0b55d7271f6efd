//! Sections: which of them are loaded, and among what.

use super::super::malformed;
use super::calls::{self, Turn};
use super::file::{File, SectionHeader};
use super::frames;
use crate::error::label;
use crate::{Error, Machine, Protection};
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::SectionHeader as _;

/// What stands together in the image, in the order in which it stands there.
///
/// Code is not first, because libgcc takes a function at a multiple of 4 GiB for one that a linker has discarded, if
/// its call frame information has 4-byte addresses (`unwind-dw2-fde.c`, "ignore link-once functions"); and such
/// numbers are popular as addresses of images.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Part {
    Constants,
    /// Call frame information.
    Frames,
    /// Written by fix-ups and then read-only.
    Relocated,
    /// Ours: the global offset table.
    Table,
    /// The initial contents of thread-local variables.
    Template,
    /// Those that begin as zero; they take no room.
    TemplateZero,
    Code,
    /// Ours: jumps to code that is far away.
    Stubs,
    Variables,
    /// Variables that begin as zero, common blocks among them.
    Zero,
}

impl Part {
    pub(super) const ALL: [Part; 10] = [
        Part::Constants,
        Part::Frames,
        Part::Relocated,
        Part::Table,
        Part::Template,
        Part::TemplateZero,
        Part::Code,
        Part::Stubs,
        Part::Variables,
        Part::Zero,
    ];

    pub(super) fn protection(self) -> Protection {
        match self {
            Part::Code | Part::Stubs => Protection::ReadExecute,
            Part::Variables | Part::Zero => Protection::ReadWrite,
            _ => Protection::Read,
        }
    }

    pub(super) fn thread_local(self) -> bool {
        matches!(self, Part::Template | Part::TemplateZero)
    }
}

/// What becomes of a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Kept(Part),
    /// Another file's is used (COMDAT).
    Discarded,
    /// Not part of a program's memory.
    NotLoaded,
}

/// A section of the link: of a file, or one of our own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'data> {
    pub(super) state: State,
    /// From the start of the image. A thread-local one's distance from the template's start is that in the block.
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) align: u64,
    /// As many as `size`, or none at all.
    pub(super) bytes: &'data [u8],
    pub(super) role: Role,
}

/// What the name of a section means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Plain,
    /// Stands together with all others of its name, which code can find the bounds of.
    Set,
    Calls(Turn),
}

impl Section<'_> {
    pub(super) const fn own(part: Part) -> Self {
        Section { state: State::Kept(part), offset: 0, size: 0, align: 1, bytes: &[], role: Role::Plain }
    }

    /// Makes it longer, and returns where the new part is. What is too long stays too long.
    pub(super) fn append(&mut self, size: u64, align: u64) -> u64 {
        let at = self.size.checked_next_multiple_of(align).unwrap_or(u64::MAX);
        self.size = at.saturating_add(size);
        self.align = self.align.max(align);
        at
    }

    pub(super) fn part(&self) -> Option<Part> {
        match self.state {
            State::Kept(part) => Some(part),
            State::Discarded | State::NotLoaded => None,
        }
    }
}

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
    let unsupported = |problem| Err(Error::UnsupportedSection { section: label(name), problem });
    let unwind = header.sh_type(LE) == elf::SHT_X86_64_UNWIND && machine == Machine::X86_64;
    match header.sh_type(LE) {
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
