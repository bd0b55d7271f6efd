//! `transaction_manager.h`: handles, operations, and what the configuration says of transactions.

mod support;

use std::ffi::{CStr, c_int};
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use midflight::ErrorKind::*;
use midflight::conflict::Kind;
use midflight_c::conflict_resolution::*;
use midflight_c::hot_reload::*;
use midflight_c::runtime_core::*;
use midflight_c::runtime_types::*;
use midflight_c::transaction_manager::*;
use support::*;

const READ_COMMITTED: i32 = 1;
const SERIALIZABLE: i32 = 3;

fn module(shop: &Workshop, name: &str, version: u32) -> PathBuf {
    shop.module(name, version, &format!("int number(void) {{ return {version}; }}"))
}

fn numbers() -> [c_int; 3] {
    [c"core", c"graphics", c"audio"].map(|name| call(name, c"number"))
}

/// Loads the three at version 1.
fn load(session: &Session) {
    let paths = ["core", "graphics", "audio"].map(|name| module(session, name, 1));
    ok(reload_all(&paths, &HotReloadConfig::default()));
}

/// The number of a module's version. Tests that run in one process go on counting.
fn number_of(module: &CStr) -> u64 {
    let id = begin(SERIALIZABLE);
    let (code, version) = read_version(id, module);
    ok(code);
    ok(transaction_commit(id));
    version
}

#[track_caller]
fn begin(level: i32) -> u64 {
    let mut id = 0;
    // SAFETY: a place for the handle.
    ok(unsafe { transaction_begin(&mut id, level) });
    assert_ne!(id, 0);
    id
}

fn add(id: u64, path: PathBuf) -> c_int {
    // SAFETY: the tests' modules are sound.
    unsafe { transaction_add_reload_operation(id, c(path).as_ptr(), ptr::null()) }
}

fn add_unload(id: u64, module: &CStr) -> c_int {
    // SAFETY: a string.
    unsafe { transaction_add_unload_operation(id, module.as_ptr()) }
}

fn add_rollback(id: u64, module: &CStr) -> c_int {
    // SAFETY: a string.
    unsafe { transaction_add_rollback_operation(id, module.as_ptr()) }
}

fn read_version(id: u64, module: &CStr) -> (c_int, u64) {
    let mut version = u64::MAX;
    // SAFETY: a string, and a place for the number.
    (unsafe { transaction_read_version(id, module.as_ptr(), &mut version) }, version)
}

fn read_symbol(id: u64, module: &CStr, symbol: &CStr) -> (c_int, bool) {
    let mut is_there = Bool::from(true);
    // SAFETY: strings, and a place for the answer.
    let code = unsafe { transaction_read_symbol(id, module.as_ptr(), symbol.as_ptr(), &mut is_there) };
    (code, is_there.get())
}

fn begin_with(options: &TransactionOptions) -> (c_int, u64) {
    let mut id = u64::MAX;
    // SAFETY: a place for the handle, and a structure that says its size.
    (unsafe { transaction_begin_with(&mut id, options) }, id)
}

fn options() -> TransactionOptions {
    let struct_size = size_of::<TransactionOptions>() as u32;
    TransactionOptions {
        struct_size,
        isolation: SERIALIZABLE,
        timeout_ms: 0,
        max_operations: 0,
        read_only: false.into(),
        durability: 0,
        reserved: [0; 6],
        conflict_mode: 0,
        auto_resolve_conflicts: false.into(),
        merge: false.into(),
        reserved_too: [0; 2],
    }
}

#[test]
fn a_set_is_published_at_once_or_not_at_all() {
    let session = start("transactions");
    load(&session);
    let core = number_of(c"core");
    let id = begin(SERIALIZABLE);
    let config = ReloadOperationConfig { validate_integrity: true.into(), backup_state: true.into() };
    for name in ["core", "graphics"] {
        let path = c(module(&session, name, 2));
        // SAFETY: the tests' modules are sound.
        ok(unsafe { transaction_add_reload_operation(id, path.as_ptr(), &config) });
    }
    ok(add_unload(id, c"audio"));
    assert_eq!(numbers(), [1, 1, 1]);
    assert_eq!((read_version(id, c"core"), read_version(id, c"audio")), ((0, core + 1), (0, 0)));
    assert_eq!(read_symbol(id, c"core", c"number"), (0, true));
    assert_eq!(read_symbol(id, c"audio", c"number"), (0, false));
    ok(transaction_commit(id));
    assert_eq!((call(c"core", c"number"), call(c"graphics", c"number")), (2, 2));
    fails(look_up(c"audio", c"number").0, NotLoaded, "audio");

    // backup_state has kept what was replaced.
    let id = begin(SERIALIZABLE);
    ok(add_rollback(id, c"core"));
    ok(add(id, module(&session, "audio", 3)));
    ok(transaction_commit(id));
    assert_eq!(numbers(), [1, 2, 3]);

    let id = begin(SERIALIZABLE);
    ok(add(id, module(&session, "core", 4)));
    let refuses = "int number(void) { return 4; } int module_init(void) { return 1; }";
    ok(add(id, session.module("audio", 14, refuses)));
    fails(transaction_commit(id), Refused, "module_init() returned 1");
    assert_eq!(numbers(), [1, 2, 3]);
    fails(transaction_commit(id), InvalidArgument, "is open");
}

#[test]
fn a_handle_that_is_not_open_is_refused() {
    let session = start("transaction-handles");
    load(&session);
    let [committed, rolled_back, open] = [begin(0), begin(1), begin(2)];
    ok(transaction_commit(committed));
    ok(transaction_rollback(rolled_back));
    for id in [0, 1 << 60, u64::MAX, committed, rolled_back] {
        fails(transaction_commit(id), InvalidArgument, "is open");
        fails(transaction_rollback(id), InvalidArgument, "is open");
        fails(add(id, module(&session, "core", 2)), InvalidArgument, "is open");
        fails(add_unload(id, c"core"), InvalidArgument, "is open");
        fails(add_rollback(id, c"core"), InvalidArgument, "is open");
        assert_eq!(read_version(id, c"core"), (InvalidArgument as c_int, 0));
        assert_eq!(read_symbol(id, c"core", c"number"), (InvalidArgument as c_int, false));
        fails(transaction_rollback_to(id, 1), InvalidArgument, "is open");
    }
    let mut id = 7;
    // SAFETY: a place for the handle, or none.
    unsafe {
        fails(transaction_begin(&mut id, 4), InvalidArgument, "isolation level is 4");
        assert_eq!(id, 0);
        fails(transaction_begin(ptr::null_mut(), 3), InvalidArgument, "transaction_id");
        fails(transaction_begin(&mut id, -1), InvalidArgument, "isolation level is -1");
        fails(transaction_add_unload_operation(open, ptr::null()), InvalidArgument, "module");
        fails(transaction_add_reload_operation(open, 4 as _, ptr::null()), InvalidArgument, "module_path");
        let path = c(module(&session, "core", 2));
        fails(
            transaction_add_reload_operation(open, path.as_ptr(), 1 as _),
            InvalidArgument,
            "operation_config",
        );
    }
    // The end of the runtime is theirs too.
    ok(runtime_shutdown());
    fails(transaction_commit(open), NotInitialized, "runtime_init()");
    ok(init(&RuntimeConfig::default()));
    fails(transaction_commit(open), InvalidArgument, "is open");
}

#[test]
fn a_failed_operation_leaves_it_open() {
    let session = start("transaction-failed");
    load(&session);
    let id = begin(SERIALIZABLE);
    fails(add(id, "/nowhere/core.so".into()), Io, "/nowhere/core.so");
    fails(add_unload(id, c"nobody"), NotLoaded, "nobody");
    fails(add_rollback(id, c"core"), NoPreviousVersion, "core");
    ok(add(id, module(&session, "core", 2)));
    fails(add(id, module(&session, "core", 3)), InvalidArgument, "already");
    let mut savepoint = 0;
    // SAFETY: a place for the number.
    ok(unsafe { transaction_savepoint(id, &mut savepoint) });
    ok(add_unload(id, c"audio"));
    ok(transaction_rollback_to(id, savepoint));
    fails(transaction_rollback_to(id, savepoint + 1), InvalidArgument, "savepoint");
    ok(transaction_commit(id));
    assert_eq!(numbers(), [2, 1, 1]);
}

#[test]
fn the_first_that_commits_wins() {
    let session = start("transaction-conflict");
    load(&session);
    let [first, second] = [begin(READ_COMMITTED), begin(READ_COMMITTED)];
    ok(add(first, module(&session, "core", 2)));
    ok(add(second, module(&session, "core", 3)));
    ok(add(second, module(&session, "audio", 3)));
    ok(transaction_commit(first));
    fails(transaction_commit(second), Conflict, "Transaction conflict detected, rolling back: module `core`");
    assert_eq!(numbers(), [2, 1, 1]);
    fails(transaction_rollback(second), InvalidArgument, "is open");
}

#[test]
fn its_own_options_come_before_the_runtimes() {
    let config =
        RuntimeConfig { max_transaction_size: 1, transaction_timeout_ms: 60_000, ..RuntimeConfig::default() };
    let session = start_with("transaction-options", &config);
    load(&session);
    let id = begin(SERIALIZABLE);
    ok(add_unload(id, c"core"));
    fails(add_unload(id, c"audio"), InvalidArgument, "max_transaction_size");
    ok(transaction_rollback(id));

    let (code, id) = begin_with(&TransactionOptions { max_operations: 2, ..options() });
    ok(code);
    ok(add_unload(id, c"core"));
    ok(add_unload(id, c"audio"));
    fails(add_unload(id, c"graphics"), InvalidArgument, "2 operations");
    ok(transaction_rollback(id));

    let (code, id) = begin_with(&TransactionOptions { read_only: true.into(), ..options() });
    ok(code);
    fails(add_unload(id, c"core"), InvalidArgument, "read-only");
    assert_eq!(read_version(id, c"core"), (0, number_of(c"core")));
    ok(transaction_commit(id));

    let (code, id) =
        begin_with(&TransactionOptions { timeout_ms: 1, isolation: READ_COMMITTED, ..options() });
    ok(code);
    // Not over before its time, and over after it.
    let begun = std::time::Instant::now();
    while add_rollback(id, c"core") != Timeout as c_int {
        assert!(begun.elapsed().as_secs() < 60);
    }
    fails(transaction_commit(id), Timeout, "timeout after 1ms");
    fails(transaction_commit(id), InvalidArgument, "is open");

    let (code, id) = begin_with(&TransactionOptions { reserved: [1; 6], ..options() });
    fails(code, InvalidArgument, "reserved");
    assert_eq!(id, 0);
    fails(begin_with(&TransactionOptions { isolation: 9, ..options() }).0, InvalidArgument, "isolation");
    let (code, _) = begin_with(&TransactionOptions { reserved_too: [0, 1], ..options() });
    fails(code, InvalidArgument, "reserved");
    let (code, _) = begin_with(&TransactionOptions { conflict_mode: 7, ..options() });
    fails(code, InvalidArgument, "conflict_mode is 7");
}

fn detect(id: u64) -> (c_int, Box<ConflictAnalysis>) {
    let mut analysis = Box::new(ConflictAnalysis::default());
    // SAFETY: a place for the answer.
    (unsafe { transaction_detect_conflicts(id, &mut *analysis) }, analysis)
}

fn merge(id: u64) -> (c_int, Box<ConflictAnalysis>) {
    let mut analysis = Box::new(ConflictAnalysis::default());
    // SAFETY: a place for the answer.
    (unsafe { transaction_merge(id, &mut *analysis) }, analysis)
}

#[test]
fn two_that_are_open_are_told_of_each_other() {
    let session = start("transaction_conflicts");
    load(&session);
    let (one, other) = (begin(SERIALIZABLE), begin(SERIALIZABLE));
    ok(add(one, module(&session, "core", 2)));
    assert_eq!(detect(one).0, 0);
    ok(add_unload(other, c"core"));
    let (count, analysis) = detect(one);
    let info = &analysis.conflict_info;
    assert_eq!((count, info.kind), (1, Kind::ConcurrentModification as i32));
    assert_eq!(text(info.concerned[0].as_ptr()), format!("transaction {other}"));
    ok(transaction_rollback(other));
    assert_eq!(detect(one).0, 0);
    ok(transaction_commit(one));
    fails(detect(one).0, InvalidArgument, "is open");
    fails(merge(one).0, InvalidArgument, "is open");
}

#[test]
fn the_conflict_mode_of_a_transaction_has_effect() {
    let session = start("transaction_mode");
    ok(reload(module(&session, "core", 1)));
    let without = session.module("core", 2, "int other(void) { return 2; }");
    ok(reload(session.module("user", 1, "int number(void); int use(void) { return number(); }")));
    let (code, id) = begin_with(&TransactionOptions { conflict_mode: 1, ..options() });
    ok(code);
    ok(add(id, without.clone()));
    assert!(detect(id).0 > 0);
    fails(transaction_commit(id), Conflict, "was not resolved");
    // Together with the caller's end it is none.
    let (code, id) = begin_with(&TransactionOptions { conflict_mode: 1, ..options() });
    ok(code);
    ok(add_unload(id, c"user"));
    ok(add(id, session.module("core", 3, "int number(void) { return 3; }")));
    ok(transaction_commit(id));
}

#[test]
fn one_that_has_lost_is_merged() {
    let session = start("transaction_merge");
    load(&session);
    let lost = |id| {
        ok(read_version(id, c"audio").0);
        ok(add(id, module(&session, "core", 2)));
        ok(reload(module(&session, "audio", 2)));
    };
    let id = begin(SERIALIZABLE);
    lost(id);
    assert_eq!(merge(id).0, 0);
    ok(transaction_commit(id));
    // By the option.
    let (code, id) = begin_with(&TransactionOptions { merge: true.into(), ..options() });
    ok(code);
    lost(id);
    ok(transaction_commit(id));
    // What both have changed is listed, and it stays open.
    let (code, id) = begin_with(&TransactionOptions { merge: true.into(), ..options() });
    ok(code);
    lost(id);
    ok(reload(module(&session, "core", 3)));
    let (count, analysis) = merge(id);
    assert_eq!((count, analysis.conflict_info.kind), (1, Kind::ConcurrentModification as i32));
    assert_eq!(text(analysis.conflict_info.module.as_ptr()), "core");
    assert!(text(analysis.conflict_info.message.as_ptr()).contains("what was committed makes it version"));
    fails(transaction_commit(id), Conflict, "Transaction conflict detected, rolling back");
}

static BETWEEN: AtomicI32 = AtomicI32::new(0);

/// A hook that has another thread publish another version of the same module, once.
extern "C-unwind" fn interfere(_: *const HotReloadChange, user: *mut std::ffi::c_void) -> c_int {
    if BETWEEN.swap(0, Ordering::Relaxed) != 0 {
        // SAFETY: the path that the test gave, which outlives the hook.
        let path = unsafe { &*user.cast::<PathBuf>() };
        let done = std::thread::scope(|scope| scope.spawn(|| reload(path)).join());
        assert_eq!(done.unwrap(), 0);
    }
    0
}

/// What a reload comes to when another one comes in its midst.
fn reload_when_another_comes(session: &Session, config: &HotReloadConfig) -> c_int {
    load(session);
    let other = module(session, "core", 7);
    let hooks = HotReloadHooks {
        struct_size: size_of::<HotReloadHooks>() as u32,
        change_size: size_of::<HotReloadChange>() as u32,
        name: c"interfering".as_ptr(),
        before: Some(interfere),
        after: None,
        user: (&raw const other).cast_mut().cast(),
    };
    let mut id = 0;
    // SAFETY: hooks that stay until they are removed.
    ok(unsafe { hot_reload_add_hooks(&hooks, &mut id) });
    BETWEEN.store(1, Ordering::Relaxed);
    let code = reload_with(module(session, "core", 8), config);
    ok(hot_reload_remove_hooks(id));
    code
}

#[test]
fn a_reload_that_is_a_transaction_does_not_replace_what_came_between() {
    let session = start("transaction-reload");
    let transactional = HotReloadConfig { use_transactions: true.into(), ..HotReloadConfig::default() };
    ok(reload_when_another_comes(&session, &HotReloadConfig::default()));
    assert_eq!(numbers(), [8, 1, 1], "the last wins");
    fails(reload_when_another_comes(&session, &transactional), Conflict, "module `core`");
    assert_eq!(numbers(), [7, 1, 1], "the first wins");
    // Its callbacks and options are those of any other.
    let config = HotReloadConfig { backup_current_state: true.into(), ..transactional };
    ok(reload_all(&[module(&session, "core", 2), module(&session, "audio", 2)], &config));
    assert_eq!(numbers(), [2, 1, 2]);
    ok(rollback(c"audio"));
    assert_eq!(numbers(), [2, 1, 1]);
}

#[test]
fn the_runtime_can_make_each_reload_one() {
    let config = RuntimeConfig {
        enable_transactions: true.into(),
        max_transaction_size: 3,
        ..RuntimeConfig::default()
    };
    let session = start_with("transaction-enabled", &config);
    fails(reload_when_another_comes(&session, &HotReloadConfig::default()), Conflict, "module `core`");
    assert_eq!(numbers(), [7, 1, 1]);
    let four = ["core", "graphics", "audio", "fourth"].map(|name| module(&session, name, 2));
    fails(reload_all(&four, &HotReloadConfig::default()), InvalidArgument, "max_transaction_size");
    assert_eq!(numbers(), [7, 1, 1]);
}

#[test]
fn from_a_modules_constructor_it_is_busy() {
    let session = start("transaction-busy");
    load(&session);
    let id = begin(SERIALIZABLE);
    let source = format!(
        "int code; int number(void) {{ return code; }}
         __attribute__((constructor)) static void begin(void) {{
             code = ((int (*)(unsigned long, const char *)){}ul)({id}, \"audio\");
         }}",
        transaction_add_unload_operation as *const () as usize
    );
    ok(reload(session.module("caller", 1, &source)));
    assert_eq!(call(c"caller", c"number"), Busy as c_int);
    // And in its own commit the handle is over.
    let source = format!(
        "int code; int number(void) {{ return code; }}
         __attribute__((constructor)) static void begin(void) {{
             code = ((int (*)(unsigned long)){}ul)({id});
         }}",
        transaction_commit as *const () as usize
    );
    ok(add(id, session.module("committer", 1, &source)));
    ok(transaction_commit(id));
    assert_eq!(call(c"committer", c"number"), InvalidArgument as c_int);
}
