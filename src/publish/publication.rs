//! What a publication did.

use std::time::Duration;

use crate::module::Version;

pub use crate::module::Phases;

/// What a publication did.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Publication {
    /// The generation it made.
    pub generation: u64,
    /// From the call to everything linked, visible to all cores, initialised and prepared.
    pub stage: Duration,
    /// From there to every thread's next frame, and every call outside frames, being one of the new code: the swap, the live table.
    pub publish: Duration,
    /// Where the time of staging went.
    pub phases: Phases,
    /// What was published, in the order of the paths.
    pub modules: Vec<ModuleVersion>,
}

/// A version of a module.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ModuleVersion {
    /// The module's name: that in its note (`runtime_module.h`), else its SONAME without `lib` and `.so`, else its file's.
    pub name: String,
    /// Counts the loads of this module that succeeded, from 1.
    pub version: u64,
    /// The version that the module says it is (`runtime_module.h`). Nothing is read out of it.
    pub declared: Option<String>,
    /// Why debuggers were not told of the module's debug information, although it has some.
    pub debug_omitted: Option<&'static str>,
}

impl ModuleVersion {
    pub(super) fn of(version: &Version) -> Self {
        Self {
            name: version.name().to_string(),
            version: version.number(),
            declared: version.declared().map(str::to_owned),
            debug_omitted: version.debug_omitted(),
        }
    }
}
