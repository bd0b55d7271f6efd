//! How a thread computes: rounding, subnormal numbers, traps. FPCR and FPSR.

/// Runs code of others, and has the thread compute afterwards as it did before: a constructor of a
/// module that was linked with `-ffast-math` (crtfastmath.o) turns subnormal numbers off, for
/// whatever the thread computes from then on.
pub(crate) fn kept<T>(run: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "aarch64")]
    {
        struct Before {
            control: u64,
            status: u64,
        }
        impl Drop for Before {
            fn drop(&mut self) {
                // SAFETY: what the registers had.
                unsafe {
                    std::arch::asm!(
                        "msr fpcr, {}",
                        "msr fpsr, {}",
                        in(reg) self.control,
                        in(reg) self.status,
                        options(nostack, preserves_flags)
                    );
                }
            }
        }
        let mut before = Before { control: 0, status: 0 };
        // SAFETY: reads the two.
        unsafe {
            std::arch::asm!(
                "mrs {}, fpcr",
                "mrs {}, fpsr",
                out(reg) before.control,
                out(reg) before.status,
                options(nostack, preserves_flags)
            );
        }
        let _before = before;
        return run();
    }
    #[allow(unreachable_code, reason = "the other instruction set's twin")]
    run()
}
