//! What a module says of itself, for the fuzz target. No part of the interface.

use alloc::vec::Vec;

use crate::elf::note::{Declared, DeclaredState};

/// What notes say of the module itself.
#[derive(Debug)]
pub struct Said<'data> {
    /// Types 1 and 2.
    pub name: Option<&'data str>,
    /// Type 2.
    pub version: Option<&'data str>,
    /// Types 3 and 16.
    pub needs: Vec<&'data str>,
    /// Type 16.
    pub ranges: Vec<(&'data str, &'data str)>,
    /// Type 17.
    pub exclusive: Vec<&'data str>,
    /// Type 4.
    pub states: Vec<DeclaredState<'data>>,
}

/// Reads the notes of a section; None if they are refused.
pub fn notes(notes: &[u8], align: u64) -> Option<Said<'_>> {
    let mut declared = Declared::default();
    declared.read(notes, align).ok()?;
    let Declared { name, version, needs, ranges, exclusive, states, build_id: _ } = declared;
    Some(Said { name, version, needs, ranges, exclusive, states })
}
