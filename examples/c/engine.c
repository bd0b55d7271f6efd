// A loop whose movement can be replaced while it runs. plain.c is the same loop without midflight.
#include "movement.h"
#include "runtime_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char** argv) {
    if (argc < 3) return fprintf(stderr, "usage: %s FRAMES libmovement.so\n", argv[0]), 2;

    // Watched first, so that what is written while it loads is not missed.
    __typeof__(movement_step)* step;
    if (runtime_init(NULL) || hot_reload_watch(argv[2], NULL) || hot_reload_module(argv[2], NULL) ||
        hot_reload_frame_symbol("movement", "movement_step", (void**)&step))
        return fprintf(stderr, "%s\n", runtime_last_error()), 1;

    struct walker walkers[2] = {{0, 10}, {0, 20}};
    const struct timespec tick = {0, 16000000};
    for (int frames = atoi(argv[1]); frames > 0; frames--) {
        runtime_frame_t frame;
        runtime_frame_begin(&frame);
        step(walkers, 2, 0.016f);
        runtime_frame_end(&frame);
        printf("%.2f %.2f\n", walkers[0].x, walkers[1].x);
        fflush(stdout);
        nanosleep(&tick, NULL);
    }
    return runtime_shutdown();
}
