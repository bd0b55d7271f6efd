# What gdb looks for by name: src/module/debug/gdb.rs says more. Weak, so that another JIT compiler in the program may bring them too.
    .data
    .p2align 3
    .weak __jit_debug_descriptor
    .hidden __jit_debug_descriptor
    .type __jit_debug_descriptor, @object
    .size __jit_debug_descriptor, 24
__jit_debug_descriptor:
    .long 1 # the version of the protocol
    .long 0
    .quad 0
    .quad 0

    .text
    midflight_function __jit_debug_register_code, .weak
    ret
    .size __jit_debug_register_code, . - __jit_debug_register_code
