//! Real modules, compiled while the tests run, for both machines on every host; and a pair of
//! tweezers for them.
// Each test file is a crate of its own and uses what it needs of this.
#![allow(dead_code, unreachable_pub)]

pub mod clock;
pub mod model;
pub mod refused;

use midflight_image::{Binding, Error, Host, Image, Import, ImportKind, Machine, ThreadLocal};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

pub const BOTH: [Machine; 2] = [Machine::X86_64, Machine::Aarch64];
pub const MAX_SPAN: u64 = 64 << 20;

/// By name, never `cc`: an AArch64 test under QEMU still finds the host's `cc`.
pub fn compiler(machine: Machine) -> &'static str {
    match machine {
        Machine::X86_64 => "x86_64-linux-gnu-gcc",
        Machine::Aarch64 => "aarch64-linux-gnu-gcc",
    }
}

fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let unique = format!("{}-{}-{name}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(unique)
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{:?} is needed for these tests (scripts/ install it): {error}", command.get_program())
    });
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Compiles C (or, with `-x assembler`, assembly) with exactly these flags, and no warnings.
pub fn compile_as(machine: Machine, source: &str, flags: &[&str]) -> Vec<u8> {
    compile_with(machine, source, &[&["-w"], flags].concat())
}

/// As [`compile_as`], with the compiler's warnings.
pub fn compile_with(machine: Machine, source: &str, flags: &[&str]) -> Vec<u8> {
    let (input, output) = (scratch("module.c"), scratch("module.so"));
    std::fs::write(&input, source).unwrap();
    run(Command::new(compiler(machine)).args(["-O1", "-o"]).arg(&output).args(flags).arg(&input));
    let bytes = std::fs::read(&output).unwrap();
    let _ = (std::fs::remove_file(input), std::fs::remove_file(output));
    bytes
}

/// What images are linked for.
pub const HOST: Host =
    Host { tls_module: 7, tls_dynamic: 0xD000, tls_static: 0x5000, tls_undefined: 0xE000, tlv_thunk: 0x7000 };

/// What an image's imports stand for, as `resolve` says: its number is the address of a function or
/// a variable, and how far a thread-local one is from the thread pointer and, in module 9, from the
/// start of the block.
pub fn bindings<'data>(
    image: &Image<'data>,
    mut resolve: impl FnMut(&Import<'data>) -> Option<u64>,
) -> Vec<Option<Binding>> {
    let bind = |import: &Import<'data>| {
        let number = resolve(import)?;
        Some(match import.kind {
            ImportKind::ThreadLocal => Binding::ThreadLocal(ThreadLocal {
                module: 9,
                offset: number,
                from_thread_pointer: Some(number as i64),
            }),
            _ => Binding::Address(number),
        })
    };
    image.imports().iter().map(bind).collect()
}

pub fn link<'data>(
    image: &Image<'data>,
    base: u64,
    memory: &mut [u8],
    resolve: impl FnMut(&Import<'data>) -> Option<u64>,
) -> Result<(), Error> {
    image.link(base, memory, &HOST, &bindings(image, resolve))
}

/// A shared object without any library.
pub fn compile(machine: Machine, source: &str, flags: &[&str]) -> Vec<u8> {
    compile_as(machine, source, &[&["-shared", "-fPIC", "-nostdlib"], flags].concat())
}

/// A linker's script in a file of its own, as an option for [`compile`].
pub fn version_script(text: &str) -> String {
    let script = scratch("versions.map");
    std::fs::write(&script, text).unwrap();
    format!("-Wl,--version-script={}", script.display())
}

/// One line of `readelf -rW`: an independent reading of what is to be written where.
#[derive(Debug)]
pub struct Relocation {
    pub offset: u64,
    pub kind: String,
    pub symbol: Option<Symbol>,
    pub addend: i64,
}

#[derive(Debug)]
pub struct Symbol {
    /// Without version.
    pub name: String,
    /// The number of its type.
    pub kind: u8,
    /// Its value, if the module defines it.
    pub defined: Option<u64>,
}

pub fn readelf(module: &[u8]) -> Vec<Relocation> {
    let file = scratch("readelf.so");
    std::fs::write(&file, module).unwrap();
    let text = String::from_utf8(run(Command::new("readelf").arg("-rW").arg(&file))).unwrap();
    let _ = std::fs::remove_file(file);
    let hex = |word: &str| u64::from_str_radix(word, 16).unwrap();
    let mut relocations = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [offset, _info, kind, rest @ ..] = &words[..] else { continue };
        if !kind.starts_with("R_") {
            continue;
        }
        let (name, addend) = match rest {
            [addend] => (None, hex(addend) as i64),
            [_value, name, "+", addend] => (Some(name), hex(addend) as i64),
            [_value, name, "-", addend] => (Some(name), -(hex(addend) as i64)),
            other => panic!("{other:?}"),
        };
        let symbol = name.map(|name| {
            let name = name.split('@').next().unwrap().to_string();
            let at = symbol(module, &name);
            let defined = (u16_at(module, at + 6) != 0).then(|| u64_at(module, at + 8));
            Symbol { name, kind: module[at + 4] & 15, defined }
        });
        relocations.push(Relocation { offset: hex(offset), kind: kind.to_string(), symbol, addend });
    }
    relocations
}

pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

pub fn put64(bytes: &mut [u8], at: usize, value: u64) {
    put(bytes, at, &value.to_le_bytes());
}

/// Where each program header of this type is in the file.
pub fn program_headers(bytes: &[u8], kind: u32) -> Vec<usize> {
    let start = u64_at(bytes, 32) as usize;
    let all = (0..u16_at(bytes, 56) as usize).map(|index| start + 56 * index);
    all.filter(|at| u32_at(bytes, *at) == kind).collect()
}

/// The file offset of an address.
pub fn file_offset(bytes: &[u8], address: u64) -> usize {
    for at in program_headers(bytes, 1) {
        let (offset, start, size) = (u64_at(bytes, at + 8), u64_at(bytes, at + 16), u64_at(bytes, at + 32));
        if (start..start + size).contains(&address) {
            return (address - start + offset) as usize;
        }
    }
    panic!("{address:#x} is not in the file");
}

/// Where a dynamic entry is in the file.
pub fn dynamic(bytes: &[u8], tag: u64) -> Option<usize> {
    let header = program_headers(bytes, 2)[0];
    let mut at = u64_at(bytes, header + 8) as usize;
    while u64_at(bytes, at) != 0 {
        if u64_at(bytes, at) == tag {
            return Some(at);
        }
        at += 16;
    }
    None
}

/// The value of a dynamic entry.
pub fn dynamic_value(bytes: &[u8], tag: u64) -> u64 {
    u64_at(bytes, dynamic(bytes, tag).unwrap_or_else(|| panic!("no dynamic entry {tag}")) + 8)
}

pub fn set_dynamic(bytes: &mut [u8], tag: u64, value: u64) {
    let at = dynamic(bytes, tag).unwrap_or_else(|| panic!("no dynamic entry {tag}"));
    put64(bytes, at + 8, value);
}

/// Turns an entry that loading does without (DT_SONAME) into another.
pub fn plant_dynamic(bytes: &mut [u8], tag: u64, value: u64) {
    let at = dynamic(bytes, 14).expect("compile with -Wl,-soname");
    put64(bytes, at, tag);
    put64(bytes, at + 8, value);
}

/// The file offset of the first RELA entry of this type.
pub fn relocation(bytes: &[u8], r_type: u32) -> usize {
    for (table, size) in [(7, 8), (23, 2)] {
        if dynamic(bytes, table).is_none() {
            continue;
        }
        let start = file_offset(bytes, dynamic_value(bytes, table));
        for at in (start..start + dynamic_value(bytes, size) as usize).step_by(24) {
            if u32_at(bytes, at + 8) == r_type {
                return at;
            }
        }
    }
    panic!("no relocation of type {r_type}");
}

/// The file offset of a symbol's entry.
pub fn symbol(bytes: &[u8], name: &str) -> usize {
    let table = file_offset(bytes, dynamic_value(bytes, 6));
    let text = file_offset(bytes, dynamic_value(bytes, 5));
    let name = format!("{name}\0");
    let is_it = |at: &usize| bytes[text + u32_at(bytes, *at) as usize..].starts_with(name.as_bytes());
    (table..).step_by(24).find(is_it).unwrap()
}

/// The numbers of four types: RELATIVE, absolute 64, GLOB_DAT, JUMP_SLOT.
pub fn types(machine: Machine) -> [u32; 4] {
    match machine {
        Machine::X86_64 => [8, 1, 6, 7],
        Machine::Aarch64 => [1027, 257, 1025, 1026],
    }
}

/// A module that uses everything that is supported.
pub const RICH: &str = r#"
extern int host_add(int, int);
extern int host_value;
extern int maybe(void) __attribute__((weak));
extern int maybe_value __attribute__((weak));
int counter = 7;
static int hidden = 9;
int zeroed[5000];
int table[4] = {1, 2, 3, 4};
int *to_counter = &counter;
int *to_hidden = &hidden;
int *to_third = &table[2];
int *to_host = &host_value;
char *past_host = (char *)&host_value + 24;
int (*to_add)(int, int) = host_add;
int (*to_maybe)(void) = maybe;
int *to_maybe_value = &maybe_value;
struct __attribute__((packed)) { char tag; int *pointer; } packed = {1, &counter};
__attribute__((visibility("hidden"))) int not_exported(int x) { return x + hidden++; }
int own_add(int a, int b) { return a + b + not_exported(a); }
__attribute__((visibility("protected"))) int guarded(int x) { return own_add(x, x); }
__attribute__((weak)) int soft(int x) { return x; }
int (*const calls[])(int, int) = {own_add, host_add};
const char *const names[] = {"one", "two"};
int step(int x) { return host_add(x, counter) + own_add(x, host_value) + (maybe ? maybe() : 0) + soft(x); }
void begin(void) { counter++; }
void end(void) { counter--; }
__attribute__((constructor(101))) void up1(void) { counter++; }
__attribute__((constructor(102))) void up2(void) { counter++; }
__attribute__((destructor(101))) void down1(void) { counter--; }
__attribute__((destructor(102))) void down2(void) { counter--; }
"#;

pub const RICH_FLAGS: [&str; 3] = ["-Wl,-soname,librich.so.1", "-Wl,-init=begin", "-Wl,-fini=end"];

pub fn rich(machine: Machine, flags: &[&str]) -> Vec<u8> {
    compile(machine, RICH, &[&RICH_FLAGS, flags].concat())
}
