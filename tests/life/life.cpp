// The host of scripts/life: life FOLDER FILE [emulated]. Runs a list of operations, one a line, with the modules in the folder, and
// looks where each call ends. 0: all was as it must be; 3: something was not, which stderr says.
//
// An operation is `WHO WHAT ...`. WHO is a thread: 0 to 7 are the host's, t0 to t7 those that modules
// started. One that begins with `&` is not waited for. What cannot be done as things are is left out, so that every part of
// a list is a list.
//
//     begin, end [N], join WHO       a frame; its N-th; one of another thread's
//     call M FUNCTION                by an address that is asked for at its first use
//     ask, anywhere M FUNCTION       asks for it; for one that may be called outside frames
//     call M hold ... return         what is between is done in the midst of the call
//     load M=VARIANT.HABIT ... [backup] [refuse=M]
//     unload M, rollback M, collect, restart, wide
//     hammer M, churn M              calls it over and over until the thread is needed: outside frames, and in frames
//     work                           a module's thread calls what its version calls
//     fork HOW, quit HOW             HOW: exit, quick_exit, _exit
//     signal, exit [open]            the thread gets a signal; it ends (in its frames)
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "addresses.hpp"
#include "life.h"
#include "model.hpp"
#include "runtime_api.h"
#include "verdict.hpp"

using namespace model;

namespace {

constexpr auto PATIENCE = std::chrono::seconds(20);
constexpr int WIDE = 1000;
std::string folder;
bool is_emulated;

// --- Threads ---------------------------------------------------------------------------------------------------------

struct Frame {
    runtime_frame_t* frame;
    int nesting; // of the call that it was opened in
};

struct Operation {
    int line = 0;
    std::string who, what;
    std::vector<std::string> rest;
    bool waits = true;
    std::string text;
};

struct Actor {
    // Under the lock.
    bool running = false, idle = false, has_operation = false;
    Operation operation;
    std::string result;
    // Its life is to end; what it does over and over is to.
    std::atomic<bool> stop, enough;
    std::atomic<int> signals;
    pthread_t thread;
    int nesting = 0;
    std::vector<Frame> frames;
    Level* base = nullptr;
    // Of a module's thread.
    int version = 0;
    void (*work)(const void*) = nullptr;
    const void* argument = nullptr;
};
constexpr int HOSTS = 8, ACTORS = 16;
Actor* actors = new Actor[ACTORS];
thread_local Actor* this_actor;
std::mutex& lock = *new std::mutex;
std::condition_variable& changed = *new std::condition_variable;
std::atomic<int>* arrivals = new std::atomic<int>[MAX_VERSIONS];

template <typename Done> void wait_for(std::unique_lock<std::mutex>& locked, const char* what, Done done) {
    if (!changed.wait_for(locked, PATIENCE, done)) {
        dprintf(2, "HANG: %s\n", what);
        abort();
    }
}

Actor* actor(const std::string& who) {
    size_t number = size_t(atoi(who.c_str() + (who[0] == 't'))) % HOSTS;
    return &actors[who[0] == 't' ? HOSTS + number : number];
}

void open(Actor& self, runtime_frame_t* frame, int first, int last) {
    Pin& pin = level().pin;
    if (!pin.opened) pin.open(first, last);
    ++pin.opened;
    self.frames.push_back({frame, self.nesting});
}

void end(Actor& self, size_t at) {
    Frame frame = self.frames[at];
    expect("runtime_frame_end", runtime_frame_end(frame.frame), {RUNTIME_OK});
    --level().pin.opened;
    delete frame.frame;
    self.frames.erase(self.frames.begin() + long(at));
}

std::string perform(Actor& self, const Operation& op);

// Does what it is told, until the call that it is in is to go on.
void interpret(Actor& self) {
    std::unique_lock<std::mutex> locked(lock);
    for (bool over = false; !over;) {
        self.idle = true;
        changed.notify_all();
        changed.wait(locked, [&] { return self.has_operation || self.stop; });
        self.idle = false;
        if (!self.has_operation) break;
        self.has_operation = false;
        Operation operation = self.operation;
        locked.unlock();
        if (operation.what == "return") over = self.nesting > 0;
        else if (operation.what == "exit") over = self.nesting == 0;
        std::string result = perform(self, operation);
        locked.lock();
        self.result = result;
    }
    locked.unlock();
    bool leaves_open = !self.nesting && self.operation.rest.size() && self.operation.what == "exit";
    while (!leaves_open && !self.frames.empty() && self.frames.back().nesting == self.nesting) end(self, self.frames.size() - 1);
}

void* live(void* of) {
    Actor& self = *static_cast<Actor*>(of);
    this_actor = &self;
    self.base = &level();
    self.frames.clear();
    interpret(self);
    return nullptr;
}

void start_thread(Actor& self) {
    self.running = true;
    self.idle = false;
    if (pthread_create(&self.thread, nullptr, live, &self)) abort();
}

void wait_until_idle(Actor& self) {
    std::unique_lock<std::mutex> locked(lock);
    self.enough = true;
    wait_for(locked, "a thread does not come to an end", [&] { return !self.running || (self.idle && !self.has_operation); });
}

// Nobody is in the midst of anything but calls that are held.
void settle() {
    for (int n = 0; n < ACTORS; ++n) wait_until_idle(actors[n]);
}

// --- Operations ------------------------------------------------------------------------------------------------------

int previous[MODULES]; // what a rollback brings back
std::atomic<int> refusing = -1;
bool leaks; // a thread has gone with a frame

std::string publish(const Operation& op) {
    std::lock_guard<std::mutex> one(publishing);
    Generation& next = add();
    int before[MODULES], code = 0;
    for (int module = 0; module < MODULES; ++module) before[module] = next.of[module];
    const char* what = op.what.c_str();
    if (op.what == "load") {
        std::deque<std::string> paths;
        std::vector<const char*> pointers;
        hot_reload_config_t config = {};
        refusing = -1;
        for (const std::string& word : op.rest) {
            if (word == "backup") config.backup_current_state = true;
            else if (word.rfind("refuse=", 0) == 0) refusing = module_of(word[7]);
            else {
                next.of[module_of(word[0])] = PENDING;
                pointers.push_back(paths.emplace_back(folder + "/" + word + ".so").c_str());
            }
        }
        start();
        code = hot_reload_modules_atomic(pointers.data(), uint32_t(pointers.size()), &config);
        expect(what, code, {RUNTIME_OK, RUNTIME_ERROR_UNRESOLVED, RUNTIME_ERROR_INCOMPATIBLE, RUNTIME_ERROR_REFUSED});
        if (!code && config.backup_current_state)
            for (int module = 0; module < MODULES; ++module)
                if (next.of[module] != before[module] && before[module]) previous[module] = before[module];
    } else if (op.what == "restart") {
        for (auto& version : next.of) version = 0;
        start();
        expect("runtime_shutdown", runtime_shutdown(), {RUNTIME_OK});
        expect("runtime_init", runtime_init(nullptr), {RUNTIME_OK});
        for (int& version : previous) version = 0;
    } else {
        int module = module_of(op.rest[0][0]);
        const char letter[] = {LETTERS[module], 0};
        if (op.what == "unload") {
            next.of[module] = 0;
            start();
            code = hot_reload_unload(letter);
            expect(what, code, {before[module] ? RUNTIME_OK : RUNTIME_ERROR_NOT_LOADED, before[module] ? RUNTIME_ERROR_IN_USE : RUNTIME_ERROR_NOT_LOADED});
            if (!code) previous[module] = 0;
        } else {
            next.of[module] = previous[module];
            start();
            code = hot_reload_rollback(letter);
            if (!before[module]) expect(what, code, {RUNTIME_ERROR_NOT_LOADED});
            else if (!previous[module]) expect(what, code, {RUNTIME_ERROR_NO_PREVIOUS_VERSION});
            else expect(what, code, {RUNTIME_OK, RUNTIME_ERROR_INCOMPATIBLE, RUNTIME_ERROR_UNRESOLVED, RUNTIME_ERROR_NOT_LOADED, RUNTIME_ERROR_NO_SUCH_SYMBOL});
            if (!code) previous[module] = before[module];
        }
    }
    finish(code == 0);
    return code ? runtime_strerror(code) : "";
}

void end_process(const std::string& how) {
    is_exiting = true;
    if (how == "exit") exit(0);
    if (how == "quick_exit") quick_exit(0);
    _exit(0);
}

std::string fork_here(const std::string& how) {
    pid_t child = fork();
    if (!child) {
        alarm(unsigned(PATIENCE.count()));
        for (int module = 0; module < MODULES; ++module)
            if (may_call(module, F)) call(module, F);
        expect("collect in a forked child", runtime_gc_collect(), {RUNTIME_ERROR_FORKED});
        end_process(how);
    }
    int status;
    while (waitpid(child, &status, 0) < 0) {}
    if (WIFSIGNALED(status)) wrong("a forked child dies of signal " + std::to_string(WTERMSIG(status)));
    if (status) _exit(3);
    return "";
}

std::string wide() {
    std::lock_guard<std::mutex> one(publishing);
    if (generations[published].of[module_of('w')] <= 0 || level().pin.opened) return "skipped";
    add();
    start();
    for (int n = 0; n < WIDE; ++n) {
        char symbol[16];
        void* address;
        snprintf(symbol, sizeof symbol, "w_n%03d", n);
        expect("the address of a function", hot_reload_frame_symbol("w", symbol, &address), {RUNTIME_OK});
    }
    finish(true);
    return "";
}

std::string over_and_over(Actor& self, int module, bool in_frames) {
    const Pin& pin = level().pin;
    if (pin.opened || !addresses[module][F].function) return "skipped";
    if (!in_frames && !may_call(module, F)) return "skipped";
    while (!self.enough && !self.stop) {
        if (in_frames) {
            int first = published;
            auto frame = new runtime_frame_t;
            runtime_frame_begin(frame);
            open(self, frame, first, started);
        }
        call(module, F);
        if (in_frames) end(self, self.frames.size() - 1);
    }
    return "";
}

int callable_in_signal() {
    for (int module = 0; module < MODULES; ++module)
        if (addresses[module][F].anywhere && may_call(module, F)) return module;
    return -1;
}

void on_signal(int) {
    int error = errno;
    in_signal = true;
    int module = callable_in_signal();
    if (module >= 0) call(module, F);
    in_signal = false;
    if (this_actor) ++this_actor->signals;
    errno = error;
}

std::string perform(Actor& self, const Operation& op) {
    Level& here = level();
    auto module = [&](size_t at) { return module_of(op.rest.at(at)[0]); };
    if (op.what == "begin") {
        int first = published;
        auto frame = new runtime_frame_t;
        expect("runtime_frame_begin", runtime_frame_begin(frame), {RUNTIME_OK});
        open(self, frame, first, started);
        return "";
    }
    if (op.what == "end") {
        size_t first = 0;
        while (first < self.frames.size() && self.frames[first].nesting < self.nesting) ++first;
        if (first == self.frames.size()) return "skipped";
        size_t count = self.frames.size() - first;
        end(self, first + (op.rest.empty() ? count - 1 : size_t(atoi(op.rest[0].c_str())) % count));
        return "";
    }
    if (op.what == "join") {
        Actor& other = *actor(op.rest.at(0));
        // It does nothing itself meanwhile, if it is idle.
        if (&other == &self || !other.running || !other.idle || other.frames.empty()) return "skipped";
        Pin pin = other.base->pin;
        auto frame = new runtime_frame_t;
        int code = runtime_frame_join(frame, other.frames[0].frame);
        expect("runtime_frame_join", code, {RUNTIME_OK, here.pin.opened ? RUNTIME_ERROR_WRONG_FRAME : RUNTIME_OK});
        if (code) return delete frame, "refused";
        if (!here.pin.opened) here.pin = pin, here.pin.opened = 0;
        ++here.pin.opened;
        self.frames.push_back({frame, self.nesting});
        return "";
    }
    if (op.what == "call") {
        for (int function = 0; function < FUNCTIONS; ++function)
            if (op.rest.at(1) == NAMES[function]) return call(module(0), function);
        return "no such function";
    }
    if (op.what == "ask" || op.what == "anywhere") {
        for (int function = 0; function < FUNCTIONS; ++function)
            if (op.rest.at(1) == NAMES[function]) return ask(module(0), function, op.what == "anywhere");
        return "no such function";
    }
    if (op.what == "load" || op.what == "unload" || op.what == "rollback" || op.what == "restart") return publish(op);
    if (op.what == "collect") {
        expect("runtime_gc_collect", runtime_gc_collect(), {RUNTIME_OK});
        return "";
    }
    if (op.what == "wide") return wide();
    if (op.what == "hammer" || op.what == "churn") return over_and_over(self, module(0), op.what == "churn");
    if (op.what == "work") {
        if (!self.work) return "skipped";
        if (here.pin.opened && !here.pin.all([&](const Generation& g) { return g.has(self.version); })) return "skipped";
        int outer = here.first;
        here.first = published;
        self.work(self.argument);
        here.first = outer;
        return "";
    }
    if (op.what == "fork") return fork_here(op.rest.at(0));
    if (op.what == "quit") end_process(op.rest.at(0));
    if (op.what == "exit" && !self.nesting && !op.rest.empty() && !self.frames.empty()) leaks = true;
    return "";
}

// --- The list --------------------------------------------------------------------------------------------------------

std::string run(const Operation& op) {
    Actor& self = *actor(op.who);
    bool is_host = &self < actors + HOSTS;
    bool of_all = op.what == "unload" || op.what == "restart" || op.what == "quit" || !is_host;
    if (of_all) settle();
    wait_until_idle(self);
    if (!self.running) {
        if (!is_host) return "skipped";
        self.stop = false;
        start_thread(self);
        wait_until_idle(self);
    }
    if (op.what == "signal") {
        int before = self.signals;
        if (!self.base) return "skipped";
        pthread_kill(self.thread, SIGUSR2);
        while (self.signals == before) sched_yield();
        return "";
    }
    if (op.what == "exit" && self.nesting) return "skipped";
    {
        std::lock_guard<std::mutex> locked(lock);
        self.operation = op;
        self.has_operation = true;
        self.enough = false;
        changed.notify_all();
    }
    if (op.what == "exit" && is_host) {
        pthread_join(self.thread, nullptr);
        self.running = false;
        return "";
    }
    // A thread that a version joins when it ends waits for no turn to publish.
    bool may_be_left = is_host || op.what == "hammer" || op.what == "churn";
    if (!op.waits && may_be_left) return "...";
    std::unique_lock<std::mutex> locked(lock);
    wait_for(locked, "an operation does not end", [&] { return !self.running || (self.idle && !self.has_operation); });
    return self.result;
}

// What looks at this thread, and destructors, left on its stack, a look would take for an address in use.
__attribute__((noinline)) void clear_stack() {
    volatile char below[1 << 16];
    for (volatile char& byte : below) byte = 0;
}

void end_threads() {
    settle();
    for (int n = 0; n < ACTORS; ++n) {
        Actor& self = actors[n];
        std::unique_lock<std::mutex> locked(lock);
        self.stop = true;
        changed.notify_all();
        if (n >= HOSTS) {
            wait_for(locked, "a module's thread does not end", [&] { return !self.running; });
        } else if (self.running) {
            locked.unlock();
            pthread_join(self.thread, nullptr);
        }
    }
}

__attribute__((noinline)) void end_versions() {
    auto is_left = [] {
        for (int version = 1; version < version_count; ++version)
            if (!versions[version].ended) return version;
        return 0;
    };
    expect("runtime_shutdown", runtime_shutdown(), {RUNTIME_OK});
    auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    // A module's thread may not be over yet, though it said so.
    while (!leaks && is_left()) {
        expect("runtime_init", runtime_init(nullptr), {RUNTIME_OK});
        clear_stack();
        expect("runtime_gc_collect", runtime_gc_collect(), {RUNTIME_OK});
        hot_reload_stats_t stats = {};
        expect("hot_reload_get_statistics", hot_reload_get_statistics(&stats), {RUNTIME_OK});
        expect("runtime_shutdown", runtime_shutdown(), {RUNTIME_OK});
        // What was called outside frames stays as long as any word of a thread looks like an address in it, with what it calls;
        // and an emulator has a thread of its own in the process, which no look can see into.
        bool is_late = std::chrono::steady_clock::now() > deadline;
        bool is_all = stats.retained_bytes == stats.retired_bytes;
        if (stats.retained_bytes && (is_late || (is_emulated && is_all))) {
            dprintf(1, " (%llu bytes are kept)", stats.retired_bytes);
            break;
        }
        if (is_late)
            wrong("never ended: " + name(is_left()) + "; of " + std::to_string(stats.retired_bytes) + " bytes " +
                  std::to_string(stats.retained_bytes) + " are kept for calls outside frames");
        sched_yield();
    }
}

} // namespace

// --- What modules call -----------------------------------------------------------------------------------------------

int life_born(char letter, int variant) {
    int version = version_count++, module = module_of(letter);
    if (version >= MAX_VERSIONS) abort();
    versions[version].module = module;
    versions[version].variant = variant;
    versions[version].born = started;
    generations[started].of[module] = version;
    return version;
}

void life_ended(int me) { versions[me].ended = true; }
bool life_refuses(int me) { return refusing == versions[me].module; }

void life_enter(int me, int kind) {
    Level& next = levels[depth + 1];
    next = Level();
    next.root = me;
    next.kind = kind;
    next.first = published;
    depth = depth + 1;
}

void life_leave(int me) {
    if (level().root != me) wrong("code of " + name(me) + " ends in that of another");
    depth = depth - 1;
}

void life_called(int me, char module, int version) { came_to(me, module_of(module), version); }
void life_wrong(int me, const char* what) {
    if (!is_exiting && !is_thread_of(me)) wrong(name(me) + ": " + what);
}

void life_hold(int me) {
    Actor* self = this_actor;
    if (!self || in_signal) return;
    (void)me;
    ++self->nesting;
    interpret(*self);
    --self->nesting;
}

void life_thread(int me, void (*work)(const void*), const void* argument) {
    Actor* self = nullptr;
    {
        std::lock_guard<std::mutex> locked(lock);
        for (int n = ACTORS - 1; n >= HOSTS; --n)
            if (!actors[n].running) self = &actors[n];
        if (self) {
            self->running = true;
            self->idle = self->stop = self->has_operation = false;
            self->version = me;
            self->work = work;
            self->argument = argument;
            self->thread = pthread_self();
            self->base = &level();
            self->nesting = 0;
            self->frames.clear();
        }
        ++arrivals[me];
        changed.notify_all();
    }
    if (!self) return;
    this_actor = self;
    interpret(*self);
    std::lock_guard<std::mutex> locked(lock);
    self->running = false;
    self->work = nullptr;
    changed.notify_all();
}

void life_await_thread(int me) {
    std::unique_lock<std::mutex> locked(lock);
    wait_for(locked, "a module's thread does not begin", [&] { return arrivals[me] > 0; });
    --arrivals[me];
}

bool life_stop_threads(int me) {
    if (is_exiting) return false;
    std::lock_guard<std::mutex> locked(lock);
    for (int n = HOSTS; n < ACTORS; ++n)
        if (actors[n].running && actors[n].version == me) actors[n].stop = true;
    changed.notify_all();
    return true;
}

int main(int count, char** arguments) {
    folder = arguments[1];
    is_emulated = count > 3;
    struct sigaction action = {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR2, &action, nullptr);
    expect("runtime_init", runtime_init(nullptr), {RUNTIME_OK});
    std::ifstream file(arguments[2]);
    int number = 0;
    for (std::string text; std::getline(file, text);) {
        Operation op;
        op.line = ++number;
        op.text = text;
        std::istringstream words(text);
        words >> op.who >> op.what;
        if (op.who.empty()) continue;
        if (op.who[0] == '&') op.waits = false, op.who.erase(0, 1);
        for (std::string word; words >> word;) op.rest.push_back(word);
        dprintf(1, "%d: %s", number, text.c_str());
        std::string result = run(op);
        dprintf(1, " -> %s\n", result.empty() ? "done" : result.c_str());
    }
    dprintf(1, "end");
    end_threads();
    clear_stack();
    end_versions();
    dprintf(1, " -> done\n");
    is_exiting = true;
}
