//! The memory of an image: its pages, and what each may finally be used for.

use crate::{Error, Protection, Region};
use alloc::vec::Vec;
use core::ops::Range;

/// The memory that an image takes: [`Image::span`](crate::Image::span) and its neighbours.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) span: u64,
    pub(crate) align: u64,
    pub(crate) regions: Vec<Region>,
}

impl Memory {
    /// None yet.
    pub(crate) fn new(align: u64) -> Self {
        Memory { span: 0, align, regions: Vec::new() }
    }

    /// Puts pages of our own behind everything else, which are only read.
    pub(crate) fn append(&mut self, size: u64, page_size: u64, max_span: u64) -> Result<(), Error> {
        let (offset, len) = (self.span, size.next_multiple_of(page_size));
        self.span = offset.saturating_add(len);
        if self.span > max_span {
            return Err(Error::TooLarge { needed: self.span, limit: max_span });
        }
        self.regions.push(Region { offset, len, protection: Protection::Read });
        Ok(())
    }
}

/// The pages of segments that come from low to high.
pub(crate) struct Pages {
    page_size: u64,
    /// Where the image begins.
    low: u64,
    regions: Vec<Region>,
    /// Where the pages of the segment before end, and what they are.
    previous: Option<(u64, Option<Protection>)>,
}

impl Pages {
    pub(crate) fn new(page_size: u64, low: u64) -> Self {
        Pages { page_size, low, regions: Vec::new(), previous: None }
    }

    /// The pages that a segment has and the one before has not. With one of another protection it
    /// must share none.
    pub(crate) fn of_segment(
        &mut self,
        address: u64,
        end: u64,
        protection: Option<Protection>,
    ) -> Result<Range<u64>, Error> {
        let page_size = self.page_size;
        let (mut start, end) = (address & !(page_size - 1), end.div_ceil(page_size) * page_size);
        if let Some((previous_end, of_previous)) = self.previous
            && previous_end > start
        {
            if of_previous != protection {
                return Err(Error::SharedPage { address, page_size });
            }
            start = previous_end.min(end);
        }
        self.previous = Some((end, protection));
        Ok(start..end)
    }

    /// Equal neighbours are one region. None: nobody may touch these pages.
    pub(crate) fn add(&mut self, pages: Range<u64>, protection: Option<Protection>) {
        let Some(protection) = protection.filter(|_| !pages.is_empty()) else { return };
        let (offset, len) = (pages.start - self.low, pages.end - pages.start);
        match self.regions.last_mut() {
            Some(last) if last.protection == protection && last.offset + last.len == offset => {
                last.len += len
            }
            _ => self.regions.push(Region { offset, len, protection }),
        }
    }

    pub(crate) fn into_regions(self) -> Vec<Region> {
        self.regions
    }
}
