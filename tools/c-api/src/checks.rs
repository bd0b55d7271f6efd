//! What was checked, a line for each.

/// How many passed and failed.
#[derive(Default)]
pub(crate) struct Checks {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Checks {
    pub(crate) fn pass(&mut self, what: &str) {
        println!("pass     {what}");
        self.passed += 1;
    }

    /// `why` is shown as far as 40 lines.
    pub(crate) fn fail(&mut self, what: &str, why: &str) {
        println!("FAIL     {what}");
        self.failed += 1;
        let lines: Vec<&str> = why.lines().take(40).collect();
        indented(&lines.join("\n"));
    }

    pub(crate) fn skip(&self, what: &str) {
        println!("skipped  {what}");
    }

    /// Passes if it does; returns what that gave.
    pub(crate) fn attempt<T>(&mut self, what: &str, check: impl FnOnce() -> Result<T, String>) -> Option<T> {
        match check() {
            Ok(given) => {
                self.pass(what);
                Some(given)
            }
            Err(why) => {
                self.fail(what, &why);
                None
            }
        }
    }

    pub(crate) fn same(&mut self, what: &str, expected: &[String], found: &[String]) {
        self.attempt(what, || same(expected, found));
    }
}

/// # Errors
///
/// What the one has and the other has not, unless they are the same.
pub(crate) fn same(expected: &[String], found: &[String]) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let missing = expected.iter().filter(|line| !found.contains(line)).map(|line| format!("< {line}\n"));
    let more = found.iter().filter(|line| !expected.contains(line)).map(|line| format!("> {line}\n"));
    let differences: String = missing.chain(more).collect();
    Err(if differences.is_empty() {
        "the same lines in another order, or another number".into()
    } else {
        differences
    })
}

/// Below the line of a check.
pub(crate) fn indented(text: &str) {
    for line in text.lines() {
        println!("         {line}");
    }
}
