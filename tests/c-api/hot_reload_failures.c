// "Hot-Reload Failures": the message that the document quotes, and its solution.
#include "driver.h"

static int with_the_solution(const char* module_path) {
#include BLOCK
    return hot_reload_module(module_path, &config);
}

int main(int argc, char** argv) {
    start(argc, argv);
    runtime_config_t hasty;
    memset(&hasty, 0, sizeof hasty);
    hasty.reload_timeout_ns = 10000000;
    CHECK(runtime_init(&hasty) == 0);
    // Its constructor takes 50 ms.
    put("slow_module", 1);
    CHECK(hot_reload_module(path_of("slow_module"), NULL) == RUNTIME_ERROR_TIMEOUT);
    CHECK(strstr(runtime_last_error(), "Hot-reload timeout after 10ms") != NULL);
    CHECK(statistics().loaded_modules == 0);
    CHECK(with_the_solution(path_of("slow_module")) == 0);
    CHECK(version_of("slow_module") == 1);
    CHECK(runtime_shutdown() == 0);
    return 0;
}
