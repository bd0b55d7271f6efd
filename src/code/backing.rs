//! How the pages of an arena become writable and then executable. `benches/code_memory.rs` measures
//! both ways.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use midflight_image::{Protection, Region, Verbatim};

use crate::platform::buffers::Buffer;
use crate::platform::os::held::Held;
use crate::platform::os::memory;
use crate::platform::{arch, buffers};

/// How code is written before it executes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Backing {
    /// Written into anonymous shared memory (memfd) through its file descriptor, and mapped
    /// privately with the final protections. Code is never mapped writable anywhere, no
    /// reader's TLB is flushed on the way in, and the pages of a version that was freed take
    /// the next one of the same layout without any mapping being changed. Linux only. A kernel with
    /// `vm.memfd_noexec=2` forbids it.
    Memfd,
    /// Private pages that are writable, then by `mprotect` what they are to be. Works everywhere;
    /// each `mprotect` interrupts every core that runs a thread of the process.
    WriteOnce,
    /// Each block in a mapping of its own, whose code a thread makes writable for itself while it
    /// copies what was linked elsewhere. On macOS that is `MAP_JIT` and
    /// `pthread_jit_write_protect_np`, which the hardened runtime asks for and which is chosen
    /// there by itself; on Linux, where it has no use but to be tested, two `mprotect`.
    Toggled,
}

impl Default for Backing {
    /// What was measured to disturb readers least (`benches/code_memory.rs`).
    fn default() -> Self {
        if cfg!(target_os = "linux") { Self::Memfd } else { Self::WriteOnce }
    }
}

/// Pages of an arena that become one block.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) at: NonNull<u8>,
    /// From the start of the arena.
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

/// What a block's pages are to be. The regions lie within the span.
pub(crate) type Regions<'r> = &'r [Region];

/// What goes into a block as it is, past what is written to: in order, each part in a region that
/// is not writable.
pub(crate) type Parts<'r> = &'r [Verbatim<'r>];

/// One arena's way.
pub(crate) trait Pages: Send + Sync {
    /// Whether a new block can be written this way.
    fn is_usable(&self) -> bool {
        true
    }

    /// Memory of the span's length to write to, for what will be there: zeros, but for the parts,
    /// where it is of no account.
    ///
    /// # Safety
    ///
    /// The pages lie inside the arena and are in nobody's use: new, released or retired.
    unsafe fn open(&self, span: Span, parts: Parts<'_>) -> io::Result<NonNull<u8>>;

    /// Gives the parts and what was written beside them its final protections; what is in no region
    /// becomes inaccessible.
    ///
    /// # Safety
    ///
    /// `open` returned `view` for these pages, and nobody uses it but to close it. They are
    /// inaccessible, or `warm`: [`retire`](Self::retire) left them with these regions.
    unsafe fn seal(
        &self,
        span: Span,
        view: NonNull<u8>,
        regions: Regions<'_>,
        parts: Parts<'_>,
        warm: bool,
    ) -> io::Result<()>;

    /// Frees what `open` took beside the pages. Once per `open`, after `seal` or in its stead.
    ///
    /// # Safety
    ///
    /// `open` returned `view` for these pages, and nobody uses it any more.
    unsafe fn close(&self, span: Span, view: NonNull<u8>);

    /// Writes to a region of a sealed block that is readable only.
    ///
    /// # Safety
    ///
    /// The bytes lie in such a region, and nobody reads them meanwhile.
    unsafe fn amend(&self, span: Span, region: &Region, offset: usize, bytes: &[u8]) -> io::Result<()>;

    /// Leaves the pages of a sealed block mapped, for the next block with the same regions, and
    /// nothing of it in them that could be executed: a stray call traps. False if that cannot
    /// be, and then they are to be released.
    ///
    /// # Safety
    ///
    /// Nobody uses the pages any more.
    unsafe fn retire(&self, span: Span, regions: Regions<'_>) -> bool;

    /// Makes the pages inaccessible and frees their memory, sealed or not. `shared`: in a forked
    /// child they stay as they are.
    ///
    /// # Safety
    ///
    /// Nobody in this process uses the pages any more.
    unsafe fn release(&self, span: Span, shared: bool) -> io::Result<()>;
}

/// Makes pages inaccessible, and part of the reservation around them again: same name, so that the
/// mappings merge.
///
/// # Safety
///
/// As [`memory::release`].
unsafe fn vacate(at: NonNull<u8>, len: usize) -> io::Result<()> {
    // SAFETY: the caller promises that nobody uses these pages of the reservation.
    unsafe { memory::release(at, len)? };
    memory::name(at, len, RESERVED);
    Ok(())
}

/// The name of address space that holds nothing.
pub(crate) const RESERVED: &str = "midflight: reserved";

/// The name of a block's pages.
const CODE: &str = "midflight: code";

/// A region's place in bytes. Regions come from a validated image whose span fits an arena.
fn extent(region: &Region) -> (usize, usize) {
    (region.offset as usize, region.len as usize)
}

/// See [`Backing::WriteOnce`].
pub(crate) struct WriteOnce;

impl Pages for WriteOnce {
    unsafe fn open(&self, span: Span, _parts: Parts<'_>) -> io::Result<NonNull<u8>> {
        // SAFETY: inside the arena and in nobody's use, as the caller says; this way retires
        // nothing.
        unsafe { memory::protect(span.at, span.len, Protection::ReadWrite)? };
        Ok(span.at)
    }

    unsafe fn seal(
        &self,
        span: Span,
        view: NonNull<u8>,
        regions: Regions<'_>,
        parts: Parts<'_>,
        _warm: bool,
    ) -> io::Result<()> {
        let (at, len) = (span.at, span.len);
        memory::name(view, len, CODE);
        let mut covered = 0;
        // SAFETY: inside the arena, and writable until its protection is given; other writes are
        // done, as the caller says.
        unsafe {
            copy_parts(view, parts);
            for region in regions {
                let (start, bytes) = extent(region);
                if start > covered {
                    vacate(at.add(covered), start - covered)?;
                }
                if region.protection != Protection::ReadWrite {
                    memory::protect(at.add(start), bytes, region.protection)?;
                }
                covered = start + bytes;
            }
            if covered < len {
                vacate(at.add(covered), len - covered)?;
            }
        }
        Ok(())
    }

    unsafe fn close(&self, _span: Span, _view: NonNull<u8>) {}

    unsafe fn amend(&self, span: Span, region: &Region, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let (start, len) = extent(region);
        // SAFETY: inside the arena; a readable region becomes writable for a moment in which nobody
        // reads it.
        unsafe {
            memory::protect(span.at.add(start), len, Protection::ReadWrite)?;
            span.at.add(offset).copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
            memory::protect(span.at.add(start), len, region.protection)
        }
    }

    unsafe fn retire(&self, _span: Span, _regions: Regions<'_>) -> bool {
        false
    }

    unsafe fn release(&self, span: Span, _shared: bool) -> io::Result<()> {
        // SAFETY: inside the arena and in nobody's use, as the caller says.
        unsafe { vacate(span.at, span.len) }
    }
}

/// See [`Backing::Toggled`]. The arena is one block. The draft is elsewhere, because the thread
/// that seals it need not be the one that wrote it, and only the one may write.
#[derive(Default)]
pub(crate) struct Toggled {
    draft: Mutex<Buffer>,
}

impl Toggled {
    fn draft(&self) -> MutexGuard<'_, Buffer> {
        self.draft.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages for Toggled {
    unsafe fn open(&self, span: Span, _parts: Parts<'_>) -> io::Result<NonNull<u8>> {
        let mut buffer = buffers::take(span.len)?;
        buffer.zero(0..span.len);
        let view = NonNull::from(&mut *buffer).cast();
        *self.draft() = buffer;
        Ok(view)
    }

    unsafe fn seal(
        &self,
        span: Span,
        view: NonNull<u8>,
        regions: Regions<'_>,
        parts: Parts<'_>,
        _warm: bool,
    ) -> io::Result<()> {
        // SAFETY: within the span, whose draft is nobody else's.
        unsafe { copy_parts(view, parts) };
        let mut covered = 0;
        for region in regions {
            let (start, len) = extent(region);
            // SAFETY: the region is inside the span, in the arena and in nobody's use; the draft is
            // as long as the span.
            unsafe {
                if start > covered {
                    vacate(span.at.add(covered), start - covered)?;
                }
                let (from, at) = (view.add(start), span.at.add(start));
                if region.protection == Protection::ReadExecute {
                    memory::writable(at, len)?;
                    at.copy_from_nonoverlapping(from, len);
                    memory::executable(at, len)?;
                } else {
                    memory::map_zeroed(at, len)?;
                    at.copy_from_nonoverlapping(from, len);
                    if region.protection == Protection::Read {
                        memory::protect(at, len, Protection::Read)?;
                    }
                }
                memory::name(at, len, CODE);
            }
            covered = start + len;
        }
        if covered < span.len {
            // SAFETY: as above.
            unsafe { vacate(span.at.add(covered), span.len - covered)? };
        }
        Ok(())
    }

    unsafe fn close(&self, _span: Span, _view: NonNull<u8>) {
        drop(std::mem::take(&mut *self.draft()));
    }

    unsafe fn amend(&self, span: Span, region: &Region, offset: usize, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: what is readable only is ordinary memory, here as there.
        unsafe { WriteOnce.amend(span, region, offset, bytes) }
    }

    unsafe fn retire(&self, _span: Span, _regions: Regions<'_>) -> bool {
        false
    }

    unsafe fn release(&self, span: Span, _shared: bool) -> io::Result<()> {
        // SAFETY: in nobody's use, as the caller says. The arena goes with its block.
        unsafe { vacate(span.at, span.len) }
    }
}

/// Puts the parts into a draft.
///
/// # Safety
///
/// They lie within the memory that starts at `view`, which is writable and nobody else's.
unsafe fn copy_parts(view: NonNull<u8>, parts: Parts<'_>) {
    for part in parts {
        // SAFETY: the caller promises that the parts lie within the view, which is its own to
        // write.
        unsafe {
            let place = view.add(part.offset as usize);
            place.copy_from_nonoverlapping(NonNull::from(part.bytes).cast(), part.bytes.len());
        }
    }
}

/// Variables up to this size keep their pages when a block is retired, and are overwritten whole by
/// the next.
const KEPT_DATA: usize = 64 << 10;

/// See [`Backing::Memfd`]. What is read or executed stands at the offset in the file that it has in
/// the arena; variables are ordinary private memory.
///
/// The program may close the descriptor, or limit the size of files (RLIMIT_FSIZE), at any time.
/// Then there is no more writing this way: the block that is being written becomes private memory,
/// and the arena gets no other.
pub(crate) struct Memfd {
    file: Held<File>,
    /// It could not be written once, and some pages are private copies instead. Relaxed: a block
    /// goes from thread to thread under locks.
    failed: AtomicBool,
    /// What is being written, by its offset in the arena.
    drafts: Mutex<Vec<(usize, Written)>>,
}

/// Where a block is written, before it is sealed.
enum Written {
    /// A buffer, which the next block uses again.
    Buffer(#[expect(dead_code, reason = "kept until the block is sealed")] Buffer),
    /// Pages of its own, for what is too large for that: those that are never written to, such as a
    /// large array that begins as zero, cost nothing. Which of them are still there, in bytes
    /// from the start.
    Pages(Vec<Range<usize>>),
}

/// Blocks that are larger are written in pages of their own.
const LARGEST_BUFFER: usize = buffers::LARGEST;

impl Memfd {
    pub(crate) fn new(arena: usize) -> io::Result<Self> {
        Ok(Self {
            file: Held::new(memory::shared_memory(arena, CODE)?)?,
            failed: AtomicBool::new(false),
            drafts: Mutex::default(),
        })
    }

    /// Seals a block by the file.
    ///
    /// # Safety
    ///
    /// As for [`Pages::seal`]; `bytes` is what was written to the view.
    unsafe fn seal_in_file(
        &self,
        span: Span,
        bytes: &[u8],
        regions: Regions<'_>,
        parts: Parts<'_>,
        warm: bool,
    ) -> io::Result<()> {
        self.write(span, bytes, regions, parts)?;
        if warm {
            return Ok(());
        }
        for region in regions.iter().filter(|region| region.protection != Protection::ReadWrite) {
            let (start, len) = extent(region);
            let file = self.file.get()?;
            // SAFETY: inside the arena's reservation, over pages that are in nobody's use yet.
            unsafe {
                memory::map_private(span.at.add(start), len, region.protection, file, span.offset + start)?;
            }
        }
        Ok(())
    }

    /// Seals a block without the file.
    ///
    /// # Safety
    ///
    /// As for [`Pages::seal`]; `bytes` is what was written to the view.
    unsafe fn seal_privately(
        &self,
        span: Span,
        bytes: &[u8],
        regions: Regions<'_>,
        parts: Parts<'_>,
    ) -> io::Result<()> {
        // SAFETY: the caller promises what `Pages::seal` asks: the pages are in nobody's use, and
        // as long as the draft.
        unsafe {
            memory::map_zeroed(span.at, span.len)?;
            span.at.copy_from_nonoverlapping(NonNull::from(bytes).cast(), span.len);
            WriteOnce.seal(span, span.at, regions, parts, false)
        }
    }

    /// Writes what is read or executed: each part from where it is, and what is around them.
    /// Neighbouring regions are written by one call.
    fn write(&self, span: Span, bytes: &[u8], regions: Regions<'_>, parts: Parts<'_>) -> io::Result<()> {
        let file = self.file.get()?;
        let fixed = regions.iter().filter(|region| region.protection != Protection::ReadWrite);
        let (mut start, mut end) = (0, 0);
        let mut pieces = Vec::with_capacity(2 * parts.len() + 1);
        let mut parts = parts.iter().peekable();
        for region in fixed {
            let (from, len) = extent(region);
            if from != end {
                memory::write_all_at(file, &mut pieces, (span.offset + start) as u64)?;
                pieces.clear();
                (start, end) = (from, from);
            }
            while let Some(part) = parts.next_if(|part| (part.offset as usize) < from + len) {
                pieces.push(IoSlice::new(&bytes[end..part.offset as usize]));
                pieces.push(IoSlice::new(part.bytes));
                end = part.offset as usize + part.bytes.len();
            }
            pieces.push(IoSlice::new(&bytes[end..from + len]));
            end = from + len;
        }
        memory::write_all_at(file, &mut pieces, (span.offset + start) as u64)
    }

    /// Takes a part out of a draft that has pages of its own, and says whether it has: whoever asks
    /// moves them.
    fn give_up(&self, span: Span, part: Range<usize>) -> bool {
        let mut drafts = self.drafts.lock().unwrap_or_else(PoisonError::into_inner);
        let draft = drafts.iter_mut().find(|(offset, _)| *offset == span.offset);
        let Some((_, Written::Pages(left))) = draft else { return false };
        // Regions come in order, so what is still whole is the last piece.
        let Some(last) = left.pop_if(|last| last.start <= part.start && part.end <= last.end) else {
            return false;
        };
        left.extend([last.start..part.start, part.end..last.end]);
        true
    }

    /// So that a stray call into code that was freed faults at once.
    fn fill_with_traps(&self, at: usize, len: usize) -> io::Result<()> {
        let piece = |start| IoSlice::new(&TRAPS[..TRAPS.len().min(len - start)]);
        let file = self.file.get()?;
        let mut pieces: Vec<_> = (0..len).step_by(TRAPS.len()).map(piece).collect();
        memory::write_all_at(file, &mut pieces, at as u64)
    }
}

/// What is written over code that was freed.
static TRAPS: [u8; 1 << 14] = [arch::TRAP; 1 << 14];

/// The length without the pages of zeros at the end. (Of 4 KiB: they divide all others.)
fn filled(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.len() - bytes.rchunks_exact(ZEROS.len()).take_while(|page| **page == ZEROS).count() * ZEROS.len()
}

impl Pages for Memfd {
    fn is_usable(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }

    unsafe fn open(&self, span: Span, parts: Parts<'_>) -> io::Result<NonNull<u8>> {
        let keep = |written| {
            self.drafts.lock().unwrap_or_else(PoisonError::into_inner).push((span.offset, written));
        };
        if span.len > LARGEST_BUFFER {
            let view = memory::map_anywhere(span.len)?;
            keep(Written::Pages(std::iter::once(0..span.len).collect()));
            return Ok(view);
        }
        let mut buffer = buffers::take(span.len)?;
        let mut zeroed = 0;
        for part in parts {
            buffer.zero(zeroed..part.offset as usize);
            zeroed = part.offset as usize + part.bytes.len();
        }
        buffer.zero(zeroed..span.len);
        let view = NonNull::from(&mut *buffer).cast();
        keep(Written::Buffer(buffer));
        Ok(view)
    }

    unsafe fn seal(
        &self,
        span: Span,
        view: NonNull<u8>,
        regions: Regions<'_>,
        parts: Parts<'_>,
        warm: bool,
    ) -> io::Result<()> {
        // SAFETY: `open` made it of this length, and nobody writes to it any more.
        let bytes = unsafe { std::slice::from_raw_parts(view.as_ptr(), span.len) };
        // SAFETY: the caller promises that the pages are a draft's, in nobody's use.
        if let Err(error) = unsafe { self.seal_in_file(span, bytes, regions, parts, warm) } {
            self.failed.store(true, Ordering::Relaxed);
            tracing::warn!(%error, "code memory behind a descriptor cannot be written: private pages are used");
            // SAFETY: the caller promises that the pages are a draft's, in nobody's use. What is
            // mapped by now, nobody has seen.
            return unsafe { self.seal_privately(span, bytes, regions, parts) };
        }
        // Last, because pages of the draft that are moved are no more where they were.
        for region in regions.iter().filter(|region| region.protection == Protection::ReadWrite) {
            let (start, len) = extent(region);
            // SAFETY: the region is inside the span.
            let at = unsafe { span.at.add(start) };
            if !warm && self.give_up(span, start..start + len) {
                // SAFETY: the draft's own pages, which are nobody's now, over pages that are in
                // nobody's use yet.
                unsafe { memory::move_pages(view.add(start), at, len)? };
                continue;
            }
            let content = &bytes[start..start + len];
            let content = if warm && len <= KEPT_DATA { content } else { &content[..filled(content)] };
            // SAFETY: over pages that are in nobody's use yet; they are writable then, and zero
            // beyond what a retired block left.
            unsafe {
                if !warm {
                    memory::map_zeroed(at, len)?;
                }
                at.copy_from_nonoverlapping(NonNull::from(content).cast(), content.len());
            }
        }
        Ok(())
    }

    unsafe fn close(&self, span: Span, view: NonNull<u8>) {
        let mut drafts = self.drafts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = drafts.iter().position(|(offset, _)| *offset == span.offset) else { return };
        if let Written::Pages(left) = drafts.swap_remove(at).1 {
            for pages in left.into_iter().filter(|pages| !pages.is_empty()) {
                // SAFETY: what is left of the draft's own pages, which nobody uses any more, as the
                // caller says. What could not be given back is lost, and nothing else.
                let _ = unsafe { memory::unreserve(view.add(pages.start), pages.len()) };
            }
        }
    }

    unsafe fn amend(&self, span: Span, region: &Region, offset: usize, bytes: &[u8]) -> io::Result<()> {
        if !self.failed.load(Ordering::Relaxed) {
            let mut piece = [IoSlice::new(bytes)];
            let at = (span.offset + offset) as u64;
            // A private page that was never written is the file's; these cannot be written.
            match self.file.get().and_then(|file| memory::write_all_at(file, &mut piece, at)) {
                Ok(()) => return Ok(()),
                Err(_) => self.failed.store(true, Ordering::Relaxed),
            }
        }
        // SAFETY: what is readable only, of which the page becomes a private copy, or is one.
        unsafe { WriteOnce.amend(span, region, offset, bytes) }
    }

    unsafe fn retire(&self, span: Span, regions: Regions<'_>) -> bool {
        if !self.is_usable() {
            return false;
        }
        let done = regions.iter().try_for_each(|region| {
            let (start, len) = extent(region);
            match region.protection {
                Protection::Read => Ok(()),
                Protection::ReadExecute => {
                    self.fill_with_traps(span.offset + start, len)?;
                    // SAFETY: mapped readable, and written by nobody.
                    let text = unsafe { std::slice::from_raw_parts(span.at.add(start).as_ptr(), len) };
                    // A page that a debugger has put a breakpoint into is a private copy, which the
                    // file is no way to.
                    if text.chunks(TRAPS.len()).any(|chunk| *chunk != TRAPS[..chunk.len()]) {
                        return Err(io::ErrorKind::ResourceBusy.into());
                    }
                    // SAFETY: mapped readable and executable. Without it a core may still have the
                    // old instructions in its cache.
                    unsafe { arch::cache::publish_code(text.as_ptr(), len) };
                    Ok(())
                }
                Protection::ReadWrite if len <= KEPT_DATA => Ok(()),
                // SAFETY: nobody uses the pages.
                Protection::ReadWrite => unsafe { memory::discard(span.at.add(start), len) },
            }
        });
        done.is_ok()
    }

    unsafe fn release(&self, span: Span, shared: bool) -> io::Result<()> {
        // SAFETY: inside the arena and in nobody's use, as the caller says.
        unsafe { vacate(span.at, span.len)? };
        // The memory is the file's, not the mapping's. Where the program has closed it, it goes
        // with the arena's last mapping.
        match self.file.get() {
            Ok(file) if !shared => memory::punch_hole(file, span.offset, span.len),
            _ => Ok(()),
        }
    }
}
