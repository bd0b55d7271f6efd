//! Threads that are born, that exit and whose records others take, while a collection walks the
//! records.

use loom::thread;

use super::*;

/// Two threads, each of which registers, pins and exits, against a collection: records are pushed
/// while the list is walked, and the second thread may have the first one's.
pub(crate) fn birth_and_death() {
    let mut world = with_fences();
    let dispatch = world.dispatch;
    let readers = [(), ()].map(|()| thread::spawn(move || live_and_read(dispatch, 1)));
    world.publish();
    world.collect();
    for reader in readers {
        reader.join().unwrap();
    }
    world.end();
}

/// A thread that exits inside a frame, which ends later (in a thread-local's destructor).
pub(crate) fn exit_under_a_pin(release: impl FnOnce(ThreadHandle<Canary>) + 'static) {
    let mut world = with_fences();
    let dispatch = world.dispatch;
    let exiting = thread::spawn(move || {
        let thread = register(dispatch);
        // SAFETY: this thread's handle; a generation is published.
        let pin = unsafe { dispatch.pin(&thread) };
        release(thread);
        inspect(&pin);
    });
    let other = thread::spawn(move || live_and_read(dispatch, 1));
    world.publish();
    world.collect();
    exiting.join().unwrap();
    other.join().unwrap();
    world.end();
}

/// A record with a history, for a third thread: what its last owner did comes before what the next
/// one shows.
pub(crate) fn reuse() {
    let mut world = with_fences();
    let dispatch = world.dispatch;
    let first = thread::spawn(move || live_and_read(dispatch, 1));
    world.publish();
    let second = thread::spawn(move || live_and_read(dispatch, 1));
    world.collect();
    first.join().unwrap();
    second.join().unwrap();
    world.end();
}

#[test]
fn threads_come_and_go_while_a_collection_walks() {
    explore(Some(4), birth_and_death);
}

#[test]
fn a_record_passes_from_thread_to_thread() {
    explore(None, reuse);
}

#[test]
fn a_thread_that_exits_under_a_pin_keeps_its_generation() {
    explore(Some(4), || exit_under_a_pin(release));
}
