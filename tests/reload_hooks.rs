//! Hooks before and after loads.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use midflight::{Error, ErrorKind, Publication, ReloadHooks, Runtime, Upcoming};
use support::start;

fn load(rt: Runtime, path: impl AsRef<Path>) -> Result<Publication, Error> {
    // SAFETY: the modules of this file are sound.
    unsafe { rt.load(path.as_ref()) }
}

fn source(version: u32) -> String {
    format!("int value(void) {{ return {version}; }}")
}

/// What hooks were told, in order.
type Told = Arc<Mutex<Vec<String>>>;

fn written(upcoming: &[Upcoming]) -> String {
    let one = |of: &Upcoming| format!("{} {:?}", of.module, of.replaces);
    upcoming.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Hooks that note what they are told; the one before refuses with `refuses`, if that is not 0.
fn noting(name: &'static str, told: &Told, refuses: &Arc<AtomicU32>) -> ReloadHooks {
    let (before, after, refuses) = (told.clone(), told.clone(), refuses.clone());
    ReloadHooks::new(name)
        .before(move |upcoming| {
            before.lock().unwrap().push(format!("{name} before {}", written(upcoming)));
            match refuses.load(Ordering::Relaxed) {
                0 => Ok(()),
                code => Err(code as i32),
            }
        })
        .after(move |upcoming, result| {
            let result = match result {
                Ok(publication) => format!("generation {}", publication.generation),
                Err(error) => format!("{:?}", error.kind()),
            };
            after.lock().unwrap().push(format!("{name} after {}: {result}", written(upcoming)));
        })
}

#[test]
fn hooks_are_asked_before_and_told_after() {
    let (rt, shop, _turn) = start("reload-hooks");
    let (told, refuses) = (Told::default(), Arc::<AtomicU32>::default());
    let take = || std::mem::take(&mut *told.lock().unwrap());
    let ids = ["a", "b"].map(|name| rt.add_hooks(noting(name, &told, &refuses)));
    let version = |version| shop.module("hooked", version, &source(version));

    let generation = load(rt, version(1)).unwrap().generation;
    let published = format!("hooked None: generation {generation}");
    let expected = ["a before hooked None", "b before hooked None"].map(String::from);
    let expected =
        [&expected[..], &[format!("b after {published}"), format!("a after {published}")]].concat();
    assert_eq!(take(), expected);

    // One refuses: who was asked is told, in whose name it failed is said, and nothing has moved.
    refuses.store(7, Ordering::Relaxed);
    let path = version(2);
    let error = load(rt, &path).unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Vetoed, Some(&*path)));
    assert!(
        error.to_string().ends_with("the hook `a` does not let it be loaded now: it returned 7"),
        "{error}"
    );
    assert_eq!(take(), ["a before hooked Some(1)", "a after hooked Some(1): Vetoed"]);
    assert_eq!(rt.modules().unwrap()[0].version, 1);
    refuses.store(0, Ordering::Relaxed);

    // What fails later is told; what fails earlier has asked nobody, nor has a dry run.
    assert!(
        load(rt, shop.module("hooked", 3, "int absent(void); int value(void) { return absent(); }")).is_err()
    );
    let failed = ["b after", "a after"].map(|who| format!("{who} hooked Some(1): Unresolved"));
    assert_eq!(take()[2..], failed);
    assert!(load(rt, "/nowhere/at_all.so").is_err());
    rt.dry_run([version(2)], &midflight::LoadOptions::default()).unwrap();
    assert_eq!(take(), [""; 0]);

    assert!(rt.remove_hooks(ids[0]) && !rt.remove_hooks(ids[0]));
    load(rt, version(2)).unwrap();
    assert_eq!(take().len(), 2);
    rt.shutdown().unwrap();
    assert!(!rt.remove_hooks(ids[1]));
    load(rt, version(1)).unwrap();
    assert_eq!(take(), [""; 0]);
}

/// The one before may ask and call; the one after may do all, load and remove itself included.
#[test]
fn what_hooks_may_do() {
    let (rt, shop, _turn) = start("reload-hooks-may");
    let [one, two, other] = [("may", 1), ("may", 2), ("other", 1)]
        .map(|(name, version)| shop.module(name, version, &source(version)));
    load(rt, &one).unwrap();
    let value = rt.frame_symbol("may", "value").unwrap();
    // SAFETY: of this type; called in frames.
    let value: extern "C" fn() -> u32 = unsafe { std::mem::transmute(value) };
    let seen = Arc::<AtomicU32>::default();
    let id = Arc::new(Mutex::new(None));
    let (again, before, after) = (one.clone(), seen.clone(), seen.clone());
    let own = id.clone();
    let hooks = ReloadHooks::new("may")
        .before(move |_| {
            assert_eq!(rt.statistics().unwrap().modules, 1);
            assert!(matches!(load(rt, &again), Err(Error::Reentered)));
            let _frame = rt.frame();
            before.fetch_add(value(), Ordering::Relaxed);
            Ok(())
        })
        .after(move |_, _| {
            {
                let _frame = rt.frame();
                after.fetch_add(10 * value(), Ordering::Relaxed);
            }
            assert!(rt.remove_hooks(own.lock().unwrap().take().unwrap()));
            load(rt, &other).unwrap();
        });
    *id.lock().unwrap() = Some(rt.add_hooks(hooks));
    load(rt, &two).unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 21);
    assert_eq!(rt.modules().unwrap().len(), 2);
}

/// When they are removed nobody calls them any more.
#[test]
fn removing_waits_for_loads() {
    let (rt, shop, _turn) = start("reload-hooks-wait");
    let path = shop.module("waits", 1, &source(1));
    let removed = Arc::<AtomicBool>::default();
    let (gate, late) = (Arc::new(std::sync::Barrier::new(2)), removed.clone());
    let inside = gate.clone();
    let id = rt.add_hooks(
        ReloadHooks::new("waits")
            .before(move |_| {
                inside.wait();
                Ok(())
            })
            .after(move |_, result| assert!(result.is_ok() && !late.load(Ordering::Relaxed))),
    );
    std::thread::scope(|scope| {
        let loads = scope.spawn(|| load(rt, &path).unwrap());
        gate.wait();
        assert!(rt.remove_hooks(id));
        removed.store(true, Ordering::Relaxed);
        loads.join().unwrap();
    });
}

#[test]
fn a_hook_that_panics() {
    let (rt, shop, _turn) = start("reload-hooks-panic");
    let path = shop.module("panics", 1, &source(1));
    let id = rt.add_hooks(ReloadHooks::new("panics").before(|_| panic!("not now")));
    let panicked = std::panic::catch_unwind(|| load(rt, &path).map(drop));
    assert!(panicked.is_err() && rt.modules().unwrap().is_empty());
    // Nor is it taken for under way.
    assert!(rt.remove_hooks(id));
    load(rt, &path).unwrap();
}
