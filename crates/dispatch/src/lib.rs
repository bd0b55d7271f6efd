//! The hot core of midflight: which code a thread calls, and when old code may go.
//!
//! # Words
//!
//! - A **slot** is a process-wide index for one function of one module.
//! - A [`Generation`] is an immutable table of slot targets and what stands behind them (the versions, `P`).
//! - A **pin** marks a thread as inside one generation. All it calls while pinned, in any module, is looked up
//!   in that generation's table.
//! - To **publish** is to swap the current generation; to **retire** one is to keep it until no pin can see it.
//!
//! # The protocol
//!
//! ```text
//! pin (thread)                                publish, then collect (one publisher at a time)
//!   G = current                                 old = swap(current, new)          P1
//!   hazard = G                 R1               heavy barrier                     P2
//!   light barrier              R2               for each thread: read hazard      P3
//!   current still G?           R3               old in no hazard, no share: free  P4
//!     no: start again
//! ```
//!
//! R2 and P2 are the two halves of one asymmetric fence ([`Barrier`]): at least one side sees the other.
//! If R1 came first, P3 reads the hazard and the generation stays. If P1 came first, R3 reads the new current and
//! the thread starts again. A thread that holds G validly therefore always shows in P3, and since G is no longer
//! current nobody can newly obtain it by pinning.
//!
//! A pinned thread may **share** its generation with others ([`Share`]), which is how worker threads join a frame.
//! Shares are counted. P3 comes before the count is read: a thread seen unpinned there has made all the shares
//! it will ever make of a retired generation (its R-exit is a release, P3 an acquire), so from then on the count
//! can only be raised by those who hold one already, and zero stays zero. The reverse order would be wrong: the
//! count could be read as zero just before a pinned thread shares and unpins.
//!
//! The crate has no idea of memory mappings, files or threads of an operating system. `tests/loom.rs` checks
//! the protocol exhaustively for small cases, and that the checker catches it when a barrier is left out.

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod barrier;
mod dispatcher;
mod generation;
mod live;
mod primitive;
mod registry;

pub use barrier::{Barrier, SeqCstFences};
pub use dispatcher::{Dispatcher, Pin, PinnedElsewhere, Publisher, Share};
pub use generation::Generation;
pub use live::LiveTable;
pub use registry::{ThreadBlock, ThreadHandle};
