//! `conflict_resolution.h`: what conflicts with what is loaded, and what is done about it.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{c_char, c_int};
use std::sync::{Mutex, PoisonError};

use midflight::conflict::{Action, Answer, Conflict, Decider, Kind, Place, Request, Severity, Strategy};
use midflight::{ResolverId, View};

use crate::errors::{Failure, Outcome, guarded};
use crate::gate::{Call, Inside};
use crate::pointers::{self, Output, Plain, fill, text};
use crate::runtime_types::{Bool, get_timestamp_ns};
use crate::transaction_manager;

/// `CONFLICT_MAX_CONCERNED`.
pub const MAX_CONCERNED: usize = 4;
/// `CONFLICT_MAX_LISTED`.
pub const MAX_LISTED: usize = 16;

/// `conflict_resolver_func_t`. Callbacks may not unwind; should one, the process ends.
pub type ConflictResolver =
    unsafe extern "C-unwind" fn(conflict: *const ConflictInfo, result: *mut ResolutionResult) -> c_int;

/// `conflict_info_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct ConflictInfo {
    pub kind: i32,
    pub severity: i32,
    pub module: [c_char; 128],
    pub symbol: [c_char; 128],
    pub member: [c_char; 64],
    pub file: [c_char; 256],
    pub line: u32,
    pub concerned_count: u32,
    pub concerned: [[c_char; 64]; MAX_CONCERNED],
    pub message: [c_char; 768],
    pub proposal: [c_char; 384],
}

/// `conflict_analysis_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct ConflictAnalysis {
    pub conflict_info: ConflictInfo,
    pub count: u32,
    pub listed_count: u32,
    pub conflicts: [ConflictInfo; MAX_LISTED],
    pub generation: u64,
    pub is_complete: Bool,
    pub unknown_because: [c_char; 256],
}

/// `system_state_t`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct CurrentState {
    pub generation: u64,
    pub timestamp_ns: u64,
    pub module_count: u32,
    pub reserved: u32,
}

/// `resolution_config_t`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct ResolutionConfig {
    pub strategy: i32,
    pub auto_resolve: Bool,
    pub confidence_threshold: f64,
    pub prefer_latest: Bool,
}

/// `resolution_result_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct ResolutionResult {
    pub success: Bool,
    pub action: i32,
    pub confidence: f64,
    pub outcome_count: u64,
    pub claimed_confidence: f64,
    pub resolver: [c_char; 64],
    pub model_used: Bool,
    pub explanation: [c_char; 512],
}

// SAFETY: numbers and bytes.
unsafe impl Plain for ConflictInfo {}
// SAFETY: as above.
unsafe impl Plain for ConflictAnalysis {}
// SAFETY: as above.
unsafe impl Plain for CurrentState {}
// SAFETY: as above.
unsafe impl Plain for ResolutionConfig {}
// SAFETY: as above.
unsafe impl Plain for ResolutionResult {}

macro_rules! zeroes {
    ($($of:ty),+) => {
        $(impl Default for $of {
            fn default() -> Self {
                // SAFETY: it is `Plain`: zeroes are a value, and say that nothing is there.
                unsafe { std::mem::zeroed() }
            }
        })+
    };
}
zeroes!(ConflictInfo, ConflictAnalysis, ResolutionResult);

const SEVERITIES: [Severity; 4] = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
const STRATEGIES: [Strategy; 7] = [
    Strategy::Default,
    Strategy::PreferLatest,
    Strategy::KeepCurrent,
    Strategy::ThreeWayMerge,
    Strategy::CompatibilityLayer,
    Strategy::Manual,
    Strategy::MlGuided,
];
impl ConflictAnalysis {
    fn of(found: &[Conflict], generation: u64, unknown: Option<&String>) -> Box<Self> {
        let mut analysis = Box::new(Self {
            count: found.len() as u32,
            generation,
            is_complete: unknown.is_none().into(),
            unknown_because: fill(unknown.map_or("", |why| why)),
            ..Self::default()
        });
        for (to, conflict) in analysis.conflicts.iter_mut().zip(found) {
            *to = ConflictInfo::of(conflict);
            analysis.listed_count += 1;
        }
        analysis.conflict_info = analysis.conflicts[0];
        analysis
    }
}

impl ConflictInfo {
    fn of(conflict: &Conflict) -> Self {
        let Conflict { severity, kind, module, place, concerned, message, proposal } = conflict;
        let mut info = Self {
            kind: *kind as i32,
            severity: *severity as i32,
            module: fill(module),
            symbol: fill(&place.symbol),
            member: fill(&place.member),
            file: fill(&place.file),
            line: place.line,
            concerned_count: concerned.len() as u32,
            message: fill(message),
            proposal: fill(proposal),
            ..Self::default()
        };
        for (to, name) in info.concerned.iter_mut().zip(concerned) {
            *to = fill(name);
        }
        info
    }

    /// Back to what it was made of, as far as it had room.
    fn conflict(&self) -> Outcome<Conflict> {
        let (kind, severity) = (self.kind, self.severity);
        let kind = Kind::ALL.into_iter().find(|of| *of as i32 == kind).ok_or_else(|| {
            Failure::argument(format!("conflict_info: its type is {kind}, which is none of conflict_type_t"))
        })?;
        let severity = SEVERITIES.into_iter().find(|of| *of as i32 == severity).ok_or_else(|| {
            Failure::argument(format!(
                "conflict_info: its severity is {severity}, which is none that a conflict has"
            ))
        })?;
        let listed = (self.concerned_count as usize).min(MAX_CONCERNED);
        Ok(Conflict {
            severity,
            kind,
            module: text(&self.module),
            place: Place {
                symbol: text(&self.symbol),
                member: text(&self.member),
                file: text(&self.file),
                line: self.line,
            },
            concerned: self.concerned[..listed].iter().map(|name| text(name)).collect(),
            message: text(&self.message),
            proposal: text(&self.proposal),
        })
    }
}

impl ResolutionConfig {
    fn given(config: *const Self) -> Outcome<Request> {
        if config.is_null() {
            return Ok(Request::default());
        }
        let Self { strategy, auto_resolve, confidence_threshold, prefer_latest } =
            pointers::read(config, "resolution_config")?;
        let strategy = STRATEGIES.into_iter().find(|of| *of as i32 == strategy).ok_or_else(|| {
            Failure::argument(format!(
                "resolution_config: its strategy is {strategy}, which is none of resolution_strategy_t"
            ))
        })?;
        if !(0.0..=1.0).contains(&confidence_threshold) {
            return Err(Failure::argument(format!(
                "resolution_config: its confidence_threshold is {confidence_threshold}: from 0.0 to 1.0"
            )));
        }
        let (auto_resolve, prefer_latest) = (auto_resolve.get(), prefer_latest.get());
        Ok(Request { strategy, auto_resolve, confidence_threshold, prefer_latest, ..Request::default() })
    }
}

/// `runtime_get_current_state()`.
///
/// # Safety
///
/// The argument is what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn runtime_get_current_state(current_state: *mut CurrentState) -> c_int {
    guarded(|| {
        let output = Output::new(current_state, "current_state")?;
        let call = Call::begin()?;
        let state = call.runtime.system_state()?;
        output.put(CurrentState {
            generation: state.generation,
            timestamp_ns: get_timestamp_ns(),
            module_count: state.modules as u32,
            reserved: 0,
        });
        Ok(())
    })
}

/// Fills an analysis, and returns how many conflicts stand in the way, as `look` says.
fn analyse(
    conflict_analysis: *mut ConflictAnalysis,
    look: impl FnOnce(&Call) -> Outcome<(u32, Box<ConflictAnalysis>)>,
) -> c_int {
    let count = Cell::new(0);
    let code = guarded(|| {
        let output = Output::new(conflict_analysis, "conflict_analysis")?;
        let (in_the_way, analysis) = look(&Call::begin()?)?;
        count.set(in_the_way as c_int);
        output.put(*analysis);
        Ok(())
    });
    if code == 0 { count.get() } else { code }
}

/// `detect_potential_conflicts()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn detect_potential_conflicts(
    module_path: *const c_char,
    current_state: *const CurrentState,
    conflict_analysis: *mut ConflictAnalysis,
) -> c_int {
    analyse(conflict_analysis, |call| {
        let path = pointers::path(module_path, "module_path")?;
        let mut view = View::new();
        if !current_state.is_null() {
            let state = pointers::read(current_state, "current_state")?;
            // One that was never filled is a default.
            if state.timestamp_ns != 0 {
                view = view.since(state.generation);
            }
        }
        // Who asks once will ask again, of a file that may have been overwritten by then.
        call.runtime.set_keep_files(true);
        let conflicts = call.runtime.conflicts([path], &view)?;
        let analysis =
            ConflictAnalysis::of(&conflicts.found, conflicts.generation, conflicts.unknown.first());
        Ok((analysis.count, analysis))
    })
}

/// `transaction_detect_conflicts()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn transaction_detect_conflicts(
    transaction_id: u64,
    conflict_analysis: *mut ConflictAnalysis,
) -> c_int {
    analyse(conflict_analysis, |call| {
        call.runtime.set_keep_files(true);
        let conflicts = transaction_manager::with(transaction_id, |transaction| transaction.conflicts())?;
        let analysis =
            ConflictAnalysis::of(&conflicts.found, conflicts.generation, conflicts.unknown.first());
        Ok((analysis.count, analysis))
    })
}

/// `transaction_merge()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn transaction_merge(
    transaction_id: u64,
    conflict_analysis: *mut ConflictAnalysis,
) -> c_int {
    analyse(conflict_analysis, |call| {
        call.runtime.set_keep_files(true);
        let merged = transaction_manager::with(transaction_id, |transaction| transaction.merge())?;
        let analysis = ConflictAnalysis::of(&merged.in_the_way(), merged.generation, merged.unknown.first());
        Ok((if merged.is_clean() { 0 } else { analysis.count }, analysis))
    })
}

/// `resolve_module_conflicts()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resolve_module_conflicts(
    conflict_info: *const ConflictInfo,
    resolution_config: *const ResolutionConfig,
    resolution_result: *mut ResolutionResult,
) -> c_int {
    guarded(|| {
        let output = Output::new(resolution_result, "resolution_result")?;
        let call = Call::begin()?;
        let conflict = pointers::read(conflict_info, "conflict_info")?.conflict()?;
        let request = ResolutionConfig::given(resolution_config)?;
        let decision = call.runtime.resolve(&conflict, &request);
        let resolver = match &decision.by {
            Decider::Resolver(name) => name,
            Decider::Strategy(_) => "",
        };
        output.put(ResolutionResult {
            success: decision.success.into(),
            action: decision.action as i32,
            confidence: decision.confidence(),
            outcome_count: decision.measured.of,
            claimed_confidence: decision.claimed,
            resolver: fill(resolver),
            model_used: false.into(),
            explanation: fill(&decision.explanation),
        });
        Ok(())
    })
}

/// What a resolver of the host's says.
fn ask(name: &str, resolver: ConflictResolver, conflict: &Conflict) -> Option<Answer> {
    let (info, mut result) = (ConflictInfo::of(conflict), ResolutionResult::default());
    // A watch's thread is in no call of ours.
    let _inside = Inside::new();
    // SAFETY: the host's callback; both structures live as long as the call.
    if unsafe { resolver(&info, &mut result) } != 0 {
        return None;
    }
    let number = result.action;
    let Some(action) = Action::ALL.into_iter().find(|of| *of as i32 == number) else {
        tracing::warn!(
            resolver = name,
            action = number,
            "a conflict resolver's action is none of resolution_action_t: the next is asked"
        );
        return None;
    };
    Some(Answer { action, success: result.success.get(), confidence: result.confidence })
}

/// The resolvers that the host has registered, by name.
static RESOLVERS: Mutex<Option<HashMap<String, ResolverId>>> = Mutex::new(None);

/// `register_conflict_resolver()`.
///
/// # Safety
///
/// The arguments are what the header says; the function may be called until it is taken out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn register_conflict_resolver(
    strategy_name: *const c_char,
    resolver_func: Option<ConflictResolver>,
) -> c_int {
    guarded(|| {
        let call = Call::begin()?;
        let name = pointers::name(strategy_name, "strategy_name")?;
        let mut resolvers = RESOLVERS.lock().unwrap_or_else(PoisonError::into_inner);
        let resolvers = resolvers.get_or_insert_default();
        // After a shutdown there is none of what was registered before it.
        let was_there = resolvers.remove(&name).is_some_and(|id| call.runtime.remove_resolver(id));
        match resolver_func {
            Some(resolver) => {
                let asked = name.clone();
                let id = call.runtime.add_resolver(&*name, move |conflict| ask(&asked, resolver, conflict));
                resolvers.insert(name, id);
            }
            None if was_there => {}
            None => {
                return Err(Failure::argument(format!(
                    "resolver_func is NULL, and there is no resolver {name}"
                )));
            }
        }
        Ok(())
    })
}
