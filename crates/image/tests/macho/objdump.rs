//! What llvm-objdump prints, as data: a second reading of each file.

use super::tools::objdump;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    pub name: String,
    pub address: u64,
    pub size: u64,
    pub file_offset: u64,
    pub file_size: u64,
    pub protection: String,
    pub read_only: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    pub name: String,
    pub kind: String,
    pub address: u64,
    pub size: u64,
    /// A power of two.
    pub align: u64,
    pub code: bool,
}

/// Something that is written at an address.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fixup {
    /// Only that an address of the file is there.
    Rebase { at: u64 },
    /// Of lazy ones it is not said whether they may be missing.
    Bind { at: u64, name: String, library: String, addend: i64, weak: Option<bool> },
    /// As `Bind`, to the first definition that is found anywhere.
    WeakBind { at: u64, name: String, addend: i64 },
}

#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub name: String,
    pub address: u64,
    pub flags: String,
}

#[derive(Debug, Default)]
pub(crate) struct File {
    pub segments: Vec<Segment>,
    pub sections: Vec<Section>,
    pub fixups: Vec<Fixup>,
    pub exports: Vec<Export>,
    pub id: Option<String>,
    pub libraries: Vec<String>,
    pub chained: bool,
    chained_at: usize,
    pub rpaths: Vec<String>,
    pub imports_format: Option<usize>,
}

fn hex(word: &str) -> u64 {
    u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap_or_else(|_| panic!("{word}"))
}

/// What the parts of the output begin with.
const PARTS: &[&str] = &[
    "dyld information:",
    "chained fixups header",
    "Mach header",
    "Exports trie:",
    "Rebase table:",
    "Bind table:",
    "Lazy bind table:",
    "Weak bind table:",
];

/// All in one run, because there are many files.
pub(crate) fn read(file: &Path) -> File {
    let mut parts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let what = ["--private-headers", "--dylibs-used", "--exports-trie", "--dyld-info", "--chained-fixups"];
    let text = objdump(file, &[&what[..], &["--rebase", "--bind", "--lazy-bind", "--weak-bind"]].concat());
    let mut part = "";
    for line in text.lines() {
        part = PARTS.iter().find(|start| line.starts_with(**start)).unwrap_or(&part);
        parts.entry(if line.starts_with('\t') { "libraries" } else { part }).or_default().push(line);
    }
    let part = |name: &str| parts.get(name).map_or(&[][..], |lines| lines);

    let mut read = File::default();
    headers(part("Mach header"), &mut read);
    if read.chained {
        let field = |name: &str| -> usize {
            let of =
                |line: &&str| Some(line.trim().strip_prefix(name)?.trim().strip_prefix("= ")?.to_string());
            let line = part("chained fixups header").iter().find_map(of).unwrap_or_else(|| panic!("{name}"));
            line.split(' ').next().unwrap().parse().unwrap()
        };
        read.imports_format = Some(field("imports_format"));
        let table = &std::fs::read(file).unwrap()[read.chained_at..];
        let wide = Wide { table, imports: field("imports_offset"), names: field("symbols_offset") };
        chained(part("dyld information:"), &mut read, &wide);
    } else {
        for table in PARTS.iter().filter(|part| part.ends_with(" table:")) {
            opcodes(table, part(table), &mut read);
        }
    }
    exports(part("Exports trie:"), &mut read);
    let libraries = part("libraries").iter().filter_map(|line| line.trim().split(" (").next());
    // The first one is the file itself, if it has a name.
    read.libraries = libraries.map(String::from).skip(read.id.iter().len()).collect();
    read
}

fn headers(lines: &[&str], into: &mut File) {
    let (mut in_section, mut in_id, mut in_chained) = (false, false, false);
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [key, value, ..] = words[..] else {
            if *line == "Section" {
                in_section = true;
                into.sections.push(Section::default());
            }
            continue;
        };
        match (key, in_section) {
            ("cmd", _) => {
                (in_section, in_id) = (false, value == "LC_ID_DYLIB");
                if value == "LC_SEGMENT_64" {
                    into.segments.push(Segment::default());
                }
                in_chained = value == "LC_DYLD_CHAINED_FIXUPS";
                into.chained |= in_chained;
            }
            ("name", false) if in_id => into.id = Some(value.into()),
            ("dataoff", false) if in_chained => into.chained_at = value.parse().unwrap(),
            ("path", false) => into.rpaths.push(value.into()),
            (_, true) => {
                let section = into.sections.last_mut().unwrap();
                match key {
                    "sectname" => section.name = value.into(),
                    "addr" => section.address = hex(value),
                    "size" => section.size = hex(value),
                    "align" => section.align = 1 << value.trim_start_matches("2^").parse::<u32>().unwrap(),
                    "type" => section.kind = value.into(),
                    "attributes" => section.code = words.contains(&"PURE_INSTRUCTIONS"),
                    _ => {}
                }
            }
            (_, false) => {
                let Some(segment) = into.segments.last_mut() else { continue };
                match key {
                    "segname" => segment.name = value.into(),
                    "vmaddr" => segment.address = hex(value),
                    "vmsize" => segment.size = hex(value),
                    "fileoff" if segment.file_size == 0 => segment.file_offset = value.parse().unwrap(),
                    "filesize" => segment.file_size = value.parse().unwrap(),
                    "initprot" => segment.protection = value.into(),
                    "flags" if segment.protection.len() == 3 => {
                        segment.read_only |= words.contains(&"SG_READ_ONLY")
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The name, and whether it may be missing.
fn symbol(words: &[&str]) -> (String, bool) {
    (words[0].into(), words.get(1).is_some_and(|word| word.starts_with("(weak")))
}

/// Imports with addends of 64 bits, of which llvm-objdump 19 takes the wrong bits for the name and
/// for whether it may be missing. Apple's <mach-o/fixup-chains.h>: 16 bits of the ordinal, 1 of
/// that, 15 of nothing, 32 of the name's place.
struct Wide<'a> {
    table: &'a [u8],
    imports: usize,
    names: usize,
}

impl Wide<'_> {
    fn get(&self, index: u64) -> (String, bool) {
        let at = self.imports + 16 * index as usize;
        let word = u64::from_le_bytes(self.table[at..at + 8].try_into().unwrap());
        let name = &self.table[self.names + (word >> 32) as usize..];
        let name = name.split(|byte| *byte == 0).next().unwrap();
        (String::from_utf8(name.to_vec()).unwrap(), word >> 16 & 1 != 0)
    }
}

fn chained(lines: &[&str], into: &mut File, wide: &Wide<'_>) {
    for line in lines.iter().skip(2).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = hex(words[2]);
        into.fixups.push(match words[4] {
            "rebase" => Fixup::Rebase { at },
            "bind" => {
                let (name, weak) = match into.imports_format {
                    Some(3) => wide.get(hex(words[3]) & 0xFF_FFFF),
                    _ => symbol(&words[7..]),
                };
                let addend = match words[5].strip_prefix('-') {
                    Some(positive) => (hex(positive) as i64).wrapping_neg(),
                    None => hex(words[5]) as i64,
                };
                Fixup::Bind { at, name, library: words[6].into(), addend, weak: Some(weak) }
            }
            other => panic!("{other}: {line}"),
        });
    }
}

fn opcodes(table: &str, lines: &[&str], into: &mut File) {
    for line in lines.iter().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.len() < 4 || words[0] == "segment" {
            continue;
        }
        let at = || hex(words[2]);
        let bind = |addend: i64, library: &str, rest: &[&str]| {
            let (name, weak) = symbol(rest);
            let weak = (table != "Lazy bind table:").then_some(weak);
            Fixup::Bind { at: at(), name, library: library.into(), addend, weak }
        };
        into.fixups.push(match table {
            "Rebase table:" => Fixup::Rebase { at: at() },
            "Bind table:" => bind(words[4].parse().unwrap(), words[5], &words[6..]),
            "Lazy bind table:" => bind(0, words[3], &words[4..]),
            "Weak bind table:" => {
                Fixup::WeakBind { at: at(), name: words[5].into(), addend: words[4].parse().unwrap() }
            }
            other => panic!("{other}: {line}"),
        });
    }
}

fn exports(lines: &[&str], into: &mut File) {
    for line in lines.iter().filter(|line| line.starts_with("0x")) {
        let mut words = line.splitn(3, char::is_whitespace).filter(|word| !word.is_empty());
        let (address, rest) = (hex(words.next().unwrap()), words.next().unwrap().trim());
        let (name, flags) = rest.split_once(' ').unwrap_or((rest, ""));
        into.exports.push(Export { name: name.into(), address, flags: flags.into() });
    }
}
