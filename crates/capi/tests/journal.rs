//! `journal_folder` of `runtime_set_options()`: what was committed comes back with the runtime.

mod support;

use std::ptr;

use midflight::ErrorKind::*;
use midflight_c::options::*;
use midflight_c::runtime_core::*;
use midflight_c::transaction_manager::*;
use support::*;

#[test]
fn a_journal_brings_back_what_was_loaded() {
    const TEST: &str = "a_journal_brings_back_what_was_loaded";
    const CHILD: &str = "MIDFLIGHT_TEST_JOURNAL_CHILD";
    // Options hold for the process.
    if std::env::var_os(CHILD).is_none() {
        let output = this_test(TEST).env(CHILD, "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let session = stopped("journal");
    let folder = session.path("journal");
    let path = c(&folder);
    let none = || RuntimeOptions {
        struct_size: size_of::<RuntimeOptions>() as u32,
        gdb: 0,
        perf_map: false.into(),
        reserved: [0; 7],
        jitdump_folder: ptr::null(),
        journal_folder: ptr::null(),
        journal_two_phase: false.into(),
        journal_rebuild: false.into(),
        journal_reserved: [0; 6],
    };
    let with = || RuntimeOptions { journal_folder: path.as_ptr(), ..none() };
    let set = |options: &RuntimeOptions| {
        // SAFETY: options.
        unsafe { runtime_set_options(options) }
    };
    fails(set(&RuntimeOptions { journal_reserved: [1; 6], ..with() }), InvalidArgument, "reserved");
    fails(
        set(&RuntimeOptions { journal_rebuild: true.into(), ..none() }),
        InvalidArgument,
        "journal_folder is NULL",
    );

    // A folder that cannot be one.
    std::fs::write(&folder, "a file").unwrap();
    ok(set(&with()));
    fails(init(&RuntimeConfig::default()), Journal, "the journal in ");
    fails(reload("none.so"), NotInitialized, "the runtime is not running");
    std::fs::remove_file(&folder).unwrap();
    ok(set(&RuntimeOptions { journal_two_phase: true.into(), ..with() }));
    ok(init(&RuntimeConfig::default()));
    // Another configuration of one that runs.
    ok(init(&RuntimeConfig::default()));

    let module =
        |version| session.module("core", version, &format!("int number(void) {{ return {version}; }}"));
    ok(reload(module(1)));
    let mut options = TransactionOptions {
        struct_size: size_of::<TransactionOptions>() as u32,
        isolation: 3,
        timeout_ms: 0,
        max_operations: 0,
        read_only: false.into(),
        durability: 3,
        reserved: [0; 6],
        conflict_mode: 0,
        auto_resolve_conflicts: false.into(),
        merge: false.into(),
        reserved_too: [0; 2],
    };
    let mut id = 0;
    // SAFETY: options, and a place for the handle; the tests' modules are sound.
    unsafe {
        fails(transaction_begin_with(&mut id, &options), InvalidArgument, "durability is 3");
        options.durability = 1;
        ok(transaction_begin_with(&mut id, &options));
        ok(transaction_add_reload_operation(id, c(module(2)).as_ptr(), ptr::null()));
    }
    ok(transaction_commit(id));
    ok(runtime_shutdown());
    ok(init(&RuntimeConfig::default()));
    assert_eq!(call(c"core", c"number"), 2);
    ok(unload(c"core"));
    ok(runtime_shutdown());
    ok(init(&RuntimeConfig::default()));
    assert_eq!(statistics().loaded_modules, 0);
}
