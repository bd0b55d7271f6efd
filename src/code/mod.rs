//! Code memory: reserved arenas, blocks that are written once and then sealed, and the ways to
//! write them.
//!
//! A block goes one way: `Draft` (writable, not executable) -> `Sealed` (each region with its final
//! protection, known to nobody) -> `Block` (others may be inside) -> freed (nothing of it is left
//! in memory; its pages inaccessible and free, or kept mapped for the next block of the same
//! shape). No thread can write to a page while it can execute it.

mod arena;
mod backing;

pub(crate) use arena::{Block, CodeMemory, Draft, MAX_BLOCK, Reservation, Sealed, Shape, hold_back};
pub use backing::Backing;
