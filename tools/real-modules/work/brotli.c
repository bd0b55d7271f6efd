/* Brotli: all qualities, three modes. */
#include "work.h"

#include <brotli/decode.h>
#include <brotli/encode.h>

const char unit[] = "bytes compressed and decompressed";

struct outcome work(lookup *find, const char *library, const char *scripts) {
    (void)scripts;
    FIND(BrotliEncoderCompress); FIND(BrotliEncoderMaxCompressedSize); FIND(BrotliDecoderDecompress);
    struct outcome outcome = {0, 0};
    size_t length;
    unsigned char *text = corpus(library, "brotli/c/enc/encode.c", &length);
    size_t room = BrotliEncoderMaxCompressedSize_(length);
    unsigned char *packed = malloc(room), *unpacked = malloc(length);
    for (int quality = 0; quality <= 11; quality++) {
        size_t size = room, back = length;
        CHECK(BrotliEncoderCompress_(quality, 16 + quality % 8, (BrotliEncoderMode)(quality % 3), length, text, &size, packed));
        CHECK(BrotliDecoderDecompress_(size, packed, &back, unpacked) == BROTLI_DECODER_RESULT_SUCCESS && back == length);
        CHECK(memcmp(text, unpacked, length) == 0);
        outcome.hash = mix(outcome.hash, packed, size);
        outcome.count += length;
    }
    free(text);
    free(packed);
    free(unpacked);
    return outcome;
}
