# How modules find their thread-local variables. The word is the calling thread's table of blocks, in static thread-local
# storage: the number of its entries, then the address of each version's block or null. Its initial value is a table of
# none. An id of ours has bit 31; with that bit turned over, an id of the C library's is beyond the end of any table.
    .section .tdata, "awT", @progbits
    .p2align 3
    .globl midflight_blocks
    .hidden midflight_blocks
    .type midflight_blocks, @tls_object
    .size midflight_blocks, 8
midflight_blocks:
    .quad {empty}

    .text

# Descriptor resolvers: rax holds the descriptor's address, and then the variable's distance from the thread pointer. Its
# second word is the argument. Every other register stays as it is, but for the flags, which the caller's own
# "add %fs:0, %rax" overwrites (ELF Handling For Thread-Local Storage, "TLS descriptors").

# The argument is that distance.
midflight_begin midflight_tls_static
    mov 8(%rax), %rax
    ret
midflight_end midflight_tls_static

# The argument is an address.
midflight_begin midflight_tls_undefined
    mov 8(%rax), %rax
    sub %fs:0, %rax
    ret
midflight_end midflight_tls_undefined

# The argument is id << 32 | offset, the offset with its sign.
midflight_begin midflight_tls_dynamic
    midflight_push %rcx
    midflight_push %rdx
    mov 8(%rax), %rax
    mov midflight_blocks@gottpoff(%rip), %rcx
    mov %fs:(%rcx), %rcx
    mov %rax, %rdx
    shr $32, %rdx
    xor $0x80000000, %edx
    cmp (%rcx), %rdx
    jae 1f
    mov 8(%rcx, %rdx, 8), %rcx
    test %rcx, %rcx
    jz 1f
    movslq %eax, %rax
    add %rcx, %rax
    sub %fs:0, %rax
    midflight_pop %rdx
    midflight_pop %rcx
    ret

    # The thread's first use. What a C function may change is saved: the general registers, and below them those of the
    # processor's extensions, in an area aligned to 64. rbx is where the stack was.
    .cfi_adjust_cfa_offset 16
    .cfi_rel_offset %rdx, 0
    .cfi_rel_offset %rcx, 8
1:  midflight_push %rbx
    mov %rsp, %rbx
    .cfi_def_cfa_register %rbx
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    .cfi_offset %rsi, -40
    .cfi_offset %rdi, -48
    .cfi_offset %r8, -56
    .cfi_offset %r9, -64
    .cfi_offset %r10, -72
    .cfi_offset %r11, -80
    mov %rax, %rdi
    lea {save}(%rip), %rsi
    sub 8(%rsi), %rsp
    and $-64, %rsp
    mov (%rsi), %eax
    mov 4(%rsi), %edx
    mov 16(%rsi), %ecx
    # xrstor wants the rest of the header to be zero.
    xor %esi, %esi
    .irp at, 512, 520, 528, 536, 544, 552, 560, 568
    mov %rsi, \at(%rsp)
    .endr
    cmp $1, %ecx
    ja 2f
    je 3f
    fxsave64 (%rsp)
    jmp 4f
3:  xsave64 (%rsp)
    jmp 4f
2:  xsavec64 (%rsp)
4:  movslq %edi, %rsi
    shr $32, %rdi
    call {address}
    mov %rax, %rdi
    lea {save}(%rip), %rsi
    mov (%rsi), %eax
    mov 4(%rsi), %edx
    cmpl $0, 16(%rsi)
    je 5f
    xrstor64 (%rsp)
    jmp 6f
5:  fxrstor64 (%rsp)
6:  mov %rdi, %rax
    sub %fs:0, %rax
    lea -48(%rbx), %rsp
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    .cfi_restore %rsi
    .cfi_restore %rdi
    .cfi_restore %r8
    .cfi_restore %r9
    .cfi_restore %r10
    .cfi_restore %r11
    .cfi_def_cfa_register %rsp
    midflight_pop %rbx
    midflight_pop %rdx
    midflight_pop %rcx
    ret
midflight_end midflight_tls_dynamic

# __tls_get_addr: rdi points at the id and the offset. GCC before 8 may call it with a stack that is not aligned.
midflight_begin midflight_tls_get_addr
    mov (%rdi), %rax
    mov $0x80000000, %ecx
    xor %rcx, %rax
    mov midflight_blocks@gottpoff(%rip), %rdx
    mov %fs:(%rdx), %rdx
    cmp (%rdx), %rax
    jae 1f
    mov 8(%rdx, %rax, 8), %rax
    test %rax, %rax
    jz 1f
    add 8(%rdi), %rax
    ret
1:  midflight_push %rbp
    mov %rsp, %rbp
    .cfi_def_cfa_register %rbp
    and $-16, %rsp
    mov 8(%rdi), %rsi
    mov (%rdi), %rdi
    call {address}
    mov %rbp, %rsp
    .cfi_def_cfa_register %rsp
    midflight_pop %rbp
    ret
midflight_end midflight_tls_get_addr

# Gives the calling thread another table.
midflight_begin midflight_set_blocks
    mov midflight_blocks@gottpoff(%rip), %rax
    mov %rdi, %fs:(%rax)
    ret
midflight_end midflight_set_blocks

midflight_begin midflight_thread_pointer
    mov %fs:0, %rax
    ret
midflight_end midflight_thread_pointer
