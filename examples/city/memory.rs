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

#[cfg(target_os = "linux")]
fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count())
}

#[cfg(not(target_os = "linux"))]
fn mappings() -> usize {
    region::query_range(std::ptr::null::<u8>(), isize::MAX as usize)
        .map_or(0, |regions| regions.take_while(Result::is_ok).count())
}
