//! Levels of the processor, which files for AArch64 say nothing of. x86-64's twin has some.

/// None.
pub(crate) fn levels() -> u32 {
    0
}
