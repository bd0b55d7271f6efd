//! The memory of thread-local variables: a version's template, a thread's blocks and the table that
//! compiled code finds them by.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use midflight_image::ThreadLocals;

use super::places::Id;
use crate::platform::os::thread_local;

/// What a new block holds, and how it lies.
#[derive(Clone, Copy)]
pub(super) struct Template {
    /// The initialised part. 0 until the version has its place.
    start: usize,
    initialised: usize,
    /// What is allocated: `skew` unused bytes, then the block.
    layout: Layout,
    skew: usize,
}

impl Template {
    /// None if there cannot be such a block.
    pub(super) fn new(of: &ThreadLocals) -> Option<Self> {
        // An offset has 32 bits in a descriptor's argument, one of them its sign.
        let size = usize::try_from(of.size).ok().filter(|size| *size <= i32::MAX as usize)?;
        let (align, skew) = (usize::try_from(of.align).ok()?, usize::try_from(of.skew).ok()?);
        let initialised = usize::try_from(of.initialised).ok().filter(|initialised| *initialised <= size)?;
        let layout = Layout::from_size_align(skew.checked_add(size)?.max(1), align).ok()?;
        Some(Self { start: 0, initialised, layout, skew })
    }

    pub(super) fn settle(&mut self, start: usize) {
        self.start = start;
    }
}

/// One thread's thread-local variables of one version.
pub(super) struct Block {
    memory: NonNull<u8>,
    template: Template,
}

// SAFETY: it owns its memory. Who uses that is the version's code: the thread's, and the retiring
// thread's after it.
unsafe impl Send for Block {}

impl Block {
    /// # Safety
    ///
    /// The template's version is in its place.
    pub(super) unsafe fn new(template: Template) -> Self {
        // SAFETY: the layout is of at least one byte.
        let memory = unsafe { alloc_zeroed(template.layout) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(template.layout) };
        let block = Self { memory, template };
        let from = template.start as *const u8;
        // SAFETY: the image says that the initialised part is there, and it is not longer than the
        // block.
        unsafe {
            block
                .address()
                .copy_from_nonoverlapping(NonNull::new_unchecked(from.cast_mut()), template.initialised)
        };
        block
    }

    pub(super) fn address(&self) -> NonNull<u8> {
        // SAFETY: the layout has `skew` bytes before the block.
        unsafe { self.memory.add(self.template.skew) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: from `alloc_zeroed` with this layout; who drops a block says that its thread is
        // out of the version.
        unsafe { dealloc(self.memory.as_ptr(), self.template.layout) };
    }
}

/// A table of no entries: every thread's first.
pub(crate) static EMPTY: AtomicUsize = AtomicUsize::new(0);

/// A thread's blocks.
#[derive(Default)]
pub(super) struct Blocks {
    /// What asm/*/thread_local.s reads: the number of entries behind the first word, then by id the
    /// block's address or 0.
    table: Box<[AtomicUsize]>,
    blocks: BTreeMap<Id, Block>,
}

// Entries are stored Relaxed: a thread reads what it wrote itself, or an entry that a retirement
// made 0 before the id was given again; between that and the first instruction of the new version
// on this thread lies the barrier that publishes its code.
impl Blocks {
    pub(super) fn get(&self, id: Id) -> Option<NonNull<u8>> {
        self.blocks.get(&id).map(Block::address)
    }

    /// Puts a block, or none, where the calling thread, whose blocks these are, finds it. Returns
    /// what was there.
    pub(super) fn replace(&mut self, id: Id, block: Option<Block>) -> Option<Block> {
        let before = self.take(id);
        if let Some(block) = block {
            let entry = id.0 as usize + 1;
            if entry >= self.table.len() {
                self.grow(entry);
            }
            self.table[entry].store(block.address().as_ptr() as usize, Ordering::Relaxed);
            self.blocks.insert(id, block);
        }
        before
    }

    /// Takes a block out, on whatever thread: the owner is not inside the version.
    pub(super) fn take(&mut self, id: Id) -> Option<Block> {
        let block = self.blocks.remove(&id)?;
        self.table[id.0 as usize + 1].store(0, Ordering::Relaxed);
        Some(block)
    }

    fn grow(&mut self, entry: usize) {
        let entries = (entry + 1).next_power_of_two().max(16) - 1;
        let mut table: Vec<AtomicUsize> = Vec::with_capacity(entries + 1);
        table.push(AtomicUsize::new(entries));
        table.extend(self.table.iter().skip(1).map(|entry| AtomicUsize::new(entry.load(Ordering::Relaxed))));
        table.resize_with(entries + 1, AtomicUsize::default);
        let before = std::mem::replace(&mut self.table, table.into());
        // SAFETY: a whole table, which stays until the next or until `abandon`.
        unsafe { thread_local::set_blocks(self.table.as_ptr()) };
        drop(before);
    }

    /// Has the calling thread, whose blocks these are, find none any more.
    pub(super) fn abandon(&self) {
        // SAFETY: a static.
        unsafe { thread_local::set_blocks(&raw const EMPTY) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(of: ThreadLocals, bytes: &[u8]) -> Template {
        let mut template = Template::new(&of).unwrap();
        template.settle(bytes.as_ptr() as usize);
        template
    }

    #[test]
    fn a_block_has_the_initial_contents_at_the_right_place() {
        for (align, skew) in [(1, 0), (16, 8), (4096, 0), (4096, 40), (1 << 20, 64)] {
            let of = ThreadLocals { offset: 0, initialised: 3, size: 100, align, skew };
            // SAFETY: the template's bytes are there.
            let block = unsafe { Block::new(template(of, b"abc")) };
            assert_eq!(block.address().addr().get() as u64 % align, skew % align);
            // SAFETY: the block has 100 bytes.
            let bytes = unsafe { std::slice::from_raw_parts(block.address().as_ptr(), 100) };
            assert!(bytes.starts_with(b"abc") && bytes[3..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let of = ThreadLocals { offset: 0, initialised: 0, size: 0, align: 1, skew: 0 };
        assert!(Template::new(&of).is_some());
        for bad in [
            ThreadLocals { size: 1 << 31, ..of },
            ThreadLocals { size: u64::MAX, ..of },
            ThreadLocals { align: 0, ..of },
            ThreadLocals { align: 3, ..of },
            ThreadLocals { align: 1 << 63, ..of },
            ThreadLocals { skew: u64::MAX, ..of },
            ThreadLocals { initialised: 1, ..of },
        ] {
            assert!(Template::new(&bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_table_grows_and_is_found_and_left() {
        let of = ThreadLocals { offset: 0, initialised: 0, size: 8, align: 8, skew: 0 };
        let mut blocks = Blocks::default();
        for id in [0, 14, 15, 500, 499] {
            // SAFETY: nothing is initialised.
            let block = unsafe { Block::new(template(of, &[])) };
            let address = block.address();
            assert!(blocks.replace(Id(id), Some(block)).is_none());
            assert_eq!(blocks.get(Id(id)), Some(address));
            assert_eq!(blocks.table[id as usize + 1].load(Ordering::Relaxed), address.addr().get());
        }
        assert_eq!(blocks.table[0].load(Ordering::Relaxed), blocks.table.len() - 1);
        assert!(blocks.table.len() > 501);
        assert!(
            blocks.take(Id(15)).is_some() && blocks.take(Id(15)).is_none() && blocks.take(Id(9999)).is_none()
        );
        assert_eq!(blocks.table[16].load(Ordering::Relaxed), 0);
        assert_eq!(blocks.table.iter().skip(1).filter(|entry| entry.load(Ordering::Relaxed) != 0).count(), 4);
        blocks.abandon();
    }
}
