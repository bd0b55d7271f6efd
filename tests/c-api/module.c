// A module of the name NAME: NAME_version() returns VERSION.
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

int JOIN(NAME, _version)(void) { return VERSION; }

#ifdef CALLS
// What another module's version is, in the generation that this is called in.
int JOIN(CALLS, _version)(void);
int JOIN(NAME, _sees)(void) { return JOIN(CALLS, _version)(); }
#endif

#ifdef TAKES
// It takes another type in another version.
int JOIN(NAME, _scaled)(TAKES x) { return (int)(x * 2); }
#endif

#ifdef SLOW
#include <time.h>
__attribute__((constructor)) static void dawdle(void) {
    const struct timespec delay = {0, 50000000};
    nanosleep(&delay, 0);
}
#endif
