//! The bytes of what is kept: little-endian, each text and list with its length before it. One
//! value has one form, and what reads it takes no other.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::record::{Change, Event, InFlight, Operation, Record, Stage, TransactionId};
use crate::state::{LONGEST_NAME, LONGEST_REASON, MOST_CHANGES, State};
use crate::witness::Witness;

/// That bytes are not what this writes.
#[derive(Debug)]
pub(crate) struct Unreadable;

type Read<T> = Result<T, Unreadable>;

pub(crate) trait Coded: Sized {
    fn write(&self, to: &mut Vec<u8>);
    fn read(from: &mut &[u8]) -> Read<Self>;

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    /// All of the bytes are this value, and no more.
    fn from_bytes(mut bytes: &[u8]) -> Read<Self> {
        let value = Self::read(&mut bytes)?;
        if bytes.is_empty() { Ok(value) } else { Err(Unreadable) }
    }
}

fn take<'a>(from: &mut &'a [u8], count: usize) -> Read<&'a [u8]> {
    from.split_off(..count).ok_or(Unreadable)
}

impl Coded for u8 {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(*self);
    }

    fn read(from: &mut &[u8]) -> Read<Self> {
        Ok(take(from, 1)?[0])
    }
}

impl Coded for u32 {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.to_le_bytes());
    }

    fn read(from: &mut &[u8]) -> Read<Self> {
        take(from, 4)?.try_into().map(u32::from_le_bytes).map_err(|_| Unreadable)
    }
}

impl Coded for u64 {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.to_le_bytes());
    }

    fn read(from: &mut &[u8]) -> Read<Self> {
        take(from, 8)?.try_into().map(u64::from_le_bytes).map_err(|_| Unreadable)
    }
}

impl Coded for Digest {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.as_bytes());
    }

    fn read(from: &mut &[u8]) -> Read<Self> {
        take(from, 32)?.try_into().map(Digest::from_bytes).map_err(|_| Unreadable)
    }
}

impl<T: Coded> Coded for Option<T> {
    fn write(&self, to: &mut Vec<u8>) {
        u8::from(self.is_some()).write(to);
        if let Some(value) = self {
            value.write(to);
        }
    }

    fn read(from: &mut &[u8]) -> Read<Self> {
        match u8::read(from)? {
            0 => Ok(None),
            1 => T::read(from).map(Some),
            _ => Err(Unreadable),
        }
    }
}

fn write_count(count: usize, to: &mut Vec<u8>) {
    // What is longer than a transaction or a set may be was refused before.
    u32::try_from(count).expect("a count below 2^32").write(to);
}

fn write_text(text: &str, to: &mut Vec<u8>) {
    write_count(text.len(), to);
    to.extend_from_slice(text.as_bytes());
}

fn read_text(from: &mut &[u8], longest: usize) -> Read<String> {
    let count = u32::read(from)? as usize;
    if count > longest {
        return Err(Unreadable);
    }
    let bytes = take(from, count)?.to_vec();
    String::from_utf8(bytes).map_err(|_| Unreadable)
}

fn write_list<T: Coded>(list: &[T], to: &mut Vec<u8>) {
    write_count(list.len(), to);
    list.iter().for_each(|item| item.write(to));
}

/// Memory is not taken by what a count says, but by what is there.
fn read_list<T: Coded>(from: &mut &[u8], longest: usize) -> Read<Vec<T>> {
    let count = u32::read(from)? as usize;
    if count > longest {
        return Err(Unreadable);
    }
    (0..count).map(|_| T::read(from)).collect()
}

impl Coded for Change {
    fn write(&self, to: &mut Vec<u8>) {
        let operation: u8 = match self.operation {
            Operation::Load => 0,
            Operation::Replace => 1,
            Operation::Unload => 2,
            Operation::RollBack => 3,
        };
        operation.write(to);
        write_text(&self.module, to);
        self.old.write(to);
        self.new.write(to);
    }

    fn read(from: &mut &[u8]) -> Read<Self> {
        let operation = match u8::read(from)? {
            0 => Operation::Load,
            1 => Operation::Replace,
            2 => Operation::Unload,
            3 => Operation::RollBack,
            _ => return Err(Unreadable),
        };
        let module = read_text(from, LONGEST_NAME)?;
        let change = Self { module, operation, old: Option::read(from)?, new: Option::read(from)? };
        if change.is_whole() { Ok(change) } else { Err(Unreadable) }
    }
}

impl Coded for Record {
    fn write(&self, to: &mut Vec<u8>) {
        self.sequence.write(to);
        self.milliseconds.write(to);
        self.transaction.0.write(to);
        let kind: u8 = match &self.event {
            Event::Begin(_) => 0,
            Event::Prepared => 1,
            Event::Commit => 2,
            Event::Applied => 3,
            Event::Abort(_) => 4,
        };
        kind.write(to);
        match &self.event {
            Event::Begin(changes) => write_list(changes, to),
            Event::Abort(reason) => write_text(reason, to),
            Event::Prepared | Event::Commit | Event::Applied => {}
        }
    }

    fn read(from: &mut &[u8]) -> Read<Self> {
        let (sequence, milliseconds) = (u64::read(from)?, u64::read(from)?);
        let transaction = TransactionId(u64::read(from)?);
        let event = match u8::read(from)? {
            0 => Event::Begin(read_list(from, MOST_CHANGES)?),
            1 => Event::Prepared,
            2 => Event::Commit,
            3 => Event::Applied,
            4 => Event::Abort(read_text(from, LONGEST_REASON)?),
            _ => return Err(Unreadable),
        };
        Ok(Self { sequence, milliseconds, transaction, event })
    }
}

impl Coded for InFlight {
    fn write(&self, to: &mut Vec<u8>) {
        self.transaction.0.write(to);
        let stage: u8 = match self.stage {
            Stage::Begun => 0,
            Stage::Prepared => 1,
            Stage::Committed => 2,
        };
        stage.write(to);
        write_list(&self.changes, to);
    }

    fn read(from: &mut &[u8]) -> Read<Self> {
        let transaction = TransactionId(u64::read(from)?);
        let stage = match u8::read(from)? {
            0 => Stage::Begun,
            1 => Stage::Prepared,
            2 => Stage::Committed,
            _ => return Err(Unreadable),
        };
        Ok(Self { transaction, stage, changes: read_list(from, MOST_CHANGES)? })
    }
}

impl Coded for (String, Digest) {
    fn write(&self, to: &mut Vec<u8>) {
        write_text(&self.0, to);
        self.1.write(to);
    }

    fn read(from: &mut &[u8]) -> Read<Self> {
        Ok((read_text(from, LONGEST_NAME)?, Digest::read(from)?))
    }
}

impl Coded for State {
    fn write(&self, to: &mut Vec<u8>) {
        self.sequence.write(to);
        self.transaction.write(to);
        write_count(self.set.len(), to);
        for (module, digest) in &self.set {
            write_text(module, to);
            digest.write(to);
        }
        write_count(self.open.len(), to);
        self.open.values().for_each(|open| open.write(to));
    }

    fn read(from: &mut &[u8]) -> Read<Self> {
        let (sequence, transaction) = (u64::read(from)?, u64::read(from)?);
        let set: Vec<(String, Digest)> = read_list(from, u32::MAX as usize)?;
        let open: Vec<InFlight> = read_list(from, u32::MAX as usize)?;
        if !set.is_sorted_by(|one, next| one.0 < next.0)
            || !open.is_sorted_by(|one, next| one.transaction < next.transaction)
        {
            return Err(Unreadable);
        }
        let open: BTreeMap<_, _> = open.into_iter().map(|open| (open.transaction.0, open)).collect();
        Ok(Self { set: set.into_iter().collect(), open, sequence, transaction })
    }
}

impl Coded for Witness {
    fn write(&self, to: &mut Vec<u8>) {
        self.count.write(to);
        self.generation.write(to);
        self.stored.write(to);
        self.store_bytes.write(to);
        self.state.write(to);
        write_list(&self.pending, to);
    }

    fn read(from: &mut &[u8]) -> Read<Self> {
        Ok(Self {
            count: u64::read(from)?,
            generation: u64::read(from)?,
            stored: u64::read(from)?,
            store_bytes: u64::read(from)?,
            state: State::read(from)?,
            pending: read_list(from, u32::MAX as usize)?,
        })
    }
}

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
            seed in 0..10usize, at in proptest::prelude::any::<proptest::sample::Index>(), byte: u8, cut: u8,
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
