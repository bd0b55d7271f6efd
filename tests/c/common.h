// What the programs of this folder share. scripts/c-abuse compiles and starts them.
#ifndef COMMON_H
#define COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "runtime_api.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                                                                       \
    do {                                                                                                                       \
        if (!(condition)) {                                                                                                    \
            fprintf(stderr, "%s:%d: not so: %s\n(last error: %s)\n", __FILE__, __LINE__, #condition, runtime_last_error());    \
            exit(1);                                                                                                           \
        }                                                                                                                      \
    } while (0)

#define COUNT(array) (sizeof(array) / sizeof *(array))

// Codes as bits of a set: 0, and -1 to -25.
#define CODE(code) (UINT32_C(1) << -(code))
#define OK CODE(0)
#define INVALID CODE(RUNTIME_ERROR_INVALID_ARGUMENT)
#define STOPPED CODE(RUNTIME_ERROR_NOT_INITIALIZED)
#define BUSY CODE(RUNTIME_ERROR_BUSY)
#define DOCUMENTED ((UINT32_C(1) << 26) - 1)

static inline bool is_in(int code, uint32_t set) { return code <= 0 && code > -26 && (CODE(code) & set) != 0; }

static inline void pause_ms(unsigned ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
    // runtime_gc_collect() may interrupt it.
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {}
}

static inline double seconds(void) { return (double)get_timestamp_ns() / 1e9; }

// xorshift64: the same for the same seed.
static inline uint64_t random_of(uint64_t* state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// A whole file.
typedef struct {
    unsigned char* bytes;
    size_t size;
} image_t;

static inline image_t read_image(const char* path) {
    image_t image = {0};
    struct stat of;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0 && fstat(file, &of) == 0);
    image.size = (size_t)of.st_size;
    image.bytes = malloc(image.size);
    CHECK(image.bytes != NULL && read(file, image.bytes, image.size) == of.st_size);
    close(file);
    return image;
}

static inline void write_all(int file, const void* bytes, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t some = write(file, (const char*)bytes + done, size - done);
        if (some < 0 && errno == EINTR) continue;
        CHECK(some > 0);
        done += (size_t)some;
    }
}

static inline void write_image(const char* path, const void* bytes, size_t size) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    CHECK(file >= 0);
    write_all(file, bytes, size);
    CHECK(close(file) == 0);
}

// The words of numbered.c are this and the version; as it is built, this.
#define MARK UINT64_C(0x6d69646669676874)

// Writes a version into an image, in all the places that have one.
static inline void set_version(image_t image, uint64_t from, uint64_t to) {
    size_t found = 0;
    from += MARK;
    to += MARK;
    for (size_t i = 0; i + 8 <= image.size; i += 8) {
        uint64_t word;
        memcpy(&word, image.bytes + i, 8);
        if (word != from) continue;
        memcpy(image.bytes + i, &to, 8);
        found++;
    }
    CHECK(found > 0);
}

#endif
