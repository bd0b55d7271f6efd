// The example of "Transaction Examples", on modules that are there, changed, missing and damaged.
#include "driver.h"
#include BLOCK

static const char* const modules[] = {"core", "graphics", "audio"};

static void all_are(int version) {
    for (int i = 0; i < 3; i++) CHECK(version_of(modules[i]) == version);
}

int main(int argc, char** argv) {
    start(argc, argv);
    int code;
    CHECK(runtime_init(NULL) == 0);
    // The last of the three is not there: it is known when it is added, and nothing was loaded.
    put("core", 1);
    put("graphics", 1);
    const char* text = printed(transactional_system_update, &code);
    CHECK(code == RUNTIME_ERROR_IO && strcmp(text, "") == 0 && statistics().loaded_modules == 0);

    for (int version = 1; version <= 2; version++) {
        const unsigned long long generation = statistics().generation;
        for (int i = 0; i < 3; i++) put(modules[i], version);
        text = printed(transactional_system_update, &code);
        CHECK(code == 0 && strcmp(text, "System update completed successfully\n") == 0);
        CHECK(statistics().generation == generation + 1);
        all_are(version);
    }

    // One that does not go together with what is called is known at commit: none has moved.
    put("core", 1);
    put("graphics", 1);
    char other[4096];
    snprintf(other, sizeof other, "%s", path_of("graphics"));
    CHECK(rename(other, path_of("audio")) == 0);
    put("graphics", 1);
    text = printed(transactional_system_update, &code);
    CHECK(code == RUNTIME_ERROR_INCOMPATIBLE && strcmp(text, "Transaction commit failed, all changes rolled back\n") == 0);
    all_are(2);
    // backup_state has kept the version before.
    CHECK(hot_reload_rollback("audio") == 0 && version_of("audio") == 1);
    CHECK(runtime_shutdown() == 0);
    return 0;
}
