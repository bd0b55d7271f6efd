//! Code memory: reserved arenas, blocks that are written once and then sealed, and the two ways to write them.
//!
//! A block goes one way: `Draft` (writable, not executable) -> `Block` (each region with its final protection)
//! -> dropped (inaccessible, its memory free). No page is ever writable and executable.

mod arena;
mod backing;

pub(crate) use arena::{Block, CodeMemory, MAX_BLOCK};
pub use backing::Backing;
