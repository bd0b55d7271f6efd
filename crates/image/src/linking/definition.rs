//! What the symbols of a link stand for, and how they are used.

use super::section::Section;

/// What a symbol stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Definition {
    /// A place in a section of the link that is kept.
    Section(Spot),
    /// A number that no image's address is added to.
    Absolute(u64),
    /// Nothing in this link; it is imported if it is used.
    Elsewhere,
    /// This import.
    Import(u32),
    /// A place in a section that is not kept.
    Gone { discarded: bool },
}

/// A place in a section of the link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Spot {
    pub(crate) section: u32,
    pub(crate) value: u64,
}

impl Spot {
    /// Where it is, from the start of the image.
    #[inline]
    pub(crate) fn offset(self, sections: &[Section<'_>]) -> u64 {
        sections[self.section as usize].offset.wrapping_add(self.value)
    }
}

/// How a symbol is used; the later says more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Used {
    No,
    Somehow,
    AsFunction,
    AsThreadLocal,
}
