/* A host with ThreadSanitizer, whose threads call a module while it is replaced; and with -DMODULE the module, which has a race of its own
 * with -DRACE.
 *
 *     sanitized FOLDER    the module is FOLDER/value.so */
#ifdef MODULE
static int table[] = { 40, 2 };
static volatile int calls;
int value(void) {
#ifdef RACE
    calls++;
#endif
    return table[calls > 0] + table[1];
}
#else
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "runtime_api.h"

static int (*value)(void);
static atomic_int over;
static atomic_long called;

static void* caller(void* unused) {
    while (!over) {
        runtime_frame_t frame;
        runtime_frame_begin(&frame);
        value();
        runtime_frame_end(&frame);
        called++;
    }
    return unused;
}

int main(int count, char** arguments) {
    char path[4096];
    if (count != 2) return 2;
    snprintf(path, sizeof path, "%s/value.so", arguments[1]);
    int result = runtime_init(NULL);
    if (!result) result = hot_reload_module(path, NULL);
    if (!result) result = hot_reload_frame_symbol("value", "value", (void**)&value);
    if (result) return printf("%s\n", runtime_last_error()), 1;
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, caller, NULL);
    /* Each version is called. */
    for (int i = 0; i < 20 && !result; i++) {
        long before = called;
        result = hot_reload_module(path, NULL);
        while (called < before + 10) {}
    }
    over = 1;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    return result || runtime_shutdown();
}
#endif
