/*
 * What the city's host and its modules share. The host owns every byte named here and keeps it across
 * versions: a module has no state of its own, so replacing it is replacing code and nothing else.
 *
 * The assembly modules include this file too: they see the constants and offsets, C and C++ see the
 * structures, and the assertions at the end hold the two together. `layout.rs` is the Rust twin.
 */
#ifndef CITY_H
#define CITY_H

/* The map: GRID x GRID cells of side 1.0, and BLOCKS x BLOCKS districts of 16 x 16 cells. */
#define GRID 256
#define BLOCKS 16

/* Floats from one row of `load` to the next. It has a border of zeros, two rows above and below and four
   columns at each side, so that a stencil needs no special case at the edge of the map. */
#define LOAD_STRIDE (GRID + 8)

/* The fields that assembly reads. */
#define SLICE_FIRST 0
#define SLICE_END 4
#define REPORT_VERSION 0
#define WORLD_COUNTS 0
#define WORLD_LOAD 8
#define WORLD_DENSITY 16
#define WORLD_LIMIT 24
#define WORLD_LANES 32
#define WORLD_PER_JAM 40

/* Top speed of an empty street in cells a second, as C and as the bits that assembly can load. */
#define TOP_SPEED 8.0f
#define TOP_SPEED_BITS 0x41000000

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

/* One fixed step of the simulation, in seconds. */
#define DT (1.0f / 60.0f)

/* Where an agent is heading. */
enum { HOME = 0, WORK = 1 };

/* A share of one system's work: agents, rows of the grid or districts [first, end). `lane` numbers the
   calling thread and picks its own row of the partial sums. */
struct slice {
    uint32_t first, end;
    uint32_t lane;
    uint32_t tick;
};

/* Which version ran, written by the code that ran: evidence that does not rest on the runtime's word. */
struct report {
    uint32_t version;
};

struct world {
    /* Traffic, by cell. `counts` has one grid for each lane; `load` points at cell (0, 0) inside its border. */
    uint32_t *counts;
    float *load;    /* agents in the cell */
    float *density; /* the same, spread over the neighbourhood */
    float *limit;   /* speed limit that follows from it, cells a second */
    uint32_t lanes;
    uint32_t agents;
    float per_jam;  /* 1 / (agents a cell at which traffic jams) */
    int32_t supply; /* meals a district gets in a step, in 1/256 */

    /* Agents, one array for each property. */
    float *x, *y, *vx, *vy;
    uint32_t *home, *work; /* cells */
    float *hunger, *energy; /* 0 to 1 */
    int32_t *money; /* cents */
    uint32_t *errand; /* HOME or WORK */

    /* The market, by district. `demand` and `tax` have one row for each lane. */
    int32_t *demand; /* meals bought in this step */
    int32_t *tax; /* cents taken in this step */
    int32_t *price; /* cents a meal */
    int32_t *stock; /* what the price model remembers, in 1/256 meals */
    int64_t *treasury; /* cents */
};

static inline uint32_t cell_at(float x, float y) { return (uint32_t)(int32_t)y * GRID + (uint32_t)(int32_t)x; }

static inline uint32_t district_of(uint32_t cell) {
    return cell / (GRID * GRID / BLOCKS) * BLOCKS + cell % GRID / (GRID / BLOCKS);
}

/* The systems choose without branching where they can: what the next agent does is anybody's guess, the
   processor's too, and its wrong guesses would cost more than the rest of the frame. */
static inline uint32_t choose(int which, uint32_t yes, uint32_t no) {
    uint32_t mask = -(uint32_t)which;
    return (yes & mask) | (no & ~mask);
}

#ifdef __cplusplus
#define EXPORT extern "C" __attribute__((visibility("default")))
#define SAME(a, b) static_assert((a) == (b), #a)
#else
#define EXPORT __attribute__((visibility("default")))
#define SAME(a, b) _Static_assert((a) == (b), #a)
#endif

SAME(offsetof(struct slice, first), SLICE_FIRST);
SAME(offsetof(struct slice, end), SLICE_END);
SAME(offsetof(struct report, version), REPORT_VERSION);
SAME(offsetof(struct world, counts), WORLD_COUNTS);
SAME(offsetof(struct world, load), WORLD_LOAD);
SAME(offsetof(struct world, density), WORLD_DENSITY);
SAME(offsetof(struct world, limit), WORLD_LIMIT);
SAME(offsetof(struct world, lanes), WORLD_LANES);
SAME(offsetof(struct world, per_jam), WORLD_PER_JAM);
#endif /* __ASSEMBLER__ */
#endif
