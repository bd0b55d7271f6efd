/* mimalloc: threads that allocate, hand over and free; each has a heap in thread-local storage, which goes when the thread does. */
#include "work.h"

#include <pthread.h>

#include <mimalloc.h>

const char unit[] = "blocks allocated and freed, on 4 threads";

enum { THREADS = 4, BLOCKS = 3000 };

static __typeof__(mi_malloc) *take;
static __typeof__(mi_free) *give_back;
static __typeof__(mi_realloc) *resize;
static __typeof__(mi_zalloc_aligned) *take_aligned;
static void *handed[THREADS][BLOCKS];
static pthread_barrier_t all;

static void *run(void *number) {
    size_t me = (size_t)(uintptr_t)number;
    uint32_t random = (uint32_t)me + 1;
    for (int i = 0; i < BLOCKS; i++) {
        size_t size = 1 + (next_random(&random) >> 8) % (i % 100 ? 500 : 100000);
        unsigned char *block = i % 3 ? take(size) : take_aligned(size, 64);
        CHECK(block && (i % 3 || ((uintptr_t)block % 64 == 0 && block[size / 2] == 0)));
        memset(block, (int)me, size);
        if (i % 5 == 0) {
            block = resize(block, 2 * size);
            CHECK(block && block[0] == me && block[size - 1] == me);
        }
        handed[me][i] = block;
    }
    pthread_barrier_wait(&all);
    /* Those of the next thread. */
    size_t other = (me + 1) % THREADS;
    for (int i = 0; i < BLOCKS; i++) {
        CHECK(*(unsigned char *)handed[other][i] == other);
        give_back(handed[other][i]);
    }
    return 0;
}

struct outcome work(lookup *find, const char *library, const char *scripts) {
    (void)library, (void)scripts;
    FIND(mi_version); FIND(mi_collect);
    take = (__typeof__(take))find("mi_malloc");
    give_back = (__typeof__(give_back))find("mi_free");
    resize = (__typeof__(resize))find("mi_realloc");
    take_aligned = (__typeof__(take_aligned))find("mi_zalloc_aligned");
    pthread_barrier_init(&all, 0, THREADS);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], 0, run, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], 0) == 0);
    pthread_barrier_destroy(&all);
    void *here = take(100);
    give_back(here);
    mi_collect_(1);
    return (struct outcome){(uint64_t)mi_version_(), THREADS * BLOCKS};
}
