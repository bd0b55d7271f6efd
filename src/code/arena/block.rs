//! A block: its place in an arena, its draft, and what it is once it is sealed.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use midflight_image::{Protection, Region, Verbatim};

use super::{Arena, Fit, IDLE_BYTES, Idle, Reservation, Retired};
use crate::code::backing::Span;
use crate::platform::arch;
use crate::platform::os::{barrier, memory};

pub(super) struct Allocation {
    pub(super) arena: Arc<Arena>,
    pub(super) offset: usize,
    pub(super) fit: Fit,
    /// Its pages are mapped: those of a retired block with the same regions.
    pub(super) warm: bool,
}

impl Allocation {
    fn address(&self) -> NonNull<u8> {
        // SAFETY: the offset is inside the arena's reservation.
        unsafe { self.arena.base.add(self.offset) }
    }

    pub(super) fn span(&self) -> Span {
        Span { at: self.address(), offset: self.offset, len: self.fit.len }
    }

    /// # Safety
    ///
    /// Nobody uses the pages any more, and they are sealed with these regions.
    unsafe fn retire(&self, regions: Box<[Region]>) {
        let Self { arena, offset, fit, .. } = self;
        // Without membarrier only an unmapping makes the cores of x86-64 serialise before they run
        // what comes next.
        let forgotten = barrier::is_asymmetric() || !cfg!(target_arch = "x86_64");
        // Where there is room further down it was made while frames held others back. The next one
        // goes there: in the end there are as many mappings as there were.
        let lowest = arena.first_fit(&arena.extents(), *fit).is_none_or(|(_, _, free)| free > *offset);
        let keep = fit.len <= IDLE_BYTES && !arena.is_shared() && forgotten && lowest;
        // SAFETY: the caller promises that nobody uses the pages, and that they are sealed with
        // these regions.
        let mapped = keep && unsafe { arena.pages.retire(self.span(), &regions) };
        // SAFETY: as above.
        if !mapped && !unsafe { self.vacate() } {
            return;
        }
        for Retired { idle, mapped } in
            arena.hold_back(Retired { idle: Idle { offset: *offset, fit: *fit, regions }, mapped })
        {
            if !mapped {
                arena.put_back(idle.offset, idle.fit.len);
                continue;
            }
            if let Some(Idle { offset, fit, .. }) = arena.keep_idle(idle) {
                let place = Allocation { arena: arena.clone(), offset, fit, warm: false };
                // SAFETY: idle, so in nobody's use, and off the list.
                unsafe { place.release() };
            }
        }
    }

    /// # Safety
    ///
    /// Nobody uses the pages any more.
    pub(super) unsafe fn release(&self) {
        // SAFETY: the caller promises that nobody uses the pages any more.
        if unsafe { self.vacate() } {
            self.arena.put_back(self.offset, self.fit.len);
        }
    }

    /// Makes the pages inaccessible. The kernel may refuse to split a mapping when the process has
    /// too many (ENOMEM): false. The pages then stay as they are and are never to be handed out
    /// again: memory is lost, and nothing else.
    ///
    /// # Safety
    ///
    /// Nobody uses the pages any more.
    unsafe fn vacate(&self) -> bool {
        // SAFETY: the caller promises that nobody uses the pages any more.
        unsafe { self.arena.pages.release(self.span(), self.arena.is_shared()) }.is_ok()
    }
}

/// Memory that is being written and cannot be executed yet.
pub(crate) struct Draft<'v> {
    /// None once sealed.
    pub(super) place: Option<Allocation>,
    /// Where it is written.
    pub(super) view: NonNull<u8>,
    pub(super) regions: Box<[Region]>,
    pub(super) verbatim: &'v [Verbatim<'v>],
}

// SAFETY: the view is the draft's alone, wherever the draft is.
unsafe impl Send for Draft<'_> {}

impl Draft<'_> {
    fn place(&self) -> &Allocation {
        self.place.as_ref().expect("a draft has its place until it is sealed")
    }

    /// Where byte 0 will be when sealed: the address to link for.
    pub(crate) fn base(&self) -> usize {
        self.place().address().addr().get()
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the view is writable for the place's length, initialised, and ours alone until
        // sealed.
        unsafe { std::slice::from_raw_parts_mut(self.view.as_ptr(), self.place().fit.len) }
    }

    /// Gives each region its final protection, and makes executable ones visible to instruction
    /// fetch. Other cores are synchronised by `barrier::synchronise_cores` before anybody is
    /// told the address.
    pub(crate) fn seal(mut self) -> io::Result<Sealed> {
        let place = self.place();
        // SAFETY: `self` was the only way to write, and it is consumed; the regions lie within the
        // image that the place was made for. On error Drop releases the pages.
        unsafe {
            let pages = &place.arena.pages;
            pages.seal(place.span(), self.view, &self.regions, self.verbatim, place.warm)?;
            // A retired block's pages are guarded if this one's are to be.
            if place.fit.guarded && !place.warm {
                for region in self.regions.iter().filter(|r| r.protection == Protection::ReadExecute) {
                    memory::guard(place.address().add(region.offset as usize), region.len as usize)?;
                }
            }
            place.arena.pages.close(place.span(), self.view);
        }
        let place = self.place.take().expect("sealed once");
        let block = Block { place, regions: std::mem::take(&mut self.regions), reusable: true, freed: false };
        block.place.arena.sealed(&block.regions);
        for region in block.regions.iter().filter(|r| r.protection == Protection::ReadExecute) {
            // SAFETY: just mapped readable and executable at this address.
            unsafe {
                let at = block.place.address().add(region.offset as usize);
                arch::cache::publish_code(at.as_ptr(), region.len as usize);
            }
        }
        Ok(Sealed(Some(block)))
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            // SAFETY: not sealed, so not closed yet. Nobody was told the address of a draft, and
            // `bytes` borrows from it, so nobody is left.
            unsafe {
                place.arena.pages.close(place.span(), self.view);
                place.release();
            }
        }
    }
}

/// A block that nobody else was told of: its pages go when it is dropped.
pub(crate) struct Sealed(Option<Block>);

impl Sealed {
    /// Others are told of it from now on.
    pub(crate) fn into_block(mut self) -> Block {
        self.0.take().expect("it is there until this or the drop")
    }
}

impl Deref for Sealed {
    type Target = Block;

    fn deref(&self) -> &Block {
        self.0.as_ref().expect("it is there until this is dropped")
    }
}

impl DerefMut for Sealed {
    fn deref_mut(&mut self) -> &mut Block {
        self.0.as_mut().expect("it is there until this is dropped")
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        // SAFETY: nobody else knows of it, and who drops this is not inside.
        self.0.take().into_iter().for_each(|block| unsafe { block.free() });
    }
}

/// Sealed memory. Its pages go by [`free`](Self::free) only: dropped, they stay as they are, since
/// somebody may be inside.
pub(crate) struct Block {
    place: Allocation,
    regions: Box<[Region]>,
    /// Its pages may be kept for the next block of this layout.
    reusable: bool,
    freed: bool,
}

impl Block {
    pub(crate) fn base(&self) -> usize {
        self.place.address().addr().get()
    }

    pub(crate) fn len(&self) -> usize {
        self.place.fit.len
    }

    pub(crate) fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Whose address space it is in.
    pub(crate) fn reservation(&self) -> Reservation {
        Reservation(Arc::downgrade(&self.place.arena))
    }

    /// Its pages are not for another block: their protections may be changed, or what was read-only
    /// be written to, by whoever has it. A page that was written is a private copy, which
    /// writing to the file does not reach.
    pub(crate) fn use_once(&mut self) {
        self.reusable = false;
    }

    fn region(&self, offset: u64) -> Option<&Region> {
        let after = self.regions.partition_point(|region| region.offset <= offset);
        self.regions.get(after.checked_sub(1)?).filter(|region| offset < region.offset + region.len)
    }

    /// What the page at an offset may be used for; None if it is inaccessible.
    pub(crate) fn protection(&self, offset: u64) -> Option<Protection> {
        self.region(offset).map(|region| region.protection)
    }

    /// What a part of the block holds that is not written to.
    pub(crate) fn read_only(&self, part: std::ops::Range<usize>) -> Option<&[u8]> {
        let region = self.region(part.start as u64)?;
        let within = part.end as u64 <= region.offset + region.len;
        // SAFETY: mapped readable as long as the block is there. Nothing writes to it but `amend`,
        // before anybody reads.
        (within && region.protection != Protection::ReadWrite).then(|| unsafe {
            std::slice::from_raw_parts(self.place.address().add(part.start).as_ptr(), part.len())
        })
    }

    /// The first place where the block's code is not `expected`: the bytes from an offset on. Bytes
    /// that the block does not have are not compared.
    pub(crate) fn differs(&self, offset: usize, expected: &[u8]) -> Option<usize> {
        let expected = &expected[..expected.len().min(self.len().saturating_sub(offset))];
        expected.iter().zip(offset..).find_map(|(byte, at)| {
            // SAFETY: within the block, in a region that is mapped readable as long as the block is
            // there. Volatile: that something wrote to it is what is looked for.
            let there = unsafe { self.place.address().add(at).read_volatile() };
            (there != *byte).then_some(at)
        })
    }

    /// Writes an 8-byte word, also where the block is readable only.
    ///
    /// # Safety
    ///
    /// The word lies in a region that is not executable, and nobody else uses it now.
    pub(crate) unsafe fn amend(&self, offset: usize, word: u64) -> io::Result<()> {
        match self.region(offset as u64) {
            Some(region) if region.protection == Protection::ReadWrite => {
                // SAFETY: mapped writable, the caller's alone.
                unsafe { self.place.address().add(offset).cast::<u64>().write_unaligned(word) };
                Ok(())
            }
            Some(region) => {
                // SAFETY: the caller promises that the word is in such a region and nobody else
                // uses it.
                unsafe {
                    self.place.arena.pages.amend(self.place.span(), region, offset, &word.to_le_bytes())
                }
            }
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

impl Block {
    /// Gives the pages back.
    ///
    /// # Safety
    ///
    /// Nobody executes or reads them any more.
    pub(crate) unsafe fn free(mut self) {
        self.freed = true;
        self.place.arena.dropped(&self.regions);
        // SAFETY: the caller promises that nobody uses the pages; a block is sealed with its
        // regions.
        unsafe {
            match self.reusable {
                true => self.place.retire(std::mem::take(&mut self.regions)),
                false => self.place.release(),
            }
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if !self.freed {
            tracing::error!(
                base = self.base(),
                len = self.len(),
                "code memory was given up and not freed: a fault of midflight's"
            );
        }
    }
}
