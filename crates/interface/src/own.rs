//! What state may hold of the version that made it: addresses of its code, tables and constants.
//! Such data is laid out as before, and leads into a version that may be gone.

use std::collections::{HashSet, VecDeque};

use crate::dwarf::Data;
use crate::types::{Id, Kind, Part, PartKind, Type, Types};

/// Pointers and arrays that are followed from one place.
const CHAIN: usize = 16;

/// The first place of state that may hold such an address, in words; from functions, which are
/// given or give back what they point to, and from variables.
pub(crate) fn address<'a>(
    types: &Types,
    functions: impl Iterator<Item = (&'a str, Id)> + Clone,
    variables: impl Iterator<Item = &'a Data> + Clone,
) -> Option<String> {
    // A member says more than what a template was made with.
    let in_members = search(types, false, functions.clone(), variables.clone());
    in_members.or_else(|| search(types, true, functions, variables))
}

fn search<'a>(
    types: &Types,
    arguments: bool,
    functions: impl Iterator<Item = (&'a str, Id)>,
    variables: impl Iterator<Item = &'a Data>,
) -> Option<String> {
    let mut search =
        Search { arguments, types, seen: HashSet::new(), passed: HashSet::new(), queue: VecDeque::new() };
    for (name, function) in functions {
        let function = types.get(function);
        let given = types.parts(function).iter().filter(|part| part.kind == PartKind::Parameter);
        given.for_each(|part| search.value(part.target, name));
        // What it gives back the caller may keep; but a pointer by itself is not state.
        if !search.pointed(function.target, name) {
            search.enqueue(function.target, name);
        }
    }
    for variable in variables {
        let kind = types.get(variable.target).kind;
        if variable.read_only || variable.constant {
            // It is the version's own. What it leads to is not.
            if matches!(kind, Kind::Pointer | Kind::Reference) {
                search.value(variable.target, &variable.name);
            }
        } else if let Some(what) = search.place(variable.target, &variable.name) {
            return Some(format!("{} ({what})", variable.name));
        }
    }
    search.all()
}

struct Search<'t, 'n> {
    types: &'t Types,
    /// What templates were made with counts as well.
    arguments: bool,
    seen: HashSet<Id>,
    /// Structures that are passed as they are.
    passed: HashSet<Id>,
    /// Structures that state has, each with the function or variable that led to it.
    queue: VecDeque<(Id, &'n str)>,
}

impl<'n> Search<'_, 'n> {
    /// What a value leads to, that is no state itself: of a structure that is passed, each of its
    /// members.
    fn value(&mut self, id: Id, root: &'n str) {
        let mut values = vec![id];
        while let Some(id) = values.pop() {
            let of = self.types.get(id);
            if !self.pointed(id, root) && of.kind.is_aggregate() && self.passed.insert(id) {
                let parts = self.types.parts(of).iter();
                let held = parts.filter(|part| {
                    matches!(part.kind, PartKind::Member | PartKind::Base | PartKind::Definition)
                        || part.kind == PartKind::Argument && self.arguments
                });
                values.extend(held.map(|part| part.target));
            }
        }
    }

    /// What a pointer leads to, through other pointers. False if it is none.
    fn pointed(&mut self, mut id: Id, root: &'n str) -> bool {
        for depth in 0..CHAIN {
            let of = self.types.get(id);
            match of.kind {
                Kind::Pointer | Kind::Reference | Kind::RvalueReference => {}
                Kind::Array if depth > 0 => {}
                _ if depth == 0 => return false,
                _ => {
                    self.enqueue(id, root);
                    break;
                }
            }
            id = of.target;
        }
        true
    }

    /// Whether memory of a type holds such an address, and of what; but for what is in structures,
    /// which is looked at later.
    fn place(&mut self, mut id: Id, root: &'n str) -> Option<&'static str> {
        for _ in 0..CHAIN {
            let of = self.types.get(id);
            match of.kind {
                Kind::Pointer | Kind::Reference | Kind::RvalueReference => {
                    if self.types.get(of.target).kind == Kind::Function {
                        return Some("the address of a function");
                    }
                    if of.constant {
                        return Some("the address of what may be a constant");
                    }
                }
                Kind::MemberPointer if self.types.get(of.target).kind == Kind::Function => {
                    return Some("the address of a function");
                }
                Kind::Array | Kind::Vector | Kind::Other(_) => {}
                _ => {
                    self.enqueue(id, root);
                    return None;
                }
            }
            id = of.target;
        }
        None
    }

    fn enqueue(&mut self, id: Id, root: &'n str) {
        if self.types.get(id).kind.is_aggregate() && self.seen.insert(id) {
            self.queue.push_back((id, root));
        }
    }

    fn all(&mut self) -> Option<String> {
        while let Some((id, root)) = self.queue.pop_front() {
            let of = self.types.get(id);
            let name = self.types.named(id);
            if is_slice(self.types.name(of.name)) {
                return Some(format!("{name} (the address of what may be a constant; reached from {root})"));
            }
            for part in self.types.parts(of) {
                if let Some(what) = self.part(of, part, root) {
                    let member = self.types.part_name(part);
                    return Some(format!("{name}.{member} ({what}; reached from {root})"));
                }
            }
        }
        None
    }

    fn part(&mut self, of: &Type, part: &Part, root: &'n str) -> Option<&'static str> {
        match part.kind {
            PartKind::Member if self.types.name(part.name) == "_vptr" => {
                Some("the address of a table of virtual functions")
            }
            PartKind::Member | PartKind::Base | PartKind::Definition => self.place(part.target, root),
            PartKind::Argument if self.arguments => self.place(part.target, root),
            PartKind::Virtual if of.kind == Kind::Struct => {
                Some("the address of a table of virtual functions")
            }
            _ => None,
        }
    }
}

/// Rust's `&str`, `&[T]`: they are structures of a pointer and a length.
fn is_slice(name: &str) -> bool {
    let name = name.strip_prefix("struct ").unwrap_or(name);
    name.starts_with('&') && !name.starts_with("&mut ")
}
