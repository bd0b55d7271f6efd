/* Variables that are carried over, chosen in C: for one reload, and for all.
 *
 *     carry FIRST SECOND OTHER    versions of one module: `count` stays the same, `pair` has another layout in OTHER */
#include "runtime_api.h"
#include <stdio.h>
#include <string.h>

#define CHECK(what) do { if (!(what)) { printf("line %d: %s: %s\n", __LINE__, #what, runtime_last_error()); return 1; } } while (0)

static int call(const char* symbol) {
    void* address;
    int (*function)(void);
    runtime_frame_t frame;
    if (hot_reload_frame_symbol("counter", symbol, &address)) return -1;
    memcpy(&function, &address, sizeof function);
    if (runtime_frame_begin(&frame)) return -2;
    int result = function();
    return runtime_frame_end(&frame) ? -3 : result;
}

static int load(const char* path, hot_reload_carry_t carry) {
    hot_reload_source_t source = RUNTIME_SIZED(hot_reload_source_t);
    source.files = &path;
    source.file_count = 1;
    source.carry = carry;
    return hot_reload_source(&source, NULL);
}

static hot_reload_record_t record(void) {
    hot_reload_record_t record = RUNTIME_SIZED(hot_reload_record_t);
    if (hot_reload_last_record(0, &record)) record.outcome = 0;
    return record;
}

static int warned;
static void logs(log_level_t level, const char* target, const char* message, void* unused) {
    (void)unused;
    (void)target;
    if (level == LOG_LEVEL_WARN && strstr(message, "begins anew") && strstr(message, "pair")) warned++;
}

int main(int count, char** paths) {
    CHECK(count == 4);
    /* Before the runtime there is nothing to set. */
    CHECK(hot_reload_set_carry(HOT_RELOAD_CARRY_ALL) == RUNTIME_ERROR_NOT_INITIALIZED);
    runtime_set_log_callback(logs, LOG_LEVEL_WARN, NULL);
    CHECK(runtime_init(NULL) == 0);
    CHECK(hot_reload_keep_records(true) == 0);
    CHECK(hot_reload_set_carry((hot_reload_carry_t)9) == RUNTIME_ERROR_INVALID_ARGUMENT);

    /* For each reload. */
    CHECK(load(paths[1], HOT_RELOAD_CARRY_ALL) == 0);
    CHECK(call("next") == 101 && call("next") == 102 && call("both") == 3);
    CHECK(load(paths[2], HOT_RELOAD_CARRY_ALL) == 0);
    hot_reload_record_t carried = record();
    CHECK(carried.state == HOT_RELOAD_VARIABLES_CARRIED && carried.variables_carried == 2);
    CHECK(carried.variables_anew == 0 && carried.anew[0] == 0);
    CHECK(call("next") == 103 && call("both") == 3);

    CHECK(load(paths[3], HOT_RELOAD_CARRY_ALL) == RUNTIME_ERROR_INCOMPATIBLE);
    CHECK(strstr(runtime_last_error(), "`pair`") && strstr(record().error_message, "`pair`"));
    CHECK(record().state == HOT_RELOAD_VARIABLES_UNTOUCHED && call("next") == 104);
    CHECK(warned == 0);
    CHECK(load(paths[3], HOT_RELOAD_CARRY_POSSIBLE) == 0);
    carried = record();
    CHECK(carried.state == HOT_RELOAD_VARIABLES_CARRIED && carried.variables_carried == 1 && carried.variables_anew == 1);
    CHECK(strstr(carried.anew, "`pair` of `counter`: it had another layout") && strchr(carried.anew, '\n'));
    CHECK(warned == 1 && call("next") == 105 && call("both") == 3);

    /* A record of before. */
    hot_reload_record_t earlier = {.struct_size = (uint32_t)((char*)&earlier.variables_carried - (char*)&earlier)};
    CHECK(hot_reload_last_record(0, &earlier) == 0 && earlier.variables_carried == 0 && earlier.outcome == carried.outcome);

    CHECK(load(paths[1], HOT_RELOAD_CARRY_NOTHING) == 0);
    CHECK(record().state == HOT_RELOAD_VARIABLES_LOST && call("next") == 101);

    /* For all that have no choice of their own. */
    CHECK(hot_reload_set_carry(HOT_RELOAD_CARRY_ALL) == 0);
    CHECK(hot_reload_module(paths[2], NULL) == RUNTIME_ERROR_INCOMPATIBLE);
    CHECK(strstr(runtime_last_error(), "load that with `carry`, too") && call("next") == 102);
    CHECK(load(paths[1], HOT_RELOAD_CARRY_NOTHING) == 0 && call("next") == 101);
    CHECK(hot_reload_unload("counter") == 0);
    CHECK(hot_reload_module(paths[1], NULL) == 0 && call("next") == 101);
    CHECK(hot_reload_module(paths[2], NULL) == 0 && call("next") == 102);
    CHECK(load(paths[1], HOT_RELOAD_CARRY_DEFAULT) == 0 && call("next") == 103);
    transaction_id_t transaction;
    CHECK(transaction_begin(&transaction, ISOLATION_READ_COMMITTED) == 0);
    CHECK(transaction_add_reload_operation(transaction, paths[2], NULL) == 0);
    CHECK(transaction_commit(transaction) == 0 && call("next") == 104);
    CHECK(hot_reload_set_carry(HOT_RELOAD_CARRY_DEFAULT) == 0);
    CHECK(hot_reload_module(paths[1], NULL) == 0 && call("next") == 101);

    /* Together: one choice. */
    hot_reload_source_t sources[2] = {RUNTIME_SIZED(hot_reload_source_t), RUNTIME_SIZED(hot_reload_source_t)};
    const hot_reload_source_t* both[] = {&sources[0], &sources[1]};
    for (int i = 0; i < 2; i++) {
        sources[i].files = (const char* const*)&paths[1 + i];
        sources[i].file_count = 1;
        sources[i].carry = i ? HOT_RELOAD_CARRY_ALL : HOT_RELOAD_CARRY_NOTHING;
    }
    CHECK(hot_reload_sources_atomic(both, 2, NULL) == RUNTIME_ERROR_INVALID_ARGUMENT);
    CHECK(strstr(runtime_last_error(), "sources[0] and sources[1]"));

    /* The calling thread has a frame open, and would wait for itself. */
    CHECK(load(paths[1], HOT_RELOAD_CARRY_NOTHING) == 0);
    CHECK(hot_reload_unload("counter") == 0 && load(paths[1], HOT_RELOAD_CARRY_ALL) == 0 && call("next") == 101);
    runtime_frame_t frame;
    CHECK(runtime_frame_begin(&frame) == 0);
    int inside = load(paths[2], HOT_RELOAD_CARRY_ALL);
    CHECK(runtime_frame_end(&frame) == 0);
    CHECK(inside == RUNTIME_ERROR_TIMEOUT && call("next") == 102);
    CHECK(load(paths[2], HOT_RELOAD_CARRY_ALL) == 0 && call("next") == 103);
    return runtime_shutdown();
}
