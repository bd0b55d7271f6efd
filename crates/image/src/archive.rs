//! Static archives: `ar` files, as GNU and BSD tools write them.
//!
//! The index of symbols that an archive may begin with is not read: whoever needs to know what a
//! member defines reads the member.

use crate::Error;
use alloc::vec::Vec;
use object::read::archive::ArchiveFile;

const TABLE: &str = "archive";

/// Whether the file says that it is an archive.
pub(crate) fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(b"!<arch>\n") || bytes.starts_with(b"!<thin>\n")
}

/// A file in an archive.
pub(crate) struct Member<'data> {
    /// Any bytes.
    pub(crate) name: &'data [u8],
    pub(crate) bytes: &'data [u8],
}

/// The files in an archive, in its order.
pub(crate) fn members(bytes: &[u8]) -> Result<Vec<Member<'_>>, Error> {
    let malformed = |problem, at| Error::Malformed { table: TABLE, problem, at };
    let archive = ArchiveFile::parse(bytes).map_err(|_| malformed("its first entries are damaged", 0))?;
    if archive.is_thin() {
        return Err(Error::UnsupportedFile {
            found: "a thin archive, which has only the names of its members",
            advice: "build it without T (ar cr), or give the object files themselves",
        });
    }
    let (mut members, mut names) = (Vec::new(), 0);
    for (index, member) in (0..).zip(archive.members()) {
        let member = member.map_err(|_| malformed("an entry is damaged", index))?;
        let contents = member.data(bytes).map_err(|_| malformed("a member is cut off", index))?;
        // Members may be given one long name; each is read to its end.
        names += member.name().len();
        if names > bytes.len() {
            return Err(malformed("its names are made of one another", index));
        }
        members.push(Member { name: member.name(), bytes: contents });
    }
    Ok(members)
}
