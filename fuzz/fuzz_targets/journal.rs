//! Any bytes, as each value that a journal reads back: records, open transactions, the witness
//! (also with a digest that fits, and then replayed), names of modules' files. The first byte says
//! which. Fails on a panic, on a value that would be written in another way than it was read, and
//! on a record that is refused and has changed something nevertheless.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| midflight_journal::fuzzing::round_trip(bytes));
