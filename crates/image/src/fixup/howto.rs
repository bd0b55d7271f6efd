//! Fix-ups of object files: which sum, and which bits of it go where.
//!
//! Nearly all of the types that the processor supplements list are one thing (a symbol, an entry of
//! the global offset table), as seen from somewhere (the place, the table), written into one field.

use super::aarch64::Field;
use core::fmt;

/// What a relocation type of an object file asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Howto {
    /// Whose address, or which number, the addend is added to.
    pub what: What,
    /// What is taken off the sum.
    pub from: From,
    /// How the result is written.
    pub encoding: Encoding,
}

/// Whose address, or which number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum What {
    /// S: the symbol.
    Address,
    /// S, or L: code that jumps there. It makes no difference to the place.
    Branch,
    /// Z: the symbol's size.
    Size,
    /// G: what the global offset table has for the symbol.
    Entry(Slot),
    /// GOT: the table itself.
    Table,
    /// Where the thread-local variable is in its image's block.
    BlockOffset,
}

/// What the global offset table has for a symbol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Slot {
    /// Its address.
    Address,
    /// The argument of `__tls_get_addr`: two words, the image and the offset in its block (general
    /// dynamic).
    General,
    /// The same for the start of this image's own block (local dynamic): one for all symbols.
    Local,
    /// The offset from the thread pointer (initial exec).
    Initial,
    /// A descriptor: two words, a resolver and its argument.
    Descriptor,
}

/// What is taken off the sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum From {
    /// Nothing.
    Zero,
    /// P: the address of the place.
    Place,
    /// The place's page of 4 KiB; and of the sum, too, only the page is taken.
    Page,
    /// GOT: the address of the global offset table.
    Table,
    /// The page of the global offset table.
    TablePage,
}

impl Howto {
    /// Whether the value can be written.
    pub fn fits(self, value: i64) -> bool {
        self.encoding.range().is_none_or(|(low, high)| (low..=high).contains(&value))
    }

    /// The value, given what `what` is, the addend, and the addresses of the place and of the
    /// global offset table. Sums are modulo 2^64.
    #[inline]
    pub fn value(self, what: u64, addend: i64, place: u64, table: u64) -> i64 {
        let sum = what.wrapping_add_signed(addend);
        let value = match self.from {
            From::Zero => sum,
            From::Place => sum.wrapping_sub(place),
            From::Page => page(sum).wrapping_sub(page(place)),
            From::Table => sum.wrapping_sub(table),
            From::TablePage => sum.wrapping_sub(page(table)),
        };
        value as i64
    }
}

/// How a value is written to its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Encoding {
    /// 8 bytes.
    Word,
    /// So many bytes, 4 at most, that are read as a signed number.
    Signed(u8),
    /// So many bytes, 4 at most, that are read as an unsigned number.
    Unsigned(u8),
    /// So many bytes, 4 at most, that may be read as either.
    Either(u8),
    /// A field of an AArch64 instruction.
    Field(Field),
}

impl Encoding {
    /// How many bytes are written.
    #[inline]
    pub fn size(self) -> usize {
        match self {
            Encoding::Word => 8,
            Encoding::Signed(size) | Encoding::Unsigned(size) | Encoding::Either(size) => size.into(),
            Encoding::Field(_) => 4,
        }
    }

    /// What the address of the place must be a multiple of.
    #[inline]
    pub fn place_align(self) -> u64 {
        if matches!(self, Encoding::Field(_)) { 4 } else { 1 }
    }

    /// The lowest and the highest value that can be written, if there are such.
    #[inline]
    pub fn range(self) -> Option<(i64, i64)> {
        match self {
            Encoding::Word => None,
            Encoding::Signed(size) => Some((-(1 << (8 * size - 1)), (1 << (8 * size - 1)) - 1)),
            Encoding::Unsigned(size) => Some((0, (1 << (8 * size)) - 1)),
            Encoding::Either(size) => Some((-(1 << (8 * size - 1)), (1 << (8 * size)) - 1)),
            Encoding::Field(field) => field.range(),
        }
    }

    /// Checks the value, and the instruction if it is to be in one, and writes it.
    #[inline]
    pub fn write(self, place: &mut [u8], value: i64) -> Result<(), Problem> {
        if place.len() != self.size() {
            return Err(Problem::Place);
        }
        if let Encoding::Field(field) = self {
            return field.write(place.try_into().map_err(|_| Problem::Place)?, value);
        }
        check_range(self.range(), value)?;
        place.copy_from_slice(&value.to_le_bytes()[..place.len()]);
        Ok(())
    }
}

/// Why a value cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Problem {
    /// The place has another size than what is written.
    Place,
    /// The value does not fit.
    OutOfRange {
        /// The value.
        value: i64,
        /// The lowest that fits.
        low: i64,
        /// The highest that fits.
        high: i64,
    },
    /// The value has bits that the field does not hold.
    Misaligned {
        /// The value.
        value: i64,
        /// What it must be a multiple of.
        align: i64,
    },
    /// The place holds an instruction without such a field.
    Instruction {
        /// The instruction.
        found: u32,
        /// What should be there.
        expected: &'static str,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Place => f.write_str("the place has another size"),
            Problem::OutOfRange { value, low, high } => {
                write!(f, "the value {value:#x} does not fit: {low} to {high} do")
            }
            Problem::Misaligned { value, align } => {
                write!(f, "the value {value:#x} is no multiple of {align}")
            }
            Problem::Instruction { found, expected } => {
                write!(f, "the place holds the instruction {found:#010x}, and not {expected}")
            }
        }
    }
}

#[inline]
pub(super) fn check_range(range: Option<(i64, i64)>, value: i64) -> Result<(), Problem> {
    match range {
        Some((low, high)) if value < low || value > high => Err(Problem::OutOfRange { value, low, high }),
        _ => Ok(()),
    }
}

/// The page of 4 KiB that an address is in, whatever the system's pages are.
pub(super) fn page(address: u64) -> u64 {
    address & !0xFFF
}
