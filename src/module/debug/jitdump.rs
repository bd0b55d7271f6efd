//! A record of all code that was loaded, with the code and its lines, for `perf inject --jit`: the
//! jitdump format (tools/perf/Documentation/jitdump-specification.txt in Linux).

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use memmap2::MmapOptions;
use midflight_image::debug::{Lines, Symbols};

use super::failed;
use crate::Error;
use crate::platform::os::held::Record;

const MAGIC: u32 = 0x4A69_5444;
const VERSION: u32 = 1;
const HEADER: u32 = 40;

const CODE_LOAD: u32 = 0;
const CODE_DEBUG_INFO: u32 = 2;
/// Of the head of every record: kind, size, time.
const HEAD: usize = 16;

// e_machine of the process's own executable, which perf gives to the files that it makes.
#[cfg(target_arch = "x86_64")]
const MACHINE: u32 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u32 = 183;

pub(super) struct JitDump {
    path: PathBuf,
    file: Record,
    /// Each function that was loaded has a number.
    next: u64,
}

impl JitDump {
    /// `jit-PID.dump` in this folder.
    pub(super) fn create(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(format!("jit-{}.dump", std::process::id()));
        Self::create_at(&path).map_err(failed(&path))
    }

    fn create_at(path: &Path) -> std::io::Result<Self> {
        // Readable, because it is mapped; new, because what is left of another process with this
        // number is not ours.
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        let mut header = Vec::new();
        for word in [MAGIC, VERSION, HEADER, MACHINE, 0, std::process::id()] {
            header.extend_from_slice(&word.to_le_bytes());
        }
        header.extend_from_slice(&now().to_le_bytes());
        // No flags: times are of CLOCK_MONOTONIC.
        header.extend_from_slice(&0u64.to_le_bytes());
        // perf learns of the file by this mapping, which it records as it does all executable ones.
        // It stays for the life of the process.
        // SAFETY: nobody reads what is mapped, so whoever writes the file or makes it shorter
        // changes nothing here.
        let mapping =
            unsafe { MmapOptions::new().len(crate::platform::os::memory::page_size()).map_exec(&file)? };
        std::mem::forget(mapping);
        let mut file = Record::new(path, file)?;
        file.add(&header)?;
        Ok(Self { path: path.into(), file, next: 0 })
    }

    pub(super) fn add(
        &mut self,
        symbols: &Symbols<'_>,
        lines: &Lines,
        base: u64,
        memory: &[u8],
    ) -> Result<(), Error> {
        let time = now();
        let mut records = Vec::new();
        for function in symbols.functions() {
            let start = function.offset as usize;
            let Some(code) = start.checked_add(function.size as usize).and_then(|end| memory.get(start..end))
            else {
                continue;
            };
            let address = base + function.offset;
            // Before the code, as the format has it.
            debug_info(&mut records, time, address, function.size, lines);
            code_load(&mut records, time, address, self.next, symbols.name(&function), code);
            self.next += 1;
        }
        self.file.add(&records).map_err(failed(&self.path))
    }
}

fn code_load(records: &mut Vec<u8>, time: u64, address: u64, number: u64, name: &[u8], code: &[u8]) {
    let size = HEAD + 8 + 4 * 8 + name.len() + 1 + code.len();
    head(records, CODE_LOAD, size, time);
    // The process, and the thread that it was loaded by: any will do, since all of them have the
    // code.
    for id in [std::process::id(), std::process::id()] {
        records.extend_from_slice(&id.to_le_bytes());
    }
    for word in [address, address, code.len() as u64, number] {
        records.extend_from_slice(&word.to_le_bytes());
    }
    records.extend_from_slice(name);
    records.push(0);
    records.extend_from_slice(code);
}

fn debug_info(records: &mut Vec<u8>, time: u64, address: u64, size: u64, lines: &Lines) {
    let from = lines.lines.partition_point(|line| line.address < address);
    let to = lines.lines.partition_point(|line| line.address < address.saturating_add(size));
    let entries: Vec<_> = lines.lines[from..to].iter().filter(|line| line.line != 0).collect();
    if entries.is_empty() {
        return;
    }
    let name = |file: u32| lines.files[file as usize].as_bytes();
    let text: usize = entries.iter().map(|line| 16 + name(line.file).len() + 1).sum();
    head(records, CODE_DEBUG_INFO, HEAD + 16 + text, time);
    records.extend_from_slice(&address.to_le_bytes());
    records.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    for line in entries {
        records.extend_from_slice(&line.address.to_le_bytes());
        records.extend_from_slice(&line.line.to_le_bytes());
        // No discriminator.
        records.extend_from_slice(&0u32.to_le_bytes());
        records.extend_from_slice(name(line.file));
        records.push(0);
    }
}

fn head(records: &mut Vec<u8>, kind: u32, size: usize, time: u64) {
    records.extend_from_slice(&kind.to_le_bytes());
    records.extend_from_slice(&(size as u32).to_le_bytes());
    records.extend_from_slice(&time.to_le_bytes());
}

/// Nanoseconds of CLOCK_MONOTONIC, which `perf record -k CLOCK_MONOTONIC` stamps its samples with.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock is there on all our systems, and the time is written to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
