/* Jsonnet, a language in C++: its own test suite, in which every mistake of a program is an exception inside the library. */
#include "work.h"

#include <algorithm>
#include <dirent.h>
#include <string>
#include <vector>

extern "C" {
#include "libjsonnet.h"
#include "libjsonnet_fmt.h"
}

extern "C" const char unit[] = "programs evaluated or formatted";

extern "C" struct outcome work(lookup *find, const char *library, const char *) {
    FIND(jsonnet_make); FIND(jsonnet_destroy); FIND(jsonnet_evaluate_file); FIND(jsonnet_fmt_snippet); FIND(jsonnet_realloc);
    FIND(jsonnet_ext_var); FIND(jsonnet_ext_code); FIND(jsonnet_version); FIND(jsonnet_max_stack);
    outcome outcome = {mix_string(0, jsonnet_version_()), 0};

    std::string folder = std::string(library) + "/jsonnet/test_suite";
    std::vector<std::string> programs;
    DIR *directory = opendir(folder.c_str());
    CHECK(directory);
    while (dirent *entry = readdir(directory)) {
        std::string name = entry->d_name;
        // Those that recurse run for seconds, and `trace` writes to the terminal.
        bool is_program = name.size() > 8 && name.compare(name.size() - 8, 8, ".jsonnet") == 0;
        if (is_program && name.find("recursive") == std::string::npos && name != "trace.jsonnet")
            programs.push_back(name);
    }
    closedir(directory);
    std::sort(programs.begin(), programs.end());
    CHECK(programs.size() > 100);
    size_t errors = 0;
    /* A program takes some 20 ms, most of it for the library's own standard library: a sixth of them will do. */
    const size_t step = getenv("REAL_MODULES_QUICK") ? 24 : 6;
    for (size_t i = 0; i < programs.size(); i += step) {
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
    CHECK(errors > 60 / step);
    return outcome;
}
