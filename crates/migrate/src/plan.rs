//! From two layouts to the steps that carry values from the one to the other.

use std::collections::{BTreeMap, HashSet};

use crate::layout::{Bits, DEEPEST, Layouts, Member, Target, Type, TypeId};
use crate::obstacle::{Obstacle, Reason};

/// The root of a version's state.
#[derive(Clone, Copy, Debug)]
pub struct State<'l> {
    /// The types of the version.
    pub layouts: &'l Layouts,
    /// That of the state.
    pub root: TypeId,
}

/// What members begin with that the older version has not: by path, such as `agents[].health`, the
/// bytes of the new member. All others begin as zeroes.
pub type Defaults = BTreeMap<Box<str>, Box<[u8]>>;

/// How values of one layout become those of another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    pub(crate) old_size: u64,
    pub(crate) new_size: u64,
    pub(crate) steps: Vec<Step>,
    changes: Vec<Change>,
}

/// A member that is not as it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Where it is, such as `agents[].position.x`.
    pub path: Box<str>,
    /// What becomes of it.
    pub what: What,
}

/// What becomes of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum What {
    /// It is elsewhere, and has its value.
    Moved {
        /// The offset in its structure before.
        from: u64,
        /// The offset now.
        to: u64,
    },
    /// It has its value in more bits.
    Widened {
        /// Bits before.
        from: u64,
        /// Bits now.
        to: u64,
    },
    /// An array has more elements: the first have their values.
    Grown {
        /// Elements before.
        from: u64,
        /// Elements now.
        to: u64,
    },
    /// It is new.
    Added {
        /// It begins with a declared value, and not with zeroes.
        declared: bool,
    },
    /// It is gone, and its value with it.
    Removed,
}

/// Offsets are from the start of the state, or of the element in a [`Step::Repeat`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Copy {
        from: u64,
        to: u64,
        len: u64,
    },
    Number {
        from: Place,
        to: Place,
        signed: bool,
    },
    /// From 4 bytes to 8.
    Float {
        from: u64,
        to: u64,
    },
    Write {
        to: u64,
        bytes: Box<[u8]>,
    },
    Repeat {
        from: u64,
        to: u64,
        old_stride: u64,
        new_stride: u64,
        count: u64,
        steps: Vec<Step>,
    },
}

/// Where a number is: bits of the little-endian number at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) first: u8,
    pub(crate) count: u8,
}

/// A type that holds a number: how many bits, and whether it may be negative.
#[derive(Clone, Copy)]
struct Number {
    bits: u8,
    signed: bool,
}

/// The plan by which the state of an older version becomes that of a newer one.
///
/// # Errors
///
/// All that stands in its way.
pub fn plan(old: State<'_>, new: State<'_>, defaults: &Defaults) -> Result<Plan, Vec<Obstacle>> {
    let mut planner = Planner { old: old.layouts, new: new.layouts, defaults, ..Planner::default() };
    let mut steps = Vec::new();
    planner.value(
        At { id: old.root, offset: 0, bits: None },
        At { id: new.root, offset: 0, bits: None },
        0,
        &mut steps,
    );
    for path in defaults.keys().filter(|path| !planner.used.contains(*path)) {
        planner.obstacles.push(Obstacle { path: path.clone(), reason: Reason::NothingAdded });
    }
    let (old_size, new_size) = (old.layouts.size(old.root), new.layouts.size(new.root));
    match (old_size, new_size) {
        (Some(old_size), Some(new_size)) if planner.obstacles.is_empty() => {
            Ok(Plan { old_size, new_size, steps, changes: planner.changes })
        }
        _ if planner.obstacles.is_empty() => {
            Err(vec![Obstacle { path: "".into(), reason: Reason::Malformed }])
        }
        _ => Err(planner.obstacles),
    }
}

impl Plan {
    /// What is not as it was, in the order of the newer version's members; what is gone comes last
    /// in its structure.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether the newer version may have the state where and as it is.
    pub fn is_unchanged(&self) -> bool {
        self.changes.is_empty() && self.old_size == self.new_size && self.steps.iter().all(Step::stays)
    }
}

impl Step {
    /// Whether it leaves every byte where it was.
    fn stays(&self) -> bool {
        match self {
            Step::Copy { from, to, .. } => from == to,
            Step::Number { from, to, .. } => from == to,
            Step::Float { .. } | Step::Write { .. } => false,
            Step::Repeat { from, to, old_stride, new_stride, steps, .. } => {
                (from, old_stride) == (to, new_stride) && steps.iter().all(Step::stays)
            }
        }
    }
}

/// More steps than any state of people's needs; what needs more was made to.
const MOST_STEPS: usize = 1 << 18;
/// Obstacles and changes that are listed.
const MOST_LISTED: usize = 1 << 12;

#[derive(Clone, Copy)]
struct At {
    id: TypeId,
    offset: u64,
    bits: Option<Bits>,
}

struct Planner<'p> {
    old: &'p Layouts,
    new: &'p Layouts,
    defaults: &'p Defaults,
    path: String,
    /// Taken so far, looks at types included.
    steps: usize,
    used: HashSet<Box<str>>,
    changes: Vec<Change>,
    obstacles: Vec<Obstacle>,
}

impl Planner<'_> {
    fn refuse(&mut self, reason: Reason) {
        if self.obstacles.len() < MOST_LISTED {
            self.obstacles.push(Obstacle { path: self.path.as_str().into(), reason });
        }
    }

    fn change(&mut self, what: What) {
        if self.changes.len() < MOST_LISTED {
            self.changes.push(Change { path: self.path.as_str().into(), what });
        }
    }

    fn within<R>(&mut self, name: &str, run: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.path.len();
        if !self.path.is_empty() && !name.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(name);
        let result = run(self);
        self.path.truncate(length);
        result
    }

    fn push(&mut self, steps: &mut Vec<Step>, step: Step) {
        if let (Some(Step::Copy { from, to, len }), &Step::Copy { from: next_from, to: next_to, len: more }) =
            (steps.last_mut(), &step)
            && *from + *len == next_from
            && *to + *len == next_to
        {
            *len += more;
            return;
        }
        self.steps += 1;
        steps.push(step);
    }

    /// A value of the older version becomes one of the newer.
    fn value(&mut self, old: At, new: At, depth: usize, steps: &mut Vec<Step>) {
        self.steps += 1;
        if self.steps > MOST_STEPS || self.obstacles.len() >= MOST_LISTED {
            if self.obstacles.is_empty() {
                self.refuse(Reason::TooLarge);
            }
            return;
        }
        if depth > DEEPEST {
            return self.refuse(Reason::Malformed);
        }
        let (old_layouts, new_layouts) = (self.old, self.new);
        let (Some(from), Some(to)) = (old_layouts.get(old.id), new_layouts.get(new.id)) else {
            return self.refuse(Reason::Malformed);
        };
        if let (Some(was), Some(is)) = (number(from), number(to)) {
            return self.number(old, was, new, is, steps);
        }
        let (Some(old_size), Some(new_size)) = (old_layouts.size(old.id), new_layouts.size(new.id)) else {
            return self.refuse(Reason::Malformed);
        };
        let copy = Step::Copy { from: old.offset, to: new.offset, len: new_size };
        match (from, to) {
            (Type::Float { size: 4 }, Type::Float { size: 8 }) => {
                self.change(What::Widened { from: 32, to: 64 });
                self.push(steps, Step::Float { from: old.offset, to: new.offset });
            }
            (Type::Float { size: was }, Type::Float { size: is }) => match was == is {
                true => self.push(steps, copy),
                false => self.refuse(Reason::Narrowed { from: was * 8, to: is * 8 }),
            },
            (Type::Pointer { to: was, .. }, Type::Pointer { to: is, .. }) => match self.pointer(*was, *is) {
                _ if old_size != new_size => self.refuse(Reason::Malformed),
                Ok(()) => self.push(steps, copy),
                Err(reason) => self.refuse(reason),
            },
            (
                Type::Array { element: was, count: old_count },
                Type::Array { element: is, count: new_count },
            ) => {
                self.array((*was, *old_count, old.offset), (*is, *new_count, new.offset), depth, steps);
            }
            (Type::Struct { members: was, .. }, Type::Struct { members: is, .. }) => {
                self.members((was, old.offset, old_size), (is, new.offset, new_size), depth, steps);
            }
            (Type::Union { .. }, Type::Union { .. }) => match self.is_same(old.id, new.id) {
                Ok(true) => self.push(steps, copy),
                Ok(false) => self.refuse(Reason::UnionChanged),
                Err(reason) => self.refuse(reason),
            },
            (Type::Opaque { name, .. }, _) | (_, Type::Opaque { name, .. }) => {
                self.refuse(Reason::Unknown { name: name.clone() });
            }
            _ => self.refuse(Reason::KindChanged {
                from: old_layouts.name(old.id).into(),
                to: new_layouts.name(new.id).into(),
            }),
        }
    }

    fn number(&mut self, old: At, was: Number, new: At, is: Number, steps: &mut Vec<Step>) {
        let kinds = (self.old.get(old.id), self.new.get(new.id));
        match kinds {
            (Some(Type::Enum { values: was, .. }), Some(Type::Enum { values: is, .. })) => {
                let now: BTreeMap<&str, i64> = is.iter().map(|(name, value)| (&**name, *value)).collect();
                for (name, value) in was {
                    match now.get(&**name) {
                        Some(is) if is == value => {}
                        Some(is) => {
                            let reason = Reason::Renumbered { name: name.clone(), from: *value, to: *is };
                            self.refuse(reason);
                        }
                        None => self.refuse(Reason::EnumeratorGone { name: name.clone() }),
                    }
                }
            }
            (Some(Type::Enum { .. }), _) | (_, Some(Type::Enum { .. })) => {
                return self.refuse(Reason::KindChanged {
                    from: self.old.name(old.id).into(),
                    to: self.new.name(new.id).into(),
                });
            }
            (Some(Type::Bool { .. }), Some(Type::Bool { .. })) => {}
            (_, Some(Type::Bool { .. })) => {
                return self
                    .refuse(Reason::KindChanged { from: self.old.name(old.id).into(), to: "bool".into() });
            }
            _ => {}
        }
        let is_bool = matches!(kinds.0, Some(Type::Bool { .. }));
        let from = place(old, was);
        let to = place(new, is);
        // A truth value is 0 or 1 in however many bits.
        let needs = if is_bool { 1 } else { from.count };
        let fits = match (was.signed && !is_bool, is.signed) {
            (false, true) => to.count > needs,
            (true, false) => return self.refuse(Reason::SignLost),
            _ => to.count >= needs,
        };
        if !fits {
            return self.refuse(Reason::Narrowed { from: from.count.into(), to: to.count.into() });
        }
        if from.count != to.count {
            self.change(What::Widened { from: from.count.into(), to: to.count.into() });
        }
        let whole = |place: Place| place.first == 0 && place.count.is_multiple_of(8);
        let step = match old.bits.is_none() && new.bits.is_none() && from.count == to.count && whole(from) {
            true => Step::Copy { from: from.offset, to: to.offset, len: u64::from(from.count / 8) },
            false => Step::Number { from, to, signed: was.signed },
        };
        self.push(steps, step);
    }

    fn pointer(&mut self, old: Target, new: Target) -> Result<(), Reason> {
        match (old, new) {
            (Target::Code, _) | (_, Target::Code) => Err(Reason::Code),
            (Target::Unknown, Target::Unknown) => Ok(()),
            (Target::Data(was), Target::Data(is)) => match self.is_same(was, is)? {
                true => Ok(()),
                false => Err(Reason::PointerToChanged { name: self.new.name(is).into() }),
            },
            // What is there was never said, or is not any more.
            (Target::Unknown, Target::Data(_)) | (Target::Data(_), Target::Unknown) => {
                Err(Reason::KindChanged { from: "pointer to data".into(), to: "another pointer".into() })
            }
        }
    }

    fn array(
        &mut self,
        (was, old_count, from): (TypeId, u64, u64),
        (is, new_count, to): (TypeId, u64, u64),
        depth: usize,
        steps: &mut Vec<Step>,
    ) {
        let (Some(old_stride), Some(new_stride)) = (self.old.size(was), self.new.size(is)) else {
            return self.refuse(Reason::Malformed);
        };
        if new_count < old_count {
            return self.refuse(Reason::Shortened { from: old_count, to: new_count });
        }
        if new_count > old_count {
            self.change(What::Grown { from: old_count, to: new_count });
        }
        if old_count == 0 {
            return;
        }
        let mut each = Vec::new();
        let (old, new) = (At { id: was, offset: 0, bits: None }, At { id: is, offset: 0, bits: None });
        self.within("[]", |planner| planner.value(old, new, depth + 1, &mut each));
        let whole = Step::Copy { from: 0, to: 0, len: old_stride };
        // Elements are objects of their own: the padding between them is nobody else's.
        if old_stride == new_stride && (each == [whole] || self.is_same(was, is) == Ok(true)) {
            return self.push(steps, Step::Copy { from, to, len: old_stride * old_count });
        }
        if !each.is_empty() {
            let repeat = Step::Repeat { from, to, old_stride, new_stride, count: old_count, steps: each };
            self.push(steps, repeat);
        }
    }

    /// Member by member, and never the padding between: of a base class another class may have
    /// members there.
    fn members(
        &mut self,
        (was, from, old_size): (&[Member], u64, u64),
        (is, to, new_size): (&[Member], u64, u64),
        depth: usize,
        steps: &mut Vec<Step>,
    ) {
        if !holds(self.old, was, old_size) || !holds(self.new, is, new_size) {
            return self.refuse(Reason::Malformed);
        }
        let before: BTreeMap<&str, &Member> = was.iter().map(|member| (&*member.name, member)).collect();
        if before.len() != was.len() {
            // Several without a name: nothing says which is which.
            return self.refuse(Reason::Unnamed);
        }
        let mut seen = HashSet::new();
        let mut order: Vec<&Member> = is.iter().collect();
        order.sort_by_key(|member| (member.offset, member.bits.map(|bits| bits.first)));
        for member in order {
            if !seen.insert(&*member.name) {
                return self.refuse(Reason::Unnamed);
            }
            let new = At { id: member.of, offset: to + member.offset, bits: member.bits };
            self.within(&member.name, |planner| match before.get(&*member.name) {
                Some(old) => {
                    if (old.offset, old.bits.map(|bits| bits.first))
                        != (member.offset, member.bits.map(|bits| bits.first))
                    {
                        planner.change(What::Moved { from: old.offset, to: member.offset });
                    }
                    let old = At { id: old.of, offset: from + old.offset, bits: old.bits };
                    planner.value(old, new, depth + 1, steps);
                }
                None => planner.added(new, steps),
            });
        }
        for member in was.iter().filter(|member| !seen.contains(&*member.name)) {
            self.within(&member.name, |planner| planner.change(What::Removed));
        }
    }

    fn added(&mut self, new: At, steps: &mut Vec<Step>) {
        let default = self.defaults.get_key_value(self.path.as_str());
        self.change(What::Added { declared: default.is_some() });
        let Some((path, bytes)) = default else { return };
        self.used.insert(path.clone());
        let size = self.new.size(new.id);
        match size == Some(bytes.len() as u64) && new.bits.is_none() {
            true => self.push(steps, Step::Write { to: new.offset, bytes: bytes.clone() }),
            false => self
                .refuse(Reason::DefaultOfAnotherSize { is: bytes.len() as u64, wanted: size.unwrap_or(0) }),
        }
    }

    /// Whether what lies behind two types is laid out alike, to any depth, so that it may stay
    /// where it is.
    ///
    /// # Errors
    ///
    /// If it leads into the older version's code, or nothing is known of it.
    fn is_same(&mut self, old: TypeId, new: TypeId) -> Result<bool, Reason> {
        let (mut seen, mut open) = (HashSet::from([(old, new)]), vec![(old, new)]);
        let mut further = |open: &mut Vec<_>, old, new| {
            if seen.insert((old, new)) {
                open.push((old, new));
            }
        };
        while let Some((old, new)) = open.pop() {
            self.steps += 1;
            if self.steps > MOST_STEPS {
                return Err(Reason::TooLarge);
            }
            let (Some(was), Some(is)) = (self.old.get(old), self.new.get(new)) else {
                return Err(Reason::Malformed);
            };
            match (was, is) {
                (Type::Opaque { name, .. }, _) | (_, Type::Opaque { name, .. }) => {
                    return Err(Reason::Unknown { name: name.clone() });
                }
                (Type::Pointer { size: was_size, to: was }, Type::Pointer { size: is_size, to: is }) => {
                    match (was, is) {
                        _ if was_size != is_size => return Ok(false),
                        (Target::Code, _) | (_, Target::Code) => return Err(Reason::Code),
                        (Target::Unknown, Target::Unknown) => {}
                        (Target::Data(was), Target::Data(is)) => further(&mut open, *was, *is),
                        _ => return Ok(false),
                    }
                }
                (Type::Array { element: was, count: old }, Type::Array { element: is, count: new }) => {
                    if old != new {
                        return Ok(false);
                    }
                    further(&mut open, *was, *is);
                }
                (
                    Type::Struct { size: was_size, members: was, .. },
                    Type::Struct { size: is_size, members: is, .. },
                )
                | (
                    Type::Union { size: was_size, members: was, .. },
                    Type::Union { size: is_size, members: is, .. },
                ) => {
                    let place = |member: &Member| (member.name.clone(), member.offset, member.bits);
                    let alike = was_size == is_size
                        && was.len() == is.len()
                        && was.iter().zip(is).all(|(was, is)| place(was) == place(is));
                    if !alike {
                        return Ok(false);
                    }
                    was.iter().zip(is).for_each(|(was, is)| further(&mut open, was.of, is.of));
                }
                (
                    Type::Enum { size, signed, values, .. },
                    Type::Enum { size: is_size, signed: is_signed, values: is, .. },
                ) => {
                    let kept = values.iter().all(|value| is.contains(value));
                    if (size, signed) != (is_size, is_signed) || !kept {
                        return Ok(false);
                    }
                }
                (was, is) if was == is => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}

impl Default for Planner<'_> {
    fn default() -> Self {
        static NONE: Layouts = Layouts::new();
        static NO_DEFAULTS: Defaults = Defaults::new();
        Self {
            old: &NONE,
            new: &NONE,
            defaults: &NO_DEFAULTS,
            path: String::new(),
            steps: 0,
            used: HashSet::new(),
            changes: Vec::new(),
            obstacles: Vec::new(),
        }
    }
}

fn number(of: &Type) -> Option<Number> {
    let bits = |size: &u64| u8::try_from(size.checked_mul(8)?).ok().filter(|bits| (8..=128).contains(bits));
    match of {
        Type::Integer { size, signed } | Type::Enum { size, signed, .. } => {
            Some(Number { bits: bits(size)?, signed: *signed })
        }
        Type::Bool { size } => Some(Number { bits: bits(size)?, signed: false }),
        _ => None,
    }
}

fn place(at: At, number: Number) -> Place {
    match at.bits {
        None => Place { offset: at.offset, first: 0, count: number.bits },
        Some(Bits { first, count }) => Place { offset: at.offset, first, count },
    }
}

/// Whether a structure's members are in it.
fn holds(layouts: &Layouts, members: &[Member], size: u64) -> bool {
    members.iter().all(|member| {
        let bytes = match member.bits {
            None => layouts.size(member.of),
            Some(Bits { first: 0..8, count: 1..=64 }) => {
                let bits = member.bits.map_or(0, |bits| u64::from(bits.first) + u64::from(bits.count));
                let is_number = layouts.get(member.of).and_then(number).is_some();
                is_number.then_some(bits.div_ceil(8))
            }
            Some(_) => None,
        };
        bytes.and_then(|bytes| member.offset.checked_add(bytes)).is_some_and(|end| end <= size)
    })
}
