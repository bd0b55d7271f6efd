//! The file in which perf looks for the names of code that is in no file: `/tmp/perf-PID.map`, a
//! line for each function (tools/perf/Documentation/jit-interface.txt in Linux).
//!
//! It knows no time: when another version comes to lie where one was, perf has two names for an
//! address. `jitdump` tells them apart.

use std::fs::OpenOptions;
use std::path::PathBuf;

use midflight_image::debug::Symbols;

use super::failed;
use crate::Error;
use crate::platform::os::held::Record;

pub(super) struct PerfMap {
    path: PathBuf,
    file: Record,
}

impl PerfMap {
    /// Appends to what is there: another JIT compiler of this process may write to it too.
    pub(super) fn create() -> Result<Self, Error> {
        // Not std::env::temp_dir: perf reads no variable.
        let path = PathBuf::from(format!("/tmp/perf-{}.map", std::process::id()));
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.and_then(|file| Record::new(&path, file)).map_err(failed(&path))?;
        Ok(Self { path, file })
    }

    pub(super) fn add(&mut self, symbols: &Symbols<'_>, base: u64) -> Result<(), Error> {
        let mut lines = Vec::new();
        for function in symbols.functions() {
            let (start, size) = (base + function.offset, function.size);
            lines.extend_from_slice(format!("{start:x} {size:x} ").as_bytes());
            // A name that could end the line would make another of what follows.
            lines.extend(symbols.name(&function).iter().map(|byte| if *byte < b' ' { b'?' } else { *byte }));
            lines.push(b'\n');
        }
        // One write, so that no other writer's line falls in between.
        self.file.add(&lines).map_err(failed(&self.path))
    }
}
