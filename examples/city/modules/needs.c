/*
 * Needs: how hungry and how rested an agent is, and so whether it heads for home or for work. The three
 * versions are three ideas of how people tire.
 */
#include "city.h"

#define HUNGER 0.05f /* of a full stomach, per second */
#define EFFORT 0.004f /* energy spent per second and unit of speed squared */

static inline float within(float v) {
    v = v > 0.0f ? v : 0.0f;
    return v < 1.0f ? v : 1.0f;
}

struct state {
    float hunger, energy;
};

#if VERSION == 1
/* Steady: both change at a constant rate. */
static inline struct state tire(struct state s, float effort, int resting, uint32_t tick) {
    (void)tick;
    float gain = resting ? 0.20f : -0.02f - effort;
    return (struct state){s.hunger + HUNGER * DT, s.energy + gain * DT};
}
#elif VERSION == 2
/* Saturating: the hungry get hungrier slowly, and the last of the energy goes slowest. */
static inline struct state tire(struct state s, float effort, int resting, uint32_t tick) {
    (void)tick;
    float gain = resting ? 0.35f * (1.0f - s.energy) : -(0.04f + effort) * s.energy;
    return (struct state){s.hunger + 1.5f * HUNGER * (1.0f - s.hunger) * DT, s.energy + gain * DT};
}
#elif VERSION == 3
/* Day and night: 20 seconds make a day, and the hour (a triangle wave) decides how much rest is worth. */
#define DAY 1200
static inline struct state tire(struct state s, float effort, int resting, uint32_t tick) {
    int32_t hour = (int32_t)(tick % DAY) - DAY / 2;
    float light = (float)(hour < 0 ? -hour : hour) * (1.0f / (DAY / 2));
    float gain = resting ? 0.30f * (1.0f - light) + 0.05f : -0.05f * (1.0f - light) - effort;
    return (struct state){s.hunger + HUNGER * (0.5f + light) * DT, s.energy + gain * DT};
}
#else
#error "VERSION is 1, 2 or 3"
#endif

/* Agents [0, count) of the given arrays. Nothing in here depends on another agent, so that the compiler makes
   vector code of it. */
static inline void live(uint32_t count, uint32_t tick, const float *restrict x, const float *restrict y,
                        const float *restrict vx, const float *restrict vy, const uint32_t *restrict home,
                        float *restrict hunger, float *restrict energy, uint32_t *restrict errand) {
    for (uint32_t i = 0; i < count; i++) {
        float effort = EFFORT * (vx[i] * vx[i] + vy[i] * vy[i]);
        int resting = (errand[i] == HOME) & (cell_at(x[i], y[i]) == home[i]);
        struct state s = tire((struct state){hunger[i], energy[i]}, effort, resting, tick);

        s.energy = within(s.energy);
        hunger[i] = within(s.hunger);
        energy[i] = s.energy;
        /* Between the two thresholds an agent keeps to what it was doing. */
        errand[i] = choose(s.energy > 0.9f, WORK, choose(s.energy < 0.2f, HOME, errand[i]));
    }
}

EXPORT void step(const struct slice *slice, const struct world *w, struct report *report) {
    const uint32_t first = slice->first;

    report->version = VERSION;
    live(slice->end - first, slice->tick, w->x + first, w->y + first, w->vx + first, w->vy + first,
         w->home + first, w->hunger + first, w->energy + first, w->errand + first);
}
