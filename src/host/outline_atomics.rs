//! Functions that compilers call for atomics on AArch64 when they are not told whether the
//! processor has LSE ("outline atomics"; gcc's default).
//!
//! A linker takes them from libgcc.a for every program and library that uses them: no shared
//! library exports them, and object files that are linked here have no libgcc.a. Rust's
//! compiler_builtins, which the host has, brings the same functions, but for those of the `__sync`
//! builtins, which are made of them (`asm/aarch64/atomics.s`).

macro_rules! functions {
    ($($name:ident)*) => {
        unsafe extern "C" {
            $(fn $name();)*
        }
        const FUNCTIONS: &[(&str, unsafe extern "C" fn())] = &[$((stringify!($name), $name)),*];
    };
}

#[rustfmt::skip]
functions! {
    __aarch64_cas1_relax __aarch64_cas1_acq __aarch64_cas1_rel __aarch64_cas1_acq_rel
    __aarch64_cas2_relax __aarch64_cas2_acq __aarch64_cas2_rel __aarch64_cas2_acq_rel
    __aarch64_cas4_relax __aarch64_cas4_acq __aarch64_cas4_rel __aarch64_cas4_acq_rel
    __aarch64_cas8_relax __aarch64_cas8_acq __aarch64_cas8_rel __aarch64_cas8_acq_rel
    __aarch64_cas16_relax __aarch64_cas16_acq __aarch64_cas16_rel __aarch64_cas16_acq_rel
    __aarch64_swp1_relax __aarch64_swp1_acq __aarch64_swp1_rel __aarch64_swp1_acq_rel
    __aarch64_swp2_relax __aarch64_swp2_acq __aarch64_swp2_rel __aarch64_swp2_acq_rel
    __aarch64_swp4_relax __aarch64_swp4_acq __aarch64_swp4_rel __aarch64_swp4_acq_rel
    __aarch64_swp8_relax __aarch64_swp8_acq __aarch64_swp8_rel __aarch64_swp8_acq_rel
    __aarch64_ldadd1_relax __aarch64_ldadd1_acq __aarch64_ldadd1_rel __aarch64_ldadd1_acq_rel
    __aarch64_ldadd2_relax __aarch64_ldadd2_acq __aarch64_ldadd2_rel __aarch64_ldadd2_acq_rel
    __aarch64_ldadd4_relax __aarch64_ldadd4_acq __aarch64_ldadd4_rel __aarch64_ldadd4_acq_rel
    __aarch64_ldadd8_relax __aarch64_ldadd8_acq __aarch64_ldadd8_rel __aarch64_ldadd8_acq_rel
    __aarch64_ldclr1_relax __aarch64_ldclr1_acq __aarch64_ldclr1_rel __aarch64_ldclr1_acq_rel
    __aarch64_ldclr2_relax __aarch64_ldclr2_acq __aarch64_ldclr2_rel __aarch64_ldclr2_acq_rel
    __aarch64_ldclr4_relax __aarch64_ldclr4_acq __aarch64_ldclr4_rel __aarch64_ldclr4_acq_rel
    __aarch64_ldclr8_relax __aarch64_ldclr8_acq __aarch64_ldclr8_rel __aarch64_ldclr8_acq_rel
    __aarch64_ldeor1_relax __aarch64_ldeor1_acq __aarch64_ldeor1_rel __aarch64_ldeor1_acq_rel
    __aarch64_ldeor2_relax __aarch64_ldeor2_acq __aarch64_ldeor2_rel __aarch64_ldeor2_acq_rel
    __aarch64_ldeor4_relax __aarch64_ldeor4_acq __aarch64_ldeor4_rel __aarch64_ldeor4_acq_rel
    __aarch64_ldeor8_relax __aarch64_ldeor8_acq __aarch64_ldeor8_rel __aarch64_ldeor8_acq_rel
    __aarch64_ldset1_relax __aarch64_ldset1_acq __aarch64_ldset1_rel __aarch64_ldset1_acq_rel
    __aarch64_ldset2_relax __aarch64_ldset2_acq __aarch64_ldset2_rel __aarch64_ldset2_acq_rel
    __aarch64_ldset4_relax __aarch64_ldset4_acq __aarch64_ldset4_rel __aarch64_ldset4_acq_rel
    __aarch64_ldset8_relax __aarch64_ldset8_acq __aarch64_ldset8_rel __aarch64_ldset8_acq_rel
}

crate::platform::assemble::assemble!("atomics");

/// The same, with a barrier behind: each with what stands for `__aarch64_` in the name.
mod synchronised {
    #[rustfmt::skip]
    functions! {
        midflight_cas1_sync midflight_cas2_sync midflight_cas4_sync midflight_cas8_sync midflight_cas16_sync
        midflight_swp1_sync midflight_swp2_sync midflight_swp4_sync midflight_swp8_sync
        midflight_ldadd1_sync midflight_ldadd2_sync midflight_ldadd4_sync midflight_ldadd8_sync
        midflight_ldclr1_sync midflight_ldclr2_sync midflight_ldclr4_sync midflight_ldclr8_sync
        midflight_ldeor1_sync midflight_ldeor2_sync midflight_ldeor4_sync midflight_ldeor8_sync
        midflight_ldset1_sync midflight_ldset2_sync midflight_ldset4_sync midflight_ldset8_sync
    }

    /// The function of `__aarch64_ldadd4_sync` and the like.
    pub(super) fn find(name: &str) -> Option<u64> {
        let rest = name.strip_prefix("__aarch64_")?;
        let is_it = |known: &str| known.strip_prefix("midflight_") == Some(rest);
        FUNCTIONS.iter().find(|(known, _)| is_it(known)).map(|(_, function)| *function as *const () as u64)
    }

    #[test]
    fn each_ends_with_a_barrier() {
        assert_eq!(FUNCTIONS.len(), 25);
        for (name, function) in FUNCTIONS {
            // SAFETY: each is six instructions long.
            let code = unsafe { std::slice::from_raw_parts((*function as *const ()).cast::<u32>(), 6) };
            let [bti, stp, bl, dmb, ldp, ret] = [0, 1, 2, 3, 4, 5].map(|at| code[at]);
            assert_eq!([bti, stp, dmb], [0xD503_245F, 0xA9BF_7BFD, 0xD503_3BBF], "{name} {code:x?}");
            assert_eq!([bl >> 26, ldp, ret], [0b100101, 0xA8C1_7BFD, 0xD65F_03C0], "{name} {code:x?}");
        }
    }

    #[test]
    fn by_the_names_that_gcc_has() {
        for name in ["__aarch64_cas16_sync", "__aarch64_ldset1_sync", "__aarch64_swp8_sync"] {
            assert!(super::find(name).is_some(), "{name}");
        }
        for name in ["__aarch64_swp16_sync", "__aarch64_ldadd4_acq", "__aarch64_sync", "ldadd4_sync"] {
            assert!(find(name).is_none(), "{name}");
        }
    }
}

/// The function of this name.
pub(super) fn find(name: &str) -> Option<u64> {
    let known = FUNCTIONS.iter().find(|(known, _)| *known == name);
    known.map(|(_, function)| *function as *const () as u64).or_else(|| synchronised::find(name))
}
