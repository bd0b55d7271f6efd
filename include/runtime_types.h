/* Types, codes and rules that all midflight headers share.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Rules for every function of these headers:
 *
 *  - It returns 0, or one of the negative codes below. runtime_strerror() names a code;
 *    runtime_last_error() says in full what went wrong in the calling thread's last failed call:
 *    what, which file, which symbol, what to do.
 *  - A field that is 0, false or NULL means its default, and so does a NULL configuration.
 *  - A structure that begins with `struct_size` grows in later versions, at its end. Set it to the
 *    structure's size, and all that you do not set to zero: RUNTIME_SIZED() does both. Hosts that
 *    were compiled with other headers than the library go on working. What a host's header lacks is
 *    a default; what the library does not know must be zero (else RUNTIME_ERROR_UNSUPPORTED, and the
 *    message names the offset), and comes back as zero. All other structures keep exactly their
 *    fields.
 *  - A pointer that may not be NULL and is, a string at an address that cannot be read or longer
 *    than 4,095 bytes, an absurd count, a value that an enumeration does not have:
 *    RUNTIME_ERROR_INVALID_ARGUMENT. Strings and arrays are read during the call only; none is
 *    kept.
 *  - Outputs are written on every path, failure included (then with zeroes and empty strings).
 *    Strings in them are the struct's own, and end with a zero.
 *  - Every function may be called from any thread, and from several at once, unless its comment
 *    says otherwise; not from signal handlers, and not from a module's constructors and destructors
 *    (RUNTIME_ERROR_BUSY). What callbacks may call is said with each.
 *  - After fork, the child can call the modules that are loaded; the functions that load, free or
 *    watch return RUNTIME_ERROR_FORKED.
 */
#ifndef MIDFLIGHT_RUNTIME_TYPES_H
#define MIDFLIGHT_RUNTIME_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of these headers. */
#define RUNTIME_VERSION_MAJOR 0
#define RUNTIME_VERSION_MINOR 1
#define RUNTIME_VERSION_PATCH 0

/* What a call returns. The codes are stable: none changes its meaning or its number. */
enum {
    RUNTIME_OK = 0,
    /* An argument is not what the function takes. */
    RUNTIME_ERROR_INVALID_ARGUMENT = -1,
    /* The runtime is not running: before runtime_init(), or after runtime_shutdown(). */
    RUNTIME_ERROR_NOT_INITIALIZED = -2,
    /* This system, or midflight, does not support what was asked for. The message names it. */
    RUNTIME_ERROR_UNSUPPORTED = -3,
    /* A file could not be read or written. */
    RUNTIME_ERROR_IO = -4,
    /* The file is not a module that can be loaded: damaged, for another machine, or with something
     * that is refused by name. */
    RUNTIME_ERROR_INVALID_MODULE = -5,
    /* The module needs symbols or libraries that cannot be found, or that more than one module
     * offers. */
    RUNTIME_ERROR_UNRESOLVED = -6,
    /* The new version does not fit the version that is loaded, who calls it, or what it shares with
     * the process. */
    RUNTIME_ERROR_INCOMPATIBLE = -7,
    /* Whether it fits cannot be known: there is no debug information. Returned by
     * hot_reload_check_compatibility() only. */
    RUNTIME_ERROR_COMPATIBILITY_UNKNOWN = -8,
    /* No module of that name is loaded. */
    RUNTIME_ERROR_NOT_LOADED = -9,
    /* The module has no such function. */
    RUNTIME_ERROR_NO_SUCH_SYMBOL = -10,
    /* Other modules call it. */
    RUNTIME_ERROR_IN_USE = -11,
    /* The system gives no memory. */
    RUNTIME_ERROR_OUT_OF_MEMORY = -12,
    /* max_memory_usage is reached. The message names what holds the memory. */
    RUNTIME_ERROR_MEMORY_LIMIT = -13,
    /* "Hot-reload timeout after %ums". Nothing was published. */
    RUNTIME_ERROR_TIMEOUT = -14,
    /* The runtime is in the midst of something that this call would be part of: it was made by a
     * module's constructor or destructor, or by a callback that may not make it. */
    RUNTIME_ERROR_BUSY = -15,
    /* What is in memory is not what was linked. */
    RUNTIME_ERROR_INTEGRITY = -16,
    /* The module's own module_init() refused. */
    RUNTIME_ERROR_REFUSED = -17,
    /* There is no earlier version to go back to. */
    RUNTIME_ERROR_NO_PREVIOUS_VERSION = -18,
    /* The frame is not open, or not this thread's, or the thread is inside a frame of another
     * generation. */
    RUNTIME_ERROR_WRONG_FRAME = -19,
    /* The file is not watched. */
    RUNTIME_ERROR_NOT_WATCHED = -20,
    /* This process was forked from the one in which the runtime was started. */
    RUNTIME_ERROR_FORKED = -21,
    /* The kernel refused something that it should not. */
    RUNTIME_ERROR_SYSTEM = -22,
    /* A defect of midflight. Please report it with the message. */
    RUNTIME_ERROR_INTERNAL = -23,
    /* A hook before the reload refused (hot_reload_add_hooks()). The message names it. */
    RUNTIME_ERROR_VETOED = -24,
    /* It conflicts with what is loaded, or another change came before. Nothing was published. The message says what to do: of a
     * transaction, "Transaction conflict detected, rolling back" and the module; begin it again. */
    RUNTIME_ERROR_CONFLICT = -25,
    /* The journal (journal_folder of runtime_set_options()) could not be opened, read or written, or what it has not loaded. Nothing was
     * published. The message says what to do. */
    RUNTIME_ERROR_JOURNAL = -26
};

/* How grave a line of the log must be to be written: the level and those above it. */
typedef enum {
    LOG_LEVEL_DEFAULT = 0, /* INFO */
    LOG_LEVEL_TRACE = 1,
    LOG_LEVEL_DEBUG = 2,
    LOG_LEVEL_INFO = 3,
    LOG_LEVEL_WARN = 4,
    LOG_LEVEL_ERROR = 5,
    LOG_LEVEL_OFF = 6
} log_level_t;

typedef enum {
    SECURITY_LEVEL_DEFAULT = 0, /* STANDARD */
    SECURITY_LEVEL_BASIC = 1,
    SECURITY_LEVEL_STANDARD = 2,
    SECURITY_LEVEL_HIGH = 3,
    SECURITY_LEVEL_CRITICAL = 4
} security_level_t;

typedef enum {
    RUNTIME_STATE_STOPPED = 0, /* before runtime_init(), after runtime_shutdown() */
    RUNTIME_STATE_RUNNING = 1,
    RUNTIME_STATE_RELOADING = 2, /* running, and a reload is under way */
    RUNTIME_STATE_STOPPING = 3   /* runtime_shutdown() is under way */
} runtime_state_t;

typedef enum {
    SECURITY_STATUS_UNKNOWN = 0 /* nothing has been scanned: security comes with runtime_security.h */
} security_status_t;

/* What a reload does about conflicts (conflict_resolution.h). */
typedef enum {
    /* None are looked for, beyond what every reload checks: that everything links, and that no
     * function is gone which is called. */
    CONFLICT_RESOLUTION_DEFAULT = 0,
    /* One that is of medium severity or graver refuses the reload: RUNTIME_ERROR_CONFLICT. */
    CONFLICT_RESOLUTION_REFUSE = 1,
    /* What can be loaded is, and the log has each conflict at WARN. What cannot is refused with
     * RUNTIME_ERROR_CONFLICT, and the message says what to do about each. */
    CONFLICT_RESOLUTION_PREFER_LATEST = 2
} conflict_resolution_mode_t;

/* A thread inside one generation: see runtime_frame_begin(). Its fields are the runtime's own. It
 * belongs to where it is: a copy of it is not a frame. */
typedef struct {
    uint64_t reserved[4];
} runtime_frame_t;

/* The first value of a structure that has `struct_size`: `hot_reload_address_t at = RUNTIME_SIZED(hot_reload_address_t);`. */
#ifdef __cplusplus
#define RUNTIME_SIZED(type) (runtime_sized_<type>())
} /* extern "C": a template has no C linkage. */
template <class Type> inline Type runtime_sized_() {
    Type value = Type();
    value.struct_size = sizeof(Type);
    return value;
}
extern "C" {
#else
#define RUNTIME_SIZED(type) {.struct_size = sizeof(type)}
#endif

/* Nanoseconds of a clock that never goes back (CLOCK_MONOTONIC). Works at any time. */
uint64_t get_timestamp_ns(void);

/* A code's name and meaning in a few words: static, never NULL, for unknown codes too. Works at any
 * time. */
const char* runtime_strerror(int code);

/* What went wrong in the calling thread's last failed call, in full; empty if none failed. Never
 * NULL. It stays as it is until the thread's next call of these headers fails, and belongs to the
 * runtime. Works at any time. */
const char* runtime_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
