//! Which registers of the processor's extensions a descriptor's slow path saves, and how: Intel SDM
//! volume 1, chapter 13 "Managing State Using the XSAVE Feature Set".

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What asm/x86_64/thread_local.s reads, by these offsets.
#[repr(C)]
pub(crate) struct Save {
    /// The state components, for edx:eax.
    components: AtomicU64,
    /// Of the area.
    bytes: AtomicU64,
    instruction: AtomicU32,
}

/// Before `prepare`: what every x86-64 has.
pub(crate) static SAVE: Save = Save {
    components: AtomicU64::new(0),
    bytes: AtomicU64::new(LEGACY + HEADER),
    instruction: AtomicU32::new(FXSAVE),
};

const FXSAVE: u32 = 0;
const XSAVE: u32 = 1;
const XSAVEC: u32 = 2;

/// The x87 and SSE registers, and the header behind them (13.4).
const LEGACY: u64 = 512;
const HEADER: u64 = 64;

/// Components that compiled C functions do not touch: PKRU, which is a permission and no register
/// of theirs, and the tiles of AMX, 8 KiB that a program has to ask for.
const LEFT_ALONE: u64 = 1 << 9 | 1 << 17 | 1 << 18;

/// How an area is to be saved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Plan {
    components: u64,
    bytes: u64,
    instruction: u32,
}

/// A leaf of CPUID: eax, ebx, ecx.
type Leaf = (u32, u32, u32);

/// `enabled` is XCR0, `leaf` a subleaf of CPUID leaf 0xD (13.2).
fn plan(enabled: u64, leaf: impl Fn(u32) -> Leaf) -> Plan {
    let components = enabled & !LEFT_ALONE;
    let compacts = leaf(1).0 & 1 << 1 != 0;
    let mut bytes = LEGACY + HEADER;
    for component in (2..63).filter(|component| components & 1 << component != 0) {
        let (size, offset, flags) = leaf(component);
        let start = match (compacts, flags & 1 << 1 != 0) {
            (true, true) => bytes.next_multiple_of(64),
            (true, false) => bytes,
            (false, _) => u64::from(offset),
        };
        bytes = bytes.max(start + u64::from(size));
    }
    Plan { components, bytes, instruction: if compacts { XSAVEC } else { XSAVE } }
}

/// Asks the processor. Before any module is linked.
#[cfg(target_arch = "x86_64")]
pub(crate) fn prepare() {
    if let Some(enabled) = enabled() {
        use_plan(plan(enabled, leaf));
    }
}

/// XCR0, if there is one.
#[cfg(target_arch = "x86_64")]
fn enabled() -> Option<u64> {
    const OSXSAVE: u32 = 1 << 27;
    if cpuid(1, 0).ecx & OSXSAVE == 0 {
        return None;
    }
    let (low, high): (u32, u32);
    // SAFETY: OSXSAVE says that the system has enabled the instruction.
    unsafe {
        std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    Some(u64::from(high) << 32 | u64::from(low))
}

#[cfg(target_arch = "x86_64")]
fn leaf(subleaf: u32) -> Leaf {
    let leaf = cpuid(0xd, subleaf);
    (leaf.eax, leaf.ebx, leaf.ecx)
}

#[cfg(target_arch = "x86_64")]
pub(super) fn cpuid(leaf: u32, subleaf: u32) -> std::arch::x86_64::CpuidResult {
    #[allow(unused_unsafe, reason = "safe to call in later versions of Rust")]
    // SAFETY: every x86-64 has the instruction.
    unsafe {
        std::arch::x86_64::__cpuid_count(leaf, subleaf)
    }
}

/// Relaxed: whoever has a module's descriptor has it by a happens-before edge from its linking.
fn use_plan(plan: Plan) {
    SAVE.components.store(plan.components, Ordering::Relaxed);
    SAVE.bytes.store(plan.bytes, Ordering::Relaxed);
    SAVE.instruction.store(plan.instruction, Ordering::Relaxed);
}

/// Runs a test with each way of saving that this processor has.
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) fn with_each_way(test: impl Fn()) {
    let legacy = Plan { components: 0, bytes: LEGACY + HEADER, instruction: FXSAVE };
    use_plan(legacy);
    test();
    if let Some(enabled) = enabled() {
        let plans = [
            plan(enabled, |subleaf| if subleaf == 1 { (0, 0, 0) } else { leaf(subleaf) }),
            plan(enabled, leaf),
        ];
        plans.into_iter().for_each(|plan| {
            use_plan(plan);
            test();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A processor with AVX-512, PKRU and AMX, as CPUID of a Sapphire Rapids server lists them.
    fn server(compacts: u32) -> impl Fn(u32) -> Leaf {
        move |subleaf| match subleaf {
            1 => (1 | compacts << 1, 0, 0),
            2 => (256, 576, 0),
            5 => (64, 1088, 0),
            6 => (512, 1152, 0),
            7 => (1024, 1664, 0),
            9 => (8, 2688, 0),
            17 => (64, 2752, 2),
            18 => (8192, 2816, 6),
            19 => (128, 960, 0),
            _ => (0, 0, 0),
        }
    }

    #[test]
    fn the_area_holds_what_is_enabled_and_may_change() {
        let all = 0b111 | 0b111 << 5 | 1 << 9 | 1 << 17 | 1 << 18;
        let components = 0b111 | 0b111 << 5;
        let compacted = Plan { components, bytes: 576 + 256 + 64 + 512 + 1024, instruction: XSAVEC };
        assert_eq!(plan(all, server(1)), compacted, "no tiles, no PKRU");
        assert_eq!(plan(all, server(0)), Plan { components, bytes: 2688, instruction: XSAVE });
        assert_eq!(plan(0b11, server(1)), Plan { components: 0b11, bytes: 576, instruction: XSAVEC });
        assert_eq!(plan(0b111 | 1 << 19, server(1)).bytes, 576 + 256 + 128, "APX");
    }

    #[test]
    fn compacted_components_are_aligned_where_the_processor_says_so() {
        let leaf = |subleaf| match subleaf {
            1 => (2, 0, 0),
            2 => (8, 0, 0),
            3 => (16, 0, 2),
            _ => (0, 0, 0),
        };
        assert_eq!(plan(0b1111, leaf).bytes, 640 + 16);
    }
}
