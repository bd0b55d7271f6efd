//! Sections of a link: what stands together in the image, and with which protection.

use super::calls::Turn;
use crate::Protection;

/// What stands together in the image, in the order in which it stands there.
///
/// Code is not first, because libgcc takes a function at a multiple of 4 GiB for one that a linker
/// has discarded, if its call frame information has 4-byte addresses (`unwind-dw2-fde.c`, "ignore
/// link-once functions"); and such numbers are popular as addresses of images.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Part {
    Constants,
    /// Call frame information.
    Frames,
    /// Written by fix-ups and then read-only.
    Relocated,
    /// Ours: the global offset table.
    Table,
    /// The initial contents of thread-local variables.
    Template,
    /// Those that begin as zero; they take no room.
    TemplateZero,
    Code,
    /// Ours: jumps to code that is far away.
    Stubs,
    Variables,
    /// Variables that begin as zero, common blocks among them.
    Zero,
}

impl Part {
    pub(crate) const ALL: [Part; 10] = [
        Part::Constants,
        Part::Frames,
        Part::Relocated,
        Part::Table,
        Part::Template,
        Part::TemplateZero,
        Part::Code,
        Part::Stubs,
        Part::Variables,
        Part::Zero,
    ];

    pub(crate) fn protection(self) -> Protection {
        match self {
            Part::Code | Part::Stubs => Protection::ReadExecute,
            Part::Variables | Part::Zero => Protection::ReadWrite,
            _ => Protection::Read,
        }
    }

    pub(crate) fn thread_local(self) -> bool {
        matches!(self, Part::Template | Part::TemplateZero)
    }
}

/// What becomes of a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Kept(Part),
    /// Another file's is used (COMDAT).
    Discarded,
    /// Not part of a program's memory.
    NotLoaded,
}

/// A section of the link: of a file, or one of our own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'data> {
    pub(crate) state: State,
    /// From the start of the image. A thread-local one's distance from the template's start is that
    /// in the block.
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) align: u64,
    /// As many as `size`, or none at all.
    pub(crate) bytes: &'data [u8],
    pub(crate) role: Role,
}

/// What the name of a section means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Plain,
    /// Stands together with all others of its name, which code can find the bounds of.
    Set,
    Calls(Turn),
}

impl Section<'_> {
    pub(crate) const fn own(part: Part) -> Self {
        Section { state: State::Kept(part), offset: 0, size: 0, align: 1, bytes: &[], role: Role::Plain }
    }

    /// Makes it longer, and returns where the new part is. What is too long stays too long.
    pub(crate) fn append(&mut self, size: u64, align: u64) -> u64 {
        let at = self.size.checked_next_multiple_of(align).unwrap_or(u64::MAX);
        self.size = at.saturating_add(size);
        self.align = self.align.max(align);
        at
    }

    pub(crate) fn part(&self) -> Option<Part> {
        match self.state {
            State::Kept(part) => Some(part),
            State::Discarded | State::NotLoaded => None,
        }
    }
}
