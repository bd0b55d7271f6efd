// Eight threads call everything at random, with good arguments and bad ones, for some seconds: also what starts and stops the runtime. Any
// documented code is right; nothing hangs, and what is called answers with a version that was loaded.
//
// usage: threads FOLDER SECONDS. FOLDER has abuse.so, caller.so (calls it), and numbered.c's watched.so.
//
// An address may only be called while its module is loaded, which the program has to see to: what is called here is called in frames that
// were opened between a look-up and the next unloading; within a frame its modules stay, whatever is unloaded or shut down meanwhile.
#include "common.h"

enum { THREADS = 8, KINDS = 26 };

static const char* folder;
static char good[4096], caller[4096], watched[4096], absent[4096], log_file[4096];
static double until;
static atomic_ulong calls[KINDS], failures[KINDS], answers, gathered[26];
static atomic_uint wrong;
// Held to take away what others may be about to call.
static pthread_rwlock_t unloading = PTHREAD_RWLOCK_INITIALIZER;
static image_t image;
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;

static const char* const names[KINDS] = {
    "init",   "init otherwise", "shutdown", "module", "module, options", "atomic", "rollback", "unload",
    "watch",  "unwatch",        "rewrite",  "frame",  "frame, address",  "address", "join",    "collect",
    "status", "statistics",     "compare",  "log",    "bad arguments",   "look up", "transaction", "errors",
    "nested",
};

static void on_progress(const char* path, uint32_t percent) {
    runtime_frame_t frame;
    CHECK(path != NULL && percent <= 100);
    if (runtime_frame_begin(&frame) == 0) CHECK(runtime_frame_end(&frame) == 0);
}
static void on_complete(const char* path, bool success, double duration_ms) {
    hot_reload_stats_t stats;
    CHECK(path != NULL && duration_ms >= 0);
    int code = hot_reload_get_statistics(&stats);
    CHECK(is_in(code, OK | STOPPED | BUSY));
    (void)success;
}
static void on_error(const char* path, int code, const char* message) { CHECK(path != NULL && code < 0 && message != NULL); }
static void on_line(log_level_t level, const char* target, const char* message, void* user) {
    CHECK(level >= LOG_LEVEL_TRACE && *target != 0 && message != NULL && user == &until);
}

typedef struct {
    runtime_frame_t frame;
    int code;
} joins_t;

static void* joins(void* of) {
    joins_t* with = of;
    runtime_frame_t frame;
    with->code = runtime_frame_join(&frame, &with->frame);
    if (with->code == 0) CHECK(runtime_frame_end(&frame) == 0);
    return NULL;
}

static int call_in_frame(uint64_t dice, bool anywhere) {
    int (*version)(void) = NULL;
    int (*through)(void) = NULL;
    runtime_frame_t frame;
    int (*look_up)(const char*, const char*, void**) = anywhere ? hot_reload_symbol : hot_reload_frame_symbol;
    CHECK(pthread_rwlock_rdlock(&unloading) == 0);
    int code = look_up("abuse", "abuse_version", (void**)&version);
    bool both = code == 0 && look_up("caller", "caller_calls", (void**)&through) == 0;
    if (code == 0) code = runtime_frame_begin(&frame);
    pthread_rwlock_unlock(&unloading);
    if (code != 0) return code;
    // From here on they may be unloaded, and the runtime be stopped.
    for (unsigned i = 0; i < 1 + dice % 50; i++) {
        if (version() != 1 || (both && through() != 1)) atomic_fetch_add(&wrong, 1);
        atomic_fetch_add(&answers, 1);
        if (dice % 7 == 0) sched_yield();
    }
    return runtime_frame_end(&frame);
}

static int call_outside(uint64_t dice) {
    int (*version)(void) = NULL;
    // Nobody unloads it meanwhile.
    CHECK(pthread_rwlock_rdlock(&unloading) == 0);
    int code = hot_reload_symbol("abuse", "abuse_version", (void**)&version);
    for (unsigned i = 0; code == 0 && i < 1 + dice % 50; i++) {
        if (version() != 1) atomic_fetch_add(&wrong, 1);
        atomic_fetch_add(&answers, 1);
    }
    pthread_rwlock_unlock(&unloading);
    return code;
}

static int away(int kind) {
    CHECK(pthread_rwlock_wrlock(&unloading) == 0);
    int code = kind == 2 ? runtime_shutdown() : hot_reload_unload(kind == 7 ? "caller" : "abuse");
    pthread_rwlock_unlock(&unloading);
    return code;
}

static void write_watched(uint64_t dice) {
    static uint64_t is;
    CHECK(pthread_mutex_lock(&writing) == 0);
    set_version(image, is, dice | 1);
    is = dice | 1;
    write_image(watched, image.bytes, image.size);
    pthread_mutex_unlock(&writing);
}

// Two modules of a transaction, which others come before now and then. Nothing of it is unloaded outside of `away`.
static int in_a_transaction(uint64_t dice) {
    transaction_id_t id;
    uint64_t version, savepoint;
    bool is_there;
    int code = transaction_begin(&id, (isolation_level_t)(dice & 3));
    if (code != 0) return code;
    reload_operation_config_t config = {dice >> 2 & 1, dice >> 3 & 1};
    code = transaction_read_version(id, "abuse", &version);
    if (code == 0 && (dice >> 4 & 1)) code = transaction_read_symbol(id, "caller", "caller_calls", &is_there);
    if (code == 0) code = transaction_add_reload_operation(id, good, &config);
    if (code == 0) code = transaction_savepoint(id, &savepoint);
    if (code == 0) code = dice >> 5 & 1 ? transaction_add_reload_operation(id, caller, &config) : transaction_add_rollback_operation(id, "caller");
    if (code == 0 && (dice >> 6 & 3) == 0) code = transaction_rollback_to(id, savepoint);
    if (code == 0 && (dice >> 8 & 7) != 0) return transaction_commit(id);
    // The runtime may have been stopped meanwhile.
    int ended = transaction_rollback(id);
    return code != 0 ? code : ended;
}

static int bad_arguments(uint64_t dice) {
    runtime_frame_t garbage = {{dice, dice >> 8, dice >> 16, dice >> 24}};
    hot_reload_config_t config = {.max_reload_threads = 1000};
    runtime_config_t init = {.hot_reload_threads = 1000};
    void* address;
    switch (dice % 12) {
    case 0: return hot_reload_module(NULL, NULL);
    case 1: return hot_reload_module(good, &config);
    case 2: return hot_reload_modules_atomic((const char*[]){good, NULL}, 2, NULL);
    case 3: return hot_reload_modules_atomic((const char*[]){good, good}, 2, NULL);
    case 4: return runtime_init(&init);
    case 5: return hot_reload_symbol("absent", "absent", &address);
    case 6: return hot_reload_get_statistics((hot_reload_stats_t*)(uintptr_t)8);
    case 7: return runtime_frame_end(&garbage);
    case 8: return runtime_frame_join(&garbage, &garbage);
    case 9: return hot_reload_unload((const char*)(uintptr_t)1);
    case 10: return hot_reload_unwatch(absent);
    default: return hot_reload_module(absent, NULL);
    }
}

static int act(int kind, uint64_t dice) {
    hot_reload_config_t config = {
        .validate_before_reload = dice >> 10 & 1,
        .backup_current_state = dice >> 11 & 1,
        .use_transactions = (dice >> 45 & 3) == 0,
        .parallel_loading = dice >> 12 & 1,
        .dry_run = (dice >> 13 & 7) == 0,
        .rollback_on_failure = dice >> 16 & 1,
        .verify_integrity = dice >> 17 & 1,
        .reload_timeout_ns = (dice >> 18 & 7) == 0 ? 1 + (dice >> 21 & 0xfffff) : 0,
        .progress_callback = dice >> 41 & 1 ? on_progress : NULL,
        .complete_callback = dice >> 42 & 1 ? on_complete : NULL,
        .error_callback = dice >> 43 & 1 ? on_error : NULL,
    };
    runtime_config_t otherwise = {
        .hot_reload_threads = dice >> 10 & 7,
        .max_concurrent_reloads = dice >> 13 & 3,
        .enable_memory_optimization = dice >> 15 & 1,
        .max_memory_usage = (dice >> 16 & 7) == 0 ? 1 << 20 : 0,
        .log_level = LOG_LEVEL_WARN,
        .log_file_path = log_file,
    };
    runtime_status_t status;
    hot_reload_stats_t stats;
    runtime_frame_t frame;
    int code;
    switch (kind) {
    case 0: return runtime_init(NULL);
    case 1: return runtime_init(&otherwise);
    // Not so often, or there is nothing to see.
    case 2: return dice >> 50 & 3 ? runtime_init(NULL) : away(2);
    case 3: return hot_reload_module(good, NULL);
    case 4: return hot_reload_module(dice >> 44 & 1 ? good : caller, &config);
    case 5: return hot_reload_modules_atomic((const char*[]){good, caller}, 2, &config);
    case 6: return hot_reload_rollback(dice >> 44 & 1 ? "abuse" : "caller");
    case 7: return away(dice >> 44 & 1 ? 7 : 8);
    case 8: config.dry_run = false; return hot_reload_watch(watched, &config);
    case 9: return hot_reload_unwatch(watched);
    case 10: write_watched(dice); return 0;
    case 11:
        code = runtime_frame_begin(&frame);
        return code != 0 ? code : runtime_frame_end(&frame);
    case 12: return call_in_frame(dice, false);
    case 13: return dice >> 44 & 1 ? call_in_frame(dice, true) : call_outside(dice);
    case 14: {
        joins_t with = {.code = 0};
        pthread_t thread;
        if ((code = runtime_frame_begin(&with.frame)) != 0) return code;
        CHECK(pthread_create(&thread, NULL, joins, &with) == 0 && pthread_join(thread, NULL) == 0);
        CHECK(is_in(with.code, OK | STOPPED));
        return runtime_frame_end(&with.frame);
    }
    case 15: return runtime_gc_collect();
    case 16: return runtime_get_status(&status);
    case 17: return hot_reload_get_statistics(&stats);
    case 18: {
        module_compatibility_t* info = malloc(sizeof *info);
        CHECK(info != NULL);
        code = hot_reload_check_compatibility(dice >> 44 & 1 ? good : absent, info);
        free(info);
        return code;
    }
    case 19: return runtime_set_log_callback(dice >> 44 & 1 ? on_line : NULL, LOG_LEVEL_TRACE, &until);
    case 20: return bad_arguments(dice >> 20);
    case 21: {
        void* address;
        return hot_reload_symbol("threads-watched", "watched_version", &address);
    }
    case 22: return in_a_transaction(dice >> 10);
    case 23: CHECK(*runtime_strerror((int)dice) != 0 && runtime_last_error() != NULL && get_timestamp_ns() != 0); return 0;
    default: {
        // A reload within a frame, whose generation stays.
        if ((code = runtime_frame_begin(&frame)) != 0) return code;
        int reloaded = hot_reload_module(good, NULL);
        CHECK(runtime_frame_end(&frame) == 0);
        return reloaded;
    }
    }
}

static void* thread(void* seed) {
    uint64_t state = (uintptr_t)seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    while (seconds() < until) {
        uint64_t dice = random_of(&state);
        int kind = (int)((dice >> 55) % KINDS);
        int code = act(kind, dice);
        atomic_fetch_add(&calls[kind], 1);
        if (code != 0) atomic_fetch_add(&failures[kind], 1);
        uint32_t never = CODE(RUNTIME_ERROR_INTERNAL) | CODE(RUNTIME_ERROR_SYSTEM) | CODE(RUNTIME_ERROR_INTEGRITY) | CODE(RUNTIME_ERROR_FORKED);
        if (!is_in(code, DOCUMENTED & ~never)) {
            fprintf(stderr, "threads: %s: %d (%s)\n", names[kind], code, runtime_last_error());
            atomic_fetch_add(&wrong, 1);
        } else {
            atomic_fetch_add(&gathered[-code], 1);
        }
    }
    return NULL;
}

int main(int argc, char** argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s FOLDER SECONDS\n", argv[0]);
        return 2;
    }
    folder = argv[1];
    snprintf(good, sizeof good, "%s/abuse.so", folder);
    snprintf(caller, sizeof caller, "%s/caller.so", folder);
    snprintf(watched, sizeof watched, "%s/watched.so", folder);
    image = read_image(watched);
    snprintf(watched, sizeof watched, "%s/threads-watched.so", folder);
    snprintf(absent, sizeof absent, "%s/absent.so", folder);
    snprintf(log_file, sizeof log_file, "%s/threads.log", folder);
    double length = atof(argv[2]);
    // What hangs ends, with a core to look at.
    alarm((unsigned)length * 20 + 60);
    until = seconds() + length;
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, thread, (void*)(i + 1)) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    int code = runtime_shutdown();
    // IN_USE: it has stopped, but could not see in time whether an old version is still run, and what that calls stays. It happens on
    // machines that are slow or busy (valgrind).
    CHECK(is_in(code, OK | STOPPED | CODE(RUNTIME_ERROR_IO) | CODE(RUNTIME_ERROR_IN_USE)));
    CHECK(runtime_shutdown() == RUNTIME_ERROR_NOT_INITIALIZED);
    CHECK(runtime_set_log_callback(NULL, LOG_LEVEL_DEFAULT, NULL) == 0);

    unsigned long all = 0, failed = 0;
    for (int i = 0; i < KINDS; i++) {
        if (getenv("VERBOSE") != NULL) printf("%s: %lu, %lu failed\n", names[i], atomic_load(&calls[i]), atomic_load(&failures[i]));
        all += atomic_load(&calls[i]);
        failed += atomic_load(&failures[i]);
    }
    printf("%lu calls of %d kinds by %d threads, %lu with another code than 0; %lu answers of modules; %u wrong; codes:", all, KINDS, THREADS, failed,
           atomic_load(&answers), atomic_load(&wrong));
    for (int i = 0; i < 26; i++) {
        if (atomic_load(&gathered[i]) != 0) printf(" %d: %lu", -i, atomic_load(&gathered[i]));
    }
    printf("\n");
    free(image.bytes);
    return atomic_load(&wrong) != 0 || atomic_load(&answers) == 0;
}
