//! Whether any thread of the process may be inside given text: without the host's help, and without
//! anything on the path of calls.
//!
//! [`scan`] stops each thread for a moment (`os::stop`) and has it look for addresses of the text
//! in its registers and on its stack: word by aligned word, taking every number that could be such
//! an address for one. It is asked of versions that are no longer current, of a module of which a
//! trampoline has escaped; and best of all their memory, variables and constants too, as that goes
//! with the text.
//!
//! # Why that is enough
//!
//! Let a version be replaced, collected (no frame can be inside), and its slots point elsewhere in
//! the live table, all before the pass begins.
//!
//! 1. *Where addresses come from.* What the host got is a trampoline's address, which is in no
//!    version. A trampoline looks its target up in the live table at each call, and holds it in a
//!    register only. So a thread has an address of the old text only if it looked it up before the
//!    publication, and has not finished that call; or had it from the old version itself, whose
//!    code was then running on this thread or on one that passed it on. `Runtime::load` forbids
//!    versions to leave their addresses with anybody for longer than a frame, or than they are
//!    current. While the old code runs, its return addresses are on the thread's stack or in a
//!    register, as is what it works with.
//! 2. *A thread that is seen without an address has none when the pass ends.* The live table has
//!    none any more: the signal comes after the publication, so what the thread loads after its
//!    stop is new. It may be lent one, through memory, by a call of old code on a thread that is
//!    not yet seen; but that one is still in the call when it is seen, or has had the address back.
//! 3. *Every thread is seen.* Threads are listed again until a complete list has none that is new.
//!    A thread that is in no list was started after the last one, by a thread that had been seen
//!    without an address, or by one that such a thread had started, and so has none. A thread that
//!    was in a list and is over has none either.
//! 4. *All that a thread has is seen.* The kernel pushes all registers of a stopped thread, the
//!    program counter among them, for the handler; what is below in its calls is on its own stack,
//!    from the interrupted stack pointer (the red zone below it included) to the end. A thread that
//!    is elsewhere is not taken for seen. The calling thread has pushed its own before it learned
//!    the ranges ([`outside`]).
//!
//! # What is not seen
//!
//! - Pointers in memory: on the heap, in statics, in thread-locals. A callback that the host keeps
//!   is there, and what a C++ exception knows of its type and destructor. The contract forbids it;
//!   a module that does it must stay retained, or have it taken back first.
//! - Suspended fibers and coroutines, whose stacks are memory like any other, unless the host has
//!   told of them ([`fibers`]). A thread that is *on* one of which it has not is
//!   [`Why::OtherStack`], so the text is kept while it is; unless the fiber's stack is an array on
//!   the thread's own stack, whose newer frames are then not seen. The same holds for a handler on
//!   an alternate stack that is such an array and was registered with SS_AUTODISARM.
//! - Addresses that are not stored as aligned words: taken to pieces, or turned by the program
//!   (setjmp's buffers are).
//! - What other processes know that share this one's memory, other than by vfork, whose parent does
//!   not answer.
//!
//! Nothing that is not seen makes the answer a yes: a thread that did not answer, or cannot be
//! looked at, is [`Scan::missed`]. What is seen may be more than there is: a dead word on a stack,
//! a number like an address. The next pass may find it gone. Under a user-mode emulator no pass is
//! clear: the emulator has a thread among ours that blocks all signals.
//!
//! # What it costs
//!
//! A thread is stopped for the time it takes to read its used stack ([`Scan::longest_stop`]: about
//! a nanosecond for a word), plus that of a signal. The caller waits for the slowest, at most
//! `limit`, and as long again if one is kept in the midst of looking. Blocking calls that a signal
//! interrupts whatever its flags fail with EINTR in the host's threads: see `os::stop`.

mod fibers;
mod stacks;
mod text;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::platform::arch::tags;
use crate::platform::os::stop::{self, Answer, Condition, Look, Memory, Stopped};
use crate::platform::threads::Thread;
pub use fibers::FiberStack;
use fibers::Fibers;
pub(crate) use fibers::add as add_stack;
use stacks::Stacks;
use text::Text;

/// How long a caller waits for the threads, unless it knows better: some times what the scheduler
/// lets a thread wait that is to run.
pub(crate) const LIMIT: Duration = Duration::from_millis(20);

/// Why nothing is known of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    /// It blocks the signal.
    BlocksSignal,
    /// It is in a system call that no signal interrupts.
    Uninterruptible,
    /// A debugger or SIGSTOP keeps it from running.
    Halted,
    /// It has not come to run in time.
    Silent,
    /// Too many signals are pending in the system to send it one.
    Unsent,
    /// It is in a signal handler on an alternate stack.
    InHandler,
    /// It is not on its own stack: on a fiber's, or one that was not made by pthread_create.
    OtherStack,
    /// It uses more than 64 MiB of its stack.
    TooDeep,
}

/// What a pass found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// How many threads were looked at, the calling one included.
    pub(crate) threads: usize,
    /// The longest that one was in its handler.
    pub(crate) longest_stop: Duration,
    /// Who may be inside which of the ranges.
    pub(crate) hits: Vec<Hit>,
    /// Where a stack of a fiber is that has an address of which of the ranges.
    pub(crate) suspended: Vec<(Range<usize>, usize)>,
    /// Of whom nothing is known.
    pub(crate) missed: Vec<(Thread, Why)>,
    /// Whether these were all threads. If not, they came and went faster than they could be listed.
    pub(crate) complete: bool,
}

/// A thread may be inside a range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hit {
    pub(crate) thread: Thread,
    /// Which of those that were asked for.
    pub(crate) range: usize,
    /// The first address that was found, of whichever range: in a register, or innermost on the
    /// stack. Nothing is known of others' (a fiber's).
    pub(crate) at: Option<usize>,
}

impl Scan {
    /// Whether no thread can be inside a range: every thread was seen, and none has an address of
    /// it, nor has a fiber's stack.
    pub(crate) fn is_clear(&self, range: usize) -> bool {
        self.complete
            && self.missed.is_empty()
            && self.hits.iter().all(|hit| hit.range != range)
            && self.suspended.iter().all(|(_, found)| *found != range)
    }
}

/// What the calling thread has outside of [`outside`]. It stays on that thread.
pub(crate) struct Caller<'s>(&'s Stopped, PhantomData<*const ()>);

/// Runs what works with the addresses that are to be searched for: else the calling thread would
/// find its own. What it has on its stack and in its registers by now is looked at; what the
/// function puts there is not. So the function gets no such address from outside, and whoever is
/// further out is not in the midst of working with one.
pub(crate) fn outside<T>(run: impl FnOnce(&Caller<'_>) -> T) -> T {
    stop::with_registers_saved(|stopped| run(&Caller(stopped, PhantomData)))
}

/// Overwrites what calls before this one have left on the stack: with addresses of versions in it,
/// functions that are called later from the same depth would seem to have them, in the parts of
/// their frames that they have not written yet.
///
/// So much is deeper than a load of ours goes. Clearing it takes 0.5 us, so it is done only where
/// somebody may look.
#[inline(never)]
pub fn forget_stack() {
    const DEPTH: usize = 32 << 10;
    std::hint::black_box(&mut [0_u8; DEPTH]);
}

/// Looks at every thread of the process. The ranges do not overlap. One pass at a time: others
/// wait.
///
/// # Errors
///
/// If the system has no means for it, or refuses them.
pub(crate) fn scan(caller: &Caller<'_>, ranges: &[Range<usize>], limit: Duration) -> io::Result<Scan> {
    /// Threads that did not answer the pass before. They are asked again only if they can answer:
    /// else each pass would wait for them in vain, and queue them one more signal.
    static SILENT: Mutex<Option<HashSet<i32>>> = Mutex::new(None);
    let mut silent = SILENT.lock().unwrap_or_else(PoisonError::into_inner);
    let silent = silent.get_or_insert_default();
    let mut scan = Scan::default();

    let this = stop::gettid();
    let fibers = fibers::all();
    let search = Arc::new(Search::new(ranges, &[this], &fibers)?);
    scan.read(&fibers, &[], &search, caller)?;
    // Reading the stacks of fibers takes as long as they are large.
    let until = Instant::now() + limit;
    let mut left = Vec::new();
    search.look(0, &Stopped { in_handler: stop::is_in_handler(), ..caller.0.clone() });
    scan.note(&[this], &search, |_| Answer::Looked(Duration::ZERO), silent, &mut left);
    let mut done = HashSet::from([this]);
    loop {
        let listed = stop::threads()?;
        let mut new: Vec<i32> = listed.iter().copied().filter(|thread| !done.contains(thread)).collect();
        if new.is_empty() && stop::are_all(&listed)? {
            scan.complete = true;
            silent.retain(|thread| listed.contains(thread));
            scan.read(&fibers, &left, &search, caller)?;
            break;
        }
        // Late: what is in no list was not seen.
        if Instant::now() >= until {
            break;
        }
        new.truncate(stop::BATCH);
        done.extend(&new);
        new.retain(|&thread| !silent.contains(&thread) || scan.can_answer(thread));
        if !new.is_empty() {
            // The mappings are read after the list, so the threads' stacks are among them.
            let search = Arc::new(Search::new(ranges, &new, &fibers)?);
            let answers = stop::stop(&new, search.clone(), until)?;
            scan.note(&new, &search, |index| answers[index], silent, &mut left);
        }
    }
    Ok(scan)
}

impl Scan {
    /// Reads the stacks of fibers, and those that threads have left for them.
    fn read(
        &mut self,
        fibers: &Fibers,
        left: &[(Thread, Range<usize>)],
        search: &Search,
        caller: &Caller<'_>,
    ) -> io::Result<()> {
        if fibers.is_empty() {
            return Ok(());
        }
        let memory = Memory::open()?;
        let find = |stack: &Range<usize>| {
            let mut found = HashSet::new();
            memory.words(stack.clone(), |word| found.extend(search.text.find(word)))?;
            io::Result::Ok(found)
        };
        let word = |at: usize| {
            let mut word = None;
            memory.words(at..at + size_of::<usize>(), |read| word = Some(read)).ok()?;
            word
        };
        for stack in fibers.in_use(caller.0.stack_pointer, word) {
            let found = find(&stack)?.into_iter().map(|range| (stack.clone(), range));
            let new: Vec<_> = found.filter(|found| !self.suspended.contains(found)).collect();
            self.suspended.extend(new);
        }
        for (thread, stack) in left {
            self.hits.extend(find(stack)?.into_iter().map(|range| Hit {
                thread: thread.clone(),
                range,
                at: None,
            }));
        }
        Ok(())
    }

    /// Whether a thread that was silent should be asked again. If not, it is noted as missed unless
    /// it runs no code.
    fn can_answer(&mut self, id: i32) -> bool {
        match why_silent(id) {
            Some(Why::Silent) => return true,
            Some(why) => self.missed.push((Thread::new(id), why)),
            None => {}
        }
        false
    }

    /// Notes what came of looking at threads.
    fn note(
        &mut self,
        threads: &[i32],
        search: &Search,
        answer: impl Fn(usize) -> Answer,
        silent: &mut HashSet<i32>,
        left: &mut Vec<(Thread, Range<usize>)>,
    ) {
        for (index, &id) in threads.iter().enumerate() {
            match answer(index) {
                Answer::Gone => continue,
                Answer::Looked(time) => {
                    self.threads += 1;
                    self.longest_stop = self.longest_stop.max(time);
                    silent.remove(&id);
                    match search.left(index) {
                        Some(Ok(stack)) => left.push((Thread::new(id), stack)),
                        Some(Err(why)) => self.missed.push((Thread::new(id), why)),
                        None => {}
                    }
                    let found = search.found(index);
                    if found.is_ok_and(|mut found| found.next().is_none()) {
                        continue;
                    }
                    let thread = Thread::new(id);
                    match search.found(index) {
                        Ok(ranges) => {
                            let at = search.first(index);
                            self.hits.extend(ranges.map(|range| Hit { thread: thread.clone(), range, at }))
                        }
                        Err(why) => self.missed.push((thread, why)),
                    }
                }
                Answer::Unsent => self.missed.push((Thread::new(id), Why::Unsent)),
                Answer::NoCode => drop(silent.insert(id)),
                Answer::Silent => {
                    silent.insert(id);
                    self.missed.extend(why_silent(id).map(|why| (Thread::new(id), why)));
                }
            }
        }
    }
}

/// None if the thread runs no code of the process.
fn why_silent(id: i32) -> Option<Why> {
    match stop::condition(id) {
        Condition::NoCode => None,
        Condition::BlocksSignal => Some(Why::BlocksSignal),
        Condition::Uninterruptible => Some(Why::Uninterruptible),
        Condition::Halted => Some(Why::Halted),
        Condition::Unknown => Some(Why::Silent),
    }
}

/// What stopped threads do, and what they found. All memory that they need is here before they are
/// stopped.
struct Search {
    text: Text,
    stacks: Stacks,
    /// Stacks of fibers.
    fibers: Box<[Range<usize>]>,
    /// Which of the threads is the first of the process.
    main: Option<usize>,
    /// For each thread whether it could look: 0, or a number of [`REASONS`]. Relaxed, as the next:
    /// the requester reads after the thread's answer.
    missed: Box<[AtomicU8]>,
    /// For each thread its thread pointer, if it is on a fiber's stack, and 0 otherwise.
    left: Box<[AtomicUsize]>,
    /// For each thread the first address that it found, 0 before.
    first: Box<[AtomicUsize]>,
    /// For each thread a bit for each range.
    found: Box<[AtomicU64]>,
}

const REASONS: [Why; 3] = [Why::InHandler, Why::OtherStack, Why::TooDeep];

impl Search {
    fn new(ranges: &[Range<usize>], threads: &[i32], fibers: &Fibers) -> io::Result<Self> {
        let stacks = Stacks::parse(&stop::mappings()?);
        let words = threads.len() * ranges.len().div_ceil(64);
        Ok(Self {
            text: Text::new(ranges, stacks.highest())?,
            stacks,
            fibers: fibers.places(),
            main: threads.iter().position(|&thread| stop::is_main(thread)),
            left: threads.iter().map(|_| AtomicUsize::new(0)).collect(),
            missed: threads.iter().map(|_| AtomicU8::new(0)).collect(),
            first: threads.iter().map(|_| AtomicUsize::new(0)).collect(),
            found: std::iter::repeat_with(|| AtomicU64::new(0)).take(words).collect(),
        })
    }

    /// The ranges that the `index`-th thread may be inside.
    fn found(&self, index: usize) -> Result<impl Iterator<Item = usize>, Why> {
        if let Some(&why) =
            REASONS.get(usize::from(self.missed[index].load(Ordering::Relaxed)).wrapping_sub(1))
        {
            return Err(why);
        }
        let row = self.row(index);
        let bit = |range: usize| row[range / 64].load(Ordering::Relaxed) >> (range % 64) & 1;
        Ok((0..self.text.len()).filter(move |&range| bit(range) == 1))
    }

    /// The first address that the `index`-th thread has found.
    fn first(&self, index: usize) -> Option<usize> {
        Some(self.first[index].load(Ordering::Relaxed)).filter(|at| *at != 0)
    }

    /// The stack that a thread uses: its own, or a fiber's.
    fn stack_of(&self, index: usize, thread: &Stopped) -> Result<Range<usize>, Why> {
        let at = thread.stack_pointer;
        self.stacks.rest(thread, self.main == Some(index)).or_else(|why| {
            let fiber = self.fibers.iter().find(|fiber| why == Why::OtherStack && fiber.contains(&at));
            let fiber = fiber.ok_or(why)?;
            self.left[index].store(thread.thread_pointer, Ordering::Relaxed);
            Ok(at.saturating_sub(thread.red_zone).max(fiber.start)..fiber.end)
        })
    }

    /// The thread's own stack, if it is on a fiber's.
    fn left(&self, index: usize) -> Option<Result<Range<usize>, Why>> {
        let thread_pointer = Some(self.left[index].load(Ordering::Relaxed)).filter(|at| *at != 0)?;
        Some(self.stacks.own(thread_pointer, self.main == Some(index)))
    }

    fn row(&self, index: usize) -> &[AtomicU64] {
        let words = self.text.len().div_ceil(64);
        &self.found[index * words..][..words]
    }
}

impl Look for Search {
    fn look(&self, index: usize, thread: &Stopped) {
        match self.stack_of(index, thread) {
            Err(why) => {
                let reason = REASONS.iter().position(|&reason| reason == why).map_or(0, |at| at + 1);
                self.missed[index].store(reason as u8, Ordering::Relaxed);
            }
            // A stack may have tags, and the addresses by which it is read here have none.
            Ok(stack) => tags::ignored(|| {
                for part in [&thread.registers, &stack] {
                    // SAFETY: the registers that the kernel has pushed, and a part of this thread's
                    // own stack that it uses, or of a fiber's (the host's word that it stays).
                    unsafe { words(part) }.for_each(|word| {
                        for range in self.text.find(word) {
                            self.row(index)[range / 64].fetch_or(1 << (range % 64), Ordering::Relaxed);
                            if self.first[index].load(Ordering::Relaxed) == 0 {
                                self.first[index].store(self.text.plain(word), Ordering::Relaxed);
                            }
                        }
                    });
                }
            }),
        }
    }
}

/// The aligned words of a part of memory.
///
/// # Safety
///
/// It is readable, rounded up to words at its end.
unsafe fn words(part: &Range<usize>) -> impl Iterator<Item = usize> {
    let word = |at: usize| {
        let at: *const AtomicUsize = std::ptr::with_exposed_provenance(at);
        // SAFETY: aligned and readable. Others may write it: Relaxed, for a value that was there at
        // some time.
        unsafe { &*at }.load(Ordering::Relaxed)
    };
    (part.start & !(size_of::<usize>() - 1)..part.end).step_by(size_of::<usize>()).map(word)
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BlocksSignal => "blocks the signal by which threads are stopped",
            Self::Uninterruptible => "is in a system call that no signal interrupts",
            Self::Halted => "is halted by a debugger or a signal",
            Self::Silent => "did not come to run in time",
            Self::Unsent => "could not be sent a signal, as too many are pending (ulimit -i)",
            Self::InHandler => "is in a signal handler on an alternate stack",
            Self::OtherStack => "is on a stack that is not its own, such as a fiber's",
            Self::TooDeep => "uses more than 64 MiB of stack",
        })
    }
}
