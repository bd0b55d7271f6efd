//! Whether two types are one and the same layout.

use std::collections::HashSet;

use crate::layout::{Layouts, Target, Type, TypeId};

/// More pairs of types than these are not looked at.
const MOST_PAIRS: usize = 1 << 18;

impl Layouts {
    /// Whether code that expects the one finds itself at home in the other: the same sizes, and
    /// the same members at the same places, to any depth, also behind pointers. What versions call
    /// a structure does not matter, and names that an enumeration has gained neither. Of what
    /// nothing is known it is asked whether it has the same name and size.
    pub fn is_alike(&self, id: TypeId, newer: &Layouts, newer_id: TypeId) -> bool {
        let (mut seen, mut open) = (HashSet::from([(id, newer_id)]), vec![(id, newer_id)]);
        while let Some((old, new)) = open.pop() {
            let (Some(was), Some(is)) = (self.get(old), newer.get(new)) else { return false };
            let mut further = |old, new| {
                if seen.insert((old, new)) {
                    open.push((old, new));
                }
            };
            match (was, is) {
                (Type::Pointer { size: old_size, to: was }, Type::Pointer { size: new_size, to: is }) => {
                    match (was, is) {
                        _ if old_size != new_size => return false,
                        (Target::Data(was), Target::Data(is)) => further(*was, *is),
                        (was, is) if was == is => {}
                        _ => return false,
                    }
                }
                (Type::Array { element: was, count: old }, Type::Array { element: is, count: new }) => {
                    if old != new {
                        return false;
                    }
                    further(*was, *is);
                }
                (
                    Type::Struct { size: old_size, members: was, .. },
                    Type::Struct { size: new_size, members: is, .. },
                )
                | (
                    Type::Union { size: old_size, members: was, .. },
                    Type::Union { size: new_size, members: is, .. },
                ) => {
                    if old_size != new_size || was.len() != is.len() {
                        return false;
                    }
                    for (was, is) in was.iter().zip(is) {
                        if (&was.name, was.offset, was.bits) != (&is.name, is.offset, is.bits) {
                            return false;
                        }
                        further(was.of, is.of);
                    }
                }
                (
                    Type::Enum { size: old_size, signed: was_signed, values: was, .. },
                    Type::Enum { size: new_size, signed: is_signed, values: is, .. },
                ) => {
                    let is: HashSet<_> = is.iter().collect();
                    let kept = was.iter().all(|value| is.contains(value));
                    if (old_size, was_signed) != (new_size, is_signed) || !kept {
                        return false;
                    }
                }
                (was, is) if was == is => {}
                _ => return false,
            }
            if seen.len() > MOST_PAIRS {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::{Bits, Layouts, Member, Target, Type, TypeId};

    fn member(name: &str, offset: u64, of: TypeId) -> Member {
        Member { name: name.into(), offset, of, bits: None }
    }

    /// A list's node: a pointer to the next one, and what `more` makes.
    fn node(name: &str, more: impl FnOnce(&mut Layouts) -> Vec<Member>) -> (Layouts, TypeId) {
        let mut layouts = Layouts::new();
        let more = more(&mut layouts);
        let this = layouts.upcoming(1);
        let next = layouts.add(Type::Pointer { size: 8, to: Target::Data(this) });
        let mut members = vec![member("next", 0, next)];
        members.extend(more);
        let made = layouts.add(Type::Struct { name: name.into(), size: 24, members });
        assert_eq!(made, this);
        (layouts, made)
    }

    fn int(size: u64, signed: bool) -> Type {
        Type::Integer { size, signed }
    }

    #[test]
    fn by_what_is_there_and_not_by_what_it_is_called() {
        let of = |name: &str, members: &'static [(&'static str, u64, u64, bool)]| {
            node(name, |layouts| {
                let member =
                    |&(name, offset, size, signed): &_| member(name, offset, layouts.add(int(size, signed)));
                members.iter().map(member).collect()
            })
        };
        let (old, root) = of("node", &[("a", 8, 4, true), ("b", 12, 4, false)]);
        let (same, other) = of("item", &[("a", 8, 4, true), ("b", 12, 4, false)]);
        assert!(old.is_alike(root, &same, other));
        for members in [
            &[("a", 8, 4, true)][..],
            &[("a", 8, 4, true), ("c", 12, 4, false)],
            &[("a", 8, 4, true), ("b", 16, 4, false)],
            &[("a", 8, 4, true), ("b", 12, 4, true)],
            &[("a", 8, 4, true), ("b", 12, 2, false)],
        ] {
            let (new, other) = of("node", members);
            assert!(!old.is_alike(root, &new, other), "{members:?}");
            assert!(!new.is_alike(other, &old, root), "{members:?}");
        }
    }

    #[test]
    fn enumerations_that_gain_names_and_what_is_unknown() {
        let with = |values: &[(&str, i64)], unknown: &str, bits: u8| {
            node("node", |layouts| {
                let values = values.iter().map(|(name, value)| ((*name).into(), *value)).collect();
                let kind = layouts.add(Type::Enum { name: "kind".into(), size: 4, signed: false, values });
                let hidden = layouts.add(Type::Opaque { name: unknown.into(), size: 0 });
                let hidden = layouts.add(Type::Pointer { size: 8, to: Target::Data(hidden) });
                let word = layouts.add(int(4, false));
                let flags =
                    Member { bits: Some(Bits { first: 0, count: bits }), ..member("flags", 20, word) };
                vec![member("hidden", 8, hidden), member("kind", 16, kind), flags]
            })
        };
        let (old, root) = with(&[("A", 0), ("B", 1)], "FILE", 3);
        for (values, unknown, bits, alike) in [
            (&[("A", 0), ("B", 1)][..], "FILE", 3, true),
            (&[("C", 2), ("B", 1), ("A", 0)], "FILE", 3, true),
            (&[("A", 0)], "FILE", 3, false),
            (&[("A", 1), ("B", 0)], "FILE", 3, false),
            (&[("A", 0), ("B", 1)], "DIR", 3, false),
            (&[("A", 0), ("B", 1)], "FILE", 4, false),
        ] {
            let (new, other) = with(values, unknown, bits);
            assert_eq!(old.is_alike(root, &new, other), alike, "{values:?} {unknown} {bits}");
        }
    }
}
