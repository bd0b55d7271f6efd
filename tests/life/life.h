// What the modules of scripts/life and their host (life.cpp) know of each other.
#pragma once

// Modules call those that come later: a calls b and c, b calls c and d, c calls d. w is called by
// nobody and has a thousand functions, so that the runtime's table takes a while to follow it.
constexpr char LETTERS[] = "abcdw";
constexpr int MODULES = 5;
constexpr const char* CALLED[MODULES] = {"bc", "cd", "d", "", ""};

// The functions of a module, the g's of which not all versions have.
enum Function { F, G0, G1, G2, G3, TOUCH, SPAWN, HOLD, FUNCTIONS };
constexpr const char* NAMES[FUNCTIONS] = {"f", "g0", "g1", "g2", "g3", "touch", "spawn", "hold"};

// What differs between versions: which of the g's they have, and which of them they call (-1: none).
struct Variant {
    unsigned has;
    int calls;
};
constexpr Variant VARIANTS[] = {{1, 0}, {2, 1}, {15, 2}, {15, 3}, {15, -1}, {0, -1}};

constexpr bool has(int variant, int function) {
    return function < G0 || function > G3 || (VARIANTS[variant].has >> (function - G0) & 1);
}

// What versions do beside, each a bit.
enum Habit {
    ENDS = 1,    // module_shutdown and the destructor call; threads are joined there
    EXITS = 2,   // the constructor registers functions for the process's exit, and for forks
    THREADS = 4, // the constructor starts a thread
};

// Who runs code of a module that is in no frame and no call of the host's.
enum Kind { CONSTRUCTOR, INIT, SHUTDOWN, DESTRUCTOR, EXIT, QUICK_EXIT, ON_EXIT, FORK, THREAD_LOCAL, KEY, THREAD };

// What the host has for modules. `me` is the number that life_born() gave: it names this version.
extern "C" {
int life_born(char module, int variant);
void life_ended(int me);
bool life_refuses(int me);
// Code of the version that is of this kind begins, and is over.
void life_enter(int me, int kind);
void life_leave(int me);
// A function of another module was called, and said that it was in this version.
void life_called(int me, char module, int version);
// A function of the version runs, and its destructor has run; or another thing is not as it must be.
void life_wrong(int me, const char* what);
// A call does here what the host thinks of, which takes a while.
void life_hold(int me);
// The life of a thread of the module's, which calls `work` when the host says so; whether a thread
// that was just started is there; and the end of all of the version, which may be waited for unless the process ends.
void life_thread(int me, void (*work)(const void*), const void* argument);
void life_await_thread(int me);
bool life_stop_threads(int me);
}
