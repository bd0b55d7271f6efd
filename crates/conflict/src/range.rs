//! Whether a version is one that will do.

use semver::{Version, VersionReq};

/// Whether a version is within a range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Met {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// It cannot be told, for this reason.
    Unknown(String),
}

/// Whether the version that a module says it is will do for a range, both as Cargo reads them:
/// `1.4` in a range means at least 1.4.0 and less than 2. A version may leave out what is 0 at its
/// end.
pub fn met(declared: Option<&str>, range: &str) -> Met {
    let wanted = match VersionReq::parse(range) {
        Ok(wanted) => wanted,
        Err(error) => return Met::Unknown(format!("`{range}` is no range of versions ({error})")),
    };
    let Some(declared) = declared else { return Met::Unknown("it does not say its version".into()) };
    match version(declared) {
        Some(version) if wanted.matches(&version) => Met::Yes,
        Some(_) => Met::No,
        None => Met::Unknown(format!("its version `{declared}` is not of the form 1.2.3")),
    }
}

/// A version that may leave out its last parts.
pub(crate) fn version(text: &str) -> Option<Version> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let numbers = text.split(['-', '+']).next().unwrap_or(text);
    let missing = 2usize.saturating_sub(numbers.matches('.').count());
    let whole = format!("{numbers}{}{}", ".0".repeat(missing), &text[numbers.len()..]);
    Version::parse(&whole).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_a_range() {
        for (declared, range) in [
            ("2.1.0", ">=2.1, <3"),
            ("2.9", "2.1"),
            ("2", "2"),
            ("v2.0.1", "~2.0"),
            ("1.0.0+local", "1"),
            ("0.3.9", "0.3"),
            ("7", "*"),
        ] {
            assert_eq!(met(Some(declared), range), Met::Yes, "{declared} {range}");
        }
        for (declared, range) in
            [("3.0.0", ">=2.1, <3"), ("2.0", "2.1"), ("0.4", "0.3"), ("1.0-beta", "1"), ("1.9.9", ">2")]
        {
            assert_eq!(met(Some(declared), range), Met::No, "{declared} {range}");
        }
    }

    #[test]
    fn what_cannot_be_told_says_why() {
        let why = |declared, range| match met(declared, range) {
            Met::Unknown(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(Some("1.0"), "new enough").contains("`new enough` is no range"));
        assert!(why(None, "1").contains("does not say"));
        for odd in ["", "r1234", "1.2.3.4", "1..2", "-1", "1.2.x"] {
            assert!(why(Some(odd), "1").contains("not of the form"), "{odd}");
        }
    }
}
