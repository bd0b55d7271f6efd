/* C++ in the module that the Jsonnet library does not show: what it throws and who catches it. */
#pragma once

#include <stdexcept>
#include <string>

/* Thrown across the boundary, in both directions. The two sides have type information of their own for it: the C++ ABI compares names. */
struct module_error : std::runtime_error {
    int code;
    module_error(int code, const std::string &what) : std::runtime_error(what), code(code) {}
};

/* Counts what was built and not yet destroyed, on each thread. */
extern "C" long throws_alive();

/* Inside: `count` exceptions of several types, thrown some frames down and caught here. Returns a sum over them. */
extern "C" long throws_inside(long count);

/* Out: parses JSON; the parser's exception leaves the module. Returns the number of values. */
extern "C" long throws_out(const char *json);

/* Out: one of ours, after `depth` frames with destructors. */
extern "C" void throws_error(int code, int depth);

/* Through: calls the host's function, whose exception passes this module's frames (their destructors run) and may be caught by the
 * module (if `keep`), be thrown again, or go on. */
extern "C" int throws_through(void (*host)(void *), void *data, int depth, int keep);

/* An exception that is carried to another thread and thrown again there. */
extern "C" long throws_carried(long count);

/* A thread-local object: counts its constructions and destructions in the two numbers. */
extern "C" void throws_thread_local(long *constructed, long *destroyed);
