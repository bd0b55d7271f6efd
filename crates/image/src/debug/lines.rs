//! The lines of the source that code was compiled from.

use alloc::string::String;
use alloc::vec::Vec;

use gimli::{AttributeValue, Dwarf, EndianSlice, LineProgramHeader, LineRow, LittleEndian, Unit};

use super::DebugInfo;

type Slice<'s> = EndianSlice<'s, LittleEndian>;

/// From here on, up to the next, code is of this line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Line {
    /// Where the image is.
    pub address: u64,
    /// In [`Lines::files`].
    pub file: u32,
    /// From 1; 0 if it is of no line.
    pub line: u32,
}

/// All lines of a module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lines {
    /// Paths, as the compiler was given them.
    pub files: Vec<String>,
    /// By address.
    pub lines: Vec<Line>,
}

impl DebugInfo<'_> {
    /// What the information says of lines. Units that are damaged are left out.
    pub fn lines(&self) -> Lines {
        let section = |id: gimli::SectionId| {
            Ok::<_, gimli::Error>(EndianSlice::new(self.section(id.name()), LittleEndian))
        };
        let mut lines = Lines::default();
        let Ok(dwarf) = Dwarf::load(section) else { return lines };
        let mut seen = Vec::new();
        let mut units = dwarf.units();
        while let Ok(Some(header)) = units.next() {
            let Ok(unit) = dwarf.unit(header) else { continue };
            let Some(program) = &unit.line_program else { continue };
            // Units may share a program.
            let offset = program.header().offset().0;
            if let Err(at) = seen.binary_search(&offset) {
                seen.insert(at, offset);
                let _ = lines.add(&dwarf, &unit);
            }
        }
        lines.lines.sort_by_key(|line| line.address);
        lines
    }
}

impl Lines {
    fn add(&mut self, dwarf: &Dwarf<Slice<'_>>, unit: &Unit<Slice<'_>>) -> gimli::Result<()> {
        let Some(program) = unit.line_program.clone() else { return Ok(()) };
        // The program's own numbers of files, as they come up.
        let mut files: Vec<Option<u32>> = Vec::new();
        let mut rows = program.rows();
        while let Some((header, row)) = rows.next_row()? {
            let index = row.file_index() as usize;
            if index > header.file_names().len() {
                continue;
            }
            if files.len() <= index {
                files.resize(index + 1, None);
            }
            let file = *files[index].get_or_insert_with(|| {
                self.files.push(path(dwarf, unit, header, row));
                (self.files.len() - 1) as u32
            });
            let line = row.line().map_or(0, |line| line.get() as u32);
            // The end of a sequence begins what is of no line.
            let line = if row.end_sequence() { 0 } else { line };
            self.lines.push(Line { address: row.address(), file, line });
        }
        Ok(())
    }
}

/// A file's path: its name, in its folder, in the folder of compilation, as far as each is not
/// absolute.
fn path(
    dwarf: &Dwarf<Slice<'_>>,
    unit: &Unit<Slice<'_>>,
    header: &LineProgramHeader<Slice<'_>>,
    row: &LineRow,
) -> String {
    let text = |value: AttributeValue<Slice<'_>>| {
        dwarf.attr_string(unit, value).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let Some(file) = row.file(header) else { return String::new() };
    let mut path = text(file.path_name());
    // The folder of number 0 is that of compilation, which DWARF 5 says here and before that the
    // unit does.
    let folder = file.directory(header).map(text).unwrap_or_default();
    let compilation = unit.comp_dir.map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default();
    for folder in [folder, compilation] {
        if !path.starts_with('/') && !folder.is_empty() && !path.starts_with(&folder) {
            path = folder + "/" + &path;
        }
    }
    path
}
