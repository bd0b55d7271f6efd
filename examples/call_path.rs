//! What a call of a module's function compiles to: scripts/call-budget reads the two functions
//! below from the release build, and this program shows that they do the same.

use std::hint::black_box;

use midflight::{Frame, Runtime};

midflight::module! {
    unsafe mod absent { safe fn step(x: u64) -> u64; }
}

/// A call through a frame.
#[inline(never)]
#[unsafe(no_mangle)]
pub fn call_path_pinned(frame: &Frame, x: u64) -> u64 {
    // Not in tail position: a caller has something left to do.
    absent::step(frame, x) + 1
}

/// The same through a function pointer in memory: what it is measured against.
#[inline(never)]
#[unsafe(no_mangle)]
pub fn call_path_pointer(function: &fn(u64) -> u64, x: u64) -> u64 {
    function(x) + 1
}

fn main() {
    let function: fn(u64) -> u64 = |x| x;
    assert_eq!(call_path_pointer(black_box(&function), 1), 2);
    let rt = Runtime::start().expect("this system can run modules");
    if black_box(std::env::args().len()) > 1 {
        // No such module is loaded, so this ends the process with its name.
        call_path_pinned(&rt.frame(), 1);
    }
}
