// The two examples of "Conflict Resolution Examples", on modules that conflict with what is loaded.
#include "driver.h"
#include BLOCK

static const char* path;

static int handle(void) {
    return handle_module_conflicts(path);
}

static void says(const char* expected, int expected_code) {
    int code;
    const char* text = printed(handle, &code);
    if (code != expected_code || strcmp(text, expected) != 0) fprintf(stderr, "%d: %s", code, text);
    CHECK(code == expected_code && strcmp(text, expected) == 0);
}

int main(int argc, char** argv) {
    start(argc, argv);
    CHECK(runtime_init(NULL) == 0);
    path = path_of("graphics_module");
    put("graphics_module", 4);
    says("No conflicts detected\n", 0);
    CHECK(hot_reload_module(path, NULL) == 0 && version_of("graphics_module") == 4);
    says("No conflicts detected\n", 0);

    // Nothing is known of how it goes: a confidence of 0.95 is more than that.
    int (*scaled)(int) = NULL;
    CHECK(hot_reload_frame_symbol("graphics_module", "graphics_module_scaled", (void**)&scaled) == 0);
    put("graphics_module", 5);
    says("Detected 1 potential conflicts\nManual conflict resolution required\n", -1);

    // A person decides, and it goes well: from then on something is known.
    hot_reload_config_t config;
    memset(&config, 0, sizeof config);
    config.conflict_mode = CONFLICT_RESOLUTION_PREFER_LATEST;
    config.backup_current_state = true;
    CHECK(hot_reload_module(path, &config) == 0 && version_of("graphics_module") == 5);
    put("graphics_module", 4);
    says("Detected 1 potential conflicts\nConflicts resolved automatically with 100.00% confidence\n", 0);
    // It did not, after all.
    CHECK(hot_reload_rollback("graphics_module") == 0 && version_of("graphics_module") == 4);
    put("graphics_module", 5);
    says("Detected 1 potential conflicts\nManual conflict resolution required\n", -1);

    // Another module's functions: the custom resolver decides about what is gone.
    CHECK(register_custom_resolvers() == 0);
    put("graphics_module", 3);
    int code;
    const char* text = printed(handle, &code);
    CHECK(code == 0 && strstr(text, "Conflicts resolved automatically") != NULL);
    put("graphics_module", 5);
    says("Detected 1 potential conflicts\nManual conflict resolution required\n", -1);
    CHECK(runtime_shutdown() == 0);
    return 0;
}
