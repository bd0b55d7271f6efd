/* zstd: all levels, streams, worker threads, a trained dictionary, damage. */
#include "work.h"

#include <zdict.h>
#include <zstd.h>

const char unit[] = "bytes compressed and decompressed";

struct outcome work(lookup *find, const char *library, const char *scripts) {
    (void)scripts;
    FIND(ZSTD_compress); FIND(ZSTD_decompress); FIND(ZSTD_compressBound); FIND(ZSTD_isError); FIND(ZSTD_getErrorName);
    FIND(ZSTD_createCCtx); FIND(ZSTD_freeCCtx); FIND(ZSTD_CCtx_setParameter); FIND(ZSTD_compressStream2);
    FIND(ZSTD_createDCtx); FIND(ZSTD_freeDCtx); FIND(ZSTD_decompressStream); FIND(ZDICT_trainFromBuffer);
    FIND(ZSTD_compress_usingDict); FIND(ZSTD_decompress_usingDict); FIND(ZSTD_versionString);
    struct outcome outcome = {mix_string(0, ZSTD_versionString_()), 0};
    size_t length;
    unsigned char *text = corpus(library, "zstd/lib/compress/zstd_opt.c", &length);
    size_t room = ZSTD_compressBound_(length);
    unsigned char *packed = malloc(room), *unpacked = malloc(length);
    for (int level = -5; level <= 19; level++) {
        size_t size = ZSTD_compress_(packed, room, text, length, level);
        CHECK(!ZSTD_isError_(size));
        CHECK(ZSTD_decompress_(unpacked, length, packed, size) == length && memcmp(text, unpacked, length) == 0);
        outcome.hash = mix(outcome.hash, packed, size);
        outcome.count += length;
        packed[size / 2] ^= 1;
        size_t damaged = ZSTD_decompress_(unpacked, length, packed, size);
        outcome.hash = mix_string(outcome.hash, ZSTD_isError_(damaged) ? ZSTD_getErrorName_(damaged) : "as it was");
    }
    for (int workers = 0; workers <= 3; workers++) {
        ZSTD_CCtx *out = ZSTD_createCCtx_();
        CHECK(!ZSTD_isError_(ZSTD_CCtx_setParameter_(out, ZSTD_c_nbWorkers, workers)));
        CHECK(!ZSTD_isError_(ZSTD_CCtx_setParameter_(out, ZSTD_c_checksumFlag, 1)));
        ZSTD_outBuffer target = {packed, room, 0};
        for (int repeat = 0; repeat < 8; repeat++) {
            ZSTD_inBuffer source = {text, length / 8, 0};
            while (source.pos < source.size) CHECK(!ZSTD_isError_(ZSTD_compressStream2_(out, &target, &source, ZSTD_e_continue)));
        }
        ZSTD_inBuffer nothing = {0, 0, 0};
        while (ZSTD_compressStream2_(out, &target, &nothing, ZSTD_e_end)) CHECK(target.pos < room);
        CHECK(ZSTD_freeCCtx_(out) == 0);
        ZSTD_DCtx *in = ZSTD_createDCtx_();
        ZSTD_inBuffer source = {packed, target.pos, 0};
        ZSTD_outBuffer back = {unpacked, length, 0};
        while (source.pos < source.size) CHECK(!ZSTD_isError_(ZSTD_decompressStream_(in, &back, &source)));
        CHECK(ZSTD_freeDCtx_(in) == 0);
        CHECK(back.pos == length / 8 * 8);
        for (int repeat = 0; repeat < 8; repeat++) CHECK(memcmp(unpacked + repeat * (length / 8), text, length / 8) == 0);
        outcome.hash = mix(outcome.hash, packed, target.pos);
        outcome.count += length;
    }
    size_t sizes[200];
    for (int i = 0; i < 200; i++) sizes[i] = 200;
    unsigned char dictionary[4096];
    size_t trained = ZDICT_trainFromBuffer_(dictionary, sizeof dictionary, text, sizes, 200);
    CHECK(!ZSTD_isError_(trained));
    ZSTD_CCtx *out = ZSTD_createCCtx_();
    ZSTD_DCtx *in = ZSTD_createDCtx_();
    size_t size = ZSTD_compress_usingDict_(out, packed, room, text, 1000, dictionary, trained, 3);
    CHECK(ZSTD_decompress_usingDict_(in, unpacked, length, packed, size, dictionary, trained) == 1000);
    outcome.hash = mix(mix(outcome.hash, packed, size), dictionary, trained);
    CHECK(ZSTD_freeCCtx_(out) == 0 && ZSTD_freeDCtx_(in) == 0);
    free(text);
    free(packed);
    free(unpacked);
    return outcome;
}
