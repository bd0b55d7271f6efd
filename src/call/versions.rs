//! Which version of a module each generation has, for as long as somebody can be inside it. Apart from the runtime's state, which
//! the asking thread may have locked (a constructor runs while a module is loaded).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// By module: generations in which it became another version, ascending, and that version's number; None where it went.
static VERSIONS: RwLock<BTreeMap<Arc<str>, Vec<Since>>> = RwLock::new(BTreeMap::new());

/// A generation, and the number of the version from there on.
type Since = (u64, Option<u64>);

/// Notes versions of a generation that nobody can be inside yet. Forgets what was before `oldest`, a generation
/// that somebody may be inside.
pub(crate) fn note(
    generation: u64,
    oldest: u64,
    versions: impl IntoIterator<Item = (Arc<str>, Option<u64>)>,
) {
    let mut modules = VERSIONS.write().unwrap_or_else(PoisonError::into_inner);
    for (module, number) in versions {
        let entries = modules.entry(module).or_default();
        // The last that is not after the oldest generation is the one it has.
        let before = entries.partition_point(|(since, _)| *since <= oldest);
        entries.drain(..before.saturating_sub(1));
        entries.push((generation, number));
    }
}

/// The number of a module's version in a generation that somebody is inside.
pub(crate) fn find(module: &str, generation: u64) -> Option<u64> {
    let modules = VERSIONS.read().unwrap_or_else(PoisonError::into_inner);
    let entries = modules.get(module)?;
    let after = entries.partition_point(|(since, _)| *since <= generation);
    entries.get(after.checked_sub(1)?)?.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_has_its_version_as_long_as_it_can_be_asked_for() {
        let module: Arc<str> = "versions::tests".into();
        let note = |generation, oldest, number| note(generation, oldest, [(module.clone(), number)]);
        let ask = |generation| find(&module, generation);
        assert_eq!(ask(3), None);
        note(3, 2, Some(1));
        note(5, 3, Some(2));
        note(6, 3, None);
        assert_eq!([2, 3, 4, 5, 6, 9].map(ask), [None, Some(1), Some(1), Some(2), None, None]);
        note(8, 5, Some(2));
        assert_eq!([5, 6, 7, 8].map(ask), [Some(2), None, None, Some(2)]);
        let kept = || VERSIONS.read().unwrap()[&module].len();
        assert_eq!(kept(), 3, "1 was before");
        note(9, 8, Some(3));
        assert_eq!(kept(), 2);
    }
}
