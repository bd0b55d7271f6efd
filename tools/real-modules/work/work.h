/* What every piece of work is made of. The same compiled work runs over the library as dlopen loads it and as midflight does: it has
 * only the addresses that it is given. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Finds a function of the library. Never null: the process ends with a message. */
typedef void *lookup(const char *name);

struct outcome {
    uint64_t hash;  /* of everything that the library returned */
    uint64_t count; /* of `unit`s of work done */
};

extern const char unit[];

/* `library` is the folder of the library's sources, `scripts` that of the work's own files. */
struct outcome work(lookup *find, const char *library, const char *scripts);

/* A local `name_`, with the type of the function `name` in the library's header, and its address as loaded. */
#define FIND(name) __typeof__(name) *name##_ = (__typeof__(name) *)find(#name)

#define CHECK(condition) ((condition) ? (void)0 : failed(__FILE__, __LINE__, #condition))

static inline void failed(const char *file, int line, const char *what) {
    const char *slash = strrchr(file, '/');
    fprintf(stderr, "%s:%d: not so: %s\n", slash ? slash + 1 : file, line, what);
    _Exit(1);
}

/* FNV-1a. */
static inline uint64_t mix(uint64_t hash, const void *bytes, size_t length) {
    const unsigned char *at = (const unsigned char *)bytes;
    for (size_t i = 0; i < length; i++) hash = (hash ^ at[i]) * 0x100000001b3u;
    return hash;
}

static inline uint64_t mix_string(uint64_t hash, const char *text) { return mix(hash, text, strlen(text) + 1); }

static inline uint64_t mix_number(uint64_t hash, uint64_t number) { return mix(hash, &number, sizeof number); }

/* The same numbers each time. */
static inline uint32_t next_random(uint32_t *state) { return *state = *state * 1664525u + 1013904223u; }

/* A whole file, with a null byte behind it. */
static inline char *read_file(const char *folder, const char *name, size_t *length) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file) failed(path, 0, "the file can be read");
    fseek(file, 0, SEEK_END);
    *length = (size_t)ftell(file);
    rewind(file);
    char *bytes = (char *)malloc(*length + 1);
    CHECK(fread(bytes, 1, *length, file) == *length);
    bytes[*length] = 0;
    fclose(file);
    return bytes;
}

/* What compressors are given: `text` (a source file), then noise, then zeros. */
static inline unsigned char *corpus(const char *folder, const char *name, size_t *length) {
    size_t text;
    char *bytes = read_file(folder, name, &text);
    const size_t noise = 1 << 14, zeros = 1 << 14;
    *length = text + noise + zeros;
    bytes = (char *)realloc(bytes, *length);
    uint32_t random = 1;
    for (size_t i = 0; i < noise; i++) bytes[text + i] = (char)(next_random(&random) >> 24);
    memset(bytes + text + noise, 0, zeros);
    return (unsigned char *)bytes;
}

#ifdef __cplusplus
}
#endif
