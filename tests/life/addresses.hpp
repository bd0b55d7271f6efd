// The addresses that the host of scripts/life has of its modules' functions, and calls by them.
#pragma once

#include <atomic>
#include <mutex>
#include <string>

#include "life.h"
#include "model.hpp"
#include "runtime_api.h"
#include "verdict.hpp"

namespace {

struct Address {
    std::atomic<int (*)()> function;
    std::atomic<int> since; // the generation from which frames have it
    std::atomic<bool> anywhere;
};
Address addresses[MODULES][FUNCTIONS];

// One at a time changes what is loaded, so that the model knows in which order.
std::mutex& publishing = *new std::mutex;

bool offers(const Generation& generation, int module, int function) {
    int version = generation.of[module];
    if (version == PENDING) return function < G0 || function > G3;
    return version > 0 && has(versions[version].variant, function);
}

// Whether the calling thread may call it as things are.
bool may_call(int module, int function) {
    const Address& address = addresses[module][function];
    if (!address.function) return false;
    const Pin& pin = level().pin;
    if (pin.opened)
        return pin.first() >= address.since && pin.all([&](const Generation& g) { return offers(g, module, function); });
    return address.anywhere && offers(generations[published], module, function);
}

std::string ask(int module, int function, bool anywhere) {
    std::lock_guard<std::mutex> one(publishing);
    Address& address = addresses[module][function];
    const Pin& pin = level().pin;
    const char letter[] = {LETTERS[module], 0};
    std::string symbol = std::string(letter) + "_" + NAMES[function];
    void* found;
    add();
    start();
    int code = anywhere ? hot_reload_symbol(letter, symbol.c_str(), &found) : hot_reload_frame_symbol(letter, symbol.c_str(), &found);
    finish(true);
    const Generation& current = generations[published];
    bool is_there = current.of[module] > 0 && offers(current, module, function);
    if (is_there) expect("the address of a function", code, {RUNTIME_OK, pin.opened ? RUNTIME_ERROR_WRONG_FRAME : RUNTIME_OK});
    else expect("the address of a function", code, {RUNTIME_ERROR_NOT_LOADED, RUNTIME_ERROR_NO_SUCH_SYMBOL});
    if (code) return "refused";
    // The thread's own frame has it: that is promised by the address being given.
    int since = pin.opened ? pin.first() : int(published);
    if (!address.function || since < address.since) address.since = since;
    if (anywhere) address.anywhere = true;
    address.function = reinterpret_cast<int (*)()>(found);
    return "";
}

std::string call(int module, int function) {
    if (!addresses[module][function].function) {
        std::string result = ask(module, function, false);
        if (!result.empty()) return result;
    }
    if (!may_call(module, function)) return "skipped";
    int begin = depth, outer = level().first, first = published;
    if (!in_signal) level().first = first;
    int version = addresses[module][function].function.load()();
    if (depth != begin) wrong("a call came back elsewhere");
    // Others may have been made within it.
    if (!in_signal) level().first = first;
    came_to(0, module, version);
    if (!in_signal) level().first = outer;
    return "";
}

} // namespace
