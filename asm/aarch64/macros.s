// What the files of this folder share. Each is assembled behind this one and before
// `midflight_done`, so that several of them can be in one object (src/platform/assemble.rs).

// A function without unwind rows, up to its first own instruction.
    .macro midflight_function name, binding=.globl
    \binding \name
    .hidden \name
    .type \name, %function
    .p2align 2
\name:
    hint #34 // bti c, by its hint number so that an assembler for plain armv8-a takes it
    .endm

// A function from its label to its last instruction.
    .macro midflight_begin name
    .p2align 2
    .cfi_startproc
    midflight_function \name
    .endm
    .macro midflight_end name
    .cfi_endproc
    .size \name, . - \name
    .endm

// Turns the three into those for Mach-O: other directives, C names with an underscore before them,
// and no landing pads, which macOS does not ask for.
    .macro midflight_macho
    .purgem midflight_function
    .purgem midflight_begin
    .purgem midflight_end
    .macro midflight_function name
    .globl _\name
    .private_extern _\name
    .p2align 2
_\name:
    .endm
    .macro midflight_begin name
    midflight_function \name
    .cfi_startproc
    .endm
    .macro midflight_end name
    .cfi_endproc
    .endm
    .endm

// A frame of so many bytes, with the caller's frame and the return address at its start.
    .macro midflight_enter size
    stp x29, x30, [sp, #-\size]!
    .cfi_adjust_cfa_offset \size
    .cfi_rel_offset x29, 0
    .cfi_rel_offset x30, 8
    .endm
    .macro midflight_leave size
    ldp x29, x30, [sp], #\size
    .cfi_adjust_cfa_offset -\size
    .cfi_restore x29
    .cfi_restore x30
    .endm

// One register on the stack, which stays aligned.
    .macro midflight_push register
    str \register, [sp, #-16]!
    midflight_pushed \register
    .endm
    .macro midflight_pop register
    ldr \register, [sp], #16
    .cfi_adjust_cfa_offset -16
    .cfi_restore \register
    .endm
// Where code is reached by a branch from a place at which a register is on the stack.
    .macro midflight_pushed register
    .cfi_adjust_cfa_offset 16
    .cfi_rel_offset \register, 0
    .endm

// The vector registers of 128 bits, all of them, from the stack's end on: `str` or `ldr`.
    .macro midflight_vectors how
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    \how q\n, [sp, #\n * 16]
    .endr
    .endm

// A function of C whose replacement is given one more argument: who calls.
    .macro midflight_with_caller name, register, replacement
    midflight_begin \name
    mov \register, x30
    b \replacement
    midflight_end \name
    .endm

// Where a thread of a module begins. It tells the runtime and goes on to the module's function,
// leaving no frame: pthread_exit and cancellation unwind from there to the C library.
    .macro midflight_entry name, arrive
    midflight_begin \name
    midflight_enter 16
    mov x29, sp
    bl \arrive
    midflight_leave 16
    mov x16, x0
    mov x0, x1
    br x16
    midflight_end \name
    .endm

// std::thread::_M_start_thread(this, state, depend), or what a C++ library has for it: `wrap`
// replaces the state and returns the real function.
    .macro midflight_start_thread name, wrap
    midflight_begin \name
    midflight_enter 48
    mov x29, sp
    stp x0, x1, [sp, #16]
    str x2, [sp, #32]
    mov x0, x1
    mov x1, x30
    bl \wrap
    mov x16, x0
    ldp x0, x1, [sp, #16]
    ldr x2, [sp, #32]
    midflight_leave 48
    br x16
    midflight_end \name
    .endm

    .macro midflight_done
    .irp name, function, begin, end, macho, enter, leave, push, pop, pushed, vectors, with_caller, entry, start_thread, done
    .purgem midflight_\name
    .endr
    .endm
