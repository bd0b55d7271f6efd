//! Names of symbols as their authors wrote them, as far as that takes no memory.

use std::fmt;

/// A symbol's name. Of C++ and of Rust's older scheme the simple names are written as in the source
/// (`_ZN6Zombie5speedEv` is `Zombie::speed`), and all others as they are: `c++filt` and `rustfilt`
/// know them.
pub(crate) struct Name<'n>(pub(crate) &'n [u8]);

/// The parts of a name that has no more than these.
const PARTS: usize = 16;

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = std::str::from_utf8(self.0).unwrap_or("(a name that is not UTF-8)");
        let mut parts = [""; PARTS];
        let Some(count) = split(plain, &mut parts) else { return f.write_str(plain) };
        for (at, part) in parts[..count].iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "::" })?;
            f.write_str(part)?;
        }
        Ok(())
    }
}

/// The source names of a mangled one (Itanium C++ ABI, 5.1: `<nested-name>` and `<unscoped-name>`),
/// without qualifiers, parameters and the hash of Rust's. None if it has anything else.
fn split<'n>(name: &'n str, parts: &mut [&'n str; PARTS]) -> Option<usize> {
    let rest = name.strip_prefix("_Z")?;
    let (mut rest, nested) = match rest.strip_prefix('N') {
        Some(rest) => (rest.trim_start_matches(['r', 'V', 'K']), true),
        None => (rest, false),
    };
    let mut count = 0;
    loop {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let length: usize = rest[..digits].parse().ok()?;
        let part = rest[digits..].get(..length)?;
        *parts.get_mut(count)? = part;
        count += 1;
        rest = &rest[digits + length..];
        if !nested || rest.starts_with('E') {
            break;
        }
    }
    let is_hash = |part: &str| part.len() == 17 && part.starts_with('h');
    if count > 1 && is_hash(parts[count - 1]) {
        count -= 1;
    }
    // An argument list of a template belongs to the name.
    (!rest.starts_with('I')).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn names_are_written_as_in_the_source() {
        let cases = [
            ("step", "step"),
            ("_ZN6Zombie5speedEv", "Zombie::speed"),
            ("_ZNK1a1b1cEi", "a::b::c"),
            ("_Z4stepPfS_", "step"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
            // Constructors, templates and operators stay as they are.
            ("_ZN6ZombieC1Ev", "_ZN6ZombieC1Ev"),
            ("_ZN1aI1bE1cEv", "_ZN1aI1bE1cEv"),
            ("_Z3maxIiET_S0_", "_Z3maxIiET_S0_"),
            ("_ZTV6Zombie", "_ZTV6Zombie"),
            ("_ZN99zE", "_ZN99zE"),
            ("_Z", "_Z"),
            ("_ZN1\u{e9}E", "_ZN1\u{e9}E"),
        ];
        for (name, expected) in cases {
            assert_eq!(Name(name.as_bytes()).to_string(), expected);
        }
        let deep = format!("_ZN{}E", "1a".repeat(20));
        assert_eq!(Name(deep.as_bytes()).to_string(), deep);
    }
}
