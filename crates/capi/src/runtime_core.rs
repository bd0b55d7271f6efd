//! `runtime_core.h`: start, stop, state, frames, collection, the log's callback.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use midflight::{ErrorKind, ProcessUsage, StaleCalls};

use crate::checked;
use crate::errors::{COUNTS, Failure, Outcome, guarded};
pub use crate::frames::{runtime_frame_begin, runtime_frame_end, runtime_frame_join};
use crate::gate::{self, Call, Inside};
use crate::log::{self, Destination};
use crate::pointers::{self, Output, Plain, Text};
use crate::runtime_types::Bool;
use crate::transaction_manager;

/// The most threads that may be asked for.
pub(crate) const MOST_THREADS: u32 = 256;

/// `runtime_config_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct RuntimeConfig {
    pub hot_reload_threads: u32,
    pub max_concurrent_reloads: u32,
    pub reload_timeout_ns: u64,
    pub enable_transactions: Bool,
    pub transaction_timeout_ms: u32,
    pub max_transaction_size: u32,
    pub enable_security_monitoring: Bool,
    pub enable_compliance_validation: Bool,
    pub security_level: i32,
    pub enable_performance_monitoring: Bool,
    pub metrics_collection_interval_ms: u32,
    pub max_memory_usage: u64,
    pub enable_memory_optimization: Bool,
    pub enable_auto_recovery: Bool,
    pub recovery_timeout_ms: u32,
    pub log_level: i32,
    pub enable_debug_output: Bool,
    pub log_file_path: *const c_char,
}

// SAFETY: numbers, bytes and a pointer.
unsafe impl Plain for RuntimeConfig {}

impl Default for RuntimeConfig {
    fn default() -> Self {
        // SAFETY: zeroes are a value, as the header asks for.
        unsafe { std::mem::zeroed() }
    }
}

/// `runtime_status_t`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct RuntimeStatus {
    pub state: i32,
    pub uptime_seconds: u64,
    pub is_healthy: Bool,
    pub total_reloads: u64,
    pub successful_reloads: u64,
    pub failed_reloads: u64,
    pub average_reload_time_ms: f64,
    pub memory_used_bytes: u64,
    pub cpu_usage_percent: u32,
    pub active_threads: u32,
    pub total_errors: u64,
    pub recovered_errors: u64,
    pub last_error_time: u64,
    pub security_status: i32,
    pub threat_level: u32,
    pub last_security_scan: u64,
}

// SAFETY: numbers and bytes.
unsafe impl Plain for RuntimeStatus {}

/// `runtime_log_callback_t`. It may not unwind; should it, the process ends.
pub type LogCallback =
    unsafe extern "C-unwind" fn(level: i32, target: *const c_char, message: *const c_char, user: *mut c_void);

/// Since when it runs, and what the last status saw.
struct Run {
    begun: Instant,
    /// When CPU time was asked for last, and what it was.
    cpu: (Instant, Duration),
    max_memory: u64,
}

static RUN: Mutex<Option<Run>> = Mutex::new(None);
/// Only one thread starts or stops the runtime at a time.
static LIFE: Mutex<()> = Mutex::new(());
/// In nanoseconds. Relaxed: a reload takes it as it finds it.
static TIMEOUT: AtomicU64 = AtomicU64::new(DEFAULT_TIMEOUT);
const DEFAULT_TIMEOUT: u64 = 10_000_000_000;

/// The time-out of reloads that have none of their own.
pub(crate) fn timeout() -> Duration {
    Duration::from_nanos(TIMEOUT.load(Ordering::Relaxed))
}

/// `runtime_init()`.
///
/// # Safety
///
/// `config` is NULL or a `runtime_config_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn runtime_init(config: *const RuntimeConfig) -> c_int {
    guarded(|| init(config))
}

/// `runtime_init_debug()`.
///
/// # Safety
///
/// As for [`runtime_init`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn runtime_init_debug(config: *const RuntimeConfig) -> c_int {
    guarded(|| {
        checked::note_debug_build();
        init(config)
    })
}

fn init(config: *const RuntimeConfig) -> Outcome {
    gate::refuse_inside("runtime_init")?;
    let config = if config.is_null() { RuntimeConfig::default() } else { pointers::read(config, "config")? };
    config.check()?;
    let _life = LIFE.lock().unwrap_or_else(PoisonError::into_inner);
    let file = match config.log_file_path.is_null() {
        true => None,
        false => Some(pointers::path(config.log_file_path, "log_file_path")?),
    };
    // What can fail comes first: then nothing has changed.
    let destination = Destination::open(file.as_deref(), config.log_level, config.enable_debug_output.get())?;
    let runtime = gate::start()?;
    runtime.set_max_memory(match config.max_memory_usage {
        0 => None,
        bytes => Some(usize::try_from(bytes).unwrap_or(usize::MAX)),
    })?;
    runtime.set_threads(config.hot_reload_threads as usize);
    runtime.set_concurrency(match config.max_concurrent_reloads {
        0 => None,
        reloads => Some(reloads as usize),
    });
    runtime.set_eager_collection(config.enable_memory_optimization.get());
    // Until hot_reload_check_compatibility() is called.
    runtime.set_keep_files(false);
    TIMEOUT.store(
        if config.reload_timeout_ns == 0 { DEFAULT_TIMEOUT } else { config.reload_timeout_ns },
        Ordering::Relaxed,
    );
    transaction_manager::configure(&config);
    log::set_destination(destination);
    config.warn();
    runtime.set_checks(checked::wanted());

    let mut run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *run {
        Some(run) if !gate::is_stopped() => run.max_memory = config.max_memory_usage,
        run => {
            COUNTS.reset();
            let now = Instant::now();
            let cpu = (now, ProcessUsage::now().map(|usage| usage.cpu).unwrap_or_default());
            *run = Some(Run { begun: now, cpu, max_memory: config.max_memory_usage });
        }
    }
    gate::open();
    Ok(())
}

impl RuntimeConfig {
    fn check(&self) -> Outcome {
        let at_most = |name: &str, value: u32, most: u32| match value <= most {
            true => Ok(()),
            false => Err(Failure::argument(format!("{name} is {value}: at most {most}"))),
        };
        at_most("hot_reload_threads", self.hot_reload_threads, MOST_THREADS)?;
        if !(0..=4).contains(&self.security_level) {
            let level = self.security_level;
            return Err(Failure::argument(format!(
                "security_level is {level}, which is none of security_level_t"
            )));
        }
        match log::level(self.log_level) {
            Some(_) => Ok(()),
            None => Err(log::no_such_level("log_level", self.log_level)),
        }
    }

    /// Says what is asked for and not there yet.
    fn warn(&self) {
        let later = [
            ("enable_security_monitoring", self.enable_security_monitoring.get(), "runtime_security.h"),
            ("enable_compliance_validation", self.enable_compliance_validation.get(), "runtime_security.h"),
            ("security_level", self.security_level != 0, "runtime_security.h"),
            (
                "enable_performance_monitoring",
                self.enable_performance_monitoring.get(),
                "performance_monitor.h",
            ),
            (
                "metrics_collection_interval_ms",
                self.metrics_collection_interval_ms != 0,
                "performance_monitor.h",
            ),
            ("enable_auto_recovery", self.enable_auto_recovery.get(), "error_recovery.h"),
            ("recovery_timeout_ms", self.recovery_timeout_ms != 0, "error_recovery.h"),
        ];
        warn_of(&later);
    }
}

/// Of fields that are set and have no effect yet, and the headers that they come with.
fn warn_of(fields: &[(&str, bool, &str)]) {
    for (field, set, header) in fields {
        if *set {
            tracing::warn!(target: "midflight::config", field, header, "is set and has no effect yet: it comes with that header");
        }
    }
}

/// `runtime_shutdown()`.
#[unsafe(no_mangle)]
pub extern "C" fn runtime_shutdown() -> c_int {
    guarded(|| {
        gate::refuse_inside("runtime_shutdown")?;
        let _life = LIFE.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = gate::runtime()?;
        gate::close()?;
        transaction_manager::end_all();
        // Destructors and module_shutdown() run in here, which may not call back.
        let inside = Inside::new();
        let stopped = runtime.shutdown();
        drop(inside);
        gate::closed();
        let logged = log::end();
        stopped.map_err(Failure::from).and(logged)
    })
}

/// `runtime_get_status()`.
///
/// # Safety
///
/// `status` is a `runtime_status_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn runtime_get_status(status: *mut RuntimeStatus) -> c_int {
    guarded(|| {
        let output = Output::new(status, "status")?;
        output.put(self::status()?);
        Ok(())
    })
}

fn status() -> Outcome<RuntimeStatus> {
    const RUNNING: i32 = 1;
    const RELOADING: i32 = 2;
    const STOPPING: i32 = 3;
    gate::refuse_child()?;
    gate::refuse_in_log()?;
    let runtime = gate::runtime()?;
    // Before the runtime is asked, which waits for the reload that is at work.
    let state = match gate::is_stopping() {
        true => STOPPING,
        false if gate::is_reloading() => RELOADING,
        false => RUNNING,
    };
    let statistics = runtime.statistics()?;
    let usage = ProcessUsage::now()
        .map_err(|error| Failure::new(ErrorKind::System, format!("what the process uses: {error}")))?;
    let mut run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
    let run = run.as_mut().ok_or_else(gate::not_running)?;
    let now = Instant::now();
    let (then, before) = std::mem::replace(&mut run.cpu, (now, usage.cpu));
    let code = (statistics.current_bytes + statistics.old_bytes) as u64;
    let has_room = run.max_memory == 0 || code < run.max_memory / 10 * 9;
    let [total_errors, recovered_errors, last_error_time] = COUNTS.get();
    Ok(RuntimeStatus {
        state,
        uptime_seconds: run.begun.elapsed().as_secs(),
        is_healthy: (state != STOPPING && has_room).into(),
        total_reloads: statistics.loaded + statistics.failed,
        successful_reloads: statistics.loaded,
        failed_reloads: statistics.failed,
        average_reload_time_ms: statistics.reload.mean.as_secs_f64() * 1e3,
        memory_used_bytes: usage.resident,
        cpu_usage_percent: percent(usage.cpu.saturating_sub(before), now - then),
        active_threads: usage.threads,
        total_errors,
        recovered_errors,
        last_error_time,
        security_status: 0,
        threat_level: 0,
        last_security_scan: 0,
    })
}

fn percent(part: Duration, whole: Duration) -> u32 {
    match whole.as_nanos() {
        0 => 0,
        whole => u32::try_from(part.as_nanos() * 100 / whole).unwrap_or(u32::MAX),
    }
}

/// `runtime_gc_collect()`.
#[unsafe(no_mangle)]
pub extern "C" fn runtime_gc_collect() -> c_int {
    // What is found on this thread's stack is kept. A call through the dynamic linker saves all
    // vector registers there, where our frames come to be.
    midflight::private::forget_stack();
    guarded(|| {
        let call = Call::begin()?;
        call.runtime.collect_quiescent()?;
        Ok(())
    })
}

/// `runtime_check_frames()`.
#[unsafe(no_mangle)]
pub extern "C" fn runtime_check_frames(check: Bool) {
    checked::ask(check.get());
}

/// `runtime_report_stale_calls()`.
#[unsafe(no_mangle)]
pub extern "C" fn runtime_report_stale_calls(report: Bool) -> c_int {
    guarded(|| {
        let calls = if report.get() { StaleCalls::Reported } else { StaleCalls::Unreported };
        Call::begin()?.runtime.set_stale_calls(calls);
        Ok(())
    })
}

/// `runtime_explain_address()`. Async-signal-safe.
///
/// # Safety
///
/// `text` is memory of the caller's of that size, or none at all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn runtime_explain_address(
    address: *const c_void,
    text: *mut c_char,
    size: usize,
) -> Bool {
    let Some(mut text) = Text::new(text, size) else { return false.into() };
    // What has no room is left out.
    let known = midflight::explain_address(address.cast(), &mut text);
    text.end();
    known.unwrap_or(true).into()
}

/// `runtime_set_log_callback()`.
///
/// # Safety
///
/// The callback is NULL or a `runtime_log_callback_t`, which may be called with `user` until it is
/// taken back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn runtime_set_log_callback(
    callback: Option<LogCallback>,
    level: i32,
    user: *mut c_void,
) -> c_int {
    guarded(|| {
        gate::refuse_child()?;
        let level = log::level(level).ok_or_else(|| log::no_such_level("level", level))?;
        log::set_callback(callback, level, user)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        let ms = Duration::from_millis;
        assert_eq!(percent(ms(5), ms(10)), 50);
        assert_eq!(percent(ms(20), ms(10)), 200);
        assert_eq!(percent(ms(20), ms(0)), 0);
        assert_eq!(percent(Duration::MAX, Duration::from_nanos(1)), u32::MAX);
    }
}
