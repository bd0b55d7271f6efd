//! Compact unwind information: read as `llvm-objdump` reads it, and turned into the rules that
//! clang states for the same functions.
//!
//! The decoder is not part of the crate's interface, so its source is compiled here once more.

extern crate alloc;

use midflight_image::{Error, unwind};

#[path = "../../src/macho/unwind/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod compact;

mod forms;
mod frames;
mod hostile;
mod linked;
mod tools;

/// A repeatable sequence of numbers (Marsaglia, "Xorshift RNGs").
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
