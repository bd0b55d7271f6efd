//! What `hot_reload_check_compatibility` says.

use std::ffi::c_char;
use std::path::Path;

use midflight::interface::{Aspect, Difference, Kind, Verdict};
use midflight::{ErrorKind, Runtime};

use crate::errors::{Failure, Outcome};
use crate::pointers::{Output, Plain, fill};
use crate::runtime_types::Bool;

/// `COMPATIBILITY_MAX_DIFFERENCES`.
pub(super) const MAX_DIFFERENCES: usize = 32;

/// `compatibility_difference_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct CompatibilityDifference {
    pub aspect: i32,
    pub breaks: Bool,
    pub kind: [c_char; 32],
    pub symbol: [c_char; 128],
    pub old_value: [c_char; 256],
    pub new_value: [c_char; 256],
}

/// `module_compatibility_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct ModuleCompatibility {
    pub abi_compatible: Bool,
    pub is_loaded: Bool,
    pub links: i32,
    pub calls: i32,
    pub state: i32,
    pub exports_removed: u32,
    pub exports_added: u32,
    pub imports_unresolved: u32,
    pub objects_resized: u32,
    pub functions_changed: u32,
    pub types_changed: u32,
    pub difference_count: u32,
    pub listed_count: u32,
    pub differences: [CompatibilityDifference; MAX_DIFFERENCES],
    pub unknown_because: [c_char; 256],
}

// SAFETY: numbers and bytes.
unsafe impl Plain for ModuleCompatibility {}

impl Default for ModuleCompatibility {
    fn default() -> Self {
        // SAFETY: zeroes are a value: UNKNOWN, and nothing listed.
        unsafe { std::mem::zeroed() }
    }
}

pub(super) fn check(runtime: &Runtime, path: &Path, output: &Output<ModuleCompatibility>) -> Outcome {
    // Who asks once will ask again, of a file that may have been overwritten by then.
    runtime.set_keep_files(true);
    let found = runtime.compatibility(path)?;
    let report = &found.report;
    let count =
        |wanted: &[Kind]| report.differences.iter().filter(|d| wanted.contains(&d.kind)).count() as u32;
    let mut info = ModuleCompatibility {
        abi_compatible: (report.links == Verdict::Compatible && report.calls == Verdict::Compatible).into(),
        is_loaded: found.loaded.is_some().into(),
        links: number(report.links),
        calls: number(report.calls),
        state: number(report.state),
        exports_removed: count(&[Kind::ExportRemoved]),
        exports_added: count(&[Kind::ExportAdded]),
        imports_unresolved: count(&[Kind::ImportUnresolved]),
        objects_resized: count(&[Kind::ExportSize]),
        functions_changed: count(&[Kind::Signature]),
        types_changed: count(&[Kind::Layout, Kind::Enumeration, Kind::Type]),
        difference_count: report.count as u32,
        unknown_because: fill(report.reason.as_deref().unwrap_or_default()),
        ..ModuleCompatibility::default()
    };
    for (to, difference) in info.differences.iter_mut().zip(&report.differences) {
        *to = of(difference);
        info.listed_count += 1;
    }
    output.put(info);
    let verdicts = [report.links, report.calls, report.state];
    let kind = if verdicts.contains(&Verdict::Incompatible) {
        ErrorKind::Incompatible
    } else if verdicts.contains(&Verdict::Unknown) {
        ErrorKind::CompatibilityUnknown
    } else {
        return Ok(());
    };
    Err(Failure::new(kind, format!("{}: {found}", path.display())))
}

fn number(verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Unknown => 0,
        Verdict::Compatible => 1,
        Verdict::Incompatible => 2,
    }
}

fn of(difference: &Difference) -> CompatibilityDifference {
    let aspect = match difference.aspect {
        Aspect::Links => 0,
        Aspect::Calls => 1,
        Aspect::State => 2,
    };
    CompatibilityDifference {
        aspect,
        breaks: (!difference.compatible).into(),
        kind: fill(&difference.kind.to_string()),
        symbol: fill(&difference.subject),
        old_value: fill(&difference.old),
        new_value: fill(&difference.new),
    }
}
