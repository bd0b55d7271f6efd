//! The memory of a declared state.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use midflight_interface::{TypeId, Variables};
use midflight_migrate::{Plan, State, WrongSize};
use parking_lot::Mutex;

use crate::platform::os::memory;

/// The memory of one state in one layout: zeroed pages of their own, which are there as long as a
/// version has them.
///
/// A version refers to its states by addresses that were written into it when it was linked. So a
/// version of the same layout that has the same storage has the same state, without a copy.
pub(crate) struct Storage {
    name: Box<str>,
    schema: u32,
    size: usize,
    /// By debug information, if there was some.
    layout: Option<Layout>,
    at: NonNull<u8>,
    mapped: usize,
}

// SAFETY: it owns a mapping, which belongs to no thread. What is in it is the module's: who reads
// and writes there vouches for the module.
unsafe impl Send for Storage {}
// SAFETY: as above; a shared reference gives its address and what it was made with.
unsafe impl Sync for Storage {}

impl Storage {
    /// Zeroed memory, aligned to a page. `size` may be 0.
    pub(crate) fn new(
        module: &str,
        name: &str,
        schema: u32,
        size: usize,
        layout: Option<Layout>,
    ) -> io::Result<Self> {
        let mapped = size.max(1).checked_next_multiple_of(memory::page_size());
        let mapped = mapped.ok_or(io::ErrorKind::OutOfMemory)?;
        let at = memory::map_anywhere(mapped)?;
        memory::name(at, mapped, &format!("midflight: state {name} of {module}"));
        Ok(Self { name: name.into(), schema, size, layout, at, mapped })
    }

    /// The variable's symbol.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The number that the module counts its layouts with.
    pub(crate) fn schema(&self) -> u32 {
        self.schema
    }

    /// Bytes of the variable.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn layout(&self) -> Option<&Layout> {
        self.layout.as_ref()
    }

    pub(crate) fn at(&self) -> NonNull<u8> {
        self.at
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // SAFETY: as it was mapped, and the versions that have its address are gone, or were never
        // made.
        let freed = unsafe { memory::unreserve(self.at, self.mapped) };
        debug_assert!(freed.is_ok(), "{freed:?}");
    }
}

/// How a state is laid out.
#[derive(Clone)]
pub(crate) struct Layout {
    pub(crate) variables: Arc<Variables>,
    pub(crate) of: TypeId,
}

impl Layout {
    /// As plans are made of it.
    pub(crate) fn state(&self) -> State<'_> {
        State { layouts: &self.variables.layouts, root: self.of }
    }
}

/// A state as a version has it.
pub(crate) struct Held {
    pub(crate) storage: Arc<Storage>,
    /// The storage was made for this version, whose declaration has its first value.
    pub(crate) is_new: bool,
    /// What it is to be made of before the version is published.
    pub(crate) migration: Mutex<Option<Migration>>,
}

/// How a state becomes that of a version that has it in another layout.
pub(crate) struct Migration {
    /// Where the older version goes on to have it, should it come back.
    pub(crate) from: Arc<Storage>,
    pub(crate) how: How,
}

pub(crate) enum How {
    /// By both layouts.
    Plan(Plan),
    /// The module does it itself.
    Hook,
}

impl Migration {
    /// Carries values over as planned. What is new keeps its first value.
    ///
    /// # Safety
    ///
    /// Nobody writes to the older storage, and nobody else has the newer.
    pub(crate) unsafe fn run(plan: &Plan, from: &Storage, to: &Storage) -> Result<(), WrongSize> {
        // SAFETY: each is as large and its own memory; the caller says that nobody changes them.
        let (old, new) = unsafe {
            (
                std::slice::from_raw_parts(from.at.as_ptr(), from.size),
                std::slice::from_raw_parts_mut(to.at.as_ptr(), to.size),
            )
        };
        plan.apply_onto(old, new)
    }
}
