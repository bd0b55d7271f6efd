//! `transaction_manager.h`: handles of transactions, and what is done by them.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use midflight::{Durability, Error, Isolation, LoadOptions, OperationOptions, Transaction};

use crate::errors::{Failure, Outcome, guarded};
use crate::gate::{Call, Reload};
use crate::hot_reload::{carry, conflict_mode};
use crate::pointers::{self, Output, Plain};
use crate::runtime_core::RuntimeConfig;
use crate::runtime_types::Bool;
use crate::sized::{self, Sized};

/// `reload_operation_config_t`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct ReloadOperationConfig {
    pub validate_integrity: Bool,
    pub backup_state: Bool,
}

// SAFETY: bytes.
unsafe impl Plain for ReloadOperationConfig {}

/// `transaction_options_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct TransactionOptions {
    pub struct_size: u32,
    pub isolation: i32,
    pub timeout_ms: u32,
    pub max_operations: u32,
    pub read_only: Bool,
    pub durability: u8,
    pub reserved: [u8; 6],
    pub conflict_mode: i32,
    pub auto_resolve_conflicts: Bool,
    pub merge: Bool,
    pub reserved_too: [u8; 2],
}

// SAFETY: numbers and bytes.
unsafe impl Plain for TransactionOptions {}
// SAFETY: as the size says.
unsafe impl Sized for TransactionOptions {}
const _: () = assert!(size_of::<TransactionOptions>() == 4 * 4 + 8 + 8);

/// What `runtime_init` said of transactions. Relaxed: who begins one takes them as it finds them.
static ALL_RELOADS: AtomicBool = AtomicBool::new(false);
/// In milliseconds. 0: it did not say.
static TIMEOUT: AtomicU32 = AtomicU32::new(0);
/// 0: no limit.
static MAX_OPERATIONS: AtomicU32 = AtomicU32::new(0);
/// Of transactions, if `runtime_init` did not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn configure(config: &RuntimeConfig) {
    ALL_RELOADS.store(config.enable_transactions.get(), Ordering::Relaxed);
    TIMEOUT.store(config.transaction_timeout_ms, Ordering::Relaxed);
    MAX_OPERATIONS.store(config.max_transaction_size, Ordering::Relaxed);
}

/// The time-out that `runtime_init` set.
fn configured_timeout() -> Option<Duration> {
    let milliseconds = TIMEOUT.load(Ordering::Relaxed);
    (milliseconds != 0).then_some(Duration::from_millis(milliseconds.into()))
}

fn options(isolation: Isolation) -> midflight::TransactionOptions {
    let most = MAX_OPERATIONS.load(Ordering::Relaxed);
    midflight::TransactionOptions::new()
        .isolation(isolation)
        .timeout(configured_timeout().unwrap_or(DEFAULT_TIMEOUT))
        .max_operations((most != 0).then_some(most as usize))
}

/// The options of a reload of so many modules, if it is a transaction: by itself, or because all
/// are. It begins and ends in one call, so there is nothing but its modules that it could be in
/// conflict about.
///
/// # Errors
///
/// If it has more modules than a transaction may have.
pub(crate) fn of_reload<'p>(
    is_one: Bool,
    modules: usize,
    options: LoadOptions<'p>,
) -> Result<LoadOptions<'p>, Error> {
    if !is_one.get() && !ALL_RELOADS.load(Ordering::Relaxed) {
        return Ok(options);
    }
    let limit = MAX_OPERATIONS.load(Ordering::Relaxed) as usize;
    if limit != 0 && modules > limit {
        return Err(Error::TransactionFull { limit });
    }
    let timeout = options.timeout.into_iter().chain(configured_timeout()).min();
    Ok(options.timeout(timeout).refuse_conflicts(true))
}

/// A transaction; None once it is ended.
type Handle = Arc<Mutex<Option<Transaction>>>;

/// Those that are open, by their numbers. Nothing of the runtime is called while this is locked.
static OPEN: Mutex<BTreeMap<u64, Handle>> = Mutex::new(BTreeMap::new());

fn open() -> MutexGuard<'static, BTreeMap<u64, Handle>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_open(id: u64) -> Failure {
    Failure::argument(format!(
        "no transaction {id} is open: it was committed or rolled back, or runtime_shutdown() ended it, or it was never begun"
    ))
}

fn find(id: u64) -> Outcome<Handle> {
    open().get(&id).cloned().ok_or_else(|| not_open(id))
}

/// Takes a transaction out, which ends its handle.
fn take(id: u64) -> Outcome<Transaction> {
    let handle = open().remove(&id).ok_or_else(|| not_open(id))?;
    let taken = handle.lock().unwrap_or_else(PoisonError::into_inner).take();
    taken.ok_or_else(|| not_open(id))
}

/// With a transaction, which stays open.
pub(crate) fn with<T>(id: u64, work: impl FnOnce(&mut Transaction) -> Result<T, Error>) -> Outcome<T> {
    let handle = find(id)?;
    let mut transaction = handle.lock().unwrap_or_else(PoisonError::into_inner);
    // It may have been ended while this waited.
    let transaction = transaction.as_mut().ok_or_else(|| not_open(id))?;
    Ok(work(transaction)?)
}

/// Ends all, when the runtime stops.
pub(crate) fn end_all() {
    let all = std::mem::take(&mut *open());
    drop(all);
}

fn begin(
    transaction_id: *mut u64,
    options: impl FnOnce() -> Outcome<midflight::TransactionOptions>,
) -> c_int {
    guarded(|| {
        let output = Output::new(transaction_id, "transaction_id")?;
        let call = Call::begin()?;
        let transaction = call.runtime.transaction(&options()?)?;
        let id = transaction.id();
        open().insert(id, Arc::new(Mutex::new(Some(transaction))));
        output.put(id);
        Ok(())
    })
}

fn isolation(level: i32) -> Outcome<Isolation> {
    let found = Isolation::ALL.into_iter().find(|isolation| *isolation as i32 == level);
    found.ok_or_else(|| {
        Failure::argument(format!("the isolation level is {level}, which is none of isolation_level_t"))
    })
}

/// `transaction_begin()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn transaction_begin(transaction_id: *mut u64, isolation_level: i32) -> c_int {
    begin(transaction_id, || Ok(options(isolation(isolation_level)?)))
}

/// `transaction_begin_with()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn transaction_begin_with(
    transaction_id: *mut u64,
    given: *const TransactionOptions,
) -> c_int {
    begin(transaction_id, || {
        let given = sized::read(given, "options")?;
        if given.reserved != [0; 6] || given.reserved_too != [0; 2] {
            return Err(Failure::argument("options: reserved must be 0"));
        }
        let durability = Durability::ALL.into_iter().find(|one| *one as i32 == i32::from(given.durability));
        let durability = durability.ok_or_else(|| {
            let none = given.durability;
            Failure::argument(format!("durability is {none}, which is none of transaction_durability_t"))
        })?;
        let mut options = options(isolation(given.isolation)?)
            .read_only(given.read_only.get())
            .durability(durability)
            .conflicts(conflict_mode(given.conflict_mode)?)
            .resolve_conflicts(given.auto_resolve_conflicts.get())
            .merge(given.merge.get());
        if given.timeout_ms != 0 {
            options = options.timeout(Duration::from_millis(given.timeout_ms.into()));
        }
        if given.max_operations != 0 {
            options = options.max_operations(given.max_operations as usize);
        }
        Ok(options)
    })
}

/// `transaction_commit()`.
#[unsafe(no_mangle)]
pub extern "C" fn transaction_commit(transaction_id: u64) -> c_int {
    guarded(|| {
        let _call = Call::begin()?;
        let transaction = take(transaction_id)?;
        let _under_way = (!transaction.is_empty()).then(Reload::new);
        transaction.commit_with(&LoadOptions::new().carry(carry::default()))?;
        Ok(())
    })
}

/// `transaction_rollback()`.
#[unsafe(no_mangle)]
pub extern "C" fn transaction_rollback(transaction_id: u64) -> c_int {
    guarded(|| {
        let _call = Call::begin()?;
        take(transaction_id)?.rollback();
        Ok(())
    })
}

/// `transaction_add_reload_operation()`.
///
/// # Safety
///
/// The arguments are what the header says; the module's code is sound.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn transaction_add_reload_operation(
    transaction_id: u64,
    module_path: *const c_char,
    operation_config: *const ReloadOperationConfig,
) -> c_int {
    guarded(|| {
        let _call = Call::begin()?;
        let path = pointers::path(module_path, "module_path")?;
        let config = match operation_config.is_null() {
            true => ReloadOperationConfig::default(),
            false => pointers::read(operation_config, "operation_config")?,
        };
        let options = OperationOptions::new()
            .verify(config.validate_integrity.get())
            .keep_previous(config.backup_state.get());
        // SAFETY: the host vouches for what it loads (hot_reload.h: "load what you trust").
        with(transaction_id, |transaction| unsafe { transaction.load_with(path, &options) })
    })
}

/// `transaction_add_unload_operation()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn transaction_add_unload_operation(
    transaction_id: u64,
    module: *const c_char,
) -> c_int {
    guarded(|| {
        let _call = Call::begin()?;
        let module = pointers::name(module, "module")?;
        with(transaction_id, |transaction| transaction.unload(&module))
    })
}

/// `transaction_add_rollback_operation()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn transaction_add_rollback_operation(
    transaction_id: u64,
    module: *const c_char,
) -> c_int {
    guarded(|| {
        let _call = Call::begin()?;
        let module = pointers::name(module, "module")?;
        with(transaction_id, |transaction| transaction.rollback_module(&module))
    })
}

/// `transaction_savepoint()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn transaction_savepoint(transaction_id: u64, savepoint: *mut u64) -> c_int {
    guarded(|| {
        let output = Output::new(savepoint, "savepoint")?;
        let _call = Call::begin()?;
        output.put(with(transaction_id, |transaction| Ok(transaction.savepoint().number()))?);
        Ok(())
    })
}

/// `transaction_rollback_to()`.
#[unsafe(no_mangle)]
pub extern "C" fn transaction_rollback_to(transaction_id: u64, savepoint: u64) -> c_int {
    guarded(|| {
        let _call = Call::begin()?;
        with(transaction_id, |transaction| match transaction.find_savepoint(savepoint) {
            Some(savepoint) => transaction.rollback_to(savepoint),
            None => Err(Error::NoSavepoint),
        })
    })
}

/// `transaction_read_version()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn transaction_read_version(
    transaction_id: u64,
    module: *const c_char,
    version: *mut u64,
) -> c_int {
    guarded(|| {
        let output = Output::new(version, "version")?;
        let _call = Call::begin()?;
        let module = pointers::name(module, "module")?;
        output.put(with(transaction_id, |transaction| transaction.version(&module))?.unwrap_or(0));
        Ok(())
    })
}

/// `transaction_read_symbol()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn transaction_read_symbol(
    transaction_id: u64,
    module: *const c_char,
    symbol: *const c_char,
    is_there: *mut Bool,
) -> c_int {
    guarded(|| {
        let output = Output::new(is_there, "is_there")?;
        let _call = Call::begin()?;
        let (module, symbol) = (pointers::name(module, "module")?, pointers::name(symbol, "symbol")?);
        output.put(with(transaction_id, |transaction| transaction.symbol(&module, &symbol))?.into());
        Ok(())
    })
}
