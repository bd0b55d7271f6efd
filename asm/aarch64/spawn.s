// Threads that modules start. See src/host/threads.rs.
    .text
    .macro midflight_begin name
    .globl \name
    .hidden \name
    .type \name, %function
    .p2align 2
\name:
    .cfi_startproc
    hint #34 // bti c
    .endm
    .macro midflight_end name
    .cfi_endproc
    .size \name, . - \name
    .endm

// C functions whose replacement is given one more argument: who calls.
    .macro midflight_with_caller name, register, replacement
    midflight_begin \name
    mov \register, x30
    b \replacement
    midflight_end \name
    .endm
midflight_with_caller midflight_pthread_create, x4, {pthread_create}
midflight_with_caller midflight_thrd_create, x3, {thrd_create}
midflight_with_caller midflight_pthread_key_create, x2, {pthread_key_create}
midflight_with_caller midflight_tss_create, x2, {tss_create}
midflight_with_caller midflight_timer_create, x3, {timer_create}
midflight_with_caller midflight_mq_notify, x2, {mq_notify}
midflight_with_caller midflight_getaddrinfo_a, x4, {getaddrinfo_a}
midflight_with_caller midflight_dlsym, x2, {dlsym}
midflight_with_caller midflight_dlvsym, x3, {dlvsym}
midflight_with_caller midflight_dlopen, x2, {dlopen}
midflight_with_caller midflight_dladdr, x2, {dladdr}

// Where such a thread begins. It tells the runtime and goes on to the module's function, leaving no frame: pthread_exit
// and cancellation unwind from there to the C library.
    .macro midflight_entry name, arrive
    midflight_begin \name
    stp x29, x30, [sp, #-16]!
    .cfi_adjust_cfa_offset 16
    .cfi_rel_offset x29, 0
    .cfi_rel_offset x30, 8
    mov x29, sp
    bl \arrive
    ldp x29, x30, [sp], #16
    .cfi_adjust_cfa_offset -16
    .cfi_restore x29
    .cfi_restore x30
    mov x16, x0
    mov x0, x1
    br x16
    midflight_end \name
    .endm
midflight_entry midflight_thread_entry, {arrive}
midflight_entry midflight_std_thread_entry, {arrive_std}
midflight_entry midflight_notified_entry, {arrive_notified}

// std::thread::_M_start_thread(this, state, depend): {wrap} replaces the state and returns the real function.
midflight_begin midflight_std_start_thread
    stp x29, x30, [sp, #-48]!
    .cfi_adjust_cfa_offset 48
    .cfi_rel_offset x29, 0
    .cfi_rel_offset x30, 8
    mov x29, sp
    stp x0, x1, [sp, #16]
    str x2, [sp, #32]
    mov x0, x1
    mov x1, x30
    bl {wrap}
    mov x16, x0
    ldp x0, x1, [sp, #16]
    ldr x2, [sp, #32]
    ldp x29, x30, [sp], #48
    .cfi_adjust_cfa_offset -48
    .cfi_restore x29
    .cfi_restore x30
    br x16
midflight_end midflight_std_start_thread

    .purgem midflight_begin
    .purgem midflight_end
    .purgem midflight_with_caller
    .purgem midflight_entry
