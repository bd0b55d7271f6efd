//! Two changes of one set of modules that began with the same, made one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Two changes of one module that are not the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collision<V> {
    /// The module.
    pub module: String,
    /// What both began with. None: it was not loaded.
    pub base: Option<V>,
    /// What the one side has made of it. None: it was taken out.
    pub ours: Option<V>,
    /// What the other side has made of it.
    pub theirs: Option<V>,
}

/// `physics was version 3: what was committed makes it version 4, and this takes it out`.
impl fmt::Display for Collision<u64> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { module, base, ours, theirs } = self;
        let becomes = |version: &Option<u64>| match version {
            Some(version) => format!("makes it version {version}"),
            None => "takes it out".into(),
        };
        match base {
            Some(version) => write!(f, "{module} was version {version}")?,
            None => write!(f, "{module} was not loaded")?,
        }
        write!(f, ": what was committed {}, and this {}", becomes(theirs), becomes(ours))
    }
}

/// A set that has both changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Merged<V> {
    /// The modules. Of those that collide it has what they were in the base.
    pub set: BTreeMap<String, V>,
    /// The modules that both sides have changed, in different ways.
    pub collisions: Vec<Collision<V>>,
}

/// Merges two changes of a set: what one side alone has changed is as that side has it, what both
/// have changed alike is so, and what both have changed differently collides. What is behind a
/// module's name is whatever tells its versions apart: a digest of its content will do.
///
/// Which side is ours does not matter to the set, and a side that has changed nothing does not
/// matter at all.
pub fn merge<V: Clone + Eq>(
    base: &BTreeMap<String, V>,
    ours: &BTreeMap<String, V>,
    theirs: &BTreeMap<String, V>,
) -> Merged<V> {
    let mut merged = Merged { set: BTreeMap::new(), collisions: Vec::new() };
    let modules: BTreeSet<&String> = base.keys().chain(ours.keys()).chain(theirs.keys()).collect();
    for module in modules {
        let [was, our, their] = [base, ours, theirs].map(|set| set.get(module));
        let now = if our == their || was == their {
            our
        } else if was == our {
            their
        } else {
            let [base, ours, theirs] = [was, our, their].map(Option::<&V>::cloned);
            merged.collisions.push(Collision { module: module.clone(), base, ours, theirs });
            was
        };
        merged.set.extend(now.map(|now| (module.clone(), now.clone())));
    }
    merged
}
