// Where the stub of an unbound slot goes, and a checked trampoline outside frames, with the slot's number in w17. Reports and aborts.
    .text
    .globl midflight_unbound
    .hidden midflight_unbound
    .type midflight_unbound, %function
    .p2align 2
midflight_unbound:
    hint #34 // bti c
    mov w0, w17
    bl {report}
    brk #1
