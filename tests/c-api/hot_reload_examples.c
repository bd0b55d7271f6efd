// The three examples of "Hot-Reload Examples", on modules that are there, changed and missing.
#include "driver.h"
#include BLOCK

static void example_1(void) {
    int code;
    // The file is not there: the failure path prints the code.
    const char* text = printed(reload_graphics_module, &code);
    CHECK(code == RUNTIME_ERROR_IO && strcmp(text, "Hot-reload failed with error: -4\n") == 0);
    for (int version = 1; version <= 2; version++) {
        put("graphics_module", version);
        text = printed(reload_graphics_module, &code);
        CHECK(code == 0 && strcmp(text, "Graphics module hot-reloaded successfully\n") == 0);
        CHECK(version_of("graphics_module") == version);
    }
    // backup_current_state kept the version that was replaced.
    CHECK(hot_reload_rollback("graphics_module") == 0 && version_of("graphics_module") == 1);
}

static void example_2(void) {
    static const char* const modules[] = {"simulation_core", "physics_engine", "ai_behavior"};
    int (*sees)(void) = NULL;
    for (int version = 1; version <= 2; version++) {
        hot_reload_stats_t before = statistics();
        put(modules[0], version);
        put(modules[1], version);
        if (version == 1) {
            CHECK(reload_simulation_system() == RUNTIME_ERROR_IO); // the third is not there: none is loaded
            CHECK(statistics().loaded_modules == before.loaded_modules && statistics().generation == before.generation);
        }
        put(modules[2], version);
        CHECK(reload_simulation_system() == 0);
        CHECK(statistics().generation == before.generation + 1); // one publication
        for (int i = 0; i < 3; i++) CHECK(version_of(modules[i]) == version);

        // The core calls the physics: of its own generation.
        runtime_frame_t frame;
        CHECK(hot_reload_frame_symbol("simulation_core", "simulation_core_sees", (void**)&sees) == 0);
        CHECK(runtime_frame_begin(&frame) == 0);
        CHECK(sees() == version);
        if (version == 1) {
            // A frame that is open stays in its generation, in all modules.
            for (int i = 0; i < 3; i++) put(modules[i], 2);
            CHECK(reload_simulation_system() == 0);
            CHECK(sees() == 1);
            for (int i = 0; i < 3; i++) put(modules[i], 1);
            CHECK(reload_simulation_system() == 0);
        }
        CHECK(runtime_frame_end(&frame) == 0);
    }
}

static void example_3(void) {
    int code, percent, last = -1, ended = 0;
    double milliseconds;
    char outcome[16], *line, *rest;
    put("monitored_module", 1);
    const char* text = printed(reload_with_monitoring, &code);
    CHECK(code == 0 && version_of("monitored_module") == 1);
    for (line = strtok_r((char*)text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        CHECK(strstr(line, path_of("monitored_module")) != NULL && !ended);
        const char* after = strstr(line, ".so") + 3;
        if (sscanf(after, ": %d%% complete", &percent) == 1) {
            CHECK(percent >= last && percent <= 100);
            last = percent;
        } else {
            CHECK(sscanf(after, " %15s in %lf ms", outcome, &milliseconds) == 2);
            CHECK(strcmp(outcome, "succeeded") == 0 && milliseconds > 0 && milliseconds < 10000);
            ended = 1;
        }
    }
    CHECK(last == 100 && ended);

    // The complete callback is told of a failure too.
    CHECK(unlink(path_of("monitored_module")) == 0);
    text = printed(reload_with_monitoring, &code);
    CHECK(code == RUNTIME_ERROR_IO && strstr(text, "monitored_module.so failed in ") != NULL && strstr(text, "100%") == NULL);
}

int main(int argc, char** argv) {
    start(argc, argv);
    CHECK(runtime_init(NULL) == 0);
    example_1();
    example_2();
    example_3();
    CHECK(runtime_shutdown() == 0);
    return 0;
}
