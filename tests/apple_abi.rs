//! What compilers for Apple's platforms make of ordinary code, in the AArch64 Linux runtime: calls
//! of the C library's, and exceptions that must bring back every register.
#![cfg(all(target_os = "linux", target_arch = "aarch64"))]

mod support;

use std::fmt::Write;
use std::path::PathBuf;

use midflight::{Runtime, Source};

midflight::module! {
    mod keeper { unsafe fn kept(shape: i32, whole: *const i64, real: *const f64) -> i64; }
    unsafe mod library {
        safe fn jumps(value: i32) -> i32;
        safe fn sines(angle: f64) -> f64;
        unsafe fn pattern(to: *mut i32, count: i32) -> i32;
        safe fn classes(character: i32) -> i32;
        unsafe fn number(text: *const u8) -> f64;
        unsafe fn failed(path: *const u8) -> i32;
        unsafe fn listed(into: *mut u8, size: usize, n: i32) -> i32;
    }
}

fn load(rt: Runtime, source: impl Into<Source>) {
    // SAFETY: the modules have the functions as declared above.
    unsafe { rt.load(source) }.unwrap();
}

const WHOLE: [&str; 10] = ["x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28"];
const REAL: [&str; 8] = ["d8", "d9", "d10", "d11", "d12", "d13", "d14", "d15"];

/// Functions that destroy registers and throw, and one that has values in all of them meanwhile.
fn thrower() -> (String, i32) {
    let mut text = String::from("__attribute__((noinline)) static void thrower(int n) { throw n; }\n");
    let pair = |set: usize| -> Vec<&str> {
        let bits = |registers: &'static [&str], from: usize| {
            let of = move |(index, _): &(usize, &&str)| set >> (from + index / 2) & 1 != 0;
            registers.iter().enumerate().filter(of).map(|(_, register)| *register)
        };
        bits(&WHOLE, 0).chain(bits(&REAL, 5)).collect()
    };
    // Each pair alone, all, none, and some.
    let sets: Vec<usize> =
        (0..9).map(|bit| 1 << bit).chain([0x1FF, 0, 0x155, 0x0AA, 0x1E0, 0x01F, 0x111]).collect();
    for (shape, set) in sets.iter().enumerate() {
        let registers = pair(*set);
        let destroy: String = registers
            .iter()
            .map(|register| {
                if register.starts_with('x') {
                    format!("mov {register}, #-1\\n")
                } else {
                    format!("fmov {register}, xzr\\n")
                }
            })
            .collect();
        let clobbers: Vec<_> = registers.iter().map(|register| format!("\"{register}\"")).collect();
        let clobbers = if clobbers.is_empty() { String::new() } else { format!(":::{}", clobbers.join(",")) };
        writeln!(
            text,
            "__attribute__((noinline)) static void shape{shape}(int n) {{ asm volatile(\"{destroy}\" {clobbers}); thrower(n); asm volatile(\"\"); }}"
        )
        .unwrap();
    }
    let names: Vec<_> = (0..sets.len()).map(|shape| format!("shape{shape}")).collect();
    let each = |kind: &str, count: usize, body: &dyn Fn(usize) -> String| -> String {
        (0..count).map(|at| format!("{kind}{}", body(at))).collect()
    };
    writeln!(text, "static void (*const shapes[])(int) = {{ {} }};", names.join(",")).unwrap();
    writeln!(text, "extern \"C\" long kept(int shape, const long *whole, const double *real) {{").unwrap();
    text += &each("long ", 10, &|at| format!("w{at} = whole[{at}]; asm volatile(\"\" : \"+r\"(w{at}));\n"));
    text += &each("double ", 8, &|at| format!("r{at} = real[{at}]; asm volatile(\"\" : \"+w\"(r{at}));\n"));
    text += "try { shapes[shape](shape); return -1; } catch (int n) { if (n != shape) return -2; }\nreturn 0";
    text += &each(" + ", 10, &|at| format!("w{at} * {}", at + 1));
    text += &each(" + (long)", 8, &|at| format!("(r{at} * {})", 100 * (at + 1)));
    text += ";\n}\n";
    (text, sets.len() as i32)
}

#[test]
fn exceptions_bring_back_every_register() {
    let Some((rt, shop, _turn)) = support::start_macho("apple-registers") else { return };
    let (source, shapes) = thrower();
    let whole: [i64; 10] = std::array::from_fn(|at| 1_000_003 * (at as i64 + 7));
    let real: [f64; 8] = std::array::from_fn(|at| 0.5 + at as f64);
    let expected = whole.iter().zip(1..).map(|(value, factor)| value * factor).sum::<i64>()
        + real.iter().zip(1..).map(|(value, factor)| (value * f64::from(100 * factor)) as i64).sum::<i64>();
    let check = |files: Source| {
        load(rt, files.needs("libstdc++.so.6"));
        for shape in 0..shapes {
            // SAFETY: as many as each shape reads.
            let kept = unsafe { keeper::kept(&rt.frame(), shape, whole.as_ptr(), real.as_ptr()) };
            assert_eq!(kept, expected, "{shape}");
        }
    };
    // As compact encodings, by lld and by us; and as DWARF, which signed return addresses need.
    check(Source::from(shop.macho("keeper", 1, &source, &["-x", "c++"])));
    check(Source::linked("keeper", [shop.macho_object("keeper.cpp", &source, &[])]));
    let signed = ["-mbranch-protection=pac-ret"];
    check(Source::linked("keeper", [shop.macho_object("signed.cpp", &source, &signed)]));
    rt.unload("keeper").unwrap();
}

#[test]
fn the_c_library_under_apples_names() {
    let Some((rt, shop, _turn)) = support::start_macho("apple-library") else { return };
    // As Apple's headers declare these.
    let source = r#"
        typedef int jmp_buf[48];
        __attribute__((returns_twice)) int setjmp(jmp_buf);
        __attribute__((noreturn)) void longjmp(jmp_buf, int);
        double sin(double), cos(double);
        long double strtold(const char *, char **);
        int *__error(void);
        int open(const char *, int, ...);
        int vsnprintf(char *, unsigned long, const char *, __builtin_va_list);
        extern struct { char magic[8], encoding[32]; void *functions[2]; int invalid; unsigned types[256]; } _DefaultRuneLocale;

        static jmp_buf place;
        __attribute__((noinline)) static void leave(int value) { longjmp(place, value); }
        int jumps(int value) {
            volatile int before = 5;
            int found = setjmp(place);
            if (found == 0) { before++; leave(value); }
            return found * 10 + before;
        }
        double sines(double angle) { return sin(angle) * 1000 + cos(angle); }
        int pattern(int *to, int count) { for (int i = 0; i < count; i++) to[i] = 0x12345678; return count; }
        int classes(int c) { return _DefaultRuneLocale.types[c] & 0x500; }
        double number(const char *text) { return strtold(text, 0); }
        int failed(const char *path) { return open(path, 0x200 | 0x800 | 1, 0600) < 0 ? *__error() : 0; }
        static int list(char *into, unsigned long size, const char *format, ...) {
            __builtin_va_list arguments;
            __builtin_va_start(arguments, format);
            int length = vsnprintf(into, size, format, arguments);
            __builtin_va_end(arguments);
            return length;
        }
        int listed(char *into, unsigned long size, int n) { return list(into, size, "%d %s %.1f %hd", n, "of", 2.5, (short)-n); }
    "#;
    let dylib: PathBuf = shop.macho("library", 1, source, &[]);
    let object = shop.macho_object("library.c", source, &[]);
    for files in [Source::from(dylib), Source::linked("library", [object])] {
        load(rt, files);
        let frame = rt.frame();
        assert_eq!([3, -2, 0].map(|value| library::jumps(&frame, value)), [36, -14, 16]);
        assert_eq!(library::sines(&frame, 0.7), 0.7f64.sin() * 1000.0 + 0.7f64.cos());
        let mut bytes = [0; 33];
        // SAFETY: there are 32.
        assert_eq!(unsafe { library::pattern(&frame, bytes.as_mut_ptr(), 32) }, 32);
        assert_eq!((bytes[0], bytes[31], bytes[32]), (0x1234_5678, 0x1234_5678, 0));
        assert_eq!([b'a', b'5', b' '].map(|byte| library::classes(&frame, byte.into())), [0x100, 0x400, 0]);
        // SAFETY: it ends in 0.
        assert_eq!(unsafe { library::number(&frame, c"2.5e3".as_ptr().cast()) }, 2500.0);
        // It is there already.
        // SAFETY: it ends in 0.
        assert_eq!(unsafe { library::failed(&frame, c"/dev/null".as_ptr().cast()) }, 17);
        let mut text = [0; 40];
        // SAFETY: the text is that long.
        let length = unsafe { library::listed(&frame, text.as_mut_ptr(), text.len(), 12) };
        assert_eq!(&text[..length as usize], b"12 of 2.5 -12");
    }
    rt.unload("library").unwrap();
}
