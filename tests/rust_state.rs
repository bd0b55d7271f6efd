//! State that modules in Rust declare (`midflight_module::state!`).
#![cfg(target_os = "linux")]

mod support;

use std::path::{Path, PathBuf};

use midflight::{Error, ErrorKind, Runtime, StateProblem};
use support::{Workshop, start};

midflight::module! {
    unsafe mod tally {
        safe fn next() -> u64;
        safe fn place() -> usize;
        safe fn number() -> u32;
        safe fn sum() -> u64;
    }
}

/// Compiles versions of a module in Rust.
struct Versions<'s> {
    shop: &'s Workshop,
    with: [String; 2],
}

impl<'s> Versions<'s> {
    fn of(shop: &'s Workshop) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/module/src/lib.rs");
        Self { with: shop.rust_crate("midflight_module", &root), shop }
    }

    fn build(&self, number: u32, source: &str, arguments: &[&str]) -> PathBuf {
        let common = "
            use midflight_module::{Migration, Outlives, Refusal, migrate, state};
            use std::sync::Mutex;
            use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
            #[unsafe(no_mangle)] extern \"C\" fn number() -> u32 { NUMBER }
        ";
        let source = format!("#![allow(unused)]\n{common}\n{source}").replace("NUMBER", &number.to_string());
        let arguments: Vec<&str> =
            self.with.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        self.shop.rust("tally", number, &source, &arguments)
    }
}

fn load(rt: Runtime, path: impl AsRef<Path>) -> Result<(), Error> {
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load(path.as_ref()) }.map(drop)
}

fn calls(rt: Runtime) -> (u64, usize, u32) {
    let frame = rt.frame();
    (tally::next(&frame), tally::place(&frame), tally::number(&frame))
}

fn unload(rt: Runtime) {
    rt.unload("tally").unwrap();
    let left = rt.collect().unwrap();
    assert_eq!((left.retained, left.busy, left.old_bytes), (0, 0, 0));
}

/// A number, an array, and a lock with something in it.
const KEPT: &str = r#"
    state! {
        /// How often it was called.
        #[schema = 1]
        static CALLS: AtomicU64 = AtomicU64::new(10);
        #[schema = 7]
        pub static RING: [AtomicU32; 100] = [const { AtomicU32::new(1) }; 100];
    }
    mod inner {
        midflight_module::state! {
            #[schema = 1]
            pub(crate) static TOTAL: std::sync::Mutex<[u64; 2]> = std::sync::Mutex::new([0, 5]);
        }
    }
    #[unsafe(no_mangle)] extern "C" fn next() -> u64 {
        let now = CALLS.fetch_add(1, Relaxed) + 1;
        RING[now as usize % 100].store(now as u32, Relaxed);
        inner::TOTAL.lock().unwrap()[0] += now;
        now
    }
    #[unsafe(no_mangle)] extern "C" fn place() -> usize { &raw const *CALLS as usize }
    #[unsafe(no_mangle)] extern "C" fn sum() -> u64 {
        let total = *inner::TOTAL.lock().unwrap();
        total[0] + total[1] + RING.iter().map(|one| u64::from(one.load(Relaxed))).sum::<u64>()
    }
"#;

#[test]
fn a_static_keeps_its_address_and_its_value() {
    let (rt, shop, _turn) = start("rust-state");
    let versions = Versions::of(&shop);
    for arguments in [&["-O", "-C", "codegen-units=1"][..], &["-g"]] {
        let mut place = None;
        let (mut total, mut ring) = (5, 100);
        for number in 1..=3 {
            load(rt, versions.build(number, KEPT, arguments)).unwrap();
            let (next, at, version) = calls(rt);
            assert_eq!((next, version), (10 + u64::from(number), number));
            assert_eq!(*place.get_or_insert(at), at);
            total += next;
            ring += next - 1;
            assert_eq!(tally::sum(&rt.frame()), total + ring);
            assert_eq!(rt.collect().unwrap().old_bytes, 0);
        }
        // A frame of the older one works with the same memory.
        let before = rt.frame();
        assert_eq!(tally::number(&before), 3);
        load(rt, versions.build(4, KEPT, arguments)).unwrap();
        assert_eq!(std::thread::scope(|scope| scope.spawn(|| calls(rt)).join().unwrap()).0, 14);
        assert_eq!((tally::next(&before), tally::place(&before)), (15, place.unwrap()));
        drop(before);
        unload(rt);
    }
}

/// Agents in a structure of its own.
fn agents(members: &str, first: &str, schema: u32, more: &str) -> String {
    let none = "#[unsafe(no_mangle)] extern \"C\" fn sum() -> u64 { 0 }";
    let sum = if more.contains("fn sum") { "" } else { none };
    format!(
        "#[repr(C)] struct World {{ {members} }}
         // SAFETY: numbers.
         unsafe impl Outlives for World {{}}
         state! {{ #[schema = {schema}] static WORLD: World = World {{ {first} }}; }}
         #[unsafe(no_mangle)] extern \"C\" fn next() -> u64 {{ (WORLD.agents.fetch_add(1, Relaxed) + 1) as u64 }}
         #[unsafe(no_mangle)] extern \"C\" fn place() -> usize {{ &raw const *WORLD as usize }}
         {more} {sum}"
    )
}

#[test]
fn another_layout_is_planned_by_debug_information_or_refused() {
    let (rt, shop, _turn) = start("rust-state-layout");
    let versions = Versions::of(&shop);
    let small = agents("agents: AtomicU32", "agents: AtomicU32::new(3)", 1, "");
    let members = "health: AtomicU64, agents: AtomicU32, more: AtomicU32";
    let first = "health: AtomicU64::new(75), agents: AtomicU32::new(0), more: AtomicU32::new(9)";
    let sum = "#[unsafe(no_mangle)] extern \"C\" fn sum() -> u64 {
        WORLD.health.load(Relaxed) * 100 + u64::from(WORLD.more.load(Relaxed)) }";
    let large = agents(members, first, 1, sum);
    load(rt, versions.build(1, &small, &["-g"])).unwrap();
    let (next, before, _) = calls(rt);
    assert_eq!(next, 4);
    load(rt, versions.build(2, &large, &["-g"])).unwrap();
    let (next, after, number) = calls(rt);
    assert_eq!((next, number, tally::sum(&rt.frame())), (5, 2, 7509));
    assert_ne!(before, after);
    unload(rt);

    load(rt, versions.build(3, &small, &["-O", "-C", "strip=debuginfo"])).unwrap();
    let error = load(rt, versions.build(4, &large, &["-O", "-C", "strip=debuginfo"])).unwrap_err();
    assert!(
        matches!(&error, Error::State { state, problem: StateProblem::Changed { before, now, .. }, .. }
            if &**state == "WORLD" && (before.size, now.size) == (4, 16)),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert_eq!((calls(rt).0, calls(rt).2), (4, 3));
    unload(rt);
}

#[test]
fn a_module_migrates_itself_and_refuses_by_a_code_or_a_panic() {
    let (rt, shop, _turn) = start("rust-state-migrate");
    let versions = Versions::of(&shop);
    let old = agents("agents: AtomicU32", "agents: AtomicU32::new(3)", 1, "");
    load(rt, versions.build(1, &old, &["-O"])).unwrap();
    let with = |number, body: &str| {
        let migrate = format!(
            "migrate!(change);
             fn change(change: &mut Migration<'_>) -> Result<(), Refusal> {{
                 assert_eq!((change.state(), change.old_schema()), (\"WORLD\", 1));
                 {body}
             }}"
        );
        let first = "agents: AtomicU64::new(7)";
        versions.build(number, &agents("agents: AtomicU64", first, 2, &migrate), &["-O"])
    };
    let codes = [
        (2, "Err(Refusal(9.try_into().unwrap()))", 9),
        (3, "panic!(\"on purpose\")", i32::MIN),
        (4, "unsafe { change.values::<u64, World>() }.map(drop).ok_or(Refusal::UNKNOWN)", i32::MAX),
    ];
    for (number, body, code) in codes {
        let error = load(rt, with(number, body)).unwrap_err();
        assert!(
            matches!(error, Error::State { problem: StateProblem::NotMigrated { code: found }, .. } if found == code),
            "{error}"
        );
        assert_eq!(calls(rt).2, 1);
    }
    let done = "let (old, new) = unsafe { change.values::<AtomicU32, World>() }.ok_or(Refusal::UNKNOWN)?;
        *new.agents.get_mut() += 1000 * u64::from(old.load(Relaxed));
        Ok(())";
    load(rt, with(5, done)).unwrap();
    assert_eq!((calls(rt).0, calls(rt).2), (6008, 5));
    unload(rt);
}
