//! An immutable table of slot targets, and what stands behind it.

use alloc::vec::Vec;

use crate::primitive::AtomicUsize;

/// One state of the whole program's replaceable code. Never changed once it is published.
#[derive(Debug)]
pub struct Generation<P> {
    number: u64,
    /// The next generation has its number too: see [`crate::Dispatcher::prepare_stand_in`].
    pub(crate) stands_in: bool,
    /// Slot index to code address. Apart, so that a trampoline's table pointer has entry 0 at
    /// offset 0.
    table: Vec<usize>,
    /// Shares outstanding: frames handed to other threads. See [`crate::Share`].
    pub(crate) shares: AtomicUsize,
    payload: P,
}

impl<P> Generation<P> {
    pub(crate) fn new(number: u64, stands_in: bool, table: Vec<usize>, payload: P) -> Self {
        Self { number, stands_in, table, shares: AtomicUsize::new(0), payload }
    }

    /// Counts publications: each generation's number is one more than that of the one it replaced,
    /// unless that stood in for it.
    #[inline]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Code addresses by slot index.
    #[inline]
    pub fn table(&self) -> &[usize] {
        &self.table
    }

    /// What keeps the table's addresses valid: the versions behind it.
    #[inline]
    pub fn payload(&self) -> &P {
        &self.payload
    }

    /// Takes a collected generation apart: its table, to be written anew, and what stood behind it.
    pub fn into_parts(self) -> (Vec<usize>, P) {
        (self.table, self.payload)
    }
}
