//! Calls as code for Apple's platforms makes them.

use std::arch::{asm, global_asm};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{addr_of, null_mut};

use super::{Found, ctype, files, linux, refused, symbol};

fn address(name: &str) -> u64 {
    match symbol(name) {
        Found::Address(address) => address,
        other => panic!("{name}: {other:?}"),
    }
}

/// Calls with these registers and, as what is passed for `...`, these slots on the stack.
fn call(name: &str, registers: &[u64], slots: &[u64]) -> u64 {
    let mut all = [0x5555_5555_5555_5555; 8];
    all[..registers.len()].copy_from_slice(registers);
    let [mut x0, x1, x2, x3, x4, x5, x6, x7] = all;
    let room = (8 * slots.len()).next_multiple_of(16);
    // SAFETY: the tests call functions with what they take; the stack pointer is put back.
    unsafe {
        asm!(
            "mov x20, sp",
            "sub sp, sp, x21",
            "mov x9, sp",
            "2:",
            "cbz x23, 3f",
            "ldr x10, [x22], #8",
            "str x10, [x9], #8",
            "sub x23, x23, #1",
            "b 2b",
            "3:",
            "blr x24",
            "mov sp, x20",
            inout("x0") x0, in("x1") x1, in("x2") x2, in("x3") x3, in("x4") x4, in("x5") x5, in("x6") x6, in("x7") x7,
            out("x20") _, in("x21") room, inout("x22") slots.as_ptr() => _, inout("x23") slots.len() => _,
            in("x24") address(name),
            clobber_abi("C"),
        );
    }
    x0
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn text(buffer: &[u8]) -> &str {
    CStr::from_bytes_until_nul(buffer).unwrap().to_str().unwrap()
}

/// A format with integers of every size, doubles and strings, more than fit in registers; its
/// slots, and what comes of it.
fn long_case(word: &CStr) -> (CString, Vec<u64>, String) {
    let format = c("%d %s %.3f %lld|%c %u %e %zu %x %g %hd %s %ld %5.1f %p %%");
    let slots = [
        0xDEAD_BEEF_FFFF_FFFE,
        word.as_ptr() as u64,
        1.25f64.to_bits(),
        u64::MAX << 40,
        b'q'.into(),
        0x1234_5678_8000_0001,
        1e100f64.to_bits(),
        7,
        0xABC,
        (-0.5f64).to_bits(),
        0x1_8000,
        word.as_ptr() as u64,
        i64::MIN as u64,
        99.96f64.to_bits(),
        0x10,
    ];
    let mut buffer = [0u8; 400];
    // SAFETY: the arguments are those that the format names.
    let length = unsafe {
        libc::snprintf(
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            format.as_ptr(),
            slots[0] as c_int,
            word.as_ptr(),
            f64::from_bits(slots[2]),
            slots[3],
            slots[4] as c_int,
            slots[5] as c_int,
            f64::from_bits(slots[6]),
            slots[7],
            slots[8] as c_int,
            f64::from_bits(slots[9]),
            slots[10] as c_int,
            word.as_ptr(),
            slots[12],
            f64::from_bits(slots[13]),
            slots[14],
        )
    };
    let text = text(&buffer).to_owned();
    assert!(text.starts_with("-2 word 1.250 -1099511627776|q ") && text.len() == length as usize, "{text}");
    (format, slots.to_vec(), text)
}

#[test]
fn the_printf_family() {
    let word = c("word");
    let (format, slots, expected) = long_case(&word);
    let length = expected.len() as u64;
    let mut buffer = [0u8; 400];
    let (to, size, format, list) =
        (buffer.as_mut_ptr() as u64, 400, format.as_ptr() as u64, slots.as_ptr() as u64);
    let pointer = to as *mut u8;
    let check = |name: &str, registers: &[u64], slots: &[u64]| {
        // SAFETY: the buffer.
        unsafe { pointer.write_bytes(0xAA, 400) };
        assert_eq!(call(name, registers, slots) as c_int as u64, length, "{name}");
        // SAFETY: written by the call.
        let written = unsafe { CStr::from_ptr(pointer.cast()) };
        assert_eq!(written.to_str(), Ok(&*expected), "{name}");
    };
    check("snprintf", &[to, size, format], &slots);
    check("vsnprintf", &[to, size, format, list], &[]);
    check("sprintf", &[to, format], &slots);
    check("vsprintf", &[to, format, list], &[]);
    check("__snprintf_chk", &[to, size, 0, size, format], &slots);
    check("__vsnprintf_chk", &[to, size, 0, size, format, list], &[]);
    check("__sprintf_chk", &[to, 0, size, format], &slots);
    check("__vsprintf_chk", &[to, 0, size, format, list], &[]);
    // No arguments at all, and what does not fit.
    assert_eq!(call("snprintf", &[to, 4, c("plain").as_ptr() as u64], &[]), 5);
    assert_eq!(text(&buffer), "pla");

    for (name, last) in [("asprintf", None), ("vasprintf", Some(list))] {
        let mut made: *mut c_char = null_mut();
        let place = &raw mut made;
        let registers: Vec<u64> = [place as u64, format].into_iter().chain(last).collect();
        assert_eq!(call(name, &registers, if last.is_none() { &slots } else { &[] }), length);
        // SAFETY: made by the call; and freed once.
        unsafe {
            let made = place.read();
            assert_eq!(CStr::from_ptr(made).to_str(), Ok(&*expected));
            libc::free(made.cast());
        }
    }
}

#[test]
fn printing_to_files() {
    let word = c("word");
    let (format, slots, expected) = long_case(&word);
    let (format, list) = (format.as_ptr() as u64, slots.as_ptr() as u64);
    let mut pipe = [0; 2];
    // SAFETY: two descriptors, which are the file's and the test's.
    unsafe { assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0) };
    let [from, to] = pipe;
    let length = expected.len() as u64;
    assert_eq!(call("dprintf", &[to as u64, format], &slots), length);
    assert_eq!(call("vdprintf", &[to as u64, format, list], &[]), length);
    // SAFETY: an open descriptor, and a stream that is closed once.
    unsafe {
        let stream = libc::fdopen(to, c("w").as_ptr());
        assert_eq!(call("fprintf", &[stream as u64, format], &slots), length);
        assert_eq!(call("vfprintf", &[stream as u64, format, list], &[]), length);
        libc::fclose(stream);
    }
    let mut read = vec![0u8; 2000];
    // SAFETY: the buffer's length; then the test's own descriptor.
    let count = unsafe { libc::read(from, read.as_mut_ptr().cast(), read.len()) };
    unsafe { libc::close(from) };
    read.truncate(count as usize);
    assert_eq!(String::from_utf8(read).unwrap(), expected.repeat(4));
}

#[test]
fn wide_characters() {
    let wide = |text: &str| -> Vec<u32> { text.chars().map(u32::from).chain([0]).collect() };
    let (format, word) = (wide("%ls %d %.2f"), wide("wörd"));
    let slots = [word.as_ptr() as u64, 42, 2.5f64.to_bits()];
    for name in ["swprintf", "vswprintf"] {
        let mut buffer = [0u32; 40];
        let registers = [buffer.as_mut_ptr() as u64, 40, format.as_ptr() as u64, slots.as_ptr() as u64];
        assert_eq!(call(name, &registers, &slots), 12, "{name}");
        assert_eq!(buffer[..13], wide("wörd 42 2.50"));
    }
    let (mut number, mut real) = (0i32, 0f64);
    let slots = [&raw mut number as u64, &raw mut real as u64];
    let (input, format) = (wide("17 0.5"), wide("%d %lf"));
    for name in ["swscanf", "vswscanf"] {
        let registers = [input.as_ptr() as u64, format.as_ptr() as u64, slots.as_ptr() as u64];
        assert_eq!(call(name, &registers, &slots), 2, "{name}");
        // SAFETY: written by the call.
        assert_eq!(
            unsafe { ((&raw const number).read_volatile(), (&raw const real).read_volatile()) },
            (17, 0.5)
        );
    }
}

#[test]
fn the_scanf_family() {
    let (input, format) = (c("12 abc 1.5 -7 9 8 7 6 5 4"), c("%d %3s %lf %lld %d %d %d %d %d %d"));
    for name in ["sscanf", "vsscanf"] {
        let (mut numbers, mut word, mut real, mut long) = ([0i32; 7], [0u8; 4], 0f64, 0i64);
        let mut at = (0..7).map(|index| numbers.as_mut_ptr().wrapping_add(index) as u64);
        let first = at.next().unwrap();
        let places = [first, word.as_mut_ptr() as u64, &raw mut real as u64, &raw mut long as u64];
        let slots: Vec<u64> = places.into_iter().chain(at).collect();
        let registers = [input.as_ptr() as u64, format.as_ptr() as u64, slots.as_ptr() as u64];
        assert_eq!(call(name, &registers, &slots), 10, "{name}");
        // SAFETY: written by the call.
        unsafe {
            assert_eq!((&raw const numbers).read_volatile(), [12, 9, 8, 7, 6, 5, 4]);
            assert_eq!(&(&raw const word).read_volatile(), b"abc\0");
            assert_eq!((&raw const real).read_volatile(), 1.5);
            assert_eq!((&raw const long).read_volatile(), -7);
        }
    }
    // C99's %a, not the old way to have memory allocated.
    let (mut real, input, format) = (0f32, c("0x1p4 "), c("%a"));
    call("sscanf", &[input.as_ptr() as u64, format.as_ptr() as u64], &[&raw mut real as u64]);
    // SAFETY: written by the call.
    assert_eq!(unsafe { (&raw const real).read_volatile() }, 16.0);
}

#[test]
fn every_name_of_a_family_has_both_forms() {
    for name in [
        "printf", "wprintf", "fwprintf", "scanf", "fscanf", "wscanf", "fwscanf", "syslog", "warn", "warnx",
        "err", "errx",
    ] {
        assert_ne!(address(name), address(&format!("v{name}")), "{name}");
    }
}

#[test]
fn files_are_opened_with_apples_flags() {
    let path = std::env::temp_dir().join(format!("midflight-apple-{}", std::process::id()));
    let path = c(path.to_str().unwrap());
    let at = path.as_ptr() as u64;
    let (write, create, truncate, exclusive, append, on_exec) = (1, 0x200, 0x400, 0x800, 8, 0x100_0000);
    let file = call("open", &[at, write | create | exclusive | append | on_exec], &[0o640]) as c_int;
    assert!(file >= 0);
    // SAFETY: a descriptor, and memory for what is asked.
    unsafe {
        let mut of: libc::stat = std::mem::zeroed();
        assert_eq!(libc::fstat(file, &mut of), 0);
        assert_eq!(of.st_mode & 0o777, 0o640);
        assert_eq!(libc::fcntl(file, libc::F_GETFD), libc::FD_CLOEXEC);
        assert_ne!(libc::fcntl(file, libc::F_GETFL) & libc::O_APPEND, 0);
        assert_eq!(libc::write(file, at as *const c_void, 3), 3);
    }
    let descriptor = file as u64;
    assert_eq!(call("fcntl", &[descriptor, 3], &[]), write | append);
    assert_eq!(call("fcntl", &[descriptor, 4], &[0x4]), 0);
    assert_eq!(call("fcntl", &[descriptor, 3], &[]), write | 4);
    assert_eq!(call("fcntl", &[descriptor, 51], &[]), 0);
    let copy = call("fcntl", &[descriptor, 67], &[200]) as c_int;
    assert!(copy >= 200);
    // F_GETPATH has no counterpart.
    assert_eq!(call("fcntl", &[descriptor, 50], &[0]) as c_int, -1);
    // There already, and unknown (O_EVTONLY).
    assert_eq!(call("open", &[at, create | exclusive], &[0o600]) as c_int, -1);
    assert_eq!(call("open", &[at, 0x8000], &[]) as c_int, -1);
    let again = call("openat", &[-2i64 as u64, at, write | truncate], &[]) as c_int;
    assert!(again >= 0);
    // SAFETY: the test's own descriptors and file.
    unsafe {
        assert_eq!(libc::lseek(again, 0, libc::SEEK_END), 0);
        for file in [file, copy, again] {
            libc::close(file);
        }
        libc::unlink(path.as_ptr());
    }
}

#[test]
fn flags_there_and_back() {
    for apple in
        [0, 1, 2, 0x4 | 1, 0x8, 0x80, 0x100, 0x200 | 0x400 | 0x800 | 2, 0x10_0000, 0x40_0000, 0x100_0000]
    {
        let linux = files::to_linux(apple).unwrap();
        let back = files::to_apple(linux);
        // Linux's O_SYNC says O_DSYNC too.
        assert_eq!(back & !0x40_0000, apple & !0x40_0000, "{apple:#x}");
        assert!(back & 0x40_0000 != 0 || apple & 0x40_0000 == 0);
    }
    for unknown in [0x10, 0x20, 0x8000, 0x20_0000, 0x4000_0000, c_int::MIN] {
        assert_eq!(files::to_linux(unknown), None, "{unknown:#x}");
    }
}

#[test]
fn categories_of_locales() {
    // The C locale is what it is at the start, and nobody here changes it.
    for category in 0..7 {
        let found = call("setlocale", &[category, 0], &[]) as *const c_char;
        // SAFETY: a string of the C library's.
        assert_eq!(unsafe { CStr::from_ptr(found) }, c"C");
    }
    assert_eq!(call("setlocale", &[7, 0], &[]), 0);
    assert_eq!(call("setlocale", &[-1i64 as u64, 0], &[]), 0);
}

#[test]
fn characters_are_what_the_c_library_says() {
    // Of <ctype.h>: the function, and Apple's bit.
    let classes: [(unsafe extern "C" fn(c_int) -> c_int, u32); 11] = [
        (libc::isalpha, 0x100),
        (libc::iscntrl, 0x200),
        (libc::isdigit, 0x400),
        (libc::isgraph, 0x800),
        (libc::islower, 0x1000),
        (libc::ispunct, 0x2000),
        (libc::isspace, 0x4000),
        (libc::isupper, 0x8000),
        (libc::isxdigit, 0x1_0000),
        (libc::isblank, 0x2_0000),
        (libc::isprint, 0x4_0000),
    ];
    let table = address("_DefaultRuneLocale") as *const u32;
    for byte in 0..256 {
        // SAFETY: _RuneLocale's __runetype is 60 bytes from its start.
        let types = unsafe { table.add(15 + byte as usize).read() };
        for (function, bit) in classes {
            // SAFETY: a byte's value.
            let is = unsafe { function(byte) } != 0;
            assert_eq!(types & bit != 0, is, "{byte} {bit:#x}");
            assert_eq!(ctype::maskrune(byte, bit.into()) != 0, is);
        }
        // SAFETY: a byte's value.
        let (lower, upper) = unsafe { (libc::tolower(byte), libc::toupper(byte)) };
        assert_eq!((ctype::RUNES.lower[byte as usize], ctype::RUNES.upper[byte as usize]), (lower, upper));
        assert_eq!(call("__tolower", &[byte as u64], &[]), lower as u64);
    }
    assert_eq!([ctype::maskrune(-1, !0), ctype::maskrune(256, !0)], [0, 0]);
    assert_eq!([b'7', b'c', b'F', b'g'].map(|byte| ctype::maskrune(byte.into(), 0xF)), [7, 12, 15, 0]);
    assert_eq!(size_of::<ctype::Runes>(), 3208);
}

#[test]
fn patterns() {
    let pattern: Vec<u8> = (1..=16).collect();
    for (name, width) in [("memset_pattern4", 4), ("memset_pattern8", 8), ("memset_pattern16", 16)] {
        for length in 0..50 {
            let mut bytes = [0u8; 64];
            call(name, &[bytes.as_mut_ptr() as u64, pattern.as_ptr() as u64, length as u64], &[]);
            let expected: Vec<u8> =
                (0..64).map(|at| if at < length { pattern[at % width] } else { 0 }).collect();
            // SAFETY: written by the call.
            assert_eq!(unsafe { (&raw const bytes).read_volatile() }, *expected, "{name} {length}");
        }
    }
}

#[test]
fn mathematics() {
    type Sines = extern "C" fn(f64) -> linux::Both<f64>;
    type FloatSines = extern "C" fn(f32) -> linux::Both<f32>;
    type Double = extern "C" fn(f64) -> f64;
    // SAFETY: functions of these types.
    let (both, both_f, sinl, exp10, sqrtl) = unsafe {
        (
            std::mem::transmute::<u64, Sines>(address("__sincos_stret")),
            std::mem::transmute::<u64, FloatSines>(address("__sincosf_stret")),
            std::mem::transmute::<u64, Double>(address("sinl")),
            std::mem::transmute::<u64, Double>(address("__exp10")),
            std::mem::transmute::<u64, Double>(address("sqrtl")),
        )
    };
    let found = both(0.7);
    assert_eq!((found.sine, found.cosine), (0.7f64.sin(), 0.7f64.cos()));
    let found = both_f(0.7);
    assert!((found.sine - 0.7f32.sin()).abs() < 1e-6 && (found.cosine - 0.7f32.cos()).abs() < 1e-6);
    assert_eq!((sinl(0.7), sqrtl(2.0)), (0.7f64.sin(), 2f64.sqrt()));
    assert!((exp10(3.0) - 1000.0).abs() < 1e-9);
    type Parse = extern "C" fn(*const c_char, *mut *mut c_char) -> f64;
    // SAFETY: strtod's type.
    let parse = unsafe { std::mem::transmute::<u64, Parse>(address("strtold")) };
    assert_eq!(parse(c"2.5e3x".as_ptr(), null_mut()), 2500.0);
}

global_asm!(
    ".globl midflight_test_jump",
    "midflight_test_jump:", // (setjmp, longjmp, buffer, value) -> what setjmp returns at last, or -1
    "hint #34",
    "stp x29, x30, [sp, #-64]!",
    "mov x29, sp",
    "stp x19, x20, [sp, #16]",
    "stp x21, x28, [sp, #32]",
    "str d8, [sp, #48]",
    "mov x19, x1",
    "mov x20, x2",
    "mov w21, w3",
    "fmov d8, #2.5",
    "mov x28, #77",
    "mov x9, x0",
    "mov x0, x2",
    "blr x9",
    "cbnz w0, 2f",
    "mov x0, x20",
    "mov w1, w21",
    "mov x9, x19",
    "sub sp, sp, #64",
    "mov x28, #0",
    "mov x29, #0",
    "fmov d8, #1.0",
    "mov x21, #0",
    "blr x9",
    "2:",
    "fmov d0, #2.5",
    "fcmp d0, d8",
    "mov x9, sp",
    "ccmp x9, x29, #0, eq",
    "ccmp x28, #31, #0, eq",
    "b.eq 3f",
    "cmp x28, #77",
    "b.eq 4f",
    "3:",
    "mov w0, #-1",
    "4:",
    "ldr d8, [sp, #48]",
    "ldp x21, x28, [sp, #32]",
    "ldp x19, x20, [sp, #16]",
    "ldp x29, x30, [sp], #64",
    "ret",
);
unsafe extern "C" {
    fn midflight_test_jump(set: u64, jump: u64, buffer: *mut u64, value: c_int) -> c_int;
}

#[test]
fn jumps() {
    for (set, jump) in [("setjmp", "longjmp"), ("_setjmp", "_longjmp")] {
        for (value, expected) in [(7, 7), (-3, -3), (0, 1), (c_int::MIN, c_int::MIN)] {
            // Apple's jmp_buf, and what is behind it.
            let mut buffer = [0xAAAA_AAAA_AAAA_AAAA_u64; 25];
            // SAFETY: the functions, and room for what the first one saves.
            let found =
                unsafe { midflight_test_jump(address(set), address(jump), buffer.as_mut_ptr(), value) };
            assert_eq!(found, expected);
            assert_eq!(buffer[24], 0xAAAA_AAAA_AAAA_AAAA);
        }
    }
}

#[test]
fn variables() {
    unsafe extern "C" {
        static stdout: *mut c_void;
    }
    let cell = address("__stdoutp") as *const *mut c_void;
    // SAFETY: the C library's variable, which nobody changes.
    unsafe { assert_eq!((cell, *cell), (addr_of!(stdout), stdout)) };
    // SAFETY: the calling thread's variable.
    let errno = unsafe { libc::__errno_location() };
    assert_eq!(call("__error", &[], &[]), errno as u64);
    assert_eq!(call("__chkstk_darwin", &[5], &[]), 5);
}

#[test]
fn a_failed_assertion_says_what_and_aborts() {
    let mut pipe = [0; 2];
    // SAFETY: the child does nothing but fail; what it needs was made before.
    let (output, status) = unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        let child = libc::fork();
        if child == 0 {
            libc::dup2(pipe[1], 2);
            let (function, file, text) = (c"here", c"file.c", c"1 == 2");
            call(
                "__assert_rtn",
                &[function.as_ptr() as u64, file.as_ptr() as u64, 12, text.as_ptr() as u64],
                &[],
            );
            libc::_exit(0);
        }
        libc::close(pipe[1]);
        let mut read = vec![0u8; 400];
        let count = libc::read(pipe[0], read.as_mut_ptr().cast(), read.len());
        libc::close(pipe[0]);
        read.truncate(count.max(0) as usize);
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
        (String::from_utf8(read).unwrap(), status)
    };
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, "{status:#x}");
    assert!(["file.c:12", "here", "1 == 2"].iter().all(|part| output.contains(part)), "{output}");
}

#[test]
fn a_path_that_does_not_fit_into_apples_buffer_is_not_written() {
    let folder = std::env::temp_dir().join(format!("midflight-realpath-{}", std::process::id()));
    let deep = (0..6).fold(folder.clone(), |folder, _| folder.join("x".repeat(200)));
    std::fs::create_dir_all(&deep).unwrap();
    let mut buffer = [0x55_u8; 1100];
    for (path, fits) in [(&folder, true), (&deep, false)] {
        let name = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: C strings, and a buffer of Apple's size; then null, by which the result is the C
        // library's.
        unsafe {
            let found = super::files::realpath(name.as_ptr(), buffer.as_mut_ptr().cast());
            assert_eq!(!found.is_null(), fits, "{path:?}");
            let found = super::files::realpath(name.as_ptr(), std::ptr::null_mut());
            assert_eq!(CStr::from_ptr(found), name.as_c_str());
            libc::free(found.cast());
        }
        assert!(buffer[1024..].iter().all(|byte| *byte == 0x55));
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn names() {
    for (name, part) in [
        ("execl", "variable number"),
        ("ioctl", "variable number"),
        ("stat", "layout"),
        ("pthread_mutex_lock", "pthreads"),
        ("mmap", "numbers"),
        ("__srget", "macros"),
        ("csinl", "long double"),
        ("qsort_r", "order"),
        ("_ZNSt3__15mutex4lockEv", "static libc++"),
        ("aio_read", "layout"),
        ("mkostemp", "numbers"),
        ("__isnanl", "long double"),
    ] {
        assert!(matches!(symbol(name), Found::Refused(reason) if reason.contains(part)), "{name}");
        // Never both.
        assert_eq!(linux::find(name), None);
        assert!(refused::find(name).is_some());
    }
    for name in ["", "memcpy", "malloc", "puts", "pthread_create", "sin", "printfx", "_ZSt4cout"] {
        assert_eq!(symbol(name), Found::Unknown, "{name}");
    }
    // What clang calls by itself, and the process has as it is.
    for name in [
        "bzero",
        "__bzero",
        "memcpy",
        "memmove",
        "memset",
        "__memcpy_chk",
        "__memmove_chk",
        "__memset_chk",
        "__strcpy_chk",
        "__strncpy_chk",
        "__strcat_chk",
        "__strncat_chk",
        "__stpcpy_chk",
        "__stpncpy_chk",
        "__stack_chk_fail",
        "__stack_chk_guard",
        "__cxa_atexit",
        "abort",
    ] {
        assert_eq!(symbol(name), Found::Unknown, "{name}");
        // SAFETY: a C string.
        assert!(!unsafe { libc::dlsym(libc::RTLD_DEFAULT, c(name).as_ptr()) }.is_null(), "{name}");
    }
}
