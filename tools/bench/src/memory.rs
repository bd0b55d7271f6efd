//! What a loaded module takes beyond its own segments.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::Result;
use crate::loaded::load;
use crate::modules::{self, MANY};
use crate::worker::Samples;

/// Loaded before anything is measured, so that what is there once is there already.
const WARM: usize = 100;

/// Bytes for each module: all memory, and the pages of its own segments.
///
/// All memory is how much more the process has after loading 900 modules than before, of three
/// kinds: private pages of its own (`Anonymous` of smaps_rollup: the heap with the runtime's
/// records, modules' variables, what was copied on a write); the pages of the code arenas' memory
/// files, mapped or not (a file's blocks: RSS has only those that were touched); and page tables
/// (`VmPTE`). What else the kernel keeps of a mapping is not counted. The segments' pages are those
/// from each PT_LOAD's first byte to its last, whole.
pub(crate) fn measure(folder: &Path, _: usize) -> Result<Samples> {
    let rt = crate::loaded::start_with_many(folder, 1, WARM)?;
    // The first is thrown away: reading /proc allocates.
    taken()?;
    let before = taken()?;
    for number in WARM..MANY {
        load(rt, &modules::many(folder, 1, number))?;
    }
    let after = taken()?;
    // SAFETY: it only reads.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    let segments = modules::bytes_of_segments(&modules::version_file(folder, 1), page)?;
    let each = |kind: usize| (after[kind] as f64 - before[kind] as f64) / (MANY - WARM) as f64;
    let [anonymous, files, tables] = [0, 1, 2].map(each);
    Ok(Samples::from([
        ("all".into(), vec![anonymous + files + tables]),
        ("segments".into(), vec![segments as f64]),
        ("anonymous".into(), vec![anonymous]),
        ("memory files".into(), vec![files]),
        ("page tables".into(), vec![tables]),
    ]))
}

/// Bytes of anonymous memory, of memory files, of page tables.
fn taken() -> Result<[u64; 3]> {
    Ok([smaps_rollup("Anonymous")?, memory_files()?, field("/proc/self/status", "VmPTE")?])
}

/// A figure of /proc/self/smaps_rollup, in bytes.
pub(crate) fn smaps_rollup(name: &str) -> Result<u64> {
    field("/proc/self/smaps_rollup", name)
}

/// The figure behind a name in one of /proc's lists, in bytes.
fn field(file: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(file)?;
    let figure = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib =
        figure.and_then(|figure| figure.split_whitespace().next()).ok_or("a line is missing in /proc")?;
    Ok(kib.parse::<u64>()? * 1024)
}

/// Bytes that this process's memory files have, of those it has a descriptor of.
fn memory_files() -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        if fs::read_link(&path).is_ok_and(|target| target.as_os_str().as_bytes().starts_with(b"/memfd:")) {
            bytes += fs::metadata(&path)?.blocks() * 512;
        }
    }
    Ok(bytes)
}
