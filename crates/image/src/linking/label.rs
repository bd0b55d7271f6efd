//! What messages call a file of a link.

use crate::Error;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

/// What messages call a file: nothing, where it is the only one and its caller knows which.
#[derive(Clone, Copy, Default)]
pub(crate) struct Label<'data> {
    pub(crate) file: &'data str,
    /// Of an archive.
    pub(crate) member: Option<&'data [u8]>,
    /// There is another.
    pub(crate) needed: bool,
}

/// The error for a name that two files define.
pub(crate) fn duplicate(name: &[u8], first: Label<'_>, second: Label<'_>) -> Error {
    Error::DuplicateSymbol { symbol: crate::error::label(name), first: first.text(), second: second.text() }
}

impl Label<'_> {
    pub(crate) fn text(&self) -> String {
        match self.member {
            None => crate::error::label(self.file),
            Some(member) => format!("{}({})", crate::error::label(self.file), crate::error::label(member)),
        }
    }

    /// The error, saying in which file it is.
    pub(crate) fn blame(&self, error: Error) -> Error {
        if self.needed { Error::InFile { file: self.text(), error: Box::new(error) } } else { error }
    }
}
