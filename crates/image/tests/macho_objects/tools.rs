//! clang, what LLVM's tools say of its files, and a pair of tweezers for those.

use crate::common::{u32_at, u64_at};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder that is gone when this is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("macho-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{:?} is needed for these tests (scripts/ install it): {error}", command.get_program())
    });
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn clang() -> Command {
    let mut command = Command::new("clang-19");
    command.args(["-target", "arm64-apple-macos11", "-w", "-c"]);
    command
}

fn object(source: &str, name: &str, flags: &[&str]) -> Vec<u8> {
    let scratch = Scratch::new();
    let (input, output) = (scratch.path().join(name), scratch.path().join("out.o"));
    std::fs::write(&input, source).unwrap();
    run(clang().args(flags).arg(&input).arg("-o").arg(&output));
    std::fs::read(&output).unwrap()
}

/// Compiles C.
pub(crate) fn compile(source: &str, flags: &[&str]) -> Vec<u8> {
    object(source, "source.c", &[&["-O1"], flags].concat())
}

/// Compiles C++.
pub(crate) fn compile_cpp(source: &str, flags: &[&str]) -> Vec<u8> {
    object(source, "source.cc", &[&["-O1", "-std=c++17"], flags].concat())
}

pub(crate) fn assemble(source: &str) -> Vec<u8> {
    object(source, "source.s", &[])
}

/// Compiles many files at once, each with the extension given, and says what they became.
pub(crate) fn compile_all(
    folder: &Path,
    sources: &[(String, &str)],
    flags: &[&str],
) -> Vec<(PathBuf, Vec<u8>)> {
    let mut command = clang();
    command.args(flags).current_dir(folder);
    for (index, (source, extension)) in sources.iter().enumerate() {
        let name = format!("{index}.{extension}");
        std::fs::write(folder.join(&name), source).unwrap();
        command.arg(name);
    }
    run(&mut command);
    let read = |index: usize| {
        let path = folder.join(format!("{index}.o"));
        let bytes = std::fs::read(&path).unwrap();
        (path, bytes)
    };
    (0..sources.len()).map(read).collect()
}

/// A section, as the load commands have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// With its segment: `__TEXT,__text`.
    pub(crate) name: String,
    pub(crate) address: u64,
    pub(crate) size: u64,
    /// In the file; 0 if it has no bytes.
    pub(crate) offset: usize,
    /// Of its relocations.
    pub(crate) relocations: (usize, usize),
    /// Where its header is.
    pub(crate) header: usize,
}

/// The load commands: (number, place, size).
pub(crate) fn commands(bytes: &[u8]) -> Vec<(u32, usize, usize)> {
    let (mut at, mut found) = (32, Vec::new());
    for _ in 0..u32_at(bytes, 16) {
        let size = u32_at(bytes, at + 4) as usize;
        found.push((u32_at(bytes, at), at, size));
        at += size;
    }
    found
}

pub(crate) fn sections(bytes: &[u8]) -> Vec<Section> {
    let (_, segment, _) = commands(bytes).into_iter().find(|command| command.0 == 0x19).unwrap();
    let name = |at: usize| {
        let field = &bytes[at..at + 16];
        String::from_utf8_lossy(field.split(|byte| *byte == 0).next().unwrap()).into_owned()
    };
    let headers = (0..u32_at(bytes, segment + 64) as usize).map(|index| segment + 72 + 80 * index);
    let section = |at| Section {
        name: format!("{},{}", name(at + 16), name(at)),
        address: u64_at(bytes, at + 32),
        size: u64_at(bytes, at + 40),
        offset: u32_at(bytes, at + 48) as usize,
        relocations: (u32_at(bytes, at + 56) as usize, u32_at(bytes, at + 60) as usize),
        header: at,
    };
    headers.map(section).collect()
}

/// One line of `llvm-objdump --macho -r`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relocation {
    /// With its segment.
    pub(crate) section: String,
    pub(crate) place: u64,
    pub(crate) pc_relative: bool,
    pub(crate) size: usize,
    /// As the tool abbreviates it.
    pub(crate) kind: String,
    /// A symbol; of an addend its number in hexadecimal; of a section its number and name.
    pub(crate) target: String,
    pub(crate) by_symbol: bool,
}

const KINDS: [&str; 11] = [
    "UNSIGND", "SUB", "BR26", "PAGE21", "PAGOF12", "GOTLDPOF", "GOTLDP", "PTRTGOT", "TLVLDPOF", "TLVLDP",
    "ADDEND",
];

/// By file: its relocations, in the order of the file.
pub(crate) fn relocations(files: &[&Path]) -> BTreeMap<String, Vec<Relocation>> {
    let text = run(Command::new("llvm-objdump-19").args(["--macho", "-r"]).args(files));
    let mut found: BTreeMap<String, Vec<Relocation>> = BTreeMap::new();
    let (mut file, mut section) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("Relocation information (") {
            section = rest.split_once(')').unwrap().0.to_string();
        } else if let Some(name) = line.strip_suffix(':') {
            file = name.to_string();
        } else if let Some((place, rest)) = line.split_once(' ')
            && let Ok(place) = u64::from_str_radix(place, 16)
        {
            let (pc_relative, rest) = (rest.starts_with("True"), &rest[6..]);
            let size = if rest.starts_with("long") { 4 } else { 8 };
            assert!(size == 4 || rest.starts_with("?( 3)"), "{line}");
            let (by_symbol, rest) = (rest[7..].starts_with("True"), &rest[14..]);
            let kind =
                KINDS.into_iter().find(|kind| rest.starts_with(kind)).unwrap_or_else(|| panic!("{line}"));
            let (_, target) = rest.split_once("False").unwrap();
            let target = target.trim().trim_start_matches("addend = 0x").to_string();
            let kind = kind.to_string();
            let section = section.clone();
            let relocation = Relocation { section, place, pc_relative, size, kind, target, by_symbol };
            found.entry(file.clone()).or_default().push(relocation);
        }
    }
    found
}

/// By file: what `llvm-nm` has of its symbols, defined ones with address and section, others
/// without.
pub(crate) type Names = BTreeMap<String, Option<(u64, String)>>;

pub(crate) fn names(files: &[&Path]) -> BTreeMap<String, Names> {
    let text = run(Command::new("llvm-nm-19").args(["-m", "-A"]).args(files));
    let mut found: BTreeMap<String, Names> = BTreeMap::new();
    for line in text.lines() {
        let (file, rest) = line.split_once(": ").unwrap();
        let words: Vec<&str> = rest.split_whitespace().collect();
        let name = words.last().unwrap().to_string();
        let place = u64::from_str_radix(words[0], 16).ok().filter(|_| words[1].contains(','));
        let place = place.map(|address| {
            let section = words[1].trim_matches(['(', ')']);
            (address, section.to_string())
        });
        found.entry(file.to_string()).or_default().insert(name, place);
    }
    found
}
