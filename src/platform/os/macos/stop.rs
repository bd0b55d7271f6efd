//! Stopping each thread of this process for a moment: thread_suspend, thread_get_state,
//! thread_resume (osfmk/mach/thread_act.defs).
//!
//! thread_suspend returns when the thread is on no core; it will not return to user code before
//! thread_resume, whatever it does in the kernel meanwhile (osfmk/kern/thread_act.c: `thread_hold`
//! has it stop on its way out). So it is not the thread that looks at itself, as on Linux, but the
//! one that asks: no signal is sent, no system call is interrupted, and every thread answers,
//! whatever it blocks. Between suspend and resume nothing is allocated and no lock is taken: the
//! thread that is stopped may have it. One pass goes on at a time (`quiescence::scan`), so no two
//! stop each other.

use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mach2::kern_return::{KERN_SUCCESS, kern_return_t};
use mach2::mach_port::mach_port_deallocate;
use mach2::structs::arm_thread_state64_t;
use mach2::task::task_threads;
use mach2::thread_act::{thread_get_state, thread_resume, thread_suspend};
use mach2::thread_status::{ARM_NEON_STATE64, ARM_THREAD_STATE64, thread_state_flavor_t};
use mach2::traps::mach_task_self;
use mach2::vm::mach_vm_deallocate;

pub(crate) use super::regions::{Memory, mappings};
pub(crate) use crate::platform::os::posix::stop::{
    Answer, BATCH, Condition, Look, Stopped, is_in_handler, with_registers_saved,
};

/// How far below its stack pointer a leaf function may keep values (Apple, "Writing ARM64 code for
/// Apple platforms": "Respect the stack's red zone").
const RED_ZONE: usize = 128;

fn failed(what: &str, error: kern_return_t) -> io::Error {
    io::Error::other(format!("{what}: error {error} of mach/kern_return.h"))
}

/// A send right to a thread's port.
struct Port(libc::mach_port_t);

impl Drop for Port {
    fn drop(&mut self) {
        // SAFETY: the right is this one's. It cannot fail: a right to a port that is dead is given
        // back as well.
        unsafe { mach_port_deallocate(mach_task_self(), self.0) };
    }
}

impl Port {
    /// The lower half of a number that no other thread of the system has or had:
    /// thread_info(THREAD_IDENTIFIER_INFO), osfmk/mach/thread_info.h. Two threads that are
    /// there at the same time have the same half only if 4,294,967,296 were made between them, and
    /// then `threads` says so. None if the thread is over.
    fn id(&self) -> Option<i32> {
        let info: libc::thread_identifier_info = self.info(libc::THREAD_IDENTIFIER_INFO)?;
        Some(info.thread_id as i32)
    }

    /// Where the thread's stack ends, at its upper end; an address that no stack has for a thread
    /// that libpthread did not make, or that is over.
    ///
    /// libpthread keeps it (src/pthread.c, `_pthread_struct_init`): below it lies the thread's own
    /// stack alone, also where the program gave it (pthread_attr_setstack). The thread register
    /// would not do: it points into the pthread structure, which such a thread has elsewhere,
    /// perhaps with other memory between that neighbours have made one mapping of, and that may
    /// go at any time.
    fn stack_end(&self) -> usize {
        // SAFETY: a right that we hold; 0 is a thread that libpthread did not make. Both take
        // libpthread's lock, and no thread is stopped.
        unsafe {
            match libc::pthread_from_mach_thread_np(self.0) {
                0 => 0,
                pthread => libc::pthread_get_stackaddr_np(pthread).addr(),
            }
        }
    }

    /// `T` is what the flavour has: numbers, for which any bits are right.
    fn info<T: Copy>(&self, flavour: i32) -> Option<T> {
        let mut info = MaybeUninit::<T>::uninit();
        let mut count = (size_of::<T>() / size_of::<libc::integer_t>()) as u32;
        // SAFETY: room for `count` words.
        let result =
            unsafe { libc::thread_info(self.0, flavour as u32, info.as_mut_ptr().cast(), &mut count) };
        // SAFETY: written if it succeeded.
        (result == KERN_SUCCESS).then(|| unsafe { info.assume_init() })
    }
}

/// All threads there are at one moment: task_threads (osfmk/kern/task.c takes the list under the
/// task's lock).
fn ports() -> io::Result<Vec<Port>> {
    let (mut list, mut count) = (std::ptr::null_mut(), 0);
    // SAFETY: room for the address of the list and its length.
    let result = unsafe { task_threads(mach_task_self(), &mut list, &mut count) };
    if result != KERN_SUCCESS {
        return Err(failed("task_threads", result));
    }
    // SAFETY: the kernel has put so many rights there, in memory of their own, which is given back
    // once.
    unsafe {
        let ports = std::slice::from_raw_parts(list, count as usize);
        let ports = ports.iter().map(|port| Port(*port)).collect();
        mach_vm_deallocate(
            mach_task_self(),
            list as u64,
            u64::from(count) * size_of::<libc::mach_port_t>() as u64,
        );
        Ok(ports)
    }
}

fn identified() -> io::Result<Vec<(i32, Port)>> {
    Ok(ports()?.into_iter().filter_map(|port| Some((port.id()?, port))).collect())
}

/// The thread of this number, if it is there.
fn find(thread: i32) -> Option<Port> {
    let found = identified().ok()?.into_iter().find(|(id, _)| *id == thread);
    found.map(|(_, port)| port)
}

/// A stopped thread's registers. Apple's processors have no scalable vectors outside their
/// streaming mode, in which no address is kept.
#[repr(C)]
struct Registers {
    general: arm_thread_state64_t,
    vectors: Vectors,
}

/// `arm_neon_state64_t` of mach/arm/_structs.h.
#[repr(C, align(16))]
struct Vectors {
    v: [u128; 32],
    status: [u32; 2],
}

impl Registers {
    fn none() -> Self {
        let vectors = Vectors { v: [0; 32], status: [0; 2] };
        Self { general: arm_thread_state64_t::new(), vectors }
    }

    /// Of a thread that is suspended.
    fn read(&mut self, port: &Port) -> kern_return_t {
        fn part<T>(port: &Port, flavour: thread_state_flavor_t, into: &mut T) -> kern_return_t {
            let mut count = (size_of::<T>() / size_of::<u32>()) as u32;
            // SAFETY: room for `count` words.
            unsafe { thread_get_state(port.0, flavour, std::ptr::from_mut(into).cast(), &mut count) }
        }
        match part(port, ARM_THREAD_STATE64, &mut self.general) {
            KERN_SUCCESS => part(port, ARM_NEON_STATE64, &mut self.vectors),
            error => error,
        }
    }
}

const _: () = assert!(size_of::<Vectors>() == 528 && offset_of!(Registers, vectors) == 272);

/// Stops each of these threads of the process, and not the calling one, one after the other, as
/// long as it is before `until`.
pub(crate) fn stop(threads: &[i32], look: Arc<dyn Look>, until: Instant) -> io::Result<Vec<Answer>> {
    let there = identified()?;
    let answer = |(index, &thread): (usize, &i32)| {
        let Some((_, port)) = there.iter().find(|(id, _)| *id == thread) else {
            return Answer::Gone;
        };
        if Instant::now() >= until { Answer::Silent } else { stop_one(index, port, &*look) }
    };
    Ok(threads.iter().enumerate().map(answer).collect())
}

fn stop_one(index: usize, port: &Port, look: &dyn Look) -> Answer {
    let mut registers = Registers::none();
    // Takes a lock, so it comes first.
    let stack_end = port.stack_end();
    let began = Instant::now();
    // SAFETY: a thread of this process that is not the calling one, and that goes on below.
    if unsafe { thread_suspend(port.0) } != KERN_SUCCESS {
        return Answer::Gone;
    }
    let seen = registers.read(port) == KERN_SUCCESS;
    let general = &registers.general;
    // libdispatch's threads are made by the kernel, which may keep one in store without any state
    // (bsd/pthread/pthread_workqueue.c, UT_WORKQ_NEW).
    let has_run = general.__pc != 0 || general.__sp != 0;
    if seen && has_run {
        let at = (&raw const registers).expose_provenance();
        let stopped = Stopped {
            registers: at..at + size_of::<Registers>(),
            stack_pointer: general.__sp as usize,
            red_zone: RED_ZONE,
            thread_pointer: stack_end,
            // Nobody but the thread itself can ask sigaltstack(2). On an alternate stack it is on
            // one that is not its own.
            in_handler: false,
        };
        look.look(index, &stopped);
    }
    // SAFETY: suspended above, once.
    let resumed = unsafe { thread_resume(port.0) };
    if !seen || resumed != KERN_SUCCESS {
        // It was being ended: a thread that is suspended can be terminated, and runs nothing any
        // more.
        return if port.id().is_none() { Answer::Gone } else { Answer::Silent };
    }
    if has_run { Answer::Looked(began.elapsed().max(Duration::from_nanos(1))) } else { Answer::NoCode }
}

/// The calling thread: pthread_threadid_np(3), the lower half.
pub(crate) fn gettid() -> i32 {
    let mut id = 0;
    // SAFETY: writes the number; 0 is the calling thread.
    unsafe { libc::pthread_threadid_np(0, &mut id) };
    id as i32
}

/// The first thread of the process, whose stack the kernel made: it starts where KERN_USRSTACK64
/// says.
pub(crate) fn is_main(thread: i32) -> bool {
    static MAIN: OnceLock<Option<i32>> = OnceLock::new();
    let main = MAIN.get_or_init(|| {
        let page = region::page::size();
        let end = super::regions::main_stack_end().ok()? as usize;
        let on_main_stack =
            |port: &Port| port.stack_end().next_multiple_of(page) == end.next_multiple_of(page);
        identified().ok()?.into_iter().find(|(_, port)| on_main_stack(port)).map(|(id, _)| id)
    });
    *main == Some(thread)
}

/// The threads of this process.
pub(crate) fn threads() -> io::Result<Vec<i32>> {
    let mut threads: Vec<i32> = identified()?.iter().map(|(id, _)| *id).collect();
    let there = threads.len();
    threads.sort_unstable();
    threads.dedup();
    if threads.len() == there { Ok(threads) } else { Err(io::Error::other("two threads have one number")) }
}

/// Whether these are all the threads there are. A list of the kernel's is never a part.
pub(crate) fn are_all(_threads: &[i32]) -> io::Result<bool> {
    Ok(true)
}

/// The name of a thread; empty if it is over. thread_info(THREAD_EXTENDED_INFO).
pub(crate) fn name(thread: i32) -> String {
    let info = find(thread).and_then(|port| port.info(libc::THREAD_EXTENDED_INFO));
    info.map_or_else(String::new, |info: libc::thread_extended_info| {
        let name: Vec<u8> = info.pth_name.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
        String::from_utf8_lossy(&name).into_owned()
    })
}

/// What keeps a thread from answering: nothing does, while there is time.
pub(crate) fn condition(thread: i32) -> Condition {
    if find(thread).is_some() { Condition::Unknown } else { Condition::NoCode }
}

/// Where the calling thread's stack ends: see [`Port::stack_end`]. What every system calls the
/// thread pointer here is for that.
pub(crate) fn thread_pointer() -> usize {
    // SAFETY: the calling thread, for which no lock is taken (libpthread src/pthread.c).
    unsafe { libc::pthread_get_stackaddr_np(libc::pthread_self()).addr() }
}
