//! Builds the city's modules with the system's C, C++ and Rust compilers.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io, thread};

use crate::systems::{SYSTEMS, VERSIONS};

/// The sources, embedded so that the program runs where the repository is not.
const SOURCES: [(&str, &str); 7] = [
    ("city.h", include_str!("city.h")),
    ("movement.c", include_str!("movement.c")),
    ("economy.cpp", include_str!("economy.cpp")),
    ("needs.rs", include_str!("needs.rs")),
    ("layout.rs", include_str!("layout.rs")),
    ("traffic.x86_64.S", include_str!("traffic.x86_64.S")),
    ("traffic.aarch64.S", include_str!("traffic.aarch64.S")),
];

const FLAGS: [&str; 7] = [
    "-O3",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    // Every build rounds alike: no fused multiply-add where the source has none.
    "-ffp-contract=off",
    // Nobody looks at errno or at floating-point exceptions, so a choice between two results can be
    // vector code.
    "-fno-math-errno",
    "-fno-trapping-math",
];

/// Of ELF. AArch64 has landing pads, and kernels with pages of up to 64 KiB.
const ELF_FLAGS: &[&str] = &["-Wl,-z,now", "-Wl,--build-id=none"];
const AARCH64_ELF_FLAGS: &[&str] = &["-mbranch-protection=standard", "-Wl,-z,max-page-size=65536"];

/// The modules' files; in a temporary directory that goes when this does, if they were built here.
pub(crate) struct Modules {
    /// Removed with them, if they were built here.
    directory: Option<PathBuf>,
    files: Vec<[PathBuf; VERSIONS]>,
}

impl Modules {
    /// Writes out the sources and compiles every version of every system.
    pub(crate) fn build() -> Result<Self, Box<dyn Error>> {
        let directory = fresh_directory()?;
        let files = SYSTEMS
            .iter()
            .map(|system| [1, 2, 3].map(|version| directory.join(format!("{system}-{version}.so"))));
        // From here on `modules` removes the directory, whatever happens.
        let modules = Modules { files: files.collect(), directory: Some(directory.clone()) };
        for (name, text) in SOURCES {
            fs::write(directory.join(name), text)?;
        }
        thread::scope(|scope| {
            let builds = SYSTEMS.iter().zip(&modules.files).map(|(system, files)| {
                scope.spawn(move || {
                    (1..).zip(files).try_for_each(|(version, file)| compile(system, version, file))
                })
            });
            let builds: Vec<_> = builds.collect();
            builds.into_iter().try_for_each(|build| build.join().expect("a panic ends the process"))
        })?;
        Ok(modules)
    }

    /// Those that somebody else has built: `SYSTEM-VERSION.so` or `.dylib` in a folder.
    pub(crate) fn built(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let file = |system: &&str, version: usize| {
            let names = ["so", "dylib"].map(|end| folder.join(format!("{system}-{version}.{end}")));
            let found = names.iter().find(|path| path.exists()).cloned();
            found.ok_or_else(|| format!("there is no {} and no {}", names[0].display(), names[1].display()))
        };
        let files = SYSTEMS
            .iter()
            .map(|system| Ok([file(system, 1)?, file(system, 2)?, file(system, 3)?]))
            .collect::<Result<_, String>>()?;
        Ok(Modules { files, directory: None })
    }

    /// The file of one version (from 1) of one system.
    pub(crate) fn file(&self, system: usize, version: u8) -> &Path {
        &self.files[system][usize::from(version) - 1]
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        // Nothing can be done about a failure, and a leftover in the temporary directory does no
        // harm.
        let _ = self.directory.as_ref().map(fs::remove_dir_all);
    }
}

fn fresh_directory() -> io::Result<PathBuf> {
    for attempt in 0.. {
        let path = env::temp_dir().join(format!("midflight-city-{}-{attempt}", std::process::id()));
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io::Error::other(format!("cannot create {}: {error}", path.display()))),
            Ok(()) => return Ok(path),
        }
    }
    unreachable!("some name is free")
}

fn compile(system: &str, version: usize, output: &Path) -> Result<(), String> {
    let directory = output.parent().expect("the file is in the temporary directory");
    // The runtime takes a module's name from its SONAME, or install name; the file may be called
    // anything.
    let soname = if cfg!(target_os = "macos") {
        format!("-Wl,-install_name,@rpath/lib{system}.dylib")
    } else {
        format!("-Wl,-soname,lib{system}.so")
    };
    let mut command = if system == "needs" {
        let mut rustc = rustc();
        rustc.env("VERSION", version.to_string()).arg("-C").arg(format!("link-arg={soname}"));
        rustc.arg(directory.join("needs.rs"));
        rustc
    } else {
        let (language, source, extra): (_, _, &[&str]) = match system {
            "economy" => (Language::Cpp, "economy.cpp".to_string(), &["-std=c++17"]),
            // Pure vector code: it needs no library, nor the compiler's start-up files.
            "traffic" => {
                let extra: &[&str] = if cfg!(target_os = "macos") { &[] } else { &["-nostdlib"] };
                (Language::C, format!("traffic.{}.S", env::consts::ARCH), extra)
            }
            _ => (Language::C, format!("{system}.c"), &["-std=gnu11"]),
        };
        let mut compiler = compiler(language);
        compiler.args(FLAGS).args(extra).arg(format!("-DVERSION={version}")).arg(soname);
        if cfg!(not(target_os = "macos")) {
            compiler.args(ELF_FLAGS);
            compiler.args(if cfg!(target_arch = "aarch64") { AARCH64_ELF_FLAGS } else { &[] });
        }
        compiler.arg(directory.join(source));
        compiler
    };
    let result = command.arg("-o").arg(output).output().map_err(|error| {
        let program = command.get_program().display();
        format!("cannot run the compiler `{program}`: {error} (set MIDFLIGHT_CC, MIDFLIGHT_CXX or RUSTC to another)")
    })?;
    if result.status.success() {
        return Ok(());
    }
    Err(format!(
        "the compiler failed on {system}, version {version} ({}):\n{command:?}\n{}{}",
        result.status,
        String::from_utf8_lossy(&result.stdout),
        String::from_utf8_lossy(&result.stderr),
    ))
}

#[derive(Clone, Copy)]
enum Language {
    C,
    Cpp,
}

/// The compiler that the environment names, else the system's.
fn compiler(language: Language) -> Command {
    let (variables, default) = match language {
        Language::C => (["MIDFLIGHT_CC", "CC"], "cc"),
        Language::Cpp => (["MIDFLIGHT_CXX", "CXX"], "c++"),
    };
    let named = variables.iter().find_map(|name| env::var(name).ok());
    // A variable may hold arguments too, as in CC="ccache gcc".
    let mut words = named.as_deref().unwrap_or(default).split_whitespace();
    let mut command = Command::new(words.next().unwrap_or(default));
    command.args(words);
    command
}

/// A Rust compiler, for shared objects with the standard library inside, linked by the C compiler.
fn rustc() -> Command {
    let mut command = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--edition=2024", "--crate-type=cdylib", "-Copt-level=3", "-Cstrip=symbols", "--target"]);
    let system = if cfg!(target_os = "macos") { "apple-darwin" } else { "unknown-linux-gnu" };
    command.arg(format!("{}-{system}", env::consts::ARCH));
    let linker = compiler(Language::C);
    command.arg("-C").arg(format!("linker={}", linker.get_program().display()));
    for argument in linker.get_args() {
        command.arg("-C").arg(format!("link-arg={}", argument.display()));
    }
    command
}
