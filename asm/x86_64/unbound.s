# Where the stub of an unbound slot goes, and a checked trampoline outside frames, with the slot's number in r11d.
# It does what `Pause::target` does (crates/dispatch/src/pause.rs), which has the words' offsets: it waits while the
# publisher has the calls of modules wait, and then goes on to what is behind the slot. If nothing is, it reports and
# aborts. r10 and r11 are free; every other register stays as it is: system calls change rax, rcx and r11 alone. A thread
# may leave it at any instruction (siglongjmp, pthread_cancel): it holds nothing.
    .text
    midflight_begin midflight_unbound
    # A call outside frames of what is only called inside.
    test %r11d, %r11d
    js 9f
    midflight_push %rax
1:  mov {pause}(%rip), %r10
    test %r10, %r10
    jz 2f
    cmpl $0, (%r10)
    je 2f
    # Who pauses would wait for himself.
    mov midflight_thread@gottpoff(%rip), %rax
    add %fs:0, %rax
    cmp {pause}+32(%rip), %rax
    je 6f
    midflight_push %rcx
    midflight_push %rdx
    midflight_push %rsi
    midflight_push %rdi
    midflight_push %r11
    # futex(word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, no time-out)
    mov %r10, %rdi
    mov $128, %esi
    mov $1, %edx
    xor %r10d, %r10d
    mov $202, %eax
    syscall
    midflight_pop %r11
    midflight_pop %rdi
    midflight_pop %rsi
    midflight_pop %rdx
    midflight_pop %rcx
    jmp 1b

2:  mov midflight_thread@gottpoff(%rip), %r10
    mov %fs:(%r10), %r10
    cmp {pause}+16(%rip), %r10
    je 3f
    mov (%r10, %r11, 8), %r10
    # Still a stub? Those are aligned, and have this function's address at byte 12.
    test $31, %r10b
    jnz 5f
    lea midflight_unbound(%rip), %rax
    cmp %rax, 12(%r10)
    jne 5f
    # Nobody waits, and a pause is under way: in a child.
    mov {pause}+8(%rip), %rax
    test %rax, %rax
    jz 8f
    mov {pause}(%rip), %r10
    cmpl $0, (%r10)
    jne 1b
    cmp {pause}+8(%rip), %rax
    jne 1b
3:  mov {pause}+24(%rip), %r10
4:  mov (%r10, %r11, 8), %r10
    test %r10, %r10
    jz 8f
5:  .cfi_remember_state
    midflight_pop %rax
    jmp *%r10
    .cfi_restore_state

6:  lea {pause}+40(%rip), %r10
    jmp 4b

8:  midflight_pop %rax
9:  mov %r11d, %edi
    and $-16, %rsp
    call {report}
    ud2
    midflight_end midflight_unbound
