//! What is called when the module comes and goes, and in which order.
//!
//! Entries with a number are called by number, the lowest first, then those without, each kind in
//! the order of the files. The older `.ctors` counts down from 65535 and is called from its end;
//! GNU ld puts it into `.init_array` that way (its default script, SORT_BY_INIT_PRIORITY), so it is
//! done so here.

use crate::linking::calls::{Calls, LAST, Turn};
use object::elf;

/// Whether a section is an array of functions to call.
pub(super) fn of(name: &str, sh_type: u32) -> Option<Turn> {
    let known = [
        (".init_array", Calls::Init, false),
        (".fini_array", Calls::Fini, false),
        (".ctors", Calls::Init, true),
        (".dtors", Calls::Fini, true),
    ];
    for (prefix, calls, old) in known {
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        let number = rest.strip_prefix('.').and_then(|digits| digits.parse::<u16>().ok()).map(u32::from);
        if rest.is_empty() || number.is_some() {
            let priority =
                number.map_or(LAST, |number| if old { u32::from(u16::MAX) - number } else { number });
            return Some(Turn { calls, priority, backwards: old });
        }
    }
    match sh_type {
        elf::SHT_INIT_ARRAY => Some(Turn { calls: Calls::Init, priority: LAST, backwards: false }),
        elf::SHT_FINI_ARRAY => Some(Turn { calls: Calls::Fini, priority: LAST, backwards: false }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let turn = |name| of(name, elf::SHT_PROGBITS);
        let expected = |calls, priority, backwards| Some(Turn { calls, priority, backwards });
        assert_eq!(turn(".init_array"), expected(Calls::Init, LAST, false));
        assert_eq!(turn(".init_array.00101"), expected(Calls::Init, 101, false));
        assert_eq!(turn(".fini_array.65535"), expected(Calls::Fini, 65535, false));
        assert_eq!(turn(".ctors.65434"), expected(Calls::Init, 101, true));
        assert_eq!(turn(".dtors"), expected(Calls::Fini, LAST, true));
        for other in [".init", ".init_arrays", ".ctors.x", ".init_array.65536", ".text"] {
            assert_eq!(turn(other), None, "{other}");
        }
        assert_eq!(of("mine", elf::SHT_INIT_ARRAY), expected(Calls::Init, LAST, false));
    }
}
