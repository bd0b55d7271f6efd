// How Mach-O modules find their thread-local variables. The calling thread's table of blocks is the third of its words: see
// src/platform/os/macos/thread.rs, and thread_local.s for the table. Null is a thread that has none yet.
//
// x0 holds the descriptor's address: this function, id << 32 | offset, 0. It returns the variable's address in x0, and may change x16, x17 and the
// flags besides, as dyld's own does (libdyld/threadLocalHelpers.s).
    .text
    .globl _midflight_tlv_thunk
    .private_extern _midflight_tlv_thunk
    .p2align 2
_midflight_tlv_thunk:
    .cfi_startproc
    adrp x17, {offset}@PAGE
    ldr x17, [x17, {offset}@PAGEOFF]
    mrs x16, tpidrro_el0
    and x16, x16, #0xfffffffffffffff8
    add x16, x16, x17
    ldr x16, [x16, #16]
    cbz x16, 2f
    str x1, [sp, #-16]!
    .cfi_adjust_cfa_offset 16
    .cfi_rel_offset x1, 0
    // An id of ours has bit 31.
    ldr w17, [x0, #12]
    eor w17, w17, #0x80000000
    ldr x1, [x16], #8
    cmp x17, x1
    b.hs 1f
    ldr x16, [x16, x17, lsl #3]
    ldr x1, [sp], #16
    .cfi_adjust_cfa_offset -16
    .cfi_restore x1
    cbz x16, 2f
    ldrsw x17, [x0, #8]
    add x0, x16, x17
    ret
    .cfi_adjust_cfa_offset 16
    .cfi_rel_offset x1, 0
1:  ldr x1, [sp], #16
    .cfi_adjust_cfa_offset -16
    .cfi_restore x1

    // The thread's first use. What a C function may change is saved. x18 is the system's.
2:  stp x29, x30, [sp, #-144]!
    .cfi_adjust_cfa_offset 144
    .cfi_rel_offset x29, 0
    .cfi_rel_offset x30, 8
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
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    str q\n, [sp, #\n * 16]
    .endr
    ldrsw x1, [x0, #8]
    ldr w0, [x0, #12]
    bl {address}
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    ldr q\n, [sp, #\n * 16]
    .endr
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
    ldp x29, x30, [sp], #144
    .cfi_adjust_cfa_offset -144
    .cfi_restore x29
    .cfi_restore x30
    ret
    .cfi_endproc
