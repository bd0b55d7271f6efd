// A recovery point, and how a thread comes back to it. src/platform/arch/aarch64/context.rs has the record's layout.

// Each thread's words: the innermost recovery point, and what the thread has for faults. Both are initially none.
    .section .tbss, "awT", %nobits
    .p2align 3
    .globl midflight_guards
    .hidden midflight_guards
    .type midflight_guards, %tls_object
    .size midflight_guards, 16
midflight_guards:
    .zero 16
    .text

// midflight_guard(run, argument, top): calls run(argument) with a recovery point in the word at `top`. Returns two words:
// what the landing pad was given, and why; 0 as the second if `run` returned.
midflight_begin midflight_guard
    .cfi_personality 0x1b, {personality}
    sub sp, sp, #{size}
    .cfi_adjust_cfa_offset {size}
    stp x29, x30, [sp, #{saved}]
    .cfi_rel_offset x29, {saved}
    .cfi_rel_offset x30, {saved} + 8
    add x29, sp, #{saved}
    .macro midflight_saved first, second, place
    stp \first, \second, [sp, #{saved} + \place]
    .cfi_rel_offset \first, {saved} + \place
    .cfi_rel_offset \second, {saved} + \place + 8
    .endm
    midflight_saved x19, x20, 16
    midflight_saved x21, x22, 32
    midflight_saved x23, x24, 48
    midflight_saved x25, x26, 64
    midflight_saved x27, x28, 80
    midflight_saved d8, d9, 96
    midflight_saved d10, d11, 112
    midflight_saved d12, d13, 128
    midflight_saved d14, d15, 144
    .purgem midflight_saved
    ldr x3, [x2]
    str x3, [sp, #{previous}]
    str x2, [sp, #{top}]
    mov x3, sp
    str x3, [sp, #{mark}]
    mrs x4, fpcr
    str x4, [sp, #{modes}]
    // chkfeat x16: clears bit 0 if the guarded control stack is on. Does nothing where it is unknown.
    mov x4, xzr
    mov x16, #1
    hint #40
    tbnz x16, #0, 1f
    mrs x4, s3_3_c2_c5_1 // GCSPR_EL0
1:  str x4, [sp, #{shadow}]
    str x3, [x2]
    mov x3, x0
    mov x0, x1
    blr x3
    mov x1, xzr

    // The innermost is the one around it again. The words that are returned stay.
2:  ldr x3, [sp, #{previous}]
    ldr x2, [sp, #{top}]
    str x3, [x2]
    str xzr, [sp, #{mark}]
    .cfi_remember_state
    .macro midflight_restored first, second, place
    ldp \first, \second, [sp, #{saved} + \place]
    .cfi_restore \first
    .cfi_restore \second
    .endm
    midflight_restored x19, x20, 16
    midflight_restored x21, x22, 32
    midflight_restored x23, x24, 48
    midflight_restored x25, x26, 64
    midflight_restored x27, x28, 80
    midflight_restored d8, d9, 96
    midflight_restored d10, d11, 112
    midflight_restored d12, d13, 128
    midflight_restored d14, d15, 144
    midflight_restored x29, x30, 0
    .purgem midflight_restored
    add sp, sp, #{size}
    .cfi_adjust_cfa_offset -{size}
    ret
    .cfi_restore_state

// The landing pad: the stack pointer is the record's address, x0 and x1 have the words.
    .globl midflight_landing
    .hidden midflight_landing
midflight_landing:
    hint #38 // bti jc
    ldr x2, [sp, #{modes}]
    msr fpcr, x2
    ldr x2, [sp, #{shadow}]
    cbz x2, 2b
    // It grows down: what was left on it is popped.
3:  mrs x3, s3_3_c2_c5_1 // GCSPR_EL0
    cmp x3, x2
    b.hs 2b
    sysl xzr, #3, c7, c7, #1 // gcspopm
    b 3b
midflight_end midflight_guard

// midflight_land(record, word, why): leaves everything up to a recovery point.
    midflight_function midflight_land
    mov sp, x0
    mov x0, x1
    mov x1, x2
    b midflight_landing
