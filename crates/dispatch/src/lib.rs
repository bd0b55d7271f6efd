//! The hot core of midflight: which code a thread calls, and when old code may go.
//!
//! # Words
//!
//! - A **slot** is a process-wide index for one function of one module.
//! - A [`Generation`] is an immutable table of slot targets and what stands behind them (the
//!   versions, `P`).
//! - A **pin** marks a thread as inside one generation. All it calls while pinned, in any module,
//!   is looked up in that generation's table.
//! - To **publish** is to swap the current generation; to **retire** one is to keep it until no pin
//!   can see it.
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
//!   acquire fence              R4
//! ```
//!
//! R2 and P2 are the two halves of one asymmetric fence ([`Barrier`]): at least one side sees the
//! other. If R1 came first, P3 reads the hazard and the generation stays. If P1 came first, R3
//! reads the new current and the thread starts again. A pinned thread may **share** its generation
//! ([`Share`]), which is how worker threads join a frame.
//!
//! `docs/dispatch.md` in the repository argues every step, each ordering with its partner, and
//! proves when memory may go. `tests/loom/` explores the protocol for small cases, and shows that
//! each ordering is missed when it is weakened. The crate has no idea of memory mappings, files or
//! threads of an operating system.

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod barrier;
mod dispatcher;
mod epoch;
mod generation;
mod live;
mod part;
mod pause;
mod primitive;
mod registry;
#[cfg(loom)]
pub mod weaken;

pub use barrier::{Barrier, SeqCstFences};
pub use dispatcher::{Dispatcher, Pin, PinnedElsewhere, Publisher, Share};
pub use epoch::CodeEpoch;
pub use generation::Generation;
pub use live::LiveTable;
pub use part::Part;
pub use pause::{Begin, Pause};
pub use registry::{ThreadBlock, ThreadHandle};
