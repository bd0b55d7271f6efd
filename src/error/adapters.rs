//! Callers of a function that were built against something else than it is.

use std::fmt;

/// Nothing does as a function that somebody was built against: it has another signature, or is
/// gone, and there is no adapter ([`Runtime::add_adapter`](crate::Runtime::add_adapter)).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NoAdapter {
    /// The module of the function.
    pub module: String,
    /// The function.
    pub symbol: String,
    /// The signature that the callers were built against.
    pub signature: String,
    /// The one that it has. None: it is gone.
    pub is: Option<String>,
    /// Who calls it.
    pub callers: Vec<String>,
}

impl fmt::Display for NoAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { module, symbol, signature, is, callers } = self;
        let is = match is {
            Some(is) => format!("is `{is}`"),
            None => "is gone".into(),
        };
        let were = if callers.len() == 1 { "was" } else { "were" };
        write!(
            f,
            "`{symbol}` of {module} {is}, and {} {were} built against `{signature}`, for which there is no adapter: add one, or load new \
             versions of the callers with it",
            callers.join(", ")
        )
    }
}
