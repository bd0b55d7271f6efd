// Whether a call of the host of scripts/life came to where it must, by the model, and what is said if not.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <initializer_list>
#include <string>

#include "life.h"
#include "model.hpp"
#include "runtime_api.h"

using namespace model;

namespace {

constexpr const char* KINDS[] = {"constructor",  "module_init",        "module_shutdown",
                                 "destructor",   "exit function",      "quick-exit function",
                                 "on_exit function", "handler of fork", "thread-local's destructor",
                                 "key's destructor", "thread"};

// Who runs module code on this thread, and where its calls must end. The host's own calls are the first of a thread's.
struct Level {
    int root;  // the version whose code it is, by itself; 0: none's
    int kind;
    int first; // what was current when it began
    Pin pin;
};
thread_local Level levels[32];
thread_local volatile int depth;
thread_local volatile bool in_signal;
Level& level() { return levels[depth]; }

std::atomic<bool> is_exiting;

std::string name(int version) {
    if (version <= 0 || version >= version_count) return "no version (" + std::to_string(version) + ")";
    const Version& of = versions[version];
    return std::string(1, LETTERS[of.module]) + "#" + std::to_string(version) + " (variant " +
           std::to_string(of.variant) + ", generation " + std::to_string(of.born) + ")";
}

[[noreturn]] void wrong(const std::string& what) {
    std::string text = "WRONG: " + what + "\n  on this thread:";
    for (int at = depth; at >= 0; --at) {
        const Level& of = levels[at];
        text += of.root ? std::string(" ") + KINDS[of.kind] + " of " + name(of.root) : " the host";
        if (of.pin.opened)
            for (int n = 0; n < of.pin.count; ++n)
                text += (n ? " or " : " in a frame of ") + std::to_string(of.pin.candidates[n]);
        if (at) text += ", in";
    }
    for (int at = std::max(0, started - 8); at <= started; ++at) {
        text += "\n  generation " + std::to_string(at) + (generations[at].failed ? " failed:" : at > published ? " begins:" : ":");
        for (int module = 0; module < MODULES; ++module)
            if (int version = generations[at].of[module]) text += std::string(" ") + LETTERS[module] + "#" + std::to_string(version);
    }
    text += "\n";
    (void)!write(2, text.data(), text.size());
    _exit(3);
}

// Whether this thread was started by the version, and need not be over before it ends.
bool is_thread_of(int version) {
    for (int at = depth; at >= 0; --at)
        if (levels[at].root == version && levels[at].kind == THREAD) return true;
    return false;
}

// A call came to this version.
void came_to(int caller, int module, int version) {
    auto describe = [&](const char* what) {
        wrong((caller ? name(caller) : "the host") + " calls " + LETTERS[module] + " and comes to " + name(version) + what);
    };
    if (!is_version(version, module)) describe("");
    // When the process ends, versions end in the order of the C library's list.
    if (versions[version].ended && !is_exiting && !is_thread_of(version)) describe(", which has ended");
    // It may have come between the two steps of anything.
    if (in_signal) return;
    Level& here = level();
    if (here.pin.opened) {
        auto fits = [&](const Generation& g) { return g.of[module] == version && (!caller || g.has(caller)); };
        if (!here.pin.narrow(fits)) describe(", which is of another generation than the frame");
    } else if (here.root) {
        if (!may_come_to(here.root, here.first, caller, version)) describe(", which is not where its version belongs");
    } else if (!is_current_since(here.first, module, version)) {
        describe(", which is not current");
    }
}

void expect(const char* what, int code, std::initializer_list<int> allowed) {
    for (int one : allowed)
        if (code == one) return;
    wrong(std::string(what) + ": " + runtime_strerror(code) + ": " + runtime_last_error());
}

} // namespace
