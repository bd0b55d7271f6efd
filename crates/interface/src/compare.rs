//! Two versions, from what callers and live data can reach, pair by pair.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use crate::dwarf::Data;
use crate::own;
use crate::report::{Aspect, Difference, Differences, Kind as What};
use crate::text::shorten;
use crate::types::{Id, Kind, Part, PartKind, Type, Types};
use crate::{Export, ExportKind, Interface, Report};

/// Pointers and arrays that are looked through in one go.
const CHAIN: usize = 16;
/// Members that a text lists.
const LISTED: usize = 3;

pub(crate) fn compare(old: &Interface, new: &Interface, limit: usize) -> Report {
    let mut found = Differences::new(limit);
    if old.machine != new.machine {
        found.add(Difference {
            compatible: false,
            aspect: Aspect::Links,
            kind: What::Machine,
            subject: "the module".into(),
            old: old.machine.to_string(),
            new: new.machine.to_string(),
            through: String::new(),
            member: String::new(),
        });
    }
    links(old, new, &mut found);
    let mut reasons = unknown(old, new);
    if let (Ok(old_known), Ok(new_known)) = (&old.known, &new.known) {
        // Both walks together: more than any source needs, and no more than what the files account
        // for.
        let size = |types: &Types| types.types.len() + types.parts.len();
        let work = 1_000_000 + 64 * (size(&old_known.types) + size(&new_known.types));
        let pairs = common_functions(old, new);
        for aspect in [Aspect::Calls, Aspect::State] {
            let mut walk = Walk {
                old: &old_known.types,
                new: &new_known.types,
                aspect,
                work,
                seen: HashSet::new(),
                queue: VecDeque::new(),
                root: "",
                found: &mut found,
            };
            for (name, old, new) in &pairs {
                walk.root = name;
                walk.function(*old, *new);
            }
            if aspect == Aspect::State {
                walk.variables(&old_known.data, &new_known.data);
            }
            walk.all();
            if walk.work == 0 {
                let reason = &mut reasons[usize::from(aspect == Aspect::State)];
                reason.get_or_insert_with(|| "the types are too many, or too entangled, to compare".into());
            }
        }
    }
    if reasons[1].is_none() {
        reasons[1] = own_addresses(old, new);
    }
    found.report(reasons)
}

/// Why what the older version left may lead into it.
fn own_addresses(old: &Interface, new: &Interface) -> Option<String> {
    let (Ok(old_known), Ok(new_known)) = (&old.known, &new.known) else { return None };
    let functions = common_functions(old, new);
    let functions = functions.iter().map(|(name, old, _)| (*name, *old));
    let goes_on: HashSet<_> = new_known.data.iter().map(|data| (&data.name, &data.source)).collect();
    let variables = old_known.data.iter().filter(|data| goes_on.contains(&(&data.name, &data.source)));
    let place = own::address(&old_known.types, functions, variables)?;
    Some(format!("state may hold addresses of the older version's own: {}", shorten(place)))
}

fn links(old: &Interface, new: &Interface, found: &mut Differences) {
    let text = |export: &Export| match (export.kind, export.size) {
        (ExportKind::Function | ExportKind::Indirect, _) => "a function".to_string(),
        (ExportKind::Data, 0) => "a variable".into(),
        (ExportKind::Data, size) => format!("a variable of {size} bytes"),
        (ExportKind::ThreadLocal, size) => format!("a thread-local variable of {size} bytes"),
    };
    let class = |export: &Export| match export.kind {
        ExportKind::Function | ExportKind::Indirect => 0,
        ExportKind::Data => 1,
        ExportKind::ThreadLocal => 2,
    };
    let mut add = |compatible, kind, name: &str, old: String, new: String| {
        let (subject, through, member) = (shorten(name.into()), String::new(), String::new());
        found.add(Difference { compatible, aspect: Aspect::Links, kind, subject, old, new, through, member });
    };
    for was in old.exports() {
        match new.export(&was.name) {
            None => add(false, What::ExportRemoved, &was.name, text(was), String::new()),
            Some(is) if class(is) != class(was) => {
                add(false, What::ExportKind, &was.name, text(was), text(is));
            }
            // Of functions it is the size of their code; 0 is not known.
            Some(is) if class(was) != 0 && is.size != was.size && is.size != 0 && was.size != 0 => {
                add(false, What::ExportSize, &was.name, text(was), text(is));
            }
            Some(_) => {}
        }
    }
    for is in new.exports().filter(|is| old.export(&is.name).is_none()) {
        add(true, What::ExportAdded, &is.name, String::new(), text(is));
    }
}

/// Why calls, or a part of them, cannot be told; and the same of state, which depends on more.
fn unknown(old: &Interface, new: &Interface) -> [Option<String>; 2] {
    for (version, interface) in [("older", old), ("newer", new)] {
        if let Err(reason) = interface.known {
            let reason = format!("the {version} version's debug information cannot be used: {reason}");
            return [Some(reason.clone()), Some(reason)];
        }
    }
    let missing = |of: fn(&Export) -> bool| {
        [("older", old), ("newer", new)].into_iter().find_map(|(version, interface)| {
            let mut missing = interface.exports().filter(|export| of(export) && export.undescribed());
            let first = shorten(missing.next()?.name.to_string());
            let more = match missing.count() {
                0 => String::new(),
                more => format!(" and {more} more exports"),
            };
            let untyped = interface.known.as_ref().ok().and_then(|known| known.untyped.as_ref());
            let lines = untyped.map(|source| format!(": {}", lines_only(source))).unwrap_or_default();
            Some(format!("the {version} version's debug information does not describe {first}{more}{lines}"))
        })
    };
    let untyped = [("older", old), ("newer", new)].into_iter().find_map(|(version, interface)| {
        let source = interface.known.as_ref().ok()?.untyped.as_ref()?;
        Some(format!(
            "the {version} version's debug information does not have all variables: {}",
            lines_only(source)
        ))
    });
    [
        missing(|export| matches!(export.kind, ExportKind::Function | ExportKind::Indirect)),
        missing(|_| true).or(untyped),
    ]
}

fn lines_only(source: &str) -> String {
    format!("of {source} it has lines and no types, build all of the module with -g")
}

fn common_functions<'a>(old: &'a Interface, new: &Interface) -> Vec<(&'a str, Id, Id)> {
    let both = old.exports().filter_map(|was| {
        let is = new.export(&was.name)?;
        let function = |export: &Export| matches!(export.kind, ExportKind::Function | ExportKind::Indirect);
        (function(was) && function(is)).then_some(())?;
        Some((&*was.name, was.described?, is.described?))
    });
    both.collect()
}

/// A part of both versions, or of one.
type Pair<'a> = (Option<&'a Part>, Option<&'a Part>);

/// One question followed through all types that bear on it.
struct Walk<'a, 'f> {
    old: &'a Types,
    new: &'a Types,
    aspect: Aspect,
    /// Steps left.
    work: usize,
    seen: HashSet<(Id, Id)>,
    queue: VecDeque<(Id, Id, &'a str)>,
    /// The function or variable that is followed.
    root: &'a str,
    found: &'f mut Differences,
}

impl<'a> Walk<'a, '_> {
    fn function(&mut self, old: Id, new: Id) {
        let same = self.same(old, new, false, 0);
        if !same && self.aspect == Aspect::Calls {
            self.add(false, What::Signature, self.root, self.old.text(old), self.new.text(new));
        }
    }

    /// Variables of the same name, in the same source if they are private to it.
    fn variables(&mut self, old: &'a [Data], new: &'a [Data]) {
        let mut pairs: BTreeMap<_, [Vec<&'a Data>; 2]> = BTreeMap::new();
        for (version, all) in [old, new].into_iter().enumerate() {
            for data in all {
                pairs.entry((&data.name, &data.source)).or_default()[version].push(data);
            }
        }
        for ((name, _), [old, new]) in pairs {
            self.root = name;
            for at in 0..old.len().max(new.len()) {
                match (old.get(at), new.get(at)) {
                    (Some(old), Some(new)) => self.variable(old, new),
                    (Some(old), None) => {
                        let text = self.old.text(old.target);
                        self.add(true, What::VariableRemoved, name, text, String::new());
                    }
                    (None, Some(new)) => {
                        let text = self.new.text(new.target);
                        self.add(true, What::VariableAdded, name, String::new(), text);
                    }
                    (None, None) => {}
                }
            }
        }
    }

    fn variable(&mut self, old: &'a Data, new: &'a Data) {
        let (was, is) = (self.old.get(old.target), self.new.get(new.target));
        // A table that never changes belongs to the code: it may grow with it.
        let table = old.constant && new.constant && (was.kind, is.kind) == (Kind::Array, Kind::Array);
        let same = if table {
            self.same(was.target, is.target, false, 0)
        } else {
            self.same(old.target, new.target, false, 0)
        };
        let grown = table && self.dimensions(was, is).is_err();
        if !same || grown {
            let (was, is) = (self.old.text(old.target), self.new.text(new.target));
            self.add(same, What::Variable, &old.name, was, is);
        }
    }

    fn all(&mut self) {
        while let Some((old, new, root)) = self.queue.pop_front() {
            self.root = root;
            self.visit(old, new);
            if self.work == 0 {
                return;
            }
        }
    }

    fn step(&mut self) -> bool {
        self.work = self.work.saturating_sub(1);
        self.work > 0
    }

    fn enqueue(&mut self, old: Id, new: Id) {
        if self.seen.insert((old, new)) {
            self.queue.push_back((old, new, self.root));
        }
    }

    /// Whether two types are the same but for what is in structures, which is looked at later, once
    /// for each pair.
    fn same(&mut self, mut old: Id, mut new: Id, hidden: bool, depth: usize) -> bool {
        let (mut pointed, mut opaque) = (false, hidden);
        for _ in 0..CHAIN {
            if !self.step() {
                return true;
            }
            let (was, is) = (self.old.get(old), self.new.get(new));
            match (was.kind, is.kind) {
                (Kind::Void, Kind::Void) => return true,
                (Kind::Base(_), Kind::Base(_)) => return was.kind == is.kind && was.size == is.size,
                (Kind::Pointer | Kind::Reference | Kind::RvalueReference, _) if was.kind == is.kind => {
                    pointed = true;
                    // Callers are compiled against the older version: what that lets them see
                    // counts.
                    opaque |= was.opaque;
                }
                (Kind::Array | Kind::Vector, _) if was.kind == is.kind => {
                    if self.dimensions(was, is).is_err() {
                        // What it is of may have changed too.
                        self.same(was.target, is.target, opaque, depth);
                        return false;
                    }
                }
                (Kind::Other(_), _) if was.kind == is.kind && was.size == is.size => {}
                (Kind::MemberPointer, Kind::MemberPointer) => {}
                (Kind::Function, Kind::Function) => {
                    // Of a function, and of one that is called back: what is further in is looked
                    // at by itself.
                    if depth < 2 {
                        return self.same_function(was, is, depth + 1);
                    }
                    self.enqueue(old, new);
                    return true;
                }
                (one, other) if one.is_aggregate() && other.is_aggregate() => {
                    let named = plain(self.old.name(was.name)) == plain(self.new.name(is.name));
                    let declared = one == Kind::Declared || other == Kind::Declared;
                    if self.aspect == Aspect::Calls && pointed && (opaque || was.opaque) || declared {
                        // The name is all that a caller has of it.
                        if self.aspect == Aspect::State {
                            self.enqueue(old, new);
                        }
                        return named;
                    }
                    if one == other {
                        self.enqueue(old, new);
                    }
                    return one == other;
                }
                _ => return false,
            }
            (old, new) = (was.target, is.target);
        }
        self.enqueue(old, new);
        true
    }

    fn same_function(&mut self, was: &Type, is: &Type, depth: usize) -> bool {
        let (old, new) = (self.old.parts(was), self.new.parts(is));
        let kinds = |part: &Part| part.kind == PartKind::Variadic;
        let mut same = old.iter().map(kinds).eq(new.iter().map(kinds));
        for (old, new) in old.iter().zip(new) {
            same &= self.same(old.target, new.target, false, depth);
        }
        same & self.same(was.target, is.target, false, depth)
    }

    fn dimensions(&self, was: &Type, is: &Type) -> Result<(), ()> {
        let value = |part: &Part| part.value;
        let (old, new) = (self.old.parts(was).iter().map(value), self.new.parts(is).iter().map(value));
        if old.eq(new) { Ok(()) } else { Err(()) }
    }

    /// Looks into a pair.
    fn visit(&mut self, old: Id, new: Id) {
        let (was, is) = (self.old.get(old), self.new.get(new));
        match (was.kind, is.kind) {
            (Kind::Struct, Kind::Struct) | (Kind::Union, Kind::Union) => self.structure(old, new),
            (Kind::Enum, Kind::Enum) => self.enumeration(old, new),
            (Kind::Declared, _) | (_, Kind::Declared) => self.definitions(old, new),
            _ => {
                // From depth 0 it looks into functions; another chain of pointers goes on.
                if !self.same(old, new, false, 0) {
                    let texts = (self.old.text(old), self.new.text(new));
                    self.add(false, What::Type, &texts.0.clone(), texts.0, texts.1);
                }
            }
        }
    }

    /// Of a structure that has several definitions, or none: who has none cannot look into it.
    fn definitions(&mut self, old: Id, new: Id) {
        let definitions = |types: &Types, id: Id| match types.get(id) {
            declared if declared.kind == Kind::Declared => {
                types.parts(declared).iter().map(|part| part.target).collect()
            }
            _ => vec![id],
        };
        let (was, is) = (definitions(self.old, old), definitions(self.new, new));
        if !was.is_empty() && !is.is_empty() && was.len() != is.len() {
            let text = |all: &[Id]| format!("{} definitions", all.len());
            self.add(false, What::Layout, &self.old.named(old), text(&was), text(&is));
        }
        for (old, new) in was.into_iter().zip(is) {
            self.enqueue(old, new);
        }
    }

    fn structure(&mut self, old: Id, new: Id) {
        let (was, is) = (self.old.get(old), self.new.get(new));
        let mut parts = self.parts(was, is);
        if self.aspect == Aspect::Calls {
            // What callers can see is in members.
            parts.retain(|(old, new)| old.or(*new).is_some_and(|part| part.kind != PartKind::Argument));
        }
        let mut changed = Vec::new();
        for (old, new) in parts {
            if !self.step() {
                return;
            }
            let same = match (old, new) {
                (Some(old), Some(new)) => {
                    let target = self.same(old.target, new.target, old.hidden, 0);
                    target && (old.value, old.bits) == (new.value, new.bits)
                }
                _ => false,
            };
            if !same {
                changed.push((old, new));
            }
        }
        if changed.is_empty() && was.size == is.size {
            return;
        }
        // Where it begins to differ says most.
        changed.sort_by_key(|(old, new)| old.or(*new).map_or(0, |part| part.value));
        let texts = self.changed(old, new, &changed, false);
        let member = self.first_name(&changed);
        self.add_of(member, false, What::Layout, &self.old.named(old), texts.0, texts.1);
    }

    /// How a structure or an enumeration was and is, as far as it has changed.
    fn changed(&self, old: Id, new: Id, changed: &[Pair<'_>], numbers: bool) -> (String, String) {
        let text = |types: &Types, id: Id, newer: bool| {
            let of = types.get(id);
            let mut text = format!("{}: size {}", types.named(id), of.size);
            if numbers {
                text += &format!(", {}", types.text(of.target));
            }
            for (old, new) in changed.iter().take(LISTED) {
                let (part, other) = if newer { (new, old) } else { (old, new) };
                let others = if newer { self.old } else { self.new };
                match (part, other) {
                    (Some(part), _) => text += &format!(", {}", types.part_text(part)),
                    (None, Some(other)) => text += &format!(", no {}", others.part_name(other)),
                    (None, None) => {}
                }
            }
            if changed.len() > LISTED {
                text += &format!(", and {} more", changed.len() - LISTED);
            }
            text
        };
        (text(self.old, old, false), text(self.new, new, true))
    }

    fn enumeration(&mut self, old: Id, new: Id) {
        let (was, is) = (self.old.get(old), self.new.get(new));
        let numbers = was.size == is.size && self.same(was.target, is.target, false, 1);
        let mut changed = Vec::new();
        let mut compatible = numbers;
        let values: HashSet<i64> = self.new.parts(is).iter().map(|part| part.value).collect();
        for (old, new) in self.parts(was, is) {
            self.step();
            match (old, new) {
                (Some(old), Some(new)) if old.value == new.value => continue,
                (Some(_), Some(_)) => compatible = false,
                // A value that nobody is called by any more: to callers it is one that is refused.
                // Data may hold it.
                (Some(old), None) => {
                    compatible &= self.aspect == Aspect::Calls && !values.contains(&old.value);
                }
                (None, _) => {}
            }
            changed.push((old, new));
        }
        if changed.is_empty() && numbers {
            return;
        }
        let texts = self.changed(old, new, &changed, !numbers);
        let member = self.first_name(&changed);
        self.add_of(member, compatible, What::Enumeration, &self.old.named(old), texts.0, texts.1);
    }

    /// The parts of both, those of one name together: the first with the first, and so on. In the
    /// order of the older version.
    fn parts(&self, was: &Type, is: &Type) -> Vec<Pair<'a>> {
        let (old, new) = (self.old.parts(was), self.new.parts(is));
        let mut pairs: Vec<Pair<'a>> = Vec::with_capacity(old.len());
        let mut rows: HashMap<(PartKind, &str, usize), usize> = HashMap::new();
        let mut times: HashMap<(PartKind, &str), usize> = HashMap::new();
        for part in old {
            let name = self.old.name(part.name);
            let time = times.entry((part.kind, name)).or_default();
            rows.insert((part.kind, name, *time), pairs.len());
            *time += 1;
            pairs.push((Some(part), None));
        }
        times.clear();
        for part in new {
            let name = self.new.name(part.name);
            let time = times.entry((part.kind, name)).or_default();
            match rows.entry((part.kind, name, *time)) {
                Entry::Occupied(row) => pairs[*row.get()].1 = Some(part),
                Entry::Vacant(_) => pairs.push((None, Some(part))),
            }
            *time += 1;
        }
        pairs
    }

    /// What the first part is called that has changed.
    fn first_name(&self, changed: &[Pair<'_>]) -> String {
        match changed.first() {
            Some((Some(part), _)) => self.old.part_name(part),
            Some((None, Some(part))) => self.new.part_name(part),
            _ => String::new(),
        }
    }

    fn add(&mut self, compatible: bool, kind: What, subject: &str, old: String, new: String) {
        self.add_of(String::new(), compatible, kind, subject, old, new);
    }

    fn add_of(
        &mut self,
        member: String,
        compatible: bool,
        kind: What,
        subject: &str,
        old: String,
        new: String,
    ) {
        let subject = shorten(subject.into());
        // A symbol is reached by itself.
        let through = if self.root == subject { String::new() } else { shorten(self.root.into()) };
        let aspect = self.aspect;
        self.found.add(Difference { compatible, aspect, kind, subject, old, new, through, member });
    }
}

/// A type's name without the word before it, which is `class` in one place and `struct` in another,
/// and without template arguments, which each compiler writes in its way.
fn plain(name: &str) -> &str {
    let words = ["struct ", "class ", "union ", "enum "];
    let name = words.iter().find_map(|word| name.strip_prefix(word)).unwrap_or(name);
    name.split('<').next().unwrap_or_default()
}
