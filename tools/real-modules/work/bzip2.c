/* bzip2: all block sizes, and damage. */
#include "work.h"

#include <bzlib.h>

const char unit[] = "bytes compressed and decompressed";

/* The library calls this where it finds itself wrong. */
void bz_internal_error(int code) {
    fprintf(stderr, "bzip2: internal error %d\n", code);
    _Exit(1);
}

struct outcome work(lookup *find, const char *library, const char *scripts) {
    (void)scripts;
    FIND(BZ2_bzBuffToBuffCompress); FIND(BZ2_bzBuffToBuffDecompress); FIND(BZ2_bzlibVersion);
    struct outcome outcome = {mix_string(0, BZ2_bzlibVersion_()), 0};
    size_t length;
    char *text = (char *)corpus(library, "bzip2-1.0.8/blocksort.c", &length);
    unsigned room = (unsigned)length + length / 50 + 1000;
    char *packed = malloc(room), *unpacked = malloc(length);
    for (int block = 1; block <= 9; block++) {
        unsigned size = room, back = (unsigned)length;
        CHECK(BZ2_bzBuffToBuffCompress_(packed, &size, text, (unsigned)length, block, 0, block * 25) == BZ_OK);
        CHECK(BZ2_bzBuffToBuffDecompress_(unpacked, &back, packed, size, block % 2, 0) == BZ_OK && back == length);
        CHECK(memcmp(text, unpacked, length) == 0);
        outcome.hash = mix(outcome.hash, packed, size);
        outcome.count += length;
        packed[size / 2] ^= 4;
        outcome.hash = mix_number(outcome.hash, (uint64_t)BZ2_bzBuffToBuffDecompress_(unpacked, &back, packed, size, 0, 0));
    }
    free(text);
    free(packed);
    free(unpacked);
    return outcome;
}
