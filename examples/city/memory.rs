//! What the kernel says of this process: resident memory and mappings.

use std::fs;

/// Resident memory and number of mappings at one moment.
#[derive(Clone, Copy, Default)]
pub(crate) struct Footprint {
    pub(crate) rss_mb: f64,
    pub(crate) mappings: usize,
}

impl Footprint {
    /// Reads /proc. Zeros where there is none.
    pub(crate) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let rss_kb = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse::<f64>().ok());
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        Footprint { rss_mb: rss_kb.unwrap_or(0.0) / 1024.0, mappings: maps.lines().count() }
    }
}
