//! What the checks work with: the installation, compilers, and a folder that is removed at the end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// A compiler for the machine that is checked.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Compiler {
    pub(crate) name: &'static str,
    c: Vec<String>,
    cpp: Vec<String>,
}

pub(crate) struct Bench {
    /// The repository.
    pub(crate) root: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) prefix: PathBuf,
    arch: String,
    /// What programs for that machine are run by; nothing if they are this machine's.
    runner: Option<String>,
    pub(crate) compilers: Vec<Compiler>,
    /// With the compilers under the names that docs/linking.md has.
    path: String,
}

impl Bench {
    /// Looks for the tools, and installs midflight.
    pub(crate) fn set_up(arch: &str) -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize().map_err(|error| format!("{}: {error}", root.display()))?;
        let work = env::temp_dir().join(format!("midflight-c-api-{}", std::process::id()));
        fs::create_dir(&work).map_err(|error| format!("{}: {error}", work.display()))?;
        // Never with -L, which mixes two builds of the C library.
        let runner = (env::consts::ARCH != arch).then(|| format!("qemu-{arch}"));
        let mut bench = Self {
            root,
            prefix: work.join("prefix"),
            path: env::var("PATH").map_err(|error| format!("PATH: {error}"))?,
            work,
            arch: arch.into(),
            runner,
            compilers: vec![Compiler {
                name: "gcc",
                c: vec![format!("{arch}-linux-gnu-gcc")],
                cpp: vec![format!("{arch}-linux-gnu-g++")],
            }],
        };
        bench.folder("bin")?;
        if let Some(runner) = &bench.runner {
            println!(
                "under {runner}: runtime_gc_collect() frees nothing there (it cannot look at the emulator's own thread), and that is checked"
            );
        }
        bench.find_clang()?;
        let mut tools: Vec<&str> = vec![&bench.compilers[0].c[0], &bench.compilers[0].cpp[0]];
        tools.extend(bench.runner.as_deref());
        for tool in tools.into_iter().chain(["pkg-config", "cmake", "meson", "ninja"]) {
            bench.find(tool).ok_or_else(|| format!("{tool} is not here: scripts/setup installs it"))?;
        }
        bench.install(&bench.prefix, &[])?;
        Ok(bench)
    }

    fn find_clang(&mut self) -> Result<(), String> {
        let (Some(c), Some(cpp)) = (self.find("clang-19"), self.find("clang++-19")) else {
            println!("clang-19 is not installed: its lines are left out");
            return Ok(());
        };
        let target = format!("--target={}-linux-gnu", self.arch);
        let with_target = |name: &str| vec![name.to_owned(), target.clone()];
        self.compilers.push(Compiler {
            name: "clang",
            c: with_target("clang-19"),
            cpp: with_target("clang++-19"),
        });
        let bin = self.work.join("bin");
        for (file, name) in [(c, "clang"), (cpp, "clang++")] {
            std::os::unix::fs::symlink(file, bin.join(name)).map_err(|error| format!("{name}: {error}"))?;
        }
        self.path = format!("{}:{}", bin.display(), self.path);
        Ok(())
    }

    fn find(&self, tool: &str) -> Option<PathBuf> {
        self.path.split(':').map(|folder| Path::new(folder).join(tool)).find(|file| file.is_file())
    }

    pub(crate) fn install(&self, prefix: &Path, more: &[&OsStr]) -> Result<(), String> {
        let mut install = Command::new(self.root.join("scripts/install"));
        install.arg("--prefix").arg(prefix).args(["--arch", &self.arch]).args(more);
        // Its messages are for who waits.
        let status = install.status().map_err(|error| format!("scripts/install: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("scripts/install: {status}")) }
    }

    /// Whether programs run under an emulator.
    pub(crate) fn is_emulated(&self) -> bool {
        self.runner.is_some()
    }

    pub(crate) fn arch(&self) -> &str {
        &self.arch
    }

    /// A new folder below the bench's.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.work.join(name);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(folder)
    }

    /// A program, which finds the installation.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("PATH", &self.path).env("PKG_CONFIG_PATH", self.prefix.join("lib/pkgconfig"));
        command.env("MIDFLIGHT", &self.prefix).stdin(Stdio::null());
        if let Some(runner) = &self.runner {
            // The drivers ask for it.
            command.env("MIDFLIGHT_TEST_RUNNER", runner);
        }
        command
    }

    /// A program of the machine's, run for at most a minute.
    pub(crate) fn on_machine(&self, program: &Path) -> Command {
        let mut command = self.command("timeout");
        command.arg("60").args(&self.runner).arg(program);
        command
    }

    /// One of the binutils for the machine.
    pub(crate) fn tool(&self, name: &str) -> Command {
        self.command(format!("{}-linux-gnu-{name}", self.arch))
    }

    pub(crate) fn compiler(&self, compiler: &Compiler, is_cpp: bool) -> Command {
        let words = if is_cpp { &compiler.cpp } else { &compiler.c };
        let mut command = self.command(&words[0]);
        command.args(&words[1..]);
        command
    }

    pub(crate) fn gcc(&self) -> Command {
        self.compiler(&self.compilers[0], false)
    }

    pub(crate) fn gxx(&self) -> Command {
        self.compiler(&self.compilers[0], true)
    }

    /// What pkg-config prints, as words.
    pub(crate) fn pkg_config(&self, arguments: &[&str]) -> Result<Vec<String>, String> {
        let text = output(self.command("pkg-config").args(arguments))?;
        Ok(text.split_whitespace().map(String::from).collect())
    }

    pub(crate) fn cflags(&self) -> Result<Vec<String>, String> {
        self.pkg_config(&["--cflags", "midflight"])
    }

    pub(crate) fn libraries(&self, is_static: bool) -> Result<Vec<String>, String> {
        if is_static {
            return self.pkg_config(&["--libs", "midflight-static"]);
        }
        let mut words = self.pkg_config(&["--libs", "midflight"])?;
        words.push(format!("-Wl,-rpath,{}/lib", self.prefix.display()));
        Ok(words)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.work) {
            eprintln!("c-api: {} is left: {error}", self.work.display());
        }
    }
}

/// Runs it.
///
/// # Errors
///
/// All that it printed, if it does not end well.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let made = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = [&made.stdout[..], &made.stderr].map(String::from_utf8_lossy).concat();
    if made.status.success() { Ok(said) } else { Err(format!("{said}{}", made.status)) }
}

/// As [`run`], of which only the standard output counts.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let made = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if made.status.success() {
        return String::from_utf8(made.stdout).map_err(|error| format!("{command:?}: {error}"));
    }
    let program = Path::new(command.get_program()).display();
    Err(format!("{}{program}: {}", String::from_utf8_lossy(&made.stderr), made.status))
}

pub(crate) fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

pub(crate) fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to).map(drop).map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
}

pub(crate) fn remove(file: &Path) -> Result<(), String> {
    let removed = if file.is_dir() { fs::remove_dir_all(file) } else { fs::remove_file(file) };
    removed.map_err(|error| format!("{}: {error}", file.display()))
}

/// What is in a folder, by name.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let listed = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut entries = listed().map_err(|error| format!("{}: {error}", folder.display()))?;
    entries.sort();
    Ok(entries)
}
