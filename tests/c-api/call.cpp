// A call through midflight::function and one through a C function pointer: scripts/c-api compares their instructions.
#include "midflight.hpp"

using step = float(void*, int, float);

extern "C" {
float by_function(const midflight::frame& frame, const midflight::function<step>& function, void* world, float seconds);
float by_pointer(const midflight::frame& frame, step* const& function, void* world, float seconds);
}

float by_function(const midflight::frame& frame, const midflight::function<step>& function, void* world, float seconds) {
    return function(frame, world, 7, seconds) + 1;
}

float by_pointer(const midflight::frame&, step* const& function, void* world, float seconds) {
    return function(world, 7, seconds) + 1;
}

static_assert(sizeof(midflight::function<step>) == sizeof(void*), "no more than the address");
