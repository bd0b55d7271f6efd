//! Whether a file fits the version of its module that is loaded.

use std::fmt;
use std::sync::Arc;

use midflight_interface::{Interface, Report, Verdict};

use super::besides::Besides;
use super::candidates::{Candidate, Candidates, NewExporters};
use super::state::State;
use super::steps::{Neighbourhood, Trampolines};
use crate::Error;
use crate::module::{Interfaces, Libraries, Origin, Unread, bind};

/// How a file compares with the version of its module that is loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Compatibility {
    /// The module's name.
    pub module: String,
    /// The version that is loaded. None: then there is nothing that calls or state could break.
    pub loaded: Option<u64>,
    /// The three verdicts, and the differences.
    pub report: Report,
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.loaded {
            Some(version) => write!(f, "{}, compared with version {version}: {}", self.module, self.report),
            None => write!(f, "{}, which is not loaded: {}", self.module, self.report),
        }
    }
}

/// What is known of a candidate's imports before anything is loaded for it.
pub(crate) struct Missing {
    /// Symbols that nobody defines.
    symbols: Vec<String>,
    /// Libraries that it needs and that are not in the process: they may define them.
    absent: Vec<String>,
}

impl State {
    /// Of each of the candidates, its imports that nobody defines.
    pub(crate) fn missing(
        &mut self,
        candidates: &Candidates<'_>,
        besides: &Besides,
    ) -> Result<Vec<Missing>, Error> {
        let others = besides.find(self)?;
        let new = NewExporters::of(candidates);
        let missing = |candidate: &Candidate<'_>| {
            let Candidate { file, image, name } = candidate;
            let mut neighbours = Neighbourhood::new(&new, &others, self, Trampolines::Found);
            // SAFETY: no library is loaded.
            let bound = unsafe { bind(file, image, name, Libraries::Loaded, &mut neighbours) }?;
            let symbols = bound.missing(image).map(|import| import.name.to_owned()).collect();
            Ok(Missing { symbols, absent: bound.absent })
        };
        candidates.iter().map(missing).collect()
    }
}

/// How many differences are listed for who reads them.
pub(crate) const LISTED: usize = 64;

/// Compares with what is loaded: its number, and what it was made of if that was kept.
pub(crate) fn compare(
    loaded: Option<(u64, Option<Arc<Origin>>)>,
    new: &Interface,
    missing: &Missing,
    interfaces: &Interfaces,
    limit: usize,
) -> Result<Report, midflight_image::Error> {
    let mut report = match &loaded {
        // Nothing can break.
        None => {
            let mut report = new.compare(new, limit);
            (report.calls, report.state, report.reason) = (Verdict::Compatible, Verdict::Compatible, None);
            report
        }
        Some((_, Some(origin))) => match origin.interface(interfaces) {
            Ok(interface) => interface.compare(new, limit),
            Err(Unread::Gone(reason)) => unknown(reason),
            Err(Unread::Image(error)) => return Err(error),
        },
        Some((number, None)) => {
            let reason = format!("of version {number}, which is loaded, no file was kept to compare with");
            unknown(reason)
        }
    };
    if missing.absent.is_empty() {
        for import in
            new.imports().filter(|import| missing.symbols.iter().any(|symbol| *symbol == *import.name))
        {
            report.unresolved(import, "");
        }
    } else if !missing.symbols.is_empty() && report.links == Verdict::Compatible {
        report.links = Verdict::Unknown;
        let reason = format!(
            "{} may define {}, and is not loaded",
            missing.absent.join(", "),
            missing.symbols.join(", ")
        );
        report.reason.get_or_insert(reason);
    }
    Ok(report)
}

fn unknown(reason: String) -> Report {
    Report::bare([Verdict::Unknown; 3], Some(reason))
}
