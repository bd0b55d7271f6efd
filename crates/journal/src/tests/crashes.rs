//! Crashes at every sync, and again at every sync of what follows.

use super::disk::{Crash, Simulated};
use super::{begin, bytes, commit, open};
use crate::open::Options;
use crate::record::{Change, Set, Stage};
use crate::{Digest, Error, Journal};

/// What the one who uses a journal knows.
#[derive(Default, Debug)]
struct Known {
    /// What was acknowledged as being on the disk.
    durable: Set,
    /// What was acknowledged since, without a sync, in order.
    lazy: Vec<Set>,
    /// What was asked for and not answered.
    asked: Option<Set>,
}

impl Known {
    fn latest(&self) -> &Set {
        self.lazy.last().unwrap_or(&self.durable)
    }

    fn ask(&mut self, change: impl FnOnce(&mut Set)) {
        let mut set = self.latest().clone();
        change(&mut set);
        self.asked = Some(set);
    }

    fn answered(&mut self, durable: bool) {
        let asked = self.asked.take().unwrap();
        if durable {
            (self.durable, self.lazy) = (asked, Vec::new());
        } else {
            self.lazy.push(asked);
        }
    }

    /// Whether this may be found after a crash.
    fn allows(&self, found: &Set, crash: Crash) -> bool {
        let asked = self.asked.iter();
        match crash {
            // Nothing that was acknowledged is lost, lazy or not.
            Crash::Process => asked.chain([self.latest()]).any(|set| set == found),
            Crash::Bare | Crash::Torn(_) => {
                asked.chain(&self.lazy).chain([&self.durable]).any(|set| set == found)
            }
        }
    }
}

/// A life of a journal with all there is, until it is over or the disk has crashed.
fn live(disk: &Simulated, options: &Options, known: &mut Known) -> Result<(), Error> {
    let journal = options.open_on(disk.shared(), None).map_err(|failed| failed.error)?.journal;
    let put = |set: &mut Set, module: &str, version| {
        set.insert(module.to_owned(), Digest::of(&bytes(module, version)));
    };
    for version in 1..=3 {
        let id = begin(&journal, &[("physics", version), ("sound", version)])?;
        journal.prepared(id)?;
        known.ask(|set| ["physics", "sound"].into_iter().for_each(|module| put(set, module, version)));
        journal.commit(id)?;
        known.answered(true);
        journal.applied(id)?;
    }
    // Without a sync, twice, and then with the next one's.
    for version in 4..=5 {
        let id = begin(&journal, &[("physics", version)])?;
        known.ask(|set| put(set, "physics", version));
        journal.commit_lazily(id)?;
        known.answered(false);
    }
    let id = begin(&journal, &[("world", 1)])?;
    journal.abort(id, "its file is damaged")?;
    let id = begin(&journal, &[("world", 2)])?;
    known.ask(|set| put(set, "world", 2));
    journal.commit(id)?;
    known.answered(true);
    // What was committed cannot be applied.
    known.ask(|set| assert!(set.remove("world").is_some()));
    journal.abort(id, "its constructor has failed")?;
    known.answered(true);

    known.asked = Some(known.latest().clone());
    journal.close()?;
    known.answered(true);
    let journal = options.open_on(disk.shared(), None).map_err(|failed| failed.error)?.journal;
    let sound = journal.committed()["sound"];
    let id = journal.begin(vec![Change::unload("sound", sound)])?;
    known.ask(|set| assert!(set.remove("sound").is_some()));
    journal.commit(id)?;
    known.answered(true);
    let id = begin(&journal, &[("physics", 6)])?;
    known.ask(|set| put(set, "physics", 6));
    journal.commit(id)?;
    known.answered(true);
    // More than fits: the oldest are freed.
    journal.collect()?;
    begin(&journal, &[("sound", 7)])?;
    Ok(())
}

/// What is found can be used: all bytes are there, and the next commit holds.
fn check(disk: &Simulated, options: &Options, known: &Known, crash: Crash, place: &str) -> Set {
    let opened = options.open_on(disk.shared(), None).unwrap_or_else(|error| panic!("{place}: {error}"));
    let found = opened.committed;
    assert!(known.allows(&found, crash), "{place}: found {found:?}, and known is {known:?}");
    for (module, digest) in &found {
        opened.journal.bytes(*digest).unwrap_or_else(|error| panic!("{place}: {module}: {error}"));
    }
    let open = opened.journal.in_flight();
    assert!(open.iter().all(|open| open.stage == Stage::Committed), "{place}: {open:?}");
    commit(&opened.journal, &[("after", 1)]).unwrap_or_else(|error| panic!("{place}: {error}"));
    opened.journal.close().unwrap();
    let mut again = open_set(disk);
    assert!(again.remove("after").is_some());
    assert_eq!(again, found, "{place}");
    found
}

fn open_set(disk: &Simulated) -> Set {
    open(disk).unwrap().committed
}

/// Crashes at every sync, in several ways; and for each `each`th, in one of these, again at every
/// sync of recovery.
fn crash_everywhere(options: &Options, each: u64) {
    let whole = Simulated::new();
    live(&whole, options, &mut Known::default()).unwrap();
    let (mut crashes, mut nested) = (0, 0);
    for sync in 1..=whole.syncs() {
        let disk = Simulated::new();
        disk.crash_at(sync);
        let mut known = Known::default();
        // It may be closed by then but for its last sync, which closing by dropping does not say.
        let lived = live(&disk, options, &mut known);
        assert!(disk.has_crashed(), "{lived:?}");
        let torn = (0..seeds()).map(|seed| Crash::Torn(sync * 1000 + seed));
        for (at, crash) in (0..).zip(torn.chain([Crash::Process, Crash::Bare])) {
            crashes += 1;
            let place = format!("{crash:?} at sync {sync}");
            let left = disk.after(crash);
            check(&left.copy(), options, &known, crash, &place);

            if sync % each != 0 || at != sync / each % (seeds() + 2) {
                continue;
            }
            for during in 1.. {
                let recovering = left.copy();
                recovering.crash_at(during);
                drop(options.open_on(recovering.shared(), None));
                if !recovering.has_crashed() {
                    break;
                }
                nested += 1;
                let place = format!("{place}, and at sync {during} of recovery");
                check(&recovering.after(crash), options, &known, crash, &place);
            }
        }
    }
    println!("{} syncs, {crashes} crashes, {nested} more during recovery: no losses", whole.syncs());
    assert!(crashes > 200 && nested > 200, "{crashes} crashes, {nested} during recovery");
}

/// In how many ways what was not synced is torn, for each sync.
fn seeds() -> u64 {
    std::env::var("MIDFLIGHT_JOURNAL_SEEDS").map_or(2, |seeds| seeds.parse().expect("a number"))
}

#[test]
fn a_crash_at_any_sync_leaves_the_last_acknowledged_set_or_the_one_in_flight() {
    crash_everywhere(&Options::new(), 1);
}

#[test]
fn so_does_one_of_a_journal_with_two_phases_and_little_room() {
    crash_everywhere(&Options::new().two_phase(true).module_bytes(800).kept_records(10), 4);
}

#[test]
fn a_process_that_is_killed_in_the_midst_of_any_write_loses_nothing_that_was_acknowledged() {
    let (whole, options) = (Simulated::new(), Options::new());
    live(&whole, &options, &mut Known::default()).unwrap();
    for write in 1..=whole.writes() {
        let disk = Simulated::new();
        disk.kill_at(write);
        let mut known = Known::default();
        let lived = live(&disk, &options, &mut known);
        assert!(disk.has_crashed(), "{lived:?}");
        let left = disk.after(Crash::Process);
        check(&left, &options, &known, Crash::Process, &format!("write {write}"));
    }
    println!("killed in {} writes: no losses", whole.writes());
    assert!(whole.writes() > 100);
}

#[test]
fn a_journal_that_is_being_made_is_made_anew() {
    let whole = Simulated::new();
    drop(open(&whole).unwrap());
    for sync in 1..=whole.syncs() {
        for seed in 0..20 {
            let disk = Simulated::new();
            disk.crash_at(sync);
            drop(open(&disk));
            let crash = Crash::Torn(seed);
            check(&disk.after(crash), &Options::new(), &Known::default(), crash, &format!("sync {sync}"));
        }
    }
}

#[test]
fn what_was_in_flight_is_known_when_the_process_was_killed() {
    let disk = Simulated::new();
    let journal = open(&disk).unwrap().journal;
    commit(&journal, &[("physics", 1)]).unwrap();
    let begun = begin(&journal, &[("physics", 2)]).unwrap();
    let prepared = begin(&journal, &[("sound", 1)]).unwrap();
    journal.prepared(prepared).unwrap();
    let committed = begin(&journal, &[("world", 1)]).unwrap();
    journal.commit(committed).unwrap();

    let opened = open(&disk.after(Crash::Process)).unwrap();
    let found: Vec<_> = opened.in_flight.iter().map(|open| (open.transaction, open.stage)).collect();
    let expected = [(begun, Stage::Begun), (prepared, Stage::Prepared), (committed, Stage::Committed)];
    assert_eq!(found, expected);
    assert_eq!(opened.committed.keys().collect::<Vec<_>>(), ["physics", "world"]);
    // The one that holds can still be applied, or taken back.
    assert_eq!(opened.journal.prepared(begun), Err(Error::UnknownTransaction(begun)));
    opened.journal.applied(committed).unwrap();
    assert_eq!(opened.journal.in_flight(), []);
}

fn assert_sync<T: Send + Sync>() {}

#[test]
fn a_journal_is_for_all_threads() {
    assert_sync::<Journal>();
}

#[test]
fn what_was_committed_lazily_outlives_the_machine_once_it_is_settled() {
    let disk = Simulated::new();
    let journal = open(&disk).unwrap().journal;
    commit(&journal, &[("physics", 1)]).unwrap();
    let before = journal.committed();
    let id = begin(&journal, &[("physics", 2)]).unwrap();
    journal.commit_lazily(id).unwrap();
    assert_eq!(open(&disk.after(Crash::Bare)).unwrap().committed, before);
    journal.settle().unwrap();
    assert_eq!(open(&disk.after(Crash::Bare)).unwrap().committed, journal.committed());
    // And once more there is nothing to do.
    let syncs = disk.syncs();
    journal.settle().unwrap();
    assert_eq!(disk.syncs(), syncs);
}

#[test]
fn bytes_are_one_journals() {
    let disk = Simulated::new();
    let journal = open(&disk).unwrap().journal;
    let stored = journal.put(&bytes("physics", 1)).unwrap();
    assert!(journal.has(&stored));
    journal.close().unwrap();
    assert!(!open(&disk).unwrap().journal.has(&stored));
}
