// hot_reload_modules_atomic() of 16 modules, good sets and sets whose last is bad in turn, while readers look for mixtures: in each of
// their frames, and in those of workers that join them, all 16 must answer with one version, by themselves and through each other. After a
// bad set no version of any has moved, and the error callback has named the bad one, once.
//
// usage: atomic FOLDER FRAMES SETS: at least so many of each. FOLDER has m00.so to m15.so (numbered.c), missing.so and refuses.so (bad ways of m15).
#include "common.h"

enum { MODULES = 16, READERS = 2 };

static const char* folder;
static image_t images[MODULES], bad[2];
static uint64_t (*versions[MODULES])(void);
static uint64_t (*nexts[MODULES])(void);
static atomic_ulong frames, joined, mixtures, moves;
static atomic_bool done;
static unsigned long enough;

// What the callbacks were told in one call.
static unsigned errors, completed, succeeded, progress_of[MODULES];
static int error_code;
static char blamed[4096];

static void on_error(const char* path, int code, const char* message) {
    errors++;
    error_code = code;
    snprintf(blamed, sizeof blamed, "%s", path);
    CHECK(strlen(message) > 0);
    // Before the complete callbacks.
    CHECK(completed == 0);
}

static void on_complete(const char* path, bool success, double duration_ms) {
    CHECK(strstr(path, "/m") != NULL && duration_ms >= 0);
    completed++;
    succeeded += success;
}

static void on_progress(const char* path, uint32_t percent) {
    int module = atoi(strrchr(path, 'm') + 1);
    CHECK(module >= 0 && module < MODULES && percent <= 100 && percent >= progress_of[module]);
    progress_of[module] = percent;
}

// All modules' answers in the frame that the thread is in: the version, or 0 if they differ.
static uint64_t look(void) {
    uint64_t version = versions[0]();
    for (int i = 0; i < MODULES; i++) {
        if (versions[i]() != version || nexts[i]() != version) return 0;
    }
    return version;
}

typedef struct {
    pthread_barrier_t begun, over;
    runtime_frame_t frame;
    uint64_t seen;
    bool end;
} pair_t;

// Joins each frame of a reader.
static void* worker(void* of) {
    pair_t* pair = of;
    for (;;) {
        pthread_barrier_wait(&pair->begun);
        if (pair->end) return NULL;
        runtime_frame_t frame;
        CHECK(runtime_frame_join(&frame, &pair->frame) == 0);
        pair->seen = look();
        CHECK(runtime_frame_end(&frame) == 0);
        atomic_fetch_add(&joined, 1);
        pthread_barrier_wait(&pair->over);
    }
}

static void* reader(void* unused) {
    (void)unused;
    pair_t pair = {.end = false};
    pthread_t thread;
    CHECK(pthread_barrier_init(&pair.begun, NULL, 2) == 0 && pthread_barrier_init(&pair.over, NULL, 2) == 0);
    CHECK(pthread_create(&thread, NULL, worker, &pair) == 0);
    uint64_t last = 0;
    while (!atomic_load(&done)) {
        CHECK(runtime_frame_begin(&pair.frame) == 0);
        uint64_t first = look();
        pthread_barrier_wait(&pair.begun);
        uint64_t again = look();
        pthread_barrier_wait(&pair.over);
        if (first == 0 || again != first || pair.seen != first) atomic_fetch_add(&mixtures, 1);
        // Versions only go up here.
        CHECK(first >= last);
        if (first != last) atomic_fetch_add(&moves, 1);
        last = first;
        CHECK(runtime_frame_end(&pair.frame) == 0);
        // Then the cores are for who reloads: under an emulator on a busy machine he had one set in eleven seconds, in 600,000 frames.
        if (atomic_fetch_add(&frames, 1) > enough) pause_ms(1);
    }
    pair.end = true;
    pthread_barrier_wait(&pair.begun);
    CHECK(pthread_join(thread, NULL) == 0);
    return NULL;
}

static char paths[MODULES][4096];
static const char* all[MODULES];

static int reload(bool parallel, bool validate) {
    hot_reload_config_t config = {
        .parallel_loading = parallel,
        .validate_before_reload = validate,
        .progress_callback = on_progress,
        .complete_callback = on_complete,
        .error_callback = on_error,
    };
    errors = completed = succeeded = 0;
    memset(progress_of, 0, sizeof progress_of);
    *blamed = 0;
    return hot_reload_modules_atomic(all, MODULES, &config);
}

static void write_set(uint64_t version) {
    for (int i = 0; i < MODULES; i++) {
        static uint64_t is[MODULES];
        set_version(images[i], is[i], version);
        is[i] = version;
        write_image(paths[i], images[i].bytes, images[i].size);
    }
}

// The ways of being bad, for the last of the set.
enum { CUT, NO_FILE, NO_MODULE, UNRESOLVED, REFUSES, WAYS };
static int spoil(int way) {
    const char* last = paths[MODULES - 1];
    switch (way) {
    case CUT: write_image(last, images[MODULES - 1].bytes, images[MODULES - 1].size / 2); return RUNTIME_ERROR_INVALID_MODULE;
    case NO_FILE: CHECK(unlink(last) == 0); return RUNTIME_ERROR_IO;
    case NO_MODULE: write_image(last, "no module", 9); return RUNTIME_ERROR_INVALID_MODULE;
    case UNRESOLVED: write_image(last, bad[0].bytes, bad[0].size); return RUNTIME_ERROR_UNRESOLVED;
    default: write_image(last, bad[1].bytes, bad[1].size); return RUNTIME_ERROR_REFUSED;
    }
}

int main(int argc, char** argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s FOLDER FRAMES SETS\n", argv[0]);
        return 2;
    }
    folder = argv[1];
    unsigned long frames_wanted = strtoul(argv[2], NULL, 10), sets_wanted = strtoul(argv[3], NULL, 10);
    enough = 20 * frames_wanted;
    for (int i = 0; i < MODULES; i++) {
        char from[4096];
        snprintf(from, sizeof from, "%s/m%02d.so", folder, i);
        images[i] = read_image(from);
        snprintf(paths[i], sizeof paths[i], "%s/set/m%02d.so", folder, i);
        all[i] = paths[i];
    }
    char from[4096];
    snprintf(from, sizeof from, "%s/missing.so", folder);
    bad[0] = read_image(from);
    snprintf(from, sizeof from, "%s/refuses.so", folder);
    bad[1] = read_image(from);
    snprintf(from, sizeof from, "%s/set", folder);
    CHECK(mkdir(from, 0755) == 0 || errno == EEXIST);

    CHECK(runtime_init(NULL) == 0);
    uint64_t version = 1;
    write_set(version);
    CHECK(reload(false, false) == 0);
    for (int i = 0; i < MODULES; i++) {
        char module[32], symbol[32];
        snprintf(module, sizeof module, "m%02d", i);
        snprintf(symbol, sizeof symbol, "m%02d_version", i);
        CHECK(hot_reload_frame_symbol(module, symbol, (void**)&versions[i]) == 0);
        snprintf(symbol, sizeof symbol, "m%02d_next", i);
        CHECK(hot_reload_frame_symbol(module, symbol, (void**)&nexts[i]) == 0);
    }
    pthread_t threads[READERS];
    for (int i = 0; i < READERS; i++) CHECK(pthread_create(&threads[i], NULL, reader, NULL) == 0);

    unsigned good_sets = 0, bad_sets = 0, moved = 0, unnamed = 0;
    while (atomic_load(&frames) < frames_wanted || bad_sets < sets_wanted || bad_sets < WAYS) {
        version++;
        write_set(version);
        CHECK(reload(version % 3 == 0, version % 5 == 0) == 0);
        CHECK(errors == 0 && completed == MODULES && succeeded == MODULES);
        for (int i = 0; i < MODULES; i++) CHECK(progress_of[i] == 100);
        good_sets++;

        hot_reload_stats_t before, after;
        CHECK(hot_reload_get_statistics(&before) == 0);
        uint64_t is = version++;
        write_set(version);
        int expected = spoil((int)(bad_sets % WAYS));
        int code = reload(version % 3 == 0, version % 5 == 0);
        if (code != expected) fprintf(stderr, "atomic: way %u: %d (%s)\n", bad_sets % WAYS, code, runtime_last_error());
        CHECK(code == expected);
        CHECK(hot_reload_get_statistics(&after) == 0);
        CHECK(completed == MODULES && succeeded == 0 && after.failed_reloads == before.failed_reloads + MODULES);
        bad_sets++;
        if (errors != 1 || error_code != code || strcmp(blamed, paths[MODULES - 1]) != 0) unnamed++;
        runtime_frame_t frame;
        CHECK(runtime_frame_begin(&frame) == 0);
        if (look() != is || after.generation != before.generation) moved++;
        CHECK(runtime_frame_end(&frame) == 0);
    }
    atomic_store(&done, true);
    for (int i = 0; i < READERS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(runtime_shutdown() == 0);

    unsigned long mixed = atomic_load(&mixtures), seen = atomic_load(&moves);
    printf("%lu frames checked, %lu of them joined by a worker, %lu changes of version seen, %lu mixtures; %u good sets, %u bad sets, %u moved, "
           "%u not named\n",
           atomic_load(&frames), atomic_load(&joined), seen, mixed, good_sets, bad_sets, moved, unnamed);
    for (int i = 0; i < MODULES; i++) free(images[i].bytes);
    free(bad[0].bytes);
    free(bad[1].bytes);
    // Readers that saw one version only would have seen no mixture.
    return mixed != 0 || moved != 0 || unnamed != 0 || seen < 10;
}
