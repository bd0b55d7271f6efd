// gdb.s for Mach-O: weak, so that the linker keeps one if another JIT compiler in the program brings them too.
    .data
    .globl ___jit_debug_descriptor
    .private_extern ___jit_debug_descriptor
    .weak_definition ___jit_debug_descriptor
    .p2align 3
___jit_debug_descriptor:
    .long 1 // the version of the protocol
    .long 0
    .quad 0
    .quad 0

    .text
    .globl ___jit_debug_register_code
    .private_extern ___jit_debug_register_code
    .weak_definition ___jit_debug_register_code
    .p2align 2
___jit_debug_register_code:
    ret
