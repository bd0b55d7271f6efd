//! How a thread computes: rounding, subnormal numbers, traps. MXCSR and the x87 control word.

/// Runs code of others, and has the thread compute afterwards as it did before: a constructor of a
/// module that was linked with `-ffast-math` (crtfastmath.o) turns subnormal numbers off, for
/// whatever the thread computes from then on.
pub(crate) fn kept<T>(run: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    {
        struct Before {
            sse: u32,
            x87: u16,
        }
        impl Before {
            fn new() -> Self {
                let mut now = Self { sse: 0, x87: 0 };
                // SAFETY: writes the two.
                unsafe {
                    std::arch::asm!(
                        "stmxcsr [{}]",
                        "fnstcw [{}]",
                        in(reg) &raw mut now.sse,
                        in(reg) &raw mut now.x87,
                        options(nostack, preserves_flags)
                    );
                }
                now
            }
        }
        impl Drop for Before {
            fn drop(&mut self) {
                // SAFETY: what the register had.
                unsafe {
                    std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const self.sse, options(nostack, preserves_flags));
                }
                // No drop of it: that would be this again.
                if std::mem::ManuallyDrop::new(Self::new()).x87 != self.x87 {
                    // SAFETY: as above. An exception that was noted meanwhile is forgotten, as it
                    // may be one that traps now.
                    unsafe {
                        std::arch::asm!(
                            "fnclex",
                            "fldcw [{}]",
                            in(reg) &raw const self.x87,
                            options(nostack, preserves_flags)
                        );
                    }
                }
            }
        }
        let _before = Before::new();
        return run();
    }
    #[allow(unreachable_code, reason = "the other instruction set's twin")]
    run()
}
