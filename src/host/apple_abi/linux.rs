//! The functions and variables that are there under Apple's names.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::{addr_of, null};

use super::{ctype, files};

crate::platform::assemble::assemble!(
    "apple_abi",
    open = files::open,
    openat = files::openat,
    fcntl = files::fcntl
);

/// Functions, each with the names that it has for modules. Only their addresses are taken.
macro_rules! functions {
    ($find:ident, $($function:ident: $($name:literal)*;)*) => {
        unsafe extern "C" {
            $(fn $function();)*
        }
        fn $find(name: &str) -> Option<u64> {
            let function = match name {
                $($($name)|* => $function as *const (),)*
                _ => return None,
            };
            Some(function as u64)
        }
    };
}

// In assembly.
functions! {
    thunk,
    midflight_apple_printf: "printf";
    midflight_apple_vprintf: "vprintf";
    midflight_apple_fprintf: "fprintf";
    midflight_apple_vfprintf: "vfprintf";
    midflight_apple_dprintf: "dprintf";
    midflight_apple_vdprintf: "vdprintf";
    midflight_apple_sprintf: "sprintf";
    midflight_apple_vsprintf: "vsprintf";
    midflight_apple_snprintf: "snprintf";
    midflight_apple_vsnprintf: "vsnprintf";
    midflight_apple_asprintf: "asprintf";
    midflight_apple_vasprintf: "vasprintf";
    midflight_apple___sprintf_chk: "__sprintf_chk";
    midflight_apple___vsprintf_chk: "__vsprintf_chk";
    midflight_apple___snprintf_chk: "__snprintf_chk";
    midflight_apple___vsnprintf_chk: "__vsnprintf_chk";
    midflight_apple_wprintf: "wprintf";
    midflight_apple_vwprintf: "vwprintf";
    midflight_apple_fwprintf: "fwprintf";
    midflight_apple_vfwprintf: "vfwprintf";
    midflight_apple_swprintf: "swprintf";
    midflight_apple_vswprintf: "vswprintf";
    midflight_apple_scanf: "scanf";
    midflight_apple_vscanf: "vscanf";
    midflight_apple_fscanf: "fscanf";
    midflight_apple_vfscanf: "vfscanf";
    midflight_apple_sscanf: "sscanf";
    midflight_apple_vsscanf: "vsscanf";
    midflight_apple_wscanf: "wscanf";
    midflight_apple_vwscanf: "vwscanf";
    midflight_apple_fwscanf: "fwscanf";
    midflight_apple_vfwscanf: "vfwscanf";
    midflight_apple_swscanf: "swscanf";
    midflight_apple_vswscanf: "vswscanf";
    midflight_apple_syslog: "syslog";
    midflight_apple_vsyslog: "vsyslog";
    midflight_apple_warn: "warn";
    midflight_apple_vwarn: "vwarn";
    midflight_apple_warnx: "warnx";
    midflight_apple_vwarnx: "vwarnx";
    midflight_apple_err: "err";
    midflight_apple_verr: "verr";
    midflight_apple_errx: "errx";
    midflight_apple_verrx: "verrx";
    midflight_apple_open: "open";
    midflight_apple_openat: "openat";
    midflight_apple_fcntl: "fcntl";
    midflight_apple_setjmp: "setjmp" "_setjmp";
    midflight_apple_longjmp: "longjmp" "_longjmp";
    midflight_apple_chkstk: "__chkstk_darwin";
}

// Those that the C library has under another name.
//
// Apple's `long double` is a `double`. (That these are taken from the mathematical library also
// means that every host has it in the process, as Apple's programs have it in libSystem.)
functions! {
    same,
    acos: "acosl"; acosh: "acoshl"; asin: "asinl"; asinh: "asinhl"; atan: "atanl"; atan2: "atan2l";
    atanh: "atanhl"; cbrt: "cbrtl"; ceil: "ceill"; copysign: "copysignl"; cos: "cosl"; cosh: "coshl";
    erf: "erfl"; erfc: "erfcl"; exp: "expl"; exp2: "exp2l"; expm1: "expm1l"; fabs: "fabsl";
    fdim: "fdiml"; floor: "floorl"; fma: "fmal"; fmax: "fmaxl"; fmin: "fminl"; fmod: "fmodl";
    frexp: "frexpl"; hypot: "hypotl"; ilogb: "ilogbl"; ldexp: "ldexpl"; lgamma: "lgammal";
    llrint: "llrintl"; llround: "llroundl"; log: "logl"; log10: "log10l"; log1p: "log1pl"; log2: "log2l";
    logb: "logbl"; lrint: "lrintl"; lround: "lroundl"; modf: "modfl"; nan: "nanl";
    nearbyint: "nearbyintl"; nextafter: "nextafterl" "nexttoward" "nexttowardl"; pow: "powl";
    remainder: "remainderl"; remquo: "remquol"; rint: "rintl"; round: "roundl"; scalbln: "scalblnl";
    scalbn: "scalbnl"; sin: "sinl"; sinh: "sinhl"; sqrt: "sqrtl"; tan: "tanl"; tanh: "tanhl";
    tgamma: "tgammal"; trunc: "truncl";
    strtod: "strtold"; wcstod: "wcstold";
    exp10: "__exp10"; exp10f: "__exp10f";
    __errno_location: "__error";
    __xpg_strerror_r: "strerror_r"; __xpg_basename: "basename"; malloc_usable_size: "malloc_size";
    tolower: "__tolower"; toupper: "__toupper";
}

unsafe extern "C" {
    // The C library's variables of these names: `FILE *`.
    static stdin: *mut c_void;
    static stdout: *mut c_void;
    static stderr: *mut c_void;
    fn sincos(angle: f64, sine: *mut f64, cosine: *mut f64);
    fn sincosf(angle: f32, sine: *mut f32, cosine: *mut f32);
    fn __assert_fail(
        expression: *const c_char,
        file: *const c_char,
        line: c_int,
        function: *const c_char,
    ) -> !;
}

/// The address of what a Mach-O module means by a name.
pub(super) fn find(name: &str) -> Option<u64> {
    let address: *const () = match name {
        "__stdinp" => addr_of!(stdin).cast(),
        "__stdoutp" => addr_of!(stdout).cast(),
        "__stderrp" => addr_of!(stderr).cast(),
        "_DefaultRuneLocale" => addr_of!(ctype::RUNES).cast(),
        "__maskrune" => ctype::maskrune as *const (),
        "setlocale" => files::setlocale as *const (),
        "lseek" => files::lseek as *const (),
        "getwd" => files::getwd as *const (),
        "realpath" | "realpath$DARWIN_EXTSN" => files::realpath as *const (),
        "setbuf" => files::setbuf as *const (),
        "memset_pattern4" => memset_pattern::<4> as *const (),
        "memset_pattern8" => memset_pattern::<8> as *const (),
        "memset_pattern16" => memset_pattern::<16> as *const (),
        "__sincos_stret" => sincos_stret as *const (),
        "__sincosf_stret" => sincosf_stret as *const (),
        "__assert_rtn" => assert_rtn as *const (),
        _ => return thunk(name).or_else(|| same(name)),
    };
    Some(address as u64)
}

/// `memset_pattern4`, `8` and `16` of Apple's <string.h>: clang calls them for loops. Copies `N`
/// bytes over and over until `length` are filled.
///
/// # Safety
///
/// `length` bytes that may be written, `N` that may be read, apart from each other.
unsafe extern "C" fn memset_pattern<const N: usize>(to: *mut c_void, pattern: *const c_void, length: usize) {
    // SAFETY: the caller promises that so many bytes of the pattern can be read.
    let pattern = unsafe { pattern.cast::<[u8; N]>().read_unaligned() };
    let mut at = 0;
    while at < length {
        let part = N.min(length - at);
        // SAFETY: `at + part` is at most `length`, and `part` at most `N`.
        unsafe { std::ptr::copy_nonoverlapping(pattern.as_ptr(), to.cast::<u8>().add(at), part) };
        at += part;
    }
}

/// In two floating-point registers, as both conventions return it.
#[repr(C)]
pub(super) struct Both<T> {
    pub(super) sine: T,
    pub(super) cosine: T,
}

/// `__sincos_stret` of Apple's <math.h>: clang makes it of calls to both.
extern "C" fn sincos_stret(angle: f64) -> Both<f64> {
    let mut both = Both { sine: 0.0, cosine: 0.0 };
    // SAFETY: writes both.
    unsafe { sincos(angle, &mut both.sine, &mut both.cosine) };
    both
}

/// The same for `float`.
extern "C" fn sincosf_stret(angle: f32) -> Both<f32> {
    let mut both = Both { sine: 0.0, cosine: 0.0 };
    // SAFETY: writes both.
    unsafe { sincosf(angle, &mut both.sine, &mut both.cosine) };
    both
}

/// `__assert_rtn` of Apple's <assert.h>: says what has failed, and aborts.
///
/// # Safety
///
/// C strings; the function's name may be null or -1.
unsafe extern "C" fn assert_rtn(
    function: *const c_char,
    file: *const c_char,
    line: c_int,
    expression: *const c_char,
) -> ! {
    let function = if function.addr() == usize::MAX { null() } else { function };
    // SAFETY: the caller passes C strings; null is "no function" there too.
    unsafe { __assert_fail(expression, file, line, function) }
}
