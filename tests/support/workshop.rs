//! Modules for the tests, compiled where the tests run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::kept;

/// The two instruction sets, by the name in the compilers' names.
pub(crate) const MACHINES: [&str; 2] = ["x86_64", "aarch64"];

/// The other instruction set.
pub(crate) fn other_machine() -> &'static str {
    MACHINES.into_iter().find(|machine| *machine != std::env::consts::ARCH).expect("there are two")
}

/// A folder of Apple's headers, on AArch64 Linux: then the tests run with Mach-O modules there,
/// compiled by clang against these.
fn headers() -> Option<OsString> {
    if cfg!(all(target_os = "linux", target_arch = "aarch64")) {
        std::env::var_os("MIDFLIGHT_TEST_MACHO")
    } else {
        None
    }
}

/// Whether the modules of the tests are Mach-O: on macOS, or by [`headers`]. Else they are ELF.
pub(crate) fn is_macho() -> bool {
    cfg!(target_os = "macos") || headers().is_some()
}

/// Whether they are, and Linux's C library serves them: then some of its functions are refused
/// (docs/macos.md).
pub(crate) fn is_bridged() -> bool {
    headers().is_some()
}

/// What a module's file is called.
pub(crate) fn library_name(module: &str) -> String {
    format!("lib{module}.{}", if is_macho() { "dylib" } else { "so" })
}

/// A machine's compiler of C or C++ for programs of this system. It links too.
pub(crate) fn host_compiler(machine: &str, cpp: bool) -> Command {
    if cfg!(target_os = "macos") {
        let mut compiler = Command::new(if cpp { "c++" } else { "cc" });
        // For its own machine and system a compiler needs no word.
        if machine != std::env::consts::ARCH {
            compiler.args(["-target", &apple(machine)]);
        }
        return compiler;
    }
    Command::new(format!("{machine}-linux-gnu-{}", if cpp { "g++" } else { "gcc" }))
}

fn apple(machine: &str) -> String {
    format!("{}-apple-macos11", if machine == "aarch64" { "arm64" } else { machine })
}

/// The same for modules.
fn compiler(machine: &str, cpp: bool) -> Command {
    let Some(headers) = headers() else { return host_compiler(machine, cpp) };
    let target = apple(machine);
    // Apple's libraries are not here: what is from them, the runtime looks for in the process.
    let mut compiler = Command::new(if cpp { "clang++-19" } else { "clang-19" });
    compiler.args(["-target", &target, "-fuse-ld=lld", "-nostdlib", "-nostdlibinc"]);
    if !cpp {
        compiler.arg("-isystem").arg(headers);
        return compiler;
    }
    // C++'s is the process's libstdc++, whose headers want those of its C library, and these no
    // word of clang's for Apple's targets.
    let gcc = Command::new("aarch64-linux-gnu-g++")
        .arg("-dumpversion")
        .output()
        .expect("scripts/setup installs it");
    let cpp_headers =
        format!("/usr/aarch64-linux-gnu/include/c++/{}", String::from_utf8_lossy(&gcc.stdout).trim());
    compiler.args([
        "-nostdinc++",
        "-isystem",
        &cpp_headers,
        "-isystem",
        &format!("{cpp_headers}/aarch64-linux-gnu"),
    ]);
    compiler.args(["-isystem", "/usr/aarch64-linux-gnu/include", "-U__nonnull"]);
    compiler
}

/// The arguments that make a shared library of a name.
pub(crate) fn as_library(module: &str) -> Vec<String> {
    let name = library_name(module);
    let arguments = if is_macho() {
        vec![
            "-dynamiclib".into(),
            "-undefined".into(),
            "dynamic_lookup".into(),
            format!("-Wl,-install_name,@rpath/{name}"),
        ]
    } else {
        vec!["-shared".into(), "-Wl,-z,max-page-size=65536".into(), format!("-Wl,-soname,{name}")]
    };
    ["-O2", "-fPIC", "-Wall"].map(String::from).into_iter().chain(arguments).collect()
}

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

    /// Compiles C to a shared library, in a folder of its own, so that several versions of a module
    /// can stand side by side.
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
        let input = self.source(machine, module, version, "c", source);
        self.library(compiler(machine, false), module, &input, arguments)
    }

    /// As [`module`](Self::module), from C++.
    pub(crate) fn cpp(&self, module: &str, version: u32, source: &str, arguments: &[&str]) -> PathBuf {
        let machine = std::env::consts::ARCH;
        let input = self.source(machine, module, version, "cpp", source);
        let mut compiler = compiler(machine, true);
        if headers().is_some() {
            compiler.arg(self.file("libstdc++.tbd", include_bytes!("../../linker/libstdc++.tbd")));
        }
        self.library(compiler, module, &input, arguments)
    }

    fn library(&self, mut compiler: Command, module: &str, input: &Path, arguments: &[&str]) -> PathBuf {
        let output = input.with_file_name(library_name(module));
        compiler.args(as_library(module));
        self.compile(compiler, input, &output, arguments);
        output
    }

    /// Compiles a file, unless this was done before.
    fn compile(&self, mut compiler: Command, input: &Path, output: &Path, arguments: &[&str]) {
        let own = self.folder.to_str().expect("a name in UTF-8");
        let names_file =
            compiler.get_args().any(|argument| argument.to_str().is_some_and(|text| text.contains(own)));
        if names_file || arguments.iter().any(|argument| argument.contains(own)) {
            run(compiler.arg("-o").args([output, input]).args(arguments));
        } else {
            kept::compile(compiler, input, output, arguments);
        }
    }

    /// C++ that a test loads into its own process, as a host in C++ would be.
    pub(crate) fn host_cpp(&self, version: u32, source: &str) -> PathBuf {
        if headers().is_none() {
            return self.cpp("host_cpp", version, source, &[]);
        }
        let input = self.source("host", "host_cpp", version, "cpp", source);
        let output = input.with_extension("so");
        run(Command::new("aarch64-linux-gnu-g++")
            .args(["-O2", "-fPIC", "-shared", "-o"])
            .args([&output, &input]));
        output
    }

    /// A version's source file, in a folder of its own.
    fn source(&self, machine: &str, module: &str, version: u32, language: &str, source: &str) -> PathBuf {
        let folder = format!("{machine}-{module}-{version}");
        std::fs::create_dir_all(self.path(&folder)).expect("a folder for the module");
        self.file(&format!("{folder}/module.{language}"), source.as_bytes())
    }

    /// Compiles C (`.c`) or C++ (`.cpp`) to an object file of the same stem.
    pub(crate) fn object(&self, name: &str, source: &str, arguments: &[&str]) -> PathBuf {
        let input = self.file(name, source.as_bytes());
        let output = input.with_extension("o");
        let mut compiler = compiler(std::env::consts::ARCH, name.ends_with(".cpp"));
        compiler.args(["-c", "-Wall"]);
        self.compile(compiler, &input, &output, arguments);
        output
    }

    /// Compiles Rust to a shared library with the standard library inside, in a folder of its own.
    pub(crate) fn rust(&self, module: &str, version: u32, source: &str, arguments: &[&str]) -> PathBuf {
        let machine = std::env::consts::ARCH;
        let input = self.source(machine, module, version, "rs", source);
        let output = input.with_file_name(library_name(module));
        let system = if is_macho() { "apple-darwin" } else { "unknown-linux-gnu" };
        let target = format!("{machine}-{system}");
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
        if is_macho() {
            rustc.arg("-C").arg(format!("link-arg=-Wl,-install_name,@rpath/{}", library_name(module)));
        } else {
            rustc.arg("-C").arg(format!("linker={machine}-linux-gnu-gcc"));
            rustc.arg("-C").arg("link-arg=-Wl,-z,max-page-size=65536");
            rustc.arg("-C").arg(format!("link-arg=-Wl,-soname,{}", library_name(module)));
        }
        self.compile(rustc, &input, &output, arguments);
        output
    }

    /// Compiles a crate that modules in Rust are to use; the arguments that name it to them.
    pub(crate) fn rust_crate(&self, name: &str, root: &Path) -> [String; 2] {
        let machine = std::env::consts::ARCH;
        let output = self.path(&format!("lib{name}.rlib"));
        let mut rustc = rustc_for(&format!("{machine}-unknown-linux-gnu"));
        rustc.args(["--crate-type", "rlib", "--edition", "2024", "--crate-name", name, "--target"]);
        run(rustc.arg(format!("{machine}-unknown-linux-gnu")).arg("-O").arg("-o").args([&*output, root]));
        ["--extern".into(), format!("{name}={}", output.display())]
    }

    /// Puts object files into a static archive.
    pub(crate) fn archive(&self, name: &str, members: &[&PathBuf]) -> PathBuf {
        if headers().is_some() {
            return self.macho_archive(name, members);
        }
        let output = self.path(name);
        let archiver =
            if is_macho() { "ar".into() } else { format!("{}-linux-gnu-ar", std::env::consts::ARCH) };
        run(Command::new(archiver).arg("rcs").arg(&output).args(members));
        output
    }
}

/// Mach-O whatever the tests' own modules are, for arm64-apple-macos: there are no headers of
/// Apple's, so sources declare what they use.
impl Workshop {
    /// Compiles C to `lib{module}.dylib`, or to a bundle if the linker's arguments say so. (`-x
    /// c++` is for the compiler.)
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
        compiler.args(["-target", "arm64-apple-macos11", "-O2", "-c"]);
        self.compile(compiler, &input, &output, arguments);
        output
    }

    /// Puts object files into a static archive.
    pub(crate) fn macho_archive(&self, name: &str, members: &[&PathBuf]) -> PathBuf {
        let output = self.path(name);
        run(Command::new("llvm-ar-19").args(["--format=darwin", "rcs"]).arg(&output).args(members));
        output
    }
}

/// The folder of this machine's shared standard library of Rust, for modules in ELF. Debian's other
/// architectures have none.
pub(crate) fn shared_std() -> Option<PathBuf> {
    if is_macho() {
        return None;
    }
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let asked = rustc_for(&target)
        .args(["--print", "target-libdir", "--target", &target])
        .output()
        .expect("as before");
    let folder = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    let mut files = std::fs::read_dir(&folder).expect("it is there").flatten();
    let found = files.any(|file| {
        let name = file.file_name();
        name.to_str().is_some_and(|name| name.starts_with("libstd-") && name.ends_with(".so"))
    });
    if !found {
        eprintln!("not tested: {} has no shared standard library", folder.display());
    }
    found.then_some(folder)
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

pub(crate) fn run(command: &mut Command) {
    let result =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test installs it"));
    assert!(result.status.success(), "{command:?}: {}", String::from_utf8_lossy(&result.stderr));
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
