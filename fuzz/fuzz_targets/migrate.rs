//! Two layouts of a state, made of the bytes, and a state of the first. If there is a plan, what it
//! makes of the state is compared with the first layout's members, one by one. An odd first byte:
//! layouts as broken debug information may have them (members over each other, types that are not
//! there), of which only is asked that nothing panics and that a plan keeps to its bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use midflight_migrate::{Bits, Defaults, Layouts, Member, State, Target, Type, TypeId, plan};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let mut bytes = Bytes(bytes);
    let broken = kind & 1 != 0;
    let mut old = Layouts::new();
    let mut new = Layouts::new();
    let roots = [make(&mut bytes, &mut old, broken), make(&mut bytes, &mut new, broken)];
    let states = [State { layouts: &old, root: roots[0] }, State { layouts: &new, root: roots[1] }];
    let Ok(plan) = plan(states[0], states[1], &Defaults::new()) else { return };
    let sizes = [old.size(roots[0]), new.size(roots[1])].map(|size| size.expect("there is a plan"));
    if sizes.iter().any(|size| *size > 1 << 16) {
        return;
    }
    let before: Vec<u8> = (0..sizes[0]).map(|at| bytes.next().wrapping_add(at as u8)).collect();
    let mut after = vec![0xa5; sizes[1] as usize];
    plan.apply(&before, &mut after).expect("as large as the layouts say");
    if plan.is_unchanged() && !broken {
        let same = Value { layouts: &old, id: roots[0], bytes: &before, at: 0, bits: None };
        let is = Value { layouts: &new, id: roots[1], bytes: &before, at: 0, bits: None };
        compare(same, is);
    }
    if !broken {
        let was = Value { layouts: &old, id: roots[0], bytes: &before, at: 0, bits: None };
        let is = Value { layouts: &new, id: roots[1], bytes: &after, at: 0, bits: None };
        compare(was, is);
    }
});

struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, limit: u8) -> u8 {
        self.next() % limit
    }
}

/// Types, of which each may name those before it; the last is a structure.
fn make(bytes: &mut Bytes<'_>, layouts: &mut Layouts, broken: bool) -> TypeId {
    let mut types: Vec<TypeId> = Vec::new();
    for number in 0..=bytes.below(6) {
        let pick = |bytes: &mut Bytes<'_>, types: &[TypeId], layouts: &Layouts| match types.len() {
            _ if broken && bytes.below(4) == 0 => layouts.upcoming(u32::from(bytes.below(3))),
            0 => layouts.upcoming(7),
            len => types[usize::from(bytes.next()) % len],
        };
        let size = [1, 2, 4, 8][usize::from(bytes.below(4))];
        let of = match bytes.below(8) {
            0 => Type::Integer { size, signed: bytes.below(2) == 0 },
            1 => Type::Bool { size },
            2 => Type::Float { size: size.max(4) },
            3 => {
                let values = (0..bytes.below(4)).map(|at| (name(at), i64::from(bytes.next() as i8)));
                Type::Enum { name: "e".into(), size, signed: true, values: values.collect() }
            }
            4 => Type::Pointer {
                size: 8,
                to: match bytes.below(3) {
                    0 => Target::Code,
                    1 => Target::Unknown,
                    _ => Target::Data(pick(bytes, &types, layouts)),
                },
            },
            5 => Type::Array { element: pick(bytes, &types, layouts), count: u64::from(bytes.below(5)) },
            6 => Type::Opaque { name: name(bytes.below(2)), size },
            _ => structure(bytes, &types, layouts, broken, number),
        };
        // Types that name what is not there are for the broken.
        if !broken
            && matches!(of, Type::Array { .. } | Type::Pointer { to: Target::Data(_), .. })
            && types.is_empty()
        {
            continue;
        }
        types.push(layouts.add(of));
    }
    let root = structure(bytes, &types, layouts, broken, 9);
    layouts.add(root)
}

fn name(at: u8) -> Box<str> {
    String::from(char::from(b'a' + at % 26)).into()
}

/// Members one behind the other, some with a gap before them; bit fields in one number.
fn structure(bytes: &mut Bytes<'_>, types: &[TypeId], layouts: &Layouts, broken: bool, number: u8) -> Type {
    let mut members: Vec<Member> = Vec::new();
    let mut end = 0;
    for _ in 0..bytes.below(6) {
        let Some(&of) = types.get(usize::from(bytes.next()) % types.len().max(1)) else { break };
        let name = name(bytes.below(6));
        if !broken && members.iter().any(|member| member.name == name) {
            continue;
        }
        let size = layouts.size(of).unwrap_or(8);
        let offset = if broken { u64::from(bytes.next()) } else { end + u64::from(bytes.below(3)) };
        let bits = (bytes.below(4) == 0).then(|| {
            let first = bytes.below(8);
            let most = if broken { 70 } else { (size * 8).min(64) as u8 };
            Bits { first, count: 1 + bytes.below(most.max(1)) }
        });
        let is_number =
            matches!(layouts.get(of), Some(Type::Integer { .. } | Type::Bool { .. } | Type::Enum { .. }));
        let bits = bits.filter(|_| broken || is_number);
        let len = bits.map_or(size, |bits| u64::from(bits.first + bits.count).div_ceil(8));
        end = offset.saturating_add(len);
        members.push(Member { name, offset, of, bits });
    }
    let size = if broken { u64::from(bytes.next()) } else { end + u64::from(bytes.below(4)) };
    Type::Struct { name: format!("s{number}").into(), size, members }
}

/// A value of a state.
#[derive(Clone, Copy)]
struct Value<'v> {
    layouts: &'v Layouts,
    id: TypeId,
    bytes: &'v [u8],
    at: u64,
    bits: Option<Bits>,
}

impl<'v> Value<'v> {
    fn of(&self) -> &'v Type {
        self.layouts.get(self.id).expect("it is there")
    }

    fn size(&self) -> usize {
        self.layouts.size(self.id).expect("it has one") as usize
    }

    fn member(&self, member: &Member) -> Self {
        Self { id: member.of, at: self.at + member.offset, bits: member.bits, ..*self }
    }

    fn element(&self, element: TypeId, index: u64) -> Self {
        let size = self.layouts.size(element).expect("it has one");
        Self { id: element, at: self.at + index * size, ..*self }
    }

    /// As the machine would read it, in so many bits.
    fn number(&self, signed: bool) -> i128 {
        let (first, count) = match self.bits {
            Some(Bits { first, count }) => (u32::from(first), u32::from(count)),
            None => (0, self.size() as u32 * 8),
        };
        let mut value = 0_u128;
        for bit in (first..first + count).rev() {
            let byte = self.bytes[self.at as usize + bit as usize / 8];
            value = value << 1 | u128::from(byte >> (bit % 8) & 1);
        }
        let is_negative = signed && value >> (count - 1) & 1 != 0;
        if is_negative { value as i128 - (1 << count) } else { value as i128 }
    }

    fn raw(&self) -> &'v [u8] {
        &self.bytes[self.at as usize..][..self.size()]
    }
}

/// Whether numbers of the type may be negative; None if it is no number.
fn is_signed(of: &Type) -> Option<bool> {
    match of {
        Type::Integer { signed, .. } | Type::Enum { signed, .. } => Some(*signed),
        Type::Bool { .. } => Some(false),
        _ => None,
    }
}

fn compare(was: Value<'_>, is: Value<'_>) {
    match (was.of(), is.of()) {
        (Type::Struct { members: before, .. }, Type::Struct { members: now, .. }) => {
            for member in now {
                let is = is.member(member);
                match before.iter().find(|before| before.name == member.name) {
                    Some(before) => compare(was.member(before), is),
                    None if is.bits.is_some() => assert_eq!(is.number(false), 0),
                    None => assert!(is.raw().iter().all(|byte| *byte == 0), "what is new begins as zeroes"),
                }
            }
        }
        (Type::Array { element: before, count: least }, Type::Array { element: now, count }) => {
            assert!(least <= count);
            (0..*least).for_each(|at| compare(was.element(*before, at), is.element(*now, at)));
        }
        (Type::Float { size: 4 }, Type::Float { size: 8 }) => {
            let before = f32::from_le_bytes(was.raw().try_into().expect("4 bytes"));
            let now = f64::from_le_bytes(is.raw().try_into().expect("8 bytes"));
            assert_eq!(now.to_bits(), f64::from(before).to_bits());
        }
        (before, now) => match (is_signed(before), is_signed(now)) {
            (Some(before), Some(now)) => {
                let value = was.number(before);
                // What is neither 0 nor 1 is no truth value, and need not be kept.
                if matches!(was.of(), Type::Bool { .. }) && value > 1 {
                    return;
                }
                assert_eq!(value, is.number(now), "{:?} to {:?}", was.of(), is.of());
            }
            _ => assert_eq!(was.raw(), is.raw()),
        },
    }
}
