//! `runtime_core.h`: the stacks of fibers.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use midflight::FiberStack;

use crate::errors::{Failure, guarded};
use crate::gate::{self, Call};

/// Those that were added and not removed, by address.
static STACKS: Mutex<BTreeMap<usize, FiberStack>> = Mutex::new(BTreeMap::new());

fn stacks() -> MutexGuard<'static, BTreeMap<usize, FiberStack>> {
    STACKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `runtime_stack_add()`.
///
/// # Safety
///
/// As for [`midflight::Runtime::add_stack`], until `runtime_stack_remove()`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn runtime_stack_add(
    memory: *const c_void,
    size: usize,
    stack_pointer: *const *const c_void,
) -> c_int {
    guarded(|| {
        let call = Call::begin()?;
        let memory = memory.cast::<u8>();
        if memory.is_null() || size == 0 || memory.addr().checked_add(size).is_none() {
            return Err(Failure::argument("the stack is empty, or no memory"));
        }
        if !stack_pointer.is_aligned() {
            return Err(Failure::argument("stack_pointer is not aligned to 8 bytes"));
        }
        let mut stacks = stacks();
        if stacks.contains_key(&memory.addr()) {
            let message = format!(
                "the stack at {memory:p} is there already: remove it with runtime_stack_remove() first"
            );
            return Err(Failure::argument(message));
        }
        let stack_pointer = NonNull::new(stack_pointer.cast_mut().cast());
        // SAFETY: the caller promises that the memory and the word stay until
        // `runtime_stack_remove()`.
        let stack = unsafe { call.runtime.add_stack(memory..memory.wrapping_add(size), stack_pointer) };
        stacks.insert(memory.addr(), stack);
        Ok(())
    })
}

/// `runtime_stack_remove()`.
#[unsafe(no_mangle)]
pub extern "C" fn runtime_stack_remove(memory: *const c_void) -> c_int {
    guarded(|| {
        // Whether the runtime runs or not: the memory is about to go.
        gate::refuse_child()?;
        let removed = stacks().remove(&memory.addr());
        removed.map(drop).ok_or_else(|| {
            Failure::argument(format!(
                "there is no stack at {memory:p}: runtime_stack_add() has not added it"
            ))
        })
    })
}
