//! What a publication did.

use std::path::PathBuf;
use std::time::Duration;

use midflight_interface::ChangedFunctions;

use super::state::Before;
use crate::error::NotCarried;
use crate::module::Version;
use crate::platform::files::ContentHash;

pub use crate::module::Phases;

/// What a publication did.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Publication {
    /// The generation it made.
    pub generation: u64,
    /// From the call to everything linked, visible to all cores, initialised and prepared.
    pub stage: Duration,
    /// From there to every thread's next frame, and every call outside frames, being one of the new
    /// code: the swap, the live table.
    pub publish: Duration,
    /// Where the time of staging went.
    pub phases: Phases,
    /// What was published, in the order of the paths.
    pub modules: Vec<ModuleVersion>,
    /// Versions that were current once and are again, by a [transaction](crate::Transaction) that
    /// does more than that; a rollback by itself has them in `modules`.
    pub back: Vec<ModuleVersion>,
    /// What was there before and is not any more: a transaction has unloaded these modules, or they
    /// were not there in the generation that was rolled back to.
    pub gone: Vec<ModuleVersion>,
    /// How many variables go on with the values that they had, of each module of which some do.
    pub carried: Vec<(String, usize)>,
    /// Variables that begin anew, although they were to be carried over
    /// ([`Carry::Possible`](crate::Carry::Possible)).
    pub anew: Vec<NotCarried>,
}

/// A version of a module.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ModuleVersion {
    /// The module's name: that in its note (`runtime_module.h`), else its SONAME without `lib` and
    /// `.so`, else its file's.
    pub name: String,
    /// Counts the loads of this module that succeeded, from 1.
    pub version: u64,
    /// The version that the module says it is (`runtime_module.h`). Nothing is read out of it.
    pub declared: Option<String>,
    /// Why debuggers were not told of the module's debug information, although it has some.
    pub debug_omitted: Option<&'static str>,
    /// Its file, or the first of them, as it was named when it was loaded.
    pub path: PathBuf,
    /// Of all that its files held. None: nobody had asked for it when it was loaded, by a
    /// [subscription](crate::Runtime::subscribe), a watch or the log of records.
    pub content: Option<ContentHash>,
    /// What it took the place of, by the publication that this is told of. None: nothing; and in
    /// the list of what [is loaded](crate::Runtime::modules), which tells of no publication.
    pub replaced: Option<Replaced>,
}

/// What a version took the place of.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Replaced {
    /// The number of that version.
    pub version: u64,
    /// Of its files. None: not known.
    pub content: Option<ContentHash>,
    /// How the exported functions differ. None: nobody had asked, or no exports are known.
    pub functions: Option<ChangedFunctions>,
}

impl ModuleVersion {
    pub(super) fn of(version: &Version) -> Self {
        Self {
            name: version.name().to_string(),
            version: version.number(),
            declared: version.declared().map(str::to_owned),
            debug_omitted: version.debug_omitted(),
            path: version.path().into(),
            content: version.content(),
            replaced: None,
        }
    }

    /// Whether its files hold what those of the version held that it took the place of. None: that
    /// is not known, or it took the place of nothing.
    pub fn is_unchanged(&self) -> Option<bool> {
        Some(self.content? == self.replaced.as_ref()?.content?)
    }
}

/// A version that was published, and what it took the place of. `before` is by name. `compared`:
/// with how the functions differ.
pub(super) fn described(version: &Version, before: &Before, compared: bool) -> ModuleVersion {
    let at = before.binary_search_by(|(name, _)| name.cmp(version.name())).ok();
    let replaced = at.and_then(|at| before[at].1.as_ref()).map(|replaced| Replaced {
        version: replaced.number(),
        content: replaced.content(),
        functions: if compared { version.changed_functions(replaced) } else { None },
    });
    ModuleVersion { replaced, ..ModuleVersion::of(version) }
}
