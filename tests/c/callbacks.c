// Every function from inside every callback, and from a module's constructors, destructors and hooks: the codes that the headers say, and
// never a deadlock.
//
// usage: callbacks FOLDER. FOLDER has asks.so (which calls from_module()), abuse.so, bad.so (no module).
#include "common.h"

static const char* folder;
static char asks[4096], good[4096], watched[4096], bad[4096];
static atomic_uint tried, wrong, callbacks[5];
static _Atomic(const char*) where = "start";
static atomic_uint lines;

static void told(const char* function, int code, uint32_t right) {
    tried++;
    if (is_in(code, right)) return;
    wrong++;
    fprintf(stderr, "callbacks: %s in %s: %d (%s)\n", function, atomic_load(&where), code, runtime_last_error());
}

// The codes that are right in one place.
typedef struct {
    uint32_t life;    // init, shutdown, watch, unwatch
    uint32_t reload;  // reload, unload, rollback: also what is wrong with them
    uint32_t look_up; // symbols, compatibility, collection
    uint32_t ask;     // status, statistics
    uint32_t frame;
    uint32_t log; // runtime_set_log_callback()
} right_t;

static void on_line(log_level_t level, const char* target, const char* message, void* user);

static void everything(right_t right) {
    void* address;
    runtime_status_t status;
    hot_reload_stats_t stats;
    static module_compatibility_t info;
    runtime_frame_t frame, joined;
    const char* both[] = {good, good};
    CHECK(get_timestamp_ns() != 0 && *runtime_strerror(-1) != 0 && runtime_last_error() != NULL);
    told("runtime_init", runtime_init(NULL), right.life);
    told("runtime_shutdown", runtime_shutdown(), right.life);
    told("hot_reload_watch", hot_reload_watch(good, NULL), right.life);
    told("hot_reload_unwatch", hot_reload_unwatch(watched), right.life);
    told("hot_reload_module", hot_reload_module(good, NULL), right.reload);
    told("hot_reload_module", hot_reload_module(bad, NULL), right.reload | (right.reload & OK ? CODE(RUNTIME_ERROR_INVALID_MODULE) : 0));
    told("hot_reload_modules_atomic", hot_reload_modules_atomic(both, 1, NULL), right.reload);
    told("hot_reload_rollback", hot_reload_rollback("abuse"),
         right.reload | (right.reload & OK ? CODE(RUNTIME_ERROR_NO_PREVIOUS_VERSION) : 0));
    told("hot_reload_unload", hot_reload_unload("abuse"), right.reload);
    told("hot_reload_module", hot_reload_module(good, NULL), right.reload);
    told("hot_reload_symbol", hot_reload_symbol("abuse", "abuse_version", &address), right.look_up);
    told("hot_reload_frame_symbol", hot_reload_frame_symbol("abuse", "abuse_version", &address), right.look_up);
    told("hot_reload_check_compatibility", hot_reload_check_compatibility(good, &info),
         right.look_up | (right.look_up & OK ? CODE(RUNTIME_ERROR_COMPATIBILITY_UNKNOWN) : 0));
    told("runtime_gc_collect", runtime_gc_collect(), right.look_up);
    told("runtime_get_status", runtime_get_status(&status), right.ask);
    told("hot_reload_get_statistics", hot_reload_get_statistics(&stats), right.ask);
    int code = runtime_frame_begin(&frame);
    told("runtime_frame_begin", code, right.frame);
    if (code == 0) {
        told("runtime_frame_join", runtime_frame_join(&joined, &frame), right.frame);
        told("runtime_frame_end", runtime_frame_end(&joined), right.frame);
        told("runtime_frame_end", runtime_frame_end(&frame), right.frame);
    }
    told("runtime_set_log_callback", runtime_set_log_callback(on_line, LOG_LEVEL_TRACE, NULL), right.log);
}

// Nothing that reloads; what asks and calls works. Looking up is neither.
static const right_t in_progress = {.life = BUSY, .reload = BUSY, .look_up = BUSY | OK, .ask = OK, .frame = OK, .log = OK};
// All but what would wait for itself.
static const right_t in_complete = {.life = BUSY, .reload = OK, .look_up = OK, .ask = OK, .frame = OK, .log = OK};
// Nothing at all. Frames take no lock, and need not say so; while the runtime stops there are no new ones.
static const right_t in_log = {.life = BUSY, .reload = BUSY, .look_up = BUSY, .ask = BUSY, .frame = BUSY | STOPPED | OK, .log = BUSY};
static const right_t in_module = {.life = BUSY, .reload = BUSY, .look_up = BUSY, .ask = BUSY, .frame = BUSY | STOPPED | OK, .log = BUSY | OK};

// Callbacks of reloads that are made in callbacks are not of interest.
static _Thread_local int depth;

static void in(const char* place, unsigned which, right_t right) {
    if (depth++ == 0) {
        const char* before = atomic_exchange(&where, place);
        callbacks[which]++;
        everything(right);
        atomic_store(&where, before);
    }
    depth--;
}

static void on_progress(const char* path, uint32_t percent) {
    CHECK(path != NULL && percent <= 100);
    in("a progress callback", 0, in_progress);
}

static void on_complete(const char* path, bool success, double duration_ms) {
    CHECK(path != NULL && duration_ms >= 0);
    in(success ? "a complete callback" : "a complete callback after an error", 1, in_complete);
}

static void on_error(const char* path, int code, const char* message) {
    CHECK(path != NULL && code < 0 && strlen(message) > 0);
    in("an error callback", 2, in_complete);
}

// Only of lines on a thread that has nothing else of this test's under way.
static bool in_lines;
static void on_line(log_level_t level, const char* target, const char* message, void* user) {
    (void)user;
    CHECK(level >= LOG_LEVEL_TRACE && level <= LOG_LEVEL_ERROR && strncmp(target, "midflight", 9) == 0 && message != NULL);
    atomic_fetch_add(&lines, 1);
    if (in_lines) in("a log callback", 3, in_log);
}

void from_module(const char* place);
void from_module(const char* place) {
    in(place, 4, in_module);
}

static void* collects(void* stop) {
    while (!atomic_load((atomic_bool*)stop)) {
        runtime_gc_collect();
        hot_reload_module(good, NULL);
        pause_ms(1);
    }
    return NULL;
}

static void copy(const char* from, const char* to) {
    image_t image = read_image(from);
    write_image(to, image.bytes, image.size);
    free(image.bytes);
}

int main(int argc, char** argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    folder = argv[1];
    snprintf(asks, sizeof asks, "%s/asks.so", folder);
    snprintf(good, sizeof good, "%s/abuse.so", folder);
    snprintf(watched, sizeof watched, "%s/asks-watched.so", folder);
    snprintf(bad, sizeof bad, "%s/bad.so", folder);
    write_image(bad, "no module", 9);
    unlink(watched);
    alarm(240);

    hot_reload_config_t config = {
        .backup_current_state = true,
        .progress_callback = on_progress,
        .complete_callback = on_complete,
        .error_callback = on_error,
    };
    CHECK(runtime_set_log_callback(on_line, LOG_LEVEL_TRACE, NULL) == 0);
    CHECK(runtime_init(NULL) == 0);
    // From reloads: good ones, bad ones, several, staged on threads.
    for (int round = 0; round < 3; round++) {
        config.parallel_loading = round == 1;
        config.validate_before_reload = round == 2;
        CHECK(hot_reload_module(good, &config) == 0);
        CHECK(hot_reload_module(bad, &config) == RUNTIME_ERROR_INVALID_MODULE);
        CHECK(hot_reload_modules_atomic((const char*[]){good, asks}, 2, &config) == 0);
    }
    // From a watch.
    unsigned before = callbacks[1];
    CHECK(hot_reload_watch(watched, &config) == 0);
    copy(asks, watched);
    double begin = seconds();
    // The callbacks' own count says when they are done; they run on the watching thread, which unwatch waits for.
    while (callbacks[1] == before && seconds() - begin < 30) pause_ms(5);
    CHECK(hot_reload_unwatch(watched) == 0);
    CHECK(callbacks[1] > before);
    // From destructors and hooks of what is collected, rolled back over, unloaded.
    CHECK(hot_reload_module(asks, NULL) == 0);
    CHECK(runtime_gc_collect() == 0);
    CHECK(hot_reload_unload("asks") == 0);
    // From the log, while another thread is at work.
    in_lines = true;
    atomic_bool stop = false;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, collects, &stop) == 0);
    for (int i = 0; i < 20; i++) {
        runtime_config_t with_warnings = {.enable_transactions = true};
        CHECK(runtime_init(&with_warnings) == 0);
        CHECK(hot_reload_module(asks, NULL) == 0);
        CHECK(hot_reload_module(bad, NULL) == RUNTIME_ERROR_INVALID_MODULE);
    }
    atomic_store(&stop, true);
    CHECK(pthread_join(thread, NULL) == 0);
    // From what shutdown says and runs.
    CHECK(runtime_shutdown() == 0);
    in_lines = false;
    CHECK(runtime_set_log_callback(NULL, LOG_LEVEL_DEFAULT, NULL) == 0);
    unsigned last = atomic_load(&lines);
    CHECK(runtime_init(NULL) == 0 && runtime_shutdown() == 0);
    CHECK(atomic_load(&lines) == last);

    printf("%u calls in %u progress, %u complete, %u error and %u log callbacks, %u times from modules: %u wrong\n", tried, callbacks[0],
           callbacks[1], callbacks[2], callbacks[3], callbacks[4], wrong);
    for (int i = 0; i < 5; i++) CHECK(callbacks[i] > 0);
    return wrong != 0;
}
