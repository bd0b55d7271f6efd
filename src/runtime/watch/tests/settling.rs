//! When a file is handed on, and when not.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Instant, SystemTime};

use memmap2::MmapMut;

use super::*;

/// The smallest file that has an ELF header, one segment and one section, which is its second half.
fn elf(fill: u8) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(16, &3u16.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(40, &(64u64 + 56).to_le_bytes());
    for (at, value) in [(52, 64u16), (54, 56), (56, 1), (58, 64), (60, 1)] {
        put(at, &value.to_le_bytes());
    }
    let mut segment = [0; 56];
    segment[0] = 1;
    segment[32..40].copy_from_slice(&500u64.to_le_bytes());
    let mut section = [0; 64];
    section[4] = 1;
    section[24..32].copy_from_slice(&500u64.to_le_bytes());
    section[32..40].copy_from_slice(&500u64.to_le_bytes());
    bytes.extend(segment);
    bytes.extend(section);
    bytes.resize(1000, fill);
    bytes
}

#[test]
fn what_is_whole() {
    let whole = elf(9);
    assert!(whole::is_whole(&whole));
    for cut in 0..whole.len() {
        assert!(!whole::is_whole(&whole[..cut]), "{cut}");
    }
    // The tables are written last, or the header is.
    let mut early = whole.clone();
    early[32..64].fill(0);
    assert!(!whole::is_whole(&early));

    let mut archive = b"!<arch>\n".to_vec();
    for name in ["a.o/", "b.o/"] {
        archive.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 644, 100).bytes());
        archive.extend([1; 100]);
    }
    assert!(whole::is_whole(&archive));
    assert!(!whole::is_whole(&archive[..archive.len() - 1]));
    assert!(!whole::is_whole(&archive[..8 + 160 + 30]));
    assert!(!whole::is_whole(b"text"));
    let ours = fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(whole::is_whole(&ours));
    assert!(!whole::is_whole(&ours[..ours.len() - 1]));
}

#[test]
fn contents_count_and_not_times() {
    let folder = Folder::new();
    let path = folder.at("file");
    fs::write(&path, "A").unwrap();
    let watcher = Watcher::new();
    let (sender, log) = Log::new();
    let callback = move |_: &Path, outcome| sender.send(told(outcome)).unwrap();
    watcher.watch(&path, quick(), Some(ContentHash::of(b"A")), Box::new(callback)).unwrap();
    log.is_quiet();
    File::open(&path).unwrap().set_modified(SystemTime::now()).unwrap();
    fs::write(&path, "A").unwrap();
    log.is_quiet();
    fs::write(&path, "B").unwrap();
    log.is_next("B");
    fs::write(&path, "A").unwrap();
    log.is_next("A");
    fs::remove_file(&path).unwrap();
    log.is_quiet();
    fs::write(&path, "A").unwrap();
    log.is_quiet();
    fs::write(&path, "").unwrap();
    log.is_next("");
}

/// Cargo's builds take away one of two links of what they have not made anew.
// Where readings can be counted.
#[cfg(target_os = "linux")]
#[test]
fn another_link_or_other_rights_are_no_reason_to_read() {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    let folder = Folder::new();
    let (path, link) = (folder.at("file"), folder.at("link"));
    fs::write(&path, "A").unwrap();
    let watcher = Watcher::new();
    let (_, log) = watcher.log(&path, quick());
    log.is_next("A");
    let notice = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
    notice.add_watch(&path, AddWatchFlags::IN_ACCESS).unwrap();
    let is_read = || {
        log.is_quiet();
        notice.read_events().is_ok()
    };
    fs::hard_link(&path, &link).unwrap();
    assert!(!is_read());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!is_read());
    fs::remove_file(&link).unwrap();
    assert!(!is_read());
    // Its time may be all that there is to see of a change.
    File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert!(is_read());
    // A change that leaves the time as it was.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"B", 0).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    drop(file);
    log.is_next("B");
}

#[test]
fn a_file_written_by_several_openings_is_handed_on_when_it_is_whole() {
    let folder = Folder::new();
    let path = folder.at("module.so");
    for leases in [true, false] {
        let settle = Settle { whole: whole::is_whole, patience: AMPLE, leases, ..quick() };
        let watcher = Watcher::new();
        fs::write(&path, "").unwrap();
        let (_, log) = watcher.log(&path, settle);
        let version = elf(leases.into());
        for part in version.chunks(250) {
            log.is_quiet();
            OpenOptions::new().append(true).open(&path).unwrap().write_all(part).unwrap();
        }
        log.is_next(&version);
        log.is_quiet();
    }
}

#[test]
fn a_file_that_stays_broken_is_handed_on_once() {
    let folder = Folder::new();
    let path = folder.at("module.so");
    for leases in [true, false] {
        let settle = Settle { whole: whole::is_whole, leases, ..quick() };
        let patience = settle.patience;
        fs::write(&path, "not a module").unwrap();
        let watcher = Watcher::new();
        let began = Instant::now();
        let (_, log) = watcher.log(&path, settle);
        log.is_next("not a module");
        assert!(began.elapsed() >= patience);
        fs::write(&path, "not a module").unwrap();
        log.is_quiet();
        fs::write(&path, elf(1)).unwrap();
        log.is_next(elf(1));
        fs::write(&path, "nor this").unwrap();
        log.is_next("nor this");
        log.is_quiet();
    }
}

/// Compilers that stay alive between builds do that.
// Where there are leases.
#[cfg(target_os = "linux")]
#[test]
fn a_writer_that_never_closes_is_told_of_once_for_each_content() {
    let folder = Folder::new();
    for mapped in [false, true] {
        let path = folder.at(if mapped { "mapped" } else { "open" });
        fs::write(&path, "old").unwrap();
        let watcher = Watcher::new();
        let (_, log) = watcher.log(&path, Settle { held: Duration::from_millis(200), ..quick() });
        log.is_next("old");
        let mut file = Some(OpenOptions::new().read(true).write(true).open(&path).unwrap());
        // SAFETY: nobody looks into it.
        let map = mapped.then(|| unsafe { MmapMut::map_mut(file.as_ref().unwrap()) }.unwrap());
        for version in ["one", "two"] {
            let writer = file.as_mut().unwrap();
            std::os::unix::fs::FileExt::write_all_at(writer, version.as_bytes(), 0).unwrap();
            if mapped && version == "two" {
                // Closed, and mapped still.
                file = None;
            }
            assert_eq!(log.next(), Told::Failed(io::ErrorKind::Other), "{mapped} {version}");
            log.is_quiet();
        }
        drop(file);
        drop(map);
        log.is_next("two");
        log.is_quiet();
    }
}

#[test]
fn a_file_that_is_never_left_alone_is_looked_at() {
    let folder = Folder::new();
    let path = folder.at("file");
    fs::write(&path, "1").unwrap();
    let watcher = Watcher::new();
    let settle = Settle { debounce: Duration::from_millis(20), ..quick() };
    let (_, log) = watcher.log(&path, settle);
    log.is_next("1");
    fs::write(&path, "2").unwrap();
    let began = Instant::now();
    // Touched more often than the debounce.
    while log.0.try_recv().is_err() {
        File::open(&path).unwrap().set_modified(SystemTime::now()).unwrap();
        thread::sleep(Duration::from_millis(1));
        assert!(began.elapsed() < AMPLE);
    }
}

#[test]
fn what_cannot_be_read_is_told_once() {
    let folder = Folder::new();
    let path = folder.at("file");
    fs::create_dir(&path).unwrap();
    let watcher = Watcher::new();
    let (_, log) = watcher.log(&path, quick());
    assert_eq!(log.next(), Told::Failed(io::ErrorKind::Other));
    log.is_quiet();
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "A").unwrap();
    log.is_next("A");
    // SAFETY: takes no pointers.
    if unsafe { libc::geteuid() } != 0 {
        fs::set_permissions(&path, PermissionsExt::from_mode(0o0)).unwrap();
        assert_eq!(log.next(), Told::Failed(io::ErrorKind::PermissionDenied));
        fs::write(folder.at("new"), "B").unwrap();
        fs::rename(folder.at("new"), &path).unwrap();
        log.is_next("B");
    }
}

/// Whether the thread was on a processor, by how often it left one.
#[cfg(target_os = "linux")]
#[test]
fn nothing_wakes_the_thread_while_nothing_happens() {
    let folder = Folder::new();
    fs::write(folder.at("file"), "A").unwrap();
    let watcher = Watcher::new();
    let (sender, log) = Log::new();
    let own = std::sync::Mutex::new(Some(sender));
    let (task, of_task) = channel();
    let callback = move |_: &Path, outcome| {
        // SAFETY: takes no pointers.
        task.send(unsafe { libc::gettid() }).unwrap();
        own.lock().unwrap().take().unwrap().send(told(outcome)).unwrap();
    };
    watcher.watch(&folder.at("file"), quick(), None, Box::new(callback)).unwrap();
    log.is_next("A");
    let status = format!("/proc/self/task/{}/status", of_task.recv().unwrap());
    let switches = || {
        let status = fs::read_to_string(&status).unwrap();
        status.lines().filter(|line| line.contains("ctxt_switches")).map(str::to_owned).collect::<Vec<_>>()
    };
    // Whatever it is about has an end; on a busy machine it takes longer.
    let at_rest = || {
        let deadline = Instant::now() + AMPLE;
        let mut last = switches();
        loop {
            thread::sleep(QUIET);
            let now = switches();
            if now == last {
                return now;
            }
            assert!(Instant::now() < deadline, "it goes on: {now:?}");
            last = now;
        }
    };
    let before = at_rest();
    assert!(!before.is_empty());
    // A neighbour that is read and written is no concern of ours.
    fs::write(folder.at("file").with_extension("other"), "").unwrap();
    let mut after_creation = at_rest();
    let deadline = Instant::now() + AMPLE;
    // Its creation was, as any name that comes or goes: so this test can fail.
    while after_creation == before {
        assert!(Instant::now() < deadline, "creating a neighbour wakes nobody");
        after_creation = at_rest();
    }
    fs::write(folder.at("file").with_extension("other"), "more").unwrap();
    fs::read(folder.at("file")).unwrap();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(switches(), after_creation);
}

/// By default, from a writer's beginning to the callback. A figure, and no limit but the
/// debounce's.
#[test]
fn latency() {
    let folder = Folder::new();
    let path = folder.at("file");
    let settle = Settle { whole: |_| true, ..Settle::default() };
    let debounce = settle.debounce;
    let watcher = Watcher::new();
    fs::write(&path, "before").unwrap();
    let (_, log) = watcher.log(&path, settle);
    log.is_next("before");
    let mut times: Vec<_> = (0..9u8)
        .map(|number| {
            let bytes = vec![number; 15_000];
            // Before, not after: on a busy machine this thread may not run between the two.
            let began = Instant::now();
            fs::write(&path, &bytes).unwrap();
            log.is_next(bytes);
            began.elapsed()
        })
        .collect();
    times.sort();
    println!("from writing to callback: median {:?}, longest {:?}", times[4], times[8]);
    assert!(times[0] >= debounce - Duration::from_millis(1));
}

/// How long hashing and reading take. Figures only.
#[test]
#[ignore = "measures"]
fn times() {
    let median = |run: &dyn Fn()| {
        let mut times: Vec<_> = (0..200)
            .map(|_| {
                let began = Instant::now();
                run();
                began.elapsed()
            })
            .collect();
        times.sort();
        times[100]
    };
    let folder = Folder::new();
    for len in [15_000, 1 << 20] {
        let (path, bytes) = (folder.at("file"), vec![1; len]);
        fs::write(&path, &bytes).unwrap();
        let digest = median(&|| assert_ne!(ContentHash::of(&bytes), ContentHash([0; 32])));
        let mut buffer = vec![0; len];
        let file = File::open(&path).unwrap();
        let lease = Duration::from_nanos(
            (0..200)
                .map(|_| {
                    let mut held = Duration::ZERO;
                    let leased = crate::platform::os::lease::read(&file, || {
                        let began = Instant::now();
                        std::os::unix::fs::FileExt::read_exact_at(&file, &mut buffer, 0)?;
                        held = began.elapsed();
                        Ok(())
                    });
                    assert!(matches!(leased, Ok(crate::platform::os::lease::Leased::Unwritten(()))));
                    held.as_nanos() as u64
                })
                .sum::<u64>()
                / 200,
        );
        let whole = median(&|| {
            let attempt = reading::attempt(&path, &quick(), None, None);
            assert!(matches!(attempt, reading::Attempt::Complete(_)), "nobody writes it");
        });
        println!("{len} bytes: digest {digest:?}, lease held {lease:?}, all of an attempt {whole:?}");
    }
    let changes = crate::platform::os::changes::Changes::new().unwrap();
    let places = std::cell::RefCell::new(route::Places::default());
    let id = WatchId::next();
    let way = median(&|| assert!(places.borrow_mut().find(&changes, id, &folder.at("file")).unwrap()));
    println!("the way: {way:?}");
}
