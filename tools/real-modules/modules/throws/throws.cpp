#include "throws.h"

#include <atomic>
#include <exception>
#include <memory>
#include <new>
#include <thread>
#include <typeinfo>
#include <vector>

#include "json.hpp"

namespace {

thread_local long alive;

struct Guard {
    std::string text = "long enough to be on the heap, so that a leak is one";
    Guard() { alive++; }
    Guard(const Guard &) = delete;
    ~Guard() { alive--; }
};

struct Base {
    virtual ~Base() = default;
    virtual int value() const { return 1; }
};
struct Derived : virtual Base, std::exception {
    int value() const override { return 2; }
    const char *what() const noexcept override { return "derived"; }
};

[[gnu::noinline]] void raise(long which, int depth) {
    Guard guard;
    if (depth > 0) {
        raise(which, depth - 1);
        // Not a tail call.
        asm volatile("");
        return;
    }
    switch (which % 8) {
    case 0: throw 17L;
    case 1: throw std::string("a string");
    case 2: throw std::out_of_range("out of range");
    case 3: throw Derived();
    case 4: (void)std::vector<int>(3).at(4); break;
    case 5: (void)dynamic_cast<Derived &>(*std::make_unique<Base>()); break;
    case 6: throw module_error(6, "six");
    default: throw "a literal";
    }
}

struct PerThread {
    long *destroyed = nullptr;
    std::vector<int> data = std::vector<int>(100, 1);
    ~PerThread() { if (destroyed) *destroyed += data.size() / 100; }
};
thread_local PerThread per_thread;

} // namespace

long throws_alive() { return alive; }

long throws_inside(long count) {
    long sum = 0;
    for (long i = 0; i < count; i++) {
        Guard guard;
        try {
            try {
                raise(i, i % 5);
            } catch (const std::logic_error &error) {
                sum += error.what()[0];
                throw;
            } catch (long number) {
                sum += number;
                std::throw_with_nested(module_error(1, "nested"));
            }
        } catch (const Base &base) {
            sum += base.value();
        } catch (const module_error &error) {
            sum += error.code;
            try {
                std::rethrow_if_nested(error);
            } catch (long number) {
                sum += number;
            } catch (...) {
                sum += 1000000;
            }
        } catch (const std::exception &error) {
            sum += std::string(typeid(error).name()).size();
        } catch (const std::string &text) {
            sum += text.size();
        } catch (const char *text) {
            sum += text[0];
        }
    }
    return sum;
}

long throws_out(const char *json) {
    Guard guard;
    auto value = nlohmann::json::parse(json);
    return static_cast<long>(value.flatten().size());
}

void throws_error(int code, int depth) {
    Guard guard;
    if (depth == 0) throw module_error(code, "error " + std::to_string(code));
    throws_error(code, depth - 1);
    asm volatile("");
}

int throws_through(void (*host)(void *), void *data, int depth, int keep) {
    Guard guard;
    if (depth > 0) {
        int result = throws_through(host, data, depth - 1, keep);
        asm volatile("");
        return result;
    }
    try {
        Guard inner;
        host(data);
    } catch (const module_error &error) {
        if (keep) return error.code;
        throw;
    }
    return 0;
}

long throws_carried(long count) {
    std::atomic<long> sum{0};
    std::vector<std::thread> threads;
    for (long i = 0; i < count; i++) {
        std::exception_ptr carried;
        try {
            raise(6, 3);
        } catch (...) {
            carried = std::current_exception();
        }
        threads.emplace_back([&sum, carried] {
            try {
                std::rethrow_exception(carried);
            } catch (const module_error &error) {
                sum += error.code;
            }
        });
    }
    for (auto &thread : threads) thread.join();
    return sum;
}

void throws_thread_local(long *constructed, long *destroyed) {
    if (!per_thread.destroyed) ++*constructed;
    per_thread.destroyed = destroyed;
}
