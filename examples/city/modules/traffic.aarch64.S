/*
 * Traffic, for AArch64 with NEON (see traffic.x86_64.S for its twin, step for step).
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
 *
 * No fused multiply-add: the results are the x86-64 twin's to the last bit.
 */
#include "city.h"

/* A function that others call, by the name that C's has in this format; and its end. */
.macro  function name
        .p2align 4
#ifdef __APPLE__
        .globl  _\name
_\name:
#else
        .globl  \name
        .type   \name, %function
\name:
#endif
.endm

.macro  end name
#ifndef __APPLE__
        .size   \name, . - \name
#endif
.endm

#define CELLS (GRID * GRID)
#define ROW (4 * GRID)
#define LOAD_ROW (4 * LOAD_STRIDE)

/* Four equal floats in `reg`, from their bits; goes through w9. */
.macro  fill reg, bits
        ldr     w9, =\bits
        dup     \reg\().4s, w9
.endm

/* acc += the four loads at base + offset (unaligned); goes through v1. */
.macro  add_load base, offset, acc
        ldur    q1, [\base, #\offset]
        fadd    \acc\().4s, \acc\().4s, v1.4s
.endm

        .text
        function gather                         /* x0 slice, x1 world, x2 report */
        bti     c
        mov     w9, #VERSION
        str     w9, [x2, #REPORT_VERSION]
        ldr     w3, [x0, #SLICE_FIRST]          /* row */
        ldr     w4, [x0, #SLICE_END]
        ldr     x5, [x1, #WORLD_COUNTS]
        mov     w9, #ROW
        umaddl  x5, w3, w9, x5                  /* this row's counts in lane 0 */
        ldr     x6, [x1, #WORLD_LOAD]
        mov     w9, #LOAD_ROW
        umaddl  x6, w3, w9, x6                  /* this row's load */
        ldr     w7, [x1, #WORLD_LANES]
        mov     x8, #(4 * CELLS)
        movi    v2.4s, #0
.Lgather_row:
        cmp     w3, w4
        b.hs    .Lgather_done
        mov     x10, #0                         /* byte offset in the row */
.Lgather_cells:
        add     x11, x5, x10
        mov     w12, w7
        movi    v0.4s, #0
.Lgather_lane:
        ldr     q1, [x11]
        add     v0.4s, v0.4s, v1.4s
        str     q2, [x11]
        add     x11, x11, x8
        subs    w12, w12, #1
        b.ne    .Lgather_lane
        scvtf   v0.4s, v0.4s
        str     q0, [x6, x10]
        add     x10, x10, #16
        cmp     x10, #ROW
        b.lo    .Lgather_cells
        add     x5, x5, #ROW
        add     x6, x6, #LOAD_ROW
        add     w3, w3, #1
        b       .Lgather_row
.Lgather_done:
        ret
        end     gather

        function spread                         /* x0 slice, x1 world, x2 report */
        bti     c
        mov     w9, #VERSION
        str     w9, [x2, #REPORT_VERSION]
        fill    v16, 0x3e000000                 /* 1/8 */
        fill    v17, 0x3e800000                 /* 1/4 */
        fill    v18, 0x3d800000                 /* 1/16 */
        fill    v19, 0x3f800000                 /* 1 */
        fill    v20, 0x3dcccccd                 /* 0.1 */
        fill    v21, TOP_SPEED_BITS
        fill    v22, 0x3f000000                 /* 1/2 */
        add     x9, x1, #WORLD_PER_JAM
        ld1r    {v23.4s}, [x9]
        ldr     w3, [x0, #SLICE_FIRST]          /* row */
        ldr     w4, [x0, #SLICE_END]
        ldr     x5, [x1, #WORLD_LOAD]
        mov     w9, #LOAD_ROW
        umaddl  x5, w3, w9, x5
        mov     w9, #ROW
        ldr     x6, [x1, #WORLD_DENSITY]
        umaddl  x6, w3, w9, x6
        ldr     x7, [x1, #WORLD_LIMIT]
        umaddl  x7, w3, w9, x7
.Lspread_row:
        cmp     w3, w4
        b.hs    .Lspread_done
        mov     x10, #0                         /* byte offset in the row */
.Lspread_cells:
        add     x11, x5, x10
        sub     x12, x11, #LOAD_ROW             /* the row above */
        add     x13, x11, #LOAD_ROW             /* the row below */
        ldr     q0, [x11]
        ldr     q2, [x12]                       /* the four neighbours */
        add_load x13, 0, v2
        add_load x11, -4, v2
        add_load x11, 4, v2
        fmul    v2.4s, v2.4s, v16.4s
#if VERSION == 1
        fmul    v0.4s, v0.4s, v22.4s            /* 1/2 here, 1/8 each neighbour */
        fadd    v0.4s, v0.4s, v2.4s
#else
        fmul    v0.4s, v0.4s, v17.4s            /* 1/4 here, 1/8 each neighbour, 1/16 each of four more */
        fadd    v0.4s, v0.4s, v2.4s
#if VERSION == 2
        ldur    q3, [x12, #-4]                  /* the diagonal ones */
        add_load x12, 4, v3
        add_load x13, -4, v3
        add_load x13, 4, v3
#elif VERSION == 3
        sub     x12, x12, #LOAD_ROW             /* the next ones along the streets */
        add     x13, x13, #LOAD_ROW
        ldr     q3, [x12]
        add_load x13, 0, v3
        add_load x11, -8, v3
        add_load x11, 8, v3
#else
#error "VERSION is 1, 2 or 3"
#endif
        fmul    v3.4s, v3.4s, v18.4s
        fadd    v0.4s, v0.4s, v3.4s
#endif
#if VERSION == 3
        ldr     q4, [x6, x10]                   /* a quarter of the way from the last step's density */
        fsub    v0.4s, v0.4s, v4.4s
        fmul    v0.4s, v0.4s, v17.4s
        fadd    v0.4s, v0.4s, v4.4s
#endif
        str     q0, [x6, x10]
        fmul    v0.4s, v0.4s, v23.4s            /* d */
#if VERSION == 1
        fadd    v5.4s, v19.4s, v0.4s
        fdiv    v6.4s, v21.4s, v5.4s
#else
#if VERSION == 3
        fmul    v0.4s, v0.4s, v0.4s
#endif
        fsub    v5.4s, v19.4s, v0.4s
        fmax    v5.4s, v5.4s, v20.4s
        fmul    v6.4s, v21.4s, v5.4s
#endif
        str     q6, [x7, x10]
        add     x10, x10, #16
        cmp     x10, #ROW
        b.lo    .Lspread_cells
        add     x5, x5, #LOAD_ROW
        add     x6, x6, #ROW
        add     x7, x7, #ROW
        add     w3, w3, #1
        b       .Lspread_row
.Lspread_done:
        ret
        end     spread
        .ltorg

#ifndef __APPLE__
/* The GNU property that says "BTI everywhere", so that these pages can be mapped with PROT_BTI. */
        .section .note.gnu.property, "a"
        .p2align 3
        .word   4, 16, 5                        /* sizes of name and descriptor, NT_GNU_PROPERTY_TYPE_0 */
        .asciz  "GNU"
        .word   0xc0000000, 4                   /* GNU_PROPERTY_AARCH64_FEATURE_1_AND, its size */
        .word   1, 0                            /* BTI, padding */

        .section .note.GNU-stack, "", %progbits
#endif
