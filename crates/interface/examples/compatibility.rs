//! How two versions of a module differ: `compatibility OLD NEW [LIMIT]`, shared objects, object
//! files or archives of this machine's instruction set. Prints how long reading and comparing took,
//! and the report.

use std::error::Error;
use std::time::Instant;

use midflight_image::{Input, Machine};
use midflight_interface::Interface;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (paths, limit) = match &arguments[..] {
        [old, new] => ([old, new], 20),
        [old, new, limit] => ([old, new], limit.parse()?),
        _ => return Err("usage: compatibility OLD NEW [LIMIT]".into()),
    };
    let machine = Machine::HOST.ok_or("this machine's instruction set is not one of midflight's")?;
    let mut versions = Vec::new();
    for path in paths {
        let bytes = std::fs::read(path)?;
        let start = Instant::now();
        let interface = Interface::read(&[Input { name: path, bytes: &bytes }], machine)?;
        println!(
            "read {path}: {} kB in {:.1} ms, kept in {} kB",
            bytes.len() / 1000,
            start.elapsed().as_secs_f64() * 1e3,
            interface.memory() / 1000
        );
        versions.push(interface);
    }
    let start = Instant::now();
    let report = versions[0].compare(&versions[1], limit);
    println!("compared in {:.1} ms, {} differences", start.elapsed().as_secs_f64() * 1e3, report.count);
    println!("{report}");
    Ok(())
}
