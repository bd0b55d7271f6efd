//! From types as they are compared to layouts as migrations are planned with.

use std::collections::HashMap;

use gimli::constants;
use midflight_migrate::{Bits, Layouts, Member, Target, Type, TypeId};

use crate::types::{Id, Kind, Part, PartKind, Type as Known, Types, VOID};

/// What a layout is made from.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Type(Id),
    /// What a table of virtual functions is found by.
    Table,
}

struct Making<'t> {
    types: &'t Types,
    numbers: HashMap<Key, TypeId>,
    /// In the order of their numbers.
    keys: Vec<Key>,
}

/// The layouts of these types and of all that they lead to; the number of each.
pub(crate) fn layouts(types: &Types, roots: impl Iterator<Item = Id>) -> (Layouts, Vec<TypeId>) {
    let mut making = Making { types, numbers: HashMap::new(), keys: Vec::new() };
    let roots = roots.map(|id| making.number(Key::Type(id))).collect();
    let mut layouts = Layouts::new();
    let mut next = 0;
    while let Some(key) = making.keys.get(next).copied() {
        next += 1;
        let made = match key {
            Key::Type(id) => making.layout(id),
            Key::Table => Type::Pointer { size: 8, to: Target::Code },
        };
        layouts.add(made);
    }
    (layouts, roots)
}

impl Making<'_> {
    fn number(&mut self, key: Key) -> TypeId {
        let next = Layouts::new().upcoming(self.keys.len() as u32);
        *self.numbers.entry(key).or_insert_with(|| {
            self.keys.push(key);
            next
        })
    }

    fn of(&mut self, id: Id) -> TypeId {
        self.number(Key::Type(id))
    }

    fn layout(&mut self, id: Id) -> Type {
        let types = self.types;
        let of = types.get(id);
        let (name, size) = (Box::from(types.name(of.name)), of.size);
        match of.kind {
            Kind::Base(encoding) => base(encoding, size).unwrap_or(Type::Opaque { name, size }),
            Kind::Pointer | Kind::Reference | Kind::RvalueReference => {
                let to = match types.get(of.target).kind {
                    Kind::Function => Target::Code,
                    _ if of.target == VOID => Target::Unknown,
                    _ => Target::Data(self.of(of.target)),
                };
                Type::Pointer { size: 8, to }
            }
            Kind::Struct => self.structure(of, name),
            Kind::Union => {
                let members = self.members(of);
                members.map_or_else(
                    || Type::Opaque { name: Box::from(types.name(of.name)), size },
                    |members| Type::Union { name, size, members },
                )
            }
            Kind::Enum => self.enumeration(of, name),
            Kind::Array | Kind::Vector => {
                let dimensions = types.parts(of).iter().filter(|part| part.kind == PartKind::Dimension);
                let count = |product: u64, part: &Part| product.checked_mul(u64::try_from(part.value).ok()?);
                match dimensions.clone().count() {
                    0 => Type::Opaque { name, size },
                    _ => match dimensions.cloned().try_fold(1, |product, part| count(product, &part)) {
                        Some(count) => Type::Array { element: self.of(of.target), count },
                        None => Type::Opaque { name, size },
                    },
                }
            }
            Kind::Declared => {
                let mut definitions = types.parts(of).iter().filter(|part| part.kind == PartKind::Definition);
                match (definitions.next(), definitions.next()) {
                    (Some(one), None) if one.target != id => self.once(one.target),
                    _ => Type::Opaque { name, size },
                }
            }
            Kind::Void | Kind::MemberPointer | Kind::Function | Kind::Other(_) => Type::Opaque { name, size },
        }
    }

    /// The layout of a definition, in the place of its declaration.
    fn once(&mut self, definition: Id) -> Type {
        match self.types.get(definition).kind {
            // A declaration of a declaration: nothing is known.
            Kind::Declared => Type::Opaque { name: Box::default(), size: 0 },
            _ => self.layout(definition),
        }
    }

    fn structure(&mut self, of: &Known, name: Box<str>) -> Type {
        let size = of.size;
        let choices = self.types.parts(of).iter().any(|part| part.kind == PartKind::Variant);
        match self.members(of) {
            None => Type::Opaque { name, size },
            // Rust's enumerations: of the variants one is there.
            Some(members) if choices => Type::Union { name, size, members },
            Some(members) => Type::Struct { name, size, members },
        }
    }

    /// None: where one of them is, is worked out while the module runs.
    fn members(&mut self, of: &Known) -> Option<Vec<Member>> {
        let (types, mut members, mut variant) = (self.types, Vec::new(), None);
        for part in types.parts(of) {
            let name = match part.kind {
                PartKind::Variant => {
                    variant = Some(part.value);
                    continue;
                }
                PartKind::Member => match variant.take() {
                    Some(chosen_by) => format!("{}#{chosen_by}", types.name(part.name)),
                    None => types.name(part.name).to_owned(),
                },
                PartKind::Base => types.name(types.get(part.target).name).to_owned(),
                _ => continue,
            };
            let bits = u64::try_from(part.value).ok()?;
            let is_table = part.kind == PartKind::Member && name == "_vptr";
            let of = if is_table { self.number(Key::Table) } else { self.of(part.target) };
            let (first, count) = ((bits % 8) as u8, u8::try_from(part.bits).ok()?);
            let bit_field = (part.bits != 0).then_some(Bits { first, count });
            if bit_field.is_none() && first != 0 {
                return None;
            }
            members.push(Member { name: name.into(), offset: bits / 8, of, bits: bit_field });
        }
        Some(members)
    }

    fn enumeration(&mut self, of: &Known, name: Box<str>) -> Type {
        let types = self.types;
        let names = types.parts(of).iter().filter(|part| part.kind == PartKind::Enumerator);
        let values: Vec<_> = names.map(|part| (Box::from(types.name(part.name)), part.value)).collect();
        let signed = match types.get(of.target).kind {
            Kind::Base(encoding) if of.target != VOID => encoding == constants::DW_ATE_signed.0,
            _ => values.iter().any(|(_, value)| *value < 0),
        };
        let name = name.strip_prefix("enum ").map_or(name.clone(), Box::from);
        match of.size {
            1 | 2 | 4 | 8 => Type::Enum { name, size: of.size, signed, values },
            size => Type::Opaque { name, size },
        }
    }
}

fn base(encoding: u8, size: u64) -> Option<Type> {
    match (gimli::DwAte(encoding), size) {
        (constants::DW_ATE_boolean, 1 | 2 | 4 | 8) => Some(Type::Bool { size }),
        (constants::DW_ATE_float, 1..) => Some(Type::Float { size }),
        (constants::DW_ATE_signed, 1 | 2 | 4 | 8 | 16) => Some(Type::Integer { size, signed: true }),
        (constants::DW_ATE_unsigned, 1 | 2 | 4 | 8 | 16) => Some(Type::Integer { size, signed: false }),
        _ => None,
    }
}
