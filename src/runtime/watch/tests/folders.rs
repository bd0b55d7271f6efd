//! The way to a file changes.

use std::os::unix::fs::symlink;
use std::time::Instant;

use super::*;

#[test]
fn a_file_and_folders_that_do_not_exist_yet() {
    let folder = Folder::new();
    let path = folder.at("a/b/file");
    let watcher = Watcher::new();
    let (_, log) = watcher.log(&path, quick());
    log.is_quiet();
    fs::create_dir(folder.at("a")).unwrap();
    log.is_quiet();
    fs::create_dir(folder.at("a/b")).unwrap();
    log.is_quiet();
    fs::write(&path, "1").unwrap();
    log.is_next("1");
    // All at once.
    fs::remove_dir_all(folder.at("a")).unwrap();
    fs::create_dir_all(folder.at("a/b")).unwrap();
    fs::write(&path, "2").unwrap();
    log.is_next("2");
}

#[test]
fn a_folder_removed_and_made_again_while_somebody_is_in_it() {
    let folder = Folder::new();
    let path = folder.at("out/file");
    fs::create_dir(folder.at("out")).unwrap();
    let watcher = Watcher::new();
    let (_, log) = watcher.log(&path, quick());
    // While it is open the kernel does not say that it is gone.
    let mut open = Vec::new();
    for round in 0..10 {
        open.push(fs::File::open(folder.at("out")).unwrap());
        let text = format!("{round}");
        fs::write(&path, &text).unwrap();
        log.is_next(&text);
        fs::remove_file(&path).unwrap();
        if round % 5 != 0 {
            thread::sleep(QUIET);
        }
        fs::remove_dir(folder.at("out")).unwrap();
        if round % 2 == 0 {
            thread::sleep(QUIET);
        }
        fs::create_dir(folder.at("out")).unwrap();
        if round % 3 == 0 {
            thread::sleep(QUIET);
        }
    }
}

#[test]
fn folders_moved_away_and_into_place() {
    let folder = Folder::new();
    let path = folder.at("a/b/file");
    fs::create_dir_all(folder.at("a/b")).unwrap();
    fs::write(&path, "1").unwrap();
    let watcher = Watcher::new();
    let (_, log) = watcher.log(&path, quick());
    log.is_next("1");
    // An ancestor.
    fs::rename(folder.at("a"), folder.at("c")).unwrap();
    log.is_quiet();
    fs::write(folder.at("c/b/file"), "elsewhere").unwrap();
    log.is_quiet();
    fs::create_dir_all(folder.at("d/b")).unwrap();
    fs::write(folder.at("d/b/file"), "2").unwrap();
    fs::rename(folder.at("d"), folder.at("a")).unwrap();
    log.is_next("2");
    fs::rename(folder.at("a/b"), folder.at("a/x")).unwrap();
    fs::rename(folder.at("c/b"), folder.at("a/b")).unwrap();
    log.is_next("elsewhere");
    fs::write(&path, "3").unwrap();
    log.is_next("3");
}

#[test]
fn links_of_files_and_folders() {
    let folder = Folder::new();
    for number in ["1", "2"] {
        fs::create_dir(folder.at(number)).unwrap();
        fs::write(folder.at(number).join("lib.so.0"), number).unwrap();
        symlink("lib.so.0", folder.at(number).join("lib.so")).unwrap();
    }
    symlink("1", folder.at("current")).unwrap();
    // Through a folder, and out of it again.
    let path = folder.at("1/../current/lib.so");
    let watcher = Watcher::new();
    let (_, log) = watcher.log(&path, quick());
    log.is_next("1");
    // The target is written, then replaced.
    fs::write(folder.at("1/lib.so.0"), "written").unwrap();
    log.is_next("written");
    fs::write(folder.at("1/new"), "replaced").unwrap();
    fs::rename(folder.at("1/new"), folder.at("1/lib.so.0")).unwrap();
    log.is_next("replaced");
    // The folder's link is.
    symlink("2", folder.at("next")).unwrap();
    fs::rename(folder.at("next"), folder.at("current")).unwrap();
    log.is_next("2");
    // The file's link is, with an absolute one.
    fs::remove_file(folder.at("2/lib.so")).unwrap();
    symlink(folder.at("1/lib.so.0"), folder.at("2/lib.so")).unwrap();
    log.is_next("replaced");
    // One that leads nowhere, and then somewhere.
    fs::remove_file(folder.at("1/lib.so.0")).unwrap();
    log.is_quiet();
    fs::write(folder.at("1/lib.so.0"), "back").unwrap();
    log.is_next("back");
    // In a circle.
    fs::remove_file(folder.at("2/lib.so")).unwrap();
    symlink("lib.so", folder.at("2/lib.so")).unwrap();
    assert!(matches!(log.next(), Told::Failed(_)));
}

#[test]
fn a_hard_link_of_another_folder_is_written() {
    let folder = Folder::new();
    fs::create_dir(folder.at("deps")).unwrap();
    fs::write(folder.at("deps/lib.so"), "1").unwrap();
    fs::hard_link(folder.at("deps/lib.so"), folder.at("lib.so")).unwrap();
    let watcher = Watcher::new();
    let (_, log) = watcher.log(&folder.at("lib.so"), quick());
    log.is_next("1");
    fs::write(folder.at("deps/lib.so"), "2").unwrap();
    log.is_next("2");
}

#[test]
fn an_overflowing_queue_loses_nothing() {
    let folder = Folder::new();
    let path = folder.at("file");
    fs::write(&path, "1").unwrap();
    let watcher = Watcher::new();
    let (sender, log) = Log::new();
    let (go_on, wait) = channel();
    let callback = move |_: &Path, outcome| {
        sender.send(told(outcome)).unwrap();
        // The queue fills meanwhile.
        wait.recv().unwrap();
    };
    watcher.watch(&path, quick(), None, Box::new(callback)).unwrap();
    log.is_next("1");
    // kqueue has none: a place is told once, however much came.
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events");
    let limit: u32 = if cfg!(target_os = "linux") { limit.unwrap().trim().parse().unwrap() } else { 16384 };
    for round in 0..limit / 2 + 1000 {
        // Each comes and goes.
        let other = folder.at(&format!("other{}", round % 2));
        fs::write(&other, "").unwrap();
        fs::remove_file(&other).unwrap();
    }
    fs::write(&path, "2").unwrap();
    go_on.send(()).unwrap();
    log.is_next("2");
    go_on.send(()).unwrap();
    log.is_quiet();
}

#[test]
fn watches_share_places_and_leave_none() {
    let folder = Folder::new();
    let watcher = Watcher::new();
    let (first, _log) = watcher.log(&folder.at("0"), quick());
    let alone = watcher.places();
    let others: Vec<_> =
        (1..50).map(|number| watcher.log(&folder.at(&format!("{number}")), quick())).collect();
    // The same folders.
    assert_eq!(watcher.places(), alone);
    for (number, (_, log)) in others.iter().enumerate() {
        let path = folder.at(&format!("{}", number + 1));
        fs::write(&path, format!("{number}")).unwrap();
        log.is_next(format!("{number}"));
    }
    // A file's own place comes when it is looked at the next time, some moments after it was handed
    // on.
    let deadline = Instant::now() + AMPLE;
    while watcher.places() != alone + others.len() {
        assert!(Instant::now() < deadline, "{} places", watcher.places());
        thread::yield_now();
    }
    for (id, log) in others {
        assert!(watcher.unwatch(id));
        assert!(!watcher.unwatch(id));
        log.is_over();
    }
    assert_eq!(watcher.places(), alone);
    assert!(watcher.unwatch(first));
    assert_eq!(watcher.places(), 0);
}
