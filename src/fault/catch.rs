//! Which faults are contained: what decides is [`verdict`]. Everything else goes to whoever had the
//! signal before.

use std::fmt::Write as _;

use super::Stderr;
use crate::host::loaded;
use crate::platform::arch::context;
use crate::platform::os::fault::{self, Trap, read_word};
use crate::platform::os::guard::{self, Caught, Prepared};

/// What is known of a fault on a thread that is in a guarded call.
#[derive(Clone, Copy, Debug)]
struct Facts {
    /// The thread's stack pointer is below the recovery point, which is as it was made.
    is_inside: bool,
    /// It was on an alternate stack.
    is_in_handler: bool,
    /// The instruction is a module's.
    is_in_module: bool,
    /// A module's instruction has just called an address where there is nothing to execute.
    is_wild_call: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Contained,
    /// It is not, and this says why.
    Passed(&'static str),
}

/// Whose a fault is. In doubt it is the host's: a fault of the host's is never swallowed.
fn verdict(facts: Facts) -> Verdict {
    match facts {
        Facts { is_inside: false, .. } => {
            Verdict::Passed("the guarded call was left by a jump, or runs on another stack")
        }
        Facts { is_in_handler: true, .. } => Verdict::Passed("it came in a handler of a signal"),
        Facts { is_in_module: true, .. } | Facts { is_wild_call: true, .. } => Verdict::Contained,
        _ => Verdict::Passed("the instruction is not a module's, but the program's or a library's"),
    }
}

/// Has faults in guarded calls contained from now on.
pub(super) fn arm() -> std::io::Result<()> {
    fault::contain(contains)?;
    if let Some(signal) = fault::replaced() {
        tracing::warn!(
            signal,
            "a handler was installed after midflight's: faults of guarded calls are contained only if it goes on to the one that was there before"
        );
    }
    Ok(())
}

/// In the handler of a fault.
fn contains(trap: &mut Trap<'_>) -> bool {
    // SAFETY: the words are this thread's own.
    let top = unsafe { guard::words().as_ref() }.top.get();
    let Some(prepared) = Prepared::get().filter(|_| !top.is_null()) else { return false };
    let (counter, stack_pointer) = (trap.program_counter(), trap.stack_pointer());
    // What traps on x86-64 is behind.
    let trapped = trap.signal == libc::SIGTRAP && cfg!(target_arch = "x86_64");
    let mut place = counter - usize::from(trapped);
    // SAFETY: below its recovery point the thread has not left that.
    let is_inside = stack_pointer < top.addr() && unsafe { (*top).mark } == top.addr();
    let mut facts = Facts {
        is_inside,
        is_in_handler: trap.is_on_alternate_stack(),
        is_in_module: is_code(place),
        is_wild_call: false,
    };
    if is_inside
        && !facts.is_in_module
        && let Some(caller) = wild_call(trap, counter, top.addr())
    {
        (facts.is_wild_call, place) = (true, caller);
    }
    match verdict(facts) {
        Verdict::Contained => {
            prepared.catch(Caught {
                signal: trap.signal,
                code: trap.code,
                address: match trap.signal {
                    libc::SIGSEGV | libc::SIGBUS => trap.address,
                    _ => place,
                },
                place,
                is_stack_overflow: is_stack_overflow(trap.signal, stack_pointer, trap.address),
            });
            trap.land(guard::landing(), top.addr(), [0, guard::FAULT]);
            true
        }
        Verdict::Passed(why) => {
            let mut to = Stderr::new();
            // A stderr that cannot be written to is one that nobody reads.
            let _ = writeln!(
                to,
                "midflight: signal {} at {counter:#x} in a guarded call is not contained: {why}. docs/containment.md has more",
                trap.signal
            );
            to.flush();
            false
        }
    }
}

/// Whether there is code of a module at an address.
fn is_code(address: usize) -> bool {
    loaded::find(address as u64, |object| object.is_code(address as u64 - object.base)) == Some(true)
}

/// Where a module's code has called `counter`, from which nothing could be fetched: the call's last
/// byte. The thread has executed nothing since, so its registers are the call's.
fn wild_call(trap: &Trap<'_>, counter: usize, top: usize) -> Option<usize> {
    let is_fetch =
        matches!(trap.signal, libc::SIGSEGV | libc::SIGBUS | libc::SIGILL) && trap.address == counter;
    if !is_fetch {
        return None;
    }
    let registers = trap.registers();
    #[cfg(target_arch = "x86_64")]
    let back = {
        let at = trap.stack_pointer();
        // Within the stack, where the call has written it.
        (at.is_multiple_of(8) && at < top).then(|| {
            // SAFETY: the thread's own stack, between its stack pointer and the recovery point.
            unsafe { std::ptr::with_exposed_provenance::<usize>(at).read() }
        })?
    };
    #[cfg(target_arch = "aarch64")]
    let back = {
        let _ = top;
        registers[30] as usize
    };
    let registers = as_called(registers);
    let before = loaded::find(back.wrapping_sub(1) as u64, |object| {
        let offset = (back as u64 - 1) - object.base;
        let mut before = [0; 8];
        let len = (1..=8).rev().find(|len| object.is_code(offset + 1 - len))? as usize;
        // SAFETY: code of a version that is there as long as this is read; `is_code` says that it
        // is executable, and so readable, from there on: a region has no holes.
        unsafe {
            std::ptr::with_exposed_provenance::<u8>(back - len)
                .copy_to_nonoverlapping(before.as_mut_ptr(), len)
        };
        object.is_code(offset).then_some((before, len))
    })??;
    let (before, len) = before;
    context::calls(&before[..len], back as u64, &registers, counter as u64, read_word).then_some(back - 1)
}

/// The registers as the call had them: on x86-64 it has pushed a return address since.
fn as_called<const N: usize>(mut registers: [u64; N]) -> [u64; N] {
    if cfg!(target_arch = "x86_64") {
        registers[4] += 8;
    }
    registers
}

/// Whether a fault is of a stack that has no more room: what was accessed is near the stack pointer,
/// and cannot be read.
fn is_stack_overflow(signal: i32, stack_pointer: usize, address: usize) -> bool {
    /// A function's frame is larger seldom.
    const FRAME: usize = 64 << 10;
    let below = stack_pointer.wrapping_sub(address);
    signal == libc::SIGSEGV
        && (below <= FRAME || below.wrapping_neg() < FRAME)
        && read_word(address as u64 & !7).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSIDE: Facts =
        Facts { is_inside: true, is_in_handler: false, is_in_module: false, is_wild_call: false };

    #[test]
    fn only_what_is_surely_a_modules_is_contained() {
        assert_eq!(verdict(Facts { is_in_module: true, ..INSIDE }), Verdict::Contained);
        assert_eq!(verdict(Facts { is_wild_call: true, ..INSIDE }), Verdict::Contained);
        let passed = |facts| matches!(verdict(facts), Verdict::Passed(_));
        assert!(passed(INSIDE));
        for facts in [
            Facts { is_inside: false, is_in_module: true, ..INSIDE },
            Facts { is_in_handler: true, is_in_module: true, ..INSIDE },
            Facts { is_inside: false, is_wild_call: true, ..INSIDE },
            Facts { is_in_handler: true, is_wild_call: true, ..INSIDE },
        ] {
            assert!(passed(facts), "{facts:?}");
        }
    }
}
