//! Random transactions against a model; and many at once.

use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;

use super::disk::{Crash, DEADLINE, Simulated};
use super::{begin, bytes, open};
use crate::record::{Change, Set, Stage, TransactionId};
use crate::{Digest, Error, Journal};

#[derive(Clone, Debug)]
enum Step {
    /// Modules by number, and the versions that they get. Version 0: none.
    Begin(BTreeMap<u8, u32>),
    Prepared(usize),
    Commit(usize),
    CommitLazily(usize),
    Applied(usize),
    Abort(usize),
    Flush,
    Collect,
    Close,
    Kill,
    Stop(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let versions = prop::collection::btree_map(0..4_u8, 0..5_u32, 1..4);
    let which = 0..4_usize;
    let step = prop_oneof![
        6 => versions.prop_map(Step::Begin),
        2 => which.clone().prop_map(Step::Prepared),
        4 => which.clone().prop_map(Step::Commit),
        2 => which.clone().prop_map(Step::CommitLazily),
        2 => which.clone().prop_map(Step::Applied),
        2 => which.prop_map(Step::Abort),
        1 => Just(Step::Flush),
        1 => Just(Step::Collect),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::Stop),
    ];
    prop::collection::vec(step, 1..40)
}

/// What is expected: written without looking at how it is done.
#[derive(Default)]
struct Model {
    set: Set,
    open: BTreeMap<TransactionId, (Stage, Vec<Change>)>,
    /// Each set since the last sync, the first of them synced.
    since: Vec<Set>,
}

impl Model {
    fn exchange(&mut self, changes: &[Change], back: bool) -> bool {
        let pair = |change: &Change| if back { (change.new, change.old) } else { (change.old, change.new) };
        if changes.iter().any(|change| self.set.get(&change.module).copied() != pair(change).0) {
            return false;
        }
        for change in changes {
            match pair(change).1 {
                Some(digest) => self.set.insert(change.module.clone(), digest),
                None => self.set.remove(&change.module),
            };
        }
        self.since.push(self.set.clone());
        true
    }

    fn synced(&mut self) {
        self.since = vec![self.set.clone()];
    }

    fn commit(&mut self, id: TransactionId) -> bool {
        match self.open.get(&id).cloned() {
            Some((Stage::Begun | Stage::Prepared, changes)) if self.exchange(&changes, false) => {
                self.open.insert(id, (Stage::Committed, changes));
                true
            }
            _ => false,
        }
    }

    fn abort(&mut self, id: TransactionId) -> bool {
        let holds = match self.open.get(&id).cloned() {
            None => false,
            Some((Stage::Committed, changes)) => self.exchange(&changes, true),
            Some(_) => true,
        };
        if holds {
            self.open.remove(&id);
        }
        holds
    }
}

fn changes(set: &Set, versions: &BTreeMap<u8, u32>, journal: &Journal) -> (Vec<Change>, Vec<crate::Stored>) {
    let (mut changes, mut held) = (Vec::new(), Vec::new());
    for (number, version) in versions {
        let module = format!("module {number}");
        let new = (*version > 0).then(|| journal.put(&bytes(&module, *version)).unwrap());
        let change = match (set.get(&module), &new) {
            (None, None) => continue,
            (None, Some(new)) => Change::load(module, new.digest()),
            (Some(old), None) => Change::unload(module, *old),
            (Some(old), Some(new)) if version % 2 == 0 => Change::roll_back(module, *old, new.digest()),
            (Some(old), Some(new)) => Change::replace(module, *old, new.digest()),
        };
        changes.push(change);
        held.extend(new);
    }
    (changes, held)
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut disk = Simulated::new();
    let mut journal = open(&disk).unwrap().journal;
    let mut model = Model::default();
    model.synced();
    let mut ids: Vec<TransactionId> = Vec::new();
    for step in steps {
        let id = |at: &usize| ids.iter().rev().nth(*at).copied().unwrap_or(TransactionId(9999));
        match &step {
            Step::Begin(versions) => {
                let (changes, _held) = changes(&model.set, versions, &journal);
                let id = journal.begin(changes.clone()).unwrap();
                model.open.insert(id, (Stage::Begun, changes));
                ids.push(id);
            }
            Step::Prepared(at) => {
                let open = model.open.get_mut(&id(at)).filter(|open| open.0 == Stage::Begun);
                prop_assert_eq!(journal.prepared(id(at)).is_ok(), open.is_some());
                if let Some(open) = open {
                    open.0 = Stage::Prepared;
                }
            }
            Step::Commit(at) => {
                let done = model.commit(id(at));
                prop_assert_eq!(journal.commit(id(at)).is_ok(), done);
                if done {
                    model.synced();
                }
            }
            Step::CommitLazily(at) => {
                prop_assert_eq!(journal.commit_lazily(id(at)).is_ok(), model.commit(id(at)))
            }
            Step::Applied(at) => {
                let done = model.open.get(&id(at)).is_some_and(|open| open.0 == Stage::Committed);
                prop_assert_eq!(journal.applied(id(at)).is_ok(), done);
                if done {
                    model.open.remove(&id(at));
                }
            }
            Step::Abort(at) => {
                let committed = model.open.get(&id(at)).is_some_and(|open| open.0 == Stage::Committed);
                let done = model.abort(id(at));
                prop_assert_eq!(journal.abort(id(at), "asked for").is_ok(), done);
                if done && committed {
                    model.synced();
                }
            }
            Step::Flush => {
                journal.flush().unwrap();
                model.synced();
            }
            Step::Collect => drop(journal.collect().unwrap()),
            Step::Close | Step::Kill | Step::Stop(_) => {
                let crash = match step {
                    Step::Stop(seed) => Crash::Torn(seed),
                    _ => Crash::Process,
                };
                if matches!(step, Step::Close) {
                    journal.close().unwrap();
                    disk = disk.after(crash);
                } else {
                    let left = disk.after(crash);
                    drop(journal);
                    disk = left;
                }
                let opened = open(&disk).unwrap();
                match crash {
                    Crash::Process => {
                        prop_assert_eq!(&opened.committed, &model.set);
                        let open = opened.in_flight.iter();
                        let found: Vec<_> = open.map(|open| (open.transaction, open.stage)).collect();
                        let expected: Vec<_> = model.open.iter().map(|(id, open)| (*id, open.0)).collect();
                        prop_assert_eq!(found, expected);
                        model.open.retain(|_, open| open.0 == Stage::Committed);
                    }
                    _ => {
                        prop_assert!(model.since.contains(&opened.committed), "{:?}", opened.committed);
                        model.set.clone_from(&opened.committed);
                        // What the machine has lost of the rest was never promised.
                        let open = opened.journal.in_flight().into_iter();
                        model.open =
                            open.map(|open| (open.transaction, (open.stage, open.changes))).collect();
                    }
                }
                model.synced();
                journal = opened.journal;
            }
        }
        prop_assert_eq!(journal.committed(), model.set.clone());
        let open: Vec<_> =
            journal.in_flight().into_iter().map(|open| (open.transaction, open.stage)).collect();
        prop_assert_eq!(open, model.open.iter().map(|(id, open)| (*id, open.0)).collect::<Vec<_>>());
        for digest in model.set.values() {
            prop_assert!(journal.bytes(*digest).is_ok());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn any_transactions_come_to_what_the_model_says(steps in steps()) {
        run(steps)?;
    }
}

#[test]
fn what_is_committed_during_a_sync_shares_the_next_one() {
    let disk = Simulated::new();
    let journal = open(&disk).unwrap().journal;
    let names: Vec<_> = (0..9).map(|at| format!("module {at}")).collect();
    let ids: Vec<_> = names.iter().map(|name| begin(&journal, &[(name, 1)]).unwrap()).collect();
    let syncs = disk.syncs();
    std::thread::scope(|scope| {
        let gate = disk.hold_syncs();
        let first = scope.spawn(|| journal.commit(ids[0]));
        gate.wait_until_held();
        assert_eq!(journal.in_flight()[0].stage, Stage::Begun);
        assert_eq!(journal.prepared(ids[0]), Err(Error::BeingCommitted(ids[0])));
        let others: Vec<_> = ids[1..].iter().map(|id| scope.spawn(|| journal.commit(*id))).collect();
        let began = Instant::now();
        while journal.waiting() < others.len() {
            assert!(began.elapsed() < DEADLINE, "{} wait", journal.waiting());
            std::thread::yield_now();
        }
        // What needs no sync does not wait for one.
        let further = begin(&journal, &[]).unwrap();
        journal.prepared(further).unwrap();
        drop(gate);
        first.join().unwrap().unwrap();
        others.into_iter().for_each(|other| other.join().unwrap().unwrap());
    });
    assert_eq!(disk.syncs() - syncs, 2);
    let found = open(&disk.after(Crash::Bare)).unwrap().committed;
    assert_eq!(found.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
}

#[test]
fn many_threads_at_once_lose_nothing() {
    const THREADS: usize = 8;
    const ROUNDS: u32 = 20;
    let disk = Simulated::new();
    let journal = open(&disk).unwrap().journal;
    let names: Vec<_> = (0..THREADS).map(|at| format!("module {at}")).collect();
    std::thread::scope(|scope| {
        for (at, name) in names.iter().enumerate() {
            let journal = &journal;
            scope.spawn(move || {
                let mut old: Option<Digest> = None;
                for version in 1..=ROUNDS {
                    let new = journal.put(&bytes(name, version)).unwrap();
                    let change = match old.replace(new.digest()) {
                        None => Change::load(name.as_str(), new.digest()),
                        Some(old) => Change::replace(name.as_str(), old, new.digest()),
                    };
                    let id = journal.begin(vec![change]).unwrap();
                    journal.prepared(id).unwrap();
                    // Each fourth without a sync, but not the last.
                    match (at as u32 + version) % 4 {
                        0 if version < ROUNDS => journal.commit_lazily(id).unwrap(),
                        _ => journal.commit(id).unwrap(),
                    }
                    assert_eq!(journal.committed()[name], new.digest());
                    journal.applied(id).unwrap();
                    if version % 7 == 0 {
                        journal.collect().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(journal.records().unwrap().len(), THREADS * ROUNDS as usize * 4);
    let found = open(&disk.after(Crash::Bare)).unwrap().committed;
    assert!(names.iter().all(|name| found[name] == super::digest(name, ROUNDS)), "{found:?}");
}

#[test]
fn of_two_that_change_one_module_the_first_holds() {
    let journal = open(&Simulated::new()).unwrap().journal;
    let [one, two] = [1, 2].map(|version| begin(&journal, &[("physics", version)]).unwrap());
    journal.commit(two).unwrap();
    let first = Digest::of(&bytes("physics", 2));
    let refused = Error::NotCurrent { module: "physics".to_owned(), expected: None, found: Some(first) };
    assert_eq!(journal.commit(one), Err(refused.clone()));
    assert!(refused.to_string().contains("physics is committed as"));
    // Taken back, there is room for the other.
    journal.abort(two, "its constructor has failed").unwrap();
    journal.commit(one).unwrap();
    assert_eq!(
        journal.commit(one).unwrap_err().to_string(),
        "transaction 1 cannot be committed: it is committed"
    );
}

#[test]
fn what_cannot_be_is_refused_when_it_begins() {
    let journal = open(&Simulated::new()).unwrap().journal;
    let held = journal.put(b"bytes").unwrap();
    let digest = held.digest();
    let missing = Digest::of(b"none");
    let load = |module: &str| Change::load(module, digest);
    for (changes, expected) in [
        (vec![Change::load("a", missing)], "the journal does not have the bytes of"),
        (vec![load("a"), load("a")], "changes module a twice"),
        (
            vec![Change { old: Some(digest), ..load("a") }],
            "Load of module a needs a new digest and no old one",
        ),
        (vec![load(&"a".repeat(4097))], "4097 bytes of a name, and 4096 are the most"),
        ((0..65_537).map(|at| load(&at.to_string())).collect(), "65537 modules of a transaction"),
    ] {
        let error = journal.begin(changes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(journal.in_flight(), []);
    journal.begin(Vec::new()).unwrap();
}
