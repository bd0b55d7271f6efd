/* zlib: streams of all levels, strategies and wrappings through small buffers, and back; dictionaries, copies, sums, damage. */
#include "work.h"

#include <zlib.h>

const char unit[] = "bytes deflated and inflated";

static voidpf take(voidpf counter, uInt items, uInt size) {
    ++*(long *)counter;
    return calloc(items, size);
}

static void give_back(voidpf counter, voidpf block) {
    --*(long *)counter;
    free(block);
}

struct outcome work(lookup *find, const char *library, const char *scripts) {
    (void)scripts;
    FIND(deflateInit2_); FIND(deflate); FIND(deflateEnd); FIND(deflateBound); FIND(deflateCopy); FIND(deflateReset);
    FIND(deflateParams); FIND(deflateSetDictionary); FIND(inflateInit2_); FIND(inflate); FIND(inflateEnd);
    FIND(inflateSetDictionary); FIND(compress2); FIND(compressBound); FIND(uncompress); FIND(crc32); FIND(adler32);
    FIND(crc32_combine); FIND(adler32_combine); FIND(zlibVersion); FIND(zError);

    struct outcome outcome = {0, 0};
    size_t length;
    Bytef *text = corpus(library, "src/zlib/trees.c", &length);
    size_t room = deflateBound_(0, length) + 64;
    Bytef *packed = malloc(room), *unpacked = malloc(length);
    long blocks = 0;
    outcome.hash = mix_string(outcome.hash, zlibVersion_());

    for (int level = -1; level <= 9; level++) {
        for (int strategy = Z_DEFAULT_STRATEGY; strategy <= Z_FIXED; strategy++) {
            int bits[] = {15, 15 + 16, -15, 9};
            int window = bits[(level + 1 + strategy) % 4];
            z_stream out = {.zalloc = take, .zfree = give_back, .opaque = &blocks, .next_in = text, .next_out = packed};
            CHECK(deflateInit2__(&out, level, Z_DEFLATED, window, 1 + (level + 9) % 9, strategy, ZLIB_VERSION, sizeof out) == Z_OK);
            int status = Z_OK;
            for (size_t step = 1; status == Z_OK; step = step * 3 % 8191 + 1) {
                size_t left = length - out.total_in, space = room - out.total_out;
                out.avail_in = left < step ? left : step;
                out.avail_out = space < step ? space : step;
                status = deflate_(&out, out.avail_in == left ? Z_FINISH : step % 5 ? Z_NO_FLUSH : Z_SYNC_FLUSH);
                if (status == Z_BUF_ERROR) status = Z_OK;
            }
            CHECK(status == Z_STREAM_END);
            size_t size = out.total_out;
            CHECK(deflateEnd_(&out) == Z_OK);
            outcome.hash = mix(outcome.hash, packed, size);

            z_stream in = {.zalloc = take, .zfree = give_back, .opaque = &blocks, .next_in = packed, .next_out = unpacked};
            CHECK(inflateInit2__(&in, window, ZLIB_VERSION, sizeof in) == Z_OK);
            status = Z_OK;
            for (size_t step = 1; status == Z_OK; step = step * 5 % 4099 + 1) {
                size_t left = size - in.total_in, space = length - in.total_out;
                in.avail_in = left < step ? left : step;
                in.avail_out = space < 2 * step ? space : 2 * step;
                status = inflate_(&in, Z_NO_FLUSH);
                if (status == Z_BUF_ERROR) status = Z_OK;
            }
            CHECK(status == Z_STREAM_END && in.total_out == length && memcmp(text, unpacked, length) == 0);
            CHECK(inflateEnd_(&in) == Z_OK);
            outcome.count += length;
        }
        uLongf size = room, back = length;
        CHECK(compressBound_(length) <= room);
        CHECK(compress2_(packed, &size, text, length, level) == Z_OK);
        CHECK(uncompress_(unpacked, &back, packed, size) == Z_OK && back == length && memcmp(text, unpacked, length) == 0);
        outcome.hash = mix(outcome.hash, packed, size);
        outcome.count += length;
        packed[size / 2] ^= 0x55;
        back = length;
        outcome.hash = mix_string(outcome.hash, zError_(uncompress_(unpacked, &back, packed, size)));
    }

    /* A dictionary, parameters that change on the way, and a copy of a stream that goes on by itself. */
    z_stream out = {.next_in = text, .avail_in = length / 2, .next_out = packed, .avail_out = room};
    CHECK(deflateInit2__(&out, 6, Z_DEFLATED, 15, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, sizeof out) == Z_OK);
    CHECK(deflateSetDictionary_(&out, (const Bytef *)"static const int", 16) == Z_OK);
    CHECK(deflate_(&out, Z_SYNC_FLUSH) == Z_OK && deflateParams_(&out, 1, Z_HUFFMAN_ONLY) == Z_OK);
    z_stream copy;
    CHECK(deflateCopy_(&copy, &out) == Z_OK);
    out.avail_in = copy.avail_in = length - length / 2;
    CHECK(deflate_(&out, Z_FINISH) == Z_STREAM_END);
    uLong sum = adler32_(0, packed, out.total_out);
    CHECK(deflate_(&copy, Z_FINISH) == Z_STREAM_END && copy.total_out == out.total_out);
    CHECK(sum == adler32_(0, packed, copy.total_out));
    z_stream in = {.next_in = packed, .avail_in = out.total_out, .next_out = unpacked, .avail_out = length};
    CHECK(inflateInit2__(&in, 15, ZLIB_VERSION, sizeof in) == Z_OK);
    CHECK(inflate_(&in, Z_FINISH) == Z_NEED_DICT);
    CHECK(inflateSetDictionary_(&in, (const Bytef *)"static const int", 16) == Z_OK);
    CHECK(inflate_(&in, Z_FINISH) == Z_STREAM_END && memcmp(text, unpacked, length) == 0);
    CHECK(inflateEnd_(&in) == Z_OK && deflateReset_(&out) == Z_OK && deflateEnd_(&out) == Z_OK && deflateEnd_(&copy) == Z_OK);

    for (size_t cut = 0; cut <= length; cut += length / 61) {
        uLong crc = crc32_combine_(crc32_(0, text, cut), crc32_(0, text + cut, length - cut), length - cut);
        CHECK(crc == crc32_(0, text, length));
        uLong adler = adler32_combine_(adler32_(1, text, cut), adler32_(1, text + cut, length - cut), length - cut);
        CHECK(adler == adler32_(1, text, length));
        outcome.hash = mix_number(outcome.hash, crc32_(0, text, cut) ^ adler << 32);
    }
    CHECK(blocks == 0);
    free(text);
    free(packed);
    free(unpacked);
    return outcome;
}
