//! The module's variables: what they are called, where they are, and what they are made by.

use std::collections::HashSet;

use gimli::constants;

use super::Raw;
use super::attributes::{Link, Location};
use super::build::Build;
use super::entries::is_aggregate;
use crate::types::{Id, PartKind};

/// A variable of the module.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Data {
    /// With namespaces and function.
    pub(crate) name: Box<str>,
    /// The source that it is private to.
    pub(crate) source: Option<Box<str>>,
    pub(crate) target: Id,
    /// It is declared as never changing.
    pub(crate) constant: bool,
    /// It is where nothing can be written.
    pub(crate) read_only: bool,
}

/// The same, with what another version does not have alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Placed {
    pub(crate) data: Data,
    pub(crate) place: Storage,
    /// Its class, or one that it has a part of, has a constructor or a destructor in its source.
    pub(crate) constructed: bool,
}

/// Where a variable is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Storage {
    /// In the numbering of the debug information.
    Address(u64),
    /// Each thread has its own. Of some it is not said (gcc, AArch64).
    Thread,
}

impl Storage {
    pub(super) fn of(location: Location) -> Self {
        match location {
            Location::Address(address) => Self::Address(address),
            Location::None | Location::Thread | Location::Elsewhere => Self::Thread,
        }
    }
}

/// Which types have constructors or destructors.
pub(super) struct Constructed {
    /// Types of which it is known that they have none, nor their parts.
    plain: HashSet<u32>,
    /// Entries that may be looked at yet. A module that asks for more has them by the answer.
    left: usize,
}

impl Constructed {
    pub(super) fn new(raw: &Raw<'_>) -> Self {
        Self { plain: HashSet::new(), left: raw.entries.len().saturating_mul(16) }
    }

    pub(super) fn is(&mut self, build: &Build<'_, '_>, of: Link) -> bool {
        let (mut seen, mut open) = (HashSet::new(), vec![of]);
        while let Some(link) = open.pop() {
            let Some(index) = build.reach(link).entry else { continue };
            if self.plain.contains(&index) || !seen.insert(index) {
                continue;
            }
            let entry = &build.raw.entries[index as usize];
            let Some(left) = self.left.checked_sub(1 + entry.parts.len()) else { return true };
            self.left = left;
            if build.raw.constructed.contains(&(index as usize)) {
                return true;
            }
            if entry.tag == constants::DW_TAG_array_type {
                open.push(entry.target);
            } else if is_aggregate(entry.tag) {
                let parts = entry.parts.iter();
                let held = parts.filter(|part| matches!(part.kind, PartKind::Member | PartKind::Base));
                open.extend(held.map(|part| part.target));
                if entry.declaration {
                    let definitions = build.definitions.get(&build.key(entry)).into_iter().flatten();
                    open.extend(definitions.map(|at| Link::At(build.raw.entries[*at as usize].offset)));
                }
            }
        }
        self.plain.extend(seen);
        false
    }
}
