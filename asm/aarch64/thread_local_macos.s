// How Mach-O modules find their thread-local variables. The calling thread's table of blocks is the third of its words: see
// src/platform/os/macos/thread.rs, and thread_local.s for the table. Null is a thread that has none yet.
//
// x0 holds the descriptor's address: this function, id << 32 | offset, 0. It returns the variable's address in x0, and may change x16, x17 and the
// flags besides, as dyld's own does (libdyld/threadLocalHelpers.s).
    .text
midflight_begin midflight_tlv_thunk
    adrp x17, {offset}@PAGE
    ldr x17, [x17, {offset}@PAGEOFF]
    mrs x16, tpidrro_el0
    and x16, x16, #0xfffffffffffffff8
    add x16, x16, x17
    ldr x16, [x16, #16]
    cbz x16, 2f
    midflight_push x1
    // An id of ours has bit 31.
    ldr w17, [x0, #12]
    eor w17, w17, #0x80000000
    ldr x1, [x16], #8
    cmp x17, x1
    b.hs 1f
    ldr x16, [x16, x17, lsl #3]
    midflight_pop x1
    cbz x16, 2f
    ldrsw x17, [x0, #8]
    add x0, x16, x17
    ret
    midflight_pushed x1
1:  midflight_pop x1

    // The thread's first use. What a C function may change is saved. x18 is the system's.
2:  midflight_enter 144
    mov x29, sp
    .cfi_def_cfa_register x29
    stp x1, x2, [sp, #16]
    stp x3, x4, [sp, #32]
    stp x5, x6, [sp, #48]
    stp x7, x8, [sp, #64]
    stp x9, x10, [sp, #80]
    stp x11, x12, [sp, #96]
    stp x13, x14, [sp, #112]
    str x15, [sp, #128]
    sub sp, sp, #512
    midflight_vectors str
    ldrsw x1, [x0, #8]
    ldr w0, [x0, #12]
    bl {address}
    midflight_vectors ldr
    mov sp, x29
    .cfi_def_cfa_register sp
    ldp x1, x2, [sp, #16]
    ldp x3, x4, [sp, #32]
    ldp x5, x6, [sp, #48]
    ldp x7, x8, [sp, #64]
    ldp x9, x10, [sp, #80]
    ldp x11, x12, [sp, #96]
    ldp x13, x14, [sp, #112]
    ldr x15, [sp, #128]
    midflight_leave 144
    ret
midflight_end midflight_tlv_thunk
