//! Outcomes as bytes, to be kept where the host keeps what outlives a process.
//!
//! ```text
//! "mfoutcom"  version: u16  entries: u16  (kind: u8  action: u8  well: u64  of: u64)*  check: u64
//! ```
//!
//! All numbers are little-endian. The entries are in order, each kind and action once. The last
//! number is FNV-1a of all bytes before it: it finds what was torn or overwritten, not who forges.

use std::fmt;

use crate::{Action, Kind, Outcomes, Rate};

const MAGIC: &[u8; 8] = b"mfoutcom";
/// The format that is written, and the latest that is read.
const VERSION: u16 = 1;
const HEAD: usize = MAGIC.len() + 2 + 2;
const ENTRY: usize = 1 + 1 + 8 + 8;
const CHECK: usize = 8;

/// Why bytes are no outcomes.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NotOutcomes {
    /// They do not begin as outcomes do.
    Other,
    /// They are of a later version of midflight, which has this format.
    Newer(u16),
    /// There are not as many as they say, or the check does not fit: torn or overwritten.
    Damaged,
    /// The check fits, and they say what cannot be.
    Impossible(&'static str),
}

impl fmt::Display for NotOutcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other => f.write_str("these are no outcomes of conflicts"),
            Self::Newer(version) => write!(
                f,
                "outcomes in the format {version}: this midflight reads up to {VERSION}. Use a later one, or begin without them"
            ),
            Self::Damaged => f.write_str("the outcomes are damaged: begin without them, or take a copy"),
            Self::Impossible(why) => write!(f, "the outcomes cannot be: {why}"),
        }
    }
}

impl std::error::Error for NotOutcomes {}

impl Outcomes {
    /// As bytes: at most 1 kB.
    pub fn to_bytes(&self) -> Vec<u8> {
        let entries: Vec<_> = self.iter().collect();
        let mut bytes = Vec::with_capacity(HEAD + entries.len() * ENTRY + CHECK);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (kind, action, rate) in entries {
            bytes.extend([kind as u8, action as u8]);
            bytes.extend(rate.well.to_le_bytes());
            bytes.extend(rate.of.to_le_bytes());
        }
        bytes.extend(check(&bytes).to_le_bytes());
        bytes
    }

    /// Of what [`to_bytes`](Self::to_bytes) has made.
    ///
    /// # Errors
    ///
    /// Of anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotOutcomes> {
        let Some(rest) = bytes.strip_prefix(MAGIC) else { return Err(NotOutcomes::Other) };
        let (version, rest) = rest.split_first_chunk().ok_or(NotOutcomes::Damaged)?;
        match u16::from_le_bytes(*version) {
            VERSION => {}
            0 => return Err(NotOutcomes::Damaged),
            newer => return Err(NotOutcomes::Newer(newer)),
        }
        let (count, rest) = rest.split_first_chunk().ok_or(NotOutcomes::Damaged)?;
        let (entries, told) = rest.split_last_chunk().ok_or(NotOutcomes::Damaged)?;
        if entries.len() != usize::from(u16::from_le_bytes(*count)) * ENTRY
            || check(&bytes[..bytes.len() - CHECK]) != u64::from_le_bytes(*told)
        {
            return Err(NotOutcomes::Damaged);
        }
        let (mut outcomes, mut before) = (Self::default(), None);
        for entry in entries.as_chunks::<ENTRY>().0 {
            let number = |at: usize| u64::from_le_bytes(*entry[at..].first_chunk().expect("two are in it"));
            let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == entry[0]);
            let action = Action::ALL.into_iter().find(|action| *action as u8 == entry[1]);
            let (Some(kind), Some(action)) = (kind, action) else {
                return Err(NotOutcomes::Impossible("a kind of conflict or an action is none that there is"));
            };
            let rate = Rate { well: number(2), of: number(10) };
            if rate.well > rate.of || rate.of == 0 {
                return Err(NotOutcomes::Impossible("more went well than there was"));
            }
            if before >= Some((kind, action)) {
                return Err(NotOutcomes::Impossible("they are out of order"));
            }
            before = Some((kind, action));
            outcomes.set(kind, action, rate);
        }
        Ok(outcomes)
    }
}

fn check(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `records`: of each the kind, the action, and whether it went well.
    fn made(records: &[(usize, usize, bool)]) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for (kind, action, well) in records {
            outcomes.record(
                Kind::ALL[kind % Kind::ALL.len()],
                Action::ALL[action % Action::ALL.len()],
                *well,
            );
        }
        outcomes
    }

    /// With a check that fits.
    fn checked(mut bytes: Vec<u8>) -> Vec<u8> {
        let len = bytes.len() - CHECK;
        let fits = check(&bytes[..len]);
        bytes[len..].copy_from_slice(&fits.to_le_bytes());
        bytes
    }

    #[test]
    fn what_is_not_read_says_why() {
        let of = |bytes: &[u8]| Outcomes::from_bytes(bytes).unwrap_err();
        let good = made(&[(0, 1, true), (1, 1, false)]).to_bytes();
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            checked(bytes)
        };
        assert_eq!([of(b""), of(b"mfjourna and more")], [NotOutcomes::Other, NotOutcomes::Other]);
        assert_eq!(of(&changed(8, 2)), NotOutcomes::Newer(2));
        assert!(of(&changed(8, 2)).to_string().contains("reads up to 1"));
        assert_eq!(of(&changed(8, 0)), NotOutcomes::Damaged);
        assert_eq!(of(&changed(10, 3)), NotOutcomes::Damaged, "as many as there are not");
        for (at, to, why) in [
            (HEAD, 0, "none that there is"),
            (HEAD, 200, "none that there is"),
            (HEAD + 1, 6, "none that there is"),
            (HEAD + 2, 2, "more went well"),
            (HEAD + 10, 0, "more went well"),
            (HEAD, 2, "out of order"),
            (HEAD, 9, "out of order"),
        ] {
            assert!(of(&changed(at, to)).to_string().contains(why), "{at} {to}");
        }
    }

    /// The format is as old ones were written.
    #[test]
    fn what_was_written_is_read() {
        let mut bytes = b"mfoutcom\x01\x00\x01\x00\x02\x01\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0".to_vec();
        bytes.extend([0; 8]);
        let outcomes = Outcomes::from_bytes(&checked(bytes.clone())).unwrap();
        assert_eq!(outcomes.rate(Kind::FunctionSignature, Action::UseLatest), Rate { well: 3, of: 4 });
        assert_eq!(outcomes.to_bytes(), checked(bytes));
    }

    proptest! {
        #[test]
        fn what_is_stored_comes_back(records: Vec<(usize, usize, bool)>) {
            let outcomes = made(&records);
            prop_assert_eq!(Outcomes::from_bytes(&outcomes.to_bytes()), Ok(outcomes));
        }

        #[test]
        fn a_byte_that_is_another_is_found(records: Vec<(usize, usize, bool)>, at: usize, by in 1..=255u8) {
            let mut bytes = made(&records).to_bytes();
            let at = at % bytes.len();
            bytes[at] ^= by;
            prop_assert!(Outcomes::from_bytes(&bytes).is_err());
        }

        #[test]
        fn what_is_cut_off_is_found(records: Vec<(usize, usize, bool)>, len: usize) {
            let bytes = made(&records).to_bytes();
            prop_assert!(Outcomes::from_bytes(&bytes[..len % bytes.len()]).is_err());
        }

        /// Whatever is accepted is what would be written.
        #[test]
        fn anything_else_is_an_error_or_the_same(mut bytes: Vec<u8>, begins: bool) {
            if begins {
                bytes.splice(0..0, b"mfoutcom\x01\0".iter().copied());
            }
            if bytes.len() >= CHECK {
                bytes = checked(bytes);
            }
            if let Ok(outcomes) = Outcomes::from_bytes(&bytes) {
                prop_assert_eq!(outcomes.to_bytes(), bytes);
            }
        }
    }
}
