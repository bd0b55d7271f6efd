//! What the process has: memory, descriptors, mappings of code.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

struct Counting;

/// Relaxed: one thread measures, and what others have done for it they have told it by then.
static BYTES: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: isize) {
    BYTES.fetch_add(bytes, Ordering::Relaxed);
}

// SAFETY: the system's, with counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What may not grow.
#[derive(Debug)]
pub struct Used {
    bytes: isize,
    descriptors: usize,
    mappings: usize,
}

impl Used {
    pub fn exceeds(&self, before: &Self) -> bool {
        self.bytes > before.bytes || self.descriptors > before.descriptors || self.mappings > before.mappings
    }
}

/// Without what is kept of versions that are gone, so that they can be explained: that is bounded
/// by itself.
pub fn used() -> Used {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("/proc is mounted").count();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    let mappings = maps.lines().filter(|line| line.contains("midflight")).count();
    drop(maps);
    let bytes = BYTES.load(Ordering::Relaxed) - midflight::private::footprint() as isize;
    Used { bytes, descriptors, mappings }
}
