//! Conflicts of transactions: with what is loaded, with each other, and with what was committed since.
//! `tests/conflicts.rs` has those of loads.

mod support;

use std::path::PathBuf;

use midflight::conflict::{Action, Answer, Conflict, Kind, Request, Severity, Strategy};
use midflight::{
    ConflictMode, Error, ErrorKind, Isolation, LoadOptions, OperationOptions, Runtime, Transaction,
    TransactionOptions, View,
};
use support::{Workshop, start};

const PHYSICS: &str = "int twice(int x) { return 2 * x; } int step(int x) { return x + 1; }";
const GAME: &str = "int twice(int); int run(int x) { return twice(x); }";
const SOUND: &str = "int play(void) { return 1; }";

fn module(shop: &Workshop, name: &str, version: u32, source: &str) -> PathBuf {
    shop.module_for(std::env::consts::ARCH, name, version, source, &["-g"])
}

fn load(rt: Runtime, path: PathBuf) {
    // SAFETY: the tests' modules are sound.
    unsafe { rt.load_with([path], &LoadOptions::new().keep_previous(true)) }.unwrap();
}

fn begin(rt: Runtime, options: &TransactionOptions) -> Transaction {
    rt.transaction(options).unwrap()
}

fn add(tx: &mut Transaction, path: PathBuf) {
    // SAFETY: as above.
    unsafe { tx.load(path) }.unwrap();
}

/// A runtime that keeps files, with physics, the game that calls it, and sound.
fn playing(name: &str) -> (Runtime, Workshop, impl Drop) {
    let (rt, shop, turn) = start(name);
    rt.shutdown().unwrap();
    rt.set_keep_files(true);
    load(rt, module(&shop, "physics", 1, PHYSICS));
    load(rt, module(&shop, "game", 1, GAME));
    load(rt, module(&shop, "sound", 1, SOUND));
    (rt, shop, turn)
}

fn of(found: &[Conflict], kind: Kind) -> Vec<&Conflict> {
    found.iter().filter(|conflict| conflict.kind == kind).collect()
}

/// The number of a module's version. Tests that run in one process go on counting.
fn number(rt: Runtime, module: &str) -> Option<u64> {
    let modules = rt.modules().unwrap();
    modules.into_iter().find(|loaded| loaded.name == module).map(|loaded| loaded.version)
}

#[test]
fn two_that_are_open_and_touch_the_same_module() {
    let (rt, shop, _turn) = playing("transaction_conflicts_open");
    let next = module(&shop, "physics", 2, PHYSICS);
    let options = TransactionOptions::new();
    let (mut one, mut other) = (begin(rt, &options), begin(rt, &options));
    add(&mut one, next.clone());
    assert_eq!(one.conflicts().unwrap().found, [], "its own is none");
    add(&mut other, module(&shop, "sound", 2, SOUND));
    assert_eq!(other.conflicts().unwrap().found, [], "another module");
    let savepoint = other.savepoint();
    other.unload("physics").unwrap();
    // Each is told of the other, and whoever loads of both.
    let found = one.conflicts().unwrap().found;
    let concurrent = of(&found, Kind::ConcurrentModification);
    assert_eq!(concurrent.len(), 1, "{found:?}");
    assert_eq!(concurrent[0].concerned, [format!("transaction {}", other.id())]);
    assert_eq!((concurrent[0].severity, &*concurrent[0].module), (Severity::High, "physics"));
    let found = rt.conflicts([&next], &View::new().other("physics", "the editor")).unwrap().found;
    assert_eq!(of(&found, Kind::ConcurrentModification).len(), 3, "{found:?}");
    // What is taken back is no conflict, nor what is over.
    other.rollback_to(savepoint).unwrap();
    assert_eq!(one.conflicts().unwrap().found, []);
    one.rollback();
    assert_eq!(rt.conflicts([&next], &View::new()).unwrap().found, []);
}

/// Nobody waits: to be told is one thing, and who commits first has won.
#[test]
fn one_that_is_open_refuses_nobody() {
    let (rt, shop, _turn) = playing("transaction_conflicts_first");
    let options = TransactionOptions::new().conflicts(ConflictMode::Refuse);
    let (mut one, mut other) = (begin(rt, &options), begin(rt, &options));
    add(&mut one, module(&shop, "physics", 2, PHYSICS));
    add(&mut other, module(&shop, "physics", 3, PHYSICS));
    one.commit().unwrap();
    let found = other.conflicts().unwrap().found;
    assert!(of(&found, Kind::ConcurrentModification)[0].message.contains("changed after you looked"));
    assert!(matches!(other.commit(), Err(Error::Conflict { .. })));
    // A level that does not mind is not told either.
    let mut over = begin(rt, &options.isolation(Isolation::ReadUncommitted));
    add(&mut over, module(&shop, "physics", 4, PHYSICS));
    load(rt, module(&shop, "physics", 5, PHYSICS));
    assert_eq!(over.conflicts().unwrap().found, []);
    // At READ_COMMITTED it looks when it adds.
    let mut late = begin(rt, &options.isolation(Isolation::ReadCommitted));
    load(rt, module(&shop, "physics", 6, PHYSICS));
    add(&mut late, module(&shop, "physics", 7, PHYSICS));
    assert_eq!(of(&late.conflicts().unwrap().found, Kind::ConcurrentModification).len(), 1, "{over:?}");
    drop(over);
    assert_eq!(late.conflicts().unwrap().found, []);
}

#[test]
fn a_set_is_looked_at_as_a_whole() {
    let (rt, shop, _turn) = playing("transaction_conflicts_whole");
    let strict = TransactionOptions::new().conflicts(ConflictMode::Refuse);
    let other =
        || module(&shop, "physics", 2, &PHYSICS.replace("int twice(int x)", "double thrice(double x)"));
    // Alone it takes from the game what that calls.
    let mut alone = begin(rt, &strict);
    add(&mut alone, other());
    let found = alone.conflicts().unwrap().found;
    assert!(found.iter().any(|conflict| conflict.severity == Severity::Critical), "{found:?}");
    let refused = alone.commit().unwrap_err();
    assert!(matches!(refused, Error::Conflicting { .. }), "{refused}");
    // With new callers it does not.
    let mut both = begin(rt, &strict);
    add(&mut both, other());
    add(&mut both, module(&shop, "game", 2, "double thrice(double); int run(int x) { return thrice(x); }"));
    assert_eq!(both.conflicts().unwrap().found.iter().map(|of| of.severity).max(), Some(Severity::Low));
    both.commit_with(&LoadOptions::new().keep_previous(true)).unwrap();
    // Nor if the caller goes, or comes back as it was before.
    let mut back = begin(rt, &strict);
    back.rollback_module("game").unwrap();
    add(&mut back, module(&shop, "physics", 3, PHYSICS));
    assert!(back.conflicts().unwrap().found.iter().all(|of| of.severity == Severity::Low));
    back.commit().unwrap();
    let mut gone = begin(rt, &strict);
    gone.unload("game").unwrap();
    add(&mut gone, other());
    assert!(gone.conflicts().unwrap().found.iter().all(|of| of.severity == Severity::Low));
    gone.commit().unwrap();
}

#[test]
fn the_options_say_what_a_commit_does_about_conflicts() {
    let (rt, shop, _turn) = playing("transaction_conflicts_mode");
    if support::is_macho() {
        // Of Mach-O files signatures are not known: docs/macos.md.
        return;
    }
    let other = module(&shop, "physics", 2, &PHYSICS.replace("int twice(int x)", "long twice(long x)"));
    let commit = |options: &TransactionOptions, with: &LoadOptions<'_>| {
        let mut tx = begin(rt, options);
        add(&mut tx, other.clone());
        tx.commit_with(with)
    };
    let (plain, default) = (TransactionOptions::new(), LoadOptions::new());
    let refused = commit(&plain.conflicts(ConflictMode::Refuse), &default).unwrap_err();
    assert!(refused.to_string().contains("`twice` was `int (int)`"), "{refused}");
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(commit(&plain, &default.conflicts(ConflictMode::Refuse)).is_err(), "read before that was asked");
    assert!(commit(&plain.resolve_conflicts(true), &default).is_err(), "nobody has decided");
    let answer = Answer { action: Action::UseLatest, success: true, confidence: 1.0 };
    let resolver = rt.add_resolver("latest", move |_| Some(answer.clone()));
    commit(&plain.resolve_conflicts(true).conflicts(ConflictMode::Refuse), &default).unwrap();
    assert!(rt.remove_resolver(resolver));
    rt.rollback_module("physics").unwrap_err();
    load(rt, module(&shop, "physics", 1, PHYSICS));
    commit(&plain.conflicts(ConflictMode::PreferLatest), &default).unwrap();
    // What the commit is given comes first.
    load(rt, module(&shop, "physics", 1, PHYSICS));
    let prefer = default.conflicts(ConflictMode::PreferLatest);
    commit(&plain.conflicts(ConflictMode::Refuse), &prefer).unwrap();
    load(rt, module(&shop, "physics", 1, PHYSICS));
    commit(&plain, &default).unwrap();
}

/// One that has read what has changed since: it has lost.
fn lost(rt: Runtime, shop: &Workshop, options: &TransactionOptions) -> Transaction {
    let mut tx = begin(rt, options);
    tx.version("sound").unwrap();
    add(&mut tx, module(shop, "physics", 2, PHYSICS));
    load(rt, module(shop, "sound", 2, SOUND));
    tx
}

fn merges(rt: Runtime) -> (u64, u64) {
    let conflict = Conflict {
        severity: Severity::High,
        kind: Kind::ConcurrentModification,
        module: "none".into(),
        place: Default::default(),
        concerned: Vec::new(),
        message: String::new(),
        proposal: String::new(),
    };
    let answer = |_: &Conflict| Some(Answer { action: Action::Merge, success: false, confidence: 0.0 });
    let asked = rt.add_resolver("merges", answer);
    let measured =
        rt.resolve(&conflict, &Request { strategy: Strategy::Manual, ..Request::default() }).measured;
    rt.remove_resolver(asked);
    (measured.well, measured.of)
}

#[test]
fn one_that_has_lost_is_merged_with_what_has_won() {
    let (rt, shop, _turn) = playing("transaction_merge");
    let options = TransactionOptions::new();
    assert!(matches!(lost(rt, &shop, &options).commit(), Err(Error::Conflict { .. })));
    let mut tx = lost(rt, &shop, &options);
    let ids = [number(rt, "sound"), number(rt, "physics")];
    let merged = tx.merge().unwrap();
    assert!(merged.is_clean() && merged.collisions.is_empty(), "{merged}");
    // It sees what was committed, and its own.
    assert_eq!(tx.version("sound").unwrap(), ids[0]);
    assert_eq!(tx.version("physics").unwrap(), ids[1].map(|number| number + 1));
    assert_eq!(merges(rt), (0, 0), "nothing has come of it yet");
    tx.commit().unwrap();
    assert_eq!(number(rt, "physics"), ids[1].map(|number| number + 1));
    assert_eq!(merges(rt), (1, 1));
    // By the option, at commit.
    lost(rt, &shop, &options.merge(true)).commit().unwrap().unwrap();
    assert_eq!(merges(rt), (2, 2));
    // What has not lost is as it was.
    let mut tx = begin(rt, &options.merge(true));
    add(&mut tx, module(&shop, "physics", 3, PHYSICS));
    tx.commit().unwrap();
    assert_eq!(merges(rt), (2, 2));
}

#[test]
fn modules_that_both_have_changed_are_listed() {
    let (rt, shop, _turn) = playing("transaction_collisions");
    for level in [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable] {
        let options = TransactionOptions::new().isolation(level);
        let mut tx = begin(rt, &options.merge(true));
        add(&mut tx, module(&shop, "physics", 2, PHYSICS));
        tx.unload("sound").unwrap();
        add(&mut tx, module(&shop, "game", 2, GAME));
        let before = number(rt, "physics");
        load(rt, module(&shop, "physics", 3, PHYSICS));
        load(rt, module(&shop, "sound", 3, SOUND));
        let merged = tx.merge().unwrap();
        let modules: Vec<_> = merged.collisions.iter().map(|of| &*of.module).collect();
        assert!(!merged.is_clean() && modules == ["physics", "sound"], "{merged}");
        let physics = &merged.collisions[0];
        let next = |number: Option<u64>| number.map(|number| number + 1);
        assert_eq!((physics.base, physics.theirs), (before, next(before)));
        assert_eq!((physics.ours, merged.collisions[1].ours), (next(before), None));
        assert!(merged.to_string().contains("and this takes it out"), "{merged}");
        // It is as it was.
        assert_eq!(tx.len(), 3);
        let error = tx.commit().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let text = error.to_string();
        assert!(
            text.starts_with("Transaction conflict detected, rolling back")
                && text.contains("\n  sound was ")
        );
        assert!(matches!(error, Error::NotMerged { collisions, .. } if collisions.len() == 2));
    }
}

/// Neither has touched the other's module, and together they do not go.
#[test]
fn a_merged_set_that_conflicts_is_not_committed() {
    let (rt, shop, _turn) = playing("transaction_merge_conflicts");
    let mut tx = begin(rt, &TransactionOptions::new().merge(true));
    tx.modules().unwrap();
    // Ours drops what nobody calls; theirs comes to call it.
    add(&mut tx, module(&shop, "physics", 2, &PHYSICS.replace("int step", "int jump")));
    load(rt, module(&shop, "sound", 2, "int step(int); int play(void) { return step(1); }"));
    let merged = tx.merge().unwrap();
    assert!(merged.collisions.is_empty() && !merged.is_clean(), "{merged}");
    assert_eq!(merged.conflicts[0].concerned, ["sound"], "{merged}");
    let error = tx.commit().unwrap_err();
    assert!(matches!(&error, Error::NotMerged { conflicts, .. } if !conflicts.is_empty()), "{error}");
}

/// What both have done in the same way is done; what came behind it stays.
#[test]
fn what_both_have_taken_out_is_gone() {
    let (rt, shop, _turn) = playing("transaction_merge_alike");
    let mut tx = begin(rt, &TransactionOptions::new());
    tx.unload("sound").unwrap();
    let savepoint = tx.savepoint();
    let keep = OperationOptions::new().keep_previous(true);
    // SAFETY: the tests' modules are sound.
    unsafe { tx.load_with(module(&shop, "physics", 2, PHYSICS), &keep) }.unwrap();
    rt.unload("sound").unwrap();
    assert!(tx.merge().unwrap().is_clean());
    assert_eq!(tx.len(), 1);
    tx.rollback_to(savepoint).unwrap();
    assert!(tx.is_empty());
    tx.rollback_module("physics").unwrap_err();
    // SAFETY: as above.
    unsafe { tx.load_with(module(&shop, "physics", 2, PHYSICS), &keep) }.unwrap();
    tx.commit().unwrap();
    // The same of a version that comes back.
    let mut tx = begin(rt, &TransactionOptions::new().merge(true));
    tx.rollback_module("physics").unwrap();
    rt.rollback_module("physics").unwrap();
    assert_eq!(tx.commit().unwrap(), None, "there is nothing left");
}
