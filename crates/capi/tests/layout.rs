//! The structures here are those of the headers, on both machines; the headers are clean C and C++.

mod support;

use std::fmt::Write;
use std::mem::offset_of;
use std::path::Path;

use midflight::ErrorKind;
use midflight::conflict::{Action, Kind, Severity, Strategy};
use midflight_c::compatibility_layer::CompatibilityAdapter;
use midflight_c::conflict_resolution::*;
use midflight_c::hot_reload::*;
use midflight_c::options::*;
use midflight_c::runtime_core::*;
use midflight_c::runtime_types::*;
use midflight_c::transaction_manager::*;
use support::{MACHINES, Workshop, earlier_headers, host_compiler, include};

macro_rules! checks {
    ($checks:ident, $c:literal, $rust:ty: $($field:ident),+ $(,)?) => {
        for (what, value) in [
            (format!("sizeof({})", $c), size_of::<$rust>()),
            (format!("alignof({})", $c), align_of::<$rust>()),
            $((format!("offsetof({}, {})", $c, stringify!($field)), offset_of!($rust, $field)),)+
        ] {
            $checks.push((what, value as i64));
        }
    };
}

/// As [`checks!`], and that each field begins where the one before ends: what is padding today
/// would be a field of garbage in a host that was compiled before it was one.
macro_rules! growing {
    ($checks:ident, $c:literal, $rust:ty: $($field:ident),+ $(,)?) => {
        checks!($checks, $c, $rust: $($field),+);
        let size = |field: &str| format!("sizeof((({}*)0)->{field})", $c);
        let mut end = String::from("0");
        for field in [$(stringify!($field)),+] {
            $checks.push((format!("offsetof({}, {field}) - ({end})", $c), 0));
            end = format!("offsetof({}, {field}) + {}", $c, size(field));
        }
        $checks.push((format!("sizeof({}) - ({end})", $c), 0));
        assert_eq!(offset_of!($rust, struct_size), 0);
    };
}

fn documented() -> Vec<(String, i64)> {
    let mut checks = Vec::new();
    checks!(checks, "runtime_frame_t", RuntimeFrame: reserved);
    checks!(checks, "runtime_config_t", RuntimeConfig: hot_reload_threads, max_concurrent_reloads, reload_timeout_ns,
        enable_transactions, transaction_timeout_ms, max_transaction_size, enable_security_monitoring,
        enable_compliance_validation, security_level, enable_performance_monitoring, metrics_collection_interval_ms,
        max_memory_usage, enable_memory_optimization, enable_auto_recovery, recovery_timeout_ms, log_level,
        enable_debug_output, log_file_path);
    checks!(checks, "runtime_status_t", RuntimeStatus: state, uptime_seconds, is_healthy, total_reloads, successful_reloads,
        failed_reloads, average_reload_time_ms, memory_used_bytes, cpu_usage_percent, active_threads, total_errors,
        recovered_errors, last_error_time, security_status, threat_level, last_security_scan);
    checks!(checks, "hot_reload_config_t", HotReloadConfig: validate_before_reload, backup_current_state, use_transactions,
        parallel_loading, max_reload_threads, reload_timeout_ns, dry_run, rollback_on_failure, verify_integrity, conflict_mode,
        auto_resolve_conflicts, progress_callback, complete_callback, error_callback);
    checks!(checks, "compatibility_difference_t", CompatibilityDifference: aspect, breaks, kind, symbol, old_value, new_value);
    checks!(checks, "module_compatibility_t", ModuleCompatibility: abi_compatible, is_loaded, links, calls, state,
        exports_removed, exports_added, imports_unresolved, objects_resized, functions_changed, types_changed,
        difference_count, listed_count, differences, unknown_because);
    checks!(checks, "hot_reload_stats_t", HotReloadStats: total_reloads, successful_reloads, failed_reloads,
        rolled_back_reloads, avg_reload_time_ms, p50_reload_time_ms, p95_reload_time_ms, p99_reload_time_ms,
        max_reload_time_ms, avg_stage_time_ms, p99_stage_time_ms, avg_publish_time_ms, p99_publish_time_ms, cache_hit_rate,
        cache_hits, cache_misses, generation, loaded_modules, watched_files, memory_usage_mb, retired_bytes,
        retained_bytes);
    checks
}

/// Those that have come since 0.1.0.
fn conflicts() -> Vec<(String, i64)> {
    let mut checks = Vec::new();
    checks!(checks, "conflict_info_t", ConflictInfo: severity, module, symbol, member, file, line, concerned_count, concerned,
        message, proposal);
    checks!(checks, "conflict_analysis_t", ConflictAnalysis: conflict_info, count, listed_count, conflicts, generation,
        is_complete, unknown_because);
    checks!(checks, "system_state_t", CurrentState: generation, timestamp_ns, module_count, reserved);
    checks!(checks, "resolution_config_t", ResolutionConfig: strategy, auto_resolve, confidence_threshold, prefer_latest);
    checks!(checks, "resolution_result_t", ResolutionResult: success, action, confidence, outcome_count, claimed_confidence,
        resolver, model_used, explanation);
    for (name, value) in [
        ("offsetof(conflict_info_t, type)", offset_of!(ConflictInfo, kind) as i64),
        ("CONFLICT_MAX_CONCERNED", MAX_CONCERNED as i64),
        ("CONFLICT_MAX_LISTED", MAX_LISTED as i64),
        ("CONFLICT_TYPE_SEMANTIC_MISMATCH", Kind::SemanticMismatch as i64),
        ("CONFLICT_TYPE_STATE_MACHINE", Kind::StateMachine as i64),
        ("CONFLICT_SEVERITY_CRITICAL", Severity::Critical as i64),
        ("RESOLUTION_STRATEGY_ML_GUIDED", Strategy::MlGuided as i64),
        ("RESOLUTION_STRATEGY_THREE_WAY_MERGE", Strategy::ThreeWayMerge as i64),
        ("RESOLUTION_ACTION_USE_COMPATIBILITY_LAYER", Action::UseCompatibilityLayer as i64),
        ("RESOLUTION_ACTION_MANUAL", Action::Manual as i64),
        ("CONFLICT_RESOLUTION_REFUSE", 1),
        ("CONFLICT_RESOLUTION_PREFER_LATEST", 2),
    ] {
        checks.push((name.into(), value));
    }
    checks
}

/// Structures that grow. Each field begins where the one before ends, and the last at the end:
/// there is no padding.
fn growing() -> Vec<(String, i64)> {
    let mut checks = Vec::new();
    growing!(checks, "hot_reload_address_t", HotReloadAddress: struct_size, standing, version, offset, file_address, is_code,
        reserved, module, symbol, path);
    growing!(checks, "hot_reload_version_t", HotReloadVersion: struct_size, state, module, declared, path, version, until,
        code_bytes, holders, reserved);
    growing!(checks, "hot_reload_source_t", HotReloadSource: struct_size, file_count, files, name, needs, need_count, carry);
    growing!(checks, "hot_reload_change_t", HotReloadChange: struct_size, module_count, modules, paths, replaces, message, code,
        reserved, generation);
    growing!(checks, "hot_reload_hooks_t", HotReloadHooks: struct_size, change_size, name, before, after, user);
    growing!(checks, "compatibility_adapter_t", CompatibilityAdapter: struct_size, unsaid, module, symbol, signature,
        adapter_module, adapter_symbol);
    growing!(checks, "transaction_options_t", TransactionOptions: struct_size, isolation, timeout_ms, max_operations, read_only,
        durability, reserved, conflict_mode, auto_resolve_conflicts, merge, reserved_too);
    checks!(checks, "reload_operation_config_t", ReloadOperationConfig: validate_integrity, backup_state);
    growing!(checks, "runtime_options_t", RuntimeOptions: struct_size, gdb, perf_map, reserved, jitdump_folder,
        journal_folder, journal_two_phase, journal_rebuild, journal_reserved);
    for (name, value) in [
        ("ISOLATION_READ_UNCOMMITTED", 0),
        ("ISOLATION_SERIALIZABLE", 3),
        ("sizeof(transaction_id_t)", 8),
        ("sizeof(isolation_level_t)", 4),
        ("HOT_RELOAD_STANDING_COMING", 1),
        ("HOT_RELOAD_STANDING_OLD", 3),
        ("HOT_RELOAD_STANDING_TRAMPOLINE", 5),
    ] {
        checks.push((name.into(), value));
    }
    checks
}

/// The first of the codes.
fn codes(count: usize) -> Vec<(String, i64)> {
    let mut checks = Vec::new();
    for (name, kind) in CODES.into_iter().zip(ErrorKind::ALL).take(count) {
        checks.push((format!("RUNTIME_ERROR_{name}"), kind as i64));
    }
    for (name, value) in [
        ("RUNTIME_OK", 0),
        ("HOT_RELOAD_MAX_MODULES", MAX_MODULES as i64),
        ("LOG_LEVEL_TRACE", 1),
        ("LOG_LEVEL_OFF", 6),
        ("SECURITY_LEVEL_CRITICAL", 4),
        ("RUNTIME_STATE_RELOADING", 2),
        ("RUNTIME_STATE_STOPPING", 3),
        ("COMPATIBILITY_UNKNOWN", 0),
        ("COMPATIBILITY_COMPATIBLE", 1),
        ("COMPATIBILITY_INCOMPATIBLE", 2),
        ("COMPATIBILITY_ASPECT_LINKS", 0),
        ("COMPATIBILITY_ASPECT_STATE", 2),
        ("sizeof(bool)", size_of::<Bool>() as i64),
        ("sizeof(log_level_t)", 4),
    ] {
        checks.push((name.into(), value));
    }
    checks
}

const CODES: [&str; 25] = [
    "INVALID_ARGUMENT",
    "NOT_INITIALIZED",
    "UNSUPPORTED",
    "IO",
    "INVALID_MODULE",
    "UNRESOLVED",
    "INCOMPATIBLE",
    "COMPATIBILITY_UNKNOWN",
    "NOT_LOADED",
    "NO_SUCH_SYMBOL",
    "IN_USE",
    "OUT_OF_MEMORY",
    "MEMORY_LIMIT",
    "TIMEOUT",
    "BUSY",
    "INTEGRITY",
    "REFUSED",
    "NO_PREVIOUS_VERSION",
    "WRONG_FRAME",
    "NOT_WATCHED",
    "FORKED",
    "SYSTEM",
    "INTERNAL",
    "VETOED",
    "CONFLICT",
];

/// That this is true with these headers, on both machines.
fn holds_with(include: &Path, name: &str, checks: impl IntoIterator<Item = (String, i64)>) {
    let workshop = Workshop::new(name);
    let mut source =
        String::from("#include \"runtime_api.h\"\n#include \"runtime_module.h\"\n#include <assert.h>\n");
    source.push_str("#ifndef __cplusplus\n#include <stdalign.h>\n#endif\n");
    for (what, value) in checks {
        writeln!(source, "static_assert((long long)({what}) == {value}, \"{what} is {value}\");").unwrap();
    }
    for machine in MACHINES {
        for (cpp, file, standard) in
            [(false, "layout.c", "c11"), (false, "layout.c", "gnu11"), (true, "layout.cpp", "c++17")]
        {
            let file = workshop.file(file, source.as_bytes());
            let mut command = host_compiler(machine, cpp);
            command
                .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"])
                .arg(format!("-std={standard}"));
            let result = command.arg("-I").arg(include).arg(&file).output();
            let result =
                result.unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/setup installs it"));
            assert!(
                result.status.success(),
                "{machine} {standard}: {}",
                String::from_utf8_lossy(&result.stderr)
            );
        }
    }
}

#[test]
fn structures_and_codes_are_those_of_the_headers() {
    holds_with(
        &include(),
        "capi-layout",
        [documented(), conflicts(), growing(), codes(CODES.len())].concat(),
    );
}

/// The documented structures keep exactly their fields: a host of then and the library of now
/// agree.
#[test]
fn structures_and_codes_are_those_of_earlier_headers() {
    for earlier in earlier_headers() {
        // So many had 0.1.0.
        holds_with(&earlier, "capi-layout-earlier", [documented(), codes(23)].concat());
    }
}

#[test]
fn every_code_has_its_name() {
    for (name, kind) in CODES.into_iter().zip(ErrorKind::ALL) {
        let text = support::text(runtime_strerror(kind as i32));
        assert!(text.starts_with(&format!("RUNTIME_ERROR_{name}: ")), "{text}");
    }
    assert!(support::text(runtime_strerror(0)).starts_with("RUNTIME_OK"));
    for unknown in [1, -26, i32::MIN, i32::MAX] {
        assert!(!support::text(runtime_strerror(unknown)).is_empty());
    }
}

#[test]
fn time_goes_on() {
    let first = get_timestamp_ns();
    let clock = std::time::Instant::now();
    while clock.elapsed().as_micros() < 200 {}
    let took = get_timestamp_ns() - first;
    assert!((200_000..5_000_000_000).contains(&took), "{took}");
}
