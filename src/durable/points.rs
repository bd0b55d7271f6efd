//! Points between the steps of a commit and of a recovery, at which tests end the process.

use std::sync::OnceLock;

/// All points, in the order in which they are reached: of a start, and of a publication.
pub const ALL: [&str; 7] = ["opened", "put", "begun", "prepared", "committed", "published", "applied"];

static WATCH: OnceLock<fn(&'static str)> = OnceLock::new();

/// Has a function called at each point. Only the first that is given counts.
pub fn watch(at: fn(&'static str)) {
    // Another test of the process has given its own.
    let _ = WATCH.set(at);
}

pub(super) fn reached(point: &'static str) {
    if let Some(at) = WATCH.get() {
        at(point);
    }
}
