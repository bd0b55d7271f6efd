# call(kind, input, output): fills the registers from the input, calls the descriptor of `variable`, writes the registers to
# the output, and returns the variable's address. Kinds: 0 SSE, 1 AVX, 2 AVX-512.
#
# Layout: 14 general registers from 0; 32 vectors of 64 bytes from 128; 8 masks from 2176; then from 2240 MXCSR, and from
# 2248, in the output alone, two values of the x87 stack.
    .macro fill_and_call mov, register, masks, numbers:vararg
    ldmxcsr 2240(%rsi)
    fld1
    fldpi
    .irp n, \numbers
    \mov 128 + 64 * \n(%rsi), %\register\n
    .endr
    .if \masks
    .irp k, 0, 1, 2, 3, 4, 5, 6, 7
    kmovq 2176 + 8 * \k(%rsi), %k\k
    .endr
    .endif
    mov 0(%rsi), %rcx
    mov 8(%rsi), %rdx
    mov 16(%rsi), %rbx
    mov 24(%rsi), %rbp
    mov 32(%rsi), %rdi
    mov 48(%rsi), %r8
    mov 56(%rsi), %r9
    mov 64(%rsi), %r10
    mov 72(%rsi), %r11
    mov 80(%rsi), %r12
    mov 88(%rsi), %r13
    mov 96(%rsi), %r14
    mov 104(%rsi), %r15
    mov 40(%rsi), %rsi
    lea variable@tlsdesc(%rip), %rax
    call *variable@tlscall(%rax)
    mov %rax, 8(%rsp)
    mov 16(%rsp), %rax
    mov %rcx, 0(%rax)
    mov %rdx, 8(%rax)
    mov %rbx, 16(%rax)
    mov %rbp, 24(%rax)
    mov %rdi, 32(%rax)
    mov %rsi, 40(%rax)
    mov %r8, 48(%rax)
    mov %r9, 56(%rax)
    mov %r10, 64(%rax)
    mov %r11, 72(%rax)
    mov %r12, 80(%rax)
    mov %r13, 88(%rax)
    mov %r14, 96(%rax)
    mov %r15, 104(%rax)
    .irp n, \numbers
    \mov %\register\n, 128 + 64 * \n(%rax)
    .endr
    .if \masks
    .irp k, 0, 1, 2, 3, 4, 5, 6, 7
    kmovq %k\k, 2176 + 8 * \k(%rax)
    .endr
    .endif
    stmxcsr 2240(%rax)
    fstpl 2248(%rax)
    fstpl 2256(%rax)
    ldmxcsr (%rsp)
    .endm

    .text
    .globl call
    .type call, @function
call:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push %rdx
    sub $16, %rsp
    stmxcsr (%rsp)
    cmp $1, %edi
    ja 2f
    je 1f
    fill_and_call movups, xmm, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    jmp 3f
1:  fill_and_call vmovups, ymm, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    jmp 3f
2:  fill_and_call vmovups, zmm, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
3:  mov 8(%rsp), %rax
    add %fs:0, %rax
    add $24, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
    .size call, . - call

# Calls __tls_get_addr with a stack that is not aligned: at a function's entry it is 8 bytes off.
    .globl misaligned
    .type misaligned, @function
misaligned:
    .byte 0x66
    lea variable@tlsgd(%rip), %rdi
    .byte 0x66, 0x66
    rex64 call __tls_get_addr@PLT
    ret
    .size misaligned, . - misaligned

    .ifndef ELSEWHERE
    .section .tbss, "awT", @nobits
    .globl variable
    .type variable, @object
    .size variable, 8
    .p2align 3
variable:
    .zero 8
    .endif
    .section .note.GNU-stack, "", @progbits
