//! Where the stack of a stopped thread is.

use std::ops::Range;

use super::Why;
use crate::platform::os::stop::Stopped;

/// More than this of a stack is not read: 64 MiB.
const MOST: usize = 64 << 20;

/// The readable mappings of the process, by address.
pub(super) struct Stacks {
    mappings: Box<[Mapping]>,
}

struct Mapping {
    start: usize,
    end: usize,
    /// The kernel made it as the first thread's stack.
    is_main: bool,
}

impl Stacks {
    /// From the text of /proc/self/maps.
    pub(super) fn parse(maps: &str) -> Self {
        let hex = |text: &str| usize::from_str_radix(text, 16).ok();
        let mapping = |line: &str| {
            let (place, rest) = line.split_once(' ')?;
            let (start, end) = place.split_once('-')?;
            let (start, end) = (hex(start)?, hex(end)?);
            // The kernel's half, where x86-64 lists [vsyscall], has no stacks.
            let wanted = rest.starts_with('r') && end.leading_zeros() > 0;
            wanted.then_some(Mapping { start, end, is_main: line.ends_with("[stack]") })
        };
        Self { mappings: maps.lines().filter_map(mapping).collect() }
    }

    /// The end of the last.
    pub(super) fn highest(&self) -> usize {
        self.mappings.last().map_or(0, |mapping| mapping.end)
    }

    /// The whole of its own stack, of a thread that is on another.
    pub(super) fn own(&self, thread_pointer: usize, is_main: bool) -> Result<Range<usize>, Why> {
        let own = if is_main {
            self.mappings.iter().find(|mapping| mapping.is_main).map(|mapping| mapping.start..mapping.end)
        } else {
            let mapping = self.mappings.partition_point(|mapping| mapping.end < thread_pointer);
            let mapping = self.mappings.get(mapping).filter(|mapping| mapping.start <= thread_pointer);
            mapping.map(|mapping| mapping.start..thread_pointer)
        };
        let own = own.ok_or(Why::OtherStack)?;
        // Much more than a stack is, where the system has put it into one mapping with something
        // else.
        if own.len() > MOST { Err(Why::TooDeep) } else { Ok(own) }
    }

    /// The part of its own stack that a stopped thread uses, if that is where it is.
    /// Async-signal-safe.
    ///
    /// The first thread's stack ends with the kernel's mapping. Any other's lies below its thread
    /// pointer, in one mapping with it: glibc and musl place a thread's control block at the
    /// upper end of its stack, also of one that the program gave it (pthread_attr_setstack). Up
    /// to there all is in use by this thread, or was before; so none of it goes away while it is
    /// read, and nothing that lies above by chance is read.
    pub(super) fn rest(&self, thread: &Stopped, is_main: bool) -> Result<Range<usize>, Why> {
        let at = thread.stack_pointer;
        if thread.in_handler {
            return Err(Why::InHandler);
        }
        let mapping = self.mappings.partition_point(|mapping| mapping.end < at);
        let mapping =
            self.mappings.get(mapping).filter(|mapping| mapping.start <= at).ok_or(Why::OtherStack)?;
        let end = match mapping {
            Mapping { is_main: true, end, .. } if is_main => *end,
            Mapping { is_main: false, end, .. }
                if !is_main && (at..=*end).contains(&thread.thread_pointer) =>
            {
                thread.thread_pointer
            }
            _ => return Err(Why::OtherStack),
        };
        let start = at.saturating_sub(thread.red_zone).max(mapping.start);
        if end - start > MOST { Err(Why::TooDeep) } else { Ok(start..end) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_of_a_stack_that_is_used() {
        const MAPS: &str = "\
            10000-20000 rw-p 00000000 00:00 0 \n\
            20000-30000 ---p 00000000 00:00 0 \n\
            30000-40000 rw-p 00000000 00:00 0 \n\
            40000-50000 rw-p 00000000 00:00 0 \n\
            10000000-20000000 rw-p 00000000 00:00 0 \n\
            7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]\n\
            ffffffffff600000-ffffffffff601000 r-xp 00000000 00:00 0                  [vsyscall]\n";
        let stacks = Stacks::parse(MAPS);
        assert_eq!(stacks.highest(), 0x7ffc_0002_1000);
        let at = |stack_pointer, thread_pointer| Stopped {
            registers: 0..0,
            stack_pointer,
            red_zone: 128,
            thread_pointer,
            in_handler: false,
        };
        let rest = |stack, thread| stacks.rest(&at(stack, thread), false);
        assert_eq!(rest(0x3_8000, 0x3_F000), Ok(0x3_8000 - 128..0x3_F000));
        // The red zone ends where the stack does.
        assert_eq!(rest(0x3_0000, 0x3_F000), Ok(0x3_0000..0x3_F000));
        assert_eq!(rest(0x4_0000, 0x4_0000).map(|rest| rest.end), Ok(0x4_0000));
        for (stack, thread) in
            [(0x2_8000, 0x3_F000), (0x3_8000, 0x4_8000), (0x3_8000, 0x3_7000), (0x60000, 0x60010)]
        {
            assert_eq!(rest(stack, thread), Err(Why::OtherStack), "{stack:x} {thread:x}");
        }
        assert_eq!(rest(0x1000_0000, 0x1FFF_0000), Err(Why::TooDeep));
        assert_eq!(
            stacks.rest(&Stopped { in_handler: true, ..at(0x3_8000, 0x3_F000) }, false),
            Err(Why::InHandler)
        );
        // The first thread's ends where the kernel's mapping does, and it is on no other.
        let first = 0x7ffc_0002_0000;
        assert_eq!(stacks.rest(&at(first, 0x3_F000), true), Ok(first - 128..0x7ffc_0002_1000));
        assert_eq!(stacks.rest(&at(first, 0x3_F000), false), Err(Why::OtherStack));
        assert_eq!(stacks.rest(&at(0x3_8000, 0x3_F000), true), Err(Why::OtherStack));
    }
}
