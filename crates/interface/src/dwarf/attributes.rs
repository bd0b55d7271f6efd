//! What an entry says, as far as it matters here.

use gimli::{AttributeSpecification, AttributeValue, EntriesRaw, UnitOffset, constants};

use super::units::{File, Unit, Units};
use super::{DAMAGED, Reason, Slice, UNKNOWN, reason};

/// Another entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Link {
    #[default]
    None,
    /// Counted over `.debug_info` and `.debug_types`, one after the other.
    At(usize),
    /// The type of a unit of its own, by signature.
    Type(u64),
}

/// Where something is while the module runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Location {
    /// It does not say.
    #[default]
    None,
    /// In the image, or nowhere: 0 and -1 stand for what the linker has dropped.
    Address(u64),
    /// In a block of thread-local variables.
    Thread,
    /// On the stack, in registers, or nowhere.
    Elsewhere,
}

/// A number; where one is missing, others stand for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Number {
    #[default]
    None,
    Is(i64),
    /// It is worked out while the module runs.
    Computed,
}

impl Number {
    pub(super) fn known(self) -> Option<i64> {
        match self {
            Number::Is(number) => Some(number),
            Number::None | Number::Computed => None,
        }
    }
}

/// The attributes of an entry.
#[derive(Default)]
pub(super) struct Attributes<'d> {
    pub(super) name: &'d [u8],
    pub(super) linkage: &'d [u8],
    pub(super) target: Link,
    /// What it completes: a declaration, or the description of an inlined function.
    pub(super) origin: Link,
    pub(super) signature: Option<u64>,
    pub(super) class: Link,
    pub(super) size: Option<u64>,
    pub(super) bits: Option<u64>,
    /// From the start of the aggregate.
    pub(super) first_bit: Option<u64>,
    /// From the most significant bit of the storage unit, as before DWARF 4.
    pub(super) bits_above: Option<i64>,
    pub(super) offset: Number,
    pub(super) value: Number,
    pub(super) count: Number,
    pub(super) upper: Number,
    pub(super) lower: Number,
    pub(super) virtual_index: Number,
    pub(super) encoding: u8,
    pub(super) file: File,
    pub(super) line: u32,
    pub(super) low: Location,
    pub(super) place: Location,
    pub(super) declaration: bool,
    pub(super) external: bool,
    pub(super) artificial: bool,
    pub(super) vector: bool,
    pub(super) is_virtual: bool,
    pub(super) prototyped: bool,
    /// It says in which file.
    pub(super) declared_somewhere: bool,
}

impl<'d> Attributes<'d> {
    pub(super) fn read(
        units: &Units<'d>,
        unit: &Unit<'d>,
        entries: &mut EntriesRaw<'_, '_, Slice<'d>>,
        attributes: &[AttributeSpecification],
    ) -> Result<Self, Reason> {
        let mut read = Attributes::default();
        for attribute in attributes {
            if attribute.form() == constants::DW_FORM_indirect {
                // No compiler writes it.
                return Err(UNKNOWN);
            }
            let value = entries.read_attribute(*attribute).map_err(reason)?.raw_value();
            match attribute.name() {
                constants::DW_AT_name => read.name = units.string(unit, value),
                constants::DW_AT_linkage_name | constants::DW_AT_MIPS_linkage_name => {
                    read.linkage = units.string(unit, value);
                }
                constants::DW_AT_type => read.target = link(unit, value)?,
                constants::DW_AT_specification | constants::DW_AT_abstract_origin => {
                    read.origin = link(unit, value)?;
                }
                constants::DW_AT_containing_type => read.class = link(unit, value)?,
                constants::DW_AT_signature => {
                    if let AttributeValue::DebugTypesRef(signature) = value {
                        read.signature = Some(signature.0);
                    }
                }
                constants::DW_AT_byte_size => read.size = unsigned(&value),
                constants::DW_AT_bit_size => read.bits = unsigned(&value),
                constants::DW_AT_data_bit_offset => read.first_bit = unsigned(&value),
                constants::DW_AT_bit_offset => read.bits_above = number(&value).known(),
                constants::DW_AT_data_member_location => read.offset = number(&value),
                constants::DW_AT_const_value | constants::DW_AT_discr_value => read.value = number(&value),
                constants::DW_AT_count => read.count = number(&value),
                constants::DW_AT_upper_bound => read.upper = number(&value),
                constants::DW_AT_lower_bound => read.lower = number(&value),
                constants::DW_AT_vtable_elem_location => read.virtual_index = number(&value),
                constants::DW_AT_encoding => read.encoding = unsigned(&value).map_or(0, |code| code as u8),
                constants::DW_AT_prototyped => read.prototyped = flag(&value),
                constants::DW_AT_decl_file => {
                    read.declared_somewhere = true;
                    read.file = unsigned(&value).map_or(0, |number| units.file(unit, number));
                }
                constants::DW_AT_decl_line => {
                    read.line = unsigned(&value).map_or(0, |line| u32::try_from(line).unwrap_or(0));
                }
                constants::DW_AT_low_pc => read.low = place(units, unit, &value),
                constants::DW_AT_location => read.place = place(units, unit, &value),
                constants::DW_AT_declaration => read.declaration = flag(&value),
                constants::DW_AT_external => read.external = flag(&value),
                constants::DW_AT_artificial => read.artificial = flag(&value),
                constants::DW_AT_GNU_vector => read.vector = flag(&value),
                constants::DW_AT_virtuality => {
                    read.is_virtual = unsigned(&value).is_some_and(|kind| kind != 0)
                }
                _ => {}
            }
        }
        Ok(read)
    }

    /// Where a member begins, in bits; -1 if that is worked out while the module runs.
    pub(super) fn bit_offset(&self, storage: impl FnOnce() -> u64) -> i64 {
        if let Some(first) = self.first_bit {
            return i64::try_from(first).unwrap_or(-1);
        }
        let start = match self.offset {
            Number::None => 0,
            Number::Is(bytes) => bytes.wrapping_mul(8),
            Number::Computed => return -1,
        };
        match (self.bits_above, self.bits) {
            (Some(above), Some(bits)) => {
                let storage = self.size.unwrap_or_else(storage).wrapping_mul(8) as i64;
                start.wrapping_add(storage).wrapping_sub(above).wrapping_sub(bits as i64)
            }
            _ => start,
        }
    }

    /// How many elements a dimension of an array has; 0 if that is open.
    pub(super) fn elements(&self) -> i64 {
        match (self.count, self.upper, self.lower) {
            (Number::Is(count), _, _) => count,
            (_, Number::Is(upper), lower) => {
                // Without elements: one less than the first. Compilers write it in as many bits as
                // they like.
                let upper = if upper == i64::from(u32::MAX) { -1 } else { upper };
                upper.wrapping_sub(lower.known().unwrap_or(0)).wrapping_add(1)
            }
            _ => 0,
        }
    }
}

fn link(unit: &Unit<'_>, value: AttributeValue<Slice<'_>>) -> Result<Link, Reason> {
    match value {
        AttributeValue::UnitRef(UnitOffset(offset)) => {
            unit.start.checked_add(offset).map(Link::At).ok_or(DAMAGED)
        }
        AttributeValue::DebugInfoRef(offset) => Ok(Link::At(offset.0)),
        AttributeValue::DebugTypesRef(signature) => Ok(Link::Type(signature.0)),
        // Of a file of types that is not here.
        AttributeValue::DebugInfoRefSup(_) => {
            Err("a part of it is in another file: build the module without dwz")
        }
        _ => Ok(Link::None),
    }
}

pub(super) fn unsigned(value: &AttributeValue<Slice<'_>>) -> Option<u64> {
    match *value {
        AttributeValue::Data1(value) => Some(value.into()),
        AttributeValue::Data2(value) => Some(value.into()),
        AttributeValue::Data4(value) => Some(value.into()),
        AttributeValue::Data8(value) | AttributeValue::Udata(value) => Some(value),
        AttributeValue::Sdata(value) => u64::try_from(value).ok(),
        _ => None,
    }
}

fn flag(value: &AttributeValue<Slice<'_>>) -> bool {
    matches!(value, AttributeValue::Flag(true))
}

/// A number, or an expression that is one.
fn number(value: &AttributeValue<Slice<'_>>) -> Number {
    if let AttributeValue::Sdata(value) = *value {
        return Number::Is(value);
    }
    if let Some(value) = unsigned(value) {
        return Number::Is(value as i64);
    }
    let Some(expression) = expression(value) else { return Number::Computed };
    let constant = match expression {
        [0x10 | 0x23, rest @ ..] => leb128(rest),
        [0x08, value] => Some(u64::from(*value)),
        [literal @ 0x30..=0x4F] => Some(u64::from(literal - 0x30)),
        _ => None,
    };
    constant.map_or(Number::Computed, |constant| Number::Is(constant as i64))
}

fn expression<'d>(value: &AttributeValue<Slice<'d>>) -> Option<&'d [u8]> {
    match value {
        AttributeValue::Exprloc(expression) => Some(expression.0.slice()),
        AttributeValue::Block(block) => Some(block.slice()),
        _ => None,
    }
}

/// All of the bytes as one number.
fn leb128(bytes: &[u8]) -> Option<u64> {
    let (last, others) = bytes.split_last()?;
    if bytes.len() > 9 || last & 0x80 != 0 || others.iter().any(|byte| byte & 0x80 == 0) {
        return None;
    }
    Some(bytes.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7F)))
}

fn place<'d>(units: &Units<'d>, unit: &Unit<'d>, value: &AttributeValue<Slice<'_>>) -> Location {
    let numbered = |index| units.address(unit, index).map_or(Location::Elsewhere, Location::Address);
    match *value {
        AttributeValue::Addr(address) => return Location::Address(address),
        AttributeValue::DebugAddrIndex(index) => return numbered(index.0 as u64),
        _ => {}
    }
    let Some(bytes) = expression(value) else { return Location::Elsewhere };
    // DW_OP_form_tls_address, DW_OP_GNU_push_tls_address.
    if matches!(bytes, [.., 0x9B | 0xE0]) {
        return Location::Thread;
    }
    match bytes {
        [0x03, rest @ ..] => match rest.first_chunk() {
            Some(address) => Location::Address(u64::from_le_bytes(*address)),
            None => Location::Elsewhere,
        },
        // DW_OP_addrx, DW_OP_GNU_addr_index; what may follow is behind the end of the number.
        [0xA1 | 0xFB, rest @ ..] => {
            let end = rest.iter().position(|byte| byte & 0x80 == 0).map_or(0, |last| last + 1);
            leb128(&rest[..end]).map_or(Location::Elsewhere, numbered)
        }
        _ => Location::Elsewhere,
    }
}
