# Threads that modules start. See src/host/threads.rs.
    .text

# C functions whose replacement is given one more argument: who calls.
    .macro midflight_with_caller name, register, replacement
    midflight_begin \name
    mov (%rsp), \register
    jmp \replacement
    midflight_end \name
    .endm
midflight_with_caller midflight_pthread_create, %r8, {pthread_create}
midflight_with_caller midflight_thrd_create, %rcx, {thrd_create}
midflight_with_caller midflight_pthread_key_create, %rdx, {pthread_key_create}
midflight_with_caller midflight_tss_create, %rdx, {tss_create}
midflight_with_caller midflight_timer_create, %rcx, {timer_create}
midflight_with_caller midflight_mq_notify, %rdx, {mq_notify}
midflight_with_caller midflight_getaddrinfo_a, %r8, {getaddrinfo_a}
midflight_with_caller midflight_dlsym, %rdx, {dlsym}
midflight_with_caller midflight_dlvsym, %rcx, {dlvsym}
midflight_with_caller midflight_dlopen, %rdx, {dlopen}
midflight_with_caller midflight_dladdr, %rdx, {dladdr}

# Where such a thread begins. It tells the runtime and goes on to the module's function, leaving no frame: pthread_exit
# and cancellation unwind from there to the C library.
    .macro midflight_entry name, arrive
    midflight_begin \name
    sub $8, %rsp
    .cfi_adjust_cfa_offset 8
    call \arrive
    add $8, %rsp
    .cfi_adjust_cfa_offset -8
    mov %rdx, %rdi
    jmp *%rax
    midflight_end \name
    .endm
midflight_entry midflight_thread_entry, {arrive}
midflight_entry midflight_std_thread_entry, {arrive_std}
midflight_entry midflight_notified_entry, {arrive_notified}

# std::thread::_M_start_thread(this, state, depend): {wrap} replaces the state and returns the real function.
midflight_begin midflight_std_start_thread
    push %rdi
    .cfi_adjust_cfa_offset 8
    push %rsi
    .cfi_adjust_cfa_offset 8
    push %rdx
    .cfi_adjust_cfa_offset 8
    mov %rsi, %rdi
    mov 24(%rsp), %rsi
    call {wrap}
    pop %rdx
    .cfi_adjust_cfa_offset -8
    pop %rsi
    .cfi_adjust_cfa_offset -8
    pop %rdi
    .cfi_adjust_cfa_offset -8
    jmp *%rax
midflight_end midflight_std_start_thread

    .purgem midflight_with_caller
    .purgem midflight_entry
