//! Looks at all threads of the process.

use std::time::{Duration, Instant};

use midflight::{Quiescence, Runtime};

/// Works with a module's addresses on a thread of its own, so that none stays behind on this one's
/// stack, where every word counts.
pub(crate) fn elsewhere<T: Send>(call: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(call).join().unwrap())
}

/// Looks at the threads until that shows what it must in the end. A look that is late proves
/// nothing: a loaded machine may not run all threads within its limit, nor an emulator that
/// translates the code for the first time.
pub(crate) fn look(rt: Runtime, wanted: impl Fn(&Quiescence) -> bool) -> Quiescence {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let looked = rt.collect_quiescent().unwrap();
        if wanted(&looked) {
            return looked;
        }
        assert!(Instant::now() < until, "{looked:?}");
    }
}
