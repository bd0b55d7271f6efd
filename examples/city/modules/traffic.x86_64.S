/*
 * Traffic, for x86-64 with SSE2 (see traffic.aarch64.S for its twin, step for step).
 *
 *   gather(slice, world, report)   load = the agents of each cell, added up over the lanes; clears the counts
 *   spread(slice, world, report)   density = load spread over the neighbourhood; limit = the speed it allows
 *
 * A slice is rows of the grid. Both work on four cells at a time. `spread` reads the load of its neighbours'
 * rows and writes only its own, so rows may be shared out among threads in any way.
 *
 *   version   spread over                        speed limit (d = density over jam density)
 *   1         a cross of 5 cells                 top / (1 + d)
 *   2         the 9 cells around                 top * max(1 - d, 0.1)                Greenshields' line
 *   3         a cross of 9 cells, and over time  top * max(1 - d^2, 0.1)              a parabola
 */
#include "city.h"

#define CELLS (GRID * GRID)
#define ROW (4 * GRID)
#define LOAD_ROW (4 * LOAD_STRIDE)

/* Four equal floats in `reg`, from their bits; goes through eax. */
.macro  fill reg, bits
        movl    $\bits, %eax
        movd    %eax, \reg
        pshufd  $0, \reg, \reg
.endm

/* acc += the four loads at `where` (unaligned); goes through xmm1. */
.macro  add_load where, acc
        movups  \where, %xmm1
        addps   %xmm1, \acc
.endm

        .text
        .globl  gather
        .type   gather, @function
        .p2align 4
gather:                                         /* rdi slice, rsi world, rdx report */
        endbr64
        movl    $VERSION, REPORT_VERSION(%rdx)
        movl    SLICE_FIRST(%rdi), %eax         /* row */
        movl    SLICE_END(%rdi), %ecx
        imulq   $ROW, %rax, %r8
        addq    WORLD_COUNTS(%rsi), %r8         /* this row's counts in lane 0 */
        imulq   $LOAD_ROW, %rax, %r9
        addq    WORLD_LOAD(%rsi), %r9           /* this row's load */
        pxor    %xmm2, %xmm2
.Lgather_row:
        cmpl    %ecx, %eax
        jae     .Lgather_done
        xorl    %r10d, %r10d                    /* byte offset in the row */
.Lgather_cells:
        leaq    (%r8, %r10), %r11
        movl    WORLD_LANES(%rsi), %edi
        pxor    %xmm0, %xmm0
.Lgather_lane:
        movdqu  (%r11), %xmm1
        paddd   %xmm1, %xmm0
        movdqu  %xmm2, (%r11)
        addq    $(4 * CELLS), %r11
        decl    %edi
        jnz     .Lgather_lane
        cvtdq2ps %xmm0, %xmm0
        movups  %xmm0, (%r9, %r10)
        addl    $16, %r10d
        cmpl    $ROW, %r10d
        jb      .Lgather_cells
        addq    $ROW, %r8
        addq    $LOAD_ROW, %r9
        incl    %eax
        jmp     .Lgather_row
.Lgather_done:
        ret
        .size   gather, . - gather

        .globl  spread
        .type   spread, @function
        .p2align 4
spread:                                         /* rdi slice, rsi world, rdx report */
        endbr64
        movl    $VERSION, REPORT_VERSION(%rdx)
        fill    %xmm8, 0x3e000000               /* 1/8 */
        fill    %xmm9, 0x3e800000               /* 1/4 */
        fill    %xmm10, 0x3d800000              /* 1/16 */
        fill    %xmm11, 0x3f800000              /* 1 */
        fill    %xmm12, 0x3dcccccd              /* 0.1 */
        fill    %xmm13, TOP_SPEED_BITS
        fill    %xmm14, 0x3f000000              /* 1/2 */
        movss   WORLD_PER_JAM(%rsi), %xmm15
        shufps  $0, %xmm15, %xmm15
        movl    SLICE_FIRST(%rdi), %eax         /* row */
        movl    SLICE_END(%rdi), %ecx
        imulq   $LOAD_ROW, %rax, %r8
        addq    WORLD_LOAD(%rsi), %r8
        imulq   $ROW, %rax, %r9
        movq    %r9, %r10
        addq    WORLD_DENSITY(%rsi), %r9
        addq    WORLD_LIMIT(%rsi), %r10
.Lspread_row:
        cmpl    %ecx, %eax
        jae     .Lspread_done
        xorl    %edx, %edx                      /* byte offset in the row */
.Lspread_cells:
        leaq    (%r8, %rdx), %r11
        movups  (%r11), %xmm0
        movups  -LOAD_ROW(%r11), %xmm2          /* the four neighbours */
        add_load LOAD_ROW(%r11), %xmm2
        add_load -4(%r11), %xmm2
        add_load 4(%r11), %xmm2
        mulps   %xmm8, %xmm2
#if VERSION == 1
        mulps   %xmm14, %xmm0                   /* 1/2 here, 1/8 each neighbour */
        addps   %xmm2, %xmm0
#else
        mulps   %xmm9, %xmm0                    /* 1/4 here, 1/8 each neighbour, 1/16 each of four more */
        addps   %xmm2, %xmm0
#if VERSION == 2
        movups  -LOAD_ROW-4(%r11), %xmm3        /* the diagonal ones */
        add_load -LOAD_ROW+4(%r11), %xmm3
        add_load LOAD_ROW-4(%r11), %xmm3
        add_load LOAD_ROW+4(%r11), %xmm3
#elif VERSION == 3
        movups  -2*LOAD_ROW(%r11), %xmm3        /* the next ones along the streets */
        add_load 2*LOAD_ROW(%r11), %xmm3
        add_load -8(%r11), %xmm3
        add_load 8(%r11), %xmm3
#else
#error "VERSION is 1, 2 or 3"
#endif
        mulps   %xmm10, %xmm3
        addps   %xmm3, %xmm0
#endif
#if VERSION == 3
        movups  (%r9, %rdx), %xmm4              /* a quarter of the way from the last step's density */
        subps   %xmm4, %xmm0
        mulps   %xmm9, %xmm0
        addps   %xmm4, %xmm0
#endif
        movups  %xmm0, (%r9, %rdx)
        mulps   %xmm15, %xmm0                   /* d */
        movaps  %xmm11, %xmm5
#if VERSION == 1
        addps   %xmm0, %xmm5
        movaps  %xmm13, %xmm6
        divps   %xmm5, %xmm6
#else
#if VERSION == 3
        mulps   %xmm0, %xmm0
#endif
        subps   %xmm0, %xmm5
        maxps   %xmm12, %xmm5
        movaps  %xmm13, %xmm6
        mulps   %xmm5, %xmm6
#endif
        movups  %xmm6, (%r10, %rdx)
        addl    $16, %edx
        cmpl    $ROW, %edx
        jb      .Lspread_cells
        addq    $LOAD_ROW, %r8
        addq    $ROW, %r9
        addq    $ROW, %r10
        incl    %eax
        jmp     .Lspread_row
.Lspread_done:
        ret
        .size   spread, . - spread

        .section .note.GNU-stack, "", @progbits
