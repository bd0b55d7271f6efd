//! The one place that chooses between core's atomics and loom's.

#[cfg(not(loom))]
pub(crate) use core::{
    cell::Cell,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence},
};
#[cfg(loom)]
pub(crate) use loom::{
    cell::Cell,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence},
};

/// The ordering of a step that docs/dispatch.md argues: what is written there. A loom model can
/// have the step done with a weaker one, and must then fail.
#[cfg(not(loom))]
macro_rules! ordering {
    ($step:ident, $ordering:ident) => {
        $crate::primitive::Ordering::$ordering
    };
}
#[cfg(loom)]
macro_rules! ordering {
    ($step:ident, $ordering:ident) => {
        $crate::weaken::ordering($crate::weaken::Step::$step, $crate::primitive::Ordering::$ordering)
    };
}
pub(crate) use ordering;

/// The same for a fence, which a model can leave out ("weaken" to Relaxed).
#[cfg(not(loom))]
macro_rules! step_fence {
    ($step:ident, $ordering:ident) => {
        $crate::primitive::fence($crate::primitive::Ordering::$ordering)
    };
}
#[cfg(loom)]
macro_rules! step_fence {
    ($step:ident, $ordering:ident) => {
        $crate::weaken::fence($crate::weaken::Step::$step, $crate::primitive::Ordering::$ordering)
    };
}
pub(crate) use step_fence;
