/* Snappy: blocks of many sizes, and damage. */
#include "work.h"

#include <snappy-c.h>

extern "C" const char unit[] = "bytes compressed and decompressed";

extern "C" struct outcome work(lookup *find, const char *library, const char *) {
    FIND(snappy_compress); FIND(snappy_uncompress); FIND(snappy_max_compressed_length); FIND(snappy_uncompressed_length);
    FIND(snappy_validate_compressed_buffer);
    outcome outcome = {0, 0};
    size_t length;
    char *text = reinterpret_cast<char *>(corpus(library, "snappy/snappy.cc", &length));
    size_t room = snappy_max_compressed_length_(length);
    char *packed = static_cast<char *>(malloc(room)), *unpacked = static_cast<char *>(malloc(length));
    for (size_t size = 1; size < length; size += size / 5 + 1) {
        size_t compressed = room, back = length;
        CHECK(snappy_compress_(text + (length - size), size, packed, &compressed) == SNAPPY_OK);
        CHECK(snappy_validate_compressed_buffer_(packed, compressed) == SNAPPY_OK);
        CHECK(snappy_uncompress_(packed, compressed, unpacked, &back) == SNAPPY_OK && back == size);
        CHECK(memcmp(unpacked, text + (length - size), size) == 0);
        outcome.hash = mix(outcome.hash, packed, compressed);
        packed[compressed / 2] ^= 16;
        outcome.hash = mix_number(outcome.hash, snappy_validate_compressed_buffer_(packed, compressed));
        outcome.count += size;
    }
    free(text);
    free(packed);
    free(unpacked);
    return outcome;
}
