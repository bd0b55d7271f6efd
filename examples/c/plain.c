// The loop of engine.c without midflight: movement.c is linked into it.
#include "movement.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char** argv) {
    if (argc < 2) return fprintf(stderr, "usage: %s FRAMES\n", argv[0]), 2;

    struct walker walkers[2] = {{0, 10}, {0, 20}};
    const struct timespec tick = {0, 16000000};
    for (int frames = atoi(argv[1]); frames > 0; frames--) {
        movement_step(walkers, 2, 0.016f);
        printf("%.2f %.2f\n", walkers[0].x, walkers[1].x);
        fflush(stdout);
        nanosleep(&tick, NULL);
    }
    return 0;
}
