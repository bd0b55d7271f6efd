//! Byte buffers that are used again: a reload needs some of the size of its module, and having them from the system anew each
//! time costs a page fault for every 4 KiB (a third of the time of loading 300 kB).

use std::sync::{Mutex, PoisonError};

/// How many are kept, and how large at most.
const KEPT: usize = 4;
const LARGEST: usize = 2 << 20;

static BUFFERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer of `len` bytes, whatever is in them.
///
/// # Errors
///
/// If there is no such memory.
pub(crate) fn take(len: usize) -> Result<Vec<u8>, std::collections::TryReserveError> {
    let mut buffers = BUFFERS.lock().unwrap_or_else(PoisonError::into_inner);
    // The smallest that is large enough, else the largest.
    let order = |at: &usize| (buffers[*at].capacity() < len, buffers[*at].capacity().abs_diff(len));
    let best = (0..buffers.len()).min_by_key(order);
    let mut buffer = best.map(|at| buffers.swap_remove(at)).unwrap_or_default();
    drop(buffers);
    buffer.try_reserve_exact(len.saturating_sub(buffer.len()))?;
    // Not `resize`: without optimisation that writes byte by byte, 25 ms for 4 MB.
    const ZEROS: &[u8; 4096] = &[0; 4096];
    buffer.truncate(len);
    while buffer.len() < len {
        buffer.extend_from_slice(&ZEROS[..ZEROS.len().min(len - buffer.len())]);
    }
    Ok(buffer)
}

/// Keeps a buffer for later, or frees it.
pub(crate) fn give_back(buffer: Vec<u8>) {
    let mut buffers = BUFFERS.lock().unwrap_or_else(PoisonError::into_inner);
    if buffers.len() < KEPT && buffer.capacity() <= LARGEST {
        buffers.push(buffer);
    }
}
