// The declarations of "Intelligent Conflict Resolution": each is called, with success and without.
#include "driver.h"
#include BLOCK

static int asked, answers;

static int resolver(const conflict_info_t* conflict, resolution_result_t* result) {
    asked++;
    CHECK(conflict->type != CONFLICT_TYPE_NONE && conflict->message[0] != 0 && result->action == RESOLUTION_ACTION_NONE);
    result->action = RESOLUTION_ACTION_USE_LATEST;
    result->success = true;
    result->confidence = 0.5;
    return answers ? 0 : -1;
}

int main(int argc, char** argv) {
    start(argc, argv);
    static conflict_analysis_t analysis;
    resolution_result_t result;
    system_state_t state;
    const char* path = path_of("graphics_module");
    CHECK(runtime_get_current_state(&state) == RUNTIME_ERROR_NOT_INITIALIZED);
    CHECK(detect_potential_conflicts(path, NULL, &analysis) == RUNTIME_ERROR_NOT_INITIALIZED);
    CHECK(runtime_init(NULL) == 0);
    CHECK(detect_potential_conflicts(path, NULL, &analysis) == RUNTIME_ERROR_IO && analysis.count == 0);
    put("graphics_module", 4);
    CHECK(detect_potential_conflicts(path, NULL, &analysis) == 0 && analysis.is_complete);
    CHECK(hot_reload_module(path, NULL) == 0 && version_of("graphics_module") == 4);
    CHECK(runtime_get_current_state(&state) == 0 && state.module_count == 1);

    // A function takes another type, and the program has its address.
    int (*scaled)(int) = NULL;
    CHECK(hot_reload_frame_symbol("graphics_module", "graphics_module_scaled", (void**)&scaled) == 0);
    put("graphics_module", 5);
    CHECK(detect_potential_conflicts(path, &state, &analysis) == 1);
    const conflict_info_t* info = &analysis.conflict_info;
    CHECK(info->type == CONFLICT_TYPE_FUNCTION_SIGNATURE && info->severity == CONFLICT_SEVERITY_HIGH);
    CHECK(strcmp(info->module, "graphics_module") == 0 && strcmp(info->symbol, "graphics_module_scaled") == 0);
    CHECK(info->concerned_count == 1 && strcmp(info->concerned[0], "(the program)") == 0);

    // Nobody is registered, and nothing is done by itself.
    CHECK(resolve_module_conflicts(info, NULL, &result) == 0);
    CHECK(!result.success && result.action == RESOLUTION_ACTION_KEEP_CURRENT && result.outcome_count == 0);
    resolution_config_t config;
    memset(&config, 0, sizeof config);
    config.auto_resolve = true;
    CHECK(register_conflict_resolver("asked", resolver) == 0);
    CHECK(resolve_module_conflicts(info, &config, &result) == 0 && asked == 1);
    CHECK(result.success && result.action == RESOLUTION_ACTION_KEEP_CURRENT && result.resolver[0] == 0);
    answers = 1;
    CHECK(resolve_module_conflicts(info, &config, &result) == 0 && asked == 2);
    CHECK(result.success && result.action == RESOLUTION_ACTION_USE_LATEST && strcmp(result.resolver, "asked") == 0);
    CHECK(result.claimed_confidence == 0.5 && result.confidence == 0.0 && !result.model_used);
    config.confidence_threshold = 2;
    CHECK(resolve_module_conflicts(info, &config, &result) == RUNTIME_ERROR_INVALID_ARGUMENT);

    // What it comes to is counted.
    CHECK(hot_reload_module(path, NULL) == 0 && version_of("graphics_module") == 5);
    config.confidence_threshold = 0.95;
    CHECK(resolve_module_conflicts(info, &config, &result) == 0);
    CHECK(result.success && result.confidence == 1.0 && result.outcome_count == 1);

    // The state that was looked at is an older one now.
    CHECK(detect_potential_conflicts(path, &state, &analysis) == 1);
    CHECK(analysis.conflict_info.type == CONFLICT_TYPE_CONCURRENT_MODIFICATION);
    CHECK(register_conflict_resolver("asked", NULL) == 0);
    CHECK(register_conflict_resolver("asked", NULL) == RUNTIME_ERROR_INVALID_ARGUMENT);
    CHECK(runtime_shutdown() == 0);
    return 0;
}
