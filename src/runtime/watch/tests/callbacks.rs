//! Callbacks that panic, that watch and unwatch, and threads that do so at once.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::*;

#[test]
fn a_panic_is_told_and_the_next_version_comes() {
    let folder = Folder::new();
    let path = folder.at("file");
    fs::write(&path, "1").unwrap();
    let watcher = Watcher::new();
    let (sender, log) = Log::new();
    let callback = move |_: &Path, outcome| {
        let told = told(outcome);
        let version = matches!(told, Told::Version(_));
        sender.send(told).unwrap();
        // And once more when it is told of that.
        assert!(!version, "a panic of the test's");
        panic!("another of the test's");
    };
    watcher.watch(&path, quick(), None, Box::new(callback)).unwrap();
    for version in ["1", "2"] {
        fs::write(&path, version).unwrap();
        log.is_next(version);
        assert_eq!(log.next(), Told::Panicked("a panic of the test's".into()));
    }
    log.is_quiet();
}

#[test]
fn unwatch_waits_for_the_callback() {
    let folder = Folder::new();
    let path = folder.at("file");
    fs::write(&path, "1").unwrap();
    let watcher = Watcher::new();
    let done = Arc::new(AtomicBool::new(false));
    let (begin, begun) = channel();
    let callback = {
        let done = done.clone();
        move |_: &Path, _| {
            begin.send(()).unwrap();
            thread::sleep(Duration::from_millis(100));
            done.store(true, Ordering::SeqCst);
        }
    };
    let id = watcher.watch(&path, quick(), None, Box::new(callback)).unwrap();
    begun.recv().unwrap();
    // Whoever comes second waits as well.
    thread::scope(|scope| {
        let unwatch = || {
            let was = watcher.unwatch(id);
            assert!(done.load(Ordering::SeqCst));
            was
        };
        let threads = [scope.spawn(unwatch), scope.spawn(unwatch)];
        assert_eq!(threads.map(|thread| thread.join().unwrap()).into_iter().filter(|&was| was).count(), 1);
    });
    // And it is dropped.
    assert_eq!(Arc::strong_count(&done), 1);
    fs::write(&path, "2").unwrap();
    assert!(begun.recv_timeout(QUIET).is_err());
}

#[test]
fn callbacks_may_watch_unwatch_and_stop() {
    let folder = Folder::new();
    let path = folder.at("file");
    fs::write(&path, "1").unwrap();
    let watcher = Arc::new(Watcher::new());
    let own = Arc::new(Mutex::new(None));
    let (sender, log) = Log::new();
    let (other_sender, other_log) = Log::new();
    let mut own_guard = own.lock().unwrap();
    let callback = {
        let (watcher, own, path) = (watcher.clone(), own.clone(), path.clone());
        move |_: &Path, outcome| {
            sender.send(told(outcome)).unwrap();
            let other_sender = other_sender.clone();
            let inner = watcher.clone();
            let other = move |_: &Path, outcome| {
                inner.stop();
                other_sender.send(told(outcome)).unwrap();
            };
            watcher.watch(&path, quick(), None, Box::new(other)).unwrap();
            let id = own.lock().unwrap().take().unwrap();
            assert!(watcher.unwatch(id));
            assert!(!watcher.unwatch(id));
        }
    };
    *own_guard = Some(watcher.watch(&path, quick(), None, Box::new(callback)).unwrap());
    drop(own_guard);
    log.is_next("1");
    other_log.is_next("1");
    // Both callbacks are dropped, their variables one after the other, and the thread ends.
    let deadline = Instant::now() + AMPLE;
    while Arc::strong_count(&watcher) > 1 {
        assert!(Instant::now() < deadline);
        thread::yield_now();
    }
    log.ends();
    other_log.ends();
    // And it starts again.
    let (_, log) = watcher.log(&path, quick());
    log.is_next("1");
}

#[cfg(target_os = "linux")]
#[test]
fn stop_joins_and_the_next_watch_starts_again() {
    // Threads' names are the process's: other tests have watchers too.
    let folder = Folder::new();
    let path = folder.at("file");
    fs::write(&path, "1").unwrap();
    let watcher = Watcher::new();
    watcher.stop();
    for _ in 0..3 {
        let (sender, receiver) = channel();
        let callback = move |_: &Path, _| {
            // SAFETY: takes no pointers.
            sender.send(unsafe { libc::gettid() }).unwrap();
            assert_eq!(thread::current().name(), Some("midflight-watch"));
            thread::sleep(Duration::from_millis(20));
        };
        watcher.watch(&path, quick(), None, Box::new(callback)).unwrap();
        let task = PathBuf::from(format!("/proc/self/task/{}", receiver.recv().unwrap()));
        assert!(threads_named("midflight-watch").contains(&task));
        thread::scope(|scope| {
            scope.spawn(|| watcher.stop());
            watcher.stop();
        });
        // The kernel takes a moment after the join; a thread that goes on would not end at all.
        let deadline = Instant::now() + AMPLE;
        while threads_named("midflight-watch").contains(&task) {
            assert!(Instant::now() < deadline, "the thread goes on");
            thread::yield_now();
        }
        assert!(receiver.try_recv().is_err());
    }
}

#[test]
fn eight_threads_at_once() {
    let folder = Folder::new();
    let watcher = Watcher::new();
    let end = Instant::now() + Duration::from_secs(if is_emulated() { 1 } else { 2 });
    let calls = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..8 {
            let (watcher, folder, calls) = (&watcher, &folder, &calls);
            scope.spawn(move || {
                let path = folder.at(&format!("{}", number % 3));
                let mut round = 0;
                while Instant::now() < end {
                    round += 1;
                    fs::write(&path, format!("{number} {round}")).unwrap();
                    let over = Arc::new(AtomicBool::new(false));
                    let (sender, receiver) = sync_channel(1);
                    let callback = {
                        let over = over.clone();
                        move |_: &Path, _| {
                            assert!(!over.load(Ordering::SeqCst), "called after unwatch");
                            let _ = sender.try_send(());
                        }
                    };
                    let id = watcher.watch(&path, quick(), None, Box::new(callback)).unwrap();
                    if round % 2 == 0 && receiver.recv_timeout(AMPLE).is_ok() {
                        calls.fetch_add(1, Ordering::SeqCst);
                    }
                    if round % 50 == 0 && number == 0 {
                        watcher.stop();
                    }
                    watcher.unwatch(id);
                    over.store(true, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(calls.load(Ordering::SeqCst) > 10);
    watcher.stop();
    assert_eq!(watcher.places(), 0);
}

#[test]
fn a_child_of_fork_has_no_watches_and_may_begin_its_own() {
    let folder = Folder::new();
    let path = folder.at("file");
    fs::write(&path, "1").unwrap();
    let watcher = Watcher::new();
    let (id, log) = watcher.log(&path, quick());
    log.is_next("1");
    // SAFETY: the child does only what a child of a process with threads may do with glibc, which
    // has malloc and pthread_create work there, and ends without running anything else. If it
    // hangs, SIGALRM ends it.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: takes no pointers.
        unsafe { libc::alarm(20) };
        let child = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            assert!(!watcher.unwatch(id));
            watcher.stop();
            let (_, own) = watcher.log(&path, quick());
            own.is_next("1");
            watcher.stop();
            own.is_over();
        }));
        let good = child.is_ok();
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(!good)) };
    }
    let mut status = 0;
    // SAFETY: our child, and room for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    // The parent's go on.
    fs::write(&path, "2").unwrap();
    log.is_next("2");
    assert!(watcher.unwatch(id));
}
