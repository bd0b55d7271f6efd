//! How much work something is, where hostile input could make it without end.

/// Processor time of this thread: what else the machine does is not in it.
pub(crate) struct Clock(f64);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(now())
    }

    /// Seconds that were had since the start.
    pub(crate) fn seconds(&self) -> f64 {
        now() - self.0
    }

    /// That no more than so many seconds were had since the start.
    #[track_caller]
    pub(crate) fn within(&self, seconds: f64) {
        let took = self.seconds();
        assert!(took < seconds, "{took} s of processor time, {seconds} were to be enough");
    }
}

fn now() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the answer, and a clock that every system has (POSIX, clock_gettime(2)).
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
