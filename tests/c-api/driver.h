// What the drivers share: they run the code blocks of docs/runtime-api.md on real modules. scripts/c-api compiles and starts them.
#ifndef DRIVER_H
#define DRIVER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "runtime_api.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition)                                                                                                       \
    do {                                                                                                                       \
        if (!(condition)) {                                                                                                    \
            fprintf(stderr, "%s:%d: not so: %s\n(last error: %s)\n", __FILE__, __LINE__, #condition, runtime_last_error());    \
            exit(1);                                                                                                           \
        }                                                                                                                      \
    } while (0)

// Where the built modules are (1/NAME.so, 2/NAME.so), and the folder that the document calls /path/to.
static const char* built;
static const char* path_to;

static inline void start(int argc, char** argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s BUILT PATH_TO\n", argv[0]);
        exit(2);
    }
    built = argv[1];
    path_to = argv[2];
}

static inline const char* path_of(const char* module) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s.so", path_to, module);
    return path;
}

// Puts a version of a module where the document expects it, as a build does: written beside, and renamed.
static inline void put(const char* module, int version) {
    char from[4096], beside[4096], buffer[65536];
    snprintf(from, sizeof from, "%s/%d/%s.so", built, version, module);
    snprintf(beside, sizeof beside, "%s/%s.new", path_to, module);
    FILE* in = fopen(from, "rb");
    FILE* out = fopen(beside, "wb");
    CHECK(in != NULL && out != NULL);
    for (size_t size; (size = fread(buffer, 1, sizeof buffer, in)) > 0;) CHECK(fwrite(buffer, 1, size, out) == size);
    fclose(in);
    CHECK(fclose(out) == 0 && rename(beside, path_of(module)) == 0);
}

// What `MODULE_version` of a module returns, called inside a frame.
static inline int version_of(const char* module) {
    char symbol[256];
    int (*function)(void) = NULL;
    runtime_frame_t frame;
    snprintf(symbol, sizeof symbol, "%s_version", module);
    CHECK(hot_reload_frame_symbol(module, symbol, (void**)&function) == 0);
    CHECK(runtime_frame_begin(&frame) == 0);
    int version = function();
    CHECK(runtime_frame_end(&frame) == 0);
    return version;
}

static inline hot_reload_stats_t statistics(void) {
    hot_reload_stats_t stats;
    CHECK(hot_reload_get_statistics(&stats) == 0);
    return stats;
}

// What a function that returns a code prints to stdout, and the code.
static inline const char* printed(int (*function)(void), int* code) {
    static char text[65536];
    char name[] = "/tmp/c-api-XXXXXX";
    int file = mkstemp(name), old = dup(STDOUT_FILENO);
    CHECK(file >= 0 && old >= 0);
    unlink(name);
    fflush(stdout);
    CHECK(dup2(file, STDOUT_FILENO) >= 0);
    *code = function();
    fflush(stdout);
    CHECK(dup2(old, STDOUT_FILENO) >= 0);
    ssize_t length = pread(file, text, sizeof text - 1, 0);
    CHECK(length >= 0);
    text[length] = 0;
    close(file);
    close(old);
    return text;
}

#endif
