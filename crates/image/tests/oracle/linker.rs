//! GNU ld and lld, as references: what they write for an object file, and which relocations they
//! refuse.

use super::common::{compile_as, file_offset, put, u16_at, u32_at, u64_at};
use midflight_image::Machine;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Linker {
    Gnu,
    Lld,
}

impl Linker {
    pub(crate) const ALL: [Linker; 2] = [Linker::Gnu, Linker::Lld];

    fn command(self, machine: Machine) -> Command {
        // Each would stop after a few messages.
        let (program, all_messages) = match (self, machine) {
            (Linker::Gnu, Machine::X86_64) => ("x86_64-linux-gnu-ld", "--verbose"),
            (Linker::Gnu, Machine::Aarch64) => ("aarch64-linux-gnu-ld", "--verbose"),
            (Linker::Lld, _) => ("ld.lld-19", "--error-limit=0"),
        };
        let mut command = Command::new(program);
        command.arg(all_messages);
        command
    }
}

/// A relocation in the section `.text`, and what is in its place.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) r_type: u32,
    pub(crate) place: Vec<u8>,
    pub(crate) symbol: String,
    pub(crate) addend: i64,
}

/// How far it is from one place to the next.
pub(crate) const STEP: u64 = 16;

/// The address of a place, if the text is at `text`.
pub(crate) fn place(text: u64, index: usize) -> u64 {
    text + STEP * (index as u64 + 1)
}

/// What a linker made of some cases.
pub(crate) struct Linked {
    /// By index; those that are missing were refused.
    pub(crate) written: BTreeMap<usize, Vec<u8>>,
    pub(crate) symbols: BTreeMap<String, u64>,
    file: Vec<u8>,
}

impl Linked {
    /// The address and the contents of a section.
    pub(crate) fn section(&self, name: &str) -> Option<(u64, &[u8])> {
        let (address, offset, size) = section(&self.file, name)?;
        Some((address, &self.file[offset..offset + size]))
    }

    /// The dynamic relocations: place, type, symbol.
    pub(crate) fn dynamic(&self) -> Vec<(u64, u32, u32)> {
        let tables =
            [".rela.dyn", ".rela.plt", ".rela.got"].into_iter().filter_map(|name| self.section(name));
        let entries = tables.flat_map(|(_, table)| table.chunks(24));
        entries.map(|entry| (u64_at(entry, 0), u32_at(entry, 8), u32_at(entry, 12))).collect()
    }
}

/// The object file with the places; the first has no relocation. `skip` are left as they are. Bytes
/// of nothing come before each, so that no linker takes it for a part of an instruction that it
/// knows.
fn object(machine: Machine, cases: &[Case], rest: &str, skip: &BTreeSet<usize>) -> Vec<u8> {
    let any = match machine {
        Machine::X86_64 => "R_X86_64_64",
        Machine::Aarch64 => "R_AARCH64_ABS64",
    };
    let mut text = format!("{rest}\n.text\n.balign {STEP}\n.zero {STEP}\n");
    for (index, Case { place, symbol, addend, .. }) in cases.iter().enumerate() {
        if !skip.contains(&index) {
            text += &format!(".reloc ., {any}, {symbol} + {addend}\n");
        }
        let bytes: Vec<String> = place.iter().map(u8::to_string).collect();
        text += &format!(".byte {}\n.zero {}\n", bytes.join(","), STEP as usize - place.len());
    }
    let mut object = compile_as(machine, &text, &["-c", "-x", "assembler"]);
    // Assemblers do not know the names of all types. They leave the relocations in the order of the
    // places.
    if let Some((_, table, size)) = section(&object, ".rela.text") {
        let left = (0..cases.len()).filter(|index| !skip.contains(index));
        for (at, index) in (table..table + size).step_by(24).zip(left) {
            assert_eq!(u64_at(&object, at), place(0, index));
            put(&mut object, at + 8, &cases[index].r_type.to_le_bytes());
        }
    }
    object
}

/// Links the cases at `text`.
pub(crate) fn link(
    machine: Machine,
    linker: Linker,
    cases: &[Case],
    rest: &str,
    text: u64,
    flags: &[&str],
) -> Linked {
    link_with(machine, linker, cases, rest, "", text, flags)
}

/// Links the cases at `text`: to learn which of them the linker refuses, and again without those.
/// `rest` is assembly, `script` for the linker.
pub(crate) fn link_with(
    machine: Machine,
    linker: Linker,
    cases: &[Case],
    rest: &str,
    script: &str,
    text: u64,
    flags: &[&str],
) -> Linked {
    let mut refused = BTreeSet::new();
    // lld looks for types that it does not know before it looks at any value.
    for _ in 0..3 {
        let object = object(machine, cases, rest, &refused);
        let text_at = format!("-Ttext={text:#x}");
        match run(machine, linker, &object, script, &[&[&*text_at], flags].concat()) {
            Ok(file) => {
                let written = (0..cases.len()).filter(|index| !refused.contains(index));
                let written = written.map(|index| {
                    let at = file_offset(&file, place(text, index));
                    (index, file[at..at + cases[index].place.len()].to_vec())
                });
                return Linked { written: written.collect(), symbols: symbols(&file), file };
            }
            Err(messages) => {
                let before = refused.len();
                for line in messages.lines() {
                    let Some((_, rest)) = line.split_once("(.text+0x") else { continue };
                    let offset = u64::from_str_radix(rest.split(')').next().unwrap(), 16).unwrap();
                    refused.insert((offset / STEP) as usize - 1);
                }
                assert!(
                    refused.len() > before,
                    "{linker:?} fails for another reason, with the text at {text:#x}\n{messages}"
                );
            }
        }
    }
    panic!("{linker:?} refuses what it has not refused before")
}

/// The linked file, or the messages.
pub(crate) fn run(
    machine: Machine,
    linker: Linker,
    object: &[u8],
    script: &str,
    flags: &[&str],
) -> Result<Vec<u8>, String> {
    let [input, definitions, output] = ["oracle.o", "oracle.ld", "oracle.out"].map(scratch);
    std::fs::write(&input, object).unwrap();
    std::fs::write(&definitions, script).unwrap();
    let mut command = linker.command(machine);
    command.args(["-e", "0", "-o"]).arg(&output).arg(&input).args(flags);
    if !script.is_empty() {
        command.arg(&definitions);
    }
    let result = command
        .output()
        .unwrap_or_else(|error| panic!("{:?} is needed for these tests: {error}", command.get_program()));
    let linked = if result.status.success() {
        Ok(std::fs::read(&output).unwrap())
    } else {
        Err([result.stderr, result.stdout].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
    };
    for file in [input, definitions, output] {
        let _ = std::fs::remove_file(file);
    }
    linked
}

fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let unique = format!("{}-{}-{name}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(unique)
}

fn name_at(file: &[u8], at: usize) -> &str {
    let end = file[at..].iter().position(|byte| *byte == 0).unwrap();
    std::str::from_utf8(&file[at..at + end]).unwrap()
}

/// Address, file offset and size.
pub(crate) fn section(file: &[u8], wanted: &str) -> Option<(u64, usize, usize)> {
    let table = u64_at(file, 40) as usize;
    let names = u64_at(file, table + 64 * usize::from(u16_at(file, 62)) + 24) as usize;
    let mut headers = (0..usize::from(u16_at(file, 60))).map(|index| table + 64 * index);
    let header = headers.find(|header| name_at(file, names + u32_at(file, *header) as usize) == wanted)?;
    Some((u64_at(file, header + 16), u64_at(file, header + 24) as usize, u64_at(file, header + 32) as usize))
}

pub(crate) fn symbols(file: &[u8]) -> BTreeMap<String, u64> {
    let (_, table, size) = section(file, ".symtab").expect("a symbol table");
    let (_, names, _) = section(file, ".strtab").expect("names");
    let symbols = (table..table + size).step_by(24);
    symbols
        .map(|at| (name_at(file, names + u32_at(file, at) as usize).to_string(), u64_at(file, at + 8)))
        .collect()
}
