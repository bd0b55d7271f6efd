// Where the stub of an unbound slot goes, and a checked trampoline outside frames, with the slot's number in w17. Reports and aborts.
    .text
    midflight_function midflight_unbound
    mov w0, w17
    bl {report}
    brk #1
