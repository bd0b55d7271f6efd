//! What each level of isolation prevents: a test for each cell of the table in
//! docs/transactions.md, which reads the cell there.

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use midflight::{
    Error, ErrorKind, Isolation, LoadOptions, ReloadHooks, Runtime, Transaction, TransactionOptions,
};
use support::{Workshop, start};

fn file(shop: &Workshop, name: &str) -> PathBuf {
    shop.module(name, 1, &format!("int {name}_number(void) {{ return 1; }}"))
}

/// The runtime with two modules, and what a scene needs.
struct Scene<'s> {
    rt: Runtime,
    shop: &'s Workshop,
    level: Isolation,
}

impl Scene<'_> {
    fn begin(&self) -> Transaction {
        self.rt.transaction(&TransactionOptions::new().isolation(self.level)).unwrap()
    }

    fn load(&self, tx: &mut Transaction, name: &str) {
        // SAFETY: the tests' modules are sound.
        unsafe { tx.load(file(self.shop, name)) }.unwrap();
    }

    /// Another transaction, of the same level, loads or replaces this module and commits.
    fn another_loads(&self, name: &str) {
        let mut tx = self.begin();
        self.load(&mut tx, name);
        tx.commit().unwrap();
    }
}

/// Whether a commit was refused because something has changed.
fn conflicts(tx: Transaction) -> bool {
    match tx.commit() {
        Ok(_) => false,
        Err(error @ Error::Conflict { .. }) => {
            assert_eq!(error.kind(), ErrorKind::Conflict);
            let said = error.to_string();
            assert!(said.starts_with("Transaction conflict detected, rolling back: module `"), "{said}");
            true
        }
        Err(error) => panic!("{error}"),
    }
}

/// Of each anomaly a scene that has it, if the level lets it: true if it came to be.
type Anomaly = fn(&Scene<'_>) -> bool;

fn dirty_read(scene: &Scene<'_>) -> bool {
    let mut other = scene.begin();
    scene.load(&mut other, "first");
    let mut tx = scene.begin();
    let seen = tx.version("first").unwrap();
    let listed = tx.modules().unwrap().get("first").copied();
    other.rollback();
    let committed = scene.rt.frame().version("first");
    assert_eq!(listed, seen, "both ways of reading see the same");
    seen != committed
}

fn non_repeatable_read(scene: &Scene<'_>) -> bool {
    let mut tx = scene.begin();
    let seen = tx.version("first").unwrap();
    scene.another_loads("first");
    tx.version("first").unwrap() != seen
}

fn phantom_module(scene: &Scene<'_>) -> bool {
    let mut tx = scene.begin();
    let listed = tx.modules().unwrap();
    scene.another_loads("third");
    tx.modules().unwrap() != listed
}

fn lost_update(scene: &Scene<'_>) -> bool {
    let mut tx = scene.begin();
    let seen = tx.version("first").unwrap();
    scene.another_loads("first");
    let between = scene.rt.frame().version("first");
    assert_ne!(seen, between);
    // Decided by what was seen: it is not known that there is another by now.
    scene.load(&mut tx, "first");
    let lost = !conflicts(tx);
    assert_eq!(scene.rt.frame().version("first") != between, lost);
    lost
}

fn write_skew(scene: &Scene<'_>) -> bool {
    let [mut one, mut two] = [scene.begin(), scene.begin()];
    let both_are_there =
        |tx: &mut Transaction| ["first", "second"].iter().all(|name| tx.version(name).unwrap().is_some());
    // "Unload one of the two if both are there."
    assert!(both_are_there(&mut one) && both_are_there(&mut two));
    one.unload("first").unwrap();
    two.unload("second").unwrap();
    assert!(!conflicts(one), "the first wins");
    let skewed = !conflicts(two);
    assert_eq!(scene.rt.modules().unwrap().is_empty(), skewed);
    skewed
}

/// What the document says of an anomaly at a level.
fn documented(anomaly: &str, level: Isolation) -> bool {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/transactions.md");
    let text = std::fs::read_to_string(path).unwrap();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let mut rows = text.lines().skip_while(|line| !line.starts_with("| anomaly |"));
    let names = cells(rows.next().expect("the table of anomalies"));
    let in_c = ["READ_UNCOMMITTED", "READ_COMMITTED", "REPEATABLE_READ", "SERIALIZABLE"];
    let column = names.iter().position(|name| name == in_c[level as usize]).expect("the level's column");
    let row = rows.map(cells).take_while(|row| row.len() > 1).find(|row| row[0] == anomaly);
    match &*row.unwrap_or_else(|| panic!("no row `{anomaly}`"))[column] {
        "possible" => true,
        "prevented" => false,
        other => panic!("`{other}` is no answer"),
    }
}

fn cell(name: &str, level: Isolation, anomaly: Anomaly) {
    let (rt, shop, _turn) = start(&format!("isolation-{name}-{}", level as i32));
    // SAFETY: the tests' modules are sound.
    unsafe { rt.load_all([file(&shop, "first"), file(&shop, "second")]) }.unwrap();
    let found = anomaly(&Scene { rt, shop: &shop, level });
    let names: Vec<String> = rt.modules().unwrap().into_iter().map(|module| module.name).collect();
    rt.unload_all(names).unwrap();
    let name = name.replace("non_", "non-").replace('_', " ");
    assert_eq!(found, documented(&name, level), "{name} at {level:?}");
}

/// A test for each level of an anomaly.
macro_rules! row {
    ($anomaly:ident) => {
        mod $anomaly {
            use super::{Isolation, cell};
            const NAME: &str = stringify!($anomaly);

            #[test]
            fn read_uncommitted() {
                cell(NAME, Isolation::ReadUncommitted, super::$anomaly);
            }

            #[test]
            fn read_committed() {
                cell(NAME, Isolation::ReadCommitted, super::$anomaly);
            }

            #[test]
            fn repeatable_read() {
                cell(NAME, Isolation::RepeatableRead, super::$anomaly);
            }

            #[test]
            fn serializable() {
                cell(NAME, Isolation::Serializable, super::$anomaly);
            }
        }
    };
}

row!(dirty_read);
row!(non_repeatable_read);
row!(phantom_module);
row!(lost_update);
row!(write_skew);

/// Each level, with the two modules loaded anew.
fn at_each_level(name: &str, test: impl Fn(&Scene<'_>)) {
    let (rt, shop, _turn) = start(name);
    for level in Isolation::ALL {
        // SAFETY: the tests' modules are sound.
        unsafe { rt.load_all([file(&shop, "first"), file(&shop, "second")]) }.unwrap();
        test(&Scene { rt, shop: &shop, level });
        let names: Vec<String> = rt.modules().unwrap().into_iter().map(|module| module.name).collect();
        rt.unload_all(names).unwrap();
    }
}

#[test]
fn of_two_that_write_a_module_the_first_wins_from_read_committed_on() {
    at_each_level("isolation-first", |scene| {
        let [mut one, mut two] = [scene.begin(), scene.begin()];
        scene.load(&mut one, "first");
        scene.load(&mut two, "first");
        assert!(!conflicts(one));
        assert_eq!(conflicts(two), scene.level >= Isolation::ReadCommitted);
        // The same if it was not there before.
        let [mut one, mut two] = [scene.begin(), scene.begin()];
        scene.load(&mut one, "third");
        scene.load(&mut two, "third");
        assert!(!conflicts(one));
        assert_eq!(conflicts(two), scene.level >= Isolation::ReadCommitted);
    });
}

#[test]
fn a_load_outside_of_transactions_is_another_one() {
    at_each_level("isolation-outside", |scene| {
        let mut tx = scene.begin();
        scene.load(&mut tx, "first");
        // SAFETY: the tests' modules are sound.
        unsafe { scene.rt.load(file(scene.shop, "first")) }.unwrap();
        assert_eq!(conflicts(tx), scene.level >= Isolation::ReadCommitted);
    });
}

#[test]
fn a_load_may_ask_not_to_replace_what_came_since_it_began() {
    let (rt, shop, _turn) = start("isolation-load");
    let path = file(&shop, "first");
    // SAFETY: the tests' modules are sound.
    let load = move |options: LoadOptions<'_>, path: &PathBuf| unsafe { rt.load_with([path], &options) };
    load(LoadOptions::new(), &path).unwrap();
    // In the midst of the load another thread loads the module too, once.
    let (other, is_over) = (path.clone(), Arc::new(AtomicBool::new(true)));
    let comes = is_over.clone();
    let id = rt.add_hooks(ReloadHooks::new("another").before(move |_| {
        if !comes.swap(true, Ordering::Relaxed) {
            std::thread::scope(|scope| {
                scope.spawn(|| load(LoadOptions::new(), &other)).join().unwrap().unwrap();
            });
        }
        Ok(())
    }));
    let loaded_when_another_comes = |options| {
        let before = rt.frame().version("first").unwrap();
        // Relaxed, here and above: the same thread asks, and the one that comes is joined.
        is_over.store(false, Ordering::Relaxed);
        let loaded = load(options, &path);
        assert!(is_over.load(Ordering::Relaxed));
        (loaded.map(drop), rt.frame().version("first").unwrap() - before)
    };
    let (loaded, versions) = loaded_when_another_comes(LoadOptions::new());
    assert!(loaded.is_ok() && versions == 2, "the last wins");
    let (refused, versions) = loaded_when_another_comes(LoadOptions::new().refuse_conflicts(true));
    assert!(matches!(refused, Err(Error::Conflict { .. })) && versions == 1, "the first wins");
    assert!(rt.remove_hooks(id));
    load(LoadOptions::new().refuse_conflicts(true), &path).unwrap();
    rt.unload("first").unwrap();
}

#[test]
fn what_is_only_read_is_no_conflict_without_operations() {
    at_each_level("isolation-read", |scene| {
        let mut tx = scene.begin();
        let listed = tx.modules().unwrap();
        assert_eq!(tx.version("first").unwrap(), listed.get("first").copied());
        scene.another_loads("first");
        assert!(!conflicts(tx));
    });
}

#[test]
fn another_version_that_gives_the_same_answer_is_no_conflict() {
    at_each_level("isolation-symbols", |scene| {
        let ask = |tx: &mut Transaction, symbol: &str| tx.symbol("first", symbol).unwrap();
        let mut tx = scene.begin();
        assert!(ask(&mut tx, "first_number") && !ask(&mut tx, "another"));
        scene.another_loads("first");
        assert!(ask(&mut tx, "first_number"), "what was answered is answered again");
        scene.load(&mut tx, "third");
        assert!(!conflicts(tx));

        let mut tx = scene.begin();
        assert!(!ask(&mut tx, "another"));
        let more = scene.shop.module(
            "first",
            2,
            "int first_number(void) { return 2; } int another(void) { return 3; }",
        );
        // SAFETY: the tests' modules are sound.
        unsafe { scene.rt.load(more) }.unwrap();
        scene.load(&mut tx, "second");
        assert_eq!(conflicts(tx), scene.level == Isolation::Serializable);

        // What the version had that was there at the beginning, nobody knows any more.
        let mut tx = scene.begin();
        scene.another_loads("first");
        let asked = tx.symbol("first", "first_number");
        match scene.level >= Isolation::RepeatableRead {
            true => assert_eq!(asked.unwrap_err().kind(), ErrorKind::Conflict),
            false => assert!(asked.unwrap()),
        }
    });
}

#[test]
fn what_came_back_in_between_is_as_it_was() {
    at_each_level("isolation-back", |scene| {
        let mut tx = scene.begin();
        assert!(tx.version("first").unwrap().is_some());
        let keep = LoadOptions::new().keep_previous(true);
        // SAFETY: the tests' modules are sound.
        unsafe { scene.rt.load_with([file(scene.shop, "first")], &keep) }.unwrap();
        scene.rt.rollback_module("first").unwrap();
        scene.load(&mut tx, "first");
        assert!(!conflicts(tx));
    });
}

#[test]
fn what_was_taken_back_is_seen_by_nobody() {
    at_each_level("isolation-taken-back", |scene| {
        let [mut one, mut two] = [scene.begin(), scene.begin()];
        let before = two.version("first").unwrap();
        let savepoint = one.savepoint();
        scene.load(&mut one, "first");
        let is_seen = two.version("first").unwrap() != before;
        assert_eq!(is_seen, scene.level == Isolation::ReadUncommitted);
        one.rollback_to(savepoint).unwrap();
        assert_eq!((one.version("first").unwrap(), two.version("first").unwrap()), (before, before));
    });
}

#[test]
fn a_transaction_sees_its_own_operations() {
    at_each_level("isolation-own", |scene| {
        let mut tx = scene.begin();
        let before = tx.version("first").unwrap().unwrap();
        scene.load(&mut tx, "first");
        tx.unload("second").unwrap();
        assert_eq!(tx.version("first").unwrap(), Some(before + 1));
        assert_eq!(tx.version("second").unwrap(), None);
        let listed = tx.modules().unwrap();
        assert_eq!((listed.get("first"), listed.contains_key("second")), (Some(&(before + 1)), false));
        assert!(!tx.symbol("second", "second_number").unwrap());
        assert!(!conflicts(tx));
        assert_eq!(scene.rt.frame().version("first"), Some(before + 1));
    });
}
