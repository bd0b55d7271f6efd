//! What was where: the addresses that versions had before they were freed, and the names of their
//! functions. A fault at such an address is explained from here.
//!
//! The latest [`COUNT`] versions are kept, with at most [`BYTES`] of names in all. A version is
//! forgotten when a later one has had all of its pages. So a module that is reloaded again and
//! again takes one entry for each place in memory that it has had.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use midflight_image::{Protection, Region};

use super::names::Name;
use crate::code::Reservation;
use crate::host::loaded::Names;
use crate::platform::lockless::Lockless;

/// Each takes some 300 bytes beside its names.
const COUNT: usize = 128;
const BYTES: usize = 1 << 20;
/// A version with more has no names here.
pub(crate) const BYTES_OF_ONE: usize = BYTES / 4;

/// A version that is gone.
pub(crate) struct Past {
    pub(crate) module: Arc<str>,
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    pub(crate) end: Option<End>,
    pub(crate) base: usize,
    /// What must be added to the addresses of its file.
    pub(crate) bias: u64,
    pub(crate) regions: Box<[Region]>,
    /// None if there are too many.
    pub(crate) names: Option<Box<dyn Names>>,
    pub(crate) reservation: Reservation,
    pub(crate) freed: Instant,
}

/// How a version ended. None: it was never current.
#[derive(Clone, Copy)]
pub(crate) struct End {
    /// The first generation without it.
    pub(crate) generation: u64,
    pub(crate) at: Instant,
    /// The version in its place; None if the module was unloaded.
    pub(crate) by: Option<u64>,
}

/// The latest last.
static PAST: Lockless<Vec<Arc<Past>>> = Lockless::new();

impl Past {
    fn bytes(&self) -> usize {
        self.names.as_ref().map_or(0, |names| names.bytes())
    }

    /// All that is allocated for it.
    fn footprint(&self) -> usize {
        const COUNTS: usize = 2 * size_of::<usize>();
        let names = self.names.as_ref().map_or(0, |names| size_of_val(&**names) + names.bytes());
        let parts = self.module.len() + self.path.capacity() + size_of_val(&*self.regions) + names;
        size_of::<Self>() + 2 * COUNTS + parts
    }

    /// Where it was, from low to high. What is between two of them it never had.
    fn pages(&self) -> impl Iterator<Item = Range<usize>> {
        self.regions.iter().map(|region| {
            let start = self.base + region.offset as usize;
            start..start + region.len as usize
        })
    }

    fn had_all_pages_of(&self, other: &Self) -> bool {
        other.pages().all(|pages| {
            let reached = self
                .pages()
                .fold(pages.start, |reached, own| if own.contains(&reached) { own.end } else { reached });
            reached >= pages.end
        })
    }

    fn protection(&self, address: usize) -> Option<Protection> {
        let offset = address.wrapping_sub(self.base) as u64;
        let has = |region: &&Region| offset.wrapping_sub(region.offset) < region.len;
        self.regions.iter().find(has).map(|region| region.protection)
    }

    /// Whether the address space is code memory's still.
    pub(crate) fn is_ours(&self) -> bool {
        self.reservation.is_there()
    }
}

/// Notes a version whose memory is about to go.
pub(crate) fn note(past: Past) {
    let past = Arc::new(past);
    PAST.change(|all| add(all, past));
}

fn add(all: &mut Vec<Arc<Past>>, past: Arc<Past>) {
    all.retain(|other| !past.had_all_pages_of(other));
    all.push(past);
    let mut bytes: usize = all.iter().map(|past| past.bytes()).sum();
    while all.len() > COUNT || bytes > BYTES {
        bytes -= all.remove(0).bytes();
    }
}

/// How many bytes are allocated for all that is known.
pub fn footprint() -> usize {
    PAST.with(|all| {
        let Some(all) = all else { return 0 };
        let own = size_of_val(all) + all.capacity() * size_of::<Arc<Past>>();
        own + all.iter().map(|past| past.footprint()).sum::<usize>()
    })
}

/// The latest version that had an address, while it is looked at. Async-signal-safe, if `look` is.
pub(crate) fn find<T>(address: usize, look: impl FnOnce(&At<'_>) -> T) -> Option<T> {
    PAST.with(|all| {
        let mut latest_first = all?.iter().rev();
        let at = |past| Some(At { past, address, protection: Past::protection(past, address)? });
        latest_first.find_map(|past| at(past)).map(|at| look(&at))
    })
}

/// An address that a version had.
pub(crate) struct At<'p> {
    pub(crate) past: &'p Past,
    address: usize,
    protection: Protection,
}

impl<'p> At<'p> {
    pub(crate) fn is_code(&self) -> bool {
        self.protection == Protection::ReadExecute
    }

    /// The name of what it was in, and how far from its start.
    pub(crate) fn name(&self) -> Option<(&'p [u8], u64)> {
        self.past.names.as_ref()?.at(self.address as u64)
    }
}

/// "code of `step` (+0x4) in movement version 1 (/lib/libmovement.so), which version 2 replaced in
/// generation 2, 3.1 s ago, and which was freed 3.0 s ago". Writes without allocating anything.
impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let past = self.past;
        let offset = self.address - past.base;
        let what = if self.is_code() { "code" } else { "data" };
        write!(f, "{what} ")?;
        match self.name() {
            Some((name, distance)) => write!(f, "of `{}` (+{distance:#x}) ", Name(name))?,
            None => write!(f, "at offset {offset:#x} (of no exported symbol) ")?,
        }
        write!(f, "in {} version {} (", past.module, past.number)?;
        write_path(&past.path, f)?;
        match past.end {
            None => write!(f, "), which was never published: its load failed")?,
            Some(End { generation, at, by }) => {
                match by {
                    Some(by) => write!(f, "), which version {by} replaced")?,
                    None => write!(f, "), which was unloaded")?,
                }
                write!(f, " in generation {generation}, {} ago", Ago(at.elapsed()))?;
            }
        }
        write!(f, ", and which was freed {} ago", Ago(past.freed.elapsed()))
    }
}

/// As `Path::display` does, which does not promise that it allocates nothing.
fn write_path(path: &std::path::Path, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let path: &OsStr = path.as_os_str();
    path.as_bytes().utf8_chunks().try_for_each(|chunk| {
        f.write_str(chunk.valid())?;
        if chunk.invalid().is_empty() { Ok(()) } else { f.write_char(char::REPLACEMENT_CHARACTER) }
    })
}

/// A time in seconds, to a millisecond.
struct Ago(Duration);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} s", self.0.as_secs(), self.0.subsec_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(usize);

    impl Names for Named {
        fn at(&self, _: u64) -> Option<(&[u8], u64)> {
            None
        }
        fn bytes(&self) -> usize {
            self.0
        }
    }

    fn past(base: usize, len: u64, bytes: usize) -> Arc<Past> {
        with_regions(base, &[(0, len)], bytes)
    }

    fn with_regions(base: usize, regions: &[(u64, u64)], bytes: usize) -> Arc<Past> {
        let region = |&(offset, len): &_| Region { offset, len, protection: Protection::Read };
        Arc::new(Past {
            module: "module".into(),
            number: 1,
            path: PathBuf::new(),
            end: None,
            base,
            bias: base as u64,
            regions: regions.iter().map(region).collect(),
            names: Some(Box::new(Named(bytes))),
            reservation: Reservation::of_nobody(),
            freed: Instant::now(),
        })
    }

    fn bases(all: &[Arc<Past>]) -> Vec<usize> {
        all.iter().map(|past| past.base).collect()
    }

    #[test]
    fn so_many_are_known_and_so_much_of_them() {
        let mut all = Vec::new();
        (0..1000).for_each(|n| add(&mut all, past(n << 16, 0x1000, 0)));
        assert_eq!(bases(&all), (1000 - COUNT..1000).map(|n| n << 16).collect::<Vec<_>>());
        (0..100).for_each(|n| add(&mut all, past(n << 32, 0x1000, BYTES_OF_ONE)));
        assert_eq!(bases(&all), [96 << 32, 97 << 32, 98 << 32, 99 << 32]);
    }

    #[test]
    fn the_latest_that_had_the_pages_is_known() {
        let mut all = Vec::new();
        for _ in 0..1000 {
            add(&mut all, past(0x10000, 0x2000, 8));
            add(&mut all, past(0x20000, 0x2000, 8));
        }
        assert_eq!(bases(&all), [0x10000, 0x20000]);
        add(&mut all, past(0x11000, 0x1000, 8));
        assert_eq!(bases(&all), [0x10000, 0x20000, 0x11000]);
        add(&mut all, past(0x10000, 0x12000, 8));
        assert_eq!(bases(&all), [0x10000]);
    }

    #[test]
    fn who_had_the_pages_between_those_of_a_later_one_is_known() {
        let mut all = Vec::new();
        add(&mut all, with_regions(0x20000, &[(0, 0x1000), (0x8000, 0x1000)], 8));
        // Its second page is where this one has none.
        add(&mut all, with_regions(0x20000, &[(0, 0x2000), (0x10000, 0x1000)], 8));
        assert_eq!(bases(&all), [0x20000, 0x20000]);
        // Several regions that meet, and one that begins before: all pages of both.
        add(&mut all, with_regions(0x1f000, &[(0, 0x8000), (0x8000, 0x4000), (0xc000, 0x10000)], 8));
        assert_eq!(bases(&all), [0x1f000]);
    }
}
