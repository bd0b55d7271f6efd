//! Stores that are not what they were: each is recognised and named, and what was committed last is
//! served nevertheless.

use super::disk::{Dice, Simulated};
use super::{commit, digest, open};
use crate::open::Options;
use crate::store::FILE;
use crate::witness::FILES;
use crate::{Damage, Error, Journal, Set};

/// A disk on which a journal was closed, what is committed, and the store before the last commits.
fn closed() -> (Simulated, Set, Vec<Vec<u8>>) {
    let disk = Simulated::new();
    let mut older = Vec::new();
    for version in 1..=12 {
        let journal = open(&disk).unwrap().journal;
        commit(&journal, &[("physics", version), ("sound", version + 100)]).unwrap();
        journal.close().unwrap();
        older.push(disk.contents(FILE).unwrap());
    }
    older.pop();
    let set = open(&disk).unwrap().committed;
    assert_eq!(set["physics"], digest("physics", 12));
    (disk, set, older)
}

/// What is wrong with the disk is said, with what was committed last; and rebuilding goes on from
/// there, and keeps what was wrong.
fn expect_damage(disk: &Simulated, set: &Set, place: &str) -> Damage {
    let damaged = disk.contents(FILE);
    let error = open(&disk.copy()).expect_err(place);
    let Error::Damaged(damage) = error.error else { panic!("{place}: {error}") };
    assert_eq!(error.last_good.expect(place).committed, *set, "{place}: {damage}");

    let rebuilding = disk.copy();
    let opened = Options::new().rebuild(true).open_on(rebuilding.shared(), None).unwrap();
    assert_eq!((&opened.committed, opened.damage.as_ref()), (set, Some(&damage)), "{place}");
    commit(&opened.journal, &[("after", 1)]).unwrap();
    opened.journal.close().unwrap();
    assert_eq!(open(&rebuilding).unwrap().damage, None, "{place}");
    // Looking at a store may mend what it can of it, so the bytes may differ.
    let aside = rebuilding.names().iter().any(|name| name.starts_with("damaged-"));
    assert_eq!(aside, damaged.is_some(), "{place}");
    damage
}

#[test]
fn a_store_that_is_truncated_anywhere_is_named_100_of_100() {
    let (disk, set, _) = closed();
    let whole = disk.contents(FILE).unwrap();
    let mut dice = Dice(1);
    let mut truncated = 0;
    for round in 0..100 {
        // Half of them at the end, where it hurts the least.
        let range = if round % 2 == 0 { 8192.min(whole.len()) } else { whole.len() - 1 };
        let length = whole.len() - 1 - dice.below(range as u64 - 1) as usize;
        let disk = disk.copy();
        disk.replace(FILE, Some(whole[..length].to_vec()));
        let place = format!("{length} bytes of {}", whole.len());
        match expect_damage(&disk, &set, &place) {
            Damage::Truncated { bytes, expected } => {
                assert_eq!((bytes, expected), (length as u64, whole.len() as u64));
                truncated += 1;
            }
            Damage::Older { .. } => {}
            other => panic!("{place}: {other}"),
        }
    }
    println!("{truncated} of 100 are named truncated, the others older");
    assert!(truncated > 0);
}

#[test]
fn an_empty_store_and_a_missing_one_are_named() {
    let (disk, set, _) = closed();
    let emptied = disk.copy();
    emptied.replace(FILE, Some(Vec::new()));
    assert_eq!(expect_damage(&emptied, &set, "emptied"), Damage::Empty);
    let missing = disk.copy();
    missing.replace(FILE, None);
    assert_eq!(expect_damage(&missing, &set, "missing"), Damage::Missing);
    let zeros = disk.copy();
    zeros.replace(FILE, Some(vec![0; disk.contents(FILE).unwrap().len()]));
    assert!(matches!(expect_damage(&zeros, &set, "zeros"), Damage::Corrupt { .. }));
}

#[test]
fn an_older_store_is_named() {
    let (disk, set, older) = closed();
    for (commits, copy) in older.into_iter().enumerate() {
        let disk = disk.copy();
        disk.replace(FILE, Some(copy));
        let damage = expect_damage(&disk, &set, &format!("after {commits} commits"));
        assert!(
            matches!(damage, Damage::Older { generation, expected } if generation < expected),
            "{damage}"
        );
    }
}

/// Where the committed digests are in the file: the latest, and those that were not written over
/// yet.
fn places(file: &[u8], set: &Set) -> Vec<usize> {
    let digests: Vec<_> = set.values().map(|digest| digest.as_bytes()).collect();
    (0..file.len() - 32).filter(|at| digests.iter().any(|digest| file[*at..].starts_with(*digest))).collect()
}

#[test]
fn a_commit_with_flipped_bytes_is_named_100_of_100() {
    let (disk, set, _) = closed();
    let whole = disk.contents(FILE).unwrap();
    let places = places(&whole, &set);
    assert!(!places.is_empty());
    let mut dice = Dice(2);
    for round in 0..100 {
        let mut file = whole.clone();
        let (offset, bit) = (dice.below(32) as usize, dice.below(8));
        for place in &places {
            file[place + offset] ^= 1 << bit;
        }
        let disk = disk.copy();
        disk.replace(FILE, Some(file));
        expect_damage(&disk, &set, &format!("round {round}"));
    }
}

/// What is overwritten may be free, or what redb has twice: then nothing is lost, and the set is
/// right. It is never another one.
#[test]
fn a_store_that_is_overwritten_anywhere_is_named_or_whole() {
    let (disk, set, _) = closed();
    let whole = disk.contents(FILE).unwrap();
    let mut dice = Dice(3);
    let (mut named, mut right) = (0, 0);
    for round in 0..300 {
        let mut file = whole.clone();
        let at = dice.below(whole.len() as u64) as usize;
        let count = 1 + dice.below(if round % 2 == 0 { 4 } else { 2000 }) as usize;
        for byte in file.iter_mut().skip(at).take(count) {
            *byte = dice.below(256) as u8;
        }
        let disk = disk.copy();
        disk.replace(FILE, Some(file));
        match open(&disk.copy()) {
            Ok(opened) => {
                assert_eq!(opened.committed, set, "{count} bytes at {at}");
                right += 1;
            }
            Err(_) => {
                expect_damage(&disk, &set, &format!("{count} bytes at {at}"));
                named += 1;
            }
        }
    }
    println!("of 300, {named} are named and {right} do not matter");
    assert!(named > 30);
}

#[test]
fn a_witness_that_is_gone_or_damaged_is_named_and_one_of_three_is_enough() {
    let (disk, set, _) = closed();
    for damaged in 0..7_usize {
        let disk = disk.copy();
        for (at, name) in FILES.into_iter().enumerate().filter(|(at, _)| damaged >> at & 1 == 1) {
            let mut bytes = disk.contents(name).unwrap();
            bytes[20 + at] ^= 4;
            disk.replace(name, Some(bytes));
        }
        assert_eq!(open(&disk).unwrap().committed, set, "{damaged:03b}");
    }
    for name in FILES {
        disk.replace(name, None);
    }
    assert_eq!(expect_damage_but_the_store(&disk, &set), Damage::NoWitness);
}

fn expect_damage_but_the_store(disk: &Simulated, set: &Set) -> Damage {
    let error = open(&disk.copy()).unwrap_err();
    let Error::Damaged(damage) = error.error else { panic!("{error}") };
    assert_eq!(error.last_good.unwrap().committed, *set);
    let opened = Options::new().rebuild(true).open_on(disk.shared(), None).unwrap();
    assert_eq!((&opened.committed, opened.damage.as_ref()), (set, Some(&damage)));
    opened.journal.close().unwrap();
    assert_eq!(open(disk).unwrap().damage, None);
    damage
}

#[test]
fn a_newer_format_is_refused_and_stays_as_it_is() {
    let (disk, _, _) = closed();
    for name in FILES {
        let mut bytes = disk.contents(name).unwrap();
        bytes[8] += 1;
        // With the digest of a whole one.
        let digest = {
            let mut hasher = blake3::Hasher::new();
            let length = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) as usize;
            hasher.update(&bytes[8..16]).update(&bytes[56..56 + length]);
            hasher.finalize()
        };
        bytes[24..56].copy_from_slice(digest.as_bytes());
        disk.replace(name, Some(bytes));
    }
    let before: Vec<_> = disk.names().iter().map(|name| disk.contents(name)).collect();
    let refused = |journal: &Options| journal.open_on(disk.shared(), None).unwrap_err().error;
    let newer = Error::NewerFormat { found: 2, known: 1 };
    assert_eq!(refused(&Options::new()), newer);
    assert_eq!(refused(&Options::new().rebuild(true)), newer);
    assert!(newer.to_string().contains("format 2"));
    assert_eq!(disk.names().iter().map(|name| disk.contents(name)).collect::<Vec<_>>(), before);
}

#[test]
fn a_store_of_a_newer_format_is_refused() {
    let (disk, _, _) = closed();
    crate::store::set_format(&crate::disk::Watched::new(disk.shared()), 7);
    assert_eq!(open(&disk).unwrap_err().error, Error::NewerFormat { found: 7, known: 1 });
}

#[test]
fn damaged_bytes_of_a_module_are_not_given_out_and_are_mended_by_putting_them() {
    let (disk, set, _) = closed();
    let journal: Journal = open(&disk).unwrap().journal;
    let wanted = set["physics"];
    let name = format!("modules/{wanted}");
    let whole = disk.contents(&name).unwrap();
    for wrong in [Vec::new(), whole[1..].to_vec(), [&whole[..], &[0]].concat()] {
        disk.replace(&name, Some(wrong));
        assert_eq!(journal.bytes(wanted), Err(Error::BytesDamaged(wanted)));
        assert_eq!(journal.put(&whole).unwrap().digest(), wanted);
        assert_eq!(journal.bytes(wanted).unwrap(), whole);
    }
    disk.replace(&name, None);
    assert_eq!(journal.bytes(wanted), Err(Error::NoBytes(wanted)));
}
