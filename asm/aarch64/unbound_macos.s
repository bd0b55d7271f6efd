// unbound.s for Mach-O.
    .text
    midflight_function midflight_unbound
    mov w0, w17
    bl {report}
    brk #1
