// The declarations of "Module Hot-Reload Operations": each is called, with success and without.
#include "driver.h"
#include BLOCK

int main(int argc, char** argv) {
    start(argc, argv);
    module_compatibility_t compatibility;
    const char* both[] = {path_of("graphics_module"), "/nowhere/at_all.so"};

    CHECK(hot_reload_module(both[0], NULL) == RUNTIME_ERROR_NOT_INITIALIZED);
    CHECK(runtime_init(NULL) == 0);
    CHECK(hot_reload_module(both[0], NULL) == RUNTIME_ERROR_IO && strstr(runtime_last_error(), both[0]) != NULL);
    put("graphics_module", 1);
    CHECK(hot_reload_check_compatibility(both[0], &compatibility) == 0 && !compatibility.is_loaded);
    CHECK(hot_reload_modules_atomic(both, 2, NULL) == RUNTIME_ERROR_IO);
    CHECK(statistics().loaded_modules == 0);
    CHECK(hot_reload_modules_atomic(both, 1, NULL) == 0);
    CHECK(version_of("graphics_module") == 1);

    // The same content fits itself; a module with other functions does not fit what is called.
    CHECK(hot_reload_check_compatibility(both[0], &compatibility) == 0);
    CHECK(compatibility.is_loaded && compatibility.abi_compatible && compatibility.difference_count == 0);
    put("graphics_module", 3);
    CHECK(hot_reload_check_compatibility(both[0], &compatibility) == RUNTIME_ERROR_INCOMPATIBLE);
    CHECK(!compatibility.abi_compatible && compatibility.exports_removed == 1 && compatibility.listed_count >= 1);
    CHECK(hot_reload_module(both[0], NULL) == RUNTIME_ERROR_INCOMPATIBLE && version_of("graphics_module") == 1);

    hot_reload_stats_t stats = statistics();
    CHECK(stats.successful_reloads == 1 && stats.total_reloads == stats.successful_reloads + stats.failed_reloads);
    CHECK(stats.loaded_modules == 1 && stats.avg_reload_time_ms > 0);
    CHECK(runtime_shutdown() == 0);
    return 0;
}
