//! Builds one library for one machine in all its variants, and keeps what is built: a file is made
//! again when its command or its source is newer.

use std::collections::HashMap;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::libraries::Library;
use crate::sources::home;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compiler {
    Gcc,
    Clang,
    /// Clang for arm64-apple-macos, with LLVM's linker and archiver for Mach-O.
    Apple,
}

/// How the library is compiled, and the forms that are made of it.
struct Variant {
    compiler: Compiler,
    flags: &'static [&'static str],
    forms: &'static [&'static str],
}

/// The first is also the reference that dlopen loads. Debian's gcc makes -fPIE code where nothing
/// is said.
static VARIANTS: [Variant; 7] = [
    Variant { compiler: Compiler::Gcc, flags: &["-O2", "-fPIC"], forms: &["shared", "objects", "archive"] },
    Variant { compiler: Compiler::Gcc, flags: &["-O2"], forms: &["objects", "archive"] },
    Variant { compiler: Compiler::Gcc, flags: &["-O0", "-g", "-fPIC"], forms: &["objects"] },
    Variant {
        compiler: Compiler::Gcc,
        flags: &["-O3", "-fno-pie", "-ffunction-sections", "-fdata-sections"],
        forms: &["objects"],
    },
    Variant { compiler: Compiler::Clang, flags: &["-O2", "-fPIC"], forms: &["shared", "objects", "archive"] },
    Variant { compiler: Compiler::Clang, flags: &["-O3", "-fPIE", "-g"], forms: &["objects"] },
    Variant { compiler: Compiler::Clang, flags: &["-O1", "-fno-pie"], forms: &["objects"] },
];

/// As Mach-O. What dlopen loads is built as above.
///
/// "dylib" and "bundle" have their fix-ups as dyld's opcodes, as linkers write them for macOS 11;
/// "chained" is a dylib that has them as chains, as for later ones.
static MACHO_VARIANTS: [Variant; 3] = [
    Variant {
        compiler: Compiler::Apple,
        flags: &["-O2"],
        forms: &["dylib", "chained", "bundle", "objects", "archive"],
    },
    Variant { compiler: Compiler::Apple, flags: &["-O0", "-g"], forms: &["dylib", "chained", "objects"] },
    Variant { compiler: Compiler::Apple, flags: &["-Oz"], forms: &["dylib", "objects"] },
];

/// One way to have the library as a module.
pub(crate) struct Case {
    pub(crate) form: &'static str,
    /// None: as cargo built it.
    variant: Option<&'static Variant>,
}

impl Case {
    pub(crate) fn variant(&self) -> String {
        self.variant.map_or("rustc --release".into(), Variant::name)
    }

    /// Whether it was compiled with this flag. Shared objects always are with -fPIC.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.variant.is_some_and(|variant| variant.flags.contains(&flag))
    }
}

pub(crate) struct Build<'b> {
    pub(crate) library: &'b Library,
    arch: &'b str,
    out: PathBuf,
    rust_modules: &'b Path,
    /// Apple's headers, if the modules are Mach-O.
    macho: Option<&'b Path>,
    /// The package's folder.
    pub(crate) sources: PathBuf,
    /// What dlopen loads.
    pub(crate) reference: PathBuf,
    /// The host library that works with the module.
    pub(crate) work: PathBuf,
}

impl<'b> Build<'b> {
    /// Builds the reference and the work.
    pub(crate) fn new(
        library: &'b Library,
        packages: &HashMap<String, PathBuf>,
        arch: &'b str,
        out: &Path,
        rust_modules: &'b Path,
        macho: Option<&'b Path>,
    ) -> Result<Self> {
        let sources = match library.package {
            Some(package) => packages.get(package).ok_or_else(|| format!("no package {package}"))?.clone(),
            None => home().join("modules/rust"),
        };
        let out = out.join(if macho.is_some() { "macho" } else { arch }).join(library.name);
        let (work, generated) = (out.join("work.so"), out.join("generated"));
        fs::create_dir_all(&generated)?;
        (library.generate)(&sources, &generated)?;
        let mut build =
            Self { library, arch, out, rust_modules, macho, sources, reference: PathBuf::new(), work };
        build.reference = match library.package {
            Some(_) => build.shared(&VARIANTS[0])?,
            None => rust_modules.join("librust.so"),
        };
        let source = home().join("work").join(library.work);
        let mut command = build.compiler(&VARIANTS[0], is_cpp(&source));
        command.args([
            "-O1",
            "-g",
            "-Wall",
            "-shared",
            "-fPIC",
            "-Wl,--no-as-needed",
            "-lm",
            "-pthread",
            "-o",
        ]);
        command.arg(&build.work).arg(&source).args(library.flags);
        make(command, &build.work, &[&source, &home().join("work/work.h")])?;
        Ok(build)
    }

    pub(crate) fn scripts(&self) -> PathBuf {
        home().join("work")
    }

    /// Every form of every variant, or of the first.
    pub(crate) fn cases(&self, quick: bool) -> Vec<Case> {
        if self.library.package.is_none() {
            return ["shared", "objects", "archive"].map(|form| Case { form, variant: None }).into();
        }
        let variants: &'static [Variant] = if self.macho.is_some() { &MACHO_VARIANTS } else { &VARIANTS };
        let present = |variant: &&Variant| variant.compiler != Compiler::Clang || has_clang();
        let cases =
            variants.iter().take(if quick { 1 } else { variants.len() }).filter(present).flat_map(
                |variant| variant.forms.iter().map(move |form| Case { form, variant: Some(variant) }),
            );
        cases.collect()
    }

    /// Builds the files of a case: one module.
    pub(crate) fn files(&self, case: &Case) -> Result<Vec<PathBuf>> {
        match (case.form, case.variant) {
            ("shared", Some(variant)) => Ok(vec![self.shared(variant)?]),
            ("dylib" | "chained" | "bundle", Some(variant)) => Ok(vec![self.macho(variant, case.form)?]),
            ("archive", Some(variant)) => Ok(vec![self.archive(variant)?]),
            (_, Some(variant)) => self.objects(variant),
            ("shared", None) => Ok(vec![self.reference.clone()]),
            ("archive", None) => Ok(vec![self.rust_modules.join("librust.a")]),
            (_, None) => self.rust_objects(),
        }
    }

    /// The members of the archive that cargo built.
    fn rust_objects(&self) -> Result<Vec<PathBuf>> {
        let folder = self.out.join("members");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let mut command = Command::new(self.tool("ar"));
        run(command.current_dir(&folder).arg("x").arg(self.rust_modules.join("librust.a")))?;
        let mut members: Vec<_> =
            fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        members.sort();
        Ok(members)
    }

    fn shared(&self, variant: &Variant) -> Result<PathBuf> {
        let objects = self.objects(variant)?;
        let output = self.out.join(variant.folder()).join(format!("lib{}.so", self.library.name));
        let mut command = self.compiler(variant, self.is_cpp());
        command.arg("-shared").arg(format!("-Wl,-soname,lib{}.so", self.library.name)).arg("-o").arg(&output);
        command.args(&objects).args(self.library.links).arg("-pthread");
        make(command, &output, &objects)?;
        Ok(output)
    }

    /// What is not in the module itself is looked for in the process: no library of Apple's is
    /// named.
    fn macho(&self, variant: &Variant, form: &str) -> Result<PathBuf> {
        let objects = self.objects(variant)?;
        let folder = self.out.join(variant.folder()).join(form);
        fs::create_dir_all(&folder)?;
        let output = folder.join(format!("lib{}.dylib", self.library.name));
        let mut command = Command::new("ld64.lld-19");
        match form {
            "bundle" => command.args(["-bundle", "-no_fixup_chains"]),
            _ => {
                let name = format!("@rpath/lib{}.dylib", self.library.name);
                command.args(["-dylib", "-install_name", &name]);
                command.arg(if form == "chained" { "-fixup_chains" } else { "-no_fixup_chains" })
            }
        };
        command.args(["-arch", "arm64", "-platform_version", "macos", "11.0", "11.0"]);
        command.args(["-undefined", "dynamic_lookup", "-o"]).arg(&output).args(&objects);
        make(command, &output, &objects)?;
        Ok(output)
    }

    fn archive(&self, variant: &Variant) -> Result<PathBuf> {
        let objects = self.objects(variant)?;
        let output = self.out.join(variant.folder()).join(format!("lib{}.a", self.library.name));
        let mut command = match variant.compiler {
            Compiler::Apple => Command::new("llvm-ar-19"),
            _ => Command::new(self.tool("ar")),
        };
        if variant.compiler == Compiler::Apple {
            command.arg("--format=darwin");
        }
        command.arg("rcs").arg(&output).args(&objects);
        let _ = fs::remove_file(&output);
        make(command, &output, &objects)?;
        Ok(output)
    }

    fn objects(&self, variant: &Variant) -> Result<Vec<PathBuf>> {
        let folder = self.out.join(variant.folder());
        fs::create_dir_all(&folder)?;
        let sources = self.source_files()?;
        let jobs: Vec<_> = sources
            .iter()
            .map(|source| {
                let path = source
                    .strip_prefix(&self.sources)
                    .unwrap_or(source.strip_prefix(home()).unwrap_or(source));
                let name = path.to_string_lossy().replace('/', "_");
                let output = folder.join(name).with_extension("o");
                let mut command = self.compiler(variant, is_cpp(source));
                command.arg("-c").args(variant.flags).args(self.library.flags).arg("-pthread");
                for include in self.library.includes {
                    let path = self.sources.join(include);
                    command.arg("-I").arg(if path.exists() { path } else { home().join(include) });
                }
                command.arg("-I").arg(self.out.join("generated")).arg("-o").arg(&output).arg(source);
                (command, output, source)
            })
            .collect();
        let outputs = jobs.iter().map(|(_, output, _)| output.clone()).collect();
        in_parallel(jobs, |(command, output, source)| {
            make(command, &output, &[source]).map_err(|e| e.to_string())
        })?;
        Ok(outputs)
    }

    fn source_files(&self) -> Result<Vec<PathBuf>> {
        let here =
            self.library.machine_sources.iter().filter(|(arch, _)| *arch == self.arch).map(|(_, path)| path);
        let mut files = Vec::new();
        for pattern in self.library.sources.iter().chain(here) {
            files.extend(expand(&self.sources.join(pattern))?);
        }
        let excepted = |path: &PathBuf| self.library.except.iter().any(|name| path.ends_with(name));
        files.retain(|path| !excepted(path));
        files.extend(self.library.own_sources.iter().map(|path| home().join(path)));
        Ok(files)
    }

    fn is_cpp(&self) -> bool {
        self.source_files().is_ok_and(|files| files.iter().any(|path| is_cpp(path)))
    }

    fn compiler(&self, variant: &Variant, cpp: bool) -> Command {
        let mut command = match variant.compiler {
            Compiler::Gcc => Command::new(self.tool(if cpp { "g++" } else { "gcc" })),
            Compiler::Clang => {
                let mut command = Command::new(if cpp { CLANG_CPP } else { CLANG });
                command.arg(format!("--target={}-linux-gnu", self.arch));
                command
            }
            Compiler::Apple => {
                let mut command = Command::new(CLANG);
                command.arg(format!("--target={APPLE}")).arg("-nostdlibinc");
                if let Some(headers) = self.macho {
                    command.arg("-isystem").arg(headers);
                }
                command
            }
        };
        // All variants compute the same.
        command.arg("-ffp-contract=off");
        if cpp {
            command.arg("-std=c++17");
        }
        // The work sees the headers as the library does.
        for include in self.library.includes {
            let path = self.sources.join(include);
            command.arg("-I").arg(if path.exists() { path } else { home().join(include) });
        }
        command
    }

    fn tool(&self, name: &str) -> String {
        format!("{}-linux-gnu-{name}", self.arch)
    }
}

const APPLE: &str = "arm64-apple-macos11";
const CLANG: &str = "clang-19";
const CLANG_CPP: &str = "clang++-19";

impl Variant {
    fn name(&self) -> String {
        let flags = self.flags.join(" ");
        match self.compiler {
            Compiler::Gcc => format!("gcc {flags}"),
            Compiler::Clang => format!("clang {flags}"),
            Compiler::Apple => format!("clang {flags} ({APPLE})"),
        }
    }

    fn folder(&self) -> String {
        self.name().replace(' ', "")
    }
}

fn has_clang() -> bool {
    [CLANG, CLANG_CPP].iter().all(|name| Command::new(name).arg("--version").output().is_ok())
}

fn is_cpp(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "cpp" || extension == "cc")
}

/// The files that a path with a `*` in its last part stands for.
fn expand(pattern: &Path) -> Result<Vec<PathBuf>> {
    let name = pattern.file_name().and_then(|name| name.to_str()).ok_or("a source has a name")?;
    let Some((before, after)) = name.split_once('*') else {
        return Ok(vec![pattern.to_owned()]);
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(pattern.parent().ok_or("a source is in a folder")?)? {
        let path = entry?.path();
        let matches = |name: &str| {
            name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
        };
        if path.file_name().and_then(|name| name.to_str()).is_some_and(matches) {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() { Err(format!("nothing is {}", pattern.display()).into()) } else { Ok(found) }
}

/// Runs the command unless its output is there, newer than its sources and made by the same
/// command.
fn make(mut command: Command, output: &Path, sources: &[impl AsRef<Path>]) -> Result<()> {
    let words: Vec<OsString> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(Into::into).collect();
    let text = format!("{words:?}");
    let stamp = output.with_extension("command");
    let changed = |path: &Path| fs::metadata(path)?.modified();
    let current = || -> std::io::Result<bool> {
        let made = changed(output)?;
        for source in sources {
            if changed(source.as_ref())? > made {
                return Ok(false);
            }
        }
        Ok(fs::read_to_string(&stamp)? == text)
    };
    if current().unwrap_or(false) {
        return Ok(());
    }
    run(&mut command)?;
    fs::write(&stamp, text)?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().map_err(|error| format!("{program}: {error}; scripts/setup installs it"))?;
    if !output.status.success() {
        return Err(format!("{command:?}\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}

/// On as many threads as there are cores. The first failure is the result.
fn in_parallel<T: Send>(
    jobs: Vec<T>,
    work: impl Fn(T) -> std::result::Result<(), String> + Sync,
) -> Result<()> {
    let jobs: Vec<_> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let job = job.lock().expect("no panic").take();
                    if let Some(Err(why)) = job.map(&work) {
                        failure.lock().expect("no panic").get_or_insert(why);
                        return;
                    }
                }
            });
        }
    });
    match failure.into_inner().expect("no panic") {
        Some(why) => Err(why.into()),
        None => Ok(()),
    }
}
