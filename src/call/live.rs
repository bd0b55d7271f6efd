//! The process's live table. See `midflight_dispatch::LiveTable`.

use midflight_dispatch::LiveTable;

/// Slots a process can have: 1 MiB of address space in .bss, of which pages are touched as slots come into use.
pub(crate) const MAX_SLOTS: usize = 1 << 17;

/// Its address is the initial value of every thread's table word.
pub(crate) static LIVE: LiveTable<MAX_SLOTS> = LiveTable::new();
