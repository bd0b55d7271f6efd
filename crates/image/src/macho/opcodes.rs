//! Rebase and bind opcodes: small programs that say where addresses are written. Apple's
//! <mach-o/loader.h>, at `REBASE_OPCODE_MASK` and `BIND_OPCODE_MASK`.

use super::bytes::Cursor;
use super::commands::range;
use super::fixups::{Builder, SIZE, Site};
use crate::Error;
use crate::macho::format::LE;
use alloc::string::String;
use object::macho;

const REBASES: &str = "table of rebase opcodes";
const BINDS: &str = "table of bind opcodes";
const LAZY: &str = "table of lazy bind opcodes";
const WEAK: &str = "table of weak bind opcodes";

/// A place is in no segment before one has been named.
const NOWHERE: usize = usize::MAX;

pub(super) fn read<'data>(
    file: &'data [u8],
    info: &macho::DyldInfoCommand<LE>,
    fixups: &mut Builder<'_, 'data>,
) -> Result<(), Error> {
    let table = |name, offset: object::U32<LE>, size: object::U32<LE>| {
        range(file, offset.get(LE), size.get(LE), name).map(|bytes| Cursor::new(name, bytes))
    };
    rebases(table(REBASES, info.rebase_off, info.rebase_size)?, fixups)?;
    binds(table(BINDS, info.bind_off, info.bind_size)?, Form::Bind, fixups)?;
    binds(table(LAZY, info.lazy_bind_off, info.lazy_bind_size)?, Form::Lazy, fixups)?;
    let weak = table(WEAK, info.weak_bind_off, info.weak_bind_size)?;
    let written = if weak.is_empty() { alloc::vec![] } else { fixups.written() };
    // Last, because a weak definition goes before what the others say of its places.
    binds(weak, Form::Weak(&written), fixups)
}

/// A place that moves on.
struct At {
    segment: usize,
    offset: u64,
}

impl At {
    fn place(&self, fixups: &Builder<'_, '_>) -> Result<Site, Error> {
        if self.segment == NOWHERE {
            return Err(fixups.wrong("a place comes before any segment", self.offset));
        }
        fixups.place(self.segment, self.offset)
    }

    fn skip(&mut self, distance: u64) {
        // Some distances are backwards; where they end is checked before anything is there.
        self.offset = self.offset.wrapping_add(distance);
    }
}

/// Code would have to be changed.
fn in_text(kind: u8, at: &At, fixups: &Builder<'_, '_>) -> Error {
    match kind {
        macho::REBASE_TYPE_TEXT_ABSOLUTE32 | macho::REBASE_TYPE_TEXT_PCREL32 => {
            Error::TextRelocation { offset: at.offset, symbol: String::new() }
        }
        other => fixups.wrong("an unknown type", other.into()),
    }
}

fn rebases(mut code: Cursor<'_>, fixups: &mut Builder<'_, '_>) -> Result<(), Error> {
    fixups.table = REBASES;
    let mut at = At { segment: NOWHERE, offset: 0 };
    let mut kind = macho::REBASE_TYPE_POINTER;
    while !code.is_empty() {
        let byte = code.byte()?;
        let low = byte & !macho::REBASE_OPCODE_MASK;
        let (count, skip) = match byte & macho::REBASE_OPCODE_MASK {
            macho::REBASE_OPCODE_DONE => break,
            macho::REBASE_OPCODE_SET_TYPE_IMM => {
                kind = low;
                continue;
            }
            macho::REBASE_OPCODE_SET_SEGMENT_AND_OFFSET_ULEB => {
                at = At { segment: low.into(), offset: code.uleb()? };
                continue;
            }
            macho::REBASE_OPCODE_ADD_ADDR_ULEB => {
                at.skip(code.uleb()?);
                continue;
            }
            macho::REBASE_OPCODE_ADD_ADDR_IMM_SCALED => {
                at.skip(SIZE * u64::from(low));
                continue;
            }
            macho::REBASE_OPCODE_DO_REBASE_IMM_TIMES => (low.into(), 0),
            macho::REBASE_OPCODE_DO_REBASE_ULEB_TIMES => (code.uleb()?, 0),
            macho::REBASE_OPCODE_DO_REBASE_ADD_ADDR_ULEB => (1, code.uleb()?),
            macho::REBASE_OPCODE_DO_REBASE_ULEB_TIMES_SKIPPING_ULEB => (code.uleb()?, code.uleb()?),
            other => return Err(fixups.wrong("an unknown opcode", other.into())),
        };
        if count != 0 && kind != macho::REBASE_TYPE_POINTER {
            return Err(in_text(kind, &at, fixups));
        }
        // However many it says: places end with the segment, and are not written again and again.
        for _ in 0..count {
            let place = at.place(fixups)?;
            fixups.rebase(place, place.word)?;
            at.skip(skip.wrapping_add(SIZE));
        }
    }
    Ok(())
}

/// Which of the tables.
#[derive(Clone, Copy)]
enum Form<'a> {
    Bind,
    /// Each symbol's part ends as the table does.
    Lazy,
    /// With the places that are written already. Symbols are looked for everywhere.
    Weak(&'a [u32]),
}

/// What a bind is made of.
struct Symbol<'data> {
    name: Option<&'data str>,
    weak: bool,
    ordinal: i32,
    /// Its number in the builder, once it is used.
    number: Option<u32>,
    addend: i64,
}

impl<'data> Symbol<'data> {
    fn bind(&mut self, at: &At, form: Form<'_>, fixups: &mut Builder<'_, 'data>) -> Result<(), Error> {
        let place = at.place(fixups)?;
        let name = self.name.ok_or_else(|| fixups.wrong("a place comes before any symbol", at.offset))?;
        if let Form::Weak(written) = form {
            return fixups.coalesce(place, name, self.weak, self.addend, written);
        }
        let number = match self.number {
            Some(number) => number,
            None => fixups.symbol(name, self.ordinal, self.weak)?,
        };
        self.number = Some(number);
        fixups.bind(place, number, self.addend)
    }
}

fn binds<'data>(
    mut code: Cursor<'data>,
    form: Form<'_>,
    fixups: &mut Builder<'_, 'data>,
) -> Result<(), Error> {
    fixups.table = match form {
        Form::Bind => BINDS,
        Form::Lazy => LAZY,
        Form::Weak(_) => WEAK,
    };
    let mut at = At { segment: NOWHERE, offset: 0 };
    let mut kind = macho::BIND_TYPE_POINTER;
    let mut symbol = Symbol { name: None, weak: false, ordinal: 0, number: None, addend: 0 };
    while !code.is_empty() {
        let byte = code.byte()?;
        let low = byte & !macho::BIND_OPCODE_MASK;
        let (count, skip) = match byte & macho::BIND_OPCODE_MASK {
            macho::BIND_OPCODE_DONE if matches!(form, Form::Lazy) => continue,
            macho::BIND_OPCODE_DONE => break,
            macho::BIND_OPCODE_SET_DYLIB_ORDINAL_IMM => {
                (symbol.ordinal, symbol.number) = (low.into(), None);
                continue;
            }
            macho::BIND_OPCODE_SET_DYLIB_ORDINAL_ULEB => {
                let ordinal = code.uleb()?;
                let number = i32::try_from(ordinal);
                let number =
                    number.map_err(|_| fixups.wrong("it names a library that is not there", ordinal))?;
                (symbol.ordinal, symbol.number) = (number, None);
                continue;
            }
            macho::BIND_OPCODE_SET_DYLIB_SPECIAL_IMM => {
                // Four bits of a negative number, or 0.
                let ordinal = if low == 0 { 0 } else { (macho::BIND_OPCODE_MASK | low) as i8 };
                (symbol.ordinal, symbol.number) = (ordinal.into(), None);
                continue;
            }
            macho::BIND_OPCODE_SET_SYMBOL_TRAILING_FLAGS_IMM => {
                symbol.weak = low & macho::BIND_SYMBOL_FLAGS_WEAK_IMPORT != 0;
                (symbol.name, symbol.number) = (Some(code.text()?), None);
                continue;
            }
            macho::BIND_OPCODE_SET_TYPE_IMM => {
                kind = low;
                continue;
            }
            macho::BIND_OPCODE_SET_ADDEND_SLEB => {
                symbol.addend = code.sleb()?;
                continue;
            }
            macho::BIND_OPCODE_SET_SEGMENT_AND_OFFSET_ULEB => {
                at = At { segment: low.into(), offset: code.uleb()? };
                continue;
            }
            macho::BIND_OPCODE_ADD_ADDR_ULEB => {
                at.skip(code.uleb()?);
                continue;
            }
            macho::BIND_OPCODE_DO_BIND => (1, 0),
            macho::BIND_OPCODE_DO_BIND_ADD_ADDR_ULEB => (1, code.uleb()?),
            macho::BIND_OPCODE_DO_BIND_ADD_ADDR_IMM_SCALED => (1, SIZE * u64::from(low)),
            macho::BIND_OPCODE_DO_BIND_ULEB_TIMES_SKIPPING_ULEB => (code.uleb()?, code.uleb()?),
            macho::BIND_OPCODE_THREADED => {
                return Err(Error::UnsupportedDynamic {
                    tag: "BIND_OPCODE_THREADED, whose pointers are signed (arm64e)",
                    advice: "they are for processes with pointer authentication: build with -arch arm64",
                });
            }
            other => return Err(fixups.wrong("an unknown opcode", other.into())),
        };
        if count != 0 && kind != macho::BIND_TYPE_POINTER {
            return Err(in_text(kind, &at, fixups));
        }
        for _ in 0..count {
            symbol.bind(&at, form, fixups)?;
            at.skip(skip.wrapping_add(SIZE));
        }
    }
    Ok(())
}
