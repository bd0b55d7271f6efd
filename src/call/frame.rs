//! Frames: a thread inside one generation. docs/dispatch.md has the argument.

use std::fmt;
use std::num::NonZero;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;

use midflight_dispatch::{Dispatcher, Pin, PinnedElsewhere, Share, ThreadHandle};

use crate::call::pause;
use crate::call::slots::{DECLARED, Slot};
use crate::call::versions;
use crate::platform::os::barrier::Barrier;
use crate::platform::os::{stop, thread};

/// The process's dispatcher. A static, because the threads' table words and the live table are.
pub(crate) static DISPATCH: Dispatcher<Made, Barrier> = Dispatcher::new(Barrier);

/// What the dispatcher keeps with a generation's table.
pub(crate) struct Made {
    /// How many changes it has: `publish/tables.rs` knows what that says.
    pub(crate) changes: u64,
    /// How far the table is from the list of declarations.
    bias: usize,
}

impl Made {
    /// `table` is where the generation's table is and stays.
    pub(crate) fn new(changes: u64, table: &[usize]) -> Self {
        let declared = DECLARED.static_slice().as_ptr().addr();
        Self { changes, bias: table.as_ptr().expose_provenance().wrapping_sub(declared) }
    }
}

/// A thread inside one generation: every module function called with it is that generation's, and
/// so is whatever those call in other modules. Its code stays mapped until the frame ends.
///
/// Belongs to the thread that opened it; [`share`](Self::share) lets others join. A frame within a
/// frame is in the same generation, and the thread leaves it when the last of them is dropped.
/// "Thread" is the operating system's: a fiber that moves to another thread, or lets another fiber
/// run on its own, must not do so inside a frame. Frames are not for signal handlers.
pub struct Frame {
    pin: Pin<'static, Made>,
    /// [`Made::bias`].
    bias: usize,
}

// A panic ends the frames that it leaves, and those that it does not are as they were.
impl UnwindSafe for Frame {}
impl RefUnwindSafe for Frame {}
impl UnwindSafe for SharedFrame {}
impl RefUnwindSafe for SharedFrame {}

impl Frame {
    /// Enters the current generation.
    ///
    /// # Safety
    ///
    /// A generation has been published.
    #[inline]
    pub(crate) unsafe fn open() -> Self {
        // SAFETY: the handle is of this thread and of DISPATCH.
        let pin = unsafe { DISPATCH.pin(&this_thread()) };
        Self { bias: pin.payload().bias, pin }
    }

    /// As [`open`](Self::open), on a thread that has had a frame before; None on others. For who
    /// has other things to do there before he goes on: it is without a call, so that what it is
    /// inlined in saves no registers.
    ///
    /// # Safety
    ///
    /// A generation has been published.
    #[doc(hidden)]
    #[inline(always)]
    pub unsafe fn open_again() -> Option<Self> {
        // SAFETY: the block is this thread's own.
        let record = unsafe { thread::block().as_ref() }.record.get()?;
        // SAFETY: put there by `register` on this thread, and taken away when the record is given
        // up.
        let thread = unsafe { ThreadHandle::from_raw(record) };
        // SAFETY: the handle is of this thread and of DISPATCH.
        let pin = unsafe { DISPATCH.pin(&thread) };
        Some(Self { bias: pin.payload().bias, pin })
    }

    /// What tells its thread from all others that have frames open.
    #[doc(hidden)]
    #[inline]
    pub fn thread(&self) -> NonZero<usize> {
        self.pin.thread()
    }

    /// What [`thread`](Self::thread) would say of a place that may hold no frame: whatever is there.
    ///
    /// # Safety
    ///
    /// The place is aligned, readable and initialised, and nobody changes it meanwhile.
    #[doc(hidden)]
    #[inline]
    pub unsafe fn thread_in(place: *const Self) -> usize {
        // SAFETY: the caller's promise is the one that it asks for.
        unsafe { Pin::thread_in(&raw const (*place).pin) }
    }

    /// The generation it is in. The runtime starts with the empty generation 0, and each
    /// publication makes the next. A frame that is opened while the calls of modules wait for a
    /// publication ([`LoadOptions::carry`](crate::LoadOptions::carry)) is in that publication's; if
    /// it comes to nothing, what this generation has is what the one before has.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.pin.number()
    }

    /// The version of a module in this generation, counted from 1 in the order of loading; None if
    /// it is not loaded. Takes a lock, for a moment: for reports, not for every call. It waits when
    /// a call would: see [`LoadOptions::carry`](crate::LoadOptions::carry).
    pub fn version(&self, module: &str) -> Option<u64> {
        // What this frame's calls go on to is known when the pause is over.
        if pause::PAUSE.is_table(self.pin.table().as_ptr().addr()) {
            pause::wait_until_over();
        }
        versions::find(module, self.generation())
    }

    /// Lets other threads join this frame's generation.
    #[inline]
    pub fn share(&self) -> SharedFrame {
        SharedFrame { share: self.pin.share() }
    }

    /// The address behind a declared slot in this generation.
    ///
    /// The list of declarations has words as tables have, and the first slots in its order; so a
    /// declaration's own address says where its slot's entry is, and this is one load.
    ///
    /// # Safety
    ///
    /// The declaration is in [`DECLARED`].
    #[doc(hidden)]
    #[inline(always)]
    pub unsafe fn target(&self, declaration: &'static &'static Slot) -> *const () {
        let entry = self.bias.wrapping_add((&raw const *declaration).addr());
        // SAFETY: the entry of its slot in this generation's table, whose provenance was exposed;
        // every table covers the declared slots, and this one is there as long as the frame.
        unsafe { *std::ptr::with_exposed_provenance::<*const ()>(entry) }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("generation", &self.generation()).finish()
    }
}

/// A frame's generation, for other threads to join. While one is held the generation's code stays
/// mapped.
#[derive(Clone)]
pub struct SharedFrame {
    share: Share<'static, Made>,
}

impl SharedFrame {
    /// Enters the shared generation on this thread.
    ///
    /// # Errors
    ///
    /// If this thread has a frame open in another generation.
    #[inline]
    pub fn join(&self) -> Result<Frame, PinnedElsewhere> {
        // SAFETY: the handle is of this thread and of DISPATCH, as the share is.
        let pin = unsafe { DISPATCH.join(&this_thread(), &self.share) }?;
        Ok(Frame { bias: pin.payload().bias, pin })
    }

    /// The shared generation's number.
    pub fn generation(&self) -> u64 {
        self.share.number()
    }
}

impl fmt::Debug for SharedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedFrame").field("generation", &self.generation()).finish()
    }
}

/// What [`Frame::thread`] is of the calling thread's frames; None if it has none open, or had none
/// yet.
#[inline]
pub fn this_opener() -> Option<NonZero<usize>> {
    // SAFETY: the block is this thread's own.
    unsafe { thread::block().as_ref() }.record.get().map(NonNull::addr)
}

/// How many frames this thread has open.
pub fn open_frames() -> usize {
    // SAFETY: the block is this thread's own.
    let record = unsafe { thread::block().as_ref() }.record.get();
    // SAFETY: this thread's record of DISPATCH, which is static.
    record.map_or(0, |record| unsafe { ThreadHandle::<Made>::from_raw(record).depth() })
}

/// Ends the frames that this thread has opened since it had `depth` of them open: what would have
/// ended them was jumped over.
///
/// # Safety
///
/// Those frames are not used and not ended any more.
pub unsafe fn end_frames(depth: usize) {
    // SAFETY: the block is this thread's own.
    if let Some(record) = unsafe { thread::block().as_ref() }.record.get() {
        // SAFETY: this thread's record of DISPATCH, which is static; the caller promises that
        // nobody ends those frames.
        unsafe { ThreadHandle::<Made>::from_raw(record).end_pins(depth) };
    }
}

#[inline]
fn this_thread() -> ThreadHandle<Made> {
    // SAFETY: the block is this thread's own.
    let record = unsafe { thread::block().as_ref() }.record.get();
    match record {
        // SAFETY: put there by `register` on this thread, and taken away when the record is given
        // up.
        Some(record) => unsafe { ThreadHandle::from_raw(record) },
        None => register(),
    }
}

/// The generation that this thread has a frame open in, and what that has behind a slot: None if
/// the slot is newer.
pub(crate) fn in_open_frame(slot: u32) -> Option<(u64, Option<usize>)> {
    // SAFETY: the block is this thread's own.
    let record = unsafe { thread::block().as_ref() }.record.get()?;
    // SAFETY: this thread's record of DISPATCH, which is static; no frame ends in here.
    let handle = unsafe { ThreadHandle::<Made>::from_raw(record) };
    // SAFETY: as above.
    let generation = unsafe { handle.generation() }?;
    Some((generation.number(), generation.table().get(slot as usize).copied()))
}

/// Gives the record back when the thread exits.
struct Registration;

thread_local! {
    static REGISTRATION: Registration = const { Registration };
}

impl Drop for Registration {
    fn drop(&mut self) {
        release_record();
    }
}

/// At once, or when the frame that is still open (in a thread-local that is destroyed later) ends.
pub(crate) fn release_record() {
    // SAFETY: the block is this thread's own.
    if let Some(record) = unsafe { thread::block().as_ref() }.record.get() {
        // SAFETY: this thread's record of DISPATCH, which is static. A thread-local's destructor
        // that opens a frame after this registers anew, unless it does so within the open frame.
        unsafe { ThreadHandle::<Made>::from_raw(record).release() };
    }
}

/// A thread's first frame.
#[cold]
fn register() -> ThreadHandle<Made> {
    // SAFETY: the block lives as long as its thread, and after the record is given up nothing
    // touches it.
    let handle = unsafe { DISPATCH.register(thread::block(), stop::gettid() as u32) };
    // Destroyed at the thread's end, if it is used before that. In a thread whose thread-locals are
    // being destroyed already, the caller is about to open this thread's only frame, whose end
    // gives the record up.
    if REGISTRATION.try_with(|_| ()).is_err() {
        // SAFETY: DISPATCH is static.
        unsafe { handle.give_up_after_pin() };
    }
    handle
}
