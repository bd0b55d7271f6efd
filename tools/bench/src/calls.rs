//! What a call costs and what a pin costs: nanoseconds, blocks of a few tens of microseconds in
//! turn.

use std::arch::{asm, naked_asm};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use midflight::{Frame, Runtime};
use object::{Object, ObjectSymbol, SymbolKind};
use subsecond::{HotFn, JumpTable};

use crate::Result;
use crate::modules::{self, measured};
use crate::worker::Samples;

/// Functions that a jump table of `subsecond` has: those of a program's own crate of middling size.
const JUMP_TABLE: usize = 2_000;

type Call = extern "C" fn(u64) -> u64;
/// Measures one block of one of the variants that there are: places of a loop, functions.
type Block<'b> = Box<dyn FnMut(usize) -> f64 + 'b>;

static WATCHED: OnceLock<PathBuf> = OnceLock::new();

/// As its users declare it. The library's folder is known only when the bench runs.
#[hot_lib_reloader::hot_module(dylib = "measured", lib_dir = super::watched())]
mod hot {
    #[hot_functions]
    extern "Rust" {
        pub(crate) fn call(x: u64) -> u64;
    }
}

fn watched() -> &'static Path {
    WATCHED.get().expect("set before the first call")
}

/// What `subsecond` patches, [`PATCHED`] times: how long a look-up takes is a matter of the
/// function's address, and one alone would have it by chance. The patch adds 1.
fn patched<const N: u64>(x: u64) -> u64 {
    x + 1_000 + N
}

const PATCHED: usize = 16;

/// The function's address in the jump table, and its block.
fn hot_fn<const N: u64>() -> (u64, Block<'static>) {
    let mut hot_fn = HotFn::current(patched::<N>);
    (hot_fn.ptr_address().0, Box::new(move |_| chain::<0>(|x| hot_fn.call((x,)), 3_200)))
}

fn hot_fns() -> [(u64, Block<'static>); PATCHED] {
    macro_rules! each {
        ($($n:literal)*) => { [$(hot_fn::<$n>()),*] };
    }
    each!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
}

/// By what is measured, and the number of its variant.
pub(crate) fn measure(folder: &Path, rounds: usize) -> Result<Samples> {
    let library = modules::version_file(folder, 1);
    let rt = Runtime::start()?;
    crate::loaded::load(rt, &library)?;
    WATCHED.get_or_init(|| modules::watched_folder(folder).expect("the folder can be written"));
    let mut hot_fns = hot_fns();
    patch(folder, &hot_fns.each_ref().map(|(address, _)| *address))?;

    let pointer = Box::new(dlopen(&library)?);
    let trampoline = rt.symbol("measured", "call")?;
    // SAFETY: `call` is as declared.
    let trampoline = Box::new(unsafe { std::mem::transmute::<std::ptr::NonNull<()>, Call>(trampoline) });
    // Relaxed: this thread alone reads it.
    ENTRY.store(*pointer as *mut (), Ordering::Relaxed);
    let stub: Box<Call> = Box::new(linker_stub);
    let (collector, swapped) = (seize::Collector::new(), ArcSwap::from_pointee(0_u64));
    let mut blocks: Vec<(&str, usize, Block)> = vec![
        ("direct", 4, Box::new(|variant| DIRECT[variant]())),
        ("pointer", 4, Box::new(|variant| THROUGH[variant](&pointer))),
        ("pinned", 4, Box::new(|variant| PINNED[variant](&rt.frame()))),
        ("trampoline", 4, Box::new(|variant| THROUGH[variant](&trampoline))),
        ("stub", 4, Box::new(|variant| THROUGH[variant](&stub))),
        ("subsecond", PATCHED, Box::new(|variant| hot_fns[variant].1(variant))),
        ("hot-lib-reloader", 1, Box::new(|_| chain::<0>(hot::call, 320))),
        ("pin", 1, Box::new(|_| repeat(|| hold(rt.frame()), 12_800))),
        ("crossbeam-epoch", 1, Box::new(|_| repeat(|| hold(crossbeam_epoch::pin()), 3_200))),
        ("seize", 1, Box::new(|_| repeat(|| hold(collector.enter()), 3_200))),
        ("arc-swap", 1, Box::new(|_| repeat(|| hold(swapped.load()), 3_200))),
    ];
    let mut samples = Samples::new();
    for round in 0..rounds {
        // Each in turn is the first.
        blocks.rotate_left(1);
        for (name, variants, block) in &mut blocks {
            let variant = round % *variants;
            samples.entry(format!("{name} {variant}")).or_default().push(block(variant));
        }
    }
    Ok(samples)
}

/// Nanoseconds of a call, each with the result of the one before. `PLACE` is where the loop lies,
/// in sixteens of bytes from a cache line's start: that alone is worth a cycle, so that one place
/// by chance would decide a ratio near 1.
#[inline(never)]
fn chain<const PLACE: usize>(mut call: impl FnMut(u64) -> u64, calls: u64) -> f64 {
    let begin = Instant::now();
    let mut x = 0;
    // SAFETY: it does nothing. The compiler aligns the loop behind it to sixteen bytes.
    unsafe {
        asm!(".balign 64", ".rept {}", "nop", ".endr", const PLACE * 16, options(nomem, nostack, preserves_flags));
    }
    for _ in 0..calls {
        x = call(x);
    }
    let time = begin.elapsed();
    assert_eq!(x, calls, "each call adds 1");
    time.as_secs_f64() * 1e9 / calls as f64
}

/// Calls through a pointer that is read from memory for each, as from an engine's table of
/// functions.
fn through<const PLACE: usize>(pointer: &Call) -> f64 {
    // SAFETY: a reference to a function pointer.
    chain::<PLACE>(|x| (unsafe { std::ptr::read_volatile(pointer) })(x), 25_600)
}

/// What [`linker_stub`] jumps to.
static ENTRY: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// A linker's stub (PLT) without lazy binding: one jump through an entry of the program's table. No
/// stable address whose code is never written costs less, so what a trampoline costs beyond it is
/// what threads' tables cost: on an Intel Xeon with AMX nothing, as a function pointer takes 0.98
/// ns there, this 1.47 and the trampoline 1.47. (A stub whose jump is direct takes 1.26.)
#[unsafe(naked)]
extern "C" fn linker_stub(x: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("endbr64", "jmp [rip + {entry}]", entry = sym ENTRY);
    #[cfg(target_arch = "aarch64")]
    naked_asm!(
        "adrp x16, {entry}",
        "ldr x17, [x16, :lo12:{entry}]",
        "br x17",
        entry = sym ENTRY,
    );
}

/// Calls under a frame that is open for a block, as it is for an engine's frame.
fn pinned<const PLACE: usize>(frame: &Frame) -> f64 {
    chain::<PLACE>(|x| measured::call(frame, x), 25_600)
}

/// Calls of a function of the program itself: nothing that is replaced can be cheaper.
fn direct<const PLACE: usize>() -> f64 {
    #[inline(never)]
    extern "C" fn next(x: u64) -> u64 {
        // SAFETY: it does nothing, but the compiler does not know what this function returns.
        unsafe { asm!("", options(nomem, nostack, preserves_flags)) };
        x + 1
    }
    chain::<PLACE>(|x| next(x), 25_600)
}

const DIRECT: [fn() -> f64; 4] = [direct::<0>, direct::<1>, direct::<2>, direct::<3>];
const THROUGH: [fn(&Call) -> f64; 4] = [through::<0>, through::<1>, through::<2>, through::<3>];
const PINNED: [fn(&Frame) -> f64; 4] = [pinned::<0>, pinned::<1>, pinned::<2>, pinned::<3>];

/// Nanoseconds of an operation.
#[inline(never)]
fn repeat(mut operation: impl FnMut(), times: u64) -> f64 {
    let begin = Instant::now();
    for _ in 0..times {
        operation();
    }
    begin.elapsed().as_secs_f64() * 1e9 / times as f64
}

/// A guard taken and given back, with something between that the compiler knows nothing of. The
/// guard stays in registers, as when functions are called under it: to look at it with `black_box`
/// costs three stores.
#[inline(always)]
fn hold<G>(guard: G) {
    // SAFETY: it does nothing.
    unsafe { asm!("", options(nostack, preserves_flags)) };
    drop(guard);
}

/// The same function by the system's linker.
pub(crate) fn dlopen(path: &Path) -> Result<Call> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: nothing of the file runs when it is loaded, it stays loaded, and `call` is as
    // declared.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        let call = if library.is_null() { library } else { libc::dlsym(library, c"call".as_ptr()) };
        if call.is_null() {
            return Err(CStr::from_ptr(libc::dlerror()).to_string_lossy().into());
        }
        Ok(std::mem::transmute::<*mut libc::c_void, Call>(call))
    }
}

/// Applies a patch that replaces the functions at these addresses, and with them those around them
/// in this program: the table of a `dx` build has all functions of the crate that changed.
fn patch(folder: &Path, addresses: &[u64]) -> Result<()> {
    let executable = std::fs::read(std::env::current_exe()?)?;
    let executable = object::File::parse(&*executable)?;
    let base = program_base()?;
    let is_function = |s: &object::Symbol| s.kind() == SymbolKind::Text && s.is_definition() && s.size() > 0;
    let mut functions: Vec<_> =
        executable.symbols().filter(is_function).map(|s| s.address() + base).collect();
    functions.sort_by_key(|function| function.abs_diff(addresses[0]));
    functions.dedup();
    functions.retain(|function| !addresses.contains(function));
    functions.splice(..0, addresses.iter().copied());
    if functions.len() < JUMP_TABLE {
        return Err(format!("{} functions in the program: has it no symbols?", functions.len()).into());
    }
    let lib = modules::patch(folder, 1);
    let target = modules::address(&lib, "call_it")?;
    apply(table(&lib, functions[..JUMP_TABLE].iter().map(|&function| (function, target)))?)
}

/// A jump table as `dx` makes it, from addresses in this process to those in the patch's file.
pub(crate) fn table(lib: &Path, map: impl Iterator<Item = (u64, u64)>) -> Result<JumpTable> {
    Ok(JumpTable {
        lib: lib.into(),
        map: map.collect(),
        // The distance from the program's file to where it was loaded is in the keys already.
        aslr_reference: subsecond::aslr_reference() as u64,
        new_base_address: modules::address(lib, "main")?,
        ifunc_count: 0,
    })
}

pub(crate) fn apply(table: JumpTable) -> Result<()> {
    // SAFETY: of the functions that the table names only those are called through it that have the
    // type of their replacement.
    unsafe { subsecond::apply_patch(table) }.map_err(|error| error.to_string().into())
}

/// By how much addresses in the program's file and in the process differ.
fn program_base() -> Result<u64> {
    // SAFETY: zeros are a valid Dl_info, and the address is a function's of this program.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(program_base as *const libc::c_void, &raw mut info) == 0 {
            return Err("the program's own place is not known".into());
        }
        Ok(info.dli_fbase as u64)
    }
}
