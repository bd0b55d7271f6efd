//! Transactions: all of it in one publication or nothing, apart from what others do meanwhile.
//! `tests/isolation.rs` has the levels.

mod support;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use midflight::{
    Error, ErrorKind, Isolation, LoadOptions, ModuleState, OperationOptions, Outcome, ReloadHooks, Runtime,
    TransactionOptions,
};
use support::heard::Heard;
use support::{Workshop, start};

midflight::module! {
    unsafe mod first { safe fn first_number() -> i32; }
    unsafe mod second { safe fn second_number() -> i32; }
    unsafe mod third { safe fn third_number() -> i32; }
}

fn module(shop: &Workshop, name: &str, version: u32) -> PathBuf {
    shop.module(name, version, &format!("int {name}_number(void) {{ return {version}; }}"))
}

const NAMES: [&str; 3] = ["first", "second", "third"];

fn all(shop: &Workshop, version: u32) -> Vec<PathBuf> {
    NAMES.iter().map(|name| module(shop, name, version)).collect()
}

/// What the three return in a frame.
fn numbers(frame: &midflight::Frame) -> [i32; 3] {
    [first::first_number(frame), second::second_number(frame), third::third_number(frame)]
}

/// The number of a module's version. Tests that run in one process go on counting.
fn version(rt: Runtime, module: &str) -> u64 {
    rt.frame().version(module).expect("it is loaded")
}

fn unload_all(rt: Runtime) {
    let names: Vec<String> = rt.modules().unwrap().into_iter().map(|module| module.name).collect();
    rt.unload_all(names).unwrap();
    assert_eq!(rt.collect().unwrap().old_bytes, 0, "nothing is left");
}

fn begin(rt: Runtime) -> midflight::Transaction {
    rt.transaction(&TransactionOptions::new()).unwrap()
}

/// Loads them with a version before to go back to, so that each is at 2.
fn load_twice(rt: Runtime, shop: &Workshop) {
    for version in [1, 2] {
        let options = LoadOptions::new().keep_previous(true);
        // SAFETY: the tests' modules have the functions as declared above.
        unsafe { rt.load_with(all(shop, version), &options) }.unwrap();
    }
}

#[test]
fn loads_unloads_and_rollbacks_are_one_publication() {
    let (rt, shop, _turn) = start("transaction-mixed");
    load_twice(rt, &shop);
    let before = rt.statistics().unwrap().generation;
    let [one, two, three] = NAMES.map(|name| version(rt, name));
    let parked = rt.frame();

    let mut tx = begin(rt);
    // SAFETY: as above.
    unsafe { tx.load(module(&shop, "first", 3)) }.unwrap();
    tx.rollback_module("second").unwrap();
    tx.unload("third").unwrap();
    assert_eq!((tx.len(), tx.is_empty()), (3, false));
    assert_eq!(numbers(&rt.frame()), [2, 2, 2], "nothing has happened");
    assert_eq!(rt.statistics().unwrap().generation, before);

    let published = tx.commit().unwrap().expect("there was something to publish");
    let names = |modules: &[midflight::ModuleVersion]| -> Vec<(String, u64, Option<u64>)> {
        let replaced = |of: &midflight::ModuleVersion| of.replaced.as_ref().map(|before| before.version);
        modules.iter().map(|of| (of.name.clone(), of.version, replaced(of))).collect()
    };
    assert_eq!(published.generation, before + 1, "one publication");
    assert_eq!(names(&published.modules), [("first".into(), one + 1, Some(one))]);
    assert_eq!(names(&published.back), [("second".into(), two - 1, Some(two))]);
    assert_eq!(names(&published.gone), [("third".into(), three, None)]);
    assert_eq!(numbers(&parked), [2, 2, 2], "a frame stays where it is");
    drop(parked);

    let frame = rt.frame();
    assert_eq!((first::first_number(&frame), second::second_number(&frame)), (3, 1));
    assert_eq!(frame.version("third"), None);
    drop(frame);
    // What has come back took the place of what it was kept for, and an unloaded module has no
    // version to go back to.
    rt.rollback_module("second").unwrap();
    assert_eq!(second::second_number(&rt.frame()), 2);
    assert!(matches!(rt.rollback_module("third"), Err(Error::NotLoaded { .. })));
    unload_all(rt);
}

#[test]
fn of_three_one_that_is_bad_moves_nothing() {
    let (rt, shop, _turn) = start("transaction-bad");
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load_all(all(&shop, 1)) }.unwrap();
    let address = rt.frame_symbol("second", "second_number").unwrap();
    // Bad in the ways that are known when it is added, when all is linked, and when it runs.
    let refuses = "int third_number(void) { return 2; } int module_init(void) { return 7; }";
    let lacks = "int nobody_has_this(void); int third_number(void) { return nobody_has_this(); }";
    let bad = [
        ("lacks its function", shop.module("third", 12, "int another(void) { return 2; }")),
        ("refuses", shop.module("third", 13, refuses)),
        ("is not resolved", shop.module("third", 14, lacks)),
    ];
    let state = rt.versions().unwrap();
    let mut mapped = Vec::new();
    for (what, path) in bad.iter().cycle().take(4 * bad.len()) {
        let frame = rt.frame();
        let before = (rt.statistics().unwrap().generation, numbers(&frame));
        let mut tx = begin(rt);
        // SAFETY: as above.
        unsafe {
            tx.load(module(&shop, "first", 2)).unwrap();
            tx.load(module(&shop, "second", 2)).unwrap();
            tx.load(path).unwrap();
        }
        let error = tx.commit().unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Incompatible | ErrorKind::Refused | ErrorKind::Unresolved),
            "{what}: {error}"
        );
        assert_eq!((rt.statistics().unwrap().generation, numbers(&frame)), before, "{what}");
        drop(frame);
        assert_eq!(numbers(&rt.frame()), [1, 1, 1], "{what}");
        assert_eq!(rt.frame_symbol("second", "second_number").unwrap(), address, "{what}");
        rt.collect().unwrap();
        assert_eq!(rt.versions().unwrap(), state, "{what}: what is in memory is what was");
        mapped.push(support::count_mappings());
    }
    // Pages that were used once stay mapped for the next.
    assert!(mapped.last() <= mapped.get(bad.len()), "a failure leaves nothing behind: {mapped:?}");
    unload_all(rt);
}

#[test]
fn a_frame_on_another_thread_sees_all_of_it_or_nothing() {
    let (rt, shop, _turn) = start("transaction-threads");
    let options = LoadOptions::new().keep_previous(true);
    let [one, two] = [1, 2].map(|version| all(&shop, version));
    for files in [&one, &two] {
        // SAFETY: the tests' modules have the functions as declared above.
        unsafe { rt.load_with(files, &options) }.unwrap();
    }
    let (over, frames) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        // Relaxed: only counted, and only to end.
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let [first, second, third] = numbers(&rt.frame());
                    assert!(first == second && second == third, "{first} {second} {third}");
                    frames.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut rounds = 0;
        while rounds < 50 || frames.load(Ordering::Relaxed) < 1000 {
            let mut tx = begin(rt);
            // The three are at one number: two come back to it, and one is loaded again.
            let now = first::first_number(&rt.frame());
            let next = if now == 2 { &one } else { &two };
            tx.rollback_module("first").unwrap();
            tx.rollback_module("third").unwrap();
            // SAFETY: as above.
            unsafe { tx.load_with(&next[1], &OperationOptions::new().keep_previous(true)) }.unwrap();
            tx.commit().unwrap();
            rounds += 1;
        }
        over.store(true, Ordering::Relaxed);
    });
    unload_all(rt);
}

#[test]
fn what_is_wrong_is_known_when_it_is_added_and_the_transaction_goes_on() {
    let (rt, shop, _turn) = start("transaction-adding");
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load_all(all(&shop, 1)) }.unwrap();
    let mut tx = begin(rt);
    // SAFETY: as above; the second is no module.
    unsafe {
        tx.load(module(&shop, "first", 2)).unwrap();
        let error = tx.load(shop.file("libsecond.so", b"\x7fELF and no more")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidModule, "{error}");
        assert_eq!(tx.load("/nowhere/libsecond.so").unwrap_err().kind(), ErrorKind::Io);
        let error = tx.load(module(&shop, "first", 3)).unwrap_err();
        assert!(matches!(&error, Error::AlreadyInTransaction { module } if module == "first"), "{error}");
    }
    assert!(matches!(tx.unload("nobody"), Err(Error::NotLoaded { .. })));
    assert!(matches!(tx.rollback_module("second"), Err(Error::NoPreviousVersion { .. })));
    assert_eq!(tx.len(), 1);
    // SAFETY: as above.
    unsafe { tx.load(module(&shop, "second", 2)) }.unwrap();
    tx.commit().unwrap();
    assert_eq!(numbers(&rt.frame()), [2, 2, 1]);
    unload_all(rt);
}

#[test]
fn what_others_of_the_set_make_right_is_no_error_when_it_is_added() {
    let (rt, shop, _turn) = start("transaction-together");
    let options = TransactionOptions::new();
    let mut tx = rt.transaction(&options).unwrap();
    let caller = "int second_number(void); int first_number(void) { return second_number() + 10; }";
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe {
        tx.load(shop.module("first", 21, caller)).unwrap();
        tx.load(module(&shop, "second", 5)).unwrap();
    }
    assert!(tx.symbol("first", "first_number").unwrap(), "it sees its own");
    assert!(!tx.symbol("first", "second_number").unwrap());
    tx.commit().unwrap();
    assert_eq!(first::first_number(&rt.frame()), 15);

    // A module that is called can go when its caller does, or is replaced by one that does not
    // call it.
    let mut tx = rt.transaction(&options).unwrap();
    tx.unload("second").unwrap();
    let error = tx.commit().unwrap_err();
    assert!(matches!(error, Error::StillImported { .. }), "{error}");
    let mut tx = rt.transaction(&options).unwrap();
    tx.unload("second").unwrap();
    // SAFETY: as above.
    unsafe { tx.load(module(&shop, "first", 3)) }.unwrap();
    tx.commit().unwrap();
    assert_eq!(first::first_number(&rt.frame()), 3);

    // And one that calls what is going is refused.
    // SAFETY: as above.
    unsafe { rt.load(module(&shop, "second", 5)) }.unwrap();
    let mut tx = rt.transaction(&options).unwrap();
    tx.unload("second").unwrap();
    // SAFETY: as above.
    unsafe { tx.load(shop.module("first", 21, caller)) }.unwrap();
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Unresolved);
    assert_eq!(first::first_number(&rt.frame()), 3);
    unload_all(rt);
}

#[test]
fn a_version_that_comes_back_needs_what_it_calls() {
    let (rt, shop, _turn) = start("transaction-back");
    let caller = "int second_number(void); int first_number(void) { return second_number() + 10; }";
    let keep = LoadOptions::new().keep_previous(true);
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe {
        rt.load(module(&shop, "second", 1)).unwrap();
        rt.load(shop.module("first", 21, caller)).unwrap();
        rt.load_with([module(&shop, "first", 2)], &keep).unwrap();
    }
    let mut tx = begin(rt);
    tx.rollback_module("first").unwrap();
    tx.unload("second").unwrap();
    let error = tx.commit().unwrap_err();
    assert!(matches!(error, Error::StillImported { .. }), "{error}");
    assert_eq!(first::first_number(&rt.frame()), 2);
    // With a new version of what it calls it gets that one.
    let mut tx = begin(rt);
    tx.rollback_module("first").unwrap();
    // SAFETY: as above.
    unsafe { tx.load(module(&shop, "second", 7)) }.unwrap();
    tx.commit().unwrap();
    assert_eq!(first::first_number(&rt.frame()), 17);
    unload_all(rt);
}

#[test]
fn what_was_read_is_what_is_published() {
    let (rt, shop, _turn) = start("transaction-read-once");
    let path = module(&shop, "first", 1);
    let copy = shop.file("libfirst.so", &std::fs::read(&path).unwrap());
    let mut tx = begin(rt);
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { tx.load(&copy) }.unwrap();
    std::fs::write(&copy, "not a module any more").unwrap();
    tx.commit().unwrap();
    assert_eq!(first::first_number(&rt.frame()), 1);
    unload_all(rt);
}

#[test]
fn limits() {
    let (rt, shop, _turn) = start("transaction-limits");
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load_all(all(&shop, 1)) }.unwrap();

    let options = TransactionOptions::new().max_operations(2);
    let mut tx = rt.transaction(&options).unwrap();
    tx.unload("first").unwrap();
    tx.unload("second").unwrap();
    assert!(matches!(tx.unload("third"), Err(Error::TransactionFull { limit: 2 })));
    tx.rollback();

    let mut tx = rt.transaction(&TransactionOptions::new().read_only(true)).unwrap();
    assert!(matches!(tx.unload("third"), Err(Error::ReadOnly)));
    assert_eq!(tx.version("third").unwrap(), Some(version(rt, "third")));
    assert_eq!(tx.commit().unwrap(), None);

    // It had time to begin, and no more: the limit is from the beginning to the end.
    let options = TransactionOptions::new().isolation(Isolation::ReadCommitted).timeout(Duration::ZERO);
    let mut tx = rt.transaction(&options).unwrap();
    assert_eq!(tx.version("third").unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(tx.unload("third").unwrap_err().kind(), ErrorKind::Timeout);
    // SAFETY: as above.
    assert_eq!(unsafe { tx.load(module(&shop, "third", 2)) }.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(numbers(&rt.frame()), [1, 1, 1]);
    unload_all(rt);
}

#[test]
fn one_goes_back_to_a_savepoint() {
    let (rt, shop, _turn) = start("transaction-savepoints");
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load_all(all(&shop, 1)) }.unwrap();
    let mut tx = begin(rt);
    let nothing = tx.savepoint();
    // SAFETY: as above.
    unsafe { tx.load(module(&shop, "first", 2)) }.unwrap();
    let one = tx.savepoint();
    tx.unload("second").unwrap();
    assert_eq!(tx.version("second").unwrap(), None);
    let two = tx.savepoint();
    tx.rollback_to(one).unwrap();
    assert_eq!((tx.len(), tx.version("second").unwrap()), (1, Some(version(rt, "second"))));
    assert!(matches!(tx.rollback_to(two), Err(Error::NoSavepoint)), "it came after");
    assert_eq!((tx.find_savepoint(one.number()), tx.find_savepoint(two.number())), (Some(one), None));
    assert!(matches!(begin(rt).rollback_to(one), Err(Error::NoSavepoint)), "it is another one's");
    // Again, and as often as one likes.
    tx.unload("third").unwrap();
    tx.rollback_to(one).unwrap();
    // SAFETY: as above.
    unsafe { tx.load(module(&shop, "second", 3)) }.unwrap();
    tx.commit().unwrap();
    assert_eq!(numbers(&rt.frame()), [2, 3, 1]);

    let mut tx = begin(rt);
    let nothing_again = tx.savepoint();
    assert_ne!(nothing, nothing_again);
    tx.unload("third").unwrap();
    tx.rollback_to(nothing_again).unwrap();
    assert_eq!(tx.commit().unwrap(), None);
    unload_all(rt);
}

#[test]
fn after_a_conflict_it_is_begun_again() {
    let (rt, shop, _turn) = start("transaction-retry");
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load_all(all(&shop, 1)) }.unwrap();
    let first = version(rt, "first");
    let options =
        TransactionOptions::new().retries(3).waits(Duration::from_nanos(10), Duration::from_nanos(50));
    // Another comes between as often as `times` says.
    let attempt = |times: u32| {
        let mut attempts = 0;
        let done = rt.transact(&options, |tx| {
            attempts += 1;
            let seen = tx.version("first")?;
            // SAFETY: as above.
            unsafe { tx.load(module(&shop, "first", 2)) }?;
            if attempts <= times {
                // SAFETY: as above.
                unsafe { rt.load(module(&shop, "first", 3)) }?;
            }
            Ok(seen)
        });
        (done, attempts)
    };
    let (done, attempts) = attempt(2);
    let (seen, published) = done.unwrap();
    assert_eq!((attempts, seen, published.unwrap().modules[0].version), (3, Some(first + 2), first + 3));
    let (done, attempts) = attempt(u32::MAX);
    assert_eq!((done.unwrap_err().kind(), attempts), (ErrorKind::Conflict, 4));
    // What is no conflict is an error at once.
    let mut attempts = 0;
    let done = rt.transact(&options, |tx| {
        attempts += 1;
        tx.unload("nobody")
    });
    assert_eq!((done.unwrap_err().kind(), attempts), (ErrorKind::NotLoaded, 1));
    unload_all(rt);
}

#[test]
fn a_commit_is_one_event() {
    let (rt, shop, _turn) = start("transaction-events");
    load_twice(rt, &shop);
    let [one, two, three] = NAMES.map(|name| version(rt, name));
    let before = rt.statistics().unwrap();
    let (heard, _subscription) = Heard::new(rt);
    let mixed = || {
        let mut tx = begin(rt);
        // SAFETY: the tests' modules have the functions as declared above.
        unsafe { tx.load(module(&shop, "first", 3)) }.unwrap();
        tx.rollback_module("second").unwrap();
        tx.unload("third").unwrap();
        tx
    };
    // What is not committed is told to nobody.
    mixed().rollback();
    assert_eq!(heard.told(), [""; 0]);

    let tx = mixed();
    // SAFETY: as above.
    unsafe { rt.load(module(&shop, "first", 4)) }.unwrap();
    heard.record();
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Conflict);
    let record = heard.record();
    let kind = record.error.as_ref().map(|(kind, _)| *kind);
    assert_eq!((record.outcome, kind), (Outcome::Refused, Some(ErrorKind::Conflict)));

    mixed().commit().unwrap();
    let record = heard.record();
    assert_eq!(record.outcome, Outcome::Published);
    let told = |of: &midflight::ModuleRecord| {
        (of.module.clone().unwrap(), of.version, of.before.as_ref().map(|before| before.version), of.state)
    };
    assert_eq!(
        record.modules.iter().map(told).collect::<Vec<_>>(),
        [
            ("first".into(), Some(one + 2), Some(one + 1), ModuleState::Lost),
            ("second".into(), Some(two - 1), Some(two), ModuleState::AsLeft),
            ("third".into(), None, Some(three), ModuleState::Gone),
        ]
    );
    // Loads are counted, and what comes back or goes is none.
    let after = rt.statistics().unwrap();
    assert_eq!((after.loaded, after.failed), (before.loaded + 2, before.failed + 1));
    unload_all(rt);
}

#[test]
fn hooks_are_asked_of_its_loads() {
    let (rt, shop, _turn) = start("transaction-hooks");
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load_all(all(&shop, 1)) }.unwrap();
    let hooks = ReloadHooks::new("no second").before(|upcoming| {
        match upcoming.iter().any(|of| of.module == "second") {
            true => Err(5),
            false => Ok(()),
        }
    });
    let id = rt.add_hooks(hooks);
    let mut tx = begin(rt);
    // SAFETY: as above.
    unsafe { tx.load(module(&shop, "second", 2)) }.unwrap();
    tx.unload("first").unwrap();
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Vetoed);
    assert_eq!(numbers(&rt.frame()), [1, 1, 1]);
    // Of what is only taken out nobody is asked.
    let mut tx = begin(rt);
    tx.unload("second").unwrap();
    tx.commit().unwrap();
    assert!(rt.remove_hooks(id));
    unload_all(rt);
}

/// Its constructor changes the code of another function of its own.
fn scribbler(shop: &Workshop) -> PathBuf {
    // SAFETY: takes a number.
    let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let source = format!(
        "#include <stdint.h>
         #include <sys/mman.h>
         int first_number(void) {{ return 9; }}
         __attribute__((noinline, used)) int target(void) {{ return 77; }}
         __attribute__((constructor)) static void scribble(void) {{
             uintptr_t size = {page_size}, page = (uintptr_t)target / size * size;
             mprotect((void *)page, size, PROT_READ | PROT_WRITE);
             *(volatile unsigned char *)target ^= 1;
             mprotect((void *)page, size, PROT_READ | PROT_EXEC);
         }}"
    );
    // Its code in pages of its own, so that what is called meanwhile is not in them.
    let separate: &[&str] = if support::is_macho() { &[] } else { &["-Wl,-z,separate-code"] };
    let aligned = format!("-falign-functions={page_size}");
    let arguments = [&[&*aligned], separate].concat();
    shop.module_for(std::env::consts::ARCH, "first", 9, &source, &arguments)
}

#[test]
fn damage_takes_all_of_it_back() {
    let (rt, shop, _turn) = start("transaction-damage");
    load_twice(rt, &shop);
    let before = NAMES.map(|name| version(rt, name));
    let mut tx = begin(rt);
    // SAFETY: as above; nobody calls what it destroys.
    unsafe { tx.load_with(scribbler(&shop), &OperationOptions::new().verify(true)) }.unwrap();
    tx.unload("second").unwrap();
    tx.rollback_module("third").unwrap();
    let error = tx.commit().unwrap_err();
    assert!(matches!(error, Error::Integrity { rolled_back: true, .. }), "{error}");
    assert_eq!(numbers(&rt.frame()), [2, 2, 2]);
    assert_eq!(NAMES.map(|name| version(rt, name)), before);
    unload_all(rt);
}
