//! The signal that stops a thread: which it is, who gets it, and what comes of it.

use super::*;

/// Has this thread block every signal, and returns what it blocked before.
pub(super) fn block_all() -> libc::sigset_t {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: writes both sets, and this thread's mask.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        assert_eq!(libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()), 0);
        before.assume_init()
    }
}

#[test]
fn signals_that_cannot_be_queued() {
    let _alone = alone();
    pass(Vec::new);
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads the limit, lowers it, and has it as before.
    let scan = unsafe {
        libc::getrlimit(libc::RLIMIT_SIGPENDING, &mut before);
        let none = libc::rlimit { rlim_cur: 0, ..before };
        assert_eq!(libc::setrlimit(libc::RLIMIT_SIGPENDING, &none), 0);
        let scan = pass(|| vec![text(25)]);
        assert_eq!(libc::setrlimit(libc::RLIMIT_SIGPENDING, &before), 0);
        scan
    };
    assert!(!scan.is_clear(0) && scan.missed.iter().any(|missed| missed.1 == Why::Unsent), "{scan:?}");
    let after = pass(|| vec![text(25)]);
    assert!(is_emulated() || after.is_clear(0), "{after:?}");
}

#[test]
fn a_signal_that_somebody_uses_is_left_alone() {
    extern "C" fn theirs(_: c_int) {}
    let _alone = alone();
    pass(Vec::new);
    let ours = stop::signal().unwrap();
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    let mut now = before;
    // SAFETY: a handler of the right type, and plain numbers.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = theirs as *const () as usize;
        assert_eq!(libc::sigaction(ours, &action, before.as_mut_ptr()), 0);
        let busy = Busy::new(|flags| hold(Where::Stack, flags, hidden(22), !0));
        assert_eq!(hits(&pass(|| vec![text(22)]), busy.id), [0]);
        assert_ne!(stop::signal(), Some(ours));
        assert_eq!(libc::sigaction(ours, before.as_ptr(), now.as_mut_ptr()), 0);
        assert_eq!(now.assume_init().sa_sigaction, theirs as *const () as usize);
    }
}

#[test]
fn errno_is_as_it_was() {
    struct Spoils;
    impl Look for Spoils {
        fn look(&self, _: usize, _: &Stopped) {
            // SAFETY: the thread's own.
            unsafe { *libc::__errno_location() = libc::EBADF };
        }
    }
    static SEEN: AtomicI32 = AtomicI32::new(0);
    let _alone = alone();
    let busy = Busy::new(|flags| {
        // SAFETY: the thread's own.
        unsafe { *libc::__errno_location() = libc::EXDEV };
        flags.is_ready();
        flags.wait();
        // SAFETY: as above.
        SEEN.store(unsafe { *libc::__errno_location() }, Ordering::Relaxed);
    });
    let answers = stop::stop(&[busy.id], Arc::new(Spoils), Instant::now() + AMPLE).unwrap();
    assert!(matches!(answers[..], [Answer::Looked(time)] if time > Duration::ZERO), "{answers:?}");
    drop(busy);
    assert_eq!(SEEN.load(Ordering::Relaxed), libc::EXDEV);
}

#[test]
fn an_answer_that_comes_late_does_nothing() {
    struct Counts(Arc<AtomicUsize>);
    impl Look for Counts {
        fn look(&self, _: usize, _: &Stopped) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let _alone = alone();
    let busy = Busy::new(|flags| {
        let before = block_all();
        flags.is_ready();
        flags.wait();
        // SAFETY: the mask that was. What is pending comes now.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) };
    });
    let looked = Arc::new(AtomicUsize::new(0));
    let look = Arc::new(Counts(looked.clone()));
    let answers = stop::stop(&[busy.id], look.clone(), Instant::now() + Duration::from_millis(5)).unwrap();
    assert_eq!(answers, [Answer::Silent]);
    assert_eq!(Arc::strong_count(&look), 1, "the pass was kept");
    drop(busy);
    assert_eq!(looked.load(Ordering::Relaxed), 0);
    // No thread has this id: one that is over is gone, not silent.
    assert_eq!(stop::stop(&[i32::MAX], look, Instant::now() + AMPLE).unwrap(), [Answer::Gone]);
}

#[test]
fn a_thread_that_is_kept_in_the_midst_of_looking() {
    struct Kept(AtomicBool);
    impl Look for Kept {
        fn look(&self, _: usize, _: &Stopped) {
            while !self.0.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        }
    }
    let _alone = alone();
    let busy = Busy::new(|flags| {
        flags.is_ready();
        flags.wait();
    });
    let kept = Arc::new(Kept(AtomicBool::new(false)));
    let begun = Instant::now();
    let limit = Duration::from_millis(200);
    assert_eq!(stop::stop(&[busy.id], kept.clone(), begun + limit).unwrap(), [Answer::Silent]);
    assert!(begun.elapsed() >= limit);
    // It looks yet, so what it looks with stays; and the next pass, which it cannot answer, does
    // not confuse it.
    assert_eq!(Arc::strong_count(&kept), 2);
    let next = Arc::new(Kept(AtomicBool::new(true)));
    let soon = Instant::now() + Duration::from_millis(5);
    assert_eq!(stop::stop(&[busy.id], next.clone(), soon).unwrap(), [Answer::Silent]);
    kept.0.store(true, Ordering::Relaxed);
    let answers = stop::stop(&[busy.id], next.clone(), Instant::now() + AMPLE).unwrap();
    assert!(matches!(answers[..], [Answer::Looked(_)]), "{answers:?}");
    assert_eq!(Arc::strong_count(&next), 1);
}

/// Whoever waits for a signal without a handler has it blocked in all threads: that is what tells
/// that it is used.
#[test]
fn a_signal_that_somebody_waits_for_is_left_alone() {
    /// A thread that waits for a signal, which the others block, and says whether it came.
    fn waits_for(signal: c_int) -> (Busy, Arc<AtomicBool>) {
        let came = Arc::new(AtomicBool::new(false));
        let says = came.clone();
        let mut set = MaybeUninit::uninit();
        // SAFETY: writes the set, and the mask of this thread and of those that it starts.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), signal);
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
            set.assume_init()
        };
        let busy = Busy::new(move |flags| {
            flags.is_ready();
            while !flags.may_go() {
                let moment = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
                // SAFETY: a set and a time.
                if unsafe { libc::sigtimedwait(&set, ptr::null_mut(), &moment) } == signal {
                    says.store(true, Ordering::Relaxed);
                }
            }
        });
        (busy, came)
    }
    let _alone = alone();
    // Before the first pass it is the one that would be taken; afterwards it is the one that was.
    for round in 0..2 {
        let signal = if round == 0 { libc::SIGRTMAX() } else { stop::signal().unwrap() };
        let (waiting, came) = waits_for(signal);
        for _ in 0..3 {
            let scan = pass(|| vec![text(26 + round)]);
            // An emulator numbers the signals otherwise, so it cannot be seen there which are
            // blocked.
            if !is_emulated() {
                assert_eq!(hits(&scan, waiting.id), [0; 0], "{scan:?}");
                assert_ne!(stop::signal(), Some(signal));
            }
        }
        drop(waiting);
        assert!(is_emulated() || !came.load(Ordering::Relaxed), "round {round}");
    }
}

/// Nothing is left pending at a thread that blocks the signal: a program that it executes would get
/// it.
#[test]
fn nothing_is_left_for_a_thread_that_blocks_all_signals() {
    let _alone = alone();
    let pending = Arc::new(AtomicUsize::new(usize::MAX));
    let says = pending.clone();
    let busy = Busy::new(move |flags| {
        let mut left = MaybeUninit::uninit();
        block_all();
        flags.is_ready();
        flags.wait();
        // SAFETY: writes the set, which is asked of then.
        let count = unsafe {
            libc::sigpending(left.as_mut_ptr());
            let left = left.assume_init();
            (1..=libc::SIGRTMAX()).filter(|&signal| libc::sigismember(&left, signal) == 1).count()
        };
        says.store(count, Ordering::Relaxed);
    });
    for _ in 0..2 {
        let scan = pass(|| vec![text(28)]);
        assert_eq!(why(&scan, busy.id), Some(Why::BlocksSignal), "{scan:?}");
    }
    drop(busy);
    assert_eq!(pending.load(Ordering::Relaxed), 0);
}

/// A thread that blocks the signal for a while only is looked at when it does not any more.
#[test]
fn a_thread_that_blocks_the_signal_for_a_while_answers() {
    let _alone = alone();
    let busy = Busy::new(|flags| {
        let before = block_all();
        flags.is_ready();
        std::thread::sleep(Duration::from_millis(20));
        // SAFETY: the mask that was.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) };
        flags.wait();
    });
    let scan = pass(|| vec![text(29)]);
    assert_eq!(hits(&scan, busy.id), [0; 0], "{scan:?}");
}
