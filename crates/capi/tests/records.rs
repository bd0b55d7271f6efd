//! What a reload has come to, for the thread on which it ended.

mod support;

use std::ffi::{CStr, c_char};
use std::fmt::Write;
use std::mem::offset_of;
use std::path::Path;
use std::sync::Mutex;

use midflight::ErrorKind::{InvalidArgument, Io, NotLoaded, Unresolved};
use midflight_c::hot_reload::*;
use support::*;

fn empty() -> HotReloadRecord {
    // SAFETY: numbers, bytes and characters.
    let mut record: HotReloadRecord = unsafe { std::mem::zeroed() };
    record.struct_size = size_of::<HotReloadRecord>() as u32;
    record
}

fn last_record_of(module: u32) -> HotReloadRecord {
    let mut record = empty();
    // SAFETY: it says its size.
    ok(unsafe { hot_reload_last_record(module, &mut record) });
    record
}

fn last_record() -> HotReloadRecord {
    last_record_of(0)
}

fn text(field: &[c_char]) -> &str {
    // SAFETY: its last character is zero.
    unsafe { CStr::from_ptr(field.as_ptr()) }.to_str().unwrap()
}

fn keep(keep: bool) {
    ok(hot_reload_keep_records(keep.into()));
}

// hot_reload_outcome_t.
const PUBLISHED: i32 = 1;
const REFUSED: i32 = 2;
const ROLLED_BACK: i32 = 4;
// hot_reload_variables_t.
const NEW: i32 = 1;
const LOST: i32 = 2;
const AS_LEFT: i32 = 3;
const UNTOUCHED: i32 = 5;
// hot_reload_answer_t.
const UNKNOWN: i32 = 0;
const NO: i32 = 1;
const YES: i32 = 2;

#[test]
fn a_record_is_of_the_last_reload_on_this_thread() {
    let session = start("records");
    let versions = [1, 2].map(|n| session.module("recorded", n, &returns(n as i32)));
    let path = |record: &HotReloadRecord| Path::new(text(&record.path)).to_owned();
    let mut none = empty();
    // SAFETY: it says its size.
    fails(unsafe { hot_reload_last_record(0, &mut none) }, InvalidArgument, "hot_reload_keep_records");
    keep(true);
    keep(true);
    let backup = HotReloadConfig { backup_current_state: true.into(), ..HotReloadConfig::default() };

    ok(reload_with(&versions[0], &backup));
    let first = last_record();
    assert_eq!((first.outcome, first.error_code, first.module_count), (PUBLISHED, 0, 1));
    assert_eq!((first.version, first.version_before, first.state), (1, 0, NEW));
    assert_eq!((first.unchanged, text(&first.content_before)), (UNKNOWN, ""));
    assert_eq!((text(&first.module), path(&first)), ("recorded", versions[0].clone()));
    assert_eq!(text(&first.content).len(), 64);
    assert!(first.generation > 0 && first.duration_ns > 0 && !first.functions_compared.get());

    ok(reload_with(&versions[1], &backup));
    let second = last_record();
    assert_eq!((second.version, second.version_before, second.state), (2, 1, LOST));
    assert_eq!((second.unchanged, text(&second.content_before)), (NO, text(&first.content)));
    assert!(second.functions_compared.get());
    let [changed, unknown] = [second.functions_changed, second.functions_unknown];
    assert_eq!((changed + unknown, second.functions_added, second.functions_removed), (1, 0, 0));

    ok(reload_with(&versions[1], &backup));
    let again = last_record();
    assert_eq!((again.unchanged, again.functions_changed, again.state), (YES, 0, LOST));

    fails(reload("/nowhere.so"), Io, "nowhere");
    let refused = last_record();
    assert_eq!((refused.outcome, refused.error_code), (REFUSED, Io as i32));
    assert_eq!((refused.generation, refused.version, refused.state), (0, 0, UNTOUCHED));
    assert_eq!((text(&refused.module), text(&refused.path)), ("", "/nowhere.so"));
    assert_eq!(text(&refused.error_message), last());

    // SAFETY: a string.
    ok(unsafe { hot_reload_rollback(c"recorded".as_ptr()) });
    let back = last_record();
    assert_eq!((back.outcome, back.version, back.state), (ROLLED_BACK, 2, AS_LEFT));
    // SAFETY: as above.
    fails(unsafe { hot_reload_rollback(c"nobody".as_ptr()) }, NotLoaded, "nobody");
    let not_back = last_record();
    assert_eq!((not_back.outcome, not_back.module_count, not_back.state), (REFUSED, 0, 0));

    // Another thread has its own, and who keeps none has the last that was kept.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut none = empty();
            // SAFETY: it says its size.
            fails(unsafe { hot_reload_last_record(0, &mut none) }, InvalidArgument, "this thread");
            ok(reload_with(&versions[0], &backup));
            assert_eq!(last_record().version, 4);
        });
    });
    assert_eq!(last_record().outcome, REFUSED);
    keep(false);
    ok(reload_with(&versions[0], &backup));
    assert_eq!(last_record().outcome, REFUSED);
}

#[test]
fn each_module_of_a_reload_has_its_own() {
    let session = start("records-several");
    keep(true);
    let paths = [session.module("left", 1, &returns(1)), session.module("right", 1, &returns(2))];
    ok(reload_all(&paths, &HotReloadConfig::default()));
    for (index, name) in ["left", "right"].into_iter().enumerate() {
        let record = last_record_of(index as u32);
        assert_eq!((record.module_count, text(&record.module)), (2, name));
    }
    let mut record = empty();
    // SAFETY: it says its size.
    fails(unsafe { hot_reload_last_record(2, &mut record) }, InvalidArgument, "the record has 2");
    // Headers of another size.
    record.struct_size = 8;
    // SAFETY: as above.
    ok(unsafe { hot_reload_last_record(0, &mut record) });
    assert_eq!((record.struct_size, record.outcome, record.module_count), (8, PUBLISHED, 0));
    keep(false);
}

static TOLD: Mutex<Vec<(i32, i32)>> = Mutex::new(Vec::new());

unsafe extern "C-unwind" fn complete(_: *const c_char, _: bool, _: f64) {
    let record = last_record();
    TOLD.lock().unwrap().push((record.outcome, record.error_code));
}

#[test]
fn callbacks_have_the_record_of_their_reload() {
    let session = start("records-callbacks");
    keep(true);
    let config = HotReloadConfig { complete_callback: Some(complete), ..HotReloadConfig::default() };
    ok(reload_with(session.module("told", 1, &returns(1)), &config));
    let bad =
        session.module("told", 2, "int nobody_has_this(void); int value(void) { return nobody_has_this(); }");
    fails(reload_with(bad, &config), Unresolved, "nobody_has_this");
    assert_eq!(*TOLD.lock().unwrap(), [(PUBLISHED, 0), (REFUSED, Unresolved as i32)]);
    keep(false);
}

/// Each field begins where the one before ends, in C as here: a structure that grows has no
/// padding.
#[test]
fn the_structure_is_that_of_the_header() {
    let mut source = String::from("#include \"hot_reload.h\"\n#include <assert.h>\n#include <stddef.h>\n");
    let mut end = 0;
    macro_rules! fields {
        ($($field:ident),+ $(,)?) => {$(
            let offset = offset_of!(HotReloadRecord, $field);
            assert_eq!(offset, end, stringify!($field));
            end += size_of_val(&empty().$field);
            writeln!(source, "static_assert(offsetof(hot_reload_record_t, {0}) == {1}, \"{0}\");", stringify!($field), offset).unwrap();
        )+};
    }
    fields!(
        struct_size,
        outcome,
        error_code,
        module_count,
        generation,
        duration_ns,
        version,
        version_before,
        state,
        unchanged,
        functions_changed,
        functions_added,
        functions_removed,
        functions_unknown,
        functions_compared,
        watched,
        reserved,
        content,
        content_before,
        module,
        path,
        error_message,
        variables_carried,
        variables_anew,
        anew,
    );
    assert_eq!(end, size_of::<HotReloadRecord>());
    writeln!(source, "static_assert(sizeof(hot_reload_record_t) == {end}, \"size\");").unwrap();
    let workshop = Workshop::new("capi-records-layout");
    let file = workshop.file("record.c", source.as_bytes());
    for machine in MACHINES {
        let mut command = host_compiler(machine, false);
        command.args(["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-std=c11"]);
        let output = command.arg("-I").arg(include()).arg(&file).output().expect("scripts/setup installs it");
        assert!(output.status.success(), "{machine}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
