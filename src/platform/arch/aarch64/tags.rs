//! Tags of memory (FEAT_MTE): a load whose address has another tag than the memory faults, where
//! the program has asked for that.

/// Runs a function that reads memory whatever its tags are: addresses that were not made by who
/// tagged it have none. Async-signal-safe. (A handler begins with the checks on:
/// Documentation/arch/arm64/memory-tagging-extension.rst in Linux.)
pub(crate) fn ignored<T>(run: impl FnOnce() -> T) -> T {
    #[cfg(all(target_arch = "aarch64", target_os = "linux"))]
    {
        /// HWCAP2_MTE of arch/arm64/include/uapi/asm/hwcap.h.
        const MTE: u64 = 1 << 18;
        struct Before(u64);
        impl Drop for Before {
            fn drop(&mut self) {
                // SAFETY: PSTATE.TCO as it was. The processor has it, or this would not be here.
                unsafe { std::arch::asm!("msr S3_3_C4_C2_7, {}", in(reg) self.0, options(nostack)) };
            }
        }
        // SAFETY: getauxval(3) has no preconditions.
        if unsafe { libc::getauxval(libc::AT_HWCAP2) } & MTE != 0 {
            let before: u64;
            // SAFETY: reads PSTATE.TCO and sets it, which has loads and stores of this thread go
            // unchecked (`msr tco, #1`, as an assembler for older processors takes it).
            unsafe {
                std::arch::asm!(
                    "mrs {}, S3_3_C4_C2_7",
                    ".inst 0xd503419f",
                    out(reg) before,
                    options(nostack)
                );
            }
            let _before = Before(before);
            return run();
        }
    }
    run()
}
