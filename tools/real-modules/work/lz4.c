/* LZ4: blocks of all accelerations, the high-compression levels, frames, its hash. */
#include "work.h"

#include <lz4.h>
#include <lz4frame.h>
#include <lz4hc.h>

const char unit[] = "bytes compressed and decompressed";

struct outcome work(lookup *find, const char *library, const char *scripts) {
    (void)scripts;
    FIND(LZ4_compressBound); FIND(LZ4_compress_fast); FIND(LZ4_compress_HC); FIND(LZ4_decompress_safe);
    FIND(LZ4F_compressFrameBound); FIND(LZ4F_compressFrame); FIND(LZ4F_createDecompressionContext); FIND(LZ4F_decompress);
    FIND(LZ4F_freeDecompressionContext); FIND(LZ4F_isError);
    struct outcome outcome = {0, 0};
    size_t length;
    char *text = (char *)corpus(library, "liblz4/lib/lz4hc.c", &length), *unpacked = malloc(length);
    LZ4F_preferences_t preferences = {.frameInfo = {.contentChecksumFlag = LZ4F_contentChecksumEnabled}};
    size_t room = LZ4F_compressFrameBound_(length, &preferences) + (size_t)LZ4_compressBound_((int)length);
    char *packed = malloc(room);
    for (int level = 1; level <= 24; level++) {
        int size = level <= 12 ? LZ4_compress_fast_(text, packed, (int)length, (int)room, level * level)
                               : LZ4_compress_HC_(text, packed, (int)length, (int)room, level - 12);
        CHECK(size > 0 && LZ4_decompress_safe_(packed, unpacked, size, (int)length) == (int)length);
        CHECK(memcmp(text, unpacked, length) == 0);
        outcome.hash = mix(outcome.hash, packed, (size_t)size);

        preferences.compressionLevel = level - 12;
        size_t framed = LZ4F_compressFrame_(packed, room, text, length, &preferences);
        CHECK(!LZ4F_isError_(framed));
        LZ4F_dctx *in;
        CHECK(!LZ4F_isError_(LZ4F_createDecompressionContext_(&in, LZ4F_VERSION)));
        size_t read = 0, written = 0;
        while (read < framed) {
            size_t source = framed - read < 999 ? framed - read : 999, target = length - written;
            CHECK(!LZ4F_isError_(LZ4F_decompress_(in, unpacked + written, &target, packed + read, &source, 0)));
            read += source;
            written += target;
        }
        CHECK(written == length && memcmp(text, unpacked, length) == 0);
        LZ4F_freeDecompressionContext_(in);
        outcome.hash = mix(outcome.hash, packed, framed);
        outcome.count += 2 * length;
    }
    free(text);
    free(packed);
    free(unpacked);
    return outcome;
}
