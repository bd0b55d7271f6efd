/* C++ exceptions that stay inside a module, pass it, or leave it; on several threads, with thread-local objects. */
#include "work.h"

#include <string>
#include <thread>
#include <vector>

#include "throws.h"

extern "C" const char unit[] = "exceptions thrown, on 5 threads";

static void throw_in_host(void *data) { throw module_error(*static_cast<int *>(data), "from the host"); }

struct HostGuard {
    int &count;
    ~HostGuard() { count++; }
};

extern "C" struct outcome work(lookup *find, const char *, const char *) {
    FIND(throws_alive); FIND(throws_inside); FIND(throws_out); FIND(throws_error); FIND(throws_through); FIND(throws_carried);
    FIND(throws_thread_local);
    outcome outcome = {0, 0};
    auto throwing = [&](int seed) {
        uint64_t hash = mix_number(0, throws_inside_(400 + seed));
        for (int i = 0; i < 50; i++) {
            try {
                hash = mix_number(hash, throws_out_(i % 2 ? "[1, {\"a\": [2, 3]}, null]" : "[1, {\"a\": 2,, }"));
                CHECK(i % 2);
            } catch (const std::exception &error) {
                CHECK(i % 2 == 0);
                hash = mix_string(hash, error.what());
            }
            try {
                throws_error_(i + seed, i % 9);
                CHECK(!"it throws");
            } catch (const module_error &error) {
                CHECK(error.code == i + seed);
                hash = mix_string(hash, error.what());
            }
            int code = i, unwound = 0;
            CHECK(throws_through_(throw_in_host, &code, i % 5, 1) == i);
            try {
                HostGuard guard{unwound};
                throws_through_(throw_in_host, &code, i % 5, 0);
                CHECK(!"it throws");
            } catch (module_error &error) {
                CHECK(error.code == i && unwound == 1);
            }
            CHECK(throws_alive_() == 0);
        }
        return hash;
    };
    outcome.hash = mix_number(outcome.hash, throwing(0));
    outcome.hash = mix_number(outcome.hash, throws_carried_(8));
    uint64_t hashes[4];
    long constructed[4] = {}, destroyed[4] = {};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++)
        threads.emplace_back([&, i] {
            throws_thread_local_(&constructed[i], &destroyed[i]);
            hashes[i] = throwing(i);
            throws_thread_local_(&constructed[i], &destroyed[i]);
            CHECK(destroyed[i] == 0);
        });
    for (auto &thread : threads) thread.join();
    for (int i = 0; i < 4; i++) {
        CHECK(constructed[i] == 1 && destroyed[i] == 1);
        outcome.hash = mix_number(outcome.hash, hashes[i]);
    }
    outcome.count += 5 * (400 + 150) + 8;
    return outcome;
}
