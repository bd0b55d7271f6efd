/* BLAKE3: its assembly, chosen by the CPU, over many lengths; keyed, derived, longer output. */
#include "work.h"

#include <blake3.h>

const char unit[] = "inputs hashed";

struct outcome work(lookup *find, const char *library, const char *scripts) {
    (void)scripts;
    FIND(blake3_hasher_init); FIND(blake3_hasher_init_keyed); FIND(blake3_hasher_init_derive_key); FIND(blake3_hasher_update);
    FIND(blake3_hasher_finalize); FIND(blake3_hasher_finalize_seek); FIND(blake3_version);
    struct outcome outcome = {mix_string(0, blake3_version_()), 0};
    size_t length;
    unsigned char *text = corpus(library, "c/blake3_avx2.c", &length), digest[200];
    for (size_t size = 0; size < length; size += 1 + size / 7) {
        blake3_hasher hasher;
        switch (size % 3) {
        case 0: blake3_hasher_init_(&hasher); break;
        case 1: blake3_hasher_init_keyed_(&hasher, text); break;
        default: blake3_hasher_init_derive_key_(&hasher, "real modules"); break;
        }
        for (size_t at = 0, step = 1; at < size; at += step, step = step * 3 % 5003) {
            if (step > size - at) step = size - at;
            blake3_hasher_update_(&hasher, text + at, step);
        }
        blake3_hasher_finalize_(&hasher, digest, sizeof digest);
        outcome.hash = mix(outcome.hash, digest, sizeof digest);
        blake3_hasher_finalize_seek_(&hasher, 1000, digest, 64);
        outcome.hash = mix(outcome.hash, digest, 64);
        outcome.count++;
    }
    /* The digest of nothing, as published. */
    blake3_hasher hasher;
    blake3_hasher_init_(&hasher);
    blake3_hasher_finalize_(&hasher, digest, 32);
    CHECK(memcmp(digest, "\xaf\x13\x49\xb9\xf5\xf9\xa1\xa6\xa0\x40\x4d\xea\x36\xdc\xc9\x49", 16) == 0);
    free(text);
    return outcome;
}
