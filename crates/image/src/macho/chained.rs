//! Chained fix-ups: each place says what it is to hold and how far the next place is. Apple's
//! <mach-o/fixup-chains.h>.

use super::bytes::Cursor;
use super::fixups::{Builder, SIZE};
use super::segments::Layout;
use crate::Error;
use crate::macho::format::{Half, LE, Short, Word, malformed, table_of};
use alloc::vec::Vec;

pub(super) const TABLE: &str = "table of chained fix-ups (LC_DYLD_CHAINED_FIXUPS)";

// `DYLD_CHAINED_PTR_*` that arm64 has.
const PTR_64: u16 = 2;
const PTR_64_OFFSET: u16 = 6;

/// `DYLD_CHAINED_PTR_START_NONE`: a page without fix-ups.
const NONE: u16 = 0xFFFF;
/// `DYLD_CHAINED_PTR_START_MULTI`: a page of a 32-bit image with several chains.
const MULTI: u16 = 0x8000;

/// How much longer all names may be than their table: several imports may have one name.
const MOST: usize = 16;

/// Bytes of `dyld_chained_starts_in_segment` before the places of its pages.
const STARTS: usize = 22;

/// A symbol that fix-ups name by its number.
struct Named<'data> {
    name: &'data str,
    ordinal: i32,
    weak: bool,
    addend: i64,
    /// Its number in the builder, once it is used.
    symbol: Option<u32>,
}

pub(super) fn read<'data>(
    table: &'data [u8],
    layout: &Layout<'data>,
    fixups: &mut Builder<'_, 'data>,
) -> Result<(), Error> {
    fixups.table = TABLE;
    if table.is_empty() {
        return Ok(());
    }
    let [version, starts, imports, names, count, format, packed] = *table_of::<Half>(table, 7) else {
        return Err(malformed(TABLE, "it is cut off", table.len() as u64));
    };
    let get = |word: Half| word.get(LE);
    if get(version) != 0 {
        return Err(malformed(TABLE, "an unknown version", get(version).into()));
    }
    if get(packed) != 0 {
        return Err(Error::UnsupportedDynamic {
            tag: "LC_DYLD_CHAINED_FIXUPS with compressed names",
            advice: "link with a linker of this platform",
        });
    }
    let imports = Imports { table, at: get(imports), names: get(names), count: get(count) };
    let mut imports = imports.read(get(format))?;
    let starts = from(table, get(starts))?;
    let count = table_of::<Half>(starts, 1).first().ok_or(malformed(TABLE, "it is cut off", 0))?;
    let offsets: &[Half] = table_of(&starts[4..], get(*count) as usize);
    if offsets.len() < get(*count) as usize {
        return Err(malformed(TABLE, "it is cut off", get(*count).into()));
    }
    for (segment, offset) in offsets.iter().enumerate().filter(|(_, offset)| get(**offset) != 0) {
        let bytes = starts.get(get(*offset) as usize..).unwrap_or_default();
        Segment::parse(bytes, segment, layout)?.walk(layout, &mut imports, fixups)?;
    }
    Ok(())
}

fn from(table: &[u8], offset: u32) -> Result<&[u8], Error> {
    table.get(offset as usize..).ok_or(malformed(TABLE, "an offset points outside it", offset.into()))
}

struct Imports<'data> {
    table: &'data [u8],
    at: u32,
    names: u32,
    count: u32,
}

impl<'data> Imports<'data> {
    fn read(&self, format: u32) -> Result<Vec<Named<'data>>, Error> {
        let (entries, names) = (from(self.table, self.at)?, from(self.table, self.names)?);
        let count = self.count as usize;
        let mut found = Vec::new();
        let mut room = names.len().saturating_mul(MOST);
        let mut add = |ordinal, weak, name, addend| -> Result<(), Error> {
            let name = Cursor::at(TABLE, names, name)?.text()?;
            room =
                room.checked_sub(name.len()).ok_or(malformed(TABLE, "names are made of one another", 0))?;
            found.push(Named { name, ordinal, weak, addend, symbol: None });
            Ok(())
        };
        let enough = |found: usize| match found < count {
            true => Err(malformed(TABLE, "the imports are cut off", count as u64)),
            false => Ok(()),
        };
        // Ordinals from 0xF1 on are negative ones.
        let narrow = |word: u32| match word & 0xFF {
            ordinal @ 0xF1.. => i32::from(ordinal as i8),
            ordinal => ordinal as i32,
        };
        match format {
            // DYLD_CHAINED_IMPORT
            1 => {
                let words: &[Half] = table_of(entries, count);
                enough(words.len())?;
                for word in words.iter().map(|word| word.get(LE)) {
                    add(narrow(word), word >> 8 & 1 != 0, u64::from(word >> 9), 0)?;
                }
            }
            // DYLD_CHAINED_IMPORT_ADDEND
            2 => {
                let pairs: &[[Half; 2]] = table_of(entries, count);
                enough(pairs.len())?;
                for [word, addend] in pairs.iter().map(|pair| pair.map(|word| word.get(LE))) {
                    add(narrow(word), word >> 8 & 1 != 0, u64::from(word >> 9), i64::from(addend as i32))?;
                }
            }
            // DYLD_CHAINED_IMPORT_ADDEND64
            3 => {
                let pairs: &[[Word; 2]] = table_of(entries, count);
                enough(pairs.len())?;
                for [word, addend] in pairs.iter().map(|pair| pair.map(|word| word.get(LE))) {
                    let ordinal = match word & 0xFFFF {
                        ordinal @ 0xFFF1.. => i32::from(ordinal as i16),
                        ordinal => ordinal as i32,
                    };
                    add(ordinal, word >> 16 & 1 != 0, word >> 32, addend as i64)?;
                }
            }
            _ if count == 0 => {}
            _ => return Err(malformed(TABLE, "an unknown format of imports", format.into())),
        }
        Ok(found)
    }
}

/// Where the chains of a segment begin.
struct Segment<'data> {
    index: usize,
    page_size: u64,
    /// Offsets are counted from the header, and not addresses of the file.
    from_header: bool,
    /// Of each page, where its first place is in it.
    starts: &'data [Short],
}

impl<'data> Segment<'data> {
    fn parse(bytes: &'data [u8], index: usize, layout: &Layout<'_>) -> Result<Self, Error> {
        let wrong = |problem| malformed(TABLE, problem, index as u64);
        let words: &[Short] = table_of(bytes, STARTS / 2);
        let [size_low, size_high, page_size, format, offset @ .., _, _, count] = words else {
            return Err(wrong("what it says of a segment is cut off"));
        };
        let offset = offset[..4].iter().rev().fold(0u64, |sum, part| sum << 16 | u64::from(part.get(LE)));
        let size = usize::from(size_low.get(LE)) | usize::from(size_high.get(LE)) << 16;
        let count = usize::from(count.get(LE));
        let segment = layout.segments.get(index).ok_or(wrong("it has a segment that is not there"))?;
        if segment.address.wrapping_sub(layout.header) != offset {
            return Err(wrong("a segment is elsewhere than its load command says"));
        }
        let starts: &[Short] = table_of(&bytes[STARTS..], count);
        if starts.len() < count || size < STARTS + size_of_val(starts) {
            return Err(wrong("what it says of a segment is cut off"));
        }
        let page_size = u64::from(page_size.get(LE));
        if !page_size.is_power_of_two() || page_size < 4096 {
            return Err(wrong("a page is smaller than any"));
        }
        let from_header = match format.get(LE) {
            PTR_64 => false,
            PTR_64_OFFSET => true,
            1 | 7 | 9 | 12 | 13 => {
                return Err(Error::UnsupportedDynamic {
                    tag: "LC_DYLD_CHAINED_FIXUPS with signed pointers (arm64e)",
                    advice: "they are for processes with pointer authentication: build with -arch arm64",
                });
            }
            3 | 4 | 5 | 8 | 10 | 11 => {
                return Err(Error::UnsupportedDynamic {
                    tag: "LC_DYLD_CHAINED_FIXUPS in a form for 32-bit programs or kernels",
                    advice: "link the module with -dynamiclib or -bundle for arm64",
                });
            }
            other => return Err(malformed(TABLE, "an unknown form of pointers", other.into())),
        };
        Ok(Self { index, page_size, from_header, starts })
    }

    /// Follows each page's chain. Places ascend and do not overlap, so there are no more than the
    /// segment has room for.
    fn walk(
        &self,
        layout: &Layout<'_>,
        imports: &mut [Named<'data>],
        fixups: &mut Builder<'_, 'data>,
    ) -> Result<(), Error> {
        let mut free = 0;
        for (page, start) in (0..).zip(self.starts) {
            let start = start.get(LE);
            if start == NONE {
                continue;
            }
            if start & MULTI != 0 || u64::from(start) >= self.page_size {
                return Err(fixups.wrong("a chain begins outside its page", page * self.page_size));
            }
            let mut at = page * self.page_size + u64::from(start);
            loop {
                if at < free {
                    return Err(fixups.wrong("two places overlap", at));
                }
                let place = fixups.place(self.index, at)?;
                let word = place.word;
                if word >> 63 != 0 {
                    let (index, addend) = (word & 0xFF_FFFF, word >> 24 & 0xFF);
                    let import = usize::try_from(index).ok().and_then(|index| imports.get_mut(index));
                    let Some(import) = import else {
                        return Err(fixups.wrong("a place names an import that is not there", index));
                    };
                    let symbol = match import.symbol {
                        Some(symbol) => symbol,
                        None => fixups.symbol(import.name, import.ordinal, import.weak)?,
                    };
                    import.symbol = Some(symbol);
                    fixups.bind(place, symbol, import.addend.wrapping_add(addend as i64))?;
                } else {
                    let (target, tag) = (word & 0xF_FFFF_FFFF, word >> 36 & 0xFF);
                    let target = if self.from_header { layout.header.wrapping_add(target) } else { target };
                    fixups.rebase(place, target.wrapping_add(tag << 56))?;
                }
                free = at + SIZE;
                let next = word >> 51 & 0xFFF;
                if next == 0 {
                    break;
                }
                at += 4 * next;
                if at >= (page + 1) * self.page_size {
                    return Err(fixups.wrong("a chain leaves its page", at));
                }
            }
        }
        Ok(())
    }
}
