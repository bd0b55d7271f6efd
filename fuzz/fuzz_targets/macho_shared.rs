//! Any bytes, as a Mach-O dylib or bundle on systems of two page sizes: everything an image offers
//! is used. Fails on a panic (overflow checks are on), on memory out of bounds, and on an answer
//! that is out of range.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/image/tests/macho/walk.rs"]
mod walk;

fuzz_target!(|bytes: &[u8]| {
    for page_size in [4096, 16384] {
        walk::walk(bytes, page_size);
    }
});
