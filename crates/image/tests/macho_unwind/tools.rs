//! Files of every shape from clang and lld, and what llvm-objdump says of them.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use object::read::{Object, ObjectSection};

/// A folder of one test, gone when that is over.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("macho-unwind-{name}-{}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
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
    let mut command = Command::new("clang++-19");
    command.args(["-target", "arm64-apple-macos11", "-w"]);
    command
}

pub(crate) struct Source {
    pub(crate) name: String,
    text: String,
    flags: &'static [&'static str],
}

const PAIRS: [&str; 9] = ["x19", "x21", "x23", "x25", "x27", "d8", "d10", "d12", "d14"];

/// Functions that save every set of pairs that is a multiple of `step` from `first` on, with frames
/// and as leaves.
fn shapes(prefix: &str, first: usize, step: usize) -> String {
    let mut text = String::from("extern \"C\" void outside(int);\n");
    for set in (first..1 << PAIRS.len()).step_by(step) {
        let saved = PAIRS.iter().enumerate().filter(|(bit, _)| set >> bit & 1 != 0);
        let list: Vec<_> = saved.map(|(_, register)| format!("\"{register}\"")).collect();
        let (list, size) = (list.join(","), set * 37 % 2000 + 1);
        let body = format!("volatile char b[{size}]; b[x] = 1; asm volatile(\"\" ::: {list}); return b[0];")
            .replace("::: )", ")");
        writeln!(text, "extern \"C\" int {prefix}_leaf_{set}(int x) {{ {body} }}").unwrap();
        writeln!(text, "extern \"C\" int {prefix}_frame_{set}(int x) {{ outside(x); {body} }}").unwrap();
    }
    text
}

fn language(prefix: &str) -> String {
    "extern \"C\" void outside(int);
    struct Counted_ { int *at; __attribute__((noinline)) ~Counted_() { ++*at; } };
    extern \"C\" int PRE_one(int x) { int n = 0; { Counted_ counted{&n}; outside(x); } return n; }
    extern \"C\" int PRE_two(int x) { try { outside(x); } catch (...) { return 1; } return PRE_one(x); }
    extern \"C\" int PRE_three(int x) { try { outside(x); } catch (int e) { return e; } return 0; }
    extern \"C\" int PRE_grows(int x) { volatile char *p = (char *)__builtin_alloca(x); p[0] = 1; outside(p[0]); return p[0]; }
    extern \"C\" int PRE_nothing(int x) { return x; }
    static int PRE_inner(int x) noexcept { outside(x); return x; }
    extern \"C\" int PRE_throws(int x) { if (PRE_inner(x)) throw x; return 1; }
    extern \"C\" double PRE_many(double a, double b, double c, double d) { outside(1); outside(2); return a * b + c * d; }
    extern \"C\" int PRE_huge(int x) { volatile char b[100000]; b[x] = 1; return b[0]; }"
        .replace("PRE_", prefix)
        .replace("Counted_", &format!("Counted{prefix}"))
}

/// What clang says by directives, and its object file.
pub(crate) struct Compiled {
    pub(crate) source: Source,
    pub(crate) assembly: String,
    pub(crate) object: PathBuf,
}

/// All of them, compiled once for all tests.
pub(crate) struct Objects {
    pub(crate) all: Vec<Compiled>,
    _folder: Folder,
}

pub(crate) static OBJECTS: LazyLock<Objects> = LazyLock::new(|| {
    let folder = Folder::new("objects");
    let mut sources = Vec::new();
    const LEVELS: [&[&str]; 4] = [&["-O0"], &["-O1"], &["-O2"], &["-O3"]];
    for (level, flags) in LEVELS.into_iter().enumerate() {
        let name = format!("language{level}");
        sources.push(Source { text: language(&name), name, flags });
        for first in [0, 5] {
            let name = format!("shapes{level}_{first}");
            sources.push(Source { text: shapes(&name, first + level, 23 + first), name, flags });
        }
    }
    // What compact encodings cannot say is left to __eh_frame.
    let signed: &[&str] = &["-O1", "-mbranch-protection=pac-ret"];
    sources.push(Source { text: language("signed"), name: "signed".into(), flags: signed });
    sources.push(Source { text: shapes("signed2", 3, 71), name: "signed2".into(), flags: signed });
    let all = sources.into_iter().map(|source| {
        let path = |extension: &str| folder.join(&format!("{}.{extension}", source.name));
        let (text, object) = (path("cpp"), path("o"));
        std::fs::write(&text, &source.text).unwrap();
        let assembly = run(clang().args(source.flags).args(["-S", "-o", "-"]).arg(&text));
        run(clang().args(source.flags).arg("-c").arg(&text).arg("-o").arg(&object));
        Compiled { source, assembly, object }
    });
    Objects { all: all.collect(), _folder: folder }
});

/// A dylib of these objects.
pub(crate) fn link(objects: &[&Path], flags: &[&str], output: &Path) {
    let fixed = ["-dylib", "-arch", "arm64", "-platform_version", "macos", "11.0", "11.0", "-undefined"];
    let mut command = Command::new("ld64.lld-19");
    run(command.args(fixed).arg("dynamic_lookup").args(flags).args(objects).arg("-o").arg(output));
}

/// Contents and address of a section.
pub(crate) fn section<'data>(file: &'data [u8], name: &str) -> Option<(&'data [u8], u64)> {
    let file = object::read::macho::MachOFile64::<object::LittleEndian>::parse(file).unwrap();
    let section = file.sections().find(|section| section.name() == Ok(name))?;
    Some((section.data().unwrap(), section.address()))
}

/// The end of the highest section.
pub(crate) fn span(file: &[u8]) -> u64 {
    let file = object::read::macho::MachOFile64::<object::LittleEndian>::parse(file).unwrap();
    file.sections().map(|section| section.address() + section.size()).max().unwrap()
}

pub(crate) fn objdump(file: &Path) -> String {
    run(Command::new("llvm-objdump-19").args(["--macho", "--unwind-info"]).arg(file))
}

/// The number behind a label of a line.
pub(crate) fn number(line: &str, label: &str) -> Option<u64> {
    let rest = line.split_once(label)?.1.trim_start_matches([':', '=', ' ']);
    let digits = rest.strip_prefix("0x").unwrap_or(rest);
    let end = digits.find(|digit: char| !digit.is_ascii_hexdigit()).unwrap_or(digits.len());
    u64::from_str_radix(&digits[..end], 16).ok()
}

/// What llvm-objdump prints of an `__unwind_info`.
#[derive(Default)]
pub(crate) struct Printed {
    /// Numbered from 1.
    personalities: Vec<u64>,
    /// Functions with their LSDA.
    lsdas: Vec<(u64, u64)>,
    /// Where each page's functions begin; the last is where the last page's end.
    index: Vec<u64>,
    /// Functions with their encoding.
    functions: Vec<(u64, u32)>,
}

impl Printed {
    pub(crate) fn of(text: &str) -> Self {
        let mut printed = Self::default();
        let mut part = "";
        for line in text.lines() {
            let line = line.trim_start();
            if !["[", "encoding[", "personality["].iter().any(|row| line.starts_with(row)) {
                part = line;
                continue;
            }
            let function = number(line, "function offset");
            if part.starts_with("Personality functions") {
                printed.personalities.extend(number(line, "]:"));
            } else if part.starts_with("Top level") {
                printed.index.extend(function);
            } else if part.starts_with("LSDA descriptors") {
                printed.lsdas.push((function.unwrap(), number(line, "LSDA offset").unwrap()));
            } else if let Some(function) = function {
                let encoding = line.rsplit_once('=').unwrap().1.trim().trim_start_matches("0x");
                printed.functions.push((function, u32::from_str_radix(encoding, 16).unwrap()));
            }
        }
        printed
    }

    /// The same as entries: function, length, encoding, personality, LSDA.
    pub(crate) fn entries(&self) -> Vec<Row> {
        let end = self.index.last().copied().unwrap_or(0);
        let row = |(at, (function, encoding)): (usize, &(u64, u32))| {
            let next = self.functions.get(at + 1).map_or(end, |(next, _)| *next);
            let personality = (encoding >> 28 & 3) as usize;
            let lsda = self.lsdas.iter().find(|(of, _)| of == function && encoding >> 30 & 1 != 0);
            Row {
                function: *function,
                length: next - function,
                encoding: *encoding,
                personality: personality.checked_sub(1).map(|index| self.personalities[index]),
                lsda: lsda.map(|(_, lsda)| *lsda),
            }
        };
        self.functions.iter().enumerate().map(row).collect()
    }
}

pub(crate) use crate::compact::Entry as Row;
