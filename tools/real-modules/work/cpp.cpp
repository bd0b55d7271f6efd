/* C++ that throws: Jsonnet's own test suite, in which every mistake of a program is an exception inside the library, and a second library
 * for exceptions that pass the module or leave it, on several threads, and for thread-local objects. */
#include "work.h"

#include <algorithm>
#include <dirent.h>
#include <string>
#include <thread>
#include <vector>

extern "C" {
#include "libjsonnet.h"
#include "libjsonnet_fmt.h"
}
#include "throws.h"

extern "C" const char unit[] = "programs evaluated and exceptions thrown";

static void throw_in_host(void *data) { throw module_error(*static_cast<int *>(data), "from the host"); }

struct HostGuard {
    int &count;
    ~HostGuard() { count++; }
};

extern "C" struct outcome work(lookup *find, const char *library, const char *) {
    FIND(jsonnet_make); FIND(jsonnet_destroy); FIND(jsonnet_evaluate_file); FIND(jsonnet_fmt_snippet); FIND(jsonnet_realloc);
    FIND(jsonnet_ext_var); FIND(jsonnet_ext_code); FIND(jsonnet_version); FIND(jsonnet_max_stack);
    FIND(throws_alive); FIND(throws_inside); FIND(throws_out); FIND(throws_error); FIND(throws_through); FIND(throws_carried);
    FIND(throws_thread_local);
    outcome outcome = {mix_string(0, jsonnet_version_()), 0};

    std::string folder = std::string(library) + "/jsonnet/test_suite";
    std::vector<std::string> programs;
    DIR *directory = opendir(folder.c_str());
    CHECK(directory);
    while (dirent *entry = readdir(directory)) {
        std::string name = entry->d_name;
        // These two run for seconds, or need the other test's input.
        if (name.size() > 8 && name.compare(name.size() - 8, 8, ".jsonnet") == 0 && name.find("recursive") == std::string::npos)
            programs.push_back(name);
    }
    closedir(directory);
    std::sort(programs.begin(), programs.end());
    CHECK(programs.size() > 100);
    int errors = 0;
    /* A program takes some 20 ms, most of it for the library's own standard library: a sixth of them will do. */
    for (size_t i = 0; i < programs.size(); i += 6) {
        const auto &name = programs[i];
        JsonnetVm *vm = jsonnet_make_();
        jsonnet_max_stack_(vm, 200);
        jsonnet_ext_var_(vm, "var1", "test");
        jsonnet_ext_code_(vm, "var2", "{x: 1, y: 2}");
        int error;
        std::string path = folder + "/" + name;
        char *text = jsonnet_evaluate_file_(vm, path.c_str(), &error);
        errors += error != 0;
        // The library's folder is in its messages, and is the same for all.
        outcome.hash = mix_string(outcome.hash, text);
        jsonnet_realloc_(vm, text, 0);
        size_t length;
        char *source = read_file(folder.c_str(), name.c_str(), &length);
        text = jsonnet_fmt_snippet_(vm, name.c_str(), source, &error);
        outcome.hash = mix_string(outcome.hash, text);
        jsonnet_realloc_(vm, text, 0);
        free(source);
        jsonnet_destroy_(vm);
        outcome.count += 2;
    }
    CHECK(errors > 10);

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
