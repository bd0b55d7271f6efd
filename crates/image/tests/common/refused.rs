//! A good module, what is done to it, and what is to be said of it then.

use super::*;
use midflight_image::{Error, Image};
use std::sync::OnceLock;

pub fn refusal_at(module: &[u8], machine: Machine, page_size: u64) -> Error {
    let error = Image::parse(module, machine, page_size, MAX_SPAN).expect_err("this is to be refused");
    let text = error.to_string();
    assert!(text.len() < 600 && text.contains(": "), "says what to do: {text}");
    assert!(!text.contains("  ") && !text.ends_with('.'), "{text}");
    error
}

pub fn refusal(module: &[u8], machine: Machine) -> Error {
    refusal_at(module, machine, 4096)
}

pub fn says(error: &Error, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "`{word}` in: {text}");
    }
}

pub fn malformed(error: &Error, problem: &str) {
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    says(error, &[problem]);
}

/// A module that is easily damaged: imports, every table, a soname whose entry can be put to other
/// use.
pub fn good(machine: Machine) -> Vec<u8> {
    static MODULES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let modules = MODULES.get_or_init(|| BOTH.map(|machine| rich(machine, &["-Wl,--hash-style=both"])));
    modules[machine as usize].clone()
}

/// The good module, changed in one place.
pub fn damaged(machine: Machine, change: impl FnOnce(&mut Vec<u8>)) -> Error {
    let mut bytes = good(machine);
    assert!(Image::parse(&bytes, machine, 4096, MAX_SPAN).is_ok());
    change(&mut bytes);
    refusal(&bytes, machine)
}
