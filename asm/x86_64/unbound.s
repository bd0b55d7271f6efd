# Where the stub of an unbound slot goes, and a checked trampoline outside frames, with the slot's number in r11d. Reports and aborts.
    .text
    midflight_function midflight_unbound
    mov %r11d, %edi
    and $-16, %rsp
    call {report}
    ud2
