// What the host of scripts/life knows of generations, and where code of a version may find itself.
//
// A list of generations that only grows: who publishes adds one before he does (`started`), and says
// when it is there (`published`). Between the two nobody knows which of them a thread sees.
#pragma once

#include <atomic>
#include <cstdio>
#include <cstring>

#include "life.h"

namespace model {

// A version, by the number that life_born() gave it.
struct Version {
    int module, variant;
    int born; // the generation that it was loaded for
    std::atomic<bool> ended;
};
constexpr int MAX_VERSIONS = 1 << 16;
inline Version versions[MAX_VERSIONS];
inline std::atomic<int> version_count = 1;

// Which version each module has. 0: none; PENDING: one that is being loaded.
constexpr int PENDING = -1;
struct Generation {
    std::atomic<int> of[MODULES];
    std::atomic<bool> failed; // it came to nothing
    bool has(int version) const { return of[versions[version].module] == version; }
};
constexpr int MAX_GENERATIONS = 1 << 16;
inline Generation generations[MAX_GENERATIONS];
inline std::atomic<int> started, published;

inline int module_of(char letter) { return int(strchr(LETTERS, letter) - LETTERS); }

inline bool is_version(int version, int module) {
    return version > 0 && version < version_count && versions[version].module == module;
}

// Whether `module` is, or calls, or calls by way of others, the other.
inline bool reaches(int module, int other) {
    if (module == other) return true;
    for (const char* called = CALLED[module]; *called; ++called)
        if (reaches(module_of(*called), other)) return true;
    return false;
}

// A new generation as the current one is, for the publisher to change. One at a time.
inline Generation& add() {
    Generation& added = generations[started + 1];
    for (int module = 0; module < MODULES; ++module)
        added.of[module] = generations[published].of[module].load();
    return added;
}
// Whoever looks from now on may see it.
inline void start() { ++started; }
// It is there, or is not going to be.
inline void finish(bool is_published) {
    if (is_published) published = started.load();
    else generations[started].failed = true;
}

// Where a thread's calls end: in one of these generations, and it is the same for all of them.
struct Pin {
    static constexpr int MAX = 32;
    int opened = 0; // frames
    int count = 0, candidates[MAX];

    void open(int first, int last) {
        count = 0;
        for (int at = first; at <= last && count < MAX; ++at) candidates[count++] = at;
    }
    int first() const { return count ? candidates[0] : 0; }
    template <typename Fits> bool narrow(Fits fits) {
        int kept = 0;
        for (int n = 0; n < count; ++n) {
            const Generation& generation = generations[candidates[n]];
            if (!generation.failed && fits(generation)) candidates[kept++] = candidates[n];
        }
        if (!kept) return false;
        count = kept;
        return true;
    }
    template <typename Fits> bool all(Fits fits) const {
        for (int n = 0; n < count; ++n)
            if (!fits(generations[candidates[n]])) return false;
        return count > 0;
    }
};

// Whether some generation from `first` on has this version: it is behind a slot of what is current.
inline bool is_current_since(int first, int module, int version) {
    for (int at = started; at >= first; --at)
        if (!generations[at].failed && generations[at].of[module] == version) return true;
    return false;
}

// Whether this version is where `root` belongs: the last generation that has `root` has it; if `root` was current
// since `first`, any of those (docs/dispatch.md, "Where a version belongs").
inline bool is_at_home(int root, int first, int version) {
    int module = versions[version].module;
    if (!reaches(versions[root].module, module)) return false;
    for (int at = started; at > 0; --at) {
        const Generation& generation = generations[at];
        if (!generation.has(root) || (generation.failed && at != versions[root].born)) continue;
        if (generation.of[module] == version) return true;
        if (at <= first) return false;
    }
    return false;
}

// Whether code that runs for `root` may come from one version to another. Other slots than those of its home follow
// what is current: a caller that is not at home itself, such as the host (0), uses both.
inline bool may_come_to(int root, int first, int caller, int version) {
    if (is_at_home(root, first, version)) return true;
    int module = versions[version].module;
    bool stays = caller && reaches(versions[root].module, module) && is_at_home(root, first, caller);
    return !stays && is_current_since(first, module, version);
}

} // namespace model
