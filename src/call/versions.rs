//! Which version of a module each generation has, for as long as somebody can be inside it. Apart
//! from the runtime's state, which the asking thread may have locked (a constructor runs while a
//! module is loaded).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// By module: generations in which it became another version, ascending, and that version's number;
/// None where it went.
static VERSIONS: RwLock<BTreeMap<Arc<str>, Vec<Since>>> = RwLock::new(BTreeMap::new());

/// A generation, and the number of the version from there on.
type Since = (u64, Option<u64>);

/// Notes versions of a generation that nobody can be inside yet. Forgets those of generations that
/// are not among the `held`, in ascending order, which somebody may be inside.
pub(crate) fn note(
    generation: u64,
    held: &[u64],
    versions: impl IntoIterator<Item = (Arc<str>, Option<u64>)>,
) {
    let mut modules = VERSIONS.write().unwrap_or_else(PoisonError::into_inner);
    for (module, number) in versions {
        let entries = modules.entry(module).or_default();
        // Each is needed by the generations from its own on, up to that of the next.
        let mut next = generation;
        for at in (0..entries.len()).rev() {
            let since = entries[at].0;
            let first = held.partition_point(|held| *held < since);
            if held.get(first).is_some_and(|held| *held < next) {
                next = since;
            } else {
                entries.remove(at);
            }
        }
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
        let note = |generation, held: &[u64], number| note(generation, held, [(module.clone(), number)]);
        let ask = |generation| find(&module, generation);
        assert_eq!(ask(3), None);
        note(3, &[2], Some(1));
        note(5, &[2, 3, 4], Some(2));
        note(6, &[3, 5], None);
        assert_eq!([2, 3, 4, 5, 6, 9].map(ask), [None, Some(1), Some(1), Some(2), None, None]);
        note(8, &[4, 7], Some(2));
        assert_eq!([4, 7, 8].map(ask), [Some(1), None, Some(2)], "5 is gone");
        let kept = || VERSIONS.read().unwrap()[&module].len();
        assert_eq!(kept(), 3);
        // A frame that stays open for long holds its own generation's, and no others.
        (9..1000).for_each(|generation| note(generation, &[4, generation - 1], Some(generation)));
        assert_eq!((kept(), ask(4), ask(998), ask(999)), (3, Some(1), Some(998), Some(999)));
    }
}
