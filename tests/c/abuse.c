// Every function with every argument that it should refuse, before runtime_init(), while the runtime runs, and after
// runtime_shutdown(); twice; and from a forked child: a documented code, outputs that are zeroes, no crash.
//
// usage: abuse FOLDER. FOLDER has abuse.so, abuse2.so (the same module), caller.so (which calls it).
//
// A row is a function, what is done to it, and the codes that are right. scripts/c-abuse looks that every function of the headers has one.
#include "common.h"

#include <sys/wait.h>

static const char* folder;
static const char* volatile row = "start";
static unsigned rows, wrong;
// Whether the runtime runs while the rows are gone through. If not, what is wrong with the arguments may be said, or that it does not run.
static bool runs;

static void told(const char* function, const char* what, uint32_t right, int code) {
    rows++;
    // A text for each code, and a message for each failure.
    if (strlen(runtime_strerror(code)) == 0 || (code != 0 && strlen(runtime_last_error()) == 0)) {
        fprintf(stderr, "abuse: %s(%s): no text for %d\n", function, what, code);
        wrong++;
    }
    if (is_in(code, right)) return;
    fprintf(stderr, "abuse: %s(%s) %s: %d (%s)\n", function, what, runs ? "running" : "stopped", code, runtime_last_error());
    wrong++;
}

// What is refused in any state.
#define ROW(function, what, ...)                                                                                               \
    do {                                                                                                                       \
        row = #function "(" what ")";                                                                                          \
        told(#function, what, runs ? INVALID : INVALID | STOPPED, (__VA_ARGS__));                                              \
    } while (0)
// What is right, or wrong in another way, while the runtime runs.
#define ROW_AS(function, what, running, ...)                                                                                   \
    do {                                                                                                                       \
        row = #function "(" what ")";                                                                                          \
        told(#function, what, runs ? (uint32_t)(running) : STOPPED, (__VA_ARGS__));                                            \
    } while (0)
// What needs no runtime.
#define ROW_ANY(function, what, right, ...)                                                                                    \
    do {                                                                                                                       \
        row = #function "(" what ")";                                                                                          \
        told(#function, what, right, (__VA_ARGS__));                                                                           \
    } while (0)

static void crashed(int signal) {
    static const char what[] = "abuse: a crash in ";
    ssize_t ignored = write(2, what, sizeof what - 1);
    ignored = write(2, row, strlen(row));
    ignored = write(2, "\n", 1);
    (void)ignored;
    _exit(100 + signal);
}

// --- Pointers that are none -----------------------------------------------------------------------------------------------------------------

static char* page_none;     // PROT_NONE
static char* page_unmapped; // was mapped once
static char* page_constant; // PROT_READ
static char* no_zero;       // 64 bytes up to the end of what is mapped
static char* at_the_edge;   // 16 bytes before it, aligned
static char* long_path;     // 1 MB
static char* path_of_4096;

static void* pages(size_t count, int protection) {
    void* memory = mmap(NULL, count * 65536, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

static void make_pointers(void) {
    page_none = pages(1, PROT_NONE);
    page_constant = pages(1, PROT_READ);
    // Something else must not come behind them.
    char* two = pages(2, PROT_READ | PROT_WRITE);
    CHECK(mprotect(two + 65536, 65536, PROT_NONE) == 0);
    no_zero = two + 65536 - 64;
    memset(no_zero, 'x', 64);
    two = pages(2, PROT_READ | PROT_WRITE);
    CHECK(mprotect(two + 65536, 65536, PROT_NONE) == 0);
    at_the_edge = two + 65536 - 16;
    // Where nothing comes by itself.
    page_unmapped = mmap((void*)(uintptr_t)0x55550000, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(page_unmapped != MAP_FAILED && munmap(page_unmapped, 65536) == 0);
    long_path = malloc((1 << 20) + 1);
    memset(long_path, 'a', 1 << 20);
    long_path[1 << 20] = 0;
    path_of_4096 = malloc(4097);
    memset(path_of_4096, 'b', 4096);
    path_of_4096[4096] = 0;
}

#define ADDRESS(number) ((void*)(uintptr_t)(number))
#define NOT_CANONICAL UINT64_C(0x0123456789abc000)

static const char* bad_string(unsigned i, bool name) {
    switch (i) {
    case 0: return NULL;
    case 1: return ADDRESS(1);
    case 2: return page_unmapped;
    case 3: return page_none;
    case 4: return no_zero;
    case 5: return ADDRESS(NOT_CANONICAL);
    case 6: return ADDRESS(UINT64_MAX);
    case 7: return ADDRESS(UINT64_C(0x7fffffffffff));
    case 8: return long_path;
    case 9: return path_of_4096;
    case 10: return "";
    case 11: return name ? "\xff\xfe" : "";
    default: return NULL;
    }
}
#define BAD_STRINGS 12

// Where no structure is, or none that can be written.
static void* bad_struct(unsigned i) {
    static _Alignas(16) char room[1 << 15];
    switch (i) {
    case 0: return ADDRESS(1);
    case 1: return room + 1;
    case 2: return room + 2;
    case 3: return page_unmapped;
    case 4: return page_none;
    case 5: return at_the_edge;
    case 6: return ADDRESS(NOT_CANONICAL);
    case 7: return ADDRESS(UINT64_MAX - 7);
    case 8: return ADDRESS(8);
    case 9: return NULL;           // outputs only
    case 10: return page_constant; // outputs only
    default: return NULL;
    }
}
#define BAD_INPUTS 9
#define BAD_OUTPUTS 11

// --- Outputs: zeroes after a failure ----------------------------------------------------------------------------------------------------------

static bool is_zero(const void* memory, size_t size) {
    const unsigned char* byte = memory;
    for (size_t i = 0; i < size; i++) {
        if (byte[i] != 0) return false;
    }
    return true;
}

static int look_up(int (*function)(const char*, const char*, void**), const char* module, const char* symbol) {
    void* address = ADDRESS(0x5a5a5a5a);
    int code = function(module, symbol, &address);
    CHECK((code == 0) == (address != NULL));
    return code;
}

static int statistics(void) {
    hot_reload_stats_t stats;
    memset(&stats, 0xaa, sizeof stats);
    int code = hot_reload_get_statistics(&stats);
    CHECK(code == 0 || is_zero(&stats, sizeof stats));
    return code;
}

static int status(void) {
    runtime_status_t is;
    memset(&is, 0xaa, sizeof is);
    int code = runtime_get_status(&is);
    CHECK(code == 0 ? is.state == RUNTIME_STATE_RUNNING : is_zero(&is, sizeof is));
    return code;
}

static int compatibility(const char* path) {
    static module_compatibility_t info;
    memset(&info, 0xaa, sizeof info);
    int code = hot_reload_check_compatibility(path, &info);
    bool compared = code == 0 || code == RUNTIME_ERROR_INCOMPATIBLE || code == RUNTIME_ERROR_COMPATIBILITY_UNKNOWN;
    CHECK(compared || is_zero(&info, sizeof info));
    return code;
}

// A handle that is 0 after a failure.
static int begin_at(transaction_id_t* id, int level) {
    *id = 7;
    int code = transaction_begin(id, (isolation_level_t)level);
    CHECK((code == 0) == (*id != 0));
    return code;
}

static int begin_with(transaction_id_t* id, const transaction_options_t* options) {
    *id = 7;
    int code = transaction_begin_with(id, options);
    CHECK((code == 0) == (*id != 0));
    return code;
}

static int conflicts(const char* path) {
    static conflict_analysis_t analysis;
    memset(&analysis, 0xaa, sizeof analysis);
    int code = detect_potential_conflicts(path, NULL, &analysis);
    CHECK(code >= 0 ? analysis.count == (uint32_t)code : is_zero(&analysis, sizeof analysis));
    return code;
}

static int of_transaction(int (*function)(transaction_id_t, conflict_analysis_t*), transaction_id_t id) {
    static conflict_analysis_t analysis;
    memset(&analysis, 0xaa, sizeof analysis);
    int code = function(id, &analysis);
    CHECK(code >= 0 ? analysis.count == (uint32_t)code : is_zero(&analysis, sizeof analysis));
    return code;
}

static int adapt(const void* adapter) {
    uint64_t id = 7;
    int code = register_compatibility_adapter(adapter, &id);
    CHECK((code == 0) == (id != 0));
    return code;
}

static int signature_of(const char* module, const char* symbol) {
    function_signature_t signature;
    memset(&signature, 0xaa, sizeof signature);
    int code = hot_reload_function_signature(module, symbol, &signature);
    CHECK(code == 0 || is_zero(&signature, sizeof signature));
    return code;
}

static int passes(const conflict_info_t* conflict, resolution_result_t* result) {
    CHECK(conflict != NULL && is_zero(result, sizeof *result));
    return -1;
}

static int resolve(conflict_type_t type, conflict_severity_t severity, resolution_strategy_t strategy) {
    static conflict_info_t conflict;
    // Texts without an end.
    memset(&conflict, 'x', sizeof conflict);
    conflict.type = type;
    conflict.severity = severity;
    resolution_config_t config = {.strategy = strategy};
    resolution_result_t result;
    memset(&result, 0xaa, sizeof result);
    int code = resolve_module_conflicts(&conflict, &config, &result);
    CHECK(code == 0 || is_zero(&result, sizeof result));
    return code;
}

// --- Configurations -----------------------------------------------------------------------------------------------------------------------------

static const runtime_config_t no_config;
static const hot_reload_config_t no_reload_config;

// A field as it may come from C code that has not set it: by its bytes, since C has no such bool.
#define POKE(config, field, byte) memset((char*)&(config) + offsetof(__typeof__(config), field), byte, sizeof((config).field))

static int init_with(size_t offset, uint32_t value) {
    runtime_config_t config = no_config;
    memcpy((char*)&config + offset, &value, 4);
    return runtime_init(&config);
}
#define INIT_WITH(field, value) init_with(offsetof(runtime_config_t, field), (uint32_t)(value))

static int reload_with(const char* path, size_t offset, uint32_t value, bool watch) {
    hot_reload_config_t config = no_reload_config;
    memcpy((char*)&config + offset, &value, 4);
    return watch ? hot_reload_watch(path, &config) : hot_reload_module(path, &config);
}
#define RELOAD_WITH(path, field, value) reload_with(path, offsetof(hot_reload_config_t, field), (uint32_t)(value), false)
#define WATCH_WITH(path, field, value) reload_with(path, offsetof(hot_reload_config_t, field), (uint32_t)(value), true)

static int reload_within(const char* path, uint64_t timeout_ns) {
    hot_reload_config_t config = no_reload_config;
    config.reload_timeout_ns = timeout_ns;
    return hot_reload_module(path, &config);
}

// All bools are 0xff: a dry run, with everything that can be asked for.
static int reload_of_all_ones(const char* path) {
    hot_reload_config_t config = no_reload_config;
    POKE(config, validate_before_reload, 0xff);
    POKE(config, backup_current_state, 0xff);
    POKE(config, use_transactions, 0xff);
    POKE(config, parallel_loading, 0xff);
    POKE(config, dry_run, 0xff);
    POKE(config, rollback_on_failure, 0xff);
    POKE(config, verify_integrity, 0xff);
    POKE(config, auto_resolve_conflicts, 0xff);
    return hot_reload_module(path, &config);
}

static int init_of_all_ones(void) {
    runtime_config_t config = no_config;
    POKE(config, enable_transactions, 0xff);
    POKE(config, enable_security_monitoring, 0xff);
    POKE(config, enable_compliance_validation, 0xff);
    POKE(config, enable_performance_monitoring, 0xff);
    POKE(config, enable_memory_optimization, 0xff);
    POKE(config, enable_auto_recovery, 0xff);
    config.log_level = LOG_LEVEL_OFF;
    config.reload_timeout_ns = UINT64_MAX;
    config.max_memory_usage = UINT64_MAX;
    config.max_concurrent_reloads = UINT32_MAX;
    config.transaction_timeout_ms = config.max_transaction_size = config.metrics_collection_interval_ms = config.recovery_timeout_ms =
        UINT32_MAX;
    return runtime_init(&config);
}

static int init_logging_to(const char* path) {
    runtime_config_t config = no_config;
    config.log_file_path = path;
    return runtime_init(&config);
}

// The runtime goes on, or is stopped, as it was.
static int init_and_back(int (*init)(void)) {
    int code = init();
    if (runs) CHECK(runtime_init(NULL) == 0);
    if (code == 0 && !runs) CHECK(runtime_shutdown() == 0);
    return code;
}

// --- Frames -------------------------------------------------------------------------------------------------------------------------------------

typedef struct {
    int (*act)(runtime_frame_t*);
    runtime_frame_t* frame;
    int code;
} on_thread_t;

static void* acts(void* of) {
    on_thread_t* on = of;
    on->code = on->act(on->frame);
    return NULL;
}

static int on_thread(int (*act)(runtime_frame_t*), runtime_frame_t* frame) {
    on_thread_t on = {act, frame, 1};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, acts, &on) == 0 && pthread_join(thread, NULL) == 0);
    return on.code;
}

static int join_and_end(runtime_frame_t* other) {
    runtime_frame_t frame = {{0}};
    int code = runtime_frame_join(&frame, other);
    if (code == 0) CHECK(runtime_frame_end(&frame) == 0);
    return code;
}

static int end_a_copy(void) {
    runtime_frame_t frame;
    if (runtime_frame_begin(&frame) != 0) return RUNTIME_ERROR_NOT_INITIALIZED;
    runtime_frame_t copy = frame;
    int code = runtime_frame_end(&copy);
    CHECK(join_and_end(&copy) == code);
    CHECK(runtime_frame_end(&frame) == 0);
    return code;
}

static int end_twice(void) {
    runtime_frame_t frame;
    if (runtime_frame_begin(&frame) != 0) return RUNTIME_ERROR_NOT_INITIALIZED;
    CHECK(runtime_frame_end(&frame) == 0);
    CHECK(join_and_end(&frame) == RUNTIME_ERROR_WRONG_FRAME);
    return runtime_frame_end(&frame);
}

static int end_anothers(void) {
    runtime_frame_t frame;
    if (runtime_frame_begin(&frame) != 0) return RUNTIME_ERROR_NOT_INITIALIZED;
    int code = on_thread(runtime_frame_end, &frame);
    // It is open still.
    CHECK(on_thread(join_and_end, &frame) == 0);
    CHECK(runtime_frame_end(&frame) == 0);
    return code;
}

// In an order that nobody should.
// Two frames that nobody ends, within one that is ended.
static int begin_and_jump(void) {
    runtime_frame_t outer, lost[2];
    int begun = runtime_frame_begin(&outer);
    if (begun) return begun;
    uint32_t depth = runtime_frame_depth();
    for (int i = 0; i < 2; i++) CHECK(runtime_frame_begin(&lost[i]) == 0);
    CHECK(depth == 1 && runtime_frame_depth() == 3);
    int unwound = runtime_frame_unwind(depth);
    CHECK(runtime_frame_depth() == 1 && runtime_frame_end(&outer) == 0 && runtime_frame_depth() == 0);
    return unwound;
}
static int end_crosswise(void) {
    runtime_frame_t first, second;
    if (runtime_frame_begin(&first) != 0) return RUNTIME_ERROR_NOT_INITIALIZED;
    CHECK(runtime_frame_begin(&second) == 0);
    CHECK(runtime_frame_end(&first) == 0);
    CHECK(runtime_frame_end(&first) == RUNTIME_ERROR_WRONG_FRAME);
    return runtime_frame_end(&second);
}

// Thousands of them, one in the other.
static int end_many(void) {
    enum { MANY = 5000 };
    static runtime_frame_t frames[MANY];
    for (int i = 0; i < MANY; i++) {
        if (runtime_frame_begin(&frames[i]) != 0) return RUNTIME_ERROR_NOT_INITIALIZED;
    }
    for (int i = 0; i < MANY; i++) CHECK(runtime_frame_end(&frames[i]) == 0);
    return 0;
}

// A thread that has ended left a frame open. It cannot be ended by another; and whoever joins it is in its generation.
static runtime_frame_t left_open;
static int end_of_an_ended_thread(void) {
    if (on_thread(runtime_frame_begin, &left_open) != 0) return RUNTIME_ERROR_NOT_INITIALIZED;
    int joined = on_thread(join_and_end, &left_open);
    CHECK(joined == 0 || joined == RUNTIME_ERROR_WRONG_FRAME);
    return runtime_frame_end(&left_open);
}

static int end_random(void) {
    uint64_t state = 88172645463325252;
    int last = 0;
    for (int i = 0; i < 1000; i++) {
        runtime_frame_t frame;
        for (int word = 0; word < 4; word++) frame.reserved[word] = random_of(&state) >> (i % 64);
        last = runtime_frame_end(&frame);
        if (last != RUNTIME_ERROR_WRONG_FRAME) return last;
    }
    return last;
}

static int join_random(void) {
    uint64_t state = 362436069362436069;
    int last = 0;
    for (int i = 0; i < 1000; i++) {
        runtime_frame_t garbage;
        for (int word = 0; word < 4; word++) garbage.reserved[word] = random_of(&state) >> (i % 64);
        last = join_and_end(&garbage);
        if (last != (runs ? RUNTIME_ERROR_WRONG_FRAME : RUNTIME_ERROR_NOT_INITIALIZED)) return last;
    }
    return last;
}

static int begin_and_end(void) {
    runtime_frame_t frame;
    memset(&frame, 0xff, sizeof frame);
    int code = runtime_frame_begin(&frame);
    if (code != 0) {
        CHECK(runtime_frame_end(&frame) == RUNTIME_ERROR_WRONG_FRAME);
        return code;
    }
    // What it was joined to may be itself.
    runtime_frame_t joined;
    CHECK(runtime_frame_join(&joined, &frame) == 0);
    CHECK(runtime_frame_end(&joined) == 0);
    return runtime_frame_end(&frame);
}

// --- Rows ---------------------------------------------------------------------------------------------------------------------------------------

static char* in_folder(const char* name) {
    // Each lasts until so many others are made.
    static char paths[64][4096];
    static unsigned last;
    char* path = paths[++last % COUNT(paths)];
    snprintf(path, sizeof *paths, "%s/%s", folder, name);
    return path;
}

static void* stays_open(void* of) {
    // Of the generation before the next reload.
    runtime_frame_t* frames = of;
    CHECK(runtime_frame_begin(&frames[0]) == 0);
    while (atomic_load((_Atomic uint64_t*)&frames[1].reserved[0]) == 0) pause_ms(1);
    CHECK(runtime_frame_end(&frames[0]) == 0);
    return NULL;
}

// Another thread's frame is of an older generation than ours.
static int join_another_generation(const char* module) {
    static runtime_frame_t frames[2];
    // Not what rows that jumped out of frames have left on the stack.
    runtime_frame_t ours, joined = {0};
    if (runtime_frame_begin(&ours) != 0) return RUNTIME_ERROR_NOT_INITIALIZED;
    CHECK(runtime_frame_end(&ours) == 0);
    memset(frames, 0, sizeof frames);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, stays_open, frames) == 0);
    while (join_and_end(&frames[0]) != 0) pause_ms(1);
    CHECK(hot_reload_module(module, NULL) == 0);
    CHECK(runtime_frame_begin(&ours) == 0);
    int code = runtime_frame_join(&joined, &frames[0]);
    CHECK(runtime_frame_end(&ours) == 0);
    CHECK(runtime_frame_end(&joined) == RUNTIME_ERROR_WRONG_FRAME);
    atomic_store((_Atomic uint64_t*)&frames[1].reserved[0], 1);
    CHECK(pthread_join(thread, NULL) == 0);
    return code;
}

static void on_version(const hot_reload_version_t* version, void* user) {
    (void)version;
    (void)user;
}

static void everything(void) {
    static char good[4096], missing[4096], nowhere[4096];
    snprintf(good, sizeof good, "%s/abuse.so", folder);
    snprintf(missing, sizeof missing, "%s/absent.so", folder);
    snprintf(nowhere, sizeof nowhere, "%s/absent/abuse.so", folder);
    runtime_frame_t frame = {{0}};

    ROW_ANY(get_timestamp_ns, "any state", OK, get_timestamp_ns() == 0);
    static const int codes[] = {1, 2, 23, 4711, -26, -1000, INT32_MAX, INT32_MIN};
    for (unsigned i = 0; i < COUNT(codes); i++) ROW_ANY(runtime_strerror, "garbage", OK, *runtime_strerror(codes[i]) == 0);
    for (int code = 0; code > -26; code--) {
        ROW_ANY(runtime_strerror, "each", OK, strncmp(runtime_strerror(code), "RUNTIME_", 8));
    }
    ROW_ANY(runtime_last_error, "any state", OK, runtime_last_error() == NULL);
    char text[64];
    for (unsigned i = 0; i < BAD_INPUTS; i++) {
        ROW_ANY(runtime_explain_address, "bad address", OK, runtime_explain_address(bad_struct(i), text, sizeof text));
    }
    ROW_ANY(runtime_explain_address, "no room", OK, runtime_explain_address(good, text, 7) || runtime_explain_address(good, NULL, 0));
    hot_reload_address_t place = RUNTIME_SIZED(hot_reload_address_t);
    for (unsigned i = 0; i < BAD_INPUTS; i++) {
        ROW_ANY(hot_reload_describe_address, "bad address", OK,
                hot_reload_describe_address(bad_struct(i), &place) != RUNTIME_ERROR_NOT_LOADED);
    }
    place.struct_size = 3;
    ROW_ANY(hot_reload_describe_address, "no room", OK,
            hot_reload_describe_address(good, &place) != RUNTIME_ERROR_INVALID_ARGUMENT);
    ROW_ANY(runtime_check_frames, "off", OK, (runtime_check_frames(false), 0));
    ROW_AS(runtime_report_stale_calls, "on", OK, runtime_report_stale_calls(true));
    ROW(hot_reload_set_carry, "unknown value", hot_reload_set_carry((hot_reload_carry_t)77));
    ROW(hot_reload_set_carry, "negative", hot_reload_set_carry((hot_reload_carry_t)-1));
    ROW_AS(hot_reload_set_carry, "default", OK, hot_reload_set_carry(HOT_RELOAD_CARRY_DEFAULT));

    transaction_id_t tx = 0, other = 0;
    transaction_options_t options = RUNTIME_SIZED(transaction_options_t);
    uint64_t number;
    bool is_there;
    ROW_AS(transaction_begin, "good", OK, transaction_begin(&tx, ISOLATION_SERIALIZABLE));
    CHECK(runs == (tx != 0));

    // Paths and names.
    for (unsigned i = 0; i < BAD_STRINGS; i++) {
        const char* path = bad_string(i, false);
        const char* name = bad_string(i, true);
        const char* paths[] = {good, path};
        ROW(hot_reload_module, "bad path", hot_reload_module(path, NULL));
        ROW(hot_reload_modules_atomic, "bad element", hot_reload_modules_atomic(paths, 2, NULL));
        ROW(hot_reload_watch, "bad path", hot_reload_watch(path, NULL));
        ROW(hot_reload_unwatch, "bad path", hot_reload_unwatch(path));
        ROW(hot_reload_check_compatibility, "bad path", compatibility(path));
        ROW(detect_potential_conflicts, "bad path", conflicts(path));
        ROW(register_conflict_resolver, "bad name", register_conflict_resolver(path, NULL));
        ROW(hot_reload_symbol, "bad module", look_up(hot_reload_symbol, name, "abuse_version"));
        ROW(hot_reload_symbol, "bad symbol", look_up(hot_reload_symbol, "abuse", name));
        ROW(hot_reload_frame_symbol, "bad module", look_up(hot_reload_frame_symbol, name, "abuse_version"));
        ROW(hot_reload_frame_symbol, "bad symbol", look_up(hot_reload_frame_symbol, "abuse", name));
        ROW(hot_reload_retain, "bad module", hot_reload_retain(name));
        ROW(hot_reload_unload, "bad module", hot_reload_unload(name));
        ROW(hot_reload_rollback, "bad module", hot_reload_rollback(name));
        ROW(transaction_add_reload_operation, "bad path", transaction_add_reload_operation(tx, path, NULL));
        ROW(transaction_add_unload_operation, "bad module", transaction_add_unload_operation(tx, name));
        ROW(transaction_add_rollback_operation, "bad module", transaction_add_rollback_operation(tx, name));
        ROW(transaction_read_version, "bad module", transaction_read_version(tx, name, &number));
        ROW(transaction_read_symbol, "bad module", transaction_read_symbol(tx, name, "abuse_version", &is_there));
        ROW(transaction_read_symbol, "bad symbol", transaction_read_symbol(tx, "abuse", name, &is_there));
        if (path != NULL) ROW_ANY(runtime_init, "bad log_file_path", INVALID, init_logging_to(path));
    }

    // Structures.
    uint64_t id;
    hot_reload_hooks_t hooks = RUNTIME_SIZED(hot_reload_hooks_t);
    ROW(hot_reload_add_hooks, "none", hot_reload_add_hooks(&hooks, &id));
    ROW(hot_reload_remove_hooks, "never added", hot_reload_remove_hooks(UINT64_MAX));
    for (unsigned i = 0; i < BAD_INPUTS; i++) {
        void* at = bad_struct(i);
        const char* one[] = {good};
        ROW_ANY(runtime_init, "bad config", INVALID, runtime_init(at));
        const hot_reload_source_t* sources[] = {at};
        ROW(hot_reload_add_hooks, "bad hooks", hot_reload_add_hooks(at, &id));
        ROW_ANY(runtime_set_options, "bad options", INVALID, runtime_set_options(at));
        ROW(hot_reload_source, "bad source", hot_reload_source(at, NULL));
        ROW(hot_reload_sources_atomic, "bad element", hot_reload_sources_atomic(sources, 1, NULL));
        ROW(hot_reload_sources_atomic, "bad array", hot_reload_sources_atomic(at, 1, NULL));
        ROW_ANY(runtime_init_debug, "bad config", INVALID, runtime_init_debug(at));
        ROW(hot_reload_module, "bad config", hot_reload_module(good, at));
        ROW(hot_reload_modules_atomic, "bad config", hot_reload_modules_atomic(one, 1, at));
        ROW(hot_reload_modules_atomic, "bad array", hot_reload_modules_atomic(at, 3, NULL));
        ROW(hot_reload_watch, "bad config", hot_reload_watch(good, at));
        ROW(transaction_begin_with, "bad options", begin_with(&other, at));
        // A configuration of two bytes has room where others have not.
        if (i != 1 && i != 2 && at != at_the_edge) {
            ROW(transaction_add_reload_operation, "bad config", transaction_add_reload_operation(tx, good, at));
        }
    }
    for (unsigned i = 0; i < BAD_OUTPUTS; i++) {
        void* at = bad_struct(i);
        // valgrind 3.19 does rt_sigprocmask(2) itself, writes to its mask unasked, and ends with a fault of its own.
        if (at == page_constant && getenv("UNDER_VALGRIND") != NULL) continue;
        ROW(runtime_get_status, "bad output", runtime_get_status(at));
        ROW_ANY(hot_reload_describe_address, "bad output", OK,
                hot_reload_describe_address(good, at) != RUNTIME_ERROR_INVALID_ARGUMENT);
        ROW_ANY(runtime_explain_address, "bad text", OK, runtime_explain_address(good, at, 64));
        if (at != at_the_edge) ROW(hot_reload_add_hooks, "bad id", hot_reload_add_hooks(&hooks, at));
        ROW(hot_reload_get_statistics, "bad output", hot_reload_get_statistics(at));
        ROW(hot_reload_check_compatibility, "bad output", hot_reload_check_compatibility(good, at));
        ROW(runtime_get_current_state, "bad output", runtime_get_current_state(at));
        ROW(detect_potential_conflicts, "bad output", detect_potential_conflicts(good, NULL, at));
        ROW(resolve_module_conflicts, "bad output", resolve_module_conflicts(at, at, at));
        ROW_ANY(hot_reload_last_record, "bad output", INVALID, hot_reload_last_record(0, at));
        // An address has room where a structure has not.
        if (at == at_the_edge) continue;
        ROW(transaction_begin, "bad output", transaction_begin(at, ISOLATION_READ_COMMITTED));
        ROW(transaction_begin_with, "bad output", transaction_begin_with(at, &options));
        ROW(transaction_savepoint, "bad output", transaction_savepoint(tx, at));
        ROW(transaction_detect_conflicts, "bad output", transaction_detect_conflicts(tx, at));
        ROW(transaction_merge, "bad output", transaction_merge(tx, at));
        // A text is anywhere, too.
        if (i != 1 && i != 2) ROW(hot_reload_function_signature, "bad output", hot_reload_function_signature("abuse", "abuse_version", at));
        ROW(register_compatibility_adapter, "bad adapter", adapt(at));
        ROW(transaction_read_version, "bad output", transaction_read_version(tx, "abuse", at));
        // A bool is anywhere.
        if (i != 1 && i != 2) ROW(transaction_read_symbol, "bad output", transaction_read_symbol(tx, "abuse", "abuse_version", at));
        ROW(hot_reload_symbol, "bad output", hot_reload_symbol("abuse", "abuse_version", at));
        ROW(hot_reload_frame_symbol, "bad output", hot_reload_frame_symbol("abuse", "abuse_version", at));
    }

    ROW(hot_reload_list_versions, "no callback", hot_reload_list_versions(sizeof(hot_reload_version_t), NULL, NULL));
    ROW(hot_reload_list_versions, "no size", hot_reload_list_versions(0, on_version, NULL));

    // Counts.
    const char* none[] = {NULL, NULL, NULL};
    const char* twice[] = {good, good};
    static const char* many[4097];
    for (unsigned i = 0; i < COUNT(many); i++) many[i] = missing;
    ROW(hot_reload_modules_atomic, "NULL", hot_reload_modules_atomic(NULL, 1, NULL));
    ROW(hot_reload_modules_atomic, "NULL of none", hot_reload_modules_atomic(NULL, 0, NULL));
    ROW(hot_reload_modules_atomic, "none", hot_reload_modules_atomic(twice, 0, NULL));
    ROW(hot_reload_modules_atomic, "4,097", hot_reload_modules_atomic(many, 4097, NULL));
    ROW(hot_reload_modules_atomic, "UINT32_MAX", hot_reload_modules_atomic(many, UINT32_MAX, NULL));
    ROW(hot_reload_modules_atomic, "NULL elements", hot_reload_modules_atomic(none, 3, NULL));
    ROW(hot_reload_modules_atomic, "the same twice", hot_reload_modules_atomic(twice, 2, NULL));
    ROW_AS(hot_reload_modules_atomic, "4,096 missing", INVALID | CODE(RUNTIME_ERROR_IO), hot_reload_modules_atomic(many, 4096, NULL));

    // Numbers.
    static const int levels[] = {12345, -1, 7, INT32_MAX, INT32_MIN};
    for (unsigned i = 0; i < COUNT(levels); i++) {
        ROW_ANY(runtime_init, "log_level", INVALID, INIT_WITH(log_level, levels[i]));
        ROW_ANY(runtime_init, "security_level", INVALID, INIT_WITH(security_level, levels[i]));
        ROW_ANY(runtime_set_log_callback, "level", INVALID, runtime_set_log_callback(NULL, (log_level_t)levels[i], NULL));
        ROW(transaction_begin, "level", begin_at(&other, levels[i]));
        ROW(resolve_module_conflicts, "strategy", resolve(CONFLICT_TYPE_API_CHANGE, CONFLICT_SEVERITY_LOW, (resolution_strategy_t)levels[i]));
        if (levels[i] != 7) ROW(resolve_module_conflicts, "type", resolve((conflict_type_t)levels[i], CONFLICT_SEVERITY_LOW, RESOLUTION_STRATEGY_MANUAL));
        ROW(resolve_module_conflicts, "severity", resolve(CONFLICT_TYPE_API_CHANGE, (conflict_severity_t)levels[i], RESOLUTION_STRATEGY_MANUAL));
        ROW(hot_reload_module, "conflict_mode", RELOAD_WITH(good, conflict_mode, levels[i]));
        ROW(hot_reload_watch, "conflict_mode", WATCH_WITH(good, conflict_mode, levels[i]));
    }
    static const uint32_t threads[] = {257, 65536, INT32_MAX, UINT32_MAX};
    for (unsigned i = 0; i < COUNT(threads); i++) {
        ROW_ANY(runtime_init, "hot_reload_threads", INVALID, INIT_WITH(hot_reload_threads, threads[i]));
        ROW(hot_reload_module, "max_reload_threads", RELOAD_WITH(good, max_reload_threads, threads[i]));
        ROW(hot_reload_watch, "max_reload_threads", WATCH_WITH(good, max_reload_threads, threads[i]));
    }
    ROW(hot_reload_watch, "dry_run", WATCH_WITH(good, dry_run, 1));
    ROW_ANY(runtime_init, "all that there is", OK, init_and_back(init_of_all_ones));
    ROW_ANY(runtime_init, "a log in no folder", CODE(RUNTIME_ERROR_IO), init_logging_to(nowhere));
    ROW_ANY(runtime_init, "a folder as log", CODE(RUNTIME_ERROR_IO), init_logging_to(folder));

    // Reloads.
    static const struct {
        const char* name;
        uint32_t codes;
    } files[] = {
        {"absent.so", CODE(RUNTIME_ERROR_IO)},          {"absent/abuse.so", CODE(RUNTIME_ERROR_IO)},
        {"empty.so", CODE(RUNTIME_ERROR_INVALID_MODULE)}, {"text.so", CODE(RUNTIME_ERROR_INVALID_MODULE)},
        {"half.so", CODE(RUNTIME_ERROR_INVALID_MODULE)},  {"", CODE(RUNTIME_ERROR_IO)},
        {"fifo.so", CODE(RUNTIME_ERROR_IO)},
    };
    for (unsigned i = 0; i < COUNT(files); i++) {
        const char* path = in_folder(files[i].name);
        ROW_AS(hot_reload_module, "no module", files[i].codes, hot_reload_module(path, NULL));
        ROW_AS(hot_reload_modules_atomic, "no module", files[i].codes,
               hot_reload_modules_atomic((const char*[]){good, path}, 2, NULL));
        ROW_AS(hot_reload_check_compatibility, "no module", files[i].codes, compatibility(path));
    }
    static const char* const devices[] = {"/dev/null", "/dev/zero", "/proc/self/maps", "/"};
    for (unsigned i = 0; i < COUNT(devices); i++) {
        uint32_t codes = CODE(RUNTIME_ERROR_IO) | CODE(RUNTIME_ERROR_INVALID_MODULE);
        ROW_AS(hot_reload_module, "no file", codes, hot_reload_module(devices[i], NULL));
        ROW_AS(hot_reload_check_compatibility, "no file", codes, compatibility(devices[i]));
    }
    ROW_AS(hot_reload_module, "good", OK, hot_reload_module(good, NULL));
    ROW_AS(hot_reload_module, "twice", OK, hot_reload_module(good, NULL));
    ROW_AS(hot_reload_module, "1 ns", CODE(RUNTIME_ERROR_TIMEOUT), reload_within(good, 1));
    ROW_AS(hot_reload_module, "UINT64_MAX ns", OK, reload_within(good, UINT64_MAX));
    ROW_AS(hot_reload_module, "bools of 0xff", OK, reload_of_all_ones(good));
    ROW_AS(hot_reload_modules_atomic, "two files of one name", INVALID,
           hot_reload_modules_atomic((const char*[]){good, in_folder("abuse2.so")}, 2, NULL));
    ROW_AS(hot_reload_modules_atomic, "good", OK, hot_reload_modules_atomic((const char*[]){good, in_folder("caller.so")}, 2, NULL));
    ROW_AS(hot_reload_check_compatibility, "good", OK | CODE(RUNTIME_ERROR_COMPATIBILITY_UNKNOWN), compatibility(good));
    ROW_AS(detect_potential_conflicts, "good", OK, conflicts(good));
    ROW_AS(hot_reload_function_signature, "no module", CODE(RUNTIME_ERROR_COMPATIBILITY_UNKNOWN), signature_of("absent", "abuse_version"));
    ROW(unregister_compatibility_adapter, "nobody", unregister_compatibility_adapter(77));
    ROW_AS(register_conflict_resolver, "good", OK, register_conflict_resolver("passes", passes));
    ROW_AS(resolve_module_conflicts, "good", OK, resolve(CONFLICT_TYPE_API_CHANGE, CONFLICT_SEVERITY_LOW, RESOLUTION_STRATEGY_MANUAL));
    ROW_AS(register_conflict_resolver, "NULL", OK, register_conflict_resolver("passes", NULL));
    ROW_AS(register_conflict_resolver, "nobody", INVALID, register_conflict_resolver("nobody", NULL));

    // Look-ups.
    ROW_AS(hot_reload_symbol, "good", OK, look_up(hot_reload_symbol, "abuse", "abuse_version"));
    ROW_AS(hot_reload_symbol, "no module", CODE(RUNTIME_ERROR_NOT_LOADED), look_up(hot_reload_symbol, "absent", "abuse_version"));
    ROW_AS(hot_reload_symbol, "no symbol", CODE(RUNTIME_ERROR_NO_SUCH_SYMBOL), look_up(hot_reload_symbol, "abuse", "absent"));
    ROW_AS(hot_reload_frame_symbol, "good", OK, look_up(hot_reload_frame_symbol, "abuse", "abuse_version"));
    ROW_AS(hot_reload_frame_symbol, "no module", CODE(RUNTIME_ERROR_NOT_LOADED),
           look_up(hot_reload_frame_symbol, "absent", "abuse_version"));
    ROW_AS(hot_reload_frame_symbol, "no symbol", CODE(RUNTIME_ERROR_NO_SUCH_SYMBOL),
           look_up(hot_reload_frame_symbol, "abuse", "absent"));
    ROW(hot_reload_symbol, "NULL output", hot_reload_symbol("abuse", "abuse_version", NULL));

    // Back, and away.
    hot_reload_config_t backup = {.backup_current_state = true};
    ROW_AS(hot_reload_rollback, "no version before", CODE(RUNTIME_ERROR_NO_PREVIOUS_VERSION), hot_reload_rollback("abuse"));
    ROW_AS(hot_reload_rollback, "no module", CODE(RUNTIME_ERROR_NOT_LOADED), hot_reload_rollback("absent"));
    ROW_AS(hot_reload_module, "backup", OK, hot_reload_module(good, &backup));
    ROW_AS(hot_reload_rollback, "good", OK, hot_reload_rollback("abuse"));
    ROW_AS(hot_reload_rollback, "and forward", OK, hot_reload_rollback("abuse"));
    ROW_AS(hot_reload_unload, "no module", CODE(RUNTIME_ERROR_NOT_LOADED), hot_reload_unload("absent"));
    ROW_AS(hot_reload_unload, "in use", CODE(RUNTIME_ERROR_IN_USE), hot_reload_unload("abuse"));
    ROW_AS(hot_reload_unload, "its caller", OK, hot_reload_unload("caller"));
    ROW_AS(hot_reload_unload, "twice", CODE(RUNTIME_ERROR_NOT_LOADED), hot_reload_unload("caller"));

    // Transactions.
    const transaction_id_t ended[] = {0, UINT64_MAX, tx};
    ROW_AS(transaction_rollback, "good", OK, transaction_rollback(tx));
    for (unsigned i = 0; i < COUNT(ended); i++) {
        ROW(transaction_commit, "not open", transaction_commit(ended[i]));
        ROW(transaction_rollback, "not open", transaction_rollback(ended[i]));
        ROW(transaction_rollback_to, "not open", transaction_rollback_to(ended[i], 1));
        ROW(transaction_savepoint, "not open", transaction_savepoint(ended[i], &number));
        ROW(transaction_detect_conflicts, "not open", of_transaction(transaction_detect_conflicts, ended[i]));
        ROW(transaction_merge, "not open", of_transaction(transaction_merge, ended[i]));
        ROW(transaction_add_reload_operation, "not open", transaction_add_reload_operation(ended[i], good, NULL));
        ROW(transaction_add_unload_operation, "not open", transaction_add_unload_operation(ended[i], "abuse"));
        ROW(transaction_add_rollback_operation, "not open", transaction_add_rollback_operation(ended[i], "abuse"));
        ROW(transaction_read_version, "not open", transaction_read_version(ended[i], "abuse", &number));
        ROW(transaction_read_symbol, "not open", transaction_read_symbol(ended[i], "abuse", "abuse_version", &is_there));
    }
    ROW_AS(transaction_begin_with, "good", OK, begin_with(&tx, &options));
    ROW_AS(transaction_savepoint, "good", OK, transaction_savepoint(tx, &number));
    ROW_AS(transaction_detect_conflicts, "good", OK, of_transaction(transaction_detect_conflicts, tx));
    ROW_AS(transaction_merge, "good", OK, of_transaction(transaction_merge, tx));
    ROW_AS(transaction_add_reload_operation, "no file", CODE(RUNTIME_ERROR_IO), transaction_add_reload_operation(tx, missing, NULL));
    ROW_AS(transaction_add_unload_operation, "no module", CODE(RUNTIME_ERROR_NOT_LOADED), transaction_add_unload_operation(tx, "absent"));
    ROW_AS(transaction_add_rollback_operation, "no module", CODE(RUNTIME_ERROR_NOT_LOADED),
           transaction_add_rollback_operation(tx, "absent"));
    ROW_AS(transaction_add_rollback_operation, "good", OK, transaction_add_rollback_operation(tx, "abuse"));
    ROW(transaction_add_unload_operation, "twice", transaction_add_unload_operation(tx, "abuse"));
    ROW(transaction_rollback_to, "never set", transaction_rollback_to(tx, 4711));
    ROW_AS(transaction_rollback_to, "good", OK, transaction_rollback_to(tx, runs ? number : 1));
    ROW_AS(transaction_add_reload_operation, "good", OK, transaction_add_reload_operation(tx, in_folder("caller.so"), NULL));
    ROW_AS(transaction_read_version, "good", OK, transaction_read_version(tx, "caller", &number));
    ROW_AS(transaction_read_symbol, "good", OK, transaction_read_symbol(tx, "abuse", "abuse_version", &is_there));
    ROW_AS(transaction_commit, "good", OK, transaction_commit(tx));
    ROW(transaction_commit, "twice", transaction_commit(tx));
    ROW_AS(hot_reload_unload, "what it has loaded", OK, hot_reload_unload("caller"));
    // Left open: its end is the runtime's.
    ROW_AS(transaction_begin, "left open", OK, begin_at(&tx, ISOLATION_SERIALIZABLE));
    ROW_AS(transaction_add_unload_operation, "left open", OK, transaction_add_unload_operation(tx, "abuse"));

    // Watches.
    ROW_AS(hot_reload_watch, "good", OK, hot_reload_watch(good, NULL));
    ROW_AS(hot_reload_watch, "twice", OK, hot_reload_watch(good, NULL));
    ROW_AS(hot_reload_watch, "a file that is not there", OK, hot_reload_watch(missing, NULL));
    ROW_AS(hot_reload_watch, "bools of 0xff but dry_run", OK, WATCH_WITH(good, validate_before_reload, 0x00ffffff));
    ROW_AS(hot_reload_retain, "not loaded", CODE(RUNTIME_ERROR_NOT_LOADED), hot_reload_retain("nowhere"));
    ROW_AS(hot_reload_unwatch, "good", OK, hot_reload_unwatch(good));
    ROW_AS(hot_reload_unwatch, "twice", CODE(RUNTIME_ERROR_NOT_WATCHED), hot_reload_unwatch(good));
    ROW_AS(hot_reload_unwatch, "never watched", CODE(RUNTIME_ERROR_NOT_WATCHED), hot_reload_unwatch(nowhere));
    ROW_AS(hot_reload_unwatch, "not there", OK, hot_reload_unwatch(missing));
    static const char* const odd[] = {"fifo.so", "", "absent/abuse.so"};
    for (unsigned i = 0; i < COUNT(odd); i++) {
        const char* path = in_folder(odd[i]);
        ROW_AS(hot_reload_watch, "no file", OK | CODE(RUNTIME_ERROR_IO), hot_reload_watch(path, NULL));
        ROW_AS(hot_reload_unwatch, "no file", OK | CODE(RUNTIME_ERROR_NOT_WATCHED), hot_reload_unwatch(path));
    }
    ROW_AS(hot_reload_watch, "a device", OK | CODE(RUNTIME_ERROR_IO), hot_reload_watch("/dev/zero", NULL));
    ROW_AS(hot_reload_unwatch, "a device", OK | CODE(RUNTIME_ERROR_NOT_WATCHED), hot_reload_unwatch("/dev/zero"));

    // State.
    ROW_AS(runtime_get_status, "good", OK, status());
    ROW_AS(hot_reload_get_statistics, "good", OK, statistics());
    ROW_AS(runtime_gc_collect, "good", OK, runtime_gc_collect());
    hot_reload_record_t record = RUNTIME_SIZED(hot_reload_record_t);
    ROW_AS(hot_reload_keep_records, "true", OK, hot_reload_keep_records(true));
    ROW_AS(hot_reload_keep_records, "false", OK, hot_reload_keep_records(false));
    ROW_ANY(hot_reload_last_record, "no such module", INVALID, hot_reload_last_record(UINT32_MAX, &record));
    ROW_AS(runtime_gc_collect, "twice", OK, runtime_gc_collect());
    static char stack[1 << 16];
    const void* const* misaligned = ADDRESS((char*)stack + 4);
    ROW(runtime_stack_add, "NULL", runtime_stack_add(NULL, 4096, NULL));
    ROW(runtime_stack_add, "no bytes", runtime_stack_add(stack, 0, NULL));
    ROW(runtime_stack_add, "too many", runtime_stack_add(stack, SIZE_MAX, NULL));
    ROW(runtime_stack_add, "misaligned", runtime_stack_add(stack, sizeof stack, misaligned));
    ROW_AS(runtime_stack_add, "no memory", OK, runtime_stack_add(ADDRESS(4096), 4096, ADDRESS(4096)));
    ROW_AS(runtime_stack_add, "good", OK, runtime_stack_add(stack, sizeof stack, NULL));
    ROW(runtime_stack_add, "twice", runtime_stack_add(stack, 1, NULL));
    ROW_AS(runtime_gc_collect, "with stacks", OK, runtime_gc_collect());
    ROW_ANY(runtime_stack_remove, "no memory", runs ? OK : INVALID, runtime_stack_remove(ADDRESS(4096)));
    ROW_ANY(runtime_stack_remove, "good", runs ? OK : INVALID, runtime_stack_remove(stack));
    ROW_ANY(runtime_stack_remove, "twice", INVALID, runtime_stack_remove(stack));
    ROW_ANY(runtime_stack_remove, "NULL", INVALID, runtime_stack_remove(NULL));
    ROW_ANY(runtime_set_log_callback, "none", OK, runtime_set_log_callback(NULL, LOG_LEVEL_DEFAULT, ADDRESS(NOT_CANONICAL)));

    // Frames. Of those the headers check NULL; some nanoseconds have no room for more.
    uint32_t wrong_frame = CODE(RUNTIME_ERROR_WRONG_FRAME);
    ROW(runtime_frame_begin, "NULL", runtime_frame_begin(NULL));
    ROW(runtime_frame_begin, "misaligned", runtime_frame_begin(ADDRESS((char*)&frame + 1)));
    ROW(runtime_frame_join, "NULL", runtime_frame_join(NULL, &frame));
    ROW(runtime_frame_join, "to NULL", runtime_frame_join(&frame, NULL));
    ROW(runtime_frame_join, "misaligned", runtime_frame_join(&frame, ADDRESS((char*)&frame + 4)));
    ROW_ANY(runtime_frame_end, "NULL", INVALID, runtime_frame_end(NULL));
    ROW_ANY(runtime_frame_end, "misaligned", INVALID, runtime_frame_end(ADDRESS((char*)&frame + 2)));
    ROW_ANY(runtime_frame_end, "zeroes", wrong_frame, runtime_frame_end(&frame));
    ROW_ANY(runtime_frame_end, "random bytes", wrong_frame, end_random());
    ROW_AS(runtime_frame_join, "zeroes", wrong_frame, join_and_end(&frame));
    ROW_AS(runtime_frame_join, "itself", wrong_frame, runtime_frame_join(&frame, &frame));
    ROW_AS(runtime_frame_join, "random bytes", wrong_frame, join_random());
    ROW_AS(runtime_frame_begin, "good", OK, begin_and_end());
    ROW_AS(runtime_frame_end, "a copy", wrong_frame, end_a_copy());
    ROW_AS(runtime_frame_end, "twice", wrong_frame, end_twice());
    ROW_AS(runtime_frame_end, "another thread's", wrong_frame, end_anothers());
    ROW_AS(runtime_frame_end, "crosswise", OK, end_crosswise());
    ROW_AS(runtime_frame_end, "5,000", OK, end_many());
    ROW_AS(runtime_frame_end, "an ended thread's", wrong_frame, end_of_an_ended_thread());
    ROW_ANY(runtime_frame_depth, "none", OK, (int)runtime_frame_depth());
    ROW_ANY(runtime_frame_unwind, "to where it is", OK, runtime_frame_unwind(0));
    ROW_ANY(runtime_frame_unwind, "deeper", wrong_frame, runtime_frame_unwind(1));
    ROW_AS(runtime_frame_unwind, "good", OK, begin_and_jump());
    ROW_AS(runtime_frame_join, "another generation's", wrong_frame, join_another_generation(good));

    if (!runs) {
        ROW_AS(runtime_shutdown, "stopped", 0, runtime_shutdown());
        ROW_AS(runtime_shutdown, "twice", 0, runtime_shutdown());
    }
}

// What an engine's child may do, and what not.
static void in_a_child(void) {
    int (*version)(void) = NULL;
    CHECK(hot_reload_symbol("abuse", "abuse_version", (void**)&version) == 0);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        uint32_t forked = CODE(RUNTIME_ERROR_FORKED);
        const char* good = in_folder("abuse.so");
        alarm(60);
        wrong = 0;
        ROW_ANY(hot_reload_module, "child", forked, hot_reload_module(good, NULL));
        ROW_ANY(hot_reload_modules_atomic, "child", forked, hot_reload_modules_atomic(&good, 1, NULL));
        ROW_ANY(hot_reload_watch, "child", forked, hot_reload_watch(good, NULL));
        ROW_ANY(hot_reload_unwatch, "child", forked, hot_reload_unwatch(good));
        ROW_ANY(hot_reload_unload, "child", forked, hot_reload_unload("abuse"));
        ROW_ANY(hot_reload_rollback, "child", forked, hot_reload_rollback("abuse"));
        transaction_id_t tx;
        ROW_ANY(transaction_begin, "child", forked, begin_at(&tx, ISOLATION_READ_COMMITTED));
        ROW_ANY(transaction_commit, "child", forked, transaction_commit(1));
        ROW_ANY(runtime_gc_collect, "child", forked, runtime_gc_collect());
        ROW_ANY(runtime_stack_add, "child", forked, runtime_stack_add(&child, sizeof child, NULL));
        ROW_ANY(runtime_stack_remove, "child", forked, runtime_stack_remove(&child));
        ROW_ANY(runtime_init, "child", forked, runtime_init(NULL));
        ROW_ANY(runtime_shutdown, "child", forked, runtime_shutdown());
        ROW_ANY(runtime_get_status, "child", forked | OK, status());
        ROW_ANY(hot_reload_get_statistics, "child", forked | OK, statistics());
        CHECK(version() == 1);
        runtime_frame_t frame;
        CHECK(runtime_frame_begin(&frame) == 0);
        CHECK(version() == 1);
        CHECK(runtime_frame_end(&frame) == 0);
        // Its parent's threads are not here, and so what they had is lost: another program ends the child, before that is counted.
        if (wrong == 0) execl("/bin/true", "true", (char*)NULL);
        _exit(1);
    }
    int how = 0;
    CHECK(waitpid(child, &how, 0) == child);
    CHECK(WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

int main(int argc, char** argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    folder = argv[1];
    make_pointers();
    image_t image = read_image(in_folder("abuse.so"));
    write_image(in_folder("half.so"), image.bytes, image.size / 2);
    write_image(in_folder("empty.so"), "", 0);
    write_image(in_folder("text.so"), "This is no module.\n", 19);
    free(image.bytes);
    unlink(in_folder("fifo.so"));
    CHECK(mkfifo(in_folder("fifo.so"), 0644) == 0);
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGABRT, SIGALRM};
    for (unsigned i = 0; i < COUNT(signals); i++) signal(signals[i], crashed);
    // What hangs is said like what crashes.
    alarm(300);

    everything();
    for (int round = 0; round < 2; round++) {
        runs = true;
        CHECK(runtime_init(NULL) == 0);
        CHECK(runtime_init(NULL) == 0);
        everything();
        if (round == 0) in_a_child();
        // In a state with something in it. A watched module, an open frame.
        runtime_frame_t open;
        CHECK(hot_reload_module(in_folder("abuse.so"), NULL) == 0);
        CHECK(hot_reload_watch(in_folder("abuse.so"), NULL) == 0);
        CHECK(runtime_frame_begin(&open) == 0);
        ROW_ANY(runtime_shutdown, "in a frame", OK, runtime_shutdown());
        runs = false;
        CHECK(runtime_frame_end(&open) == 0);
        everything();
    }
    runtime_config_t small = {.max_memory_usage = 1, .log_level = LOG_LEVEL_OFF};
    CHECK(runtime_init(&small) == 0);
    runs = true;
    ROW_AS(hot_reload_module, "no room", CODE(RUNTIME_ERROR_MEMORY_LIMIT), hot_reload_module(in_folder("abuse.so"), NULL));
    CHECK(runtime_shutdown() == 0);

    printf("%u rows, %u wrong\n", rows, wrong);
    return wrong != 0;
}
