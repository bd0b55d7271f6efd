// How modules find their thread-local variables. The word is the calling thread's table of blocks, in static thread-local
// storage: the number of its entries, then the address of each version's block or null. Its initial value is a table of
// none. An id of ours has bit 31; with that bit turned over, an id of the C library's is beyond the end of any table.
    .section .tdata, "awT", %progbits
    .p2align 3
    .globl midflight_blocks
    .hidden midflight_blocks
    .type midflight_blocks, %tls_object
    .size midflight_blocks, 8
midflight_blocks:
    .quad {empty}

    .text
    // The address of the calling thread's word, given its thread pointer.
    .macro midflight_word into, pointer
    adrp \into, :gottprel:midflight_blocks
    ldr \into, [\into, :gottprel_lo12:midflight_blocks]
    add \into, \into, \pointer
    .endm

// Descriptor resolvers: x0 holds the descriptor's address, and then the variable's distance from the thread pointer. Its
// second word is the argument. Every other register stays as it is, the flags too (ELF for the Arm 64-bit
// Architecture, "TLS descriptors"); the link register is the call's own.

// The argument is that distance.
midflight_begin midflight_tls_static
    ldr x0, [x0, #8]
    ret
midflight_end midflight_tls_static

// The argument is an address.
midflight_begin midflight_tls_undefined
    midflight_push x1
    ldr x0, [x0, #8]
    mrs x1, tpidr_el0
    sub x0, x0, x1
    midflight_pop x1
    ret
midflight_end midflight_tls_undefined

    // x1 to x4 are on the stack; and they are back.
    .macro midflight_have_four
    .cfi_adjust_cfa_offset 32
    .irp n, 1, 2, 3, 4
    .cfi_rel_offset x\n, \n * 8 - 8
    .endr
    .endm
    .macro midflight_take_four
    ldp x3, x4, [sp, #16]
    ldp x1, x2, [sp], #32
    .cfi_adjust_cfa_offset -32
    .irp n, 1, 2, 3, 4
    .cfi_restore x\n
    .endr
    .endm

// The argument is id << 32 | offset, the offset with its sign.
midflight_begin midflight_tls_dynamic
    stp x1, x2, [sp, #-32]!
    stp x3, x4, [sp, #16]
    midflight_have_four
    ldr x0, [x0, #8]
    mrs x1, tpidr_el0
    midflight_word x2, x1
    ldr x2, [x2]
    lsr x3, x0, #32
    eor x3, x3, #0x80000000
    // Below the number of entries? Both are less than 2^32. Without a comparison, which would take the flags.
    ldr x4, [x2], #8
    sub x4, x3, x4
    tbz x4, #63, 1f
    ldr x2, [x2, x3, lsl #3]
    cbz x2, 1f
    sub x2, x2, x1
    add x0, x2, w0, sxtw
    midflight_take_four
    ret

    // The thread's first use. What a C function may change is saved: here, and below it the vector registers.
    midflight_have_four
1:  midflight_enter 144
    mov x29, sp
    .cfi_def_cfa_register x29
    stp x5, x6, [sp, #16]
    stp x7, x8, [sp, #32]
    stp x9, x10, [sp, #48]
    stp x11, x12, [sp, #64]
    stp x13, x14, [sp, #80]
    stp x15, x16, [sp, #96]
    stp x17, x18, [sp, #112]
    .irp n, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18
    .cfi_offset x\n, \n * 8 - 200
    .endr
    mrs x1, nzcv
    mrs x2, fpsr
    stp x1, x2, [sp, #128]
    adrp x2, {save}
    ldrb w2, [x2, :lo12:{save}]
    sxtw x1, w0
    lsr x0, x0, #32
    cbnz w2, 2f

    sub sp, sp, #512
    midflight_vectors str
    bl {address}
    midflight_vectors ldr
    b 3f

    // Scalable vectors: 32 of them, and 17 predicates of an eighth of their length in the room of 3.
    .arch_extension sve
2:  addvl sp, sp, #-32
    addvl sp, sp, #-3
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    str z\n, [sp, #\n + 3, mul vl]
    .endr
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    str p\n, [sp, #\n, mul vl]
    .endr
    rdffr p0.b
    str p0, [sp, #16, mul vl]
    bl {address}
    ldr p0, [sp, #16, mul vl]
    wrffr p0.b
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    ldr p\n, [sp, #\n, mul vl]
    .endr
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    ldr z\n, [sp, #\n + 3, mul vl]
    .endr
    .arch_extension nosve

3:  mov sp, x29
    .cfi_def_cfa_register sp
    ldp x1, x2, [sp, #128]
    msr nzcv, x1
    msr fpsr, x2
    mrs x1, tpidr_el0
    sub x0, x0, x1
    ldp x5, x6, [sp, #16]
    ldp x7, x8, [sp, #32]
    ldp x9, x10, [sp, #48]
    ldp x11, x12, [sp, #64]
    ldp x13, x14, [sp, #80]
    ldp x15, x16, [sp, #96]
    ldp x17, x18, [sp, #112]
    ldp x29, x30, [sp], #144
    .cfi_adjust_cfa_offset -144
    .irp n, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 29, 30
    .cfi_restore x\n
    .endr
    midflight_take_four
    ret
midflight_end midflight_tls_dynamic

// What a Mach-O thread-local descriptor calls, which is three words, the second as above: x0 holds its address, and then the
// variable's. Every other register stays as it is, but for x16 and x17.
midflight_begin midflight_tlv_thunk
    midflight_enter 16
    mov x29, sp
    bl midflight_tls_dynamic
    mrs x16, tpidr_el0
    add x0, x0, x16
    midflight_leave 16
    ret
midflight_end midflight_tlv_thunk

// __tls_get_addr: x0 points at the id and the offset.
midflight_begin midflight_tls_get_addr
    ldp x0, x1, [x0]
    mrs x2, tpidr_el0
    midflight_word x3, x2
    ldr x3, [x3]
    eor x2, x0, #0x80000000
    ldr x4, [x3], #8
    cmp x2, x4
    b.hs 1f
    ldr x2, [x3, x2, lsl #3]
    cbz x2, 1f
    add x0, x2, x1
    ret
1:  b {address}
midflight_end midflight_tls_get_addr

// Gives the calling thread another table.
midflight_begin midflight_set_blocks
    mrs x1, tpidr_el0
    midflight_word x2, x1
    str x0, [x2]
    ret
midflight_end midflight_set_blocks

midflight_begin midflight_thread_pointer
    mrs x0, tpidr_el0
    ret
midflight_end midflight_thread_pointer

    .purgem midflight_word
    .purgem midflight_have_four
    .purgem midflight_take_four
