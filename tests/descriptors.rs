//! A thread's first use of a version's variables is a function call that compiled code does not
//! know of: it keeps all registers and errno, takes a stack that is not aligned, and can be unwound
//! through.
//!
//! ELF's ways of asking, so on Linux only.

#![cfg(target_os = "linux")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_void;
use std::path::{Path, PathBuf};

use midflight::Runtime;
use support::{Workshop, start};

midflight::module! {
    mod registers { unsafe fn call(kind: u32, input: *const u8, output: *mut u8) -> usize; }
    unsafe mod walked { safe fn touch() -> i32; safe fn code() -> usize; }
    unsafe mod errors { safe fn keeps_errno() -> i32; }
}

/// How compilers ask for thread-local variables: by function, by descriptor.
const DIALECTS: [&str; 2] = if cfg!(target_arch = "x86_64") {
    ["-mtls-dialect=gnu", "-mtls-dialect=gnu2"]
} else {
    ["-mtls-dialect=trad", "-mtls-dialect=desc"]
};

fn load(rt: Runtime, path: &Path) {
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load(path) }.unwrap();
}

fn module(shop: &Workshop, name: &str, version: u32, source: &str, arguments: &[&str]) -> PathBuf {
    shop.module_for(std::env::consts::ARCH, name, version, source, arguments)
}

/// An allocator that changes errno, as one that succeeds may, and that looks who is calling when
/// asked to.
struct Watching;

// SAFETY: the system's allocator, which is one.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if WALK.replace(false) {
            walk();
        }
        // SAFETY: this thread's own; the caller's promise.
        unsafe {
            *libc::__errno_location() = libc::ENOMEM;
            System.alloc(layout)
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static WATCHING: Watching = Watching;

thread_local! {
    /// This thread's next allocation is to look who is calling.
    static WALK: Cell<bool> = const { Cell::new(false) };
    /// Return addresses, from the allocator up.
    static CALLERS: Cell<[usize; 64]> = const { Cell::new([0; 64]) };
}

/// Return addresses that have been seen.
#[repr(C)]
struct Callers {
    count: usize,
    addresses: [usize; 64],
}

unsafe extern "C" {
    fn _Unwind_Backtrace(
        visit: extern "C" fn(*mut c_void, &mut Callers) -> i32,
        callers: &mut Callers,
    ) -> i32;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

/// Walks the stack as a debugger or an exception does.
fn walk() {
    extern "C" fn visit(context: *mut c_void, callers: &mut Callers) -> i32 {
        if let Some(address) = callers.addresses.get_mut(callers.count) {
            // SAFETY: the unwinder's own.
            *address = unsafe { _Unwind_GetIP(context) };
        }
        callers.count += 1;
        0
    }
    let mut callers = Callers { count: 0, addresses: [0; 64] };
    // SAFETY: `visit` takes what is passed.
    unsafe { _Unwind_Backtrace(visit, &mut callers) };
    CALLERS.set(callers.addresses);
}

#[test]
fn the_stack_can_be_walked_from_a_first_use() {
    let (rt, shop, _turn) = start("walked");
    let source = "static __thread volatile int variable = 5;
                  __attribute__((noinline)) static int use(void) { return variable; }
                  int touch(void) { return use() + 1; }
                  unsigned long code(void) { return (unsigned long)use; }";
    for (version, dialect) in (1..).zip(DIALECTS) {
        load(rt, &module(&shop, "walked", version, source, &[dialect]));
        let code = walked::code(&rt.frame());
        let frame = rt.frame();
        walk_from(&|| walked::touch(&frame));
        let callers = CALLERS.get();
        // The outermost caller within a function's first bytes.
        let at = |function: usize| callers.iter().rposition(|caller| caller.wrapping_sub(function) < 500);
        let (module, test) = (at(code), at(walk_from as *const () as usize));
        assert!(module.is_some() && module < test, "{dialect}: {module:?} and {test:?} in {callers:x?}");
    }
    rt.unload("walked").unwrap();
}

/// Runs something whose first allocation is looked at.
#[inline(never)]
fn walk_from(run: &dyn Fn() -> i32) {
    WALK.set(true);
    assert_eq!(run(), 6);
    assert!(!WALK.replace(false), "nothing was allocated");
}

#[test]
fn errno_is_kept() {
    let (rt, shop, _turn) = start("errno");
    // The allocator above changes it.
    let source = "#include <errno.h>
                  static __thread volatile char byte;
                  __attribute__((noinline)) static void use(void) { byte = 1; }
                  int keeps_errno(void) { errno = 77; use(); return errno == 77; }";
    load(rt, &shop.module("errors", 1, source));
    std::thread::spawn(move || assert_eq!(errors::keeps_errno(&rt.frame()), 1)).join().unwrap();
    rt.unload("errors").unwrap();
}

/// A module that calls the descriptor of a variable of its own, or of a library's.
fn registers_module(shop: &Workshop, version: u32, library: Option<&Path>) -> PathBuf {
    let assembly = if cfg!(target_arch = "x86_64") {
        include_str!("support/registers/x86_64.s")
    } else {
        include_str!("support/registers/aarch64.s")
    };
    let assembly = shop.file("registers.s", assembly.as_bytes());
    let mut arguments = vec![assembly.to_str().unwrap()];
    if let Some(library) = library {
        arguments.extend(["-Wa,--defsym,ELSEWHERE=1", library.to_str().unwrap()]);
    }
    module(shop, "registers", version, "", &arguments)
}

#[test]
fn a_descriptor_changes_no_register_but_its_result() {
    let (rt, shop, _turn) = start("registers");
    // What the C library allocates is looked up by it each time; its own code for that takes
    // registers too.
    let library = module(&shop, "registers_library", 1, "__thread long variable;", &[DIALECTS[0]]);
    let c_path = std::ffi::CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: a library without constructors, which stays. The module names it without its folder.
    assert!(!unsafe { libc::dlopen(c_path.as_ptr(), libc::RTLD_NOW) }.is_null());
    for (version, library) in [(1, None), (2, Some(&*library))] {
        load(rt, &registers_module(&shop, version, library));
        for kind in 0..register_kinds() {
            std::thread::spawn(move || check_registers(rt, kind)).join().unwrap();
        }
    }
    rt.unload("registers").unwrap();
}

fn check_registers(rt: Runtime, kind: u32) {
    let mut input = [0_u8; 1 << 14];
    // Every byte of every register tells where it is from.
    let bytes = (1_u32..).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8);
    input.iter_mut().zip(bytes).for_each(|(byte, n)| *byte = n);
    control_registers(&mut input);
    let mut places = std::collections::BTreeSet::new();
    for time in ["the first use", "a later use"] {
        let mut output = [0_u8; 1 << 14];
        // SAFETY: no machine's registers are longer.
        let place = unsafe { registers::call(&rt.frame(), kind, input.as_ptr(), output.as_mut_ptr()) };
        places.insert(place);
        for (from, len) in written(kind, &output) {
            let (expected, found) = (&input[from..from + len], &output[from..from + len]);
            assert_eq!(expected, found, "kind {kind}, {time}: {len} bytes at {from}");
        }
    }
    assert_eq!(places.len(), 1, "the same variable");
}

#[cfg(target_arch = "x86_64")]
midflight::module! {
    unsafe mod misaligned { safe fn misaligned() -> usize; }
}

/// GCC before version 8 did not align the stack for these calls.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_stack_that_is_not_aligned_does() {
    let (rt, shop, _turn) = start("misaligned");
    let assembly = shop.file("registers.s", include_str!("support/registers/x86_64.s").as_bytes());
    load(rt, &module(&shop, "misaligned", 1, "", &[assembly.to_str().unwrap()]));
    let first = misaligned::misaligned(&rt.frame());
    assert_eq!(misaligned::misaligned(&rt.frame()), first);
    rt.unload("misaligned").unwrap();
}

/// How many kinds of vector registers this processor has.
#[cfg(target_arch = "x86_64")]
fn register_kinds() -> u32 {
    1 + u32::from(is_x86_feature_detected!("avx")) + u32::from(is_x86_feature_detected!("avx512bw"))
}

/// Values that the control registers can have: rounding toward zero, and a flag.
#[cfg(target_arch = "x86_64")]
fn control_registers(input: &mut [u8]) {
    input[2240..2244].copy_from_slice(&0x7fa0_u32.to_le_bytes());
    input[2248..2256].copy_from_slice(&std::f64::consts::PI.to_le_bytes());
    input[2256..2264].copy_from_slice(&1.0_f64.to_le_bytes());
}

/// What the module has written, as start and length.
#[cfg(target_arch = "x86_64")]
fn written(kind: u32, _output: &[u8]) -> Vec<(usize, usize)> {
    let (count, width) = [(16, 16), (16, 32), (32, 64)][kind as usize];
    let masks = if kind == 2 { 64 } else { 0 };
    let rest = [(0, 14 * 8), (2176, masks), (2240, 4), (2248, 16)];
    (0..count).map(|n| (128 + 64 * n, width)).chain(rest).collect()
}

#[cfg(target_arch = "aarch64")]
fn register_kinds() -> u32 {
    // Under QEMU the processor that it emulates by default has it.
    1 + u32::from(std::arch::is_aarch64_feature_detected!("sve"))
}

#[cfg(target_arch = "aarch64")]
fn control_registers(input: &mut [u8]) {
    // N and V; the cumulative saturation flag and an exception's.
    input[240..248].copy_from_slice(&0x9000_0000_u64.to_le_bytes());
    input[248..256].copy_from_slice(&0x0800_0001_u64.to_le_bytes());
    // A first-fault register has ones, then zeros.
    input[9216..9248].fill(0);
    input[9216] = 0x7f;
}

#[cfg(target_arch = "aarch64")]
fn written(kind: u32, output: &[u8]) -> Vec<(usize, usize)> {
    // The calling sequence's own x1, before and after.
    assert_eq!(output[..8], output[8..16], "x1");
    // Of scalable registers as much as there is was written.
    let width = |from: usize, most: usize| {
        let len = if kind == 0 {
            16
        } else {
            output[from..from + most].iter().rposition(|b| *b != 0).map_or(0, |n| n + 1)
        };
        (from, len)
    };
    let vectors = (0..32).map(|n| width(512 + 256 * n, 256));
    let predicates = (0..17).filter(|_| kind == 1).map(|n| width(8704 + 32 * n, 32));
    [(16, 28 * 8), (240, 16)].into_iter().chain(vectors).chain(predicates).collect()
}
