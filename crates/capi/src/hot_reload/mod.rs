//! `hot_reload.h`: loading and replacing modules.

mod addresses;
pub(crate) mod carry;
mod compatibility;
mod hooks;
mod records;
mod sources;
mod versions;
mod watching;

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use midflight::{Carry, ConflictMode, Error, LoadOptions, Runtime, Source};

use crate::errors::{Failure, Outcome, guarded};
use crate::gate::{self, Call, Reload};
use crate::pointers::{self, Output, Plain, c_string};
use crate::runtime_core::{MOST_THREADS, timeout};
use crate::runtime_types::Bool;
use crate::transaction_manager;

pub use addresses::*;
pub use carry::hot_reload_set_carry;
pub use compatibility::{CompatibilityDifference, ModuleCompatibility};
pub use hooks::*;
pub use records::*;
pub use sources::*;
pub use versions::*;

/// `HOT_RELOAD_MAX_MODULES`.
pub const MAX_MODULES: u32 = 4096;

/// `reload_progress_callback_t`. Callbacks may not unwind; should one, the process ends.
pub type ProgressCallback = unsafe extern "C-unwind" fn(module_path: *const c_char, progress_percent: u32);
/// `reload_complete_callback_t`.
pub type CompleteCallback =
    unsafe extern "C-unwind" fn(module_path: *const c_char, success: bool, duration_ms: f64);
/// `reload_error_callback_t`.
pub type ErrorCallback =
    unsafe extern "C-unwind" fn(module_path: *const c_char, error_code: c_int, message: *const c_char);

/// `hot_reload_config_t`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct HotReloadConfig {
    pub validate_before_reload: Bool,
    pub backup_current_state: Bool,
    pub use_transactions: Bool,
    pub parallel_loading: Bool,
    pub max_reload_threads: u32,
    pub reload_timeout_ns: u64,
    pub dry_run: Bool,
    pub rollback_on_failure: Bool,
    pub verify_integrity: Bool,
    pub conflict_mode: i32,
    pub auto_resolve_conflicts: Bool,
    pub progress_callback: Option<ProgressCallback>,
    pub complete_callback: Option<CompleteCallback>,
    pub error_callback: Option<ErrorCallback>,
}

// SAFETY: numbers, bytes and addresses of functions, of which 0 is none.
unsafe impl Plain for HotReloadConfig {}

/// `conflict_resolution_mode_t`.
pub(crate) fn conflict_mode(mode: i32) -> Outcome<ConflictMode> {
    match mode {
        0 => Ok(ConflictMode::Unasked),
        1 => Ok(ConflictMode::Refuse),
        2 => Ok(ConflictMode::PreferLatest),
        _ => Err(Failure::argument(format!(
            "conflict_mode is {mode}, which is none of conflict_resolution_mode_t"
        ))),
    }
}

type Progress<'p> = &'p (dyn Fn(&Path, u32) + Sync);

impl HotReloadConfig {
    /// The caller's, checked; warns of what has no effect yet.
    fn given(config: *const Self) -> Outcome<Self> {
        if config.is_null() {
            return Ok(Self::default());
        }
        let config = pointers::read(config, "reload_config")?;
        if config.max_reload_threads > MOST_THREADS {
            let threads = config.max_reload_threads;
            return Err(Failure::argument(format!(
                "max_reload_threads is {threads}: at most {MOST_THREADS}"
            )));
        }
        conflict_mode(config.conflict_mode)?;
        Ok(config)
    }

    fn options<'p>(&self, progress: Option<Progress<'p>>) -> LoadOptions<'p> {
        let threads = match (self.parallel_loading.get(), self.max_reload_threads) {
            (false, _) => 0,
            // All that there are.
            (true, 0) => MOST_THREADS,
            (true, threads) => threads,
        };
        let timeout = match self.reload_timeout_ns {
            0 => timeout(),
            nanoseconds => Duration::from_nanos(nanoseconds),
        };
        let options = LoadOptions::new()
            .validate(self.validate_before_reload.get())
            .keep_previous(self.backup_current_state.get())
            .threads(threads as usize)
            .timeout(timeout)
            .verify(self.verify_integrity.get())
            .conflicts(conflict_mode(self.conflict_mode).unwrap_or_default())
            .resolve_conflicts(self.auto_resolve_conflicts.get())
            .rollback_on_failure(self.rollback_on_failure.get())
            .carry(carry::default());
        match progress {
            Some(progress) => options.progress(progress),
            None => options,
        }
    }

    fn tell_error(&self, path: *const c_char, failure: &Failure) {
        if let Some(callback) = self.error_callback {
            let message = c_string(&*failure.message);
            // SAFETY: the host's callback; both strings live as long as the call.
            unsafe { callback(path, failure.kind as c_int, message.as_ptr()) };
        }
    }

    fn tell_complete(&self, path: *const c_char, success: bool, took: Duration) {
        if let Some(callback) = self.complete_callback {
            // SAFETY: as above.
            unsafe { callback(path, success, milliseconds(took)) };
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A module's path, and the caller's own string of it: callbacks are given that. And what it is
/// made of.
struct Given {
    path: PathBuf,
    string: *const c_char,
    source: Source,
    /// None: the default.
    carry: Option<Carry>,
}

// SAFETY: the string is handed back only; it is the caller's during the call.
unsafe impl Sync for Given {}

impl Given {
    fn new(string: *const c_char, what: &str) -> Outcome<Self> {
        let path = pointers::path(string, what)?;
        Ok(Self { source: Source::from(&path), path, string, carry: None })
    }
}

fn reload(runtime: &Runtime, modules: &[Given], config: &HotReloadConfig, begun: Instant) -> Outcome {
    let strings: HashMap<&Path, &Given> = match config.progress_callback {
        Some(_) => modules.iter().map(|given| (&*given.path, given)).collect(),
        None => HashMap::new(),
    };
    let tell = |path: &Path, percent| {
        if let (Some(callback), Some(given)) = (config.progress_callback, strings.get(path)) {
            // SAFETY: the host's callback; the string is the caller's during the call.
            unsafe { callback(given.string, percent) };
        }
    };
    let progress = config.progress_callback.map(|_| &tell as Progress<'_>);
    let options = config.options(progress).carry(carry::of(modules)?);
    let options = transaction_manager::of_reload(config.use_transactions, modules.len(), options);
    let under_way = Reload::new();
    let sources = modules.iter().map(|given| given.source.clone());
    let done = options.and_then(|options| match config.dry_run.get() {
        true => runtime.dry_run(sources, &options),
        // SAFETY: the host vouches for what it loads (hot_reload.h: "load what you trust").
        false => unsafe { runtime.load_with(sources, &options) }.map(drop),
    });
    drop(under_way);
    let success = done.is_ok();
    let done = done.map_err(|error| {
        let blamed = to_blame(&error, modules);
        let failure = Failure::from(error);
        config.tell_error(blamed.string, &failure);
        failure
    });
    for given in modules {
        config.tell_complete(given.string, success, begun.elapsed());
    }
    done
}

/// The module that an error names, else the first.
fn to_blame<'g>(error: &Error, modules: &'g [Given]) -> &'g Given {
    let named = error.path().and_then(|path| modules.iter().find(|given| given.path == path));
    named.unwrap_or(&modules[0])
}

/// `hot_reload_module()`.
///
/// # Safety
///
/// The arguments are what the header says; the module's code is sound.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_module(
    module_path: *const c_char,
    reload_config: *const HotReloadConfig,
) -> c_int {
    let begun = Instant::now();
    guarded(|| {
        let call = Call::begin()?;
        let module = Given::new(module_path, "module_path")?;
        let config = HotReloadConfig::given(reload_config)?;
        reload(call.runtime, &[module], &config, begun)
    })
}

/// `hot_reload_modules_atomic()`.
///
/// # Safety
///
/// As for [`hot_reload_module`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_modules_atomic(
    module_paths: *const *const c_char,
    module_count: u32,
    reload_config: *const HotReloadConfig,
) -> c_int {
    let begun = Instant::now();
    guarded(|| {
        let call = Call::begin()?;
        if !(1..=MAX_MODULES).contains(&module_count) {
            return Err(Failure::argument(format!(
                "module_count is {module_count}: from 1 to {MAX_MODULES}"
            )));
        }
        let strings = pointers::array(module_paths, module_count as usize, "module_paths")?;
        let modules = strings.into_iter().enumerate();
        let modules = modules.map(|(i, string)| Given::new(string, &format!("module_paths[{i}]")));
        let modules = modules.collect::<Outcome<Vec<_>>>()?;
        let config = HotReloadConfig::given(reload_config)?;
        reload(call.runtime, &modules, &config, begun)
    })
}

fn look_up(
    [module, symbol]: [*const c_char; 2],
    address: *mut *mut c_void,
    find: impl FnOnce(&Runtime, &str, &str) -> Result<NonNull<()>, Error>,
) -> c_int {
    guarded(|| {
        let output = Output::new(address, "address")?;
        let call = Call::begin()?;
        let (module, symbol) = (pointers::name(module, "module")?, pointers::name(symbol, "symbol")?);
        output.put(find(call.runtime, &module, &symbol)?.as_ptr().cast());
        Ok(())
    })
}

/// `hot_reload_symbol()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_symbol(
    module: *const c_char,
    symbol: *const c_char,
    address: *mut *mut c_void,
) -> c_int {
    look_up([module, symbol], address, Runtime::symbol)
}

/// `hot_reload_frame_symbol()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_frame_symbol(
    module: *const c_char,
    symbol: *const c_char,
    address: *mut *mut c_void,
) -> c_int {
    look_up([module, symbol], address, Runtime::frame_symbol)
}

/// `hot_reload_retain()`.
///
/// # Safety
///
/// The argument is what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_retain(module: *const c_char) -> c_int {
    guarded(|| {
        let call = Call::begin()?;
        Ok(call.runtime.retain(&pointers::name(module, "module")?)?)
    })
}

/// `hot_reload_unload()`.
///
/// # Safety
///
/// The argument is what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_unload(module: *const c_char) -> c_int {
    guarded(|| {
        let call = Call::begin()?;
        Ok(call.runtime.unload(&pointers::name(module, "module")?)?)
    })
}

/// `hot_reload_rollback()`.
///
/// # Safety
///
/// The argument is what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_rollback(module: *const c_char) -> c_int {
    guarded(|| {
        let call = Call::begin()?;
        call.runtime.rollback_module(&pointers::name(module, "module")?)?;
        Ok(())
    })
}

/// `hot_reload_watch()`.
///
/// # Safety
///
/// The arguments are what the header says; the callbacks stay until the watch has ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_watch(
    module_path: *const c_char,
    reload_config: *const HotReloadConfig,
) -> c_int {
    guarded(|| {
        gate::refuse_inside("hot_reload_watch")?;
        let call = Call::begin()?;
        let path = pointers::path(module_path, "module_path")?;
        watching::watch(call.runtime, path, HotReloadConfig::given(reload_config)?)
    })
}

/// `hot_reload_unwatch()`.
///
/// # Safety
///
/// The argument is what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_unwatch(module_path: *const c_char) -> c_int {
    guarded(|| {
        gate::refuse_inside("hot_reload_unwatch")?;
        let call = Call::begin()?;
        Ok(call.runtime.unwatch(pointers::path(module_path, "module_path")?)?)
    })
}

/// `hot_reload_check_compatibility()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_check_compatibility(
    module_path: *const c_char,
    compatibility_info: *mut ModuleCompatibility,
) -> c_int {
    guarded(|| {
        let output = Output::new(compatibility_info, "compatibility_info")?;
        let call = Call::begin()?;
        compatibility::check(call.runtime, &pointers::path(module_path, "module_path")?, &output)
    })
}

/// `hot_reload_stats_t`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct HotReloadStats {
    pub total_reloads: u64,
    pub successful_reloads: u64,
    pub failed_reloads: u64,
    pub rolled_back_reloads: u64,
    pub avg_reload_time_ms: f64,
    pub p50_reload_time_ms: f64,
    pub p95_reload_time_ms: f64,
    pub p99_reload_time_ms: f64,
    pub max_reload_time_ms: f64,
    pub avg_stage_time_ms: f64,
    pub p99_stage_time_ms: f64,
    pub avg_publish_time_ms: f64,
    pub p99_publish_time_ms: f64,
    pub cache_hit_rate: f64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub generation: u64,
    pub loaded_modules: u32,
    pub watched_files: u32,
    pub memory_usage_mb: f64,
    pub retired_bytes: u64,
    pub retained_bytes: u64,
}

// SAFETY: numbers.
unsafe impl Plain for HotReloadStats {}

/// `hot_reload_get_statistics()`.
///
/// # Safety
///
/// The argument is what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_get_statistics(stats: *mut HotReloadStats) -> c_int {
    guarded(|| {
        let output = Output::new(stats, "stats")?;
        let call = Call::begin()?;
        let figures = call.runtime.statistics()?;
        let (reload, stage, publish) = (&figures.reload, &figures.stage, &figures.publish);
        let looked = figures.cache_hits + figures.cache_misses;
        output.put(HotReloadStats {
            total_reloads: figures.loaded + figures.failed,
            successful_reloads: figures.loaded,
            failed_reloads: figures.failed,
            rolled_back_reloads: figures.rolled_back,
            avg_reload_time_ms: milliseconds(reload.mean),
            p50_reload_time_ms: milliseconds(reload.p50),
            p95_reload_time_ms: milliseconds(reload.p95),
            p99_reload_time_ms: milliseconds(reload.p99),
            max_reload_time_ms: milliseconds(reload.max),
            avg_stage_time_ms: milliseconds(stage.mean),
            p99_stage_time_ms: milliseconds(stage.p99),
            avg_publish_time_ms: milliseconds(publish.mean),
            p99_publish_time_ms: milliseconds(publish.p99),
            cache_hit_rate: if looked == 0 { 0.0 } else { figures.cache_hits as f64 / looked as f64 },
            cache_hits: figures.cache_hits,
            cache_misses: figures.cache_misses,
            generation: figures.generation,
            loaded_modules: figures.modules as u32,
            watched_files: figures.watched as u32,
            memory_usage_mb: (figures.current_bytes + figures.old_bytes) as f64 / 1e6,
            retired_bytes: figures.old_bytes as u64,
            retained_bytes: figures.retained_bytes as u64,
        });
        Ok(())
    })
}
