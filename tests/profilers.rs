//! What is written for perf, read back. A process of its own, because a runtime's configuration is
//! chosen at its start.

mod support;

use std::ffi::CStr;
use std::path::Path;

use midflight::{Config, Error, Runtime};
use support::{Workshop, mappings, this_test};

midflight::module! {
    unsafe mod profiled { safe fn spin(rounds: u64) -> u64; safe fn place() -> usize; }
}

/// `spin` begins on line 3.
const SOURCE: &str = "
#include <stdint.h>
uint64_t spin(uint64_t rounds) {
    volatile uint64_t sum = VERSION;
    for (uint64_t i = 0; i < rounds; i++) sum += i;
    return sum;
}
uintptr_t place(void) { return (uintptr_t)spin; }
";

fn start(folder: &Path) -> Result<Runtime, Error> {
    let mut config = Config::default();
    config.perf_map = true;
    config.jitdump = Some(folder.into());
    Runtime::start_with(config)
}

/// Reads little-endian fields one after the other.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn bytes(&mut self, len: usize) -> &'b [u8] {
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes(8).try_into().unwrap())
    }

    fn text(&mut self) -> &'b str {
        let text = CStr::from_bytes_until_nul(self.0).unwrap();
        self.bytes(text.count_bytes() + 1);
        text.to_str().unwrap()
    }
}

/// A function as the dump has it: name, address, code, and the lines that were told before.
#[derive(Debug)]
struct Dumped {
    name: String,
    address: u64,
    code: Vec<u8>,
    lines: Vec<(u64, u32, String)>,
}

fn read_jitdump(dump: &[u8]) -> Vec<Dumped> {
    let mut header = Fields(&dump[..40]);
    assert_eq!([header.u32(), header.u32(), header.u32()], [0x4A69_5444, 1, 40]);
    assert_eq!(header.u32(), if cfg!(target_arch = "x86_64") { 62 } else { 183 });
    header.u32();
    assert_eq!(header.u32(), std::process::id());
    let (mut time, flags) = (header.u64(), header.u64());
    assert_eq!(flags, 0);

    let (mut rest, mut functions, mut lines) = (&dump[40..], Vec::new(), Vec::new());
    while !rest.is_empty() {
        let mut head = Fields(rest);
        let (kind, size, at) = (head.u32(), head.u32() as usize, head.u64());
        assert!(at >= time, "records are in the order of time");
        time = at;
        let mut record = Fields(&rest[16..size]);
        rest = &rest[size..];
        match kind {
            2 => {
                record.u64();
                for _ in 0..record.u64() {
                    let (address, line, _) = (record.u64(), record.u32(), record.u32());
                    lines.push((address, line, record.text().to_owned()));
                }
            }
            0 => {
                assert_eq!(record.u32(), std::process::id());
                record.u32();
                let (address, again, size, number) = (record.u64(), record.u64(), record.u64(), record.u64());
                assert_eq!((again, number), (address, functions.len() as u64));
                let (name, code) = (record.text().to_owned(), record.bytes(size as usize).to_vec());
                functions.push(Dumped { name, address, code, lines: std::mem::take(&mut lines) });
            }
            other => panic!("record {other}"),
        }
        assert!(record.0.is_empty(), "{:?} is left of record {kind}", record.0);
    }
    functions
}

#[test]
fn the_map_and_the_dump_have_every_function_of_every_version() {
    let shop = Workshop::new("profilers");
    let rt = start(&shop.path("")).unwrap();
    let map = format!("/tmp/perf-{}.map", std::process::id());
    let dump = shop.path(&format!("jit-{}.dump", std::process::id()));
    // Only Linux says what is mapped.
    if cfg!(target_os = "linux") {
        let marker = mappings();
        let marker = marker
            .lines()
            .find(|line| line.contains("/jit-"))
            .expect("the mapping by which perf finds the dump");
        assert!(marker.contains("r-x") && marker.ends_with(dump.to_str().unwrap()), "{marker}");
    }
    for version in [1, 2] {
        let machine = std::env::consts::ARCH;
        let options = ["-g", &format!("-DVERSION={version}")];
        let module = shop.module_for(machine, "profiled", version, SOURCE, &options);
        // SAFETY: as declared.
        unsafe { rt.load(module) }.unwrap();
        let frame = rt.frame();
        assert_eq!(profiled::spin(&frame, 0), version.into());
        let place = profiled::place(&frame);

        let lines = std::fs::read_to_string(&map).unwrap();
        let mine = lines.lines().rev().find(|line| line.ends_with(" spin")).unwrap();
        let words: Vec<_> = mine.split(' ').map(|word| u64::from_str_radix(word, 16)).collect();
        assert_eq!(words[0], Ok(place as u64), "{mine}");
        let size = words[1].clone().unwrap();
        assert!(size > 8 && lines.lines().any(|line| line.ends_with(" place")), "{lines}");

        let functions = read_jitdump(&std::fs::read(&dump).unwrap());
        let spin = functions.iter().rfind(|function| function.name == "spin").unwrap();
        assert_eq!((spin.address, spin.code.len() as u64), (place as u64, size));
        // SAFETY: the function is in the frame's generation.
        let code = unsafe { std::slice::from_raw_parts(place as *const u8, size as usize) };
        assert_eq!(spin.code, code);
        // Mach-O libraries have no lines: they stay in the object files, or in a dSYM.
        if support::is_macho() {
            assert!(spin.lines.is_empty());
            continue;
        }
        let (address, line, file) = &spin.lines[0];
        assert_eq!((*address, *line), (place as u64, 3), "{:?}", spin.lines);
        assert!(file.ends_with("module.c"), "{file}");
        assert!(spin.lines.iter().all(|(at, line, _)| (3..=7).contains(line) && at - address < size));
    }
    std::fs::remove_file(map).unwrap();
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    const CHILD: &str = "MIDFLIGHT_TEST_NO_FOLDER";
    if std::env::var_os(CHILD).is_some() {
        let error = start(Path::new("/nonexistent")).expect_err("there is no such folder").to_string();
        assert!(error.contains("/nonexistent/jit-") && error.contains("Config::"), "{error}");
        return;
    }
    let status = this_test("a_folder_that_is_not_there_is_an_error").env(CHILD, "1").status().unwrap();
    assert!(status.success());
}
