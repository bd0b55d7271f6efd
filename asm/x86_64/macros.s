# What the files of this folder share. Each is assembled behind this one and before
# `midflight_done`, so that several of them can be in one object (src/platform/assemble.rs).

# A function without unwind rows, up to its first own instruction.
    .macro midflight_function name, binding=.globl
    \binding \name
    .hidden \name
    .type \name, @function
    .p2align 4
\name:
    endbr64
    .endm

# A function from its label to its last instruction.
    .macro midflight_begin name
    .p2align 4
    .cfi_startproc
    midflight_function \name
    .endm
    .macro midflight_end name
    .cfi_endproc
    .size \name, . - \name
    .endm

# A register on the stack.
    .macro midflight_push register
    push \register
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset \register, 0
    .endm
    .macro midflight_pop register
    pop \register
    .cfi_adjust_cfa_offset -8
    .cfi_restore \register
    .endm

    .macro midflight_done
    .irp name, function, begin, end, push, pop, done
    .purgem midflight_\name
    .endr
    .endm
