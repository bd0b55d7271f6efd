//! What is read back from files, for the fuzz target. No part of the interface.

use std::collections::BTreeMap;

use crate::codec::Coded;
use crate::digest::Digest;
use crate::package::Package;
use crate::record::{Change, Event, InFlight, Record, Stage, TransactionId};
use crate::state::State;
use crate::witness::Witness;

/// Reads these bytes as each kind of value that a journal reads back. What can be read must be
/// written as it was.
pub fn round_trip(bytes: &[u8]) {
    fn one<T: Coded>(bytes: &[u8]) {
        if let Ok(value) = T::from_bytes(bytes) {
            assert_eq!(value.to_bytes(), bytes);
        }
    }
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind {
        0 => one::<Record>(bytes),
        1 => one::<InFlight>(bytes),
        2 => one::<Witness>(bytes),
        3 => {
            if let Ok(witness) = Witness::from_file(bytes) {
                assert!(bytes.starts_with(&witness.to_file()));
            }
        }
        // As it is found in a file, whose digest no change of a byte would pass.
        4 => {
            if let Ok(witness) = Witness::from_file(&Witness::sealed(bytes)) {
                let mut state = witness.state;
                for record in &witness.pending {
                    let before = state.clone();
                    if state.apply(record).is_err() {
                        assert_eq!(state, before);
                    }
                }
            }
        }
        6 => {
            if let Ok(package) = Package::from_bytes(bytes) {
                assert_eq!(package.to_bytes().as_deref(), Ok(bytes));
            }
        }
        _ => {
            if let Some(digest) = std::str::from_utf8(bytes).ok().and_then(Digest::parse) {
                assert_eq!(digest.to_string().as_bytes(), bytes);
            }
        }
    }
}

/// Inputs of [`round_trip`] that can be read, to begin from.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let digest = Digest::of(b"a module");
    let changes = vec![
        Change::load("loaded", digest),
        Change::replace("replaced", digest, Digest::of(b"newer")),
        Change::unload("unloaded", digest),
        Change::roll_back("rolled back", digest, Digest::of(b"older")),
    ];
    let record = |sequence, event| Record {
        sequence,
        milliseconds: 1_764_000_000_000,
        transaction: TransactionId(3),
        event,
    };
    let events = [
        Event::Begin(changes.clone()),
        Event::Prepared,
        Event::Commit,
        Event::Applied,
        Event::Abort("the reason".to_owned()),
    ];
    let pending: Vec<_> = (8..).zip(events).map(|(sequence, event)| record(sequence, event)).collect();
    let in_flight = InFlight { transaction: TransactionId(2), stage: Stage::Prepared, changes };
    let set = ["replaced", "rolled back", "unloaded"].map(|module| (module.to_owned(), digest));
    let state = State {
        set: set.into_iter().collect(),
        open: BTreeMap::from([(2, in_flight.clone())]),
        sequence: 7,
        transaction: 2,
    };
    let witness =
        Witness { count: 9, generation: 4, stored: 7, store_bytes: 73_728, state, pending: pending.clone() };
    let of_kind = |kind: u8, bytes: Vec<u8>| [vec![kind], bytes].concat();
    let names = ["begin", "prepared", "commit", "applied", "abort"];
    let mut seeds: Vec<_> =
        names.into_iter().zip(pending.iter().map(|record| of_kind(0, record.to_bytes()))).collect();
    seeds.push(("in-flight", of_kind(1, in_flight.to_bytes())));
    seeds.push(("witness", of_kind(2, witness.to_bytes())));
    seeds.push(("witness-file", of_kind(3, witness.to_file())));
    seeds.push(("witness-replayed", of_kind(4, witness.to_bytes())));
    seeds.push(("digest", of_kind(5, digest.to_string().into_bytes())));
    let package = Package {
        name: Some("physics".to_owned()),
        libraries: vec!["libm.so.6".to_owned()],
        verified: true,
        carried: true,
        files: vec![("/a/physics.o".into(), b"object"), ("/a/libmath.a".into(), b"archive")],
    };
    seeds.push(("package", of_kind(6, package.to_bytes().expect("it is small"))));
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        for (name, seed) in seeds() {
            let read = match seed[0] {
                0 => Record::from_bytes(&seed[1..]).is_ok(),
                1 => InFlight::from_bytes(&seed[1..]).is_ok(),
                2 | 4 => Witness::from_bytes(&seed[1..]).is_ok(),
                3 => Witness::from_file(&seed[1..]).is_ok(),
                6 => Package::from_bytes(&seed[1..]).is_ok(),
                _ => Digest::parse(std::str::from_utf8(&seed[1..]).unwrap()).is_some(),
            };
            assert!(read, "{name}");
            round_trip(&seed);
        }
    }

    #[test]
    fn what_is_cut_or_has_more_is_not_read() {
        for (name, seed) in seeds() {
            if seed[0] > 2 {
                continue;
            }
            for cut in 1..seed.len() {
                let bytes = &seed[1..cut];
                let read = match seed[0] {
                    0 => Record::from_bytes(bytes).is_ok(),
                    1 => InFlight::from_bytes(bytes).is_ok(),
                    _ => Witness::from_bytes(bytes).is_ok(),
                };
                assert!(!read, "{name} of {cut} bytes");
            }
            let more = [&seed[1..], &[0]].concat();
            assert!(Record::from_bytes(&more).is_err() && Witness::from_bytes(&more).is_err(), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_as_they_would_be_written_or_not_at_all(
            seed in 0..11usize, at in proptest::prelude::any::<proptest::sample::Index>(), byte: u8, cut: u8,
        ) {
            let mut bytes = seeds()[seed].1.clone();
            let place = at.index(bytes.len());
            bytes[place] = byte;
            round_trip(&bytes);
            bytes.truncate(bytes.len() - usize::from(cut) % bytes.len());
            round_trip(&bytes);
        }
    }
}
