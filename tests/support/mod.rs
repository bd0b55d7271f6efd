//! Modules for the tests, compiled where the tests run.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use midflight::Runtime;

/// The runtime, a workshop, and this test's turn: a frame that another test of the same binary holds open would keep this
/// one's old code, and what one publishes would move the other's generation.
pub(crate) fn start(name: &str) -> (Runtime, Workshop, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (Runtime::start().unwrap(), Workshop::new(name), turn)
}

/// The two instruction sets, by the name in the compilers' names.
pub(crate) const MACHINES: [&str; 2] = ["x86_64", "aarch64"];

/// A folder of its own for one test's files, removed at the end.
pub(crate) struct Workshop {
    folder: PathBuf,
}

impl Workshop {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("midflight-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the test's files");
        Self { folder }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Writes a file as it is.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        // A new file, because ext4 flushes one that is truncated and rewritten: 1 ms each.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).expect("writing a test's file");
        path
    }

    /// Compiles C to `lib{module}.so` in a folder of its own, so that several versions of a module can stand side by side.
    pub(crate) fn module(&self, module: &str, version: u32, source: &str) -> PathBuf {
        self.module_for(std::env::consts::ARCH, module, version, source, &[])
    }

    pub(crate) fn module_for(
        &self,
        machine: &str,
        module: &str,
        version: u32,
        source: &str,
        arguments: &[&str],
    ) -> PathBuf {
        let folder = self.path(&format!("{machine}-{module}-{version}"));
        std::fs::create_dir_all(&folder).expect("a folder for the module");
        let input = folder.join("module.c");
        std::fs::write(&input, source).expect("writing the module's source");
        let output = folder.join(format!("lib{module}.so"));
        let compiler = format!("{machine}-linux-gnu-gcc");
        let result = Command::new(&compiler)
            .args(["-O2", "-fPIC", "-shared", "-Wall", "-Wl,-z,max-page-size=65536"])
            .arg(format!("-Wl,-soname,lib{module}.so"))
            .arg("-o")
            .args([&output, &input])
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("{compiler}: {error}; scripts/test installs it"));
        assert!(result.status.success(), "{compiler}: {}", String::from_utf8_lossy(&result.stderr));
        output
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The other instruction set.
pub(crate) fn other_machine() -> &'static str {
    MACHINES.into_iter().find(|machine| *machine != std::env::consts::ARCH).expect("there are two")
}

/// Lines of /proc/self/maps.
pub(crate) fn mappings() -> String {
    std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted")
}
