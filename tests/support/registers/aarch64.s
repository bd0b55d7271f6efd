// call(kind, input, output): fills the registers from the input, calls the descriptor of `variable`, writes the registers to
// the output, and returns the variable's address. Kinds: 0 SIMD, 1 SVE.
//
// Layout: the general register n at 8 * n, from x2. The calling sequence itself sets x1, whose value before the call is
// written to the output at 0. From 240 the condition flags and FPSR; from 512 32 vectors of 256 bytes; from 8704 sixteen
// predicates of 32 bytes; from 9216 the first-fault register.
    .arch armv8-a+sve
    .macro fill_and_call scalable
    add x3, x1, #512
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    .if \scalable
    ldr z\n, [x3]
    .else
    ldr q\n, [x3]
    .endif
    add x3, x3, #256
    .endr
    .if \scalable
    add x4, x3, #512
    ldr p0, [x4]
    wrffr p0.b
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    ldr p\n, [x3]
    add x3, x3, #32
    .endr
    .endif
    ldp x3, x4, [x1, #240]
    msr fpsr, x4
    msr nzcv, x3
    .irp n, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29
    ldr x\n, [x1, #8 * \n]
    .endr
    adrp x0, :tlsdesc:variable
    ldr x1, [x0, #:tlsdesc_lo12:variable]
    add x0, x0, :tlsdesc_lo12:variable
    str x1, [sp, #168]
    .tlsdesccall variable
    blr x1
    str x0, [sp, #160]
    ldr x0, [sp, #176]
    .irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29
    str x\n, [x0, #8 * \n]
    .endr
    ldr x1, [sp, #168]
    str x1, [x0]
    mrs x1, nzcv
    mrs x2, fpsr
    stp x1, x2, [x0, #240]
    add x3, x0, #512
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    .if \scalable
    str z\n, [x3]
    .else
    str q\n, [x3]
    .endif
    add x3, x3, #256
    .endr
    .if \scalable
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    str p\n, [x3]
    add x3, x3, #32
    .endr
    rdffr p0.b
    str p0, [x3]
    .endif
    .endm

    .text
    .globl call
    .type call, %function
call:
    stp x29, x30, [sp, #-192]!
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    str x2, [sp, #176]
    cbnz w0, 1f
    fill_and_call 0
    b 2f
1:  fill_and_call 1
2:  ldr x0, [sp, #160]
    mrs x1, tpidr_el0
    add x0, x0, x1
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    ldp x29, x30, [sp], #192
    ret
    .size call, . - call
    .ifndef ELSEWHERE
    .section .tbss, "awT", %nobits
    .globl variable
    .type variable, %object
    .size variable, 8
    .p2align 3
variable:
    .zero 8
    .endif
    .section .note.GNU-stack, "", %progbits
