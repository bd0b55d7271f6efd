// One function per cache-maintenance instruction, so that a test can read back exactly what is issued. The loops around
// them, and why, are in src/platform/arch/aarch64/cache.rs.
    .text
    midflight_function midflight_dc_cvau
    dc cvau, x0
    ret
    midflight_function midflight_ic_ivau
    ic ivau, x0
    ret
    midflight_function midflight_dsb_ish
    dsb ish
    ret
    midflight_function midflight_isb
    isb
    ret
    midflight_function midflight_ctr_el0
    mrs x0, ctr_el0
    ret
