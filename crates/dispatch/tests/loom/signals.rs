//! Signal handlers that call modules: at any moment what a thread's trampolines call through is
//! there.

use midflight_dispatch::weaken::interrupt_with;

use super::*;

/// Looks through the thread's table word as a trampoline does.
fn handler() {
    BLOCK.with(|block| {
        // Outside every generation it is the live table, which is never freed; in the models, null.
        if block.table.get().is_null() {
            return;
        }
        let record = block.record.get().expect("a thread that is inside a generation has a record");
        // SAFETY: this thread's record.
        let thread = unsafe { ThreadHandle::<Canary>::from_raw(record) };
        // SAFETY: the models' dispatchers outlive their threads' pins, of which none ends in here.
        let generation = unsafe { thread.generation() };
        let generation = generation.expect("somebody is inside a generation that he does not show");
        assert_eq!(generation.table().as_ptr(), block.table.get(), "a table is its generation's");
        inspect(generation);
    });
}

fn interrupted(model: impl Fn() + Send + Sync + 'static) {
    interrupt_with(handler);
    explore(None, model);
}

#[test]
fn a_handler_finds_the_table_of_a_pin() {
    interrupted(|| frames::pin(SeqCstFences, 1));
}

#[test]
fn a_handler_finds_the_table_of_a_joined_frame() {
    interrupted(frames::join_and_work);
}
