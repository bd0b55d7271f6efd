// Functions for Mach-O modules, whose code calls as Apple's platforms do. See src/host/apple_abi/mod.rs.
//
// Apple ("Writing ARM64 code for Apple platforms"): what is passed for `...` is on the stack, in slots of 8 bytes, and a va_list is a
// pointer to the next one. AAPCS64, appendix B: a va_list is {{stack, gr_top, vr_top, gr_offs, vr_offs}}, and with offsets that are not
// negative everything is taken from the stack, in slots of 8 bytes. So both read the same slots.
    .text

// Calls \function with a va_list of the slots from x9 on as argument \index, counted from 0.
    .macro midflight_with_list index, function
    midflight_enter 48
    mov x29, sp
    stp x9, xzr, [sp, #16]
    stp xzr, xzr, [sp, #32]
    add x\index, sp, #16
    bl \function
    midflight_leave 48
    ret
    .endm

// Both forms of a function with \index arguments before the others: \name(..., ...) and \list(..., va_list).
    .macro midflight_family name, list, index, function
midflight_begin midflight_apple_\name
    mov x9, sp
    midflight_with_list \index, \function
midflight_end midflight_apple_\name
midflight_begin midflight_apple_\list
    mov x9, x\index
    midflight_with_list \index, \function
midflight_end midflight_apple_\list
    .endm

    midflight_family printf, vprintf, 1, vprintf
    midflight_family fprintf, vfprintf, 2, vfprintf
    midflight_family dprintf, vdprintf, 2, vdprintf
    midflight_family sprintf, vsprintf, 2, vsprintf
    midflight_family snprintf, vsnprintf, 3, vsnprintf
    midflight_family asprintf, vasprintf, 2, vasprintf
    midflight_family __sprintf_chk, __vsprintf_chk, 4, __vsprintf_chk
    midflight_family __snprintf_chk, __vsnprintf_chk, 5, __vsnprintf_chk
    midflight_family wprintf, vwprintf, 1, vwprintf
    midflight_family fwprintf, vfwprintf, 2, vfwprintf
    midflight_family swprintf, vswprintf, 3, vswprintf
// Those of C99: the plain names read "%as" in a way of their own.
    midflight_family scanf, vscanf, 1, __isoc99_vscanf
    midflight_family fscanf, vfscanf, 2, __isoc99_vfscanf
    midflight_family sscanf, vsscanf, 2, __isoc99_vsscanf
    midflight_family wscanf, vwscanf, 1, __isoc99_vwscanf
    midflight_family fwscanf, vfwscanf, 2, __isoc99_vfwscanf
    midflight_family swscanf, vswscanf, 2, __isoc99_vswscanf
    midflight_family syslog, vsyslog, 2, vsyslog
    midflight_family warn, vwarn, 1, vwarn
    midflight_family warnx, vwarnx, 1, vwarnx
    midflight_family err, verr, 2, verr
    midflight_family errx, verrx, 2, verrx

// One argument behind the others, or none: then what is read is the caller's own, and not looked at.
    .macro midflight_one_more name, register, function
midflight_begin midflight_apple_\name
    ldr \register, [sp]
    b \function
midflight_end midflight_apple_\name
    .endm
    midflight_one_more open, x2, {open}
    midflight_one_more openat, x3, {openat}
    midflight_one_more fcntl, x2, {fcntl}

// setjmp and longjmp: Apple's jmp_buf has 192 bytes, the C library's would take more. x19 to x30, sp, d8 to d15.
midflight_begin midflight_apple_setjmp
    stp x19, x20, [x0]
    stp x21, x22, [x0, #16]
    stp x23, x24, [x0, #32]
    stp x25, x26, [x0, #48]
    stp x27, x28, [x0, #64]
    stp x29, x30, [x0, #80]
    mov x9, sp
    str x9, [x0, #96]
    stp d8, d9, [x0, #104]
    stp d10, d11, [x0, #120]
    stp d12, d13, [x0, #136]
    stp d14, d15, [x0, #152]
    mov w0, #0
    ret
midflight_end midflight_apple_setjmp

midflight_begin midflight_apple_longjmp
    ldp x19, x20, [x0]
    ldp x21, x22, [x0, #16]
    ldp x23, x24, [x0, #32]
    ldp x25, x26, [x0, #48]
    ldp x27, x28, [x0, #64]
    ldp x29, x30, [x0, #80]
    ldr x9, [x0, #96]
    mov sp, x9
    ldp d8, d9, [x0, #104]
    ldp d10, d11, [x0, #120]
    ldp d12, d13, [x0, #136]
    ldp d14, d15, [x0, #152]
    cmp w1, #0
    csinc w0, w1, wzr, ne
    ret
midflight_end midflight_apple_longjmp

// ___chkstk_darwin touches the stack that a large frame will take, and keeps every register. Linux needs no touching: a thread's
// stack is all there, and the first one grows wherever it is touched.
midflight_begin midflight_apple_chkstk
    ret
midflight_end midflight_apple_chkstk

    .purgem midflight_with_list
    .purgem midflight_family
    .purgem midflight_one_more
