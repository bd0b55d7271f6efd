//! Disks that are full, or whose syncs fail.

use super::disk::{Crash, Simulated};
use super::{begin, commit, digest, open};
use crate::open::Options;
use crate::record::Stage;
use crate::{Error, Event};

#[test]
fn a_full_disk_is_said_and_what_was_committed_is_served() {
    // Wherever it is in the course of a commit that the room ends.
    let mut refused = 0;
    for room in (0..60).map(|step| step * 700) {
        let disk = Simulated::new();
        let journal = open(&disk).unwrap().journal;
        commit(&journal, &[("physics", 1)]).unwrap();
        let set = journal.committed();
        disk.limit(Some(room));
        let mut version = 1;
        let error = loop {
            version += 1;
            match commit(&journal, &[("physics", version)]) {
                Ok(()) => assert_eq!(journal.committed()["physics"], digest("physics", version)),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Full { .. }), "{error}");
        assert!(error.to_string().starts_with("the disk is full ("), "{error}");
        refused += 1;
        let kept = journal.committed();
        assert!(version > 2 || kept == set);

        // The same is found, now and after a crash; and with room it goes on.
        let crashed = open(&disk.after(Crash::Process)).map(|opened| opened.committed);
        match crashed {
            Ok(found) => assert_eq!(found, kept),
            Err(error) => {
                assert!(matches!(error.error, Error::Full { .. }), "{error}");
                assert_eq!(error.last_good.unwrap().committed, kept);
            }
        }
        disk.limit(None);
        commit(&journal, &[("physics", 1000)]).unwrap();
        journal.close().unwrap();
        assert_eq!(open(&disk).unwrap().committed["physics"], digest("physics", 1000));
    }
    assert_eq!(refused, 60);
}

#[test]
fn a_disk_that_takes_no_byte_at_all_is_said_and_what_was_committed_is_served() {
    let disk = Simulated::new();
    let journal = open(&disk).unwrap().journal;
    commit(&journal, &[("physics", 1)]).unwrap();
    let set = journal.committed();
    let id = begin(&journal, &[("physics", 2)]).unwrap();
    disk.refuse(true);
    let error = journal.commit(id).unwrap_err();
    assert!(matches!(&error, Error::Undecided { said } if said.contains("the disk is full")), "{error}");
    assert!(matches!(journal.commit(id), Err(Error::Full { .. })));
    assert!(matches!(journal.records(), Err(Error::Full { .. })));
    assert_eq!(journal.committed(), set);

    // Nor can it be opened, and what is known is said nevertheless.
    let error = open(&disk.copy()).unwrap_err();
    assert!(matches!(error.error, Error::Full { .. }), "{error}");
    let last = error.last_good.unwrap();
    assert_eq!(last.committed, set);
    assert_eq!(last.in_flight[0].stage, Stage::Begun);

    disk.refuse(false);
    let commits = |records: Vec<crate::Record>| {
        records.into_iter().filter(|record| record.event == Event::Commit).count()
    };
    assert_eq!(commits(journal.records().unwrap()), 1);
    journal.commit(id).unwrap();
    assert_eq!(commits(journal.records().unwrap()), 2);
    drop(journal);
    assert_eq!(open(&disk).unwrap().committed["physics"], digest("physics", 2));
}

#[test]
fn a_sync_that_fails_is_not_tried_again_and_is_said_from_then_on() {
    let disk = Simulated::new();
    let journal = open(&disk).unwrap().journal;
    commit(&journal, &[("physics", 1)]).unwrap();
    let set = journal.committed();
    let id = begin(&journal, &[("physics", 2)]).unwrap();
    let syncs = disk.syncs();
    disk.fail_next_sync();
    let error = journal.commit(id).unwrap_err();
    assert_eq!(error, Error::SyncFailed { said: "the disk does not answer".to_owned() });
    assert!(error.to_string().contains("the disk does not answer"));
    assert_eq!(journal.committed(), set);

    let again = Err(error.clone());
    assert_eq!(journal.commit(id), again);
    assert_eq!(journal.commit_lazily(id), again);
    assert_eq!(journal.prepared(id), again);
    assert_eq!(journal.applied(id), again);
    assert_eq!(journal.abort(id, "no"), again);
    assert_eq!(journal.flush(), again);
    assert_eq!(journal.begin(Vec::new()).map(drop), again);
    assert_eq!(journal.put(b"bytes").map(drop), again);
    assert_eq!(journal.collect().map(drop), again);
    let closing = journal.close();
    assert_eq!(closing, again);
    assert_eq!(disk.syncs(), syncs + 1, "it was tried again");

    // Whether it is committed is known to who opens it next.
    for crash in [Crash::Bare, Crash::Process].into_iter().chain((0..50).map(Crash::Torn)) {
        let found = open(&disk.after(crash)).unwrap().committed["physics"];
        assert!([1, 2].map(|version| digest("physics", version)).contains(&found), "{crash:?}");
    }
}

#[test]
fn so_is_one_of_a_modules_bytes() {
    let disk = Simulated::new();
    let journal = open(&disk).unwrap().journal;
    disk.fail_next_sync();
    assert!(matches!(journal.put(b"bytes"), Err(Error::SyncFailed { .. })));
    assert!(matches!(journal.put(b"bytes"), Err(Error::SyncFailed { .. })));
}

#[test]
fn the_collector_frees_what_nothing_names_and_nothing_else() {
    let disk = Simulated::new();
    let options = Options::new().kept_records(7);
    let journal = options.open_on(disk.shared(), None).unwrap().journal;
    for version in 1..=5 {
        commit(&journal, &[("physics", version)]).unwrap();
    }
    let held = journal.put(b"held").unwrap();
    let dropped = journal.put(b"dropped").unwrap().digest();
    let open = begin(&journal, &[("sound", 1)]).unwrap();
    journal.flush().unwrap();
    // Seven records are kept: of the versions 4 and 5, and the beginning of the open one.
    let named: Vec<_> = journal.records().unwrap().into_iter().map(|record| record.event).collect();
    assert_eq!(named.len(), 7);
    let freed = journal.collect().unwrap();
    assert_eq!((freed.files, freed.records), (4, 0), "{named:?}");
    for (version, kept) in [(1, false), (2, false), (3, false), (4, true), (5, true)] {
        assert_eq!(journal.bytes(digest("physics", version)).is_ok(), kept, "{version}");
    }
    assert_eq!(journal.bytes(dropped), Err(Error::NoBytes(dropped)));
    journal.bytes(held.digest()).unwrap();
    journal.commit(open).unwrap();
    journal.bytes(digest("sound", 1)).unwrap();
    let held_until = held.digest();
    drop(held);
    journal.collect().unwrap();
    assert_eq!(journal.bytes(held_until), Err(Error::NoBytes(held_until)));
}

#[test]
fn modules_take_no_more_room_than_they_may_unless_they_are_needed() {
    let disk = Simulated::new();
    let journal = Options::new().module_bytes(2000).open_on(disk.shared(), None).unwrap().journal;
    let used = || {
        let files = disk.names().into_iter().filter(|name| name.starts_with("modules/"));
        files.map(|name| disk.contents(&name).unwrap().len()).sum::<usize>()
    };
    for version in 1..=50 {
        commit(&journal, &[("physics", version)]).unwrap();
        assert!(used() <= 2200, "{} bytes", used());
    }
    let records = journal.records().unwrap();
    assert!(records.len() > 20 && records.len() < 60, "{}", records.len());
    // What is committed is needed, however much it is.
    let many: Vec<_> = (0..40).map(|at| format!("module {at}")).collect();
    let versions: Vec<_> = many.iter().map(|name| (name.as_str(), 1)).collect();
    commit(&journal, &versions).unwrap();
    journal.collect().unwrap();
    for digest in journal.committed().values() {
        journal.bytes(*digest).unwrap();
    }
    assert!(used() > 2000);
}

#[test]
fn records_say_what_has_happened() {
    let disk = Simulated::new();
    let journal = open(&disk).unwrap().journal;
    commit(&journal, &[("physics", 1)]).unwrap();
    let id = begin(&journal, &[("physics", 2)]).unwrap();
    journal.abort(id, &"€".repeat(2000)).unwrap();
    let expect = |records: Vec<crate::Record>| {
        let mut events = records.into_iter().map(|record| record.event);
        assert!(matches!(events.next(), Some(Event::Begin(_))));
        assert!(events.by_ref().take(3).eq([Event::Prepared, Event::Commit, Event::Applied]));
        assert!(matches!(events.next(), Some(Event::Begin(_))));
        assert!(matches!(events.next(), Some(Event::Abort(reason)) if reason.len() == 4095));
        assert_eq!(events.next(), None);
    };
    expect(journal.records().unwrap());
    // Also by who finds them after a crash.
    expect(open(&disk.after(Crash::Process)).unwrap().journal.records().unwrap());
}
