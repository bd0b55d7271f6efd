//! Exceptions through loaded code: where a version's call frame information is. `os::unwind` tells
//! the unwinder of it.

use std::borrow::Cow;

use midflight_image::{Error as ImageError, Image, Protection, Region, Unwind, unwind};

/// Where a version's call frame information will be.
///
/// libgcc reads a section up to a record of length 0, which crtend.o brings. A module that is
/// linked with -nostartfiles may have none (lld writes one, GNU ld does not), and then what follows
/// is whatever follows; so such a section is copied behind the image, where there is room for the
/// four bytes.
pub(crate) struct Plan {
    section: Option<Unwind>,
    copy: Option<Region>,
}

const TERMINATOR: usize = 4;

impl Plan {
    pub(crate) fn of(image: &Image<'_>, page_size: usize) -> Self {
        let section = image.unwind();
        let copy = section.filter(|section| !section.terminated).map(|section| Region {
            offset: image.span(),
            len: (section.size + TERMINATOR as u64).next_multiple_of(page_size as u64),
            protection: Protection::Read,
        });
        Self { section, copy }
    }

    /// The image's regions, and the copy's.
    pub(crate) fn regions<'i>(&self, image: &'i Image<'_>) -> Cow<'i, [Region]> {
        match self.copy {
            None => Cow::Borrowed(image.regions()),
            Some(copy) => Cow::Owned(image.regions().iter().copied().chain([copy]).collect()),
        }
    }

    /// Bytes of memory for both.
    pub(crate) fn len(&self, image: &Image<'_>) -> usize {
        (image.span() + self.copy.map_or(0, |copy| copy.len)) as usize
    }

    /// Checks the section in the linked memory, of that length, and makes the copy. Returns the
    /// offset of what the unwinder is to read, if it describes any function.
    pub(crate) fn finish(
        &self,
        image: &Image<'_>,
        base: u64,
        memory: &mut [u8],
    ) -> Result<Option<usize>, ImageError> {
        let Some(Unwind { offset, size, .. }) = self.section else { return Ok(None) };
        let code = base..base + memory.len() as u64;
        let (linked, behind) = memory.split_at_mut(image.span() as usize);
        let section = image.content(linked, offset, size);
        if unwind::check(section, base + offset, code)? == 0 {
            return Ok(None);
        }
        let Some(copy) = self.copy else { return Ok(Some(offset as usize)) };
        let behind = &mut behind[..section.len()];
        behind.copy_from_slice(section);
        unwind::shift(behind, copy.offset as i64 - offset as i64)?;
        Ok(Some(copy.offset as usize))
    }
}

/// Runs code of a module that nothing may be thrown out of: what the runtime is in the middle of
/// cannot be left so. With dlopen it is the same.
///
/// An exception that nobody further up would catch ends the process where it is thrown
/// (`std::terminate`), with its own message; any other ends it here.
pub(crate) fn contain<T>(what: &str, run: impl FnOnce() -> T) -> T {
    struct End<'w>(&'w str);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            eprintln!("midflight: an exception left {} of a module, where nobody can catch it", self.0);
            std::process::abort();
        }
    }
    let end = End(what);
    let result = run();
    std::mem::forget(end);
    result
}
