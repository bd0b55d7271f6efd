# Where the stub of an unbound slot goes, and a checked trampoline outside frames, with the slot's number in r11d.
# While the publisher has the calls of modules wait (src/call/pause.rs), it waits, and then goes on to what is behind the
# slot. Else it reports and aborts. r10 and r11 are free; every other register stays as it is: system calls change rax,
# rcx and r11 alone.
    .text
    midflight_function midflight_unbound
    # A call outside frames of what is only called inside.
    test %r11d, %r11d
    js 9f
    push %rax
1:  cmpl $0, {pause}(%rip)
    je 2f
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %r11
    # futex(&pause, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, no time-out)
    lea {pause}(%rip), %rdi
    mov $128, %esi
    mov $1, %edx
    xor %r10d, %r10d
    mov $202, %eax
    syscall
    pop %r11
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    jmp 1b

2:  mov midflight_thread@gottpoff(%rip), %r10
    mov %fs:(%r10), %r10
    cmp {paused}(%rip), %r10
    jne 3f
    # A frame that was opened during the pause.
    lea {forward}(%rip), %r10
    mov (%r10, %r11, 8), %r10
    pop %rax
    test %r10, %r10
    jz 9f
    jmp *%r10

3:  mov (%r10, %r11, 8), %r10
    # Still a stub? Those are aligned, and have this address at byte 12.
    test $31, %r10b
    jnz 4f
    lea midflight_unbound(%rip), %rax
    cmp %rax, 12(%r10)
    je 5f
4:  pop %rax
    jmp *%r10
5:  pop %rax

9:  mov %r11d, %edi
    and $-16, %rsp
    call {report}
    ud2
