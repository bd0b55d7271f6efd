//! Any bytes, as the notes in which a module says what it is, its states and its conflicts. What
//! is read is written again and must be read alike; ranges of versions are compared with the
//! version. The first byte is the alignment.
#![no_main]

use libfuzzer_sys::fuzz_target;
use midflight_conflict::{Met, met};
use midflight_image::fuzzing::{Said, notes};

fuzz_target!(|bytes: &[u8]| {
    let Some((align, bytes)) = bytes.split_first() else { return };
    let Some(said) = notes(bytes, u64::from(*align)) else { return };
    for state in &said.states {
        assert!(!state.name.is_empty() && !state.name.contains('\0'));
        assert_eq!(said.states.iter().filter(|other| other.name == state.name).count(), 1);
    }
    for (module, range) in &said.ranges {
        assert!(said.needs.contains(module));
        if said.version.is_none() {
            assert!(matches!(met(None, range), Met::Unknown(_)));
        }
        // A version that is named exactly will do, if it is one.
        if let Some(version) = said.version
            && met(Some(version), range) == Met::Yes
            && !version.contains(['-', '+', 'v'])
            && version.matches('.').count() == 2
        {
            assert_eq!(met(Some(version), &format!("={version}")), Met::Yes);
        }
    }
    let written = write(&said);
    let mut again = notes(&written, 4).expect("what was read can be read");
    // Needs are written behind those that have ranges.
    let mut said = said;
    again.needs.sort_unstable();
    said.needs.sort_unstable();
    assert_eq!(format!("{again:?}"), format!("{said:?}"));
});

fn write(said: &Said<'_>) -> Vec<u8> {
    let mut written = Vec::new();
    let mut note = |n_type: u32, descriptor: Vec<u8>| {
        for word in [10, descriptor.len() as u32, n_type] {
            written.extend(word.to_le_bytes());
        }
        written.extend(b"midflight\0\0\0");
        written.extend(&descriptor);
        written.resize(written.len().next_multiple_of(4), 0);
    };
    let text = |text: &str| [text.as_bytes(), b"\0"].concat();
    said.name.into_iter().for_each(|name| note(1, text(name)));
    said.version.into_iter().for_each(|version| note(2, text(version)));
    let mut needs = said.needs.clone();
    for (module, range) in &said.ranges {
        let at = needs.iter().position(|need| need == module).expect("a range is of what is needed");
        needs.remove(at);
        note(16, [text(module), text(range)].concat());
    }
    needs.iter().for_each(|module| note(3, text(module)));
    said.exclusive.iter().for_each(|of| note(17, text(of)));
    for state in &said.states {
        let words = [state.schema, state.size as u32, (state.size >> 32) as u32];
        let words = words.into_iter().flat_map(u32::to_le_bytes);
        note(4, words.chain(text(state.name)).collect());
    }
    written
}
