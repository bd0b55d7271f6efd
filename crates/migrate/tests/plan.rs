//! What is carried over and what is not, by example; and that every member has its value, by
//! comparison with reading the members one by one.

use midflight_migrate::{
    Bits, Change, Defaults, Layouts, Member, Obstacle, Plan, Reason, State, Target, Type, TypeId, What, plan,
};
use proptest::prelude::*;

fn member(name: &str, offset: u64, of: TypeId) -> Member {
    Member { name: name.into(), offset, of, bits: None }
}

fn bits(name: &str, offset: u64, of: TypeId, first: u8, count: u8) -> Member {
    Member { name: name.into(), offset, of, bits: Some(Bits { first, count }) }
}

/// A structure of a module, with what its members are made of.
struct Shop {
    layouts: Layouts,
    i32: TypeId,
    u32: TypeId,
    i64: TypeId,
    u8: TypeId,
    f32: TypeId,
    f64: TypeId,
    bool: TypeId,
}

impl Shop {
    fn new() -> Self {
        let mut layouts = Layouts::new();
        let mut int = |size, signed| layouts.add(Type::Integer { size, signed });
        let (i32, u32, i64, u8) = (int(4, true), int(4, false), int(8, true), int(1, false));
        let mut float = |size| layouts.add(Type::Float { size });
        let (f32, f64) = (float(4), float(8));
        let bool = layouts.add(Type::Bool { size: 1 });
        Self { layouts, i32, u32, i64, u8, f32, f64, bool }
    }

    fn structure(&mut self, name: &str, size: u64, members: Vec<Member>) -> TypeId {
        self.layouts.add(Type::Struct { name: name.into(), size, members })
    }

    fn state(&self, root: TypeId) -> State<'_> {
        State { layouts: &self.layouts, root }
    }
}

/// Two structures of one shop.
fn planned(shop: &Shop, old: TypeId, new: TypeId) -> Result<Plan, Vec<Obstacle>> {
    plan(shop.state(old), shop.state(new), &Defaults::new())
}

fn reasons(shop: &Shop, old: TypeId, new: TypeId) -> Vec<(String, Reason)> {
    let obstacles = planned(shop, old, new).expect_err("nothing is in the way");
    obstacles.into_iter().map(|obstacle| (obstacle.path.into(), obstacle.reason)).collect()
}

#[test]
fn members_are_carried_by_name_moved_widened_and_added() {
    let mut shop = Shop::new();
    let old = vec![member("hp", 0, shop.i32), member("x", 4, shop.f32), member("gone", 8, shop.u32)];
    let old = shop.structure("agent", 12, old);
    let new = vec![
        member("x", 0, shop.f64),
        member("armour", 8, shop.u32),
        member("hp", 16, shop.i64),
        member("speed", 24, shop.f32),
    ];
    let new = shop.structure("agent", 32, new);
    let defaults = Defaults::from([("speed".into(), 2.5_f32.to_le_bytes().into())]);
    let plan = plan(shop.state(old), shop.state(new), &defaults).unwrap();

    let said = |path: &str, what| Change { path: path.into(), what };
    assert_eq!(
        plan.changes(),
        [
            said("x", What::Moved { from: 4, to: 0 }),
            said("x", What::Widened { from: 32, to: 64 }),
            said("armour", What::Added { declared: false }),
            said("hp", What::Moved { from: 0, to: 16 }),
            said("hp", What::Widened { from: 32, to: 64 }),
            said("speed", What::Added { declared: true }),
            said("gone", What::Removed),
        ]
    );
    assert!(!plan.is_unchanged());

    let old = [&(-7_i32).to_le_bytes()[..], &1.25_f32.to_le_bytes(), &9_u32.to_le_bytes()].concat();
    let mut new = [0xff; 32];
    plan.apply(&old, &mut new).unwrap();
    assert_eq!(new[0..8], 1.25_f64.to_le_bytes());
    assert_eq!(new[8..16], [0; 8]);
    assert_eq!(new[16..24], (-7_i64).to_le_bytes());
    assert_eq!(new[24..28], 2.5_f32.to_le_bytes());
    assert_eq!(new[28..], [0; 4]);

    assert_eq!(plan.apply(&old[1..], &mut new).unwrap_err().wanted, 12);
    assert_eq!(plan.apply(&old, &mut new[..31]).unwrap_err().wanted, 32);
}

#[test]
fn arrays_of_structures_grow_and_are_carried_element_by_element() {
    let mut shop = Shop::new();
    let old = shop.structure("agent", 8, vec![member("a", 0, shop.u32), member("b", 4, shop.u32)]);
    let new = shop.structure("agent", 8, vec![member("b", 0, shop.u32), member("a", 4, shop.u32)]);
    let old = shop.layouts.add(Type::Array { element: old, count: 1000 });
    let new = shop.layouts.add(Type::Array { element: new, count: 1001 });
    let plan = planned(&shop, old, new).unwrap();
    assert_eq!(plan.changes()[0].what, What::Grown { from: 1000, to: 1001 });
    assert_eq!(&*plan.changes()[1].path, "[].b");

    let before: Vec<u8> = (0..2000_u32).flat_map(u32::to_le_bytes).collect();
    let mut after = vec![1; 8008];
    plan.apply(&before, &mut after).unwrap();
    let words: Vec<u32> = after.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    for agent in 0..1000 {
        assert_eq!(words[agent * 2..][..2], [agent as u32 * 2 + 1, agent as u32 * 2]);
    }
    assert_eq!(words[2000..], [0, 0]);
}

#[test]
fn what_is_as_it_was_is_one_copy() {
    let mut shop = Shop::new();
    let vector = shop.structure("v", 8, vec![member("x", 0, shop.f32), member("y", 4, shop.f32)]);
    let agents = shop.layouts.add(Type::Array { element: vector, count: 1_000_000 });
    let world = shop.structure(
        "world",
        8_000_008,
        vec![member("at", 0, agents), member("time", 8_000_000, shop.i64)],
    );
    let plan = planned(&shop, world, world).unwrap();
    assert!(plan.is_unchanged() && plan.changes().is_empty());
    // With padding, which is nobody's, and bit fields.
    let members =
        |shop: &Shop| vec![member("a", 0, shop.u8), member("b", 4, shop.u32), bits("c", 8, shop.u32, 3, 7)];
    let of = members(&shop);
    let padded = shop.structure("padded", 12, of);
    assert!(planned(&shop, padded, padded).unwrap().is_unchanged());
    let of = members(&shop);
    let larger = shop.structure("padded", 16, of);
    assert!(!planned(&shop, padded, larger).unwrap().is_unchanged());
}

#[test]
fn bit_fields_are_carried_with_their_signs() {
    let mut shop = Shop::new();
    let old = vec![bits("a", 0, shop.u32, 0, 3), bits("b", 0, shop.i32, 3, 5), bits("c", 1, shop.u32, 0, 1)];
    let old = shop.structure("flags", 4, old);
    let new = vec![bits("b", 0, shop.i32, 1, 7), member("a", 4, shop.u32), bits("c", 1, shop.u32, 6, 1)];
    let new = shop.structure("flags", 8, new);
    let plan = planned(&shop, old, new).unwrap();
    let mut after = [0xff; 8];
    // a = 5, b = -3, c = 1.
    plan.apply(&[5 | (0b11101 << 3), 1, 0, 0], &mut after).unwrap();
    assert_eq!(after, [(-3_i8 << 1) as u8, 1 << 6, 0, 0, 5, 0, 0, 0]);
}

#[test]
fn what_cannot_be_carried_is_named() {
    let mut shop = Shop::new();
    let enumeration = |shop: &mut Shop, values: &[(&str, i64)]| {
        let values = values.iter().map(|(name, value)| ((*name).into(), *value)).collect();
        shop.layouts.add(Type::Enum { name: "mood".into(), size: 4, signed: false, values })
    };
    let calm = enumeration(&mut shop, &[("CALM", 0), ("ANGRY", 1), ("SAD", 2)]);
    let angry = enumeration(&mut shop, &[("ANGRY", 0), ("CALM", 1), ("NEW", 3)]);
    let more = enumeration(&mut shop, &[("CALM", 0), ("ANGRY", 1), ("SAD", 2), ("NEW", 3)]);
    let pointer = |shop: &mut Shop, to| shop.layouts.add(Type::Pointer { size: 8, to });
    let (code, any) = (pointer(&mut shop, Target::Code), pointer(&mut shop, Target::Unknown));
    let small = shop.structure("node", 4, vec![member("a", 0, shop.i32)]);
    let large = shop.structure("node", 8, vec![member("a", 0, shop.i64)]);
    let (to_small, to_large) =
        (pointer(&mut shop, Target::Data(small)), pointer(&mut shop, Target::Data(large)));
    let long = shop.layouts.add(Type::Array { element: shop.u8, count: 9 });
    let short = shop.layouts.add(Type::Array { element: shop.u8, count: 8 });
    let members = vec![member("i", 0, shop.i32), member("f", 0, shop.f32)];
    let union = shop.layouts.add(Type::Union { name: "u".into(), size: 4, members });
    let members = vec![member("i", 0, shop.u32), member("f", 0, shop.f32)];
    let other = shop.layouts.add(Type::Union { name: "u".into(), size: 4, members });
    let opaque = shop.layouts.add(Type::Opaque { name: "hidden".into(), size: 8 });

    for (name, old, new, reason) in [
        ("narrowed", shop.i64, shop.i32, Some(Reason::Narrowed { from: 64, to: 32 })),
        ("same bits, now signed", shop.u32, shop.i32, Some(Reason::Narrowed { from: 32, to: 32 })),
        ("sign", shop.i32, shop.u32, Some(Reason::SignLost)),
        ("unsigned into more bits", shop.u32, shop.i64, None),
        ("double", shop.f64, shop.f32, Some(Reason::Narrowed { from: 64, to: 32 })),
        ("truth into a number", shop.bool, shop.i32, None),
        (
            "number into truth",
            shop.u8,
            shop.bool,
            Some(Reason::KindChanged { from: "uint8_t".into(), to: "bool".into() }),
        ),
        (
            "number into fraction",
            shop.i32,
            shop.f64,
            Some(Reason::KindChanged { from: "int32_t".into(), to: "float of 64 bits".into() }),
        ),
        ("more names", calm, more, None),
        ("fewer names", more, calm, Some(Reason::EnumeratorGone { name: "NEW".into() })),
        ("renumbered", calm, angry, Some(Reason::Renumbered { name: "CALM".into(), from: 0, to: 1 })),
        ("address of code", code, code, Some(Reason::Code)),
        ("any address", any, any, None),
        ("address of data", to_small, to_small, None),
        ("of what has changed", to_small, to_large, Some(Reason::PointerToChanged { name: "node".into() })),
        ("shorter", long, short, Some(Reason::Shortened { from: 9, to: 8 })),
        ("union", union, union, None),
        ("another union", union, other, Some(Reason::UnionChanged)),
        ("unknown", opaque, opaque, Some(Reason::Unknown { name: "hidden".into() })),
    ] {
        let old = shop.structure("s", 16, vec![member("m", 0, old)]);
        let new = shop.structure("s", 16, vec![member("m", 0, new)]);
        match reason {
            None => assert!(planned(&shop, old, new).is_ok(), "{name}"),
            Some(reason) => assert_eq!(reasons(&shop, old, new)[0], ("m".to_owned(), reason), "{name}"),
        }
    }
}

#[test]
fn rings_of_pointers_are_followed_once_and_what_is_behind_them_counts() {
    let ring = |shop: &mut Shop, value, size: u64| {
        let to = shop.layouts.upcoming(1);
        let pointer = shop.layouts.add(Type::Pointer { size: 8, to: Target::Data(to) });
        assert_eq!(
            shop.structure("node", 8 + size, vec![member("next", 0, pointer), member("value", 8, value)]),
            to
        );
        let members = vec![member("head", 0, pointer)];
        shop.structure("list", 8, members)
    };
    let mut shop = Shop::new();
    let (int, double) = (shop.i32, shop.f64);
    let (same, again, other) = (ring(&mut shop, int, 8), ring(&mut shop, int, 8), ring(&mut shop, double, 8));
    assert!(planned(&shop, same, again).unwrap().is_unchanged());
    let reason = Reason::PointerToChanged { name: "node".into() };
    assert_eq!(reasons(&shop, same, other), [("head".to_owned(), reason)]);
}

#[test]
fn declared_values_are_for_what_is_new_and_of_its_size() {
    let mut shop = Shop::new();
    let old = shop.structure("s", 4, vec![member("a", 0, shop.u32)]);
    let new = shop.structure("s", 8, vec![member("a", 0, shop.u32), member("b", 4, shop.u32)]);
    for (path, bytes, reason) in [
        ("a", 4, Reason::NothingAdded),
        ("c", 4, Reason::NothingAdded),
        ("b", 3, Reason::DefaultOfAnotherSize { is: 3, wanted: 4 }),
    ] {
        let defaults = Defaults::from([(path.into(), vec![0; bytes].into())]);
        let obstacles = plan(shop.state(old), shop.state(new), &defaults).unwrap_err();
        assert_eq!(obstacles, [Obstacle { path: path.into(), reason }]);
    }
}

#[test]
fn layouts_that_cannot_be_are_refused() {
    let mut shop = Shop::new();
    let outside = shop.structure("s", 4, vec![member("a", 1, shop.u32)]);
    let own = shop.layouts.upcoming(0);
    let own = shop.structure("s", 4, vec![member("a", 0, own)]);
    let twice = shop.structure("s", 8, vec![member("a", 0, shop.u32), member("a", 4, shop.u32)]);
    let huge = shop.layouts.add(Type::Array { element: shop.i64, count: u64::MAX / 2 });
    let element = shop.layouts.upcoming(0);
    let endless = shop.layouts.add(Type::Array { element, count: 2 });
    let wide = shop.structure("s", 16, vec![bits("a", 8, shop.u32, 7, 64)]);
    for (root, reason) in [
        (outside, Reason::Malformed),
        (own, Reason::Malformed),
        (twice, Reason::Unnamed),
        (huge, Reason::Malformed),
        (endless, Reason::Malformed),
        (wide, Reason::Malformed),
    ] {
        assert_eq!(reasons(&shop, root, root)[0].1, reason);
    }
    // 2^60 empty structures.
    let mut root = shop.structure("s", 1, vec![]);
    for _ in 0..60 {
        root = shop.structure("s", 1, vec![member("a", 0, root), member("b", 0, root)]);
    }
    assert_eq!(reasons(&shop, root, root)[0].1, Reason::TooLarge);
}

/// A member of random layouts: its name, what it is before and after; None: it is not there.
#[derive(Clone, Debug)]
struct Kept {
    old: Option<(u64, bool)>,
    new: Option<(u64, bool)>,
    value: i64,
}

fn kept() -> impl Strategy<Value = Kept> {
    let int = || prop::option::weighted(0.9, (prop::sample::select(vec![1_u64, 2, 4, 8]), any::<bool>()));
    (int(), int(), any::<i64>()).prop_map(|(old, new, value)| Kept { old, new, value })
}

/// The members that one side has, in an order, without gaps.
fn lay_out(shop: &mut Shop, members: &[(usize, (u64, bool))]) -> (TypeId, Vec<(usize, u64)>) {
    let (mut offset, mut places, mut all) = (0, Vec::new(), Vec::new());
    for &(name, (size, signed)) in members {
        let of = shop.layouts.add(Type::Integer { size, signed });
        all.push(member(&format!("m{name}"), offset, of));
        places.push((name, offset));
        offset += size;
    }
    (shop.structure("s", offset, all), places)
}

proptest! {
    #[test]
    fn every_member_has_its_value_or_the_plan_is_refused(
        members in prop::collection::vec(kept(), 1..12),
        order in any::<u64>(),
        count in 1_u64..5,
    ) {
        let mut shop = Shop::new();
        let old: Vec<_> = members.iter().enumerate().filter_map(|(at, kept)| Some((at, kept.old?))).collect();
        let mut new: Vec<_> = members.iter().enumerate().filter_map(|(at, kept)| Some((at, kept.new?))).collect();
        new.sort_by_key(|(at, _)| (*at as u64 + 1).wrapping_mul(order | 1));
        let (old_type, old_places) = lay_out(&mut shop, &old);
        let (new_type, new_places) = lay_out(&mut shop, &new);
        let (old_size, new_size) = (shop.layouts.size(old_type).unwrap(), shop.layouts.size(new_type).unwrap());
        let old_root = shop.layouts.add(Type::Array { element: old_type, count });
        let new_root = shop.layouts.add(Type::Array { element: new_type, count });

        // What a C assignment would carry for every value.
        let fits = |(old_size, old_signed): (u64, bool), (new_size, new_signed): (u64, bool)| match (old_signed, new_signed) {
            (true, false) => false,
            (false, true) => new_size > old_size,
            _ => new_size >= old_size,
        };
        let all_fit = members.iter().all(|kept| kept.old.zip(kept.new).is_none_or(|(old, new)| fits(old, new)));
        let plan = planned(&shop, old_root, new_root);
        prop_assert_eq!(plan.is_ok(), all_fit);
        let Ok(plan) = plan else { return Ok(()) };

        let value = |at: usize, element: u64, (size, signed): (u64, bool)| {
            let wide = members[at].value.wrapping_add(element as i64);
            let shift = 64 - 8 * size as u32;
            if signed { i128::from(wide << shift >> shift) } else { i128::from((wide as u64) << shift >> shift) }
        };
        let mut before = vec![0; (old_size * count) as usize];
        for element in 0..count {
            for (&(at, kind), &(_, offset)) in old.iter().zip(&old_places) {
                let start = (element * old_size + offset) as usize;
                before[start..][..kind.0 as usize].copy_from_slice(&value(at, element, kind).to_le_bytes()[..kind.0 as usize]);
            }
        }
        let mut after = vec![0xaa; (new_size * count) as usize];
        plan.apply(&before, &mut after).unwrap();
        for element in 0..count {
            for (&(at, (size, _)), &(_, offset)) in new.iter().zip(&new_places) {
                let expected = members[at].old.map_or(0, |kind| value(at, element, kind));
                let start = (element * new_size + offset) as usize;
                prop_assert_eq!(&after[start..][..size as usize], &expected.to_le_bytes()[..size as usize], "m{}", at);
            }
        }
    }
}
