//! The units: what the entries of each are read by.

use std::collections::HashMap;

use gimli::{
    Abbreviations, AttributeValue, DebugAbbrev, DebugAbbrevOffset, DebugLine, DebugLineOffset, LittleEndian,
    UnitHeader, UnitSectionOffset, UnitType, constants,
};

use super::attributes::unsigned;
use super::{DAMAGED, Reason, SPLIT, Sections, Slice, last_part, reason, string_at};

/// A file that declarations are in: a number of its own, equal for equal paths. 0 is none.
pub(super) type File = u32;

/// A unit of compilation, or a type that stands for itself.
pub(super) struct Unit<'d> {
    pub(super) header: UnitHeader<Slice<'d>>,
    /// Counted over `.debug_info` and `.debug_types`, one after the other.
    pub(super) start: usize,
    /// The source that was compiled, without its folders.
    pub(super) name: &'d [u8],
    /// It has types only, which other units refer to.
    pub(super) of_type: bool,
    pub(super) language: u16,
    /// Types that it leaves undefined may be defined for its source nevertheless.
    pub(super) sparse: bool,
    pub(super) producer: Producer,
    /// Code was made of it.
    pub(super) has_code: bool,
    /// It is of Rust's standard library.
    pub(super) of_rusts_own: bool,
    string_base: usize,
    address_base: usize,
    lines: Option<usize>,
}

/// Which compiler wrote a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Producer {
    Gcc {
        /// Its options are said, and one of them asks for lines only.
        notes_lines_only: bool,
        /// One of them asks for debug information.
        notes_debug: bool,
    },
    /// Or another that uses LLVM.
    Clang,
    Other,
}

impl Producer {
    fn of(text: &[u8]) -> Self {
        if text.windows(5).any(|word| word == b"clang") {
            return Producer::Clang;
        }
        if !text.starts_with(b"GNU ") {
            return Producer::Other;
        }
        let mut options = text.split(|byte| *byte == b' ');
        let notes_debug = options.clone().any(|option| option.starts_with(b"-g"));
        Producer::Gcc { notes_lines_only: options.any(|option| option == b"-g1"), notes_debug }
    }
}

const ASSEMBLER: u16 = 0x8001;
const RUST: u16 = constants::DW_LANG_Rust.0;

impl Unit<'_> {
    /// It says where functions begin, and nothing of what they take.
    pub(super) fn is_assembly(&self) -> bool {
        self.language == ASSEMBLER
    }

    pub(super) fn is_c(&self) -> bool {
        // DW_LANG_C89, C, C99, C11, C17.
        matches!(self.language, 0x01 | 0x02 | 0x0C | 0x1D | 0x2C)
    }

    /// Its source is compiled alone, and nobody else includes it.
    pub(super) fn has_headers(&self) -> bool {
        self.language != RUST
    }
}

/// All units, and what they share.
pub(super) struct Units<'d> {
    pub(super) units: Vec<Unit<'d>>,
    sections: Sections<'d>,
    /// By offset.
    abbreviations: Vec<(usize, Abbreviations)>,
    /// By offset: the files of each line table.
    lines: Vec<(usize, Vec<File>)>,
    files: HashMap<(&'d [u8], &'d [u8]), File>,
    file_names: Vec<&'d [u8]>,
}

impl<'d> Units<'d> {
    pub(super) fn read(sections: Sections<'d>) -> Result<Self, Reason> {
        let mut headers = Vec::new();
        let mut info = gimli::DebugInfo::new(sections.info, LittleEndian).units();
        while let Some(header) = info.next().map_err(reason)? {
            headers.push(header);
        }
        let mut types = gimli::DebugTypes::new(sections.types, LittleEndian).units();
        while let Some(header) = types.next().map_err(reason)? {
            headers.push(header);
        }
        let abbreviations = abbreviations(sections, &headers)?;
        let mut all = Units {
            units: Vec::new(),
            sections,
            abbreviations,
            lines: Vec::new(),
            files: HashMap::new(),
            file_names: vec![&[]],
        };
        let mut line_tables = Vec::new();
        for header in headers {
            let (unit, lines) = all.unit(header)?;
            all.units.push(unit);
            line_tables.push(lines);
        }
        all.read_lines(&line_tables)?;
        Ok(all)
    }

    pub(super) fn abbreviations(&self, unit: &Unit<'d>) -> Result<&Abbreviations, Reason> {
        let offset = unit.header.debug_abbrev_offset().0;
        let at = self.abbreviations.binary_search_by_key(&offset, |(offset, _)| *offset);
        at.map(|at| &self.abbreviations[at].1).map_err(|_| DAMAGED)
    }

    /// The unit, and where its line table is.
    fn unit(&self, header: UnitHeader<Slice<'d>>) -> Result<(Unit<'d>, Option<usize>), Reason> {
        if header.address_size() != 8 {
            return Err(super::UNKNOWN);
        }
        let (start, in_types) = match header.offset() {
            UnitSectionOffset::DebugInfoOffset(offset) => (offset.0, false),
            UnitSectionOffset::DebugTypesOffset(offset) => (self.sections.info.len() + offset.0, true),
        };
        let of_type = in_types || matches!(header.type_(), UnitType::Type { .. });
        if matches!(
            header.type_(),
            UnitType::Skeleton(_) | UnitType::SplitCompilation(_) | UnitType::SplitType { .. }
        ) {
            return Err(SPLIT);
        }
        // Offsets behind the header of a table that has one: where the first is, if the unit does
        // not say.
        let first = if header.version() >= 5 { 8 } else { 0 };
        let mut unit = Unit {
            header,
            start,
            name: &[],
            of_type,
            language: 0,
            sparse: false,
            producer: Producer::Other,
            has_code: false,
            of_rusts_own: false,
            string_base: first,
            address_base: first,
            lines: None,
        };
        let (mut lines, mut values) = (None, Vec::new());
        let abbreviations = self.abbreviations(&unit)?;
        let mut entries = header.entries_raw(abbreviations, None).map_err(reason)?;
        let Some(abbreviation) = entries.read_abbreviation().map_err(reason)? else { return Err(DAMAGED) };
        // Bases first, as other attributes of this entry may be relative to them.
        for attribute in abbreviation.attributes() {
            let attribute = entries.read_attribute(*attribute).map_err(reason)?;
            let value = attribute.raw_value();
            match (attribute.name(), value) {
                (constants::DW_AT_str_offsets_base, AttributeValue::SecOffset(base)) => {
                    unit.string_base = base
                }
                (constants::DW_AT_addr_base, AttributeValue::SecOffset(base)) => unit.address_base = base,
                (constants::DW_AT_stmt_list, AttributeValue::SecOffset(offset)) => lines = Some(offset),
                (constants::DW_AT_stmt_list, AttributeValue::Data4(offset)) => lines = Some(offset as usize),
                (constants::DW_AT_language, value) => {
                    unit.language = unsigned(&value).map_or(0, |code| code as u16)
                }
                (constants::DW_AT_high_pc | constants::DW_AT_ranges, _) => unit.has_code = true,
                (constants::DW_AT_dwo_name | constants::DW_AT_GNU_dwo_name, _) => return Err(SPLIT),
                (name @ (constants::DW_AT_name | constants::DW_AT_producer), _) => values.push((name, value)),
                _ => {}
            }
        }
        for (name, value) in values {
            let text = self.string(&unit, value);
            match name {
                constants::DW_AT_name => {
                    unit.name = source(text);
                    unit.of_rusts_own = unit.language == RUST && is_rusts_own(text);
                }
                _ => unit.producer = Producer::of(text),
            }
        }
        // clang leaves C++ classes undefined that a unit does not look into.
        unit.sparse = unit.producer == Producer::Clang
            && matches!(unit.language, 0x04 | 0x19 | 0x1A | 0x21 | 0x2A | 0x2B);
        Ok((unit, lines))
    }

    /// The text of an attribute; empty if there is none.
    pub(super) fn string(&self, unit: &Unit<'d>, value: AttributeValue<Slice<'d>>) -> &'d [u8] {
        match value {
            AttributeValue::String(text) => text.slice(),
            AttributeValue::DebugStrRef(offset) => string_at(self.sections.strings, offset.0),
            AttributeValue::DebugLineStrRef(offset) => string_at(self.sections.line_strings, offset.0),
            AttributeValue::DebugStrOffsetsIndex(index) => {
                let word = usize::from(unit.header.format().word_size());
                let offset = word_at(self.sections.string_offsets, unit.string_base, index.0, word);
                offset.map_or(&[], |offset| string_at(self.sections.strings, offset as usize))
            }
            _ => &[],
        }
    }

    /// An address that is said by its number.
    pub(super) fn address(&self, unit: &Unit<'d>, index: u64) -> Option<u64> {
        word_at(self.sections.addresses, unit.address_base, usize::try_from(index).ok()?, 8)
    }

    /// The names of files, by their numbers.
    pub(super) fn into_file_names(self) -> Vec<&'d [u8]> {
        self.file_names
    }

    /// The file of a number that entries of the unit have.
    pub(super) fn file(&self, unit: &Unit<'d>, number: u64) -> File {
        let files = unit.lines.and_then(|table| self.lines.get(table));
        let file = files.and_then(|(_, files)| files.get(usize::try_from(number).ok()?));
        file.copied().unwrap_or(0)
    }

    /// Whether a file is the unit's source, and no header.
    pub(super) fn is_source(&self, unit: &Unit<'d>, file: File) -> bool {
        let name = self.file_names.get(file as usize).copied().unwrap_or_default();
        file != 0 && !unit.name.is_empty() && last_part(name) == unit.name
    }

    /// Each table is read once, and no further than where the next begins.
    fn read_lines(&mut self, tables: &[Option<usize>]) -> Result<(), Reason> {
        let mut offsets: Vec<usize> = tables.iter().copied().flatten().collect();
        offsets.sort_unstable();
        offsets.dedup();
        for (at, offset) in offsets.iter().enumerate() {
            let end = offsets.get(at + 1).copied().unwrap_or(self.sections.lines.len());
            let files = match self.sections.lines.get(..end) {
                // Without its files a unit's types are still known.
                Some(bytes) => self.line_table(bytes, *offset).unwrap_or_default(),
                None => Vec::new(),
            };
            self.lines.push((*offset, files));
        }
        for (unit, offset) in self.units.iter_mut().zip(tables) {
            unit.lines = offset.and_then(|offset| offsets.binary_search(&offset).ok());
        }
        Ok(())
    }

    fn line_table(&mut self, bytes: &'d [u8], offset: usize) -> gimli::Result<Vec<File>> {
        let lines = DebugLine::new(bytes, LittleEndian);
        let program = lines.program(DebugLineOffset(offset), 8, None, None)?;
        let header = program.header();
        let text = |value| match value {
            AttributeValue::String(text) => Slice::slice(&text),
            AttributeValue::DebugStrRef(offset) => string_at(self.sections.strings, offset.0),
            AttributeValue::DebugLineStrRef(offset) => string_at(self.sections.line_strings, offset.0),
            _ => &[][..],
        };
        let mut paths = Vec::new();
        for index in 0..=header.file_names().len() as u64 {
            paths.push(header.file(index).map(|file| {
                let folder = file.directory(header).map(text).unwrap_or_default();
                (folder, text(file.path_name()))
            }));
        }
        let mut files = Vec::new();
        for path in paths {
            files.push(path.map_or(0, |path| {
                let next = self.file_names.len() as File;
                let number = *self.files.entry(path).or_insert(next);
                if number == next {
                    self.file_names.push(path.1);
                }
                number
            }));
        }
        Ok(files)
    }
}

/// Tables of abbreviations, by offset. No table goes past where another begins: so each byte of
/// them is read once.
fn abbreviations(
    sections: Sections<'_>,
    headers: &[UnitHeader<Slice<'_>>],
) -> Result<Vec<(usize, Abbreviations)>, Reason> {
    let mut offsets: Vec<usize> = headers.iter().map(|header| header.debug_abbrev_offset().0).collect();
    offsets.sort_unstable();
    offsets.dedup();
    let mut tables = Vec::with_capacity(offsets.len());
    for (at, offset) in offsets.iter().enumerate() {
        let end = offsets.get(at + 1).copied().unwrap_or(sections.abbreviations.len());
        let bytes = sections.abbreviations.get(..end).ok_or(DAMAGED)?;
        let table = DebugAbbrev::new(bytes, LittleEndian).abbreviations(DebugAbbrevOffset(*offset));
        tables.push((*offset, table.map_err(reason)?));
    }
    Ok(tables)
}

/// The name of a unit's source. rustc appends the part of the crate, which differs from build to
/// build.
fn source(name: &[u8]) -> &[u8] {
    let crate_part = name.windows(3).position(|three| three == b"/@/");
    last_part(&name[..crate_part.unwrap_or(name.len())])
}

/// Whether a source is of the standard library, or of what that is made of, by where their builders
/// have them.
fn is_rusts_own(path: &[u8]) -> bool {
    [&b"/rustc/"[..], b"/rust/deps/", b"/usr/src/rustc"].iter().any(|folder| path.starts_with(folder))
}

fn word_at(section: &[u8], base: usize, index: usize, size: usize) -> Option<u64> {
    let at = index.checked_mul(size)?.checked_add(base)?;
    let bytes = section.get(at..)?.get(..size)?;
    let mut word = [0; 8];
    word[..size].copy_from_slice(bytes);
    Some(u64::from_le_bytes(word))
}
