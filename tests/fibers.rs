//! Fibers that are suspended inside old versions, on stacks of which the host has told.
#![cfg(target_os = "linux")]

mod support;

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::{MaybeUninit, transmute};
use std::path::PathBuf;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use libc::ucontext_t;
use midflight::{FiberStack, Quiescence, Runtime};
use support::looks::{elsewhere, look};
use support::*;

/// `job` calls what it is given, and then returns its version's number.
fn fibered(shop: &Workshop, version: u32) -> PathBuf {
    let source = format!(
        "int job(void (*wait)(void *), void *of) {{
             volatile int number = {version};
             wait(of);
             return number;
         }}"
    );
    shop.module("fibered", version, &source)
}

type Job = extern "C" fn(extern "C" fn(*mut c_void), *mut c_void) -> i32;

/// Its trampoline.
fn job(rt: Runtime) -> Job {
    // SAFETY: its type.
    unsafe { transmute::<NonNull<()>, Job>(rt.symbol("fibered", "job").unwrap()) }
}

fn load(rt: Runtime, path: &PathBuf) {
    // SAFETY: the function is as declared.
    elsewhere(|| unsafe { rt.load(path) }).unwrap();
}

fn because(looked: &Quiescence, text: &str) -> bool {
    looked.kept.iter().flat_map(|kept| &kept.because).any(|why| why.contains(text))
}

/// A fiber, and who resumed it.
struct Fiber {
    stack: Box<[u8]>,
    itself: UnsafeCell<MaybeUninit<ucontext_t>>,
    resumer: UnsafeCell<MaybeUninit<ucontext_t>>,
    run: fn(&Fiber),
}

// SAFETY: a fiber moves from thread to thread, and one at a time has it.
unsafe impl Sync for Fiber {}

impl Fiber {
    fn new(run: fn(&Fiber)) -> Box<Self> {
        let fiber = Box::new(Self {
            stack: vec![0; 256 << 10].into(),
            itself: UnsafeCell::new(MaybeUninit::zeroed()),
            resumer: UnsafeCell::new(MaybeUninit::zeroed()),
            run,
        });
        extern "C" fn begin(high: u32, low: u32) {
            // SAFETY: the fiber's address, in halves, as makecontext(3) passes ints.
            let fiber: &Fiber =
                unsafe { &*ptr::with_exposed_provenance((high as usize) << 32 | low as usize) };
            (fiber.run)(fiber);
            fiber.suspend();
            unreachable!("it is not resumed any more");
        }
        let at = (&raw const *fiber).expose_provenance();
        let context = fiber.itself.get().cast::<ucontext_t>();
        // SAFETY: a context that is made here, with a stack that is as old as it.
        unsafe {
            libc::getcontext(context);
            (*context).uc_stack.ss_sp = fiber.stack.as_ptr().cast_mut().cast();
            (*context).uc_stack.ss_size = fiber.stack.len();
            (*context).uc_link = ptr::null_mut();
            let begin = transmute::<extern "C" fn(u32, u32), extern "C" fn()>(begin);
            libc::makecontext(context, begin, 2, (at >> 32) as u32, at as u32);
        }
        fiber
    }

    fn resume(&self) {
        // SAFETY: one thread at a time has the fiber, and it is suspended.
        unsafe { libc::swapcontext(self.resumer.get().cast(), self.itself.get().cast()) };
    }

    fn suspend(&self) {
        // SAFETY: on the fiber, which was resumed.
        unsafe { libc::swapcontext(self.itself.get().cast(), self.resumer.get().cast()) };
    }

    /// Where its stack pointer is kept while it is suspended.
    fn stack_pointer(&self) -> NonNull<*const ()> {
        let context = self.itself.get().cast::<ucontext_t>();
        // SAFETY: a field of a context.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            let at = (&raw mut (*context).uc_mcontext.gregs[libc::REG_RSP as usize]).cast();
            #[cfg(target_arch = "aarch64")]
            let at = (&raw mut (*context).uc_mcontext.sp).cast();
            NonNull::new(at).unwrap()
        }
    }

    /// Tells the runtime of it, and of what the switch has elsewhere: where the fiber goes on.
    fn tell(&self, rt: Runtime, stack_pointer: bool) -> [FiberStack; 2] {
        let stack_pointer = stack_pointer.then(|| self.stack_pointer());
        let context = self.itself.get().cast::<u8>().cast_const();
        // SAFETY: the fiber outlives what this returns, and stands still while the runtime looks.
        unsafe {
            [
                rt.add_stack(self.stack.as_ptr_range(), stack_pointer),
                rt.add_stack(context..context.add(size_of::<ucontext_t>()), None),
            ]
        }
    }

    fn as_argument(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

extern "C" fn wait(fiber: *mut c_void) {
    // SAFETY: a fiber's address.
    unsafe { &*fiber.cast::<Fiber>() }.suspend();
}

static RETURNED: AtomicU32 = AtomicU32::new(0);

/// Calls the module, and is suspended in it.
fn in_module(fiber: &Fiber) {
    let job = job(Runtime::start().unwrap());
    RETURNED.store(job(wait, fiber.as_argument()) as u32, Ordering::SeqCst);
}

#[test]
fn a_fiber_that_is_suspended_in_a_version_keeps_it() {
    let (rt, shop, _turn) = start("fiber");
    if is_macho() {
        return;
    }
    for stack_pointer in [false, true] {
        RETURNED.store(0, Ordering::SeqCst);
        load(rt, &fibered(&shop, 1));
        let fiber = Fiber::new(in_module);
        let told = fiber.tell(rt, stack_pointer);
        elsewhere(|| fiber.resume());
        load(rt, &fibered(&shop, 2));
        let looked = look(rt, |looked| because(looked, "the stack of a fiber"));
        assert_eq!((looked.collected.freed, looked.collected.retained), (0, 1), "{looked:?}");
        elsewhere(|| fiber.resume());
        assert_eq!(RETURNED.load(Ordering::SeqCst), 1);
        if stack_pointer && !is_emulated() {
            // What the call has left below its end counts no more.
            look(rt, |looked| looked.collected.retained == 0);
        }
        drop(told);
        if !is_emulated() {
            look(rt, |looked| looked.collected.retained == 0);
        }
        elsewhere(|| rt.unload("fibered").unwrap());
        // SAFETY: no thread and no fiber is inside.
        assert_eq!(unsafe { rt.collect_escaped() }.unwrap().old_bytes, 0);
    }
}

/// What a thread that is on a fiber says, and is told.
static STATE: AtomicU32 = AtomicU32::new(0);

/// Lets the thread go, also when the test fails: it would wait for ever for its end.
struct Go;

impl Drop for Go {
    fn drop(&mut self) {
        STATE.store(2, Ordering::SeqCst);
    }
}

fn spin(_: &Fiber) {
    STATE.store(1, Ordering::SeqCst);
    while STATE.load(Ordering::SeqCst) != 2 {
        std::hint::spin_loop();
    }
}

extern "C" fn run_fiber(fiber: *mut c_void) {
    // SAFETY: a fiber's address.
    unsafe { &*fiber.cast::<Fiber>() }.resume();
}

#[test]
fn a_thread_on_a_fiber_is_looked_at_with_its_own_stack() {
    let (rt, shop, _turn) = start("on-a-fiber");
    if is_macho() {
        return;
    }
    for within_module in [false, true] {
        STATE.store(0, Ordering::SeqCst);
        load(rt, &fibered(&shop, 3));
        elsewhere(|| job(rt));
        thread::scope(|scope| {
            // The thread's own, as the fiber is.
            let (told, tell) = std::sync::mpsc::channel();
            let thread = scope.spawn(move || {
                let fiber = Fiber::new(spin);
                let stack = fiber.tell(rt, true);
                if within_module {
                    assert_eq!(job(rt)(run_fiber, fiber.as_argument()), 3);
                } else {
                    fiber.resume();
                }
                drop(stack);
                told.send(()).unwrap();
            });
            while STATE.load(Ordering::SeqCst) != 1 {
                thread::yield_now();
            }
            let go = Go;
            load(rt, &fibered(&shop, 4));
            if within_module {
                let looked = look(rt, |looked| because(looked, "has an address of it"));
                assert_eq!((looked.collected.freed, looked.collected.retained), (0, 1), "{looked:?}");
            } else if !is_emulated() {
                look(rt, |looked| looked.collected.retained == 0);
            }
            drop(go);
            tell.recv().unwrap();
            thread.join().unwrap();
        });
        elsewhere(|| rt.unload("fibered").unwrap());
        // SAFETY: no thread and no fiber is inside.
        assert_eq!(unsafe { rt.collect_escaped() }.unwrap().old_bytes, 0);
    }
}
