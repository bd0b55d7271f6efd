//! THE test: a file rewritten in every way, over and over, with pauses in the middle of versions.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::time::Instant;

use memmap2::MmapMut;

use super::*;

/// Numbers that look random: splitmix64, by Sebastiano Vigna.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

/// A version: its number, filling, and a checksum of all before. Some are as long as others.
fn version(number: u32, random: &mut Random) -> Vec<u8> {
    let len = [1000, 4096, 20_000][random.below(3) as usize];
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize_with(len, || random.below(256) as u8);
    bytes.extend_from_slice(&ContentHash::of(&bytes).0);
    bytes
}

/// The number of a version, if it is complete.
fn number(bytes: &[u8]) -> Option<u32> {
    let (content, checksum) = bytes.split_last_chunk::<32>()?;
    (ContentHash::of(content).0 == *checksum).then(|| u32::from_le_bytes(*content.first_chunk().unwrap()))
}

/// Cuts into a few parts.
fn parts(len: usize, random: &mut Random) -> Vec<Range<usize>> {
    let mut cuts: Vec<usize> = (0..random.below(5)).map(|_| random.below(len as u64) as usize).collect();
    cuts.extend([0, len]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

fn write(path: &Path, bytes: &[u8], random: &mut Random, ways: u64, pause: &dyn Fn(&mut Random)) {
    let parts = parts(bytes.len(), random);
    let mut plain = OpenOptions::new();
    plain.create(true).write(true);
    let piecewise = |options: &OpenOptions, path: &Path, random: &mut Random| {
        let mut file = options.open(path).unwrap();
        // In order, or from the end.
        let backwards = random.below(2) == 1;
        for at in 0..parts.len() {
            let part = parts[if backwards { parts.len() - 1 - at } else { at }].clone();
            file.seek(SeekFrom::Start(part.start as u64)).unwrap();
            file.write_all(&bytes[part]).unwrap();
            pause(random);
        }
        // Longer before: cut off last.
        if file.metadata().unwrap().len() > bytes.len() as u64 {
            file.set_len(bytes.len() as u64).unwrap();
            pause(random);
        }
    };
    match random.below(ways) {
        0 => piecewise(plain.clone().truncate(true), path, random),
        1 => piecewise(&plain, path, random),
        2 => {
            let new = path.with_extension("new");
            piecewise(plain.clone().truncate(true), &new, random);
            fs::rename(new, path).unwrap();
        }
        3 => {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
                _ => pause(random),
            }
            piecewise(plain.clone().create_new(true), path, random);
        }
        4 => {
            // As linkers do: set the length, map it, close it, write it, unmap it.
            let file = plain.clone().read(true).open(path).unwrap();
            file.set_len(bytes.len() as u64).unwrap();
            // SAFETY: a file of this length, which no test makes shorter meanwhile.
            let mut mapping = unsafe { MmapMut::map_mut(&file) }.unwrap();
            drop(file);
            for part in parts.iter().rev() {
                pause(random);
                mapping[part.clone()].copy_from_slice(&bytes[part.clone()]);
            }
            pause(random);
        }
        5 => {
            // A file that is written still when it has its name, and only by that name's link.
            let other = path.with_extension("other");
            let mut file = plain.clone().truncate(true).open(&other).unwrap();
            let _ = fs::remove_file(path);
            fs::hard_link(&other, path).unwrap();
            fs::remove_file(&other).unwrap();
            for part in &parts {
                file.write_all(&bytes[part.clone()]).unwrap();
                pause(random);
            }
        }
        way => panic!("{way}"),
    }
}

/// Rewrites a file, and checks what is handed on. Returns how many versions were.
fn rewrite(rounds: u32, ways: u64, seed: u64, settle: Settle, pause: &dyn Fn(&mut Random)) -> usize {
    let folder = Folder::new();
    let path = folder.at("module.so");
    let watcher = Watcher::new();
    let (_, log) = watcher.log(&path, settle.clone());
    let mut random = Random(seed);
    let mut last = Vec::new();
    // Whether the system held this thread up in the middle of a version, so that it paused for
    // longer than it is promised.
    let mut held_up = false;
    for number in 0..rounds {
        last = version(number, &mut random);
        let began = Instant::now();
        write(&path, &last, &mut random, ways, pause);
        held_up |= began.elapsed() >= settle.debounce;
        // Now and then time to be noticed.
        match random.below(8) {
            0..4 => {}
            4..7 => thread::sleep(settle.debounce * 2),
            _ => thread::sleep(settle.debounce * 6),
        }
    }
    let mut seen = BTreeSet::new();
    let final_version = number(&last).unwrap();
    while !seen.contains(&final_version) {
        let Told::Version(bytes) = log.next() else { panic!("only versions") };
        let Some(number) = number(&bytes) else {
            assert!(held_up && !settle.leases, "only complete versions");
            continue;
        };
        assert!(seen.last().is_none_or(|&last| last < number), "{number} after {:?}", seen.last());
        seen.insert(number);
    }
    log.is_quiet();
    watcher.stop();
    log.is_over();
    seen.len()
}

#[test]
fn every_version_is_complete_and_the_last_is_there() {
    let rounds = if is_emulated() { 150 } else { 1000 };
    let settle = quick();
    let debounce = settle.debounce;
    let began = Instant::now();
    let seen = rewrite(rounds, 6, 1, settle, &|random| match random.below(16) {
        0..10 => {}
        10..14 => thread::sleep(debounce / 4),
        14 => thread::sleep(debounce * 2),
        _ => thread::sleep(debounce * 5),
    });
    println!("{seen} of {rounds} versions were handed on in {:?}", began.elapsed());
    assert!(seen as u32 > rounds / 10, "{seen}");
}

#[test]
fn without_leases_as_long_as_writers_pause_less_than_the_debounce() {
    // Long enough that this thread, or the watcher's, can be held up for a while.
    let settle = Settle { debounce: Duration::from_millis(100), leases: false, ..quick() };
    let seen = rewrite(if is_emulated() { 10 } else { 25 }, 4, 2, settle, &|random| {
        if random.below(4) == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    });
    assert!(seen > 1, "{seen}");
}
