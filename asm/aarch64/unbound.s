// Where the stub of an unbound slot goes, and a checked trampoline outside frames, with the slot's number in w17.
// It does what `Pause::target` does (crates/dispatch/src/pause.rs), which has the words' offsets: it waits while the
// publisher has the calls of modules wait, and then goes on to what is behind the slot. If nothing is, it reports and
// aborts. x16 and x17 are free; every other register stays as it is: system calls change x0 alone. A thread may leave it at
// any instruction (siglongjmp, pthread_cancel): it holds nothing.
    .text
    midflight_begin midflight_unbound
    // A call outside frames of what is only called inside.
    tbnz w17, #31, 9f
    stp x0, x1, [sp, #-48]!
    .cfi_adjust_cfa_offset 48
    stp x2, x3, [sp, #16]
    stp x8, x17, [sp, #32]
    // The stub was loaded before the word is.
    dmb ish
1:  adrp x0, {pause}
    ldr x0, [x0, :lo12:{pause}]
    cbz x0, 2f
    ldar w16, [x0]
    cbz w16, 2f
    // Who pauses would wait for himself.
    mrs x1, tpidr_el0
    adrp x16, :gottprel:midflight_thread
    ldr x16, [x16, :gottprel_lo12:midflight_thread]
    add x1, x1, x16
    adrp x16, {pause}+32
    ldr x16, [x16, :lo12:{pause}+32]
    cmp x1, x16
    b.eq 6f
    // futex(word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, no time-out)
    mov x1, #128
    mov x2, #1
    mov x3, #0
    mov x8, #98
    svc #0
    b 1b

2:  isb
    ldr x17, [sp, #40]
    mrs x1, tpidr_el0
    adrp x16, :gottprel:midflight_thread
    ldr x16, [x16, :gottprel_lo12:midflight_thread]
    ldr x1, [x1, x16]
    adrp x0, {pause}
    add x0, x0, :lo12:{pause}
    ldr x16, [x0, #16]
    cmp x1, x16
    b.eq 3f
    ldr x16, [x1, x17, lsl #3]
    // Still a stub? Those are aligned, and have this function's address at byte 24.
    tst x16, #31
    b.ne 5f
    ldr x1, [x16, #24]
    adr x2, midflight_unbound
    cmp x1, x2
    b.ne 5f
    // Nobody waits, and a pause is under way: in a child.
    add x2, x0, #8
    ldar x1, [x2]
    cbz x1, 8f
    ldr x3, [x0]
    ldar w3, [x3]
    cbnz w3, 1b
    ldr x3, [x2]
    cmp x1, x3
    b.ne 1b
3:  add x0, x0, #24
    ldar x0, [x0]
4:  ldr x16, [x0, x17, lsl #3]
    cbz x16, 8f
5:  .cfi_remember_state
    ldp x8, x17, [sp, #32]
    ldp x2, x3, [sp, #16]
    ldp x0, x1, [sp], #48
    .cfi_adjust_cfa_offset -48
    br x16
    .cfi_restore_state

6:  adrp x0, {pause}+40
    add x0, x0, :lo12:{pause}+40
    ldr x17, [sp, #40]
    b 4b

8:  ldp x8, x17, [sp, #32]
    ldp x2, x3, [sp, #16]
    ldp x0, x1, [sp], #48
    .cfi_adjust_cfa_offset -48
9:  mov w0, w17
    bl {report}
    brk #1
    midflight_end midflight_unbound
