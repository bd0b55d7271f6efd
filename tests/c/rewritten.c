// A watched module that is rewritten many times, in all ways that files are written: each complete version is picked up at most once, a
// partial one never, and the last is current in the end.
//
// usage: rewritten FOLDER REWRITES. FOLDER has watched.so (numbered.c).
//
// A partial file that was loaded would be told by the error callback, or by an answer that is no version: the version is all over
// the module's constants and variables.
#include "common.h"

static char path[4096], beside[4096];
static image_t image;
static atomic_ulong picked, twice, partial, unknown, out_of_order;
static _Atomic uint64_t latest;
// Of each version.
static unsigned char* times;
static unsigned long rewrites;
static uint64_t (*version_of)(void);

static void on_complete(const char* module_path, bool success, double duration_ms) {
    CHECK(strcmp(module_path, path) == 0 && duration_ms >= 0);
    if (!success) return;
    uint64_t version = version_of();
    if (version == 0 || version > rewrites) {
        fprintf(stderr, "rewritten: a mixture, or no version: %llu\n", (unsigned long long)version);
        atomic_fetch_add(&partial, 1);
        return;
    }
    atomic_fetch_add(&picked, 1);
    if (times[version]++ != 0) atomic_fetch_add(&twice, 1);
    if (version <= atomic_load(&latest)) atomic_fetch_add(&out_of_order, 1);
    atomic_store(&latest, version);
}

static void on_error(const char* module_path, int code, const char* message) {
    CHECK(strcmp(module_path, path) == 0);
    fprintf(stderr, "rewritten: %d: %s\n", code, message);
    if (code == RUNTIME_ERROR_INVALID_MODULE) {
        atomic_fetch_add(&partial, 1);
    } else {
        atomic_fetch_add(&unknown, 1);
    }
}

// Longer than the watcher's debounce of 50 ms.
enum { LONG = 70 };

// In pieces; with a pause after `rest` of them.
static void in_pieces(int file, size_t piece, size_t rest) {
    for (size_t at = 0, n = 1; at < image.size; at += piece, n++) {
        write_all(file, image.bytes + at, at + piece < image.size ? piece : image.size - at);
        if (n == rest) pause_ms(LONG);
    }
}

static void rewrite(int way, size_t piece, size_t rest) {
    int file;
    switch (way) {
    case 0: // As compilers and cp do.
        file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        break;
    case 1: // Over what is there.
        file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        break;
    case 2: // Beside, and renamed over.
        file = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        break;
    case 3: // Away, and made anew.
        CHECK(unlink(path) == 0 || errno == ENOENT);
        file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        break;
    case 4: { // As 0, opened for each of a few parts.
        size_t part = image.size / 5;
        file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        for (int i = 0; i < 4; i++) {
            CHECK(file >= 0);
            write_all(file, image.bytes + (size_t)i * part, part);
            CHECK(close(file) == 0);
            if (rest != 0 && i == 2) pause_ms(LONG);
            file = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
        }
        CHECK(file >= 0);
        write_all(file, image.bytes + 4 * part, image.size - 4 * part);
        CHECK(close(file) == 0);
        return;
    }
    default: { // Through a shared mapping, as linkers do.
        file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        CHECK(file >= 0 && ftruncate(file, (off_t)image.size) == 0);
        unsigned char* bytes = mmap(NULL, image.size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        CHECK(bytes != MAP_FAILED);
        for (size_t at = 0, n = 1; at < image.size; at += piece, n++) {
            memcpy(bytes + at, image.bytes + at, at + piece < image.size ? piece : image.size - at);
            if (n == rest) pause_ms(LONG);
        }
        CHECK(munmap(bytes, image.size) == 0 && close(file) == 0);
        return;
    }
    }
    CHECK(file >= 0);
    in_pieces(file, piece, rest);
    CHECK(close(file) == 0);
    if (way == 2) CHECK(rename(beside, path) == 0);
}
#define WAYS 6

int main(int argc, char** argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s FOLDER REWRITES\n", argv[0]);
        return 2;
    }
    rewrites = strtoul(argv[2], NULL, 10);
    times = calloc(rewrites + 1, 1);
    char from[4096];
    snprintf(from, sizeof from, "%s/watched.so", argv[1]);
    image = read_image(from);
    snprintf(from, sizeof from, "%s/set", argv[1]);
    CHECK(mkdir(from, 0755) == 0 || errno == EEXIST);
    snprintf(path, sizeof path, "%s/set/watched.so", argv[1]);
    snprintf(beside, sizeof beside, "%s/set/watched.new", argv[1]);

    CHECK(runtime_init(NULL) == 0);
    set_version(image, 0, 1);
    write_image(path, image.bytes, image.size);
    hot_reload_config_t config = {.complete_callback = on_complete, .error_callback = on_error};
    CHECK(hot_reload_module(path, NULL) == 0);
    CHECK(hot_reload_symbol("watched", "watched_version", (void**)&version_of) == 0 && version_of() == 1);
    // What the file holds now counts as loaded.
    times[1] = 1;
    atomic_store(&latest, 1);
    CHECK(hot_reload_watch(path, &config) == 0);

    uint64_t state = 0x2545f4914f6cdd1d;
    unsigned long rested = 0;
    for (uint64_t version = 2; version <= rewrites; version++) {
        set_version(image, version - 1, version);
        uint64_t dice = random_of(&state);
        int way = (int)(dice % WAYS);
        size_t piece = 64 + (dice >> 8) % 4000, pieces = image.size / piece + 1;
        // One of 12 is left half-written for longer than the debounce, one of 4 is left alone when it is done.
        size_t rest = (dice >> 32) % 12 == 0 ? 1 + (dice >> 40) % pieces : 0;
        rewrite(way, piece, rest);
        rested += rest != 0;
        if ((dice >> 56) % 4 == 0) pause_ms(LONG + (unsigned)((dice >> 48) % 60));
        CHECK(version_of() != 0);
    }
    double begin = seconds();
    while (atomic_load(&latest) != rewrites && seconds() - begin < 60) pause_ms(5);
    double waited = seconds() - begin;
    // What comes late would come now.
    pause_ms(300);
    CHECK(hot_reload_unwatch(path) == 0);
    bool is_last = version_of() == rewrites && times[rewrites] == 1;
    CHECK(runtime_shutdown() == 0);

    printf("%lu rewrites of %zu bytes in %d ways (%lu rested half-written), %lu picked up, %lu twice, %lu partial, %lu back in order, %lu other errors; "
           "the last is %scurrent, after %.0f ms\n",
           rewrites, image.size, WAYS, rested, atomic_load(&picked), atomic_load(&twice), atomic_load(&partial), atomic_load(&out_of_order),
           atomic_load(&unknown), is_last ? "" : "NOT ", waited * 1e3);
    bool right = is_last && atomic_load(&twice) == 0 && atomic_load(&partial) == 0 && atomic_load(&out_of_order) == 0 && atomic_load(&unknown) == 0;
    // A watcher that slept would make no mistake.
    bool busy = atomic_load(&picked) >= rewrites / 20;
    free(times);
    free(image.bytes);
    return !right || !busy;
}
