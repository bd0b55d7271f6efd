// A module of the name NAME, with its version in words all over it: NAME_version() is the version, or 0 if they differ. The tests write
// the versions, from 1, into the file. Built with WORDS words, twice.
//
// NAME_next() is the version of the module NEXT, if there is one.
#include <stdint.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define MARK UINT64_C(0x6d69646669676874)

// Constants, and variables; volatile, or the compiler knows what they are.
static const volatile uint64_t constants[WORDS] = {[0 ... WORDS - 1] = MARK};
static volatile uint64_t variables[WORDS] = {[0 ... WORDS - 1] = MARK};

uint64_t JOIN(NAME, _version)(void) {
    uint64_t version = constants[0];
    for (int i = 0; i < WORDS; i++) {
        if (constants[i] != version || variables[i] != version) return 0;
    }
    return version - MARK;
}

#ifdef NEXT
uint64_t JOIN(NEXT, _version)(void);
uint64_t JOIN(NAME, _next)(void) { return JOIN(NEXT, _version)(); }
#endif

#ifdef MISSING
// What nobody has.
int JOIN(NAME, _is_nowhere)(void);
int JOIN(NAME, _asks)(void) { return JOIN(NAME, _is_nowhere)(); }
#endif

#ifdef REFUSES
int module_init(void);
int module_init(void) { return -1; }
#endif
