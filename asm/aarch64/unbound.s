// Where the stub of an unbound slot goes, and a checked trampoline outside frames, with the slot's number in w17.
// While the publisher has the calls of modules wait (src/call/pause.rs), it waits, and then goes on to what is behind the
// slot. Else it reports and aborts. x16 and x17 are free; every other register stays as it is: system calls change x0 alone.
    .text
    midflight_function midflight_unbound
    // A call outside frames of what is only called inside.
    tbnz w17, #31, 9f
    stp x0, x1, [sp, #-48]!
    stp x2, x3, [sp, #16]
    stp x8, x17, [sp, #32]
    // The stub was loaded before the word is.
    dmb ish
1:  adrp x0, {pause}
    add x0, x0, :lo12:{pause}
    ldar w16, [x0]
    cbz w16, 2f
    // futex(&pause, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, no time-out)
    mov x1, #128
    mov x2, #1
    mov x3, #0
    mov x8, #98
    svc #0
    b 1b

2:  isb
    ldr x17, [sp, #40]
    mrs x0, tpidr_el0
    adrp x16, :gottprel:midflight_thread
    ldr x16, [x16, :gottprel_lo12:midflight_thread]
    ldr x0, [x0, x16]
    adrp x1, {paused}
    ldr x1, [x1, :lo12:{paused}]
    cmp x0, x1
    b.ne 3f
    // A frame that was opened during the pause.
    adrp x0, {forward}
    add x0, x0, :lo12:{forward}
    ldr x16, [x0, x17, lsl #3]
    cbz x16, 8f
    b 4f

3:  ldr x16, [x0, x17, lsl #3]
    // Still a stub? Those are aligned, and have this function's address at byte 24.
    tst x16, #31
    b.ne 4f
    ldr x0, [x16, #24]
    adr x1, midflight_unbound
    cmp x0, x1
    b.eq 8f
4:  ldp x8, x17, [sp, #32]
    ldp x2, x3, [sp, #16]
    ldp x0, x1, [sp], #48
    br x16

8:  ldp x8, x17, [sp, #32]
    ldp x2, x3, [sp, #16]
    ldp x0, x1, [sp], #48
9:  mov w0, w17
    bl {report}
    brk #1
