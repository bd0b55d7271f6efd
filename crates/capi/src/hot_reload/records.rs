//! What a reload has come to, for the thread on which it ended.

use std::cell::RefCell;
use std::ffi::{c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};

use midflight::{ContentHash, ErrorKind, ModuleRecord, ModuleState, Outcome, Record, Subscription};

use crate::errors::{Failure, guarded};
use crate::gate::Call;
use crate::pointers::{Plain, fill, fill_bytes};
use crate::runtime_types::Bool;
use crate::sized::{self, Sized};

/// `hot_reload_record_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct HotReloadRecord {
    pub struct_size: u32,
    pub outcome: i32,
    pub error_code: i32,
    pub module_count: u32,
    pub generation: u64,
    pub duration_ns: u64,
    pub version: u64,
    pub version_before: u64,
    pub state: i32,
    pub unchanged: i32,
    pub functions_changed: u32,
    pub functions_added: u32,
    pub functions_removed: u32,
    pub functions_unknown: u32,
    pub functions_compared: Bool,
    pub watched: Bool,
    pub reserved: [u8; 6],
    pub content: [c_char; 72],
    pub content_before: [c_char; 72],
    pub module: [c_char; 128],
    pub path: [c_char; 512],
    pub error_message: [c_char; 512],
    pub variables_carried: u32,
    pub variables_anew: u32,
    pub anew: [c_char; 512],
}

// SAFETY: numbers, bytes and characters.
unsafe impl Plain for HotReloadRecord {}
// SAFETY: as the size says, below.
unsafe impl Sized for HotReloadRecord {}
const _: () =
    assert!(size_of::<HotReloadRecord>() == 4 * 4 + 4 * 8 + 6 * 4 + 8 + 2 * 72 + 128 + 3 * 512 + 2 * 4);

thread_local! {
    static LAST: RefCell<Option<Record>> = const { RefCell::new(None) };
}

/// As long as records are kept.
static KEPT: Mutex<Option<Subscription>> = Mutex::new(None);

/// `hot_reload_keep_records()`.
#[unsafe(no_mangle)]
pub extern "C" fn hot_reload_keep_records(keep: Bool) -> c_int {
    guarded(|| {
        let call = Call::begin()?;
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        match keep.get() {
            false => drop(kept.take()),
            true => {
                kept.get_or_insert_with(|| {
                    call.runtime.subscribe(|event| {
                        if let Some(record) = Record::of(event) {
                            // A thread whose thread-locals are destroyed asks for none.
                            let _ = LAST.try_with(|last| *last.borrow_mut() = Some(record));
                        }
                    })
                });
            }
        }
        Ok(())
    })
}

/// `hot_reload_last_record()`.
///
/// # Safety
///
/// The argument is what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_last_record(module: u32, record: *mut HotReloadRecord) -> c_int {
    guarded(|| {
        let output = sized::Output::new(record, "record")?;
        // A thread whose thread-locals are destroyed has none.
        let last = LAST.try_with(|last| last.borrow().clone()).ok().flatten();
        let last = last.ok_or_else(|| {
            Failure::argument(
                "there is no record: no reload has ended on this thread since hot_reload_keep_records(true)",
            )
        })?;
        let count = last.modules.len();
        // One that has no modules has a record all the same.
        if module != 0 && module as usize >= count {
            return Err(Failure::argument(format!("module is {module}: the record has {count}")));
        }
        output.put(&HotReloadRecord::of(&last, last.modules.get(module as usize)));
        Ok(())
    })
}

impl HotReloadRecord {
    fn of(record: &Record, module: Option<&ModuleRecord>) -> Self {
        let before = module.and_then(|module| module.before.as_ref());
        let functions = module.and_then(ModuleRecord::functions);
        let count = |names: Option<&Vec<String>>| names.map_or(0, |names| names.len() as u32);
        let hash = |hash: Option<ContentHash>| fill(&hash.map_or_else(String::new, |hash| hash.to_string()));
        let name = module.and_then(|module| module.module.as_deref());
        let path = module.and_then(|module| module.path.as_deref());
        let anew = module.map_or(&[][..], |module| &module.anew);
        let (error, message) =
            record.error.as_ref().map_or((0, ""), |(kind, message)| (code(*kind), message));
        Self {
            struct_size: 0,
            outcome: match record.outcome {
                Outcome::Published => 1,
                Outcome::Refused => 2,
                Outcome::Damaged => 3,
                Outcome::RolledBack => 4,
                // None that this knows.
                _ => 0,
            },
            error_code: error,
            module_count: record.modules.len() as u32,
            generation: record.generation.unwrap_or(0),
            duration_ns: u64::try_from(record.took.as_nanos()).unwrap_or(u64::MAX),
            version: module.and_then(|module| module.version).unwrap_or(0),
            version_before: before.map_or(0, |before| before.version),
            state: match module.map(|module| module.state) {
                Some(ModuleState::New) => 1,
                Some(ModuleState::Lost) => 2,
                Some(ModuleState::AsLeft) => 3,
                Some(ModuleState::Gone) => 4,
                Some(ModuleState::Untouched) => 5,
                Some(ModuleState::Carried) => 6,
                _ => 0,
            },
            unchanged: match module.and_then(ModuleRecord::is_unchanged) {
                None => 0,
                Some(false) => 1,
                Some(true) => 2,
            },
            functions_changed: count(functions.map(|functions| &functions.changed)),
            functions_added: count(functions.map(|functions| &functions.added)),
            functions_removed: count(functions.map(|functions| &functions.removed)),
            functions_unknown: count(functions.map(|functions| &functions.unknown)),
            functions_compared: functions.is_some().into(),
            watched: record.watched.into(),
            reserved: [0; 6],
            content: hash(module.and_then(|module| module.content)),
            content_before: hash(before.and_then(|before| before.content)),
            module: fill(name.unwrap_or_default()),
            path: fill_bytes(path.map_or(&[], |path| path.as_os_str().as_bytes())),
            error_message: fill(message),
            variables_carried: module.map_or(0, |module| module.carried as u32),
            variables_anew: anew.len() as u32,
            anew: fill(&anew.iter().map(|one| format!("{one}\n")).collect::<String>()),
        }
    }
}

fn code(kind: ErrorKind) -> i32 {
    kind as i32
}
