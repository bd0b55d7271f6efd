//! Publications against readers and against each other.

use std::cell::Cell;
use std::ptr::{self, NonNull};

use loom::sync::{Arc, Mutex};
use loom::thread;
use midflight_dispatch::ThreadBlock;

use super::*;

fn two_publications_and_two_readers() {
    let mut world = with_fences();
    let dispatch = world.dispatch;
    let readers = [(), ()].map(|()| thread::spawn(move || live_and_read(dispatch, 1)));
    for _ in 0..2 {
        world.publish();
        world.collect();
    }
    for reader in readers {
        reader.join().unwrap();
    }
    world.end();
}

/// Publishers take turns, as the runtime has them do, and each may collect what the other retired.
fn two_publishers() {
    let world = with_fences();
    let dispatch = world.dispatch;
    let world = Arc::new(Mutex::new(world));
    let reader = thread::spawn(move || live_and_read(dispatch, 1));
    let publish = |world: &Mutex<World<_>>| {
        let mut world = world.lock().unwrap();
        let number = world.publish();
        world.collect();
        number
    };
    let other = thread::spawn({
        let world = world.clone();
        move || publish(&world)
    });
    let mine = publish(&world);
    let theirs = other.join().unwrap();
    assert_eq!(mine + theirs, 1 + 2, "no publication is lost");
    reader.join().unwrap();
    let world = Arc::try_unwrap(world).ok().expect("the last one").into_inner().unwrap();
    world.end();
}

/// A thread's table word (what its trampolines read) is its pin's table, of whatever length, while
/// longer ones are published, and what it was outside.
fn tables_grow() {
    let mut world = with_fences();
    let dispatch = world.dispatch;
    let reader = thread::spawn(move || {
        let live = 0usize;
        let block = ThreadBlock { table: Cell::new(&raw const live), record: Cell::new(None) };
        // SAFETY: the block outlives the handle.
        let thread = unsafe { dispatch.register(NonNull::from(&block), 0) };
        for _ in 0..2 {
            // SAFETY: this thread's handle; a generation is published.
            let pin = unsafe { dispatch.pin(&thread) };
            assert!(ptr::eq(block.table.get(), pin.table().as_ptr()));
            let number = inspect(&pin);
            // SAFETY: every table has an entry for each slot that there was when it was published.
            assert_eq!(unsafe { *block.table.get().add(number) }, number);
            drop(pin);
            assert!(ptr::eq(block.table.get(), &raw const live));
        }
        release(thread);
        assert_eq!(block.record.get(), None);
    });
    for _ in 0..2 {
        world.publish();
        world.collect();
    }
    reader.join().unwrap();
    world.end();
}

#[test]
fn two_publications_against_two_readers() {
    explore(Some(3), two_publications_and_two_readers);
}

#[test]
fn two_publishers_take_turns() {
    explore(None, two_publishers);
}

#[test]
fn tables_grow_under_pins() {
    explore(None, tables_grow);
}
