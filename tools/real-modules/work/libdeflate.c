/* libdeflate: all levels and wrappings; its sums, which it does in the way that suits the CPU. */
#include "work.h"

#include <libdeflate.h>

const char unit[] = "bytes compressed and decompressed";

struct outcome work(lookup *find, const char *library, const char *scripts) {
    (void)scripts;
    FIND(libdeflate_alloc_compressor); FIND(libdeflate_free_compressor); FIND(libdeflate_alloc_decompressor);
    FIND(libdeflate_free_decompressor); FIND(libdeflate_gzip_compress); FIND(libdeflate_gzip_decompress);
    FIND(libdeflate_zlib_compress); FIND(libdeflate_zlib_decompress); FIND(libdeflate_crc32); FIND(libdeflate_adler32);
    struct outcome outcome = {0, 0};
    size_t length;
    unsigned char *text = corpus(library, "libdeflate/lib/deflate_compress.c", &length);
    size_t room = length + 1000, back;
    unsigned char *packed = malloc(room), *unpacked = malloc(length);
    struct libdeflate_decompressor *in = libdeflate_alloc_decompressor_();
    for (int level = 0; level <= 12; level++) {
        struct libdeflate_compressor *out = libdeflate_alloc_compressor_(level);
        size_t size = libdeflate_gzip_compress_(out, text, length, packed, room);
        CHECK(size && libdeflate_gzip_decompress_(in, packed, size, unpacked, length, &back) == LIBDEFLATE_SUCCESS && back == length);
        CHECK(memcmp(text, unpacked, length) == 0);
        outcome.hash = mix(outcome.hash, packed, size);
        size = libdeflate_zlib_compress_(out, text, length, packed, room);
        CHECK(size && libdeflate_zlib_decompress_(in, packed, size, unpacked, length, &back) == LIBDEFLATE_SUCCESS && back == length);
        CHECK(memcmp(text, unpacked, length) == 0);
        outcome.hash = mix(outcome.hash, packed, size);
        outcome.count += 2 * length;
        packed[size / 2] ^= 8;
        outcome.hash = mix_number(outcome.hash, libdeflate_zlib_decompress_(in, packed, size, unpacked, length, &back));
        libdeflate_free_compressor_(out);
    }
    libdeflate_free_decompressor_(in);
    for (size_t at = 0; at < 100; at++) {
        outcome.hash = mix_number(outcome.hash, libdeflate_crc32_(0, text + at, length - 3 * at));
        outcome.hash = mix_number(outcome.hash, libdeflate_adler32_(1, text + at, length - 5 * at));
    }
    free(text);
    free(packed);
    free(unpacked);
    return outcome;
}
