//! Writes what fuzzing begins from, a file for each kind of value: seeds FOLDER

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args().nth(1).ok_or("seeds FOLDER")?);
    for (name, bytes) in midflight_journal::fuzzing::seeds() {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
