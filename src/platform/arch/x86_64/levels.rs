//! Which levels of x86-64 the processor has: System V ABI, AMD64 supplement, table 3.1
//! "Micro-Architecture Levels".

/// A bit for each level, the baseline's the lowest; each level has those below it. Asked once: in a
/// virtual machine CPUID goes to the hypervisor, and took 6 us of a load of 34.
#[cfg(target_arch = "x86_64")]
pub(crate) fn levels() -> u32 {
    static LEVELS: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *LEVELS.get_or_init(ask)
}

#[cfg(target_arch = "x86_64")]
fn ask() -> u32 {
    use std::arch::is_x86_feature_detected as has;
    let second = has!("cmpxchg16b")
        && has_lahf()
        && has!("popcnt")
        && has!("sse3")
        && has!("sse4.1")
        && has!("sse4.2")
        && has!("ssse3");
    // That the system keeps the wider registers (OSXSAVE) is part of what is asked for AVX.
    let third = has!("avx")
        && has!("avx2")
        && has!("bmi1")
        && has!("bmi2")
        && has!("f16c")
        && has!("fma")
        && has!("lzcnt")
        && has!("movbe");
    let fourth =
        has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
    up_to([second, third, fourth])
}

/// The bits of the baseline and of the levels above it, up to the first that is missing.
fn up_to(above: [bool; 3]) -> u32 {
    let count = above.iter().take_while(|has| **has).count() as u32;
    (1 << (count + 1)) - 1
}

/// LAHF and SAHF in 64-bit mode: CPUID, function 8000_0001h, ECX bit 0.
#[cfg(target_arch = "x86_64")]
fn has_lahf() -> bool {
    super::registers::cpuid(0x8000_0001, 0).ecx & 1 != 0
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_level_has_those_below_it() {
        for (above, levels) in [
            ([false, false, false], 1),
            ([true, false, false], 3),
            ([true, true, false], 7),
            ([true, true, true], 15),
            // As no processor has it; a program for the third level needs the second's instructions
            // too.
            ([false, true, true], 1),
            ([true, false, true], 3),
        ] {
            assert_eq!(super::up_to(above), levels, "{above:?}");
        }
        #[cfg(target_arch = "x86_64")]
        assert!(super::levels() & 1 != 0);
    }
}
