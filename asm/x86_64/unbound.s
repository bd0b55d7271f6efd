# Where the stub of an unbound slot goes, and a checked trampoline outside frames, with the slot's number in r11d. Reports and aborts.
    .text
    .globl midflight_unbound
    .hidden midflight_unbound
    .type midflight_unbound, @function
    .p2align 4
midflight_unbound:
    endbr64
    mov %r11d, %edi
    and $-16, %rsp
    call {report}
    ud2
