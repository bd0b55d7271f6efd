//! Small modules of real compilers, for both machines on every host.
// Each test file is a crate of its own and uses what it needs of this.
#![allow(dead_code, unreachable_pub)]

#[path = "../../../image/tests/common/clock.rs"]
pub mod clock;

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use midflight_image::{Input, Machine};
use midflight_interface::Interface;

pub const BOTH: [Machine; 2] = [Machine::X86_64, Machine::Aarch64];

/// What compiles a module, and into what.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    pub machine: Machine,
    pub clang: bool,
    pub dwarf: &'static str,
    pub form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Shared,
    Object,
    Archive,
}

/// Each machine, compiler, version of DWARF and form of file, though not with each other.
pub const BUILDS: [Build; 4] = [
    Build { machine: Machine::X86_64, clang: false, dwarf: "-gdwarf-5", form: Form::Shared },
    Build { machine: Machine::Aarch64, clang: false, dwarf: "-gdwarf-4", form: Form::Object },
    Build { machine: Machine::X86_64, clang: true, dwarf: "-gdwarf-4", form: Form::Archive },
    Build { machine: Machine::Aarch64, clang: true, dwarf: "-gdwarf-5", form: Form::Shared },
];

pub fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let unique = format!("{}-{}-{name}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(unique)
}

pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{:?} is needed for these tests (scripts/ install it): {error}", command.get_program())
    });
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

impl Build {
    /// By name, never `cc`: an AArch64 test under QEMU still finds the host's `cc`.
    fn compiler(self) -> Command {
        let triple = match self.machine {
            Machine::X86_64 => "x86_64-linux-gnu",
            Machine::Aarch64 => "aarch64-linux-gnu",
        };
        if !self.clang {
            return Command::new(format!("{triple}-gcc"));
        }
        let mut clang = Command::new("clang-19");
        clang.arg(format!("--target={triple}"));
        clang
    }

    /// The files of the module: one for each source, or one for all. Sources that begin with
    /// `//c++` are C++.
    pub fn files(self, sources: &[&str], flags: &[&str]) -> Vec<Vec<u8>> {
        let mut objects = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            // Its folder differs from build to build, and its name does not.
            let folder = scratch("build");
            std::fs::create_dir(&folder).unwrap();
            let cpp = source.starts_with("//c++");
            let file = folder.join(format!("part{index}.{}", if cpp { "cpp" } else { "c" }));
            std::fs::write(&file, source).unwrap();
            let object = folder.join("part.o");
            let mut compiler = self.compiler();
            compiler
                .args(["-c", "-w", "-O1", "-fPIC", self.dwarf])
                .args(flags)
                .arg(&file)
                .arg("-o")
                .arg(&object);
            if cpp {
                compiler.args(["-fno-exceptions", "-fno-rtti"]);
            }
            run(&mut compiler);
            objects.push(object);
        }
        let output = scratch("module");
        let read = |path: &PathBuf| std::fs::read(path).unwrap();
        let files = match self.form {
            Form::Object => objects.iter().map(read).collect(),
            Form::Shared => {
                let mut linker = Build { clang: false, ..self }.compiler();
                run(linker.args(["-shared", "-nostdlib"]).args(&objects).arg("-o").arg(&output));
                vec![read(&output)]
            }
            Form::Archive => {
                run(Command::new("ar").arg("rcsD").arg(&output).args(&objects));
                vec![read(&output)]
            }
        };
        let _ = std::fs::remove_file(output);
        for object in objects {
            let _ = std::fs::remove_dir_all(object.parent().unwrap());
        }
        files
    }

    pub fn interface(self, sources: &[&str], flags: &[&str]) -> Interface {
        read(self.machine, &self.files(sources, flags))
    }
}

pub fn read(machine: Machine, files: &[Vec<u8>]) -> Interface {
    let names: Vec<_> = (0..files.len()).map(|index| format!("{index}.o")).collect();
    let inputs: Vec<_> = names.iter().zip(files).map(|(name, bytes)| Input { name, bytes }).collect();
    Interface::read(&inputs, machine).unwrap()
}
