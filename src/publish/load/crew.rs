//! The runtime's threads, which stage the modules of one publication side by side.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use crate::Error;

/// Started when they are first needed, joined by [`stop`](Self::stop).
#[derive(Default)]
pub(crate) struct Crew {
    /// How many they are to be; 0: see [`default_threads`].
    wanted: AtomicUsize,
    pool: Mutex<Option<Arc<Pool>>>,
}

/// rayon's threads steal each other's work; that a pool's end waits for them is ours.
struct Pool {
    /// None once it is being dropped.
    pool: Option<rayon_core::ThreadPool>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Pool {
    fn start(threads: usize) -> Result<Self, Error> {
        let handles = Arc::new(Mutex::new(Vec::with_capacity(threads)));
        let pool = rayon_core::ThreadPoolBuilder::new()
            .num_threads(threads)
            .spawn_handler(|thread| {
                let name = format!("midflight-load{}", thread.index());
                let handle = thread::Builder::new().name(name).spawn(|| thread.run())?;
                handles.lock().push(handle);
                Ok(())
            })
            .build();
        let wrong = |error| Error::Threads { source: std::io::Error::other(error) };
        Ok(Self { pool: Some(pool.map_err(wrong)?), threads: handles })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.pool.take());
        for thread in self.threads.lock().drain(..) {
            // A panic in work was thrown on where the work was waited for, so it is known.
            let _ = thread.join();
        }
    }
}

impl Crew {
    /// From the next use on.
    pub(crate) fn set_threads(&self, threads: usize) {
        // Relaxed: the pool's lock orders it for who starts one.
        if self.wanted.swap(threads, Ordering::Relaxed) != threads {
            self.stop();
        }
    }

    /// Ends and joins the threads. Work that is under way is finished, and its caller joins them.
    pub(crate) fn stop(&self) {
        let pool = self.pool.lock().take();
        drop(pool);
    }

    /// What `work` makes of each item, in their order, on at most so many threads; on this one if
    /// that is less than two. The items are taken one by one by whoever is free.
    pub(crate) fn map<'i, T: Sync, R: Send + Sync>(
        &self,
        threads: usize,
        items: &'i [T],
        work: impl Fn(&'i T) -> R + Sync,
    ) -> Result<Vec<R>, Error> {
        let threads = threads.min(items.len());
        if threads < 2 {
            return Ok(items.iter().map(work).collect());
        }
        let pool = self.pool()?;
        let pool = pool.pool.as_ref().expect("it is there until it is dropped");
        let (next, done) = (AtomicUsize::new(0), items.iter().map(|_| OnceLock::new()).collect::<Vec<_>>());
        pool.in_place_scope(|scope| {
            for _ in 0..threads.min(pool.current_num_threads()) {
                scope.spawn(|_| {
                    // Relaxed: only a count; the scope's end orders the results.
                    while let Some((item, done)) = at(items, &done, next.fetch_add(1, Ordering::Relaxed)) {
                        assert!(done.set(work(item)).is_ok(), "each is taken once");
                    }
                });
            }
        });
        Ok(done.into_iter().map(|done| done.into_inner().expect("the scope waits for all")).collect())
    }

    fn pool(&self) -> Result<Arc<Pool>, Error> {
        let mut pool = self.pool.lock();
        if let Some(pool) = &*pool {
            return Ok(pool.clone());
        }
        let threads = match self.wanted.load(Ordering::Relaxed) {
            0 => default_threads(),
            wanted => wanted,
        };
        Ok(pool.insert(Arc::new(Pool::start(threads)?)).clone())
    }
}

fn at<'i, 'd, T, D>(items: &'i [T], done: &'d [D], index: usize) -> Option<(&'i T, &'d D)> {
    Some((items.get(index)?, &done[index]))
}

/// One for each core, at most 4.
fn default_threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(4))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::panic::AssertUnwindSafe;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let crew = Crew::default();
        crew.set_threads(3);
        let items: Vec<usize> = (0..1000).collect();
        for threads in [0, 1, 2, 3, 100] {
            assert_eq!(
                crew.map(threads, &items, |item| item * 2).unwrap(),
                items.iter().map(|i| i * 2).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn as_many_threads_work_as_were_asked_for() {
        let crew = Crew::default();
        crew.set_threads(4);
        // Nobody goes on before three are there: fewer would never end.
        let (barrier, items) = (Barrier::new(3), [(); 3]);
        let here = thread::current().id();
        let ids = crew.map(3, &items, |()| {
            barrier.wait();
            thread::current().id()
        });
        let ids: HashSet<_> = ids.unwrap().into_iter().collect();
        assert_eq!(ids.len(), 3);
        assert!(!ids.contains(&here));
        let ids = crew.map(1, &items, |()| thread::current().id()).unwrap();
        assert_eq!(ids, [here; 3]);
    }

    #[test]
    fn a_stopped_crew_has_no_threads_and_starts_again() {
        let crew = Crew::default();
        crew.set_threads(2);
        let alive = Arc::new(());
        thread_local!(static HELD: std::cell::RefCell<Option<Arc<()>>> = const { std::cell::RefCell::new(None) });
        let hold = |_: &i32| HELD.set(Some(alive.clone()));
        for _ in 0..3 {
            crew.map(2, &[1, 2, 3, 4], hold).unwrap();
            assert!(Arc::strong_count(&alive) > 1, "the threads are there");
            crew.stop();
            assert_eq!(Arc::strong_count(&alive), 1, "their thread-locals are gone, so they were joined");
        }
    }

    #[test]
    fn a_panic_is_the_callers() {
        let crew = Crew::default();
        crew.set_threads(2);
        let all = std::panic::catch_unwind(AssertUnwindSafe(|| {
            crew.map(2, &[1, 2, 3], |item| assert_ne!(*item, 2))
        }));
        assert!(all.is_err());
        assert_eq!(crew.map(2, &[1, 2], |item| *item).unwrap(), [1, 2], "and the crew goes on");
    }
}
