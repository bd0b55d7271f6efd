//! x86-64: System V ABI, AMD64 Architecture Processor Supplement, table 4.9 "Relocation Types".

pub(super) mod objects;

use super::{Dynamic, ThreadKind, names};
use crate::error::Refusal;
use crate::fixup::Kind;
use object::elf;

pub(super) fn dynamic(r_type: u32) -> Dynamic {
    use Dynamic::{Apply, Indirect, Nothing, Refuse, ThreadLocal};
    match r_type {
        elf::R_X86_64_NONE => Nothing,
        elf::R_X86_64_RELATIVE => Apply(Kind::Relative),
        elf::R_X86_64_64 => Apply(Kind::Absolute64),
        elf::R_X86_64_GLOB_DAT => Apply(Kind::GlobDat),
        elf::R_X86_64_JUMP_SLOT => Apply(Kind::JumpSlot),
        elf::R_X86_64_IRELATIVE => Indirect,
        elf::R_X86_64_DTPMOD64 => ThreadLocal(ThreadKind::Module),
        elf::R_X86_64_DTPOFF64 => ThreadLocal(ThreadKind::Offset),
        elf::R_X86_64_TPOFF64 => ThreadLocal(ThreadKind::FromThreadPointer),
        elf::R_X86_64_TLSDESC => ThreadLocal(ThreadKind::Descriptor),
        elf::R_X86_64_COPY => Refuse(Refusal::Copy),
        _ if NAMES.iter().any(|(number, _)| *number == r_type) => Refuse(Refusal::NotDynamic),
        _ => Refuse(Refusal::Unknown),
    }
}

#[rustfmt::skip]
pub(super) const NAMES: &[(u32, &str)] = names! {
    R_X86_64_NONE R_X86_64_64 R_X86_64_PC32 R_X86_64_GOT32 R_X86_64_PLT32 R_X86_64_COPY
    R_X86_64_GLOB_DAT R_X86_64_JUMP_SLOT R_X86_64_RELATIVE R_X86_64_GOTPCREL R_X86_64_32
    R_X86_64_32S R_X86_64_16 R_X86_64_PC16 R_X86_64_8 R_X86_64_PC8 R_X86_64_DTPMOD64
    R_X86_64_DTPOFF64 R_X86_64_TPOFF64 R_X86_64_TLSGD R_X86_64_TLSLD R_X86_64_DTPOFF32
    R_X86_64_GOTTPOFF R_X86_64_TPOFF32 R_X86_64_PC64 R_X86_64_GOTOFF64 R_X86_64_GOTPC32
    R_X86_64_GOT64 R_X86_64_GOTPCREL64 R_X86_64_GOTPC64 R_X86_64_GOTPLT64 R_X86_64_PLTOFF64
    R_X86_64_SIZE32 R_X86_64_SIZE64 R_X86_64_GOTPC32_TLSDESC R_X86_64_TLSDESC_CALL R_X86_64_TLSDESC
    R_X86_64_IRELATIVE R_X86_64_RELATIVE64 R_X86_64_GOTPCRELX R_X86_64_REX_GOTPCRELX
};
