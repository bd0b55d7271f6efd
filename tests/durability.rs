//! What a journal keeps: the committed set comes back, whatever has become of the files, of the
//! process, and of the commit that was under way. `crates/journal` tests what a disk can do.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use midflight::{
    Adapter, Carry, Config, Durability, Error, ErrorKind, JournalOptions, LoadOptions, Runtime, Source,
    TransactionOptions, journal,
};
#[cfg(target_os = "linux")]
use support::{DONE, is_child};
use support::{Workshop, start, this_test};

midflight::module! {
    unsafe mod first { safe fn first_number() -> i32; }
    unsafe mod second { safe fn second_number() -> i32; }
    unsafe mod third { safe fn third_number() -> i32; }
}

const NAMES: [&str; 3] = ["first", "second", "third"];

/// Of these `second` calls `first`.
fn module(shop: &Workshop, name: &str, version: u32) -> PathBuf {
    let source = match name {
        "second" => format!(
            "int first_number(void); int second_number(void) {{ return first_number() == {version} ? {version} : -1; }}"
        ),
        _ => format!("int {name}_number(void) {{ return {version}; }}"),
    };
    shop.module(name, version, &source)
}

fn all(shop: &Workshop, version: u32) -> Vec<PathBuf> {
    NAMES.iter().map(|name| module(shop, name, version)).collect()
}

fn options(folder: &Path) -> JournalOptions {
    // SAFETY: it has the tests' modules, which have the functions as declared above.
    unsafe { JournalOptions::new(folder) }
}

fn with_journal(folder: &Path) -> Result<Runtime, Error> {
    Runtime::start_with(Config::new().journal(options(folder)))
}

/// As if the process had ended and another one had begun.
fn start_again(rt: Runtime, folder: &Path) {
    rt.shutdown().unwrap();
    assert!(rt.modules().unwrap().is_empty());
    with_journal(folder).unwrap();
}

fn numbers(rt: Runtime) -> [i32; 3] {
    let frame = rt.frame();
    [first::first_number(&frame), second::second_number(&frame), third::third_number(&frame)]
}

fn loaded(rt: Runtime) -> Vec<String> {
    rt.modules().unwrap().into_iter().map(|module| module.name).collect()
}

fn commit(rt: Runtime, files: Vec<PathBuf>, durability: Durability) -> Result<(), Error> {
    let mut tx = rt.transaction(&TransactionOptions::new().durability(durability))?;
    for file in files {
        // SAFETY: as above.
        unsafe { tx.load(file) }?;
    }
    tx.commit().map(drop)
}

#[cfg(target_os = "linux")]
fn is_sync_failed(error: &Error) -> bool {
    matches!(error, Error::Journal { source, .. } if matches!(**source, journal::Error::SyncFailed { .. }))
}

/// What is committed, as the journal itself says. It must be closed.
fn committed(folder: &Path) -> Vec<String> {
    journal::Journal::open(folder).unwrap().committed.into_keys().collect()
}

#[test]
fn what_was_committed_comes_back_and_its_files_do_not_matter() {
    let (rt, shop, _turn) = start("durable-again");
    let folder = shop.path("journal");
    with_journal(&folder).unwrap();
    commit(rt, all(&shop, 1), Durability::Durable).unwrap();
    commit(rt, all(&shop, 2), Durability::Durable).unwrap();
    for file in all(&shop, 3).into_iter().chain(all(&shop, 2)) {
        std::fs::write(file, "overwritten").unwrap();
    }
    start_again(rt, &folder);
    assert_eq!(numbers(rt), [2, 2, 2]);
    let before = rt.statistics().unwrap().generation;
    start_again(rt, &folder);
    // One is the end of what was there, the other the beginning of what is.
    assert_eq!(rt.statistics().unwrap().generation, before + 2, "all of it is one publication");

    // Of plain calls each is a transaction.
    // SAFETY: as above.
    unsafe { rt.load_with(all(&shop, 4), &LoadOptions::new().keep_previous(true)) }.unwrap();
    rt.unload("third").unwrap();
    start_again(rt, &folder);
    assert_eq!(loaded(rt), ["first", "second"]);
    // SAFETY: as above.
    unsafe { rt.load_with(all(&shop, 5), &LoadOptions::new().keep_previous(true)) }.unwrap();
    let mut tx = rt.transaction(&TransactionOptions::new()).unwrap();
    tx.rollback_module("first").unwrap();
    tx.rollback_module("second").unwrap();
    tx.commit().unwrap();
    start_again(rt, &folder);
    assert_eq!(numbers(rt), [4, 4, 5]);
    rt.shutdown().unwrap();
    assert_eq!(committed(&folder), NAMES);
}

#[test]
fn a_rollback_is_committed() {
    let (rt, shop, _turn) = start("durable-rollback");
    let folder = shop.path("journal");
    with_journal(&folder).unwrap();
    for version in [1, 2] {
        // SAFETY: as above.
        unsafe { rt.load_with([module(&shop, "first", version)], &LoadOptions::new().keep_previous(true)) }
            .unwrap();
    }
    rt.rollback_module("first").unwrap();
    start_again(rt, &folder);
    assert_eq!(first::first_number(&rt.frame()), 1);
    rt.shutdown().unwrap();
    let records = journal::Journal::open(&folder).unwrap().journal.records().unwrap();
    let operations: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.event {
            journal::Event::Begin(changes) => Some(changes[0].operation),
            _ => None,
        })
        .collect();
    use journal::Operation::{Load, Replace, RollBack};
    assert_eq!(operations, [Load, Replace, RollBack]);
}

#[test]
fn what_fails_changes_nothing_that_is_kept() {
    let (rt, shop, _turn) = start("durable-fails");
    let folder = shop.path("journal");
    with_journal(&folder).unwrap();
    commit(rt, all(&shop, 1), Durability::Durable).unwrap();
    let refuses = "int third_number(void) { return 9; } int module_init(void) { return 7; }";
    let files = vec![module(&shop, "first", 2), shop.module("third", 9, refuses)];
    let error = commit(rt, files, Durability::Durable).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    let error = rt.unload("first").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    assert_eq!(numbers(rt), [1, 1, 1]);
    start_again(rt, &folder);
    assert_eq!(numbers(rt), [1, 1, 1]);
    rt.shutdown().unwrap();
}

#[test]
fn a_module_of_several_files_comes_back_as_it_was_loaded() {
    let (rt, shop, _turn) = start("durable-objects");
    let folder = shop.path("journal");
    with_journal(&folder).unwrap();
    let arguments = ["-O1", "-g", "-fno-stack-protector"];
    let one = shop.object(
        "one.c",
        "int kept = 1; int half(void); int first_number(void) { return kept++ + half(); }",
        &arguments,
    );
    let two = shop.object(
        "two.c",
        "double cos(double); int half(void) { volatile double zero = 0; return 40 * (int)cos(zero); }",
        &arguments,
    );
    let two = shop.archive("libtwo.a", &[&two]);
    let library = if cfg!(target_os = "macos") { "libSystem.B.dylib" } else { "libm.so.6" };
    let source = Source::linked("first", [&one, &two]).needs(library);
    let carrying = LoadOptions::new().carry(Carry::All).verify(true);
    // SAFETY: as above.
    unsafe { rt.load_with([source.clone()], &carrying) }.unwrap();
    std::fs::rename(&two, shop.path("elsewhere.a")).unwrap();
    start_again(rt, &folder);
    assert_eq!(loaded(rt), ["first"]);
    assert_eq!([first::first_number(&rt.frame()), first::first_number(&rt.frame())], [41, 42]);
    // As it was loaded: its variables can be carried over.
    std::fs::rename(shop.path("elsewhere.a"), &two).unwrap();
    // SAFETY: as above.
    unsafe { rt.load_with([source], &carrying) }.unwrap();
    assert_eq!(first::first_number(&rt.frame()), 43);
    rt.shutdown().unwrap();
}

#[test]
fn what_is_not_made_durable_is_kept_by_the_next_that_is() {
    let (rt, shop, _turn) = start("durable-off");
    let folder = shop.path("journal");
    with_journal(&folder).unwrap();
    commit(rt, vec![module(&shop, "first", 1)], Durability::Off).unwrap();
    start_again(rt, &folder);
    assert!(loaded(rt).is_empty());
    commit(rt, vec![module(&shop, "first", 2)], Durability::Off).unwrap();
    commit(rt, vec![module(&shop, "third", 2)], Durability::Lazy).unwrap();
    start_again(rt, &folder);
    assert_eq!(loaded(rt), ["first", "third"]);
    rt.shutdown().unwrap();
}

#[test]
fn what_no_longer_loads_is_named_and_nothing_of_it_is_loaded() {
    let (rt, shop, _turn) = start("durable-broken");
    let folder = shop.path("journal");
    with_journal(&folder).unwrap();
    let refuses = format!(
        "#include <unistd.h>
         int module_init(void) {{ return access(\"{}\", F_OK) ? 0 : 5; }} int third_number(void) {{ return 1; }}",
        shop.path("refuse").display()
    );
    let files = vec![module(&shop, "first", 1), shop.module("third", 1, &refuses)];
    commit(rt, files, Durability::Durable).unwrap();
    rt.shutdown().unwrap();
    std::fs::write(shop.path("refuse"), "").unwrap();
    let error = with_journal(&folder).unwrap_err();
    assert!(
        matches!(&error, Error::NotRestored { module: Some(module), .. } if module == "third"),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Journal);
    assert!(loaded(rt).is_empty());
    std::fs::remove_file(shop.path("refuse")).unwrap();
    with_journal(&folder).unwrap();
    assert_eq!(loaded(rt), ["first", "third"]);
    rt.shutdown().unwrap();

    // A module's bytes are gone or others.
    let bytes = std::fs::read_dir(folder.join("modules")).unwrap();
    bytes.for_each(|file| std::fs::write(file.unwrap().path(), "others").unwrap());
    let error = with_journal(&folder).unwrap_err();
    let Error::NotRestored { module: Some(module), source, .. } = &error else { panic!("{error}") };
    assert_eq!(module, "first");
    let Error::Journal { source, .. } = &**source else { panic!("{source}") };
    assert!(matches!(**source, journal::Error::BytesDamaged(_)), "{source}");
    assert!(loaded(rt).is_empty());

    // And the store is not what it was.
    std::fs::write(folder.join("store.redb"), "").unwrap();
    let error = with_journal(&folder).unwrap_err();
    assert!(error.to_string().contains("Options::rebuild"), "{error}");
}

#[test]
fn a_journal_comes_before_the_first_module() {
    let (rt, shop, _turn) = start("durable-late");
    // SAFETY: as above.
    unsafe { rt.load(module(&shop, "first", 1)) }.unwrap();
    let error = with_journal(&shop.path("journal")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("`first` is loaded already"), "{error}");
    assert!(!shop.path("journal").exists());
    rt.shutdown().unwrap();
    with_journal(&shop.path("journal")).unwrap();
    with_journal(&shop.path("journal")).unwrap();
    let error = with_journal(&shop.path("another")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    // What comes back at the next start would be bound before its adapters are there.
    let error = rt.add_adapter(&Adapter::new("first", "first_number", "int (void)", ("second", "other")));
    assert!(error.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unsupported), "{error:?}");
    rt.shutdown().unwrap();
}

/// The store's descriptor becomes one that takes writes and cannot be synced.
#[cfg(target_os = "linux")]
#[test]
fn after_a_sync_that_fails_nothing_more_is_committed() {
    const NAME: &str = "after_a_sync_that_fails_nothing_more_is_committed";
    if !is_child(NAME) {
        return;
    }
    use std::os::fd::AsRawFd;
    let (rt, shop, _turn) = start("durable-poisoned");
    let folder = shop.path("journal");
    with_journal(&folder).unwrap();
    commit(rt, all(&shop, 1), Durability::Durable).unwrap();
    let store = std::fs::canonicalize(folder.join("store.redb")).unwrap();
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap());
    let store = descriptors.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == store));
    let store: Vec<i32> = store.map(|entry| entry.file_name().to_str().unwrap().parse().unwrap()).collect();
    assert!(!store.is_empty());
    let zero = std::fs::File::options().read(true).write(true).open("/dev/zero").unwrap();
    for descriptor in store {
        // SAFETY: both are open; the journal goes on with a file that fails.
        assert!(unsafe { libc::dup2(zero.as_raw_fd(), descriptor) } >= 0);
    }
    let error = commit(rt, all(&shop, 2), Durability::Durable).unwrap_err();
    assert!(is_sync_failed(&error), "{error}");
    assert_eq!(numbers(rt), [1, 1, 1], "nothing is published");
    for _ in 0..2 {
        let error = rt.unload("third").unwrap_err();
        assert!(is_sync_failed(&error), "{error}");
        // SAFETY: as above.
        let error = unsafe { rt.load(module(&shop, "third", 2)) }.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Journal, "{error}");
    }
    assert_eq!(numbers(rt), [1, 1, 1]);
    // Closing it says so too.
    assert_eq!(rt.shutdown().unwrap_err().kind(), ErrorKind::Journal);
    with_journal(&folder).unwrap();
    assert_eq!(numbers(rt), [1, 1, 1], "what was acknowledged");
    println!("{DONE}");
}

/// Where the journal of a child is, where the versions are that it commits, and where it ends.
const FOLDER: &str = "MIDFLIGHT_TEST_JOURNAL";
const VERSIONS: &str = "MIDFLIGHT_TEST_VERSIONS";
const POINT: &str = "MIDFLIGHT_TEST_POINT";

fn file(versions: &Path, version: u32, name: &str) -> PathBuf {
    versions.join(version.to_string()).join(support::library_name(name))
}

/// Files for children to commit.
fn prepare(shop: &Workshop, versions: u32) -> PathBuf {
    let folder = shop.path("versions");
    for version in 1..=versions {
        std::fs::create_dir_all(folder.join(version.to_string())).unwrap();
        for name in NAMES {
            std::fs::copy(module(shop, name, version), file(&folder, version, name)).unwrap();
        }
    }
    folder
}

fn told(numbers: [i32; 3]) -> String {
    numbers.map(|number| number.to_string()).join("-")
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "[{text}]").and_then(|()| out.flush()).expect("somebody reads it");
}

/// What a child does: it commits the version after the one that it finds, and ends at a point. It
/// prints what it finds, and what is acknowledged. False: this is no child.
fn is_committing() -> bool {
    let (Some(folder), Some(versions)) = (std::env::var_os(FOLDER), std::env::var_os(VERSIONS)) else {
        return false;
    };
    midflight::private::journal_points::watch(|point| {
        if std::env::var(POINT).is_ok_and(|at| at == point) {
            // SAFETY: ends the process.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            std::thread::park();
        }
    });
    let rt = with_journal(Path::new(&folder)).unwrap();
    let found = if loaded(rt).is_empty() { [0; 3] } else { numbers(rt) };
    say(&format!("found {}", told(found)));
    if std::env::var(POINT).is_ok_and(|at| at == "wait") {
        // Until it is killed.
        loop {
            std::thread::park();
        }
    }
    let next = found[0] as u32 + 1;
    commit(rt, NAMES.map(|name| file(Path::new(&versions), next, name)).into(), Durability::Durable).unwrap();
    say(&format!("acknowledged {}", told(numbers(rt))));
    rt.shutdown().unwrap();
    say("shut down");
    true
}

fn child(test: &str, journal: &Path, versions: &Path, point: &str) -> std::process::Command {
    let mut command = this_test(test);
    command.env(FOLDER, journal).env(VERSIONS, versions).env(POINT, point);
    command
}

#[test]
fn a_process_that_is_killed_at_any_point_is_followed_by_one_with_a_whole_set() {
    const NAME: &str = "a_process_that_is_killed_at_any_point_is_followed_by_one_with_a_whole_set";
    if is_committing() {
        return;
    }
    let shop = Workshop::new("durable-killed");
    let (points, journal) = (midflight::private::journal_points::ALL, shop.path("journal"));
    let versions = prepare(&shop, 2 * points.len() as u32);
    let run = |point: &str| {
        let output = child(NAME, &journal, &versions, point).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = text.split('[').filter_map(|part| part.split_once(']')).map(|(said, _)| said);
        let said = said.collect::<Vec<_>>().join(", ");
        (said, output)
    };
    let mut committed = 0;
    for point in points {
        let (said, output) = run(point);
        assert!(!said.contains("shut down"), "{point} is reached: {said}");
        // What was killed had committed it, or had not.
        let holds = matches!(point, "committed" | "published" | "applied");
        committed += i32::from(holds);
        // Also in the midst of recovery.
        let (said, _) = run("opened");
        assert!(!said.contains("found"), "{point}: {said}");
        let (said, after) = run("");
        let errors = String::from_utf8_lossy(&after.stderr);
        let found = format!("found {}", told([committed; 3]));
        assert!(said.contains(&found), "{point}, {:?}: {said}, and not {found}: {errors}", output.status);
        committed += 1;
        assert!(said.contains("shut down"), "{point}: {said} {errors}");
    }
}

#[test]
fn a_second_process_is_refused_by_the_number_of_the_first() {
    const NAME: &str = "a_second_process_is_refused_by_the_number_of_the_first";
    if is_committing() {
        return;
    }
    let (rt, shop, _turn) = start("durable-two");
    let (journal_folder, versions) = (shop.path("journal"), prepare(&shop, 1));
    let mut first = child(NAME, &journal_folder, &versions, "wait").stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(first.stdout.take().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line.contains("found")));
    let error = with_journal(&journal_folder).unwrap_err();
    let said = error.to_string();
    let Error::Journal { source, .. } = error else { panic!("{said}") };
    let journal::Error::InUse { process, .. } = *source else { panic!("{said}") };
    assert_eq!(process, Some(first.id()), "{said}");
    first.kill().unwrap();
    first.wait().unwrap();
    with_journal(&journal_folder).unwrap();
    rt.shutdown().unwrap();
}
