//! Two changes of a set of modules, for all sets that are small enough to be tried.

use std::collections::BTreeMap;

use midflight_conflict::{Merged, merge};
use proptest::prelude::*;

type Set = BTreeMap<String, u8>;

fn sets() -> impl Strategy<Value = Set> {
    proptest::collection::btree_map("[a-d]", 0..4u8, 0..5)
}

/// The set without the modules that collide.
fn rest(merged: &Merged<u8>) -> Set {
    let collides = |module: &String| merged.collisions.iter().any(|of| of.module == *module);
    merged.set.clone().into_iter().filter(|(module, _)| !collides(module)).collect()
}

proptest! {
    #[test]
    fn who_has_changed_nothing_does_not_matter(base in sets(), ours in sets()) {
        let merged = merge(&base, &ours, &base);
        prop_assert_eq!(&merged.set, &ours);
        prop_assert!(merged.collisions.is_empty());
        prop_assert_eq!(merge(&base, &base, &ours), merged);
        prop_assert_eq!(merge(&base, &base, &base).set, base);
    }

    #[test]
    fn the_same_change_is_one(base in sets(), both in sets()) {
        let merged = merge(&base, &both, &both);
        prop_assert_eq!(merged.set, both);
        prop_assert!(merged.collisions.is_empty());
    }

    #[test]
    fn sides_may_be_exchanged(base in sets(), ours in sets(), theirs in sets()) {
        let (one, other) = (merge(&base, &ours, &theirs), merge(&base, &theirs, &ours));
        prop_assert_eq!(&one.set, &other.set);
        let collisions = |merged: &Merged<u8>| -> Vec<String> {
            merged.collisions.iter().map(|of| of.module.clone()).collect()
        };
        prop_assert_eq!(collisions(&one), collisions(&other));
    }

    #[test]
    fn each_module_is_as_its_three_versions_say(base in sets(), ours in sets(), theirs in sets()) {
        let merged = merge(&base, &ours, &theirs);
        for module in ["a", "b", "c", "d"] {
            let [was, our, their] = [&base, &ours, &theirs].map(|set| set.get(module));
            let collision = merged.collisions.iter().find(|of| of.module == module);
            let changed_twice = our != was && their != was && our != their;
            prop_assert_eq!(collision.is_some(), changed_twice, "{}", module);
            let expected = if changed_twice { was } else if our != was { our } else { their };
            prop_assert_eq!(merged.set.get(module), expected, "{}", module);
            if let Some(of) = collision {
                prop_assert_eq!([&of.base, &of.ours, &of.theirs].map(Option::as_ref), [was, our, their]);
            }
        }
    }

    #[test]
    fn what_was_merged_is_merged_again_to_the_same(base in sets(), ours in sets(), theirs in sets()) {
        let merged = merge(&base, &ours, &theirs);
        let clean = rest(&merged);
        let again = merge(&base, &merged.set, &theirs);
        let kept: Set = again.set.into_iter().filter(|(module, _)| clean.contains_key(module)).collect();
        prop_assert_eq!(kept, clean);
    }
}
