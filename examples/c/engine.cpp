// A loop whose movement can be replaced while it runs. plain.cpp is the same loop without midflight.
#include "midflight.hpp"
#include "movement.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

int main(int argc, char** argv) try {
    if (argc < 3) return std::fprintf(stderr, "usage: %s FRAMES libmovement.so\n", argv[0]), 2;

    // Watched first, so that what is written while it loads is not missed.
    midflight::runtime runtime;
    midflight::watch(argv[2]);
    midflight::reload(argv[2]);
    midflight::function<decltype(movement_step)> step("movement", "movement_step");

    walker walkers[2] = {{0, 10}, {0, 20}};
    for (int frames = std::atoi(argv[1]); frames > 0; frames--) {
        {
            midflight::frame frame;
            step(frame, walkers, 2, 0.016f);
        }
        std::printf("%.2f %.2f\n", walkers[0].x, walkers[1].x);
        std::fflush(stdout);
        std::this_thread::sleep_for(std::chrono::milliseconds(16));
    }
} catch (const midflight::error& error) {
    return std::fprintf(stderr, "%s\n", error.what()), 1;
}
