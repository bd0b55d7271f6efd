//! Whether two readings of a file found the same.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use crate::buffers;

/// 128 bits that differ where contents do, by chance in all but one of 2^128 pairs. Nobody is to be
/// kept from making two contents with the same digest: whoever writes the file says what is run.
///
/// Two products for each 16 bytes, and nothing that needs an optimising compiler: a host that is
/// built without optimisation hashes 4 MB in some milliseconds. BLAKE3 took 150 there, most of the
/// time of a reload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest([u64; 2]);

/// Any odd numbers with about as many ones as zeros: of pi's fraction.
const KEYS: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1, 0x082e_fa98_ec4e_6c89];

const START: [u64; 2] = [KEYS[2], KEYS[3]];

/// Read at once of a file: a multiple of 16.
const PIECE: usize = 64 << 10;

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::end(START, bytes, bytes.len() as u64)
    }

    /// Of what can be read of a file, in pieces: nothing of it is kept.
    pub(crate) fn of_file(mut file: &File) -> io::Result<Self> {
        let mut piece = buffers::take(PIECE)?;
        let (mut state, mut length) = (START, 0);
        loop {
            let mut filled = 0;
            while filled < piece.len() {
                match file.read(&mut piece[filled..]) {
                    Ok(0) => return Ok(Self::end(state, &piece[..filled], length + filled as u64)),
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            length += filled as u64;
            state = blocks(state, piece.as_chunks::<16>().0);
        }
    }

    /// With the last bytes of so many.
    fn end(state: [u64; 2], bytes: &[u8], length: u64) -> Self {
        let (whole, rest) = bytes.as_chunks::<16>();
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        let mut state = step(blocks(state, whole), u128::from_le_bytes(last));
        // The length, for what is padded; and once more, so that the last bytes are in all bits.
        state = step(state, length.into());
        Self(step(state, 0))
    }
}

fn blocks(mut state: [u64; 2], blocks: &[[u8; 16]]) -> [u64; 2] {
    for block in blocks {
        state = step(state, u128::from_le_bytes(*block));
    }
    state
}

/// Each half is a product with the other half of the block as well, and has a key of its own: where
/// one factor is 0, and so forgets the other, the other product does not.
#[inline]
fn step([first, second]: [u64; 2], block: u128) -> [u64; 2] {
    let (low, high) = (block as u64, (block >> 64) as u64);
    [
        fold(low ^ KEYS[0], high ^ first) ^ first.rotate_left(23),
        fold(high ^ KEYS[1], low ^ second) ^ second.rotate_left(41),
    ]
}

/// The two halves of a product, in one.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a).wrapping_mul(u128::from(b));
    (product as u64) ^ ((product >> 64) as u64)
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|half| write!(f, "{half:016x}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn halves(digests: impl Iterator<Item = Digest>) -> [HashSet<u64>; 2] {
        let all: Vec<_> = digests.collect();
        [0, 1].map(|half| all.iter().map(|digest| digest.0[half]).collect())
    }

    #[test]
    fn every_changed_bit_changes_both_halves_and_about_half_of_their_bits() {
        let mut bytes: Vec<u8> = (0..100_u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
        let before = Digest::of(&bytes);
        let (mut seen, mut changed) = (HashSet::new(), [0; 2]);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let after = Digest::of(&bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
            for (half, changed) in changed.iter_mut().enumerate() {
                let differs = (before.0[half] ^ after.0[half]).count_ones();
                assert!((8..=56).contains(&differs), "bit {bit}: {differs} of half {half}");
                *changed += differs;
                assert!(seen.insert(after.0[half]), "bit {bit}");
            }
        }
        assert!(changed.iter().all(|all| (30..=34).contains(&(all / 800))), "{changed:?}");
    }

    #[test]
    fn lengths_orders_and_what_would_make_a_factor_zero_are_told_apart() {
        let zeros = vec![0_u8; 4096];
        let [first, second] = halves((0..=4096).map(|len| Digest::of(&zeros[..len])));
        assert_eq!((first.len(), second.len()), (4097, 4097), "each length");

        // Blocks that are the keys, with something else in the other half.
        for key in 0..2 {
            let with = |other: u64| {
                let mut block = [0; 64];
                block[16 + 8 * key..][..8].copy_from_slice(&KEYS[key].to_le_bytes());
                block[16 + 8 * (1 - key)..][..8].copy_from_slice(&other.to_le_bytes());
                Digest::of(&block)
            };
            let all: Vec<_> = (0..1000).map(with).collect();
            assert_eq!(all.iter().map(|digest| digest.0).collect::<HashSet<_>>().len(), 1000);
        }

        // The same blocks in another order, and one block moved.
        let blocks: Vec<[u8; 16]> = (1..=8).map(|n: u8| [n; 16]).collect();
        let rotated = (0..8).map(|by| {
            let mut all = blocks.clone();
            all.rotate_left(by);
            Digest::of(&all.concat())
        });
        let [first, second] = halves(rotated);
        assert_eq!((first.len(), second.len()), (8, 8));
    }

    /// How long this thread works on something, at its best of five times.
    fn work(mut run: impl FnMut()) -> u64 {
        let now = || {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: the time is there to be written.
            assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
            time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
        };
        let once = |_| {
            let began = now();
            run();
            now() - began
        };
        (0..5).map(once).min().unwrap()
    }

    /// Tests are built without optimisation, as engines are under development: having the memory,
    /// reading and hashing together take less than half of what BLAKE3 alone would.
    #[test]
    fn a_reading_costs_little_without_optimisation() {
        let path = std::env::temp_dir().join(format!("midflight-digest-{}", std::process::id()));
        let bytes = vec![0x5a; 4 << 20];
        std::fs::write(&path, &bytes).unwrap();
        let blake3 = work(|| _ = std::hint::black_box(blake3::hash(&bytes)));
        let reading = work(|| {
            let mut buffer = crate::buffers::take(bytes.len()).unwrap();
            std::io::Read::read_exact(&mut std::fs::File::open(&path).unwrap(), &mut buffer).unwrap();
            std::hint::black_box(Digest::of(&buffer));
        });
        std::fs::remove_file(&path).unwrap();
        assert!(reading * 2 < blake3, "{reading} ns, BLAKE3 alone {blake3} ns");
    }

    #[test]
    fn a_file_has_the_digest_of_its_bytes() {
        let path = std::env::temp_dir().join(format!("midflight-pieces-{}", std::process::id()));
        for len in [0, 1, 15, 16, 17, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 40] {
            let bytes: Vec<u8> = (0..len).map(|n| ((n * 31) >> 3) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(Digest::of_file(&File::open(&path).unwrap()).unwrap(), Digest::of(&bytes), "{len}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    /// As the digest of a module that is built again with another number in it, at every place of
    /// it.
    #[test]
    fn files_that_differ_in_one_number_are_told_apart() {
        let mut file = vec![0x90_u8; 20_000];
        let mut all = HashSet::from([Digest::of(&file).0]);
        for at in 0..file.len() {
            file[at] = 0x91;
            assert!(all.insert(Digest::of(&file).0), "{at}");
            file[at] = 0x90;
        }
    }
}
