//! Each type once: units of one module describe the types of shared headers over and over.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::types::{Id, Kind, Name, Part, PartKind, Type, Types};

/// A type in the making.
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) opaque: bool,
    pub(super) constant: bool,
    pub(super) name: Name,
    pub(super) size: u64,
    pub(super) target: Id,
    pub(super) parts: Vec<Part>,
}

/// The types without repetitions, and the new number of each old one.
pub(super) fn merge(mut nodes: Vec<Node>, names: String) -> (Types, Vec<Id>) {
    let mut same = classes(&nodes);
    if resolve_declared(&mut nodes, &mut same) {
        // What pointed to a declaration is now what pointed to its definition.
        let again = classes(&nodes);
        for class in &mut same {
            *class = again[*class as usize];
        }
    }
    let mut numbers: HashMap<Id, Id> = HashMap::new();
    let mut kept = Vec::new();
    for class in &same {
        numbers.entry(*class).or_insert_with(|| {
            kept.push(*class);
            (kept.len() - 1) as Id
        });
    }
    let number: Vec<Id> = same.iter().map(|class| numbers[class]).collect();
    let (mut types, mut parts) = (Vec::with_capacity(kept.len()), Vec::new());
    for old in kept {
        let node = &nodes[old as usize];
        types.push(Type {
            kind: node.kind,
            opaque: node.opaque,
            constant: node.constant,
            name: node.name,
            size: node.size,
            target: number[node.target as usize],
            first_part: parts.len() as u32,
            parts: node.parts.len() as u32,
        });
        parts.extend(node.parts.iter().map(|part| Part { target: number[part.target as usize], ..*part }));
    }
    (Types { types: types.into(), parts: parts.into(), names: names.into() }, number)
}

/// Puts the definition in the place of a declaration that has one, however often it is repeated.
/// Returns whether there were any.
fn resolve_declared(nodes: &mut [Node], same: &mut [Id]) -> bool {
    let mut found = false;
    let mut stands_for: Vec<Id> = (0..nodes.len() as Id).collect();
    for (index, node) in nodes.iter_mut().enumerate().filter(|(_, node)| node.kind == Kind::Declared) {
        for part in &mut node.parts {
            part.target = same[part.target as usize];
        }
        let mut seen = std::collections::HashSet::new();
        node.parts.retain(|part| part.kind == PartKind::Definition && seen.insert(part.target));
        if let [one] = &node.parts[..]
            && one.target as usize != index
        {
            stands_for[index] = one.target;
            found = true;
        }
    }
    if found {
        for node in nodes {
            node.target = stands_for[node.target as usize];
            for part in &mut node.parts {
                part.target = stands_for[part.target as usize];
            }
        }
        for class in same {
            *class = stands_for[*class as usize];
        }
    }
    found
}

/// For each node the first one that is the same: both say the same of themselves, and refer to
/// nodes that are the same.
///
/// Nodes are put into classes by what they say of themselves. Then each class is split by the
/// classes of the nodes that its members refer to. This is repeated until no class is split any
/// more.
fn classes(nodes: &[Node]) -> Vec<Id> {
    const ROUNDS: usize = 64;
    let state = RandomState::new();
    let key = state.hash_one(0u8) | 1;
    let mut words: Vec<u64> = nodes.iter().map(|node| own(&state, node)).collect();
    let mut next = words.clone();
    let mut distinct = count(&words);
    for _ in 0..ROUNDS {
        for (node, (word, next)) in nodes.iter().zip(words.iter().zip(&mut next)) {
            let mut mixed = mix(*word, words[node.target as usize], key);
            for part in &node.parts {
                mixed = mix(mixed, words[part.target as usize], key);
            }
            *next = mixed;
        }
        std::mem::swap(&mut words, &mut next);
        let now = count(&words);
        if now == distinct {
            let mut first = HashMap::with_capacity(distinct);
            let class = |(index, word)| *first.entry(word).or_insert(index as Id);
            return words.into_iter().enumerate().map(class).collect();
        }
        distinct = now;
    }
    // No source has such chains. Nothing is merged, rather than too much.
    (0..nodes.len() as Id).collect()
}

fn count(words: &[u64]) -> usize {
    let mut sorted = words.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len()
}

/// What a node says of itself.
fn own(state: &RandomState, node: &Node) -> u64 {
    let parts: Vec<_> =
        node.parts.iter().map(|part| (part.kind, part.name, part.value, part.bits, part.hidden)).collect();
    state.hash_one((node.kind, node.opaque, node.constant, node.name, node.size, parts))
}

/// The key is not known to whoever made the file: words meet by chance only.
fn mix(one: u64, other: u64, key: u64) -> u64 {
    let product = u128::from(one.rotate_left(29) ^ key) * u128::from(other ^ key.rotate_left(32) | 1);
    (product as u64) ^ ((product >> 64) as u64) ^ one.wrapping_mul(key)
}
