//! One case, in the process that was built for the target: the reference by dlopen, then midflight,
//! several times over.

use std::error::Error;
use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use midflight::{Runtime, Source};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// As in work/work.h.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Outcome {
    hash: u64,
    count: u64,
}

type Lookup = extern "C" fn(*const c_char) -> *mut c_void;
type Work = unsafe extern "C" fn(Lookup, *const c_char, *const c_char) -> Outcome;

/// Loads, works, replaces, works, unloads: so often, and measured from the second time on.
const ROUNDS: usize = 3;

struct Arguments {
    library: String,
    work: PathBuf,
    reference: PathBuf,
    sources: PathBuf,
    scripts: PathBuf,
    files: Vec<PathBuf>,
}

/// Set if there is to be less work: each library is worked with once in each round, after it was
/// replaced, and in the first one before too; and some work, which looks at it as well, is shorter.
/// Under an emulator the work takes two thirds of the leg's time.
pub(crate) const QUICK: &str = "REAL_MODULES_QUICK";

/// What the library is called, and where the reference is, for the functions that the work calls
/// back.
static LIBRARY: OnceLock<String> = OnceLock::new();
static REFERENCE: OnceLock<usize> = OnceLock::new();

/// Runs the case and says what was done.
pub(crate) fn run(mut arguments: impl Iterator<Item = String>) -> Result<String> {
    let mut next = || arguments.next().ok_or("a case has more arguments");
    let mut given = Arguments {
        library: next()?,
        work: next()?.into(),
        reference: next()?.into(),
        sources: next()?.into(),
        scripts: next()?.into(),
        files: Vec::new(),
    };
    given.files = arguments.map(PathBuf::from).collect();
    LIBRARY.get_or_init(|| given.library.clone());
    if given.files.iter().all(|file| file.extension().is_some_and(|extension| extension == "so")) {
        // SAFETY: no other thread is here yet.
        unsafe { std::env::set_var("REAL_MODULES_SHARED", "1") };
    }
    // One heap for all threads, so that memory in use does not depend on which of them were there
    // first. SAFETY: no other thread is here yet.
    if unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) } != 1 {
        return Err("the C library's heap cannot be set up".into());
    }

    // Global, so that modules made of objects find the libraries that the work was linked with, as
    // those of a host.
    let work = open(&given.work, libc::RTLD_NOW | libc::RTLD_GLOBAL)?;
    // SAFETY: work.h declares them so.
    let (unit, work): (_, Work) = unsafe {
        let unit = CStr::from_ptr(symbol(work, c"unit").cast()).to_str()?;
        (unit, std::mem::transmute::<*mut c_void, Work>(symbol(work, c"work")))
    };
    let folders = [&given.sources, &given.scripts].map(|path| CString::new(path.as_os_str().as_bytes()));
    let [sources, scripts] = folders;
    let (sources, scripts) = (sources?, scripts?);
    // SAFETY: the library is loaded and has the functions of its header, or `find` ends the
    // process.
    let work = |find: Lookup| unsafe { work(find, sources.as_ptr(), scripts.as_ptr()) };

    let reference = open(&given.reference, libc::RTLD_NOW | libc::RTLD_LOCAL)?;
    REFERENCE.get_or_init(|| reference as usize);
    let begin = Instant::now();
    let expected = work(find_in_reference);
    let time_by_dlopen = begin.elapsed();
    // It stays loaded: two copies of a library must not disturb each other.

    let rt = Runtime::start()?;
    let is_object = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "o");
    let source = || match &given.files[..] {
        [file] if !is_object(file) => Source::from(file),
        files => Source::linked(given.library.as_str(), files),
    };
    let quick = std::env::var_os(QUICK).is_some();
    let (mut before, mut fastest) = (None, Duration::MAX);
    for round in 0..ROUNDS {
        for copy in ["loaded", "replaced"] {
            // SAFETY: it is the library, and its callers have the types of its headers.
            unsafe { rt.load(source()) }?;
            if quick && round > 0 && copy == "loaded" {
                continue;
            }
            let begin = Instant::now();
            let outcome = work(find_in_module);
            fastest = fastest.min(begin.elapsed());
            if outcome != expected {
                return Err(format!("round {round}, {copy}: {outcome:?}, by dlopen {expected:?}").into());
            }
        }
        rt.unload(&given.library)?;
        // SAFETY: the work is over and keeps no address; what threads it had are joined.
        let collected = unsafe { rt.collect_escaped() }?;
        if collected.retained != 0 || collected.held != 0 {
            return Err(format!("round {round}: not freed: {collected:?}").into());
        }
        if round == 1 {
            before = Some(Footprint::now()?);
        }
    }
    let (before, after) = (before.ok_or("more than two rounds")?, Footprint::now()?);
    after.compare(&before)?;
    let ratio = fastest.as_secs_f64() / time_by_dlopen.as_secs_f64();
    Ok(format!("{} {unit}, {} loads, {ratio:.2} of dlopen's time", expected.count, 2 * ROUNDS))
}

extern "C" fn find_in_reference(name: *const c_char) -> *mut c_void {
    let reference = *REFERENCE.get().expect("it is opened before the work begins") as *mut c_void;
    // SAFETY: the work passes a C string.
    found(name, symbol(reference, unsafe { CStr::from_ptr(name) }), "dlsym finds none")
}

extern "C" fn find_in_module(name: *const c_char) -> *mut c_void {
    let library = LIBRARY.get().expect("it is known before the work begins");
    // SAFETY: the work passes a C string.
    let text = unsafe { CStr::from_ptr(name) }.to_str().expect("names are ASCII");
    match Runtime::start().and_then(|rt| rt.symbol(library, text)) {
        Ok(address) => address.as_ptr().cast(),
        Err(error) => found(name, std::ptr::null_mut(), &error.to_string()),
    }
}

/// The address, if there is one. The work has no other way to fail than to end the process.
fn found(name: *const c_char, address: *mut c_void, why: &str) -> *mut c_void {
    if address.is_null() {
        // SAFETY: the work passes a C string.
        eprintln!("{}: {why}", unsafe { CStr::from_ptr(name) }.to_string_lossy());
        std::process::exit(1);
    }
    address
}

fn open(path: &Path, flags: i32) -> Result<*mut c_void> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the caller opens libraries that this program's other part built.
    let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
    if handle.is_null() {
        // SAFETY: dlopen failed, so there is a message.
        return Err(unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into());
    }
    Ok(handle)
}

fn symbol(handle: *mut c_void, name: &CStr) -> *mut c_void {
    // SAFETY: the handle is open for the life of the process.
    unsafe { libc::dlsym(handle, name.as_ptr()) }
}

/// What the process has in memory.
struct Footprint {
    /// Of code memory.
    mappings: usize,
    resident_kib: usize,
}

impl Footprint {
    fn now() -> Result<Self> {
        // SAFETY: it gives free memory of the heap back, so that what is measured is what is in
        // use.
        unsafe { libc::malloc_trim(0) };
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("status has no VmRSS")?;
        let resident_kib = line.trim().trim_end_matches(" kB").parse()?;
        // The others are the C library's: stacks of threads that have ended, which it keeps for the
        // next.
        let mappings = maps.lines().filter(|line| line.contains("midflight")).count();
        Ok(Self { mappings, resident_kib })
    }

    /// Whether it has grown: by mappings at all, or by memory beyond what the heap's shape varies
    /// by. An emulator's memory counts as the process's, so there only mappings are compared.
    fn compare(&self, before: &Self) -> Result<()> {
        const SLACK_KIB: usize = 1024;
        let emulated = std::env::var_os("MIDFLIGHT_TEST_RUNNER").is_some();
        if self.mappings > before.mappings || !emulated && self.resident_kib > before.resident_kib + SLACK_KIB
        {
            let grown = |what, before, now| format!("{what} grew from {before} to {now}");
            let mappings = grown("mappings", before.mappings, self.mappings);
            return Err(format!(
                "{mappings}, {}",
                grown("RSS in KiB", before.resident_kib, self.resident_kib)
            )
            .into());
        }
        Ok(())
    }
}
