// The C API for C++17: frames, runtimes and typed functions as objects. Nothing but inline code
// over the C functions.
//
// SPDX-License-Identifier: MIT OR Apache-2.0
//
//     midflight::runtime runtime;
//     midflight::reload("libphysics.so");
//     midflight::function<void(world*, float)> step("physics", "sim::step");
//     while (running) {
//         midflight::frame frame;
//         step(frame, &world, 0.016f);
//     }
//
// What fails throws midflight::error. With -fno-exceptions the functions return the code instead, 0
// if all is well: `result` is void with exceptions, and a code without. The constructors of
// `runtime` and `frame` keep it for code().
#ifndef MIDFLIGHT_HPP
#define MIDFLIGHT_HPP

// What compilers call C++17 before it was done is not enough.
#if __cplusplus < 201703L
#error "midflight.hpp needs C++17: compile with -std=c++17 or later, or use the C headers (runtime_api.h)"
#else

#include "runtime_api.h"

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <utility>

#ifdef __cpp_rtti
#include <typeinfo>
#endif

#ifdef __cpp_exceptions
#include <exception>
#include <string>
#endif

namespace midflight {

// Files compiled with and without exceptions may be linked together: their inline functions differ,
// and so do their names.
#ifdef __cpp_exceptions
inline namespace throwing {

class error : public std::exception {
public:
    // The calling thread's last failure.
    explicit error(int code) : code_(code), what_(runtime_last_error()) {}
    // One of RUNTIME_ERROR_*.
    int code() const noexcept { return code_; }
    // runtime_last_error(), as it was when this was thrown.
    const char* what() const noexcept override { return what_.c_str(); }

private:
    int code_;
    std::string what_;
};

using result = void;

namespace detail {
[[noreturn, gnu::noinline, gnu::cold]] inline void raise(int code) { throw error(code); }
inline void check(int code) {
    if (code != RUNTIME_OK) raise(code);
}
} // namespace detail

#else
inline namespace returning {

// A code: compares with and converts to int.
enum [[nodiscard]] result : int {};

namespace detail {
inline result check(int code) { return static_cast<result>(code); }
} // namespace detail

#endif

namespace detail {
// What a destructor cannot return.
[[noreturn, gnu::noinline, gnu::cold]] inline void fatal() {
    std::fprintf(stderr, "midflight: %s\n", runtime_last_error());
    std::abort();
}
} // namespace detail

// The runtime, running for as long as this object lives.
class runtime {
public:
    explicit runtime(const runtime_config_t& config = {}) : code_(runtime_init(&config)) { static_cast<void>(detail::check(code_)); }
    runtime(const runtime&) = delete;
    runtime& operator=(const runtime&) = delete;
    // Ends the process with a message if it cannot be shut down: from within a callback. That it is
    // shut down already is well.
    ~runtime() {
        if (code_ != RUNTIME_OK) return;
        const int code = runtime_shutdown();
        if (code != RUNTIME_OK && code != RUNTIME_ERROR_NOT_INITIALIZED) detail::fatal();
    }
    // 0 if it is running.
    int code() const noexcept { return code_; }

private:
    int code_;
};

// A frame on this thread, from here to the end of the scope: runtime_frame_begin(). It cannot be
// copied or moved; it ends the process with a message if it is destroyed on another thread.
class frame {
public:
    frame() : code_(runtime_frame_begin(&frame_)) { static_cast<void>(detail::check(code_)); }
    // One in the generation of a frame that another thread has open, by runtime_frame_join():
    // `auto mine = midflight::frame::join(theirs);`
    static frame join(const frame& other) { return frame(&other.frame_); }
    frame(const frame&) = delete;
    frame& operator=(const frame&) = delete;
    ~frame() {
        if (code_ == RUNTIME_OK && runtime_frame_end(&frame_) != RUNTIME_OK) detail::fatal();
    }
    // 0 if it is open.
    int code() const noexcept { return code_; }

private:
    explicit frame(const runtime_frame_t* other) : code_(runtime_frame_join(&frame_, other)) { static_cast<void>(detail::check(code_)); }

    runtime_frame_t frame_;
    int code_;
};

namespace detail {
// Functions of C are found by their symbol, those of C++ by their name and type: of several with one name (overloads) it is that of this
// type, and if there is none of it, the error lists those that there are. Without run-time type information a name that several have is
// followed by the parameters.
template <class Type, class LookUp> int find(LookUp look_up, const char* module, const char* symbol, void** found) {
#ifdef __cpp_rtti
    char typed[4096];
    if (symbol != nullptr) {
        const int length = std::snprintf(typed, sizeof typed, "%s of type %s", symbol, typeid(Type).name());
        if (length > 0 && static_cast<std::size_t>(length) < sizeof typed) return look_up(module, typed, found);
    }
#endif
    return look_up(module, symbol, found);
}

template <class Signature> class address;

// The stable address of a module's function. `Signature` must be the function's own. Of C++ functions their parameters are compared with it; of
// their results, and of functions of C, there is nothing in a module that could be.
template <class R, class... A> class address<R(A...)> {
public:
    using pointer = R (*)(A...);
    // NULL until it is bound.
    pointer get() const noexcept { return pointer_; }
    explicit operator bool() const noexcept { return pointer_ != nullptr; }

protected:
    result set(int code, void* found) {
        pointer_ = reinterpret_cast<pointer>(found);
        return check(code);
    }

    pointer pointer_ = nullptr;
};
} // namespace detail

// A function of a module that is called inside frames: hot_reload_frame_symbol(). A call is one
// indirect call, as through a pointer of C.
template <class Signature> class function;

template <class R, class... A> class function<R(A...)> : public detail::address<R(A...)> {
public:
    function() = default;
#ifdef __cpp_exceptions
    function(const char* module, const char* symbol) { bind(module, symbol); }
#endif
    result bind(const char* module, const char* symbol) {
        void* found = nullptr;
        const int code = detail::find<R(A...)>(hot_reload_frame_symbol, module, symbol, &found);
        return this->set(code, found);
    }
    // The frame is the proof that this thread is inside one.
    R operator()(const frame&, A... arguments) const { return this->pointer_(std::forward<A>(arguments)...); }
};

// A method of a class of a module's, which is called inside frames and on an object:
//
//     midflight::method<float (sim::world::*)(int) const> height("physics", "sim::world::height");
//     height(frame, world, 3);
//
// It is that of this class, also if it is virtual.
template <class Signature> class method;

namespace detail {
template <class Signature, class R, class C, class... A> class method : public address<R(C*, A...)> {
public:
    method() = default;
#ifdef __cpp_exceptions
    method(const char* module, const char* symbol) { bind(module, symbol); }
#endif
    result bind(const char* module, const char* symbol) {
        void* found = nullptr;
        const int code = find<Signature>(hot_reload_frame_symbol, module, symbol, &found);
        return this->set(code, found);
    }
    R operator()(const frame&, C& object, A... arguments) const { return this->pointer_(&object, std::forward<A>(arguments)...); }
};
} // namespace detail

template <class R, class C, class... A>
class method<R (C::*)(A...)> : public detail::method<R (C::*)(A...), R, C, A...> {
    using detail::method<R (C::*)(A...), R, C, A...>::method;
};

template <class R, class C, class... A>
class method<R (C::*)(A...) const> : public detail::method<R (C::*)(A...) const, R, const C, A...> {
    using detail::method<R (C::*)(A...) const, R, const C, A...>::method;
};

// A function of a module that may be called anywhere, and handed on as a pointer (get()): hot_reload_symbol(), which says what that costs.
template <class Signature> class callback;

template <class R, class... A> class callback<R(A...)> : public detail::address<R(A...)> {
public:
    callback() = default;
#ifdef __cpp_exceptions
    callback(const char* module, const char* symbol) { bind(module, symbol); }
#endif
    result bind(const char* module, const char* symbol) {
        void* found = nullptr;
        const int code = detail::find<R(A...)>(hot_reload_symbol, module, symbol, &found);
        return this->set(code, found);
    }
    R operator()(A... arguments) const { return this->pointer_(std::forward<A>(arguments)...); }
};

// hot_reload_module().
inline result reload(const char* path, const hot_reload_config_t& config = {}) {
    return detail::check(hot_reload_module(path, &config));
}

// hot_reload_modules_atomic(), which only reads the array.
inline result reload_all(const char* const* paths, std::size_t count, const hot_reload_config_t& config = {}) {
    // A count that does not fit is as absurd as the largest that does.
    const auto modules = count < UINT32_MAX ? static_cast<uint32_t>(count) : UINT32_MAX;
    return detail::check(hot_reload_modules_atomic(const_cast<const char**>(paths), modules, &config));
}

inline result reload_all(std::initializer_list<const char*> paths, const hot_reload_config_t& config = {}) {
    return reload_all(paths.begin(), paths.size(), config);
}

// hot_reload_keep_records(): whether what reloads come to is kept for `record`.
inline result keep_records(bool keep = true) { return detail::check(hot_reload_keep_records(keep)); }

// What the last reload on this thread has come to, and what of one of its modules (from 0, in the
// order of the call): a copy of hot_reload_last_record().
//
//     midflight::keep_records();
//     midflight::reload("libphysics.so");
//     midflight::record record(0);
//     std::printf("%s is version %llu now\n", record->module, record->version);
class record {
public:
    record() = default;
#ifdef __cpp_exceptions
    explicit record(uint32_t module) { read(module); }
#endif
    // Takes another copy. If there is no such record, nothing is left of the one before.
    result read(uint32_t module = 0) {
        record_ = {};
        record_.struct_size = sizeof record_;
        return detail::check(hot_reload_last_record(module, &record_));
    }
    // All zero if none was read.
    const hot_reload_record_t& get() const noexcept { return record_; }
    const hot_reload_record_t* operator->() const noexcept { return &record_; }
    // Whether one was read.
    explicit operator bool() const noexcept { return record_.module_count != 0; }

private:
    hot_reload_record_t record_ = {};
};

// hot_reload_watch().
inline result watch(const char* path, const hot_reload_config_t& config = {}) {
    return detail::check(hot_reload_watch(path, &config));
}

// hot_reload_unwatch().
inline result unwatch(const char* path) { return detail::check(hot_reload_unwatch(path)); }

} // namespace throwing or returning
} // namespace midflight

#endif // C++17
#endif
