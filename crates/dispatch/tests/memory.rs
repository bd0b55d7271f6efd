//! A dispatcher that goes takes all with it. A program of its own: the allocator counts for the
//! whole process.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::NonNull;

use midflight_dispatch::{Dispatcher, Publisher, SeqCstFences, ThreadBlock};

thread_local! {
    static ALLOCATED: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, and how many allocations this thread has made and not freed.
struct Counting;

// SAFETY: the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        ALLOCATED.set(ALLOCATED.get() - 1);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_left_of_a_dispatcher() {
    let before = ALLOCATED.get();
    {
        let d = Dispatcher::new(SeqCstFences);
        let mut p = Publisher::new();
        let blocks =
            [(); 3].map(|()| ThreadBlock { table: Cell::new(std::ptr::null()), record: Cell::default() });
        // SAFETY: the blocks outlive the handles; one thread, which stands for three; a generation
        // is published before the first pin; one publisher.
        unsafe {
            for block in &blocks {
                let new = d.prepare(&mut p, vec![1; 8], vec![2; 8]);
                d.publish(&mut p, new);
                let thread = d.register(NonNull::from(block), 0);
                drop(d.pin(&thread));
                thread.release();
            }
            assert_eq!(d.collect(&mut p).len(), 2);
        }
        assert!(ALLOCATED.get() > before, "the current generation, and a record");
    }
    assert_eq!(ALLOCATED.get(), before);
}
