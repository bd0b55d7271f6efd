//! Which files are part of a link: the object files, and of the members of archives what is needed.

use super::label::Label;
use crate::{Error, Input, archive};
use alloc::vec::Vec;

/// The number of no member.
pub(crate) const NONE: u32 = u32::MAX;

/// The object files, and the members of all archives.
pub(crate) fn read<'data, File>(
    inputs: &[Input<'data>],
    parse: impl Fn(Label<'data>, &'data [u8]) -> Result<File, Error>,
) -> Result<(Vec<File>, Vec<File>), Error> {
    let (mut objects, mut members) = (Vec::new(), Vec::new());
    for input in inputs {
        let label = Label { file: input.name, member: None, needed: inputs.len() > 1 };
        if !archive::is_archive(input.bytes) {
            objects.push(parse(label, input.bytes)?);
            continue;
        }
        for member in archive::members(input.bytes).map_err(|error| label.blame(error))? {
            members.push(parse(Label { member: Some(member.name), needed: true, ..label }, member.bytes)?);
        }
    }
    Ok((objects, members))
}

/// What a format's files define, and what they need.
pub(crate) trait Resolve {
    type File;
    /// A file that was read, and may become part of the link.
    type Candidate;

    fn read(&mut self, file: Self::File) -> Result<Self::Candidate, Error>;

    /// Whether the file defines something a second time that may be defined once, and nothing
    /// better than it is. (One that defines nothing, or only what any file may have, may still
    /// have constructors.)
    fn only_repeats(&self, candidate: &Self::Candidate) -> Result<bool, Error>;

    /// Notes what the member of this number defines. Of several that define a name, the first
    /// counts.
    fn offer(&mut self, candidate: &Self::Candidate, number: u32) -> Result<(), Error>;

    /// Makes it part of the link.
    fn add(&mut self, candidate: Self::Candidate) -> Result<(), Error>;

    /// The member that defines what was needed as the so-many-eth; [`NONE`] if none does, or
    /// somebody has defined it since. Nothing, if not so much was needed.
    fn offered(&self, needed: usize) -> Option<u32>;
}

/// Makes `objects` the files of the link, and of `members` what is needed, until nothing more is.
/// Where there are no object files, nothing says what is needed: then all members are (as with
/// `--whole-archive` and `-all_load`), but for those that only define again what an earlier one has
/// defined, which a linker takes for an error.
pub(crate) fn resolve<R: Resolve>(
    resolver: &mut R,
    objects: Vec<R::File>,
    members: Vec<R::File>,
) -> Result<(), Error> {
    let whole = objects.is_empty();
    for file in objects {
        let candidate = resolver.read(file)?;
        resolver.add(candidate)?;
    }
    let mut candidates = Vec::with_capacity(members.len());
    for file in members {
        let candidate = resolver.read(file)?;
        if !whole {
            resolver.offer(&candidate, candidates.len() as u32)?;
            candidates.push(Some(candidate));
        } else if !resolver.only_repeats(&candidate)? {
            resolver.add(candidate)?;
        }
    }
    let mut next = 0;
    while let Some(offered) = resolver.offered(next) {
        next += 1;
        if let Some(candidate) = candidates.get_mut(offered as usize).and_then(Option::take) {
            resolver.add(candidate)?;
        }
    }
    Ok(())
}
