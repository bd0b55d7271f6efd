//! What a static linker does with each type.

use crate::error::Refusal;
use crate::fixup::Encoding::{self, Either, Signed, Word};
use crate::fixup::What::{Address, BlockOffset, Branch, Entry};
use crate::fixup::aarch64::{Check, Field};
use crate::fixup::{From, Howto, Slot};
use crate::machine::Static;
use object::elf;

const ADR: Encoding = Encoding::Field(Field::Adr);
const ADRP: Encoding = Encoding::Field(Field::Adrp { checked: true });
const ADD: Encoding = Encoding::Field(Field::AddLow { checked: false });
const LITERAL: Encoding = Encoding::Field(Field::Literal);
const ENTRY: Encoding = Encoding::Field(Field::Entry);
const BRANCH: Encoding = Encoding::Field(Field::Branch);

/// A load or store of `1 << log2` bytes.
const fn access(log2: u8, checked: bool) -> Encoding {
    Encoding::Field(Field::Access { log2, checked })
}

const fn movw(group: u8, check: Check) -> Encoding {
    Encoding::Field(Field::Move { group, check })
}

pub(in crate::machine) fn object(r_type: u32) -> Static {
    use Check::{Nothing as Nc, Signed as Sabs, Unsigned as Uabs};
    use Slot::{Descriptor, General, Initial, Local};
    let (what, from, encoding) = match r_type {
        // The last three mark instructions for linkers that replace them.
        elf::R_AARCH64_NONE
        | super::R_AARCH64_NONE_WITHDRAWN
        | elf::R_AARCH64_TLSDESC_LDR
        | elf::R_AARCH64_TLSDESC_ADD
        | elf::R_AARCH64_TLSDESC_CALL => return Static::Nothing,

        // Data.
        elf::R_AARCH64_ABS64 => (Address, From::Zero, Word),
        elf::R_AARCH64_ABS32 => (Address, From::Zero, Either(4)),
        elf::R_AARCH64_ABS16 => (Address, From::Zero, Either(2)),
        elf::R_AARCH64_PREL64 => (Address, From::Place, Word),
        elf::R_AARCH64_PREL32 => (Address, From::Place, Signed(4)),
        elf::R_AARCH64_PREL16 => (Address, From::Place, Signed(2)),
        super::R_AARCH64_PLT32 => (Branch, From::Place, Signed(4)),
        elf::R_AARCH64_GOTREL64 => (Address, From::Table, Word),
        elf::R_AARCH64_GOTREL32 => (Address, From::Table, Signed(4)),
        super::R_AARCH64_GOTPCREL32 => (Entry(Slot::Address), From::Place, Signed(4)),

        // Addresses, 16 bits at a time.
        elf::R_AARCH64_MOVW_UABS_G0 => (Address, From::Zero, movw(0, Uabs)),
        elf::R_AARCH64_MOVW_UABS_G0_NC => (Address, From::Zero, movw(0, Nc)),
        elf::R_AARCH64_MOVW_UABS_G1 => (Address, From::Zero, movw(1, Uabs)),
        elf::R_AARCH64_MOVW_UABS_G1_NC => (Address, From::Zero, movw(1, Nc)),
        elf::R_AARCH64_MOVW_UABS_G2 => (Address, From::Zero, movw(2, Uabs)),
        elf::R_AARCH64_MOVW_UABS_G2_NC => (Address, From::Zero, movw(2, Nc)),
        elf::R_AARCH64_MOVW_UABS_G3 => (Address, From::Zero, movw(3, Uabs)),
        elf::R_AARCH64_MOVW_SABS_G0 => (Address, From::Zero, movw(0, Sabs)),
        elf::R_AARCH64_MOVW_SABS_G1 => (Address, From::Zero, movw(1, Sabs)),
        elf::R_AARCH64_MOVW_SABS_G2 => (Address, From::Zero, movw(2, Sabs)),
        elf::R_AARCH64_MOVW_PREL_G0 => (Address, From::Place, movw(0, Sabs)),
        elf::R_AARCH64_MOVW_PREL_G0_NC => (Address, From::Place, movw(0, Nc)),
        elf::R_AARCH64_MOVW_PREL_G1 => (Address, From::Place, movw(1, Sabs)),
        elf::R_AARCH64_MOVW_PREL_G1_NC => (Address, From::Place, movw(1, Nc)),
        elf::R_AARCH64_MOVW_PREL_G2 => (Address, From::Place, movw(2, Sabs)),
        elf::R_AARCH64_MOVW_PREL_G2_NC => (Address, From::Place, movw(2, Nc)),
        elf::R_AARCH64_MOVW_PREL_G3 => (Address, From::Place, movw(3, Sabs)),

        // Addresses, by page and offset.
        elf::R_AARCH64_LD_PREL_LO19 => (Address, From::Place, LITERAL),
        elf::R_AARCH64_ADR_PREL_LO21 => (Address, From::Place, ADR),
        elf::R_AARCH64_ADR_PREL_PG_HI21 => (Address, From::Page, ADRP),
        elf::R_AARCH64_ADR_PREL_PG_HI21_NC => {
            (Address, From::Page, Encoding::Field(Field::Adrp { checked: false }))
        }
        elf::R_AARCH64_ADD_ABS_LO12_NC => (Address, From::Zero, ADD),
        elf::R_AARCH64_LDST8_ABS_LO12_NC => (Address, From::Zero, access(0, false)),
        elf::R_AARCH64_LDST16_ABS_LO12_NC => (Address, From::Zero, access(1, false)),
        elf::R_AARCH64_LDST32_ABS_LO12_NC => (Address, From::Zero, access(2, false)),
        elf::R_AARCH64_LDST64_ABS_LO12_NC => (Address, From::Zero, access(3, false)),
        elf::R_AARCH64_LDST128_ABS_LO12_NC => (Address, From::Zero, access(4, false)),

        // Branches.
        elf::R_AARCH64_TSTBR14 => (Branch, From::Place, Encoding::Field(Field::TestBranch)),
        elf::R_AARCH64_CONDBR19 => (Branch, From::Place, Encoding::Field(Field::ConditionalBranch)),
        elf::R_AARCH64_JUMP26 | elf::R_AARCH64_CALL26 => (Branch, From::Place, BRANCH),

        // The global offset table.
        elf::R_AARCH64_MOVW_GOTOFF_G0 => (Entry(Slot::Address), From::Table, movw(0, Sabs)),
        elf::R_AARCH64_MOVW_GOTOFF_G0_NC => (Entry(Slot::Address), From::Table, movw(0, Nc)),
        elf::R_AARCH64_MOVW_GOTOFF_G1 => (Entry(Slot::Address), From::Table, movw(1, Sabs)),
        elf::R_AARCH64_MOVW_GOTOFF_G1_NC => (Entry(Slot::Address), From::Table, movw(1, Nc)),
        elf::R_AARCH64_MOVW_GOTOFF_G2 => (Entry(Slot::Address), From::Table, movw(2, Sabs)),
        elf::R_AARCH64_MOVW_GOTOFF_G2_NC => (Entry(Slot::Address), From::Table, movw(2, Nc)),
        elf::R_AARCH64_MOVW_GOTOFF_G3 => (Entry(Slot::Address), From::Table, movw(3, Sabs)),
        elf::R_AARCH64_GOT_LD_PREL19 => (Entry(Slot::Address), From::Place, LITERAL),
        elf::R_AARCH64_LD64_GOTOFF_LO15 => (Entry(Slot::Address), From::Table, ENTRY),
        elf::R_AARCH64_ADR_GOT_PAGE => (Entry(Slot::Address), From::Page, ADRP),
        elf::R_AARCH64_LD64_GOT_LO12_NC => (Entry(Slot::Address), From::Zero, access(3, false)),
        elf::R_AARCH64_LD64_GOTPAGE_LO15 => (Entry(Slot::Address), From::TablePage, ENTRY),

        // Thread-local variables, general dynamic.
        elf::R_AARCH64_TLSGD_ADR_PREL21 => (Entry(General), From::Place, ADR),
        elf::R_AARCH64_TLSGD_ADR_PAGE21 => (Entry(General), From::Page, ADRP),
        elf::R_AARCH64_TLSGD_ADD_LO12_NC => (Entry(General), From::Zero, ADD),
        elf::R_AARCH64_TLSGD_MOVW_G1 => (Entry(General), From::Table, movw(1, Sabs)),
        elf::R_AARCH64_TLSGD_MOVW_G0_NC => (Entry(General), From::Table, movw(0, Nc)),
        // Local dynamic.
        elf::R_AARCH64_TLSLD_ADR_PREL21 => (Entry(Local), From::Place, ADR),
        elf::R_AARCH64_TLSLD_ADR_PAGE21 => (Entry(Local), From::Page, ADRP),
        elf::R_AARCH64_TLSLD_ADD_LO12_NC => (Entry(Local), From::Zero, ADD),
        elf::R_AARCH64_TLSLD_MOVW_G1 => (Entry(Local), From::Table, movw(1, Sabs)),
        elf::R_AARCH64_TLSLD_MOVW_G0_NC => (Entry(Local), From::Table, movw(0, Nc)),
        elf::R_AARCH64_TLSLD_LD_PREL19 => (Entry(Local), From::Place, LITERAL),
        elf::R_AARCH64_TLSLD_MOVW_DTPREL_G2 => (BlockOffset, From::Zero, movw(2, Sabs)),
        elf::R_AARCH64_TLSLD_MOVW_DTPREL_G1 => (BlockOffset, From::Zero, movw(1, Sabs)),
        elf::R_AARCH64_TLSLD_MOVW_DTPREL_G1_NC => (BlockOffset, From::Zero, movw(1, Nc)),
        elf::R_AARCH64_TLSLD_MOVW_DTPREL_G0 => (BlockOffset, From::Zero, movw(0, Sabs)),
        elf::R_AARCH64_TLSLD_MOVW_DTPREL_G0_NC => (BlockOffset, From::Zero, movw(0, Nc)),
        elf::R_AARCH64_TLSLD_ADD_DTPREL_HI12 => (BlockOffset, From::Zero, Encoding::Field(Field::AddHigh)),
        elf::R_AARCH64_TLSLD_ADD_DTPREL_LO12 => {
            (BlockOffset, From::Zero, Encoding::Field(Field::AddLow { checked: true }))
        }
        elf::R_AARCH64_TLSLD_ADD_DTPREL_LO12_NC => (BlockOffset, From::Zero, ADD),
        elf::R_AARCH64_TLSLD_LDST8_DTPREL_LO12 => (BlockOffset, From::Zero, access(0, true)),
        elf::R_AARCH64_TLSLD_LDST8_DTPREL_LO12_NC => (BlockOffset, From::Zero, access(0, false)),
        elf::R_AARCH64_TLSLD_LDST16_DTPREL_LO12 => (BlockOffset, From::Zero, access(1, true)),
        elf::R_AARCH64_TLSLD_LDST16_DTPREL_LO12_NC => (BlockOffset, From::Zero, access(1, false)),
        elf::R_AARCH64_TLSLD_LDST32_DTPREL_LO12 => (BlockOffset, From::Zero, access(2, true)),
        elf::R_AARCH64_TLSLD_LDST32_DTPREL_LO12_NC => (BlockOffset, From::Zero, access(2, false)),
        elf::R_AARCH64_TLSLD_LDST64_DTPREL_LO12 => (BlockOffset, From::Zero, access(3, true)),
        elf::R_AARCH64_TLSLD_LDST64_DTPREL_LO12_NC => (BlockOffset, From::Zero, access(3, false)),
        elf::R_AARCH64_TLSLD_LDST128_DTPREL_LO12 => (BlockOffset, From::Zero, access(4, true)),
        elf::R_AARCH64_TLSLD_LDST128_DTPREL_LO12_NC => (BlockOffset, From::Zero, access(4, false)),
        // In data, for debuggers.
        elf::R_AARCH64_TLS_DTPREL => (BlockOffset, From::Zero, Word),
        // Initial exec.
        elf::R_AARCH64_TLSIE_MOVW_GOTTPREL_G1 => (Entry(Initial), From::Table, movw(1, Sabs)),
        elf::R_AARCH64_TLSIE_MOVW_GOTTPREL_G0_NC => (Entry(Initial), From::Table, movw(0, Nc)),
        elf::R_AARCH64_TLSIE_ADR_GOTTPREL_PAGE21 => (Entry(Initial), From::Page, ADRP),
        elf::R_AARCH64_TLSIE_LD64_GOTTPREL_LO12_NC => (Entry(Initial), From::Zero, access(3, false)),
        elf::R_AARCH64_TLSIE_LD_GOTTPREL_PREL19 => (Entry(Initial), From::Place, LITERAL),
        // Local exec; the last two numbers were given out later.
        elf::R_AARCH64_TLSLE_MOVW_TPREL_G2..=elf::R_AARCH64_TLSLE_LDST64_TPREL_LO12_NC
        | elf::R_AARCH64_TLSLE_LDST128_TPREL_LO12
        | elf::R_AARCH64_TLSLE_LDST128_TPREL_LO12_NC => return Static::Refuse(Refusal::LocalExec),
        // Descriptors.
        elf::R_AARCH64_TLSDESC_LD_PREL19 => (Entry(Descriptor), From::Place, LITERAL),
        elf::R_AARCH64_TLSDESC_ADR_PREL21 => (Entry(Descriptor), From::Place, ADR),
        elf::R_AARCH64_TLSDESC_ADR_PAGE21 => (Entry(Descriptor), From::Page, ADRP),
        elf::R_AARCH64_TLSDESC_LD64_LO12 => (Entry(Descriptor), From::Zero, access(3, false)),
        elf::R_AARCH64_TLSDESC_ADD_LO12 => (Entry(Descriptor), From::Zero, ADD),
        elf::R_AARCH64_TLSDESC_OFF_G1 => (Entry(Descriptor), From::Table, movw(1, Sabs)),
        elf::R_AARCH64_TLSDESC_OFF_G0_NC => (Entry(Descriptor), From::Table, movw(0, Nc)),

        // The dynamic types are one block.
        elf::R_AARCH64_COPY..=elf::R_AARCH64_IRELATIVE => return Static::Refuse(Refusal::NotStatic),
        _ if super::is_signed(r_type) => return Static::Refuse(Refusal::SignedPointer),
        _ => return Static::Refuse(Refusal::Unknown),
    };
    Static::Apply(Howto { what, from, encoding })
}
