// The module: an ordinary shared object. Change it and compile it again while an engine runs:
//
//     gcc -shared -fPIC -O2 movement.c -o libmovement.so.new && mv libmovement.so.new libmovement.so
#include "movement.h"

#ifndef DIRECTION
#define DIRECTION 1
#endif

void movement_step(struct walker* walkers, int count, float seconds) {
    for (int i = 0; i < count; i++) walkers[i].x += DIRECTION * walkers[i].speed * seconds;
}
