//! What the section headers lead to: names and debug information. Nothing of it is needed to run
//! the module, so what is damaged here is left out, and harms nothing else.

use crate::elf::format::{Header, table_of};
use alloc::borrow::Cow;
use alloc::vec::Vec;

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader, SectionHeader, Sym};

use super::segments::Layout;
use crate::debug::{self, DebugInfo, Symbol, Symbols};

type Section = elf::SectionHeader64<LE>;

/// The file as its section headers describe it.
pub(super) struct Sections<'data> {
    bytes: &'data [u8],
    headers: &'data [Section],
    names: &'data [u8],
}

impl<'data> Sections<'data> {
    /// None if the file has no section headers, or not whole ones.
    pub(super) fn parse(bytes: &'data [u8], header: &Header) -> Option<Self> {
        let headers = header.section_headers(LE, bytes).ok()?;
        let names = header.shstrndx(LE, bytes).ok()?;
        let names = headers.get(names as usize)?.data(LE, bytes).ok()?;
        Some(Self { bytes, headers, names })
    }

    /// The functions and variables of `.symtab`, or of `.dynsym` where that was stripped.
    pub(super) fn symbols(&self, layout: &Layout<'data>) -> Option<Symbols<'data>> {
        let table = |kind| self.headers.iter().find(|section| section.sh_type(LE) == kind);
        let table = table(elf::SHT_SYMTAB).or_else(|| table(elf::SHT_DYNSYM))?;
        let bytes = table.data(LE, self.bytes).ok()?;
        let entries: &[elf::Sym64<LE>] = table_of(bytes, bytes.len() / size_of::<elf::Sym64<LE>>());
        let names = self.headers.get(table.sh_link(LE) as usize)?.data(LE, self.bytes).ok()?;
        let mut symbols = Vec::with_capacity(entries.len());
        for entry in entries {
            let function = match entry.st_type() {
                elf::STT_FUNC | elf::STT_GNU_IFUNC => true,
                elf::STT_OBJECT => false,
                _ => continue,
            };
            if !matches!(entry.st_shndx(LE), elf::SHN_UNDEF | elf::SHN_ABS | elf::SHN_COMMON)
                && let Some(offset) = layout.offset(entry.st_value(LE))
            {
                symbols.push(Symbol { name: entry.st_name(LE), function, offset, size: entry.st_size(LE) });
            }
        }
        Some(Symbols { names: Cow::Borrowed(names), symbols })
    }

    /// The debug information, true for the image at `base`.
    pub(super) fn debug(&self, layout: &Layout<'data>, base: u64) -> DebugInfo<'data> {
        let mut found = DebugInfo::default();
        let low = layout.bias(0).wrapping_neg();
        let image = low..low + layout.memory.span;
        let read = self.debug_sections(&mut found);
        match read.and_then(|()| debug::relocate(&mut found, &image, layout.bias(base))) {
            Ok(()) => found,
            Err(reason) => DebugInfo { sections: Vec::new(), omitted: Some(reason) },
        }
    }

    fn debug_sections(&self, found: &mut DebugInfo<'data>) -> Result<(), &'static str> {
        for section in self.headers {
            let name = self.name(section);
            if name.starts_with(b".zdebug_")
                || (name.starts_with(b".debug_")
                    && section.sh_flags(LE) & u64::from(elf::SHF_COMPRESSED) != 0)
            {
                return Err("it is compressed: build the module without -gz");
            }
            if name == b".gnu_debugaltlink" {
                return Err("a part of it is in another file: build the module without dwz");
            }
            let Some(name) = debug::SECTIONS.iter().find(|wanted| wanted.as_bytes() == name) else {
                continue;
            };
            let contents = section.data(LE, self.bytes).map_err(|_| "it is damaged")?;
            if found.sections.iter().any(|(other, _)| other == name) {
                return Err("a section of it is there twice");
            }
            found.sections.push((name, Cow::Borrowed(contents)));
        }
        Ok(())
    }

    fn name(&self, section: &Section) -> &'data [u8] {
        let name = self.names.get(section.sh_name(LE) as usize..).unwrap_or_default();
        name.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}
