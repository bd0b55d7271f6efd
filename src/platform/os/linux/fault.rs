//! What a fault's handler is given, and how a process ends by one.

use std::ffi::{c_int, c_void};

use crate::platform::arch::context;
pub(crate) use crate::platform::os::posix::fault::{Fault, contain, replaced, watch};

/// Where the interrupted thread was.
///
/// # Safety
///
/// The context is what the kernel gave a handler.
pub(crate) unsafe fn program_counter(context: *const c_void) -> usize {
    // SAFETY: the caller has the context from the kernel.
    let context = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    return context.gregs[libc::REG_RIP as usize] as usize;
    #[cfg(target_arch = "aarch64")]
    return context.pc as usize;
}

/// The calling thread's errno.
///
/// # Safety
///
/// Only the calling thread uses it.
pub(crate) unsafe fn errno() -> *mut c_int {
    // SAFETY: no preconditions.
    unsafe { libc::__errno_location() }
}

/// Ends the process by a signal that has its default action now and is blocked as long as its
/// handler runs: it comes when that has returned, before the interrupted thread goes on, as it came
/// the first time. (The thread would come to the same fault again, but for memory that has been put
/// to use meanwhile.) The kernel lets a process send itself any information.
///
/// Where it does not (seccomp), or does not end a process of number 1 by what is sent, the thread
/// comes to the same fault, or the next trap.
///
/// # Safety
///
/// The information is what the kernel gave the handler.
pub(crate) unsafe fn end_as(signal: c_int, info: *const libc::siginfo_t, _is_fault: bool) {
    // SAFETY: the caller has the information from the kernel. getpid and gettid take nothing.
    unsafe {
        let (process, thread) = (libc::getpid(), libc::syscall(libc::SYS_gettid));
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, signal, info);
    }
}

/// The calling thread's number, and its name in so many bytes. Async-signal-safe.
pub(crate) fn this_thread(name: &mut [u8; 16]) -> (u64, usize) {
    // SAFETY: room for a name of 16 bytes, which is what PR_GET_NAME writes, zero included.
    let thread = unsafe {
        libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr());
        libc::syscall(libc::SYS_gettid)
    };
    (thread as u64, name.iter().position(|byte| *byte == 0).unwrap_or(name.len()))
}

/// A fault of the calling thread, in its handler: where the thread was, and where it goes on.
pub(crate) struct Trap<'t> {
    pub(crate) signal: c_int,
    pub(crate) code: c_int,
    /// What the kernel says is concerned: of SIGSEGV and SIGBUS the memory.
    pub(crate) address: usize,
    context: &'t mut libc::ucontext_t,
}

#[cfg(target_arch = "x86_64")]
type Registers = [u64; 16];
#[cfg(target_arch = "aarch64")]
type Registers = [u64; 31];

impl Trap<'_> {
    /// # Safety
    ///
    /// What the kernel gave a handler, which is the only one that has it.
    pub(crate) unsafe fn new(signal: c_int, info: *const libc::siginfo_t, context: *mut c_void) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let (code, address) = ((*info).si_code, (*info).si_addr().addr());
            Self { signal, code, address, context: &mut *context.cast::<libc::ucontext_t>() }
        }
    }

    pub(crate) fn program_counter(&self) -> usize {
        // SAFETY: the kernel's context.
        unsafe { program_counter(std::ptr::from_ref(&*self.context).cast()) }
    }

    pub(crate) fn stack_pointer(&self) -> usize {
        #[cfg(target_arch = "x86_64")]
        return self.context.uc_mcontext.gregs[libc::REG_RSP as usize] as usize;
        #[cfg(target_arch = "aarch64")]
        return self.context.uc_mcontext.sp as usize;
    }

    /// Whether the thread was on its alternate stack: in another handler.
    pub(crate) fn is_on_alternate_stack(&self) -> bool {
        let stack = &self.context.uc_stack;
        let offset = self.stack_pointer().wrapping_sub(stack.ss_sp.addr());
        stack.ss_flags & libc::SS_DISABLE == 0 && offset <= stack.ss_size
    }

    /// The general registers, by their numbers in instructions.
    pub(crate) fn registers(&self) -> Registers {
        #[cfg(target_arch = "x86_64")]
        {
            use libc::{
                REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RAX, REG_RBP,
                REG_RBX, REG_RCX, REG_RDI, REG_RDX, REG_RSI, REG_RSP,
            };
            [
                REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9,
                REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
            ]
            .map(|register| self.context.uc_mcontext.gregs[register as usize] as u64)
        }
        #[cfg(target_arch = "aarch64")]
        return self.context.uc_mcontext.regs;
    }

    /// Has the thread go on at a landing pad, with this stack pointer and these two words.
    pub(crate) fn land(&mut self, pad: usize, stack_pointer: usize, words: [usize; 2]) {
        let machine = &mut self.context.uc_mcontext;
        #[cfg(target_arch = "x86_64")]
        {
            let gregs = &mut machine.gregs;
            gregs[libc::REG_RIP as usize] = pad as i64;
            gregs[libc::REG_RSP as usize] = stack_pointer as i64;
            gregs[libc::REG_RAX as usize] = words[0] as i64;
            gregs[libc::REG_RDX as usize] = words[1] as i64;
            gregs[libc::REG_EFL as usize] = context::flags(gregs[libc::REG_EFL as usize] as u64) as i64;
        }
        #[cfg(target_arch = "aarch64")]
        {
            machine.pc = pad as u64;
            machine.sp = stack_pointer as u64;
            machine.regs[0] = words[0] as u64;
            machine.regs[1] = words[1] as u64;
            machine.pstate = context::flags(machine.pstate);
        }
    }
}

/// A word of this process's memory, if it can be read. Async-signal-safe.
pub(crate) fn read_word(address: u64) -> Option<u64> {
    let mut word = 0_u64;
    let to = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: size_of::<u64>() };
    let from = libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut(address as usize),
        iov_len: size_of::<u64>(),
    };
    // SAFETY: writes the word at most; what cannot be read is an error.
    let read = unsafe { libc::process_vm_readv(libc::getpid(), &raw const to, 1, &raw const from, 1, 0) };
    (read == size_of::<u64>() as isize).then_some(word)
}
