//! Any bytes, as ELF object files and archives of either machine.
#![no_main]

use libfuzzer_sys::fuzz_target;
use midflight_image::Machine;

#[path = "../objects.rs"]
mod objects;

fuzz_target!(|bytes: &[u8]| objects::objects(bytes, &[Machine::X86_64, Machine::Aarch64]));
