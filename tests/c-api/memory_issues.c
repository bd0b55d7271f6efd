// "Memory Issues": the collection frees what was kept, and the configuration is taken.
#include "driver.h"

static int with_the_solution(void) {
#include BLOCK
    return runtime_init(&config);
}

int main(int argc, char** argv) {
    start(argc, argv);
    // A user-mode emulator has a thread of its own among ours, which blocks all signals: nobody knows what it is inside, so all is kept.
    const bool emulated = getenv("MIDFLIGHT_TEST_RUNNER") != NULL;
    void* address;
    CHECK(runtime_init(NULL) == 0);
    put("graphics_module", 1);
    CHECK(hot_reload_module(path_of("graphics_module"), NULL) == 0);
    // May be called outside frames: the version that is replaced is kept until it is collected.
    CHECK(hot_reload_symbol("graphics_module", "graphics_module_version", &address) == 0);
    put("graphics_module", 2);
    CHECK(hot_reload_module(path_of("graphics_module"), NULL) == 0);
    const unsigned long long kept = statistics().retained_bytes;
    CHECK(kept > 0);
    CHECK(with_the_solution() == 0);
    CHECK(statistics().retained_bytes == (emulated ? kept : 0));
    CHECK(version_of("graphics_module") == 2);

    // Memory optimisation is on now: nothing is kept any more.
    put("graphics_module", 1);
    CHECK(hot_reload_module(path_of("graphics_module"), NULL) == 0);
    CHECK(statistics().retained_bytes == (emulated ? 2 * kept : 0));
    CHECK(runtime_shutdown() == 0);
    return 0;
}
