// A module of the name NAME: NAME_version() returns VERSION. With CALLS, NAME_calls() calls that module.
#include "runtime_module.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

static int count = VERSION;

int JOIN(NAME, _version)(void);
int JOIN(NAME, _version)(void) { return count; }

#ifdef CALLS
int JOIN(CALLS, _version)(void);
int JOIN(NAME, _calls)(void);
int JOIN(NAME, _calls)(void) { return JOIN(CALLS, _version)(); }
#endif

#ifdef ASKS_HOST
// The program tries everything from here (callbacks.c).
void from_module(const char* where);
__attribute__((constructor)) static void begin(void) { from_module("constructor"); }
__attribute__((destructor)) static void end(void) { from_module("destructor"); }
int module_init(void) {
    from_module("module_init");
    return 0;
}
void module_shutdown(void) { from_module("module_shutdown"); }
#endif
