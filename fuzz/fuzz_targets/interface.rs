//! Any bytes, as the files of two versions of a module of either machine: what they say of
//! themselves, and how they differ. Files are separated by a line of its own, and so are the
//! versions. Fails on a panic (overflow checks are on), on a version that differs from itself, and
//! on a report that contradicts itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use midflight_image::{Input, Machine};
use midflight_interface::{Aspect, Interface, Report, Verdict};

const FILES: &[u8] = b"\n=next=\n";
const VERSIONS: &[u8] = b"\n=newer=\n";

fuzz_target!(|bytes: &[u8]| {
    let versions = split(bytes, VERSIONS);
    for machine in [Machine::X86_64, Machine::Aarch64] {
        let read = |version: &&[u8]| {
            let files = split(version, FILES);
            let inputs: Vec<_> = files.into_iter().map(|bytes| Input { name: "file", bytes }).collect();
            Interface::read(&inputs, machine).ok()
        };
        let versions: Vec<Interface> = versions.iter().take(2).filter_map(read).collect();
        for older in &versions {
            for newer in &versions {
                let report = older.compare(newer, 5);
                check(&report);
                if std::ptr::eq(older, newer) {
                    assert_eq!(report.count, 0, "{report}");
                }
            }
        }
    }
});

fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let (mut parts, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(separator.len()).position(|window| window == separator) {
        parts.push(&rest[..at]);
        rest = &rest[at + separator.len()..];
    }
    parts.push(rest);
    parts
}

fn check(report: &Report) {
    assert!(report.differences.len() <= 5 && report.count >= report.differences.len());
    assert!(report.differences.is_sorted() && report.to_string().len() < 20_000);
    for aspect in [Aspect::Links, Aspect::Calls, Aspect::State] {
        let breaks = report.differences.iter().any(|found| found.aspect == aspect && !found.compatible);
        if breaks {
            assert_eq!(report.verdict(aspect), Verdict::Incompatible);
        }
    }
}
