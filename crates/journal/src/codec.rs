//! The bytes of what is kept: little-endian, each text and list with its length before it. One
//! value has one form, and what reads it takes no other.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::record::{Change, Event, InFlight, Operation, Record, Stage, TransactionId};
use crate::state::{LONGEST_NAME, LONGEST_REASON, MOST_CHANGES, State};

/// That bytes are not what this writes.
#[derive(Debug)]
pub(crate) struct Unreadable;

pub(crate) type Read<T> = Result<T, Unreadable>;

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

pub(crate) fn take<'a>(from: &mut &'a [u8], count: usize) -> Read<&'a [u8]> {
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

pub(crate) fn write_count(count: usize, to: &mut Vec<u8>) {
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

pub(crate) fn write_list<T: Coded>(list: &[T], to: &mut Vec<u8>) {
    write_count(list.len(), to);
    list.iter().for_each(|item| item.write(to));
}

/// Memory is not taken by what a count says, but by what is there.
pub(crate) fn read_list<T: Coded>(from: &mut &[u8], longest: usize) -> Read<Vec<T>> {
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
