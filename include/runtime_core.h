/* Starting and stopping the runtime, its state, frames, and freeing old code.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef MIDFLIGHT_RUNTIME_CORE_H
#define MIDFLIGHT_RUNTIME_CORE_H

#include "runtime_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Zero everything you do not set: `runtime_config_t config = {0};`. */
typedef struct {
    /* Threads that stage modules when a reload asks for parallel_loading; they are started at the first such reload. Default: one
     * for each core, at most 4. At most 256. */
    uint32_t hot_reload_threads;
    /* How many reloads may be under way at once; further ones wait for their turn, within their time-out. Default: no limit.
     * What cannot be done at once (binding, publishing) is done one at a time in any case. */
    uint32_t max_concurrent_reloads;
    /* The time-out of reloads that have none of their own, in nanoseconds. Default: 10 s. */
    uint64_t reload_timeout_ns;

    /* Transactions (transaction_manager.h), which are there in any case. Set: each reload is one, as if it said use_transactions. */
    bool enable_transactions;
    /* From the beginning of a transaction to its publication, in milliseconds, if it has no time-out of its own. Default: 10 s. A reload
     * that is a transaction has its own time-out, and this one if it is set and shorter. */
    uint32_t transaction_timeout_ms;
    /* The most operations of a transaction, and the most modules of a reload that is one. Default: no limit. */
    uint32_t max_transaction_size;

    /* Security comes with runtime_security.h. Until then these are accepted, and what is not 0 is reported in the log at WARN. */
    bool enable_security_monitoring;
    bool enable_compliance_validation;
    security_level_t security_level;

    /* Monitoring comes with performance_monitor.h. As above. */
    bool enable_performance_monitoring;
    uint32_t metrics_collection_interval_ms;

    /* Bytes of code memory that all versions of all modules may have, old ones included. A reload that would go past it is refused with
     * RUNTIME_ERROR_MEMORY_LIMIT, once everything is freed that can be. At nine tenths of it the log warns. Default: no limit. */
    uint64_t max_memory_usage;
    /* Look for old versions that nobody is inside any more after each reload, as runtime_gc_collect() does: some 0.2 ms each. */
    bool enable_memory_optimization;

    /* Recovery comes with error_recovery.h. As for security. */
    bool enable_auto_recovery;
    uint32_t recovery_timeout_ms;

    /* The log. Nothing is written unasked: lines go to the file if there is one; else to stdout if log_level or enable_debug_output is set;
     * and to the callback if runtime_set_log_callback() set one. */
    log_level_t log_level;
    /* Level DEBUG, if log_level is none below it. */
    bool enable_debug_output;
    /* Appended to; made if it is not there. NULL: stdout, under the condition above. Lines that cannot be written are counted: the callback
     * is told when it begins, and runtime_shutdown() when it has stopped everything. A forked child writes none. */
    const char* log_file_path;
} runtime_config_t;

typedef struct {
    runtime_state_t state;
    /* Since runtime_init(), in seconds. */
    unsigned long long uptime_seconds;
    /* Running, with code memory below nine tenths of max_memory_usage. */
    bool is_healthy;

    /* Modules reloaded since runtime_init(): each module of an atomic reload counts. Dry runs do not. */
    unsigned long long total_reloads;
    unsigned long long successful_reloads;
    unsigned long long failed_reloads;
    /* Of the successful ones, from the call to its end, in milliseconds. 0 if there was none. */
    double average_reload_time_ms;

    /* The process's resident memory, in bytes. Code memory alone: hot_reload_get_statistics(). */
    unsigned long long memory_used_bytes;
    /* The process's CPU time since the last call of this function (the first time: since runtime_init()), in percent of one core: two busy
     * threads are 200. */
    uint32_t cpu_usage_percent;
    /* The process's threads, the runtime's own included. */
    uint32_t active_threads;

    /* Calls that failed since runtime_init(). */
    unsigned long long total_errors;
    /* Those of them after which a version was rolled back by itself (rollback_on_failure). */
    unsigned long long recovered_errors;
    /* When the last call failed, as get_timestamp_ns(). 0: never. */
    unsigned long long last_error_time;

    /* Security comes with runtime_security.h: UNKNOWN, 0 and 0 (never) until then. */
    security_status_t security_status;
    uint32_t threat_level;
    unsigned long long last_security_scan;
} runtime_status_t;

/* Starts the runtime; if it is running, gives it a new configuration. NULL: all defaults. What is loaded, open or watched stays.
 *
 * RUNTIME_ERROR_UNSUPPORTED, RUNTIME_ERROR_OUT_OF_MEMORY, RUNTIME_ERROR_IO (the log file), RUNTIME_ERROR_JOURNAL (journal_folder of
 * runtime_set_options()). */
int runtime_init(const runtime_config_t* config);

/* When gdb is told the names and lines of what is loaded: docs/debugging.md. */
typedef enum {
    RUNTIME_GDB_DEFAULT = 0, /* WHEN_ATTACHED */
    RUNTIME_GDB_WHEN_ATTACHED = 1,
    RUNTIME_GDB_ALWAYS = 2, /* for programs that it is attached to later, and debuggers that leave no breakpoint in memory */
    RUNTIME_GDB_NEVER = 3
} runtime_gdb_t;

/* What holds for the whole process. */
typedef struct {
    uint32_t struct_size; /* see RUNTIME_SIZED() */
    runtime_gdb_t gdb;
    /* Write the names of what is loaded to /tmp/perf-PID.map, for perf. Code is then written in another way, which perf asks such a map of. */
    bool perf_map;
    unsigned char reserved[7]; /* 0 */
    /* Write all code that is loaded, with names and lines, to jit-PID.dump in this folder, for `perf inject --jit`. NULL: do not. */
    const char* jitdump_folder;
    /* Keep what is loaded in a journal in this folder, which is made if it is not there; NULL: do not. From runtime_init() on each load,
     * unload and rollback is on the disk before it is published, and runtime_init() loads what was committed last: its constructors run in
     * that call. So nobody else may write to the folder. If that fails, RUNTIME_ERROR_JOURNAL: nothing is loaded, and the runtime does not
     * run. runtime_shutdown() closes the journal, and what was loaded stays committed. docs/journal.md has what is promised. */
    const char* journal_folder;
    /* Write each commit in two steps, with a sync each. */
    bool journal_two_phase;
    /* If the journal's store is damaged, go on with what its witness has. */
    bool journal_rebuild;
    unsigned char journal_reserved[6]; /* 0 */
} runtime_options_t;

/* Sets them, before the first runtime_init(). After it RUNTIME_ERROR_UNSUPPORTED, unless they are what it was started with. */
int runtime_set_options(const runtime_options_t* options);

/* Whether the use of frames is checked, from the next runtime_init() on. Then a call outside every frame to an address of hot_reload_frame_symbol()
 * ends the process, with the names of the function and of the thread; and these are reported, to the log, or to stderr where there is none: a frame that is begun while it is
 * open (RUNTIME_ERROR_WRONG_FRAME), one that is ended on another thread, and a thread that is inside one for more than 10 s after a
 * reload. On by default where runtime_init() is called in a file that is compiled without optimisation and without NDEBUG; the environment variable
 * MIDFLIGHT_CHECKS (on, off, longest-frame=MILLISECONDS, hold-back=VERSIONS; separated by commas) goes before both. Where it is off it costs nothing. */
void runtime_check_frames(bool check);

/* runtime_init() of a debug build: see above. In a file that is compiled as one, runtime_init is another name of it. */
int runtime_init_debug(const runtime_config_t* config);
#if !defined(NDEBUG) && !defined(__OPTIMIZE__)
#define MIDFLIGHT_TEXT_OF_(macro) #macro
#define MIDFLIGHT_TEXT_(macro) MIDFLIGHT_TEXT_OF_(macro)
    int runtime_init(const runtime_config_t* config) __asm__(MIDFLIGHT_TEXT_(__USER_LABEL_PREFIX__) "runtime_init_debug");
#undef MIDFLIGHT_TEXT_
#undef MIDFLIGHT_TEXT_OF_
#endif

/* Stops everything: watches and worker threads are joined, reloads that are under way are waited for, all modules are unloaded and
 * their destructors run. A frame that is still open keeps its generation until it ends. An address from hot_reload_symbol() must not be
 * called any more: such a call ends the process with a message. runtime_init() may start the runtime again.
 *
 * RUNTIME_ERROR_NOT_INITIALIZED (a second shutdown too); RUNTIME_ERROR_BUSY from within any callback; RUNTIME_ERROR_IO if it has stopped, but
 * lines of the log could not be written. An old version of which nobody could see in time whether it is still run stays in memory, with
 * what it calls. */
int runtime_shutdown(void);

/* What the runtime is doing, measured now. `status` is filled on failure too, with state STOPPED and zeroes. */
int runtime_get_status(runtime_status_t* status);

/* Opens a frame on this thread: until its end, every function of a module that the thread calls is of one generation, in
 * all modules, whatever is published meanwhile; and what it calls stays mapped. Some nanoseconds; never waits, never takes a lock.
 *
 * Frames may be nested: an inner one is in the generation of the outer. "Thread" is the operating system's: a fiber must not move to
 * another thread, or let another fiber run on its own, inside a frame.
 *
 * The frame belongs to the thread that opened it. `frame` must stay where it is until runtime_frame_end(). */
int runtime_frame_begin(runtime_frame_t* frame);

/* Opens a frame on this thread in the generation of `other`, which another thread has open: so that the workers of one frame all
 * run the same versions. `other` must stay open until this returned; it may end before this frame does.
 *
 * RUNTIME_ERROR_WRONG_FRAME if `other` is not open, or if this thread is inside a frame of another generation. */
int runtime_frame_join(runtime_frame_t* frame, const runtime_frame_t* other);

/* Ends a frame, on the thread that opened it.
 *
 * RUNTIME_ERROR_WRONG_FRAME if it is not open, or not this thread's: then it stays as it is. */
int runtime_frame_end(runtime_frame_t* frame);

/* How many frames this thread has open. */
uint32_t runtime_frame_depth(void);

/* Ends the frames that this thread has opened since runtime_frame_depth() returned `depth`, without their runtime_frame_end(): for who has
 * jumped out of them, and so cannot end them any more. Until then the thread stays in their generation.
 *
 *     uint32_t depth = runtime_frame_depth();
 *     if (setjmp(recover)) runtime_frame_unwind(depth);
 *
 * They must not be ended afterwards. RUNTIME_ERROR_WRONG_FRAME if the thread has fewer open; RUNTIME_ERROR_BUSY if a function of this API was jumped
 * out of, from a callback or a module's constructor, destructor or hook: no such jump can be put right. */
int runtime_frame_unwind(uint32_t depth);

/* Frees the replaced versions that no thread can be inside, those of modules included whose functions are called outside frames
 * (hot_reload_symbol()): each thread of the process is stopped by a signal for some microseconds, and looked at. Their
 * module_shutdown() and destructors run in this call. A version that a thread may be inside is kept, and the next call looks again; how much
 * is kept says hot_reload_get_statistics(). System calls that a signal interrupts whatever its flags (poll, nanosleep; signal(7) lists
 * them) fail with EINTR in other threads. */
int runtime_gc_collect(void);

/* Whether a call into a version that is gone is reported on stderr when it traps: which function of which version of which module it was, replaced when, and
 * what to do. Then the process ends as it would have. On by default: before the first version is freed, handlers of SIGILL, SIGTRAP, SIGSEGV and SIGBUS
 * are installed, which go on to those that were there before. Turned off before that, none are. */
int runtime_report_stale_calls(bool report);

/* What there was at an address of a version that is gone, in one line: which symbol of which version of which module, and when it was replaced and
 * freed. For a program's own handlers of faults: the address is the instruction's for SIGILL and SIGTRAP (on x86-64 the byte before the program
 * counter for SIGTRAP), and si_addr for SIGSEGV and SIGBUS. False, and an empty text, if no version is known that was there; also if `text` has no room for 8 bytes.
 * What has no room is left out; 512 bytes are enough for most.
 *
 * May be called in signal handlers, in any state, and in a forked child. */
bool runtime_explain_address(const void* address, char* text, size_t size);

/* Has runtime_gc_collect() look at the stack of a fiber or coroutine too, until runtime_stack_remove(). What is suspended there is on no
 * thread: without this an old version is freed although a fiber is suspended in it, and the process ends when that is resumed.
 *
 * memory, size: the whole stack; parts that cannot be read, as guard pages, are left out. stack_pointer: where the host keeps the stack pointer
 * of what is suspended there, if it does so in a word of its own: then only what is above that is read. NULL: all of it is, and what calls that
 * are over have left there keeps versions too. What a switch saves elsewhere (in a ucontext_t, that is where
 * the fiber goes on) is added as another such memory.
 *
 * While runtime_gc_collect() is called, or a reload with enable_memory_optimization, no fiber that is inside an old version is both
 * suspended and resumed: call it where fibers stand still. */
int runtime_stack_add(const void* memory, size_t size, const void* const* stack_pointer);

/* Takes that back, before the memory goes. Waits for a runtime_gc_collect() that is looking. */
int runtime_stack_remove(const void* memory);

/* A line of the log. `target` is the part of the runtime that wrote it. Both strings are valid during the call.
 *
 * Called on the thread that has something to say, by one thread at a time. It may call nothing of these headers but get_timestamp_ns() and
 * runtime_strerror(). */
typedef void (*runtime_log_callback_t)(log_level_t level, const char* target, const char* message, void* user);

/* Gives the log's lines to a callback, besides the file if there is one; NULL takes it back, and after that it is not called any
 * more. Works before runtime_init() too. `level`: how grave a line must be. */
int runtime_set_log_callback(runtime_log_callback_t callback, log_level_t level, void* user);

#ifdef __cplusplus
}
#endif

#endif
