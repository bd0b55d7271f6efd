//! Cache maintenance: making instructions that were written as data visible to instruction fetch.
//!
//! The Arm ARM's sequence (DDI 0487, B2.2.5 "Concurrent modification and execution of instructions"
//! and the cache maintenance chapter): clean each data line to the point of unification, DSB,
//! invalidate each instruction line, DSB, ISB. CTR_EL0 gives the line sizes and says what the
//! hardware does by itself.

/// What CTR_EL0 says of the caches. Linux shows user space the smallest lines of all cores, and
/// traps the register on systems where cores differ (arch/arm64/kernel/cpufeature.c, ftr_ctr).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CacheType {
    /// Bytes per data line.
    pub(crate) data_line: usize,
    /// Bytes per instruction line.
    pub(crate) instruction_line: usize,
    /// IDC: data need not be cleaned for instruction fetch to see it.
    pub(crate) data_is_coherent: bool,
    /// DIC: instruction lines need not be invalidated.
    pub(crate) instructions_are_coherent: bool,
}

impl CacheType {
    /// Decodes CTR_EL0: IminLine is bits 3:0 and DminLine bits 19:16, both log2 of 4-byte words;
    /// IDC bit 28, DIC bit 29.
    pub(crate) const fn from_ctr(ctr: u64) -> Self {
        Self {
            data_line: 4 << ((ctr >> 16) & 0xf),
            instruction_line: 4 << (ctr & 0xf),
            data_is_coherent: ctr & (1 << 28) != 0,
            instructions_are_coherent: ctr & (1 << 29) != 0,
        }
    }
}

/// The four instructions. The executing implementation is `Cpu`; tests record.
pub(crate) trait Maintenance {
    /// `DC CVAU`
    fn clean_data_line(&mut self, address: usize);
    /// `IC IVAU`
    fn invalidate_instruction_line(&mut self, address: usize);
    /// `DSB ISH`
    fn data_barrier(&mut self);
    /// `ISB`
    fn instruction_barrier(&mut self);
}

/// Issues what `caches` needs for the bytes `start .. start + len`, addresses at which they will be
/// executed.
///
/// The first DSB stays even where no line is cleaned: it completes the stores themselves before any
/// later fetch.
pub(crate) fn make_visible(caches: CacheType, start: usize, len: usize, cpu: &mut impl Maintenance) {
    let end = start + len;
    if !caches.data_is_coherent {
        for line in (start & !(caches.data_line - 1)..end).step_by(caches.data_line) {
            cpu.clean_data_line(line);
        }
    }
    cpu.data_barrier();
    if !caches.instructions_are_coherent {
        for line in (start & !(caches.instruction_line - 1)..end).step_by(caches.instruction_line) {
            cpu.invalidate_instruction_line(line);
        }
        cpu.data_barrier();
    }
    cpu.instruction_barrier();
}

#[cfg(target_arch = "aarch64")]
mod execute {
    #[cfg(not(target_os = "macos"))]
    use super::{CacheType, Maintenance, make_visible};

    #[cfg(not(target_os = "macos"))]
    crate::platform::assemble::assemble!("cache");

    #[cfg(not(target_os = "macos"))]
    unsafe extern "C" {
        pub(crate) fn midflight_dc_cvau(address: usize);
        pub(crate) fn midflight_ic_ivau(address: usize);
        pub(crate) fn midflight_dsb_ish();
        pub(crate) fn midflight_isb();
        fn midflight_ctr_el0() -> u64;
    }

    #[cfg(target_os = "macos")]
    unsafe extern "C" {
        /// libkern/OSCacheControl.h. Reading CTR_EL0 traps on Apple's systems.
        fn sys_icache_invalidate(start: *mut std::ffi::c_void, len: usize);
    }

    #[cfg(not(target_os = "macos"))]
    struct Cpu;

    #[cfg(not(target_os = "macos"))]
    impl Maintenance for Cpu {
        fn clean_data_line(&mut self, address: usize) {
            // SAFETY: the caller of `publish_code` says that the line is mapped; cleaning changes
            // no data.
            unsafe { midflight_dc_cvau(address) }
        }
        fn invalidate_instruction_line(&mut self, address: usize) {
            // SAFETY: as above; invalidating only makes the next fetch read memory.
            unsafe { midflight_ic_ivau(address) }
        }
        fn data_barrier(&mut self) {
            // SAFETY: a barrier touches nothing.
            unsafe { midflight_dsb_ish() }
        }
        fn instruction_barrier(&mut self) {
            // SAFETY: a barrier touches nothing.
            unsafe { midflight_isb() }
        }
    }

    /// Makes the code at `start .. start + len` visible to instruction fetch on this core and, for
    /// what caches hold, on all.
    ///
    /// # Safety
    ///
    /// The bytes are mapped readable at these addresses, the ones that will execute.
    pub(crate) unsafe fn publish_code(start: *const u8, len: usize) {
        #[cfg(target_os = "macos")]
        // SAFETY: mapped, as the caller says.
        unsafe {
            sys_icache_invalidate(start.cast_mut().cast(), len)
        }
        #[cfg(not(target_os = "macos"))]
        {
            // SAFETY: Linux lets user space read CTR_EL0 (SCTLR_EL1.UCT) or emulates the read.
            let caches = CacheType::from_ctr(unsafe { midflight_ctr_el0() });
            make_visible(caches, start as usize, len, &mut Cpu);
        }
    }

    /// Discards what this core has fetched.
    #[inline]
    pub(crate) fn synchronise_this_core() {
        // SAFETY: ISB touches nothing. Not `nomem`: later loads and calls must stay behind it.
        unsafe { std::arch::asm!("isb", options(nostack, preserves_flags)) }
    }
}

#[cfg(target_arch = "aarch64")]
pub(crate) use execute::{publish_code, synchronise_this_core};

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(PartialEq, Eq, Debug, Clone, Copy)]
    enum Op {
        DcCvau(usize),
        IcIvau(usize),
        DsbIsh,
        Isb,
    }
    use Op::*;

    #[derive(Default)]
    struct Recorder(Vec<Op>);

    impl Maintenance for Recorder {
        fn clean_data_line(&mut self, address: usize) {
            self.0.push(DcCvau(address));
        }
        fn invalidate_instruction_line(&mut self, address: usize) {
            self.0.push(IcIvau(address));
        }
        fn data_barrier(&mut self) {
            self.0.push(DsbIsh);
        }
        fn instruction_barrier(&mut self) {
            self.0.push(Isb);
        }
    }

    fn record(ctr: u64, start: usize, len: usize) -> Vec<Op> {
        let mut recorder = Recorder::default();
        make_visible(CacheType::from_ctr(ctr), start, len, &mut recorder);
        recorder.0
    }

    /// CTR_EL0 reset values from the cores' technical reference manuals, as QEMU's
    /// target/arm/tcg/cpu64.c also has them.
    const CORES: [(&str, u64, CacheType); 5] = [
        ("Cortex-A53", 0x8444_8004, cache(64, 64, false, false)),
        ("Cortex-A72", 0x8444_c004, cache(64, 64, false, false)),
        ("Neoverse N1, hardware coherency off", 0x8444_c004, cache(64, 64, false, false)),
        ("Neoverse N1 and V1, hardware coherency on", 0xb444_c004, cache(64, 64, true, true)),
        ("A64FX", 0x8666_8006, cache(256, 256, false, false)),
    ];

    const fn cache(data_line: usize, instruction_line: usize, idc: bool, dic: bool) -> CacheType {
        CacheType { data_line, instruction_line, data_is_coherent: idc, instructions_are_coherent: dic }
    }

    #[test]
    fn real_cores_decode() {
        for (core, ctr, expected) in CORES {
            assert_eq!(CacheType::from_ctr(ctr), expected, "{core}");
        }
    }

    #[test]
    fn every_line_that_holds_a_byte_is_maintained_once_and_in_order() {
        for (core, ctr, caches) in CORES {
            for (start, len) in [(0x10000, 4096), (0x10004, 4), (0x1003c, 8), (0x100fc, 0x108), (0x1ffff, 1)]
            {
                let ops = record(ctr, start, len);
                let mut expected = Vec::new();
                let lines =
                    |size: usize| (start / size..=(start + len - 1) / size).map(move |line| line * size);
                if !caches.data_is_coherent {
                    expected.extend(lines(caches.data_line).map(DcCvau));
                }
                expected.push(DsbIsh);
                if !caches.instructions_are_coherent {
                    expected.extend(lines(caches.instruction_line).map(IcIvau));
                    expected.push(DsbIsh);
                }
                expected.push(Isb);
                assert_eq!(ops, expected, "{core}, {len} bytes at {start:#x}");
            }
        }
    }

    #[test]
    fn the_sequences_that_a_reader_can_check_by_hand() {
        assert_eq!(
            record(0x8444_c004, 0x1003c, 8),
            [DcCvau(0x10000), DcCvau(0x10040), DsbIsh, IcIvau(0x10000), IcIvau(0x10040), DsbIsh, Isb]
        );
        assert_eq!(record(0xb444_c004, 0x1003c, 8), [DsbIsh, Isb], "IDC and DIC: the barriers remain");
        assert_eq!(
            record(0x9444_c004, 0x10000, 4),
            [DsbIsh, IcIvau(0x10000), DsbIsh, Isb],
            "IDC alone: no clean, still an invalidate"
        );
    }

    /// The instructions that `Cpu` really issues, read back from this binary.
    #[cfg(all(target_arch = "aarch64", not(target_os = "macos")))]
    #[test]
    fn the_emitted_instructions_are_the_architectures() {
        use super::execute::*;
        const RET: u32 = 0xd65f_03c0;
        const BTI_C: u32 = 0xd503_245f;
        let emitted = |function: usize| {
            // SAFETY: three instructions of a function of this binary, which is readable.
            unsafe { *(function as *const [u32; 3]) }
        };
        // Encodings of the Arm ARM, C6.2: SYS #3, C7, C11, #1 (DC CVAU), SYS #3, C7, C5, #1 (IC
        // IVAU), DSB ISH, ISB SY.
        assert_eq!(emitted(midflight_dc_cvau as *const () as usize), [BTI_C, 0xd50b_7b20, RET]);
        assert_eq!(emitted(midflight_ic_ivau as *const () as usize), [BTI_C, 0xd50b_7520, RET]);
        assert_eq!(emitted(midflight_dsb_ish as *const () as usize), [BTI_C, 0xd503_3b9f, RET]);
        assert_eq!(emitted(midflight_isb as *const () as usize), [BTI_C, 0xd503_3fdf, RET]);
    }
}
