// The loop of engine.cpp without midflight: movement.c is linked into it.
#include "movement.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

int main(int argc, char** argv) {
    if (argc < 2) return std::fprintf(stderr, "usage: %s FRAMES\n", argv[0]), 2;

    walker walkers[2] = {{0, 10}, {0, 20}};
    for (int frames = std::atoi(argv[1]); frames > 0; frames--) {
        movement_step(walkers, 2, 0.016f);
        std::printf("%.2f %.2f\n", walkers[0].x, walkers[1].x);
        std::fflush(stdout);
        std::this_thread::sleep_for(std::chrono::milliseconds(16));
    }
}
