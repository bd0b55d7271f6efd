//! Where in the source functions and types are declared.

use std::collections::HashMap;

/// A file's number in [`Places`], and the line in it; 0 and 0: not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Place {
    pub(crate) file: u32,
    pub(crate) line: u32,
}

/// Of a module's exports and types, each in the order of those.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// Without their folders. The first stands for none.
    pub(crate) files: Box<[Box<str>]>,
    pub(crate) exports: Box<[Place]>,
    pub(crate) types: Box<[Place]>,
}

impl Places {
    /// The file and the line.
    pub(crate) fn get(&self, of: &[Place], at: usize) -> Option<(&str, u32)> {
        let place = of.get(at).filter(|place| place.line != 0)?;
        Some((self.files.get(place.file as usize)?, place.line))
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        let names: usize = self.files.iter().map(|file| file.len() + size_of::<Box<str>>()).sum();
        names + size_of_val(&*self.exports) + size_of_val(&*self.types)
    }
}

/// Files that are named, each once, as they come.
pub(crate) struct Files<'n, 'd> {
    all: &'n [&'d [u8]],
    numbers: HashMap<u32, u32>,
    named: Vec<Box<str>>,
}

impl<'n, 'd> Files<'n, 'd> {
    pub(crate) fn new(all: &'n [&'d [u8]]) -> Self {
        Self { all, numbers: HashMap::from([(0, 0)]), named: vec!["".into()] }
    }

    /// The place of what is in the file that debug information gives this number.
    pub(crate) fn place(&mut self, file: u32, line: u32) -> Place {
        let next = self.named.len() as u32;
        let number = *self.numbers.entry(file).or_insert(next);
        if number == next {
            let name = self.all.get(file as usize).copied().unwrap_or_default();
            let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            self.named.push(String::from_utf8_lossy(name).into());
        }
        Place { file: number, line: if number == 0 { 0 } else { line } }
    }

    pub(crate) fn named(self) -> Box<[Box<str>]> {
        self.named.into()
    }
}
