//! Byte buffers. Small ones are used again: a reload needs some of the size of its module, and
//! having them from the system anew each time costs a page fault for every 4 KiB (a third of the
//! time of loading 300 kB). Large ones are mappings of their own: their pages come as they are
//! written, zero until then, and go back to the system with the buffer, where an allocator would
//! keep them.

use std::collections::TryReserveError;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::platform::os::memory;

/// How many are kept, and how large at most.
const KEPT: usize = 4;
pub(crate) const LARGEST: usize = 2 << 20;

static BUFFERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn kept() -> MutexGuard<'static, Vec<Vec<u8>>> {
    BUFFERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A buffer of `len` bytes, whatever is in them.
///
/// # Errors
///
/// If there is no such memory.
pub(crate) fn take(len: usize) -> io::Result<Buffer> {
    let memory = match len {
        ..=LARGEST => Memory::Heap(heap(len)?),
        _ => Memory::Mapped(memory::map_anywhere(len)?, len),
    };
    Ok(Buffer { memory, len })
}

/// A vector for who makes one of a length that he does not know yet.
pub(crate) fn take_vector() -> Vec<u8> {
    kept().pop().unwrap_or_default()
}

/// Keeps a vector for later, or frees it.
pub(crate) fn give_back(vector: Vec<u8>) {
    let mut buffers = kept();
    if buffers.len() < KEPT && (1..=LARGEST).contains(&vector.capacity()) {
        buffers.push(vector);
    }
}

/// At least so long.
fn heap(len: usize) -> Result<Vec<u8>, TryReserveError> {
    let mut buffers = kept();
    // The smallest that is large enough, else the largest.
    let order = |at: &usize| (buffers[*at].capacity() < len, buffers[*at].capacity().abs_diff(len));
    let best = (0..buffers.len()).min_by_key(order);
    let mut buffer = best.map(|at| buffers.swap_remove(at)).unwrap_or_default();
    drop(buffers);
    if buffer.len() < len {
        buffer.try_reserve_exact(len - buffer.len())?;
        // Not `resize`: without optimisation that writes byte by byte, 6 ms for each MB.
        const ZEROS: &[u8; 4096] = &[0; 4096];
        while buffer.len() < len {
            buffer.extend_from_slice(&ZEROS[..ZEROS.len().min(len - buffer.len())]);
        }
    }
    Ok(buffer)
}

/// Bytes that are kept for the next buffer when it is dropped, or given back to the system.
pub(crate) struct Buffer {
    memory: Memory,
    /// Of the memory; the rest is not the buffer's.
    len: usize,
}

enum Memory {
    Heap(Vec<u8>),
    /// A mapping, and its length.
    Mapped(NonNull<u8>, usize),
}

// SAFETY: it owns its memory.
unsafe impl Send for Buffer {}
// SAFETY: as for Send; it is written to by whoever has it alone.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Shortens it. A mapping keeps its pages.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Zeroes a part of a buffer that nothing was written to yet. Of a mapping that is done.
    pub(crate) fn zero(&mut self, part: Range<usize>) {
        if let Memory::Heap(_) = self.memory {
            self[part].fill(0);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { len: bytes.len(), memory: Memory::Heap(bytes) }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Heap(bytes) => &bytes[..self.len],
            // SAFETY: mapped readable and writable as long as this is there, at least so long, and
            // borrowed with it.
            Memory::Mapped(at, _) => unsafe { std::slice::from_raw_parts(at.as_ptr(), self.len) },
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Heap(bytes) => &mut bytes[..self.len],
            // SAFETY: as above, and borrowed by whoever may write.
            Memory::Mapped(at, _) => unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), self.len) },
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match &mut self.memory {
            Memory::Heap(bytes) => give_back(std::mem::take(bytes)),
            // SAFETY: from `map_anywhere`, of this length, and borrowed by nobody. What could not
            // be given back stays mapped.
            Memory::Mapped(at, len) => drop(unsafe { memory::unreserve(*at, *len) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_as_long_as_asked_and_holds_what_was_written() {
        for len in [0, 1, 4096, LARGEST, LARGEST + 1, 3 * LARGEST] {
            let mut buffer = take(len).unwrap();
            buffer.zero(0..len);
            assert!(buffer.len() == len && buffer.iter().all(|byte| *byte == 0));
            buffer.fill(7);
            buffer.truncate(len / 2);
            assert!(buffer.len() == len / 2 && buffer.iter().all(|byte| *byte == 7));
            buffer.truncate(len);
            assert_eq!(buffer.len(), len / 2);
        }
        assert!(kept().iter().all(|vector| vector.capacity() <= LARGEST) && kept().len() <= KEPT);
    }

    /// By the kernel's count of what is in memory.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_large_buffer_has_no_pages_before_it_is_written_and_none_when_it_is_gone() {
        const LEN: usize = 64 << 20;
        let resident = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * memory::page_size()
        };
        let before = resident();
        let mut buffer = take(LEN).unwrap();
        buffer.zero(0..LEN);
        assert!(resident() < before + LEN / 2);
        buffer.fill(7);
        assert!(resident() > before + LEN / 2);
        drop(buffer);
        assert!(resident() < before + LEN / 2);
    }

    #[test]
    fn what_cannot_be_had_is_an_error() {
        assert!(take(usize::MAX / 4).is_err());
    }
}
