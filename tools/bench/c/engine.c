/* What an engine in C does: calls through a function pointer, frames, reloads. Each measures a block and returns its time. */
#include "runtime_api.h"

typedef uint64_t (*call_t)(uint64_t);

/* Nanoseconds of a call, each with the result of the one before; through a pointer that is read from memory for each. The
 * places are where the loop lies, in sixteens of bytes from a cache line's start: that alone is worth a cycle. */
#define THROUGH(place)                                                                                         \
    double engine_calls_##place(call_t const volatile *pointer, uint64_t calls) {                              \
        uint64_t begin = get_timestamp_ns(), x = 0;                                                            \
        __asm__ volatile(".balign 64\n.rept 16 * " #place "\nnop\n.endr");                                     \
        for (uint64_t i = 0; i < calls; i++) x = (*pointer)(x);                                                \
        uint64_t end = get_timestamp_ns();                                                                     \
        return x == calls ? (double)(end - begin) / (double)calls : -1.0;                                      \
    }
THROUGH(0)
THROUGH(1)
THROUGH(2)
THROUGH(3)

/* Nanoseconds of opening and ending a frame. */
double engine_frames(uint64_t frames) {
    uint64_t begin = get_timestamp_ns();
    for (uint64_t i = 0; i < frames; i++) {
        runtime_frame_t frame;
        if (runtime_frame_begin(&frame) || runtime_frame_end(&frame)) return -1.0;
    }
    return (double)(get_timestamp_ns() - begin) / (double)frames;
}

int engine_start(void) { return runtime_init(NULL); }

int engine_address(const char *module, const char *symbol, void **address) {
    return hot_reload_symbol(module, symbol, address);
}

/* Microseconds of a reload. */
double engine_reload(const char *path) {
    uint64_t begin = get_timestamp_ns();
    if (hot_reload_module(path, NULL)) return -1.0;
    return (double)(get_timestamp_ns() - begin) / 1000.0;
}

const char *engine_error(void) { return runtime_last_error(); }
