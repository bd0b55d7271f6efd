//! What an image is made from, whatever the format of its files.

use alloc::vec::Vec;

use crate::debug::{DebugInfo, Symbols};
use crate::elf::note::{Declared, Properties};
use crate::elf::shared::ExportTables;
use crate::pages::Memory;
use crate::{Binding, Error, Export, Host, Import, Indirect, ThreadLocals, Unwind, Verbatim, Window};

/// Where an image is linked to.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    /// The image's address.
    pub(crate) base: u64,
    pub(crate) host: &'a Host,
    /// What the imports stand for, in their order; only weak ones are missing.
    pub(crate) bindings: &'a [Option<Binding>],
}

/// A kind of file that an image is made from. The methods are those of [`Image`](crate::Image),
/// which checks what they are given.
pub(crate) trait Source<'data> {
    fn soname(&self) -> Option<&'data str> {
        None
    }
    fn needed(&self) -> &[&'data str] {
        &[]
    }
    /// Of `needed`, by their numbers from 1; ascending.
    fn optional(&self) -> &[usize] {
        &[]
    }
    fn runpath(&self) -> Option<&str> {
        None
    }
    fn is_runpath_inherited(&self) -> bool {
        false
    }
    fn declared(&self) -> &Declared<'data>;
    fn properties(&self) -> Properties {
        Properties::default()
    }
    fn memory(&self) -> &Memory;
    fn verbatim(&self) -> &[Verbatim<'data>] {
        &[]
    }
    fn imports(&self) -> &[Import<'data>];
    fn exports(&self) -> Vec<Export<'_>>;
    fn export(&self, name: &str) -> Option<Export<'_>>;
    fn versions(&self) -> Vec<(Export<'_>, &str)> {
        Vec::new()
    }
    fn defines_versions(&self) -> bool {
        false
    }
    fn export_tables(&self) -> Option<ExportTables> {
        None
    }
    fn thread_locals(&self) -> Option<ThreadLocals> {
        None
    }
    fn unwind(&self) -> Option<Unwind> {
        None
    }
    fn indirect(&self) -> &[Indirect] {
        &[]
    }
    fn chooses(&self) -> bool {
        !self.indirect().is_empty()
    }
    fn bias(&self, _base: u64) -> Option<u64> {
        None
    }
    fn symbols(&self) -> Symbols<'data> {
        Symbols::default()
    }
    fn debug(&self, _base: u64) -> DebugInfo<'data> {
        DebugInfo::default()
    }
    fn window(&self, _bindings: &[Option<Binding>]) -> Result<Window, Error> {
        Ok(Window::ANYWHERE)
    }
    /// All but the verbatim parts.
    fn link(&self, memory: &mut [u8], site: Site<'_>) -> Result<(), Error>;
    fn init(&self, base: u64, memory: &[u8]) -> Result<Vec<u64>, Error>;
    fn fini(&self, base: u64, memory: &[u8]) -> Result<Vec<u64>, Error>;
}

/// Which format a module's files are in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Format {
    /// ELF, as on Linux.
    Elf,
    /// Mach-O, as on macOS.
    MachO,
}

/// A file of a module, or of a part of it.
#[derive(Clone, Copy, Debug)]
pub struct Input<'data> {
    /// What messages call it.
    pub name: &'data str,
    /// Its bytes.
    pub bytes: &'data [u8],
}
