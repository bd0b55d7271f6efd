// What the engine and its module agree on.
#ifndef MOVEMENT_H
#define MOVEMENT_H

#ifdef __cplusplus
extern "C" {
#endif

struct walker {
    float x, speed;
};

void movement_step(struct walker* walkers, int count, float seconds);

#ifdef __cplusplus
}
#endif

#endif
