//! The C API against what it stands on: calls from C through a trampoline and through a function
//! pointer, frames and reloads from C and from Rust, in one process and one runtime.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

// Its functions are called from C.
use midflight_c as _;

use midflight::Runtime;

use crate::Result;
use crate::calls::dlopen;
use crate::loaded::load;
use crate::modules;
use crate::worker::Samples;

type Call = extern "C" fn(u64) -> u64;

// c/engine.c.
unsafe extern "C" {
    fn engine_calls_0(pointer: *const Call, calls: u64) -> f64;
    fn engine_calls_1(pointer: *const Call, calls: u64) -> f64;
    fn engine_calls_2(pointer: *const Call, calls: u64) -> f64;
    fn engine_calls_3(pointer: *const Call, calls: u64) -> f64;
    fn engine_frames(frames: u64) -> f64;
    fn engine_start() -> c_int;
    fn engine_address(module: *const c_char, symbol: *const c_char, address: *mut *mut c_void) -> c_int;
    fn engine_reload(path: *const c_char) -> f64;
    fn engine_error() -> *const c_char;
}

const PLACES: [unsafe extern "C" fn(*const Call, u64) -> f64; 4] =
    [engine_calls_0, engine_calls_1, engine_calls_2, engine_calls_3];

/// Reloads in a row: each finds the caches as it left them itself.
const BLOCK: usize = 8;

/// What the C API says of a failure; it returns a negative code then, or a negative time.
fn checked<T: PartialOrd + Default>(result: T) -> Result<T> {
    if result >= T::default() {
        return Ok(result);
    }
    // SAFETY: a string that stays until the next failure.
    Err(unsafe { CStr::from_ptr(engine_error()) }.to_string_lossy().into())
}

/// So many rounds.
pub(crate) fn measure(folder: &Path, rounds: usize) -> Result<Samples> {
    let files = [1, 2].map(|version| modules::version_file(folder, version));
    let paths =
        files.each_ref().map(|file| CString::new(file.as_os_str().as_bytes()).expect("a path has no zeros"));
    // SAFETY: it takes nothing.
    checked(unsafe { engine_start() })?;
    let rt = Runtime::start()?;
    let mut samples = Samples::new();
    let mut note = |name: String, sample: f64| samples.entry(name).or_default().push(sample);
    for round in 0..rounds {
        for from_c in [round % 2 == 0, round % 2 != 0] {
            for number in 0..BLOCK {
                let version = number % 2;
                let (name, time) = match from_c {
                    // SAFETY: a path.
                    true => ("reload C", checked(unsafe { engine_reload(paths[version].as_ptr()) })?),
                    false => {
                        let begin = Instant::now();
                        load(rt, &files[version])?;
                        ("reload Rust", begin.elapsed().as_secs_f64() * 1e6)
                    }
                };
                note(name.into(), time);
            }
        }
    }
    let pointer = dlopen(&files[0])?;
    load(rt, &files[0])?;
    let mut trampoline = std::ptr::null_mut();
    // SAFETY: two strings, and room for an address.
    checked(unsafe { engine_address(c"measured".as_ptr(), c"call".as_ptr(), &raw mut trampoline) })?;
    // SAFETY: `call` is of this type.
    let trampoline = unsafe { std::mem::transmute::<*mut c_void, Call>(trampoline) };
    for round in 0..rounds {
        let place = round % PLACES.len();
        let mut peers = [("pointer", &pointer), ("trampoline", &trampoline)];
        peers.rotate_left(round % 2);
        for (name, call) in peers {
            // SAFETY: a pointer to a function that adds 1.
            note(format!("{name} {place}"), checked(unsafe { PLACES[place](call, 25_600) })?);
        }
        // SAFETY: it takes a number.
        note("frame C 0".into(), checked(unsafe { engine_frames(12_800) })?);
        let begin = Instant::now();
        for _ in 0..12_800 {
            drop(std::hint::black_box(rt.frame()));
        }
        note("frame Rust 0".into(), begin.elapsed().as_secs_f64() * 1e9 / 12_800.0);
    }
    Ok(samples)
}
