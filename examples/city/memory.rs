//! What the kernel says of this process: resident memory and mappings.

use midflight::ProcessUsage;

/// Resident memory and number of mappings at one moment.
#[derive(Clone, Copy, Default)]
pub(crate) struct Footprint {
    pub(crate) rss_mb: f64,
    pub(crate) mappings: usize,
}

impl Footprint {
    /// Zeros where the system does not say.
    pub(crate) fn now() -> Self {
        let resident = ProcessUsage::now().map_or(0, |usage| usage.resident);
        Footprint { rss_mb: resident as f64 / f64::from(1 << 20), mappings: mappings() }
    }
}

/// Neighbours without a file and with the same protection are one: the kernel joins them where a
/// heap grows, and an emulator's list does not.
#[cfg(target_os = "linux")]
fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let (mut count, mut before) = (0, None);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, protection) = (words.next().unwrap_or_default(), words.next());
        let (start, end) = range.split_once('-').unwrap_or_default();
        // An offset, a device, an inode, and no name.
        let is_joined = before.replace((end, protection)) == Some((start, protection)) && words.count() == 3;
        count += usize::from(!is_joined);
    }
    count
}

#[cfg(not(target_os = "linux"))]
fn mappings() -> usize {
    region::query_range(std::ptr::null::<u8>(), isize::MAX as usize)
        .map_or(0, |regions| regions.take_while(Result::is_ok).count())
}
