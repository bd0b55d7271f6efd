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
    /// It is of the instruction, and not something that somebody else has arranged for.
    is_of_instruction: bool,
    /// The thread's stack pointer is below the recovery point, which is as it was made, and in this
    /// process.
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
        Facts { is_of_instruction: false, .. } => Verdict::Passed("the instruction is not its cause"),
        Facts { is_inside: false, .. } => Verdict::Passed(
            "the guarded call was left by a jump, runs on another stack, or is of the process that this one is a child of",
        ),
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
    let is_inside = !guard::innermost(stack_pointer).is_null();
    let mut facts = Facts {
        is_of_instruction: is_of_instruction(trap.signal, trap.code),
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

/// Whether a fault is of the instruction that the thread was at: not a watchpoint or a sampler's
/// trap, and not memory that was found damaged at some other time (sigaction(2), "The siginfo_t
/// argument to a SA_SIGINFO handler").
fn is_of_instruction(signal: i32, code: i32) -> bool {
    const SI_KERNEL: i32 = 0x80;
    const TRAP_BRKPT: i32 = 1;
    const SEGV_MTEAERR: i32 = 8;
    const BUS_MCEERR_AO: i32 = 5;
    match signal {
        libc::SIGTRAP => matches!(code, TRAP_BRKPT | SI_KERNEL),
        libc::SIGSEGV => code != SEGV_MTEAERR,
        libc::SIGBUS => code != BUS_MCEERR_AO,
        _ => true,
    }
}

/// Whether there is code of a module at an address.
fn is_code(address: usize) -> bool {
    loaded::find(address as u64, |object| object.is_code(address as u64 - object.base)) == Some(true)
}

/// Where a module's code has called `counter`, from which nothing could be fetched: the call's last
/// byte. The thread has executed nothing since, so its registers are the call's.
fn wild_call(trap: &Trap<'_>, counter: usize, top: usize) -> Option<usize> {
    // SIGILL: AArch64 has it where a call comes to no landing pad (BTI). Elsewhere something was
    // fetched, and run.
    let is_fetch = match trap.signal {
        libc::SIGSEGV | libc::SIGBUS => true,
        libc::SIGILL => cfg!(target_arch = "aarch64"),
        _ => false,
    } && trap.address == counter;
    if !is_fetch {
        return None;
    }
    let registers = trap.registers();
    #[cfg(target_arch = "x86_64")]
    let back = {
        let at = trap.stack_pointer();
        // Within the stack, where the call has written it; and not where a smashed stack pointer
        // leads to.
        const STACK: usize = 256 << 20;
        (at.is_multiple_of(8) && at < top && top - at < STACK).then(|| {
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
        let len = (1..=8).rev().find(|len| object.is_code((offset + 1).wrapping_sub(*len)))? as usize;
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

    const INSIDE: Facts = Facts {
        is_of_instruction: true,
        is_inside: true,
        is_in_handler: false,
        is_in_module: false,
        is_wild_call: false,
    };

    #[test]
    fn what_tools_and_the_hardware_report_is_not_of_the_instruction() {
        for (signal, code) in [(libc::SIGTRAP, 4), (libc::SIGTRAP, 2), (libc::SIGSEGV, 8), (libc::SIGBUS, 5)]
        {
            assert!(!is_of_instruction(signal, code), "{signal} {code}");
        }
        for (signal, code) in
            [(libc::SIGTRAP, 1), (libc::SIGTRAP, 0x80), (libc::SIGSEGV, 1), (libc::SIGBUS, 2)]
        {
            assert!(is_of_instruction(signal, code), "{signal} {code}");
        }
        let trace = Facts { is_of_instruction: false, is_in_module: true, ..INSIDE };
        assert!(matches!(verdict(trace), Verdict::Passed(_)));
    }

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
