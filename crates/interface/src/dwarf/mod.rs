//! Debug information (DWARF 4 and 5): read once from front to back into [`Raw`], then joined and
//! made small.
//!
//! Nothing recurses and nothing is read twice, whatever the information says: hostile information
//! costs no more time or memory than a multiple of its size.

mod attributes;
mod build;
mod data;
mod entries;
mod merge;
mod units;

use gimli::{EndianSlice, LittleEndian};
use midflight_image::debug::DebugInfo;

pub(crate) use build::{Build, Found, Wanted};
pub(crate) use data::{Data, Placed, Storage};
pub(crate) use entries::Raw;

type Slice<'d> = EndianSlice<'d, LittleEndian>;

/// Why debug information cannot be used.
pub(crate) type Reason = &'static str;

const DAMAGED: Reason = "it is damaged";
const UNKNOWN: Reason = "it is in a version or form of DWARF that is not known";
const SPLIT: Reason = "it is in .dwo files: build the module without -gsplit-dwarf";
const NAMES: Reason = "its names are made of one another";

fn reason(error: gimli::Error) -> Reason {
    use gimli::Error;
    match error {
        Error::UnknownForm(_) | Error::UnknownVersion(_) | Error::UnsupportedAddressSize(_) => UNKNOWN,
        _ => DAMAGED,
    }
}

/// The sections that are read.
#[derive(Clone, Copy)]
struct Sections<'d> {
    info: &'d [u8],
    types: &'d [u8],
    abbreviations: &'d [u8],
    strings: &'d [u8],
    line_strings: &'d [u8],
    string_offsets: &'d [u8],
    addresses: &'d [u8],
    lines: &'d [u8],
}

impl<'d> Sections<'d> {
    fn of(debug: &'d DebugInfo<'_>) -> Self {
        Self {
            info: debug.section(".debug_info"),
            types: debug.section(".debug_types"),
            abbreviations: debug.section(".debug_abbrev"),
            strings: debug.section(".debug_str"),
            line_strings: debug.section(".debug_line_str"),
            string_offsets: debug.section(".debug_str_offsets"),
            addresses: debug.section(".debug_addr"),
            lines: debug.section(".debug_line"),
        }
    }
}

/// A string that ends with a zero byte. Many places may name one that is long: of it so much is
/// taken.
fn string_at(section: &[u8], at: usize) -> &[u8] {
    const LONGEST: usize = 4096;
    let rest = section.get(at..).unwrap_or_default();
    let rest = &rest[..rest.len().min(LONGEST)];
    rest.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// What follows the last slash.
fn last_part(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}
