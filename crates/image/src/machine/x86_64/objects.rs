//! What a static linker does with each type.

use crate::error::Refusal;
use crate::fixup::Encoding::{Either, Signed, Unsigned, Word};
use crate::fixup::What::{Address, BlockOffset, Branch, Entry, Size, Table};
use crate::fixup::{From, Howto, Slot};
use crate::machine::Static;
use object::elf;

pub(in crate::machine) fn object(r_type: u32) -> Static {
    let (what, from, encoding) = match r_type {
        // The second marks a call for linkers that replace it.
        elf::R_X86_64_NONE | elf::R_X86_64_TLSDESC_CALL => return Static::Nothing,
        elf::R_X86_64_64 => (Address, From::Zero, Word),
        elf::R_X86_64_32 => (Address, From::Zero, Unsigned(4)),
        elf::R_X86_64_32S => (Address, From::Zero, Signed(4)),
        elf::R_X86_64_16 => (Address, From::Zero, Either(2)),
        elf::R_X86_64_8 => (Address, From::Zero, Either(1)),
        elf::R_X86_64_PC64 => (Address, From::Place, Word),
        elf::R_X86_64_PC32 => (Address, From::Place, Signed(4)),
        elf::R_X86_64_PC16 => (Address, From::Place, Signed(2)),
        elf::R_X86_64_PC8 => (Address, From::Place, Signed(1)),
        elf::R_X86_64_PLT32 => (Branch, From::Place, Signed(4)),
        elf::R_X86_64_SIZE64 => (Size, From::Zero, Word),
        elf::R_X86_64_SIZE32 => (Size, From::Zero, Unsigned(4)),

        // Two types say "may be relaxed"; what they are about is the same.
        elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => {
            (Entry(Slot::Address), From::Place, Signed(4))
        }
        elf::R_X86_64_GOTPCREL64 => (Entry(Slot::Address), From::Place, Word),
        elf::R_X86_64_GOT32 => (Entry(Slot::Address), From::Table, Signed(4)),
        elf::R_X86_64_GOT64 | elf::R_X86_64_GOTPLT64 => (Entry(Slot::Address), From::Table, Word),
        elf::R_X86_64_GOTPC32 => (Table, From::Place, Signed(4)),
        elf::R_X86_64_GOTPC64 => (Table, From::Place, Word),
        elf::R_X86_64_GOTOFF64 => (Address, From::Table, Word),
        elf::R_X86_64_PLTOFF64 => (Branch, From::Table, Word),

        elf::R_X86_64_TLSGD => (Entry(Slot::General), From::Place, Signed(4)),
        elf::R_X86_64_TLSLD => (Entry(Slot::Local), From::Place, Signed(4)),
        elf::R_X86_64_DTPOFF32 => (BlockOffset, From::Zero, Signed(4)),
        elf::R_X86_64_DTPOFF64 => (BlockOffset, From::Zero, Word),
        elf::R_X86_64_GOTTPOFF => (Entry(Slot::Initial), From::Place, Signed(4)),
        elf::R_X86_64_GOTPC32_TLSDESC => (Entry(Slot::Descriptor), From::Place, Signed(4)),
        elf::R_X86_64_TPOFF32 | elf::R_X86_64_TPOFF64 => return Static::Refuse(Refusal::LocalExec),

        elf::R_X86_64_COPY
        | elf::R_X86_64_GLOB_DAT
        | elf::R_X86_64_JUMP_SLOT
        | elf::R_X86_64_RELATIVE
        | elf::R_X86_64_RELATIVE64
        | elf::R_X86_64_IRELATIVE
        | elf::R_X86_64_DTPMOD64
        | elf::R_X86_64_TLSDESC => return Static::Refuse(Refusal::NotStatic),
        _ => return Static::Refuse(Refusal::Unknown),
    };
    Static::Apply(Howto { what, from, encoding })
}
