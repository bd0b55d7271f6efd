// A version of a module: -DNAME=a -DLETTER='a' -DVARIANT=0 -DHABIT=0 -DOTHERS="CALL(b) CALL(c)".
// Each function returns the version's number, so that who calls it knows where he was.
#include <pthread.h>
#include <stdlib.h>

#include "life.h"

#define GLUE_(a, b, c) a##b##c
#define GLUE(a, b, c) GLUE_(a, b, c)
#define FUNCTION(name) extern "C" int GLUE(NAME, _, name)()

#if VARIANT < 4
#define IF_CALLS(of_called) of_called
#else
#define IF_CALLS(of_called)
#endif

#define CALL(module) \
    extern "C" int module##_f(); \
    IF_CALLS(extern "C" int GLUE(module, _g, VARIANT)();)
OTHERS
#undef CALL

namespace {

constexpr int MAX_THREADS = 4;
constexpr bool ends = HABIT & ENDS, exits = HABIT & EXITS, starts_threads = HABIT & THREADS;

int me;
bool alive;
pthread_key_t key;
pthread_t threads[MAX_THREADS];
int thread_count;

void call_others() {
#define CALL(module) \
    life_called(me, #module[0], module##_f()); \
    IF_CALLS(life_called(me, #module[0], GLUE(module, _g, VARIANT)());)
    OTHERS
#undef CALL
}

void check(const char* what) {
    if (!alive) life_wrong(me, what);
}

void call_as(Kind kind) {
    life_enter(me, kind);
    call_others();
    life_leave(me);
}

thread_local bool is_own_thread; // which may outlive the version, if that does not join it
struct Local {
    int* data = new int(42);
    ~Local() {
        if (!is_own_thread) check("a thread-local variable's destructor runs after the version's end");
        call_as(THREAD_LOCAL);
        delete data;
        data = nullptr;
    }
};
thread_local Local local;

void end_value(void*) {
    if (!is_own_thread) check("a key's destructor runs after the version's end");
    call_as(KEY);
}

void leave_something() {
    if (!local.data || *local.data != 42) life_wrong(me, "a thread-local variable is destroyed");
    pthread_setspecific(key, &key);
}

// It is the thread's as long as code of the version is on its stack.
void check_local(const void* before) {
    if (before != &local) life_wrong(me, "a thread's variable was taken from it");
}

void work(const void* before) {
    check_local(before);
    leave_something();
    call_others();
}

void* run(void*) {
    is_own_thread = true;
    leave_something();
    life_enter(me, THREAD);
    life_thread(me, work, &local);
    life_leave(me);
    return nullptr;
}

void start_thread() {
    pthread_t* thread = &threads[thread_count];
    if (thread_count == MAX_THREADS || pthread_create(thread, nullptr, run, nullptr)) return;
    // A version that joins its threads does so before its destructors are over.
    if (ends) ++thread_count;
    else pthread_detach(*thread);
    life_await_thread(me);
}

void stop_threads() {
    if (!thread_count || !life_stop_threads(me)) return;
    while (thread_count) pthread_join(threads[--thread_count], nullptr);
}

void exit_function() { check("an exit function runs after the version's end"), call_as(EXIT); }
void quick_exit_function() { check("an exit function runs after the version's end"), call_as(QUICK_EXIT); }
void on_exit_function(int, void*) { check("an exit function runs after the version's end"), call_as(ON_EXIT); }
void at_fork() { check("a handler of fork runs after the version's end"), call_as(FORK); }

// The first to be made, and so the last to go.
struct Life {
    Life() {
        me = life_born(LETTER, VARIANT);
        alive = true;
    }
    ~Life() {
        check("the version ends twice");
        alive = false;
        life_ended(me);
    }
} life;

struct Begin {
    Begin() {
        pthread_key_create(&key, end_value);
        if (exits) {
            atexit(exit_function);
            at_quick_exit(quick_exit_function);
            on_exit(on_exit_function, nullptr);
            pthread_atfork(at_fork, at_fork, at_fork);
        }
        call_as(CONSTRUCTOR);
        if (starts_threads) start_thread();
    }
    ~Begin() {
        check("a destructor runs after the version's end");
        if (ends) call_as(DESTRUCTOR);
        stop_threads();
    }
} at_begin;

int here() {
    check("a function is called after the version's end");
    return me;
}

} // namespace

extern "C" int module_init() {
    call_as(INIT);
    return life_refuses(me);
}

extern "C" void module_shutdown() {
    check("module_shutdown runs after the version's end");
    if (ends) call_as(SHUTDOWN);
    stop_threads();
}

FUNCTION(f) { return here(), call_others(), here(); }
FUNCTION(touch) { return here(), leave_something(), here(); }
FUNCTION(spawn) { return here(), start_thread(), here(); }
FUNCTION(hold) {
    here();
    leave_something();
    const void* before = &local;
    life_hold(me);
    check_local(before);
    call_others();
    return here();
}

#if VARIANT == 0 || VARIANT >= 2 && VARIANT <= 4
FUNCTION(g0) { return here(); }
#endif
#if VARIANT >= 1 && VARIANT <= 4
FUNCTION(g1) { return here(); }
#endif
#if VARIANT >= 2 && VARIANT <= 4
FUNCTION(g2) { return here(); }
FUNCTION(g3) { return here(); }
#endif

#ifdef WIDE
#define ONE(number) FUNCTION(number) { return here(); }
#define TEN(n) ONE(n##0) ONE(n##1) ONE(n##2) ONE(n##3) ONE(n##4) ONE(n##5) ONE(n##6) ONE(n##7) ONE(n##8) ONE(n##9)
#define HUNDRED(n) TEN(n##0) TEN(n##1) TEN(n##2) TEN(n##3) TEN(n##4) TEN(n##5) TEN(n##6) TEN(n##7) TEN(n##8) TEN(n##9)
HUNDRED(n0) HUNDRED(n1) HUNDRED(n2) HUNDRED(n3) HUNDRED(n4)
HUNDRED(n5) HUNDRED(n6) HUNDRED(n7) HUNDRED(n8) HUNDRED(n9)
#endif
