# A recovery point, and how a thread comes back to it. src/platform/arch/x86_64/context.rs has the record's layout.

# Each thread's words: the innermost recovery point, and what the thread has for faults. Both are initially none.
    .section .tbss, "awT", @nobits
    .p2align 3
    .globl midflight_guards
    .hidden midflight_guards
    .type midflight_guards, @tls_object
    .size midflight_guards, 16
midflight_guards:
    .zero 16
    .text

# midflight_guard(run, argument, top): calls run(argument) with a recovery point in the word at `top`. Returns two words:
# what the landing pad was given, and why; 0 as the second if `run` returned.
midflight_begin midflight_guard
    .cfi_personality 0x1b, {personality}
    midflight_push %rbp
    midflight_push %rbx
    midflight_push %r12
    midflight_push %r13
    midflight_push %r14
    midflight_push %r15
    sub ${size}, %rsp
    .cfi_adjust_cfa_offset {size}
    mov (%rdx), %rax
    mov %rax, {previous}(%rsp)
    mov %rdx, {top}(%rsp)
    mov %rsp, {mark}(%rsp)
    # Does nothing where there is no shadow stack.
    xor %eax, %eax
    rdsspq %rax
    mov %rax, {shadow}(%rsp)
    stmxcsr {modes}(%rsp)
    fnstcw 4 + {modes}(%rsp)
    mov %rsp, (%rdx)
    mov %rdi, %rax
    mov %rsi, %rdi
    call *%rax
    xor %edx, %edx

    # The innermost is the one around it again. The words that are returned stay.
1:  mov {previous}(%rsp), %rcx
    mov {top}(%rsp), %rsi
    mov %rcx, (%rsi)
    movq $0, {mark}(%rsp)
    add ${size}, %rsp
    .cfi_remember_state
    .cfi_adjust_cfa_offset -{size}
    midflight_pop %r15
    midflight_pop %r14
    midflight_pop %r13
    midflight_pop %r12
    midflight_pop %rbx
    midflight_pop %rbp
    ret
    .cfi_restore_state

# The landing pad: the stack pointer is the record's address, rax and rdx have the words, the direction flag is clear.
    .globl midflight_landing
    .hidden midflight_landing
midflight_landing:
    endbr64
    # The x87 stack is empty, no exception waits.
    fninit
    fldcw 4 + {modes}(%rsp)
    ldmxcsr {modes}(%rsp)
    mov {shadow}(%rsp), %rcx
    test %rcx, %rcx
    jz 1b
    # It grows down: so many entries were left on it.
    xor %esi, %esi
    rdsspq %rsi
    sub %rsi, %rcx
    jbe 1b
    shr $3, %rcx
    # At most 255 at once.
2:  mov $255, %esi
    cmp %rsi, %rcx
    cmovb %rcx, %rsi
    incsspq %rsi
    sub %rsi, %rcx
    ja 2b
    jmp 1b
midflight_end midflight_guard

# midflight_land(record, word, why): leaves everything up to a recovery point.
    midflight_function midflight_land
    mov %rdi, %rsp
    mov %rsi, %rax
    cld
    jmp midflight_landing
