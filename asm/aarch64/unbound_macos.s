// unbound.s for Mach-O.
    .text
    .globl _midflight_unbound
    .private_extern _midflight_unbound
    .p2align 2
_midflight_unbound:
    mov w0, w17
    bl {report}
    brk #1
