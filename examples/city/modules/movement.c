/*
 * Movement: every agent is drawn to its home or its work, no faster than its street allows, and counted in
 * the cell where it ends up. The three versions integrate the same equations in three ways.
 */
#include "city.h"

#define PULL 12.0f /* acceleration towards the goal, cells/s^2 */
#define DRAG 0.8f /* 1/s */
#define EDGE 255.996f /* just inside the map */

struct vec {
    float x, y;
};

struct body {
    struct vec at, going;
};

static inline struct vec plus(struct vec a, struct vec b, float times) {
    return (struct vec){a.x + b.x * times, a.y + b.y * times};
}

/* The pull has full strength from afar and fades within a cell of the goal, so that agents come to rest. */
static inline struct vec pull(struct vec at, struct vec goal) {
    float dx = goal.x - at.x, dy = goal.y - at.y;
    float strength = PULL / __builtin_sqrtf(dx * dx + dy * dy + 1.0f);
    return (struct vec){dx * strength, dy * strength};
}

#if VERSION == 1
/* Explicit Euler: the old velocity moves the agent. */
static inline struct body advance(struct body b, struct vec goal) {
    struct vec force = plus(pull(b.at, goal), b.going, -DRAG);
    return (struct body){plus(b.at, b.going, DT), plus(b.going, force, DT)};
}
#elif VERSION == 2
/* Semi-implicit Euler: the new velocity moves the agent. */
static inline struct body advance(struct body b, struct vec goal) {
    struct vec force = plus(pull(b.at, goal), b.going, -DRAG);
    struct vec going = plus(b.going, force, DT);
    return (struct body){plus(b.at, going, DT), going};
}
#elif VERSION == 3
/* Second order in place: the mean of the old and the new velocity moves the agent. */
static inline struct body advance(struct body b, struct vec goal) {
    struct vec force = plus(pull(b.at, goal), b.going, -DRAG);
    struct vec going = plus(b.going, force, DT);
    return (struct body){plus(plus(b.at, b.going, DT / 2), going, DT / 2), going};
}
#else
#error "VERSION is 1, 2 or 3"
#endif

static inline float larger(float a, float b) { return a > b ? a : b; }
static inline float smaller(float a, float b) { return a < b ? a : b; }

static inline struct vec slow_down(struct vec v, float limit) {
    float scale = limit / __builtin_sqrtf(larger(v.x * v.x + v.y * v.y, limit * limit));
    return (struct vec){v.x * scale, v.y * scale};
}

static inline float inside(float at) { return smaller(larger(at, 0.0f), EDGE); }

/* Moves agents [0, count) of the given arrays. Nothing in here depends on another agent or looks anything up,
   so that the compiler makes vector code of it. */
static inline void move(uint32_t count, float *restrict x, float *restrict y, float *restrict vx,
                        float *restrict vy, const uint32_t *restrict errand, const uint32_t *restrict home,
                        const uint32_t *restrict work, const float *restrict limit) {
    for (uint32_t i = 0; i < count; i++) {
        uint32_t target = choose(errand[i] == WORK, work[i], home[i]);
        struct vec goal = {(float)(int32_t)(target % GRID) + 0.5f, (float)(int32_t)(target / GRID) + 0.5f};
        struct body b = {{x[i], y[i]}, slow_down((struct vec){vx[i], vy[i]}, limit[i])};

        b = advance(b, goal);
        x[i] = inside(b.at.x);
        y[i] = inside(b.at.y);
        vx[i] = b.going.x;
        vy[i] = b.going.y;
    }
}

/* Agents that are looked up, moved and counted together. */
#define BATCH 256

EXPORT void step(const struct slice *slice, const struct world *w, struct report *report) {
    uint32_t *counts = w->counts + (size_t)slice->lane * GRID * GRID;
    float limit[BATCH];

    report->version = VERSION;
    for (uint32_t first = slice->first, count; first < slice->end; first += count) {
        float *x = w->x + first, *y = w->y + first;

        count = slice->end - first < BATCH ? slice->end - first : BATCH;
        for (uint32_t i = 0; i < count; i++) limit[i] = w->limit[cell_at(x[i], y[i])];
        move(count, x, y, w->vx + first, w->vy + first, w->errand + first, w->home + first, w->work + first,
             limit);
        for (uint32_t i = 0; i < count; i++) counts[cell_at(x[i], y[i])]++;
    }
}
