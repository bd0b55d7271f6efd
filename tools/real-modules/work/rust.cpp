/* Rust with its standard library: see modules/rust. The work is in C++ so that an exception can pass the module's frames. */
#include "work.h"

#include <stdexcept>
#include <string>
#include <thread>

extern "C" {
const char unit[] = "calls of Rust functions, on 9 threads";
uint64_t rust_collections(uint64_t seed);
uint64_t rust_threads(uint64_t count);
uint64_t rust_panics(uint64_t count);
uint64_t rust_panic_out(void (*host)());
uint64_t rust_alive();
uint64_t rust_thread_local();
bool rust_backtrace();
uint64_t rust_crates(const char *path);
}

static void throw_in_host() { throw std::runtime_error("from the host"); }

extern "C" struct outcome work(lookup *find, const char *, const char *scripts) {
    FIND(rust_collections); FIND(rust_threads); FIND(rust_panics); FIND(rust_panic_out); FIND(rust_alive);
    FIND(rust_thread_local); FIND(rust_backtrace); FIND(rust_crates);
    outcome outcome = {0, 0};
    auto all = [&](int seed) {
        uint64_t hash = mix_number(0, rust_collections_(seed));
        hash = mix_number(hash, rust_threads_(4 + seed % 3));
        hash = mix_number(hash, rust_panics_(20));
        for (int i = 0; i < 20; i++) {
            try {
                rust_panic_out_(throw_in_host);
                CHECK(!"it throws");
            } catch (const std::runtime_error &error) {
                hash = mix_string(hash, error.what());
            }
        }
        return hash;
    };
    /* Twice in a process, by dlopen and by midflight: std keeps what it has read of debug information for the life of its copy, and
     * never gives it back. It finds names in the file of a shared object; a module of objects has no such file. */
    static int backtraces;
    if (backtraces++ < 2) CHECK(rust_backtrace_() || !getenv("REAL_MODULES_SHARED"));
    /* This thread lives on when the module goes. */
    CHECK(rust_thread_local_() >= 1);
    outcome.hash = mix_number(outcome.hash, all(0));
    uint64_t before = rust_alive_();
    for (int i = 0; i < 4; i++) {
        uint64_t hash = 0;
        // One after the other: the module's threads share a map.
        std::thread([&] {
            CHECK(rust_thread_local_() == 1 && rust_thread_local_() == 2 && rust_alive_() == before + 2);
            hash = all(i);
        }).join();
        // The thread has run its destructors.
        CHECK(rust_alive_() == before);
        outcome.hash = mix_number(outcome.hash, hash);
    }
    std::string path = std::string(scripts) + "/sqlite.c";
    outcome.hash = mix_number(outcome.hash, rust_crates_(path.c_str()));
    outcome.count = 5 * 24 + 10;
    return outcome;
}
