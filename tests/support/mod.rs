//! Modules for the tests, compiled where the tests run.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use midflight::{Error, ImageError, Runtime};

/// The runtime, a workshop, and this test's turn: a frame that another test of the same binary holds open would keep this
/// one's old code, and what one publishes would move the other's generation.
pub(crate) fn start(name: &str) -> (Runtime, Workshop, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (Runtime::start().unwrap(), Workshop::new(name), turn)
}

/// As [`start`]. None where Mach-O files are refused: Apple's linkers align segments to 16 KiB, and parts of two with
/// different protections then share a page of 64 KiB.
pub(crate) fn start_macho(name: &str) -> Option<(Runtime, Workshop, MutexGuard<'static, ()>)> {
    let (rt, shop, turn) = start(name);
    if !is_forced("page-size=65536") {
        return Some((rt, shop, turn));
    }
    let module = shop.macho("counter", 1, "static int n; int next(void) { return ++n; }", &[]);
    // SAFETY: it is refused before any of it runs.
    let error = unsafe { rt.load(module) }.unwrap_err();
    assert!(matches!(&error, Error::Image { source: ImageError::SharedPage { .. }, .. }), "{error}");
    None
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
        self.compile(machine, "gcc", module, version, source, arguments)
    }

    /// As [`module`](Self::module), from C++.
    pub(crate) fn cpp(&self, module: &str, version: u32, source: &str, arguments: &[&str]) -> PathBuf {
        self.compile(std::env::consts::ARCH, "g++", module, version, source, arguments)
    }

    fn compile(
        &self,
        machine: &str,
        compiler: &str,
        module: &str,
        version: u32,
        source: &str,
        arguments: &[&str],
    ) -> PathBuf {
        let folder = self.path(&format!("{machine}-{module}-{version}"));
        std::fs::create_dir_all(&folder).expect("a folder for the module");
        let input = folder.join(if compiler == "g++" { "module.cpp" } else { "module.c" });
        std::fs::write(&input, source).expect("writing the module's source");
        let output = folder.join(format!("lib{module}.so"));
        let compiler = format!("{machine}-linux-gnu-{compiler}");
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

impl Workshop {
    /// Compiles C (`.c`) or C++ (`.cpp`) to an object file of the same stem.
    pub(crate) fn object(&self, name: &str, source: &str, arguments: &[&str]) -> PathBuf {
        let input = self.file(name, source.as_bytes());
        let output = input.with_extension("o");
        let language = if name.ends_with(".cpp") { "g++" } else { "gcc" };
        let compiler = format!("{}-linux-gnu-{language}", std::env::consts::ARCH);
        run(Command::new(compiler).args(["-c", "-Wall", "-o"]).args([&output, &input]).args(arguments));
        output
    }

    /// Compiles Rust to a shared object with the standard library inside, in a folder of its own.
    pub(crate) fn rust(&self, module: &str, version: u32, source: &str, arguments: &[&str]) -> PathBuf {
        let machine = std::env::consts::ARCH;
        let folder = self.path(&format!("{machine}-{module}-{version}"));
        std::fs::create_dir_all(&folder).expect("a folder for the module");
        let input = folder.join("module.rs");
        std::fs::write(&input, source).expect("writing the module's source");
        let output = folder.join(format!("lib{module}.so"));
        let target = format!("{machine}-unknown-linux-gnu");
        let mut rustc = rustc_for(&target);
        rustc.args([
            "--crate-type",
            "cdylib",
            "--edition",
            "2024",
            "--crate-name",
            module,
            "--target",
            &target,
        ]);
        rustc.arg("-C").arg(format!("linker={machine}-linux-gnu-gcc"));
        rustc.arg("-C").arg("link-arg=-Wl,-z,max-page-size=65536");
        rustc.arg("-C").arg(format!("link-arg=-Wl,-soname,lib{module}.so"));
        run(rustc.args(arguments).arg("-o").args([&output, &input]));
        output
    }

    /// Puts object files into a static archive.
    pub(crate) fn archive(&self, name: &str, members: &[&PathBuf]) -> PathBuf {
        let output = self.path(name);
        let archiver = format!("{}-linux-gnu-ar", std::env::consts::ARCH);
        run(Command::new(archiver).arg("rcs").arg(&output).args(members));
        output
    }
}

/// Mach-O, for arm64-apple-macos: there are no headers of Apple's, so sources declare what they use.
impl Workshop {
    /// Compiles C to `lib{module}.dylib`, or to a bundle if the linker's arguments say so. (`-x c++` is for the compiler.)
    pub(crate) fn macho(&self, module: &str, version: u32, source: &str, arguments: &[&str]) -> PathBuf {
        let folder = format!("macho-{module}-{version}");
        std::fs::create_dir_all(self.path(&folder)).expect("a folder for the module");
        let cpp = arguments.starts_with(&["-x", "c++"]);
        let (language, arguments) = if cpp { ("cpp", &arguments[2..]) } else { ("c", arguments) };
        let object = self.macho_object(&format!("{folder}/module.{language}"), source, &[]);
        let output = self.path(&format!("{folder}/lib{module}.dylib"));
        let mut linker = Command::new("ld64.lld-19");
        if !arguments.contains(&"-bundle") {
            linker.args(["-dylib", "-install_name", &format!("@rpath/lib{module}.dylib")]);
        }
        linker.args(["-arch", "arm64", "-platform_version", "macos", "11.0", "11.0"]);
        linker.args(["-undefined", "dynamic_lookup", "-o"]).args([&output, &object]).args(arguments);
        run(&mut linker);
        output
    }

    /// Compiles C (`.c`) or C++ (`.cpp`) to an object file of the same stem.
    pub(crate) fn macho_object(&self, name: &str, source: &str, arguments: &[&str]) -> PathBuf {
        let input = self.file(name, source.as_bytes());
        let output = input.with_extension("o");
        let mut compiler = Command::new("clang-19");
        compiler.args(["-target", "arm64-apple-macos11", "-O2", "-c", "-o"]).args([&output, &input]);
        run(compiler.args(arguments));
        output
    }

    /// Puts object files into a static archive.
    pub(crate) fn macho_archive(&self, name: &str, members: &[&PathBuf]) -> PathBuf {
        let output = self.path(name);
        run(Command::new("llvm-ar-19").args(["--format=darwin", "rcs"]).arg(&output).args(members));
        output
    }
}

/// A compiler that has the target's standard library: rustup's, else Debian's.
fn rustc_for(target: &str) -> Command {
    let has_it = |rustc: &&str| {
        let asked = Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output();
        asked.is_ok_and(|asked| Path::new(String::from_utf8_lossy(&asked.stdout).trim()).is_dir())
    };
    let found = ["rustc", "/usr/bin/rustc"].into_iter().find(has_it);
    Command::new(found.unwrap_or_else(|| panic!("no rustc has {target}; scripts/setup installs one")))
}

fn run(command: &mut Command) {
    let result =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test installs it"));
    assert!(result.status.success(), "{command:?}: {}", String::from_utf8_lossy(&result.stderr));
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// This test binary again, to run one test in a process of its own.
pub(crate) fn this_test(name: &str) -> Command {
    let mut command = match std::env::var("MIDFLIGHT_TEST_RUNNER") {
        // Under an emulator a process cannot start another of its own kind by itself.
        Ok(runner) => {
            let mut words = runner.split_whitespace();
            let mut command = Command::new(words.next().expect("a runner"));
            command.args(words).arg(std::env::current_exe().expect("the test's own path"));
            command
        }
        Err(_) => Command::new(std::env::current_exe().expect("the test's own path")),
    };
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command
}

/// The other instruction set.
pub(crate) fn other_machine() -> &'static str {
    MACHINES.into_iter().find(|machine| *machine != std::env::consts::ARCH).expect("there are two")
}

/// Whether the run forces a fall-back of this name on the runtime (`Config`, the environment's part).
pub(crate) fn is_forced(fallback: &str) -> bool {
    std::env::var("MIDFLIGHT_FALLBACKS").is_ok_and(|names| names.split(',').any(|name| name == fallback))
}

/// Lines of /proc/self/maps.
pub(crate) fn mappings() -> String {
    std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted")
}

/// The number of mappings; under QEMU, where the heap grows by a mapping for every page, only of those that are ours.
pub(crate) fn count_mappings() -> usize {
    let emulated = std::env::var_os("MIDFLIGHT_TEST_RUNNER").is_some();
    mappings().lines().filter(|line| !emulated || line.contains("midflight: code")).count()
}
