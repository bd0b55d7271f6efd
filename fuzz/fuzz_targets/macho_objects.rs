//! Any bytes, as Mach-O object files and archives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use midflight_image::Machine;

#[path = "../objects.rs"]
mod objects;

fuzz_target!(|bytes: &[u8]| objects::objects(bytes, &[Machine::Aarch64]));
