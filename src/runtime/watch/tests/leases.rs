//! What the kernel says of who writes a file, and that nobody gets a signal.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicUsize;
use std::sync::{Barrier, Mutex};
use std::{mem, ptr};

use memmap2::MmapMut;

use super::*;
use crate::platform::os::lease::{self, Leased};

fn state(path: &Path) -> &'static str {
    match lease::read(&File::open(path).unwrap(), || Ok(())).unwrap() {
        Leased::Unwritten(()) => "unwritten",
        Leased::Written => "written",
        Leased::Unavailable => "unavailable",
    }
}

#[test]
fn a_file_is_written_while_anybody_can_write_it() {
    let folder = Folder::new();
    let path = folder.at("file");
    fs::write(&path, [7; 5000]).unwrap();
    assert_eq!(state(&path), "unwritten");

    let writer = OpenOptions::new().append(true).open(&path).unwrap();
    assert_eq!(state(&path), "written");
    let duplicate = writer.try_clone().unwrap();
    drop(writer);
    assert_eq!(state(&path), "written");
    drop(duplicate);
    assert_eq!(state(&path), "unwritten");

    // By another name.
    fs::hard_link(&path, folder.at("link")).unwrap();
    let writer = OpenOptions::new().write(true).open(folder.at("link")).unwrap();
    assert_eq!(state(&path), "written");
    drop(writer);

    // A mapping holds the open file when its descriptor is closed; a read-only one does not write.
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    // SAFETY: nobody looks into it.
    let mapping = unsafe { MmapMut::map_mut(&file) }.unwrap();
    drop(file);
    assert_eq!(state(&path), "written");
    drop(mapping);
    assert_eq!(state(&path), "unwritten");
}

#[test]
fn no_lease_where_there_are_none() {
    // Regular files only.
    assert_eq!(state(Path::new("/dev/null")), "unavailable");
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

/// One test for all signals: their handlers are the process's.
#[test]
fn a_writer_that_comes_meanwhile_is_noticed_and_waits_and_nobody_gets_a_signal() {
    let folder = Folder::new();
    let path = folder.at("file");
    fs::write(&path, "old").unwrap();
    let handlers = if is_emulated() {
        // QEMU takes no pending signal by sigtimedwait that it keeps itself. The default of one is
        // to end us, of the other nothing.
        vec![libc::SIGIO]
    } else {
        vec![libc::SIGIO, libc::SIGURG]
    };
    let before: Vec<_> = handlers
        .iter()
        .map(|&signal| {
            // SAFETY: an action of zeros but for the handler, which is async-signal-safe.
            unsafe {
                let (mut action, mut old): (libc::sigaction, libc::sigaction) = mem::zeroed();
                action.sa_sigaction = on_signal as *const () as usize;
                assert_eq!(libc::sigaction(signal, &action, &mut old), 0);
                old
            }
        })
        .collect();

    for round in 0..50 {
        let order = Mutex::new(Vec::new());
        let granted = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                granted.wait();
                let mut file = OpenOptions::new().write(true).truncate(round % 2 == 0).open(&path).unwrap();
                order.lock().unwrap().push("opened");
                file.write_all(b"new").unwrap();
            });
            let mut file = File::open(&path).unwrap();
            let leased = lease::read(&file, || {
                granted.wait();
                // Until the writer waits.
                let deadline = std::time::Instant::now() + AMPLE;
                // SAFETY: takes no pointers.
                while unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) } == libc::F_RDLCK {
                    assert!(std::time::Instant::now() < deadline, "nobody broke the lease");
                    thread::yield_now();
                }
                order.lock().unwrap().push("read");
                let mut text = String::new();
                (&file).read_to_string(&mut text)?;
                Ok(text)
            });
            assert!(matches!(leased.unwrap(), Leased::Written));
            // And it is as usable as before.
            file.read_to_string(&mut String::new()).unwrap();
        });
        assert_eq!(*order.lock().unwrap(), ["read", "opened"]);
        assert_eq!(state(&path), "unwritten");
    }

    // SAFETY: a set, and what was there before.
    unsafe {
        let mut pending = mem::zeroed();
        libc::sigpending(&mut pending);
        for (&signal, before) in handlers.iter().zip(&before) {
            assert_eq!(libc::sigismember(&pending, signal), 0);
            libc::sigaction(signal, before, ptr::null_mut());
        }
    }
    assert_eq!(SIGNALS.load(Ordering::SeqCst), 0);
}
