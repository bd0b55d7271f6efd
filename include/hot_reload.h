/* Loading and replacing modules while the process runs.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A module is a shared object (.so), an object file (.o) or a static archive (.a), from any language. docs/modules.md says what it may
 * rely on. The first reload of a file loads it. Its name is what its runtime_module.h note says, else its SONAME without `lib` and `.so`, else its file's name
 * without `lib` and ending: `libphysics.so` is `physics`.
 *
 * Whatever is wrong with a file is found before anything is published, and the old versions go on serving. What a file does is its own:
 * its constructors run in the call that loads it, and one that crashes ends the process. After RUNTIME_ERROR_INTEGRITY alone the new versions
 * are published, unless rollback_on_failure brought the old ones back.
 */
#ifndef MIDFLIGHT_HOT_RELOAD_H
#define MIDFLIGHT_HOT_RELOAD_H

#include "runtime_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The most modules that one call takes. */
#define HOT_RELOAD_MAX_MODULES 4096

/* How far the staging of a module is, in percent: never less than before, and 100 once it is published.
 *
 * Called on the thread that called hot_reload_*() (for hot_reload_watch(): on the watching thread). It may ask for statistics, status and
 * errors, and call modules; what would reload, unload, watch, initialise or shut down returns RUNTIME_ERROR_BUSY. */
typedef void (*reload_progress_callback_t)(const char* module_path, uint32_t progress_percent);

/* The end of a reload, once for each of its modules, also of one that failed; a call that is refused for its arguments begins none. The
 * duration is that of the whole call so far, in milliseconds. Thread: as above. It may call everything but runtime_init(),
 * runtime_shutdown(), hot_reload_watch() and hot_reload_unwatch(), which return RUNTIME_ERROR_BUSY. */
typedef void (*reload_complete_callback_t)(const char* module_path, bool success, double duration_ms);

/* Why a reload failed, before its complete callback. `module_path` is the module that is to blame; if it is none of them (a time-out,
 * a limit), the first of the call. Thread and calls: as for the complete callback. */
typedef void (*reload_error_callback_t)(const char* module_path, int error_code, const char* message);

/* Zero everything you do not set: `hot_reload_config_t config = {0};`. */
typedef struct {
    /* Refuse with RUNTIME_ERROR_INCOMPATIBLE what hot_reload_check_compatibility() calls incompatible. What it cannot know passes, and
     * the log says so at WARN. What a file says of itself is read once for each content and kept: see cache_hit_rate. */
    bool validate_before_reload;
    /* Keep the version that is replaced, code and variables as they are, for hot_reload_rollback(): one for each module. */
    bool backup_current_state;
    /* Do not replace what another thread has published since this call began: RUNTIME_ERROR_CONFLICT, and nothing has moved. (A reload is
     * all or nothing in any case.) transaction_timeout_ms and max_transaction_size of runtime_init() hold for it. A watch is not concerned:
     * it publishes what was written last. */
    bool use_transactions;

    /* Stage the modules of an atomic reload on the runtime's threads, rather than one after the other on this one. */
    bool parallel_loading;
    /* At most so many of them. Default: all. At most 256. */
    uint32_t max_reload_threads;
    /* In nanoseconds, for the whole call, waiting for its turn included. Default: reload_timeout_ns of runtime_init(). What takes
     * longer is given up, and nothing is published. Looked at between steps: a constructor that never returns is not interrupted. */
    uint64_t reload_timeout_ns;

    /* Stage everything, publish and run nothing: returns what the reload would return up to its constructors. */
    bool dry_run;
    /* If verify_integrity finds a difference after publication, publish the replaced versions again. Before publication nothing needs to be
     * rolled back. */
    bool rollback_on_failure;
    /* Compare the code in memory with what was linked, once it is published; RUNTIME_ERROR_INTEGRITY if it differs. */
    bool verify_integrity;

    /* What is done about what detect_potential_conflicts() would find, in all modules of the call together. */
    conflict_resolution_mode_t conflict_mode;
    /* Those that were registered with register_conflict_resolver() are asked about each conflict before conflict_mode decides; with the
     * default, what none of them resolves refuses the reload as with CONFLICT_RESOLUTION_REFUSE. */
    bool auto_resolve_conflicts;

    /* Of a watch: what no callback is told is written to stderr: that a reload failed, and why, if there is no error callback; that there
     * is a new version, if there is no complete callback either. Who wants neither gives an error callback that does nothing. */
    reload_progress_callback_t progress_callback;
    reload_complete_callback_t complete_callback;
    reload_error_callback_t error_callback;
} hot_reload_config_t;

/* Loads a module, or replaces the version that is loaded: every frame that is opened after this returned runs the new one, on every thread.
 *
 * The module's code runs in this process, its constructors in this call: load what you trust.
 *
 * RUNTIME_ERROR_IO, INVALID_MODULE, UNRESOLVED, INCOMPATIBLE, REFUSED, TIMEOUT, MEMORY_LIMIT, OUT_OF_MEMORY, INTEGRITY, BUSY, CONFLICT. */
int hot_reload_module(const char* module_path, const hot_reload_config_t* reload_config);

/* Loads or replaces several modules in one publication: every frame sees all of them new, or none. They may call each other. If
 * one is wrong, no version of any has moved. Codes as above. */
int hot_reload_modules_atomic(const char** module_paths, uint32_t module_count, const hot_reload_config_t* reload_config);

/* What becomes of the ordinary variables of a module that is replaced, those that it does not declare as its state (runtime_module.h).
 * docs/state.md has what can be carried over. Both versions must have been loaded with POSSIBLE or ALL, and have debug information (-g).
 * Calls of the module wait while values are copied; RUNTIME_ERROR_TIMEOUT if somebody stays inside it for longer than a second, or the
 * calling thread has a frame open. */
typedef enum {
    HOT_RELOAD_CARRY_DEFAULT = 0,  /* what hot_reload_set_carry() has said */
    HOT_RELOAD_CARRY_NOTHING = 1,  /* the new version's begin with their initial values */
    HOT_RELOAD_CARRY_POSSIBLE = 2, /* what can be carried over has the values that it had; the record and the log (WARN) have what begins anew */
    HOT_RELOAD_CARRY_ALL = 3       /* all have the values that they had; else RUNTIME_ERROR_INCOMPATIBLE, and the message has what cannot */
} hot_reload_carry_t;

/* The choice of all that is loaded from now on and has none of its own: hot_reload_module(), hot_reload_modules_atomic(), transactions
 * when they are committed, and watches that begin after this. Also after runtime_shutdown(). At first, and after
 * HOT_RELOAD_CARRY_DEFAULT: NOTHING. */
int hot_reload_set_carry(hot_reload_carry_t carry);

/* What a module is made of, where that is more than one file. */
typedef struct {
    uint32_t struct_size; /* see RUNTIME_SIZED() */
    /* A shared object; or object files and archives, which become one module: all object files, and of the archives the members that
     * define what is still missing, as on a linker's command line. Archives alone are taken whole. */
    uint32_t file_count;
    const char* const* files;
    /* The module's name, for one file it may be NULL: then it is what hot_reload_module() would have. */
    const char* name;
    /* Libraries of the system that it needs, such as "libstdc++.so.6", and other modules. Shared objects name theirs themselves;
     * object files cannot. What the process has already in its global scope need not be named. */
    const char* const* needs;
    uint32_t need_count;
    /* Sources that are loaded together and have a choice have the same; it then holds for all of them. */
    hot_reload_carry_t carry;
} hot_reload_source_t;

/* hot_reload_module() of such a module. Callbacks are given the first of its files. */
int hot_reload_source(const hot_reload_source_t* source, const hot_reload_config_t* reload_config);

/* hot_reload_modules_atomic() of such modules. */
int hot_reload_sources_atomic(const hot_reload_source_t* const* sources, uint32_t source_count, const hot_reload_config_t* reload_config);

/* The address of a module's function: stable for the life of the process, whatever is reloaded; of the type that the function has. Called on a
 * thread that is inside a frame it runs that frame's version, else the current one. Call it outside frames, or in frames that were opened
 * after this returned.
 *
 * Such an address may be called at any time, so from now on old versions of the module, and of those that it calls, are kept until
 * runtime_gc_collect() finds that nobody is inside. hot_reload_frame_symbol() has no such price.
 *
 * `symbol` is the exported symbol. A function of C++ or Rust may also be named as its author did: "sim::step"; with its parameters where several
 * have that name, "sim::world::height(int) const"; or with its type as typeid(...).name() has it, "sim::step of type FvfE".
 *
 * RUNTIME_ERROR_NOT_LOADED, NO_SUCH_SYMBOL; INVALID_ARGUMENT if several functions have the name (the message lists them); WRONG_FRAME if this thread is in a frame that is older than the function, which could not
 * be called there. From then on, a version that lacks the function is refused. */
int hot_reload_symbol(const char* module, const char* symbol, void** address);

/* Such an address (in checked mode another, see runtime_check_frames()), with the caller's word that it is only called by threads that are inside a frame (runtime_frame_begin()): an old
 * version is freed by whatever loads, unloads, rolls back or collects next once its last frame has ended. As above, the frames are opened after this returned. */
int hot_reload_frame_symbol(const char* module, const char* symbol, void** address);

/* Keeps the versions of a module that are replaced from now on, and those of the modules that it calls, for the life of the process: for modules
 * that leave addresses of their own with the program, where neither a frame nor runtime_gc_collect() sees them (objects with virtual functions, a
 * std::function, callbacks). Such an address calls the version that it was had from.
 *
 * RUNTIME_ERROR_NOT_LOADED. */
int hot_reload_retain(const char* module);

/* Takes a module out. A call of its functions from frames that are opened afterwards ends the process with a message, so its callers go
 * first: RUNTIME_ERROR_IN_USE if a loaded module calls it. */
int hot_reload_unload(const char* module);

/* Publishes the version that a module had before its last reload with backup_current_state: by one swap, with nothing loaded and no
 * constructor run; its variables are as they were left. The version that it replaces is kept in turn, so that a second call goes forward
 * again.
 *
 * RUNTIME_ERROR_NO_PREVIOUS_VERSION; RUNTIME_ERROR_INCOMPATIBLE if it lacks a function that is called by now. */
int hot_reload_rollback(const char* module);

/* Reloads a module whenever its file has been rewritten and is complete, on the runtime's watching thread: renamed over, made anew or
 * rewritten in place, in one go or in small pieces. Each complete content is loaded at most once, by content, not by time stamp; a partial one
 * never. What the file holds now counts as loaded; the file need not be there yet. `reload_config` is as for hot_reload_module(), and is
 * kept; dry_run is refused. Watching a file again replaces the configuration. A reload that fails is told to the error callback, and
 * the log; without callbacks, to stderr. So is a file that somebody has had open for writing, or mapped so, for two seconds
 * without changing it: it is not loaded before that ends.
 *
 * RUNTIME_ERROR_IO if its folder cannot be watched. */
int hot_reload_watch(const char* module_path, const hot_reload_config_t* reload_config);

/* Ends a watch. A reload that is under way is waited for. RUNTIME_ERROR_NOT_WATCHED. */
int hot_reload_unwatch(const char* module_path);

/* What a reload changes. Valid during the call, with all that it leads to. */
typedef struct {
    uint32_t struct_size;
    uint32_t module_count;
    /* Of each module its name, its file (or the first of them), and the number of the version that is current before; 0: it is not loaded. */
    const char* const* modules;
    const char* const* paths;
    const unsigned long long* replaces;
    /* Afterwards: what the reload returns, and if that is not 0 what runtime_last_error() is going to say; else empty. */
    const char* message;
    int32_t code;
    uint32_t reserved;
    /* Afterwards: the generation that was made. 0: none. */
    unsigned long long generation;
} hot_reload_change_t;

/* Called before modules are replaced, when their files have been read, parsed and validated and nothing is linked yet. 0: go on; anything else
 * refuses the reload: RUNTIME_ERROR_VETOED. On the thread that reloads; it may call what a reload_progress_callback_t may. */
typedef int (*hot_reload_before_t)(const hot_reload_change_t* change, void* user);

/* Called when a reload is over, once for each time that the hook before it was called, or would have been. On the thread that reloads, before its
 * complete callbacks; it may call what a reload_complete_callback_t may. */
typedef void (*hot_reload_after_t)(const hot_reload_change_t* change, void* user);

typedef struct {
    uint32_t struct_size; /* see RUNTIME_SIZED() */
    uint32_t change_size; /* sizeof(hot_reload_change_t): so much the hooks are given */
    const char* name;     /* what messages call them */
    hot_reload_before_t before;
    hot_reload_after_t after;
    void* user;
} hot_reload_hooks_t;

/* Adds hooks before and after each reload, of watches too, until they are removed or runtime_shutdown(). Those that are added first are asked
 * first and told last. Reloads that are under way are not concerned, nor are dry runs, hot_reload_rollback() and hot_reload_unload(). */
int hot_reload_add_hooks(const hot_reload_hooks_t* hooks, uint64_t* id);

/* Removes hooks. Reloads that are under way are waited for, so that they are not called any more, unless this is called by a hook or by another
 * callback of a reload. RUNTIME_ERROR_INVALID_ARGUMENT if there are none of this id. */
int hot_reload_remove_hooks(uint64_t id);

/* Why a version is in memory. */
typedef enum {
    HOT_RELOAD_VERSION_UNKNOWN = 0,
    HOT_RELOAD_VERSION_CURRENT = 1,  /* frames opened now run it */
    HOT_RELOAD_VERSION_RETIRED = 2,  /* it was replaced: until the last frame of its generations has ended, and what is kept that calls it */
    HOT_RELOAD_VERSION_RETAINED = 3, /* it may be called outside frames: until runtime_gc_collect(), or for good (hot_reload_retain()) */
    HOT_RELOAD_VERSION_BACKUP = 4,   /* for hot_reload_rollback() */
    HOT_RELOAD_VERSION_BUSY = 5      /* threads that it started go on, or its exit functions, or its handlers of signals are installed */
} hot_reload_version_state_t;

typedef struct {
    uint32_t struct_size;
    hot_reload_version_state_t state;
    const char* module;
    const char* declared; /* the version that it says it is (RUNTIME_MODULE); empty if it says none */
    const char* path;     /* the file, or the first of them */
    /* It counts the loads of the module, from 1. */
    unsigned long long version;
    /* The first generation without it. 0: it is current. */
    unsigned long long until;
    unsigned long long code_bytes;
    /* Threads that are in frames of generations that were replaced and had it: those keep it. */
    uint32_t holders;
    uint32_t reserved;
} hot_reload_version_t;

/* Valid during the call, strings included. On the thread that called hot_reload_list_versions(). It may call what a
 * reload_complete_callback_t may: the list is of when the call began. */
typedef void (*hot_reload_version_callback_t)(const hot_reload_version_t* version, void* user);

/* Tells of all versions that are in memory, by module and number. `struct_size` is sizeof(hot_reload_version_t): so much the callback is
 * given, and what this library does not know of it is 0. */
int hot_reload_list_versions(size_t struct_size, hot_reload_version_callback_t callback, void* user);

/* How current is what an address is in. */
typedef enum {
    HOT_RELOAD_STANDING_UNKNOWN = 0,
    HOT_RELOAD_STANDING_COMING = 1,    /* a version that is being loaded, or whose load has failed */
    HOT_RELOAD_STANDING_CURRENT = 2,   /* the version that frames opened now run */
    HOT_RELOAD_STANDING_OLD = 3,       /* a version that was replaced or unloaded, and is still in memory */
    HOT_RELOAD_STANDING_GONE = 4,      /* a version that was freed; the latest 128 are known */
    HOT_RELOAD_STANDING_TRAMPOLINE = 5 /* an address of hot_reload_symbol(), or one like it: in no version */
} hot_reload_standing_t;

/* What there is at an address. What has no room in a text is left out. */
typedef struct {
    uint32_t struct_size; /* see RUNTIME_SIZED() */
    hot_reload_standing_t standing;
    /* The number of the version: it counts the loads of the module, from 1. 0 of a trampoline. */
    unsigned long long version;
    /* How far it is from the start of `symbol`. */
    unsigned long long offset;
    /* The address in the file's own numbering, as addr2line takes it; of object files and archives, which have none, how far it is from the
     * start of the module in memory. 0 of a trampoline. */
    unsigned long long file_address;
    bool is_code;
    unsigned char reserved[7];
    char module[128];
    /* The exported symbol that it is in, as the file has it (c++filt knows mangled ones); empty if there is none. */
    char symbol[256];
    /* The file that the version was read from; empty of a trampoline. */
    char path[512];
} hot_reload_address_t;

/* Describes what there is at an address, for handlers of crashes: RUNTIME_ERROR_NOT_LOADED if it is in no module and no trampoline, but the
 * host's own, a library's or nobody's; RUNTIME_ERROR_INVALID_ARGUMENT if `description` cannot be written or does not say its size.
 *
 * May be called in signal handlers, in any state, and in a forked child; it leaves runtime_last_error() as it is. */
int hot_reload_describe_address(const void* address, hot_reload_address_t* description);

typedef enum {
    COMPATIBILITY_UNKNOWN = 0, /* no debug information: see unknown_because */
    COMPATIBILITY_COMPATIBLE = 1,
    COMPATIBILITY_INCOMPATIBLE = 2
} compatibility_verdict_t;

/* Which verdict a difference belongs to. */
typedef enum {
    COMPATIBILITY_ASPECT_LINKS = 0, /* what is exported and imported, as a linker sees it */
    COMPATIBILITY_ASPECT_CALLS = 1, /* parameters, results, and structures that callers share */
    COMPATIBILITY_ASPECT_STATE = 2  /* the layout of what the module keeps, types that are opaque to callers included */
} compatibility_aspect_t;

typedef struct {
    compatibility_aspect_t aspect;
    /* Whether it makes its verdict incompatible: an added function does not. */
    bool breaks;
    char kind[32];      /* "export removed", "signature changed", "size changed", ...: as in messages */
    char symbol[128];   /* the symbol, or the type's name */
    char old_value[256];
    char new_value[256];
} compatibility_difference_t;

#define COMPATIBILITY_MAX_DIFFERENCES 32

/* Some 22 KB. */
typedef struct {
    /* links and calls are COMPATIBLE. */
    bool abi_compatible;
    /* A version was loaded to compare with. If not, there is nothing that calls and state could break. */
    bool is_loaded;
    compatibility_verdict_t links;
    compatibility_verdict_t calls;
    compatibility_verdict_t state;

    /* Of all differences, those that are not listed included. */
    uint32_t exports_removed;
    uint32_t exports_added;
    uint32_t imports_unresolved;
    uint32_t objects_resized;
    uint32_t functions_changed;
    uint32_t types_changed;
    uint32_t difference_count;

    /* How many of them are here: the breaking ones first. */
    uint32_t listed_count;
    compatibility_difference_t differences[COMPATIBILITY_MAX_DIFFERENCES];
    /* Why calls or state are UNKNOWN; else empty. */
    char unknown_because[256];
} module_compatibility_t;

/* Compares a file with the version of its module that is loaded. Nothing is published or run.
 *
 * What is loaded is compared by its file, which is read again: if it has been overwritten since it was loaded, the verdicts are UNKNOWN.
 * From the first call of this on, the files of reloads are kept in memory until they are asked for; and of reloads with
 * validate_before_reload, what is needed of them.
 *
 * 0 if all three verdicts are COMPATIBLE; RUNTIME_ERROR_INCOMPATIBLE if one is INCOMPATIBLE; else RUNTIME_ERROR_COMPATIBILITY_UNKNOWN; and
 * the codes of hot_reload_module() if the file cannot be read as a module. */
int hot_reload_check_compatibility(const char* module_path, module_compatibility_t* compatibility_info);

typedef struct {
    /* Modules, since runtime_init(): each of an atomic reload counts. */
    unsigned long long total_reloads;
    unsigned long long successful_reloads;
    unsigned long long failed_reloads;
    unsigned long long rolled_back_reloads; /* by rollback_on_failure */

    /* Of the successful ones: from the call to its end, in milliseconds; percentiles within 1 %. 0 if there was none. */
    double avg_reload_time_ms;
    double p50_reload_time_ms;
    double p95_reload_time_ms;
    double p99_reload_time_ms;
    double max_reload_time_ms;
    /* From the call to everything linked and initialised. */
    double avg_stage_time_ms;
    double p99_stage_time_ms;
    /* From the first thread that can see the publication to the last, in milliseconds. */
    double avg_publish_time_ms;
    double p99_publish_time_ms;

    /* Files whose content was known already, of those that were validated, 0.0 to 1.0. 0 if none was. */
    double cache_hit_rate;
    unsigned long long cache_hits;
    unsigned long long cache_misses;

    /* The last generation that was published, and how many modules it has. */
    unsigned long long generation;
    uint32_t loaded_modules;
    uint32_t watched_files;

    /* Code memory of current and old versions, in units of 1,000,000 bytes. */
    double memory_usage_mb;
    /* Of it, bytes of old versions: all of them, and of those only the ones that may be called outside frames (runtime_gc_collect()). */
    unsigned long long retired_bytes;
    unsigned long long retained_bytes;
} hot_reload_stats_t;

int hot_reload_get_statistics(hot_reload_stats_t* stats);

/* What a reload or a rollback has come to. */
typedef enum {
    HOT_RELOAD_OUTCOME_PUBLISHED = 1,
    HOT_RELOAD_OUTCOME_REFUSED = 2,    /* nothing was published */
    HOT_RELOAD_OUTCOME_DAMAGED = 3,    /* it is current, and its code in memory is not what was linked (verify_integrity) */
    HOT_RELOAD_OUTCOME_ROLLED_BACK = 4 /* earlier versions are current: by hot_reload_rollback(), or by rollback_on_failure with an error */
} hot_reload_outcome_t;

/* What has become of a module's variables. */
typedef enum {
    HOT_RELOAD_VARIABLES_UNKNOWN = 0,
    HOT_RELOAD_VARIABLES_NEW = 1,      /* they begin: nothing was there before */
    HOT_RELOAD_VARIABLES_LOST = 2,     /* they begin anew: what the version before had in them is not carried over */
    HOT_RELOAD_VARIABLES_AS_LEFT = 3,  /* they are as the version left them that is back */
    HOT_RELOAD_VARIABLES_GONE = 4,     /* the module was taken out, and they with it */
    HOT_RELOAD_VARIABLES_UNTOUCHED = 5, /* nothing was published: what is loaded goes on with its own */
    HOT_RELOAD_VARIABLES_CARRIED = 6    /* they go on with the values that they had, all or some: see variables_anew */
} hot_reload_variables_t;

typedef enum {
    HOT_RELOAD_NOT_KNOWN = 0,
    HOT_RELOAD_NO = 1,
    HOT_RELOAD_YES = 2
} hot_reload_answer_t;

/* What a reload has come to, and what of one of its modules. What is not known is 0 or empty. What has no room in a text is left out. */
typedef struct {
    uint32_t struct_size; /* see RUNTIME_SIZED() */
    hot_reload_outcome_t outcome;
    /* Why it was refused or rolled back, or what is wrong with what was published; 0: nothing. */
    int error_code;
    /* Of how many modules it was. */
    uint32_t module_count;
    /* The generation that is current by it. 0: nothing was published. */
    unsigned long long generation;
    unsigned long long duration_ns;

    /* From here on of the module. The version that is current by it; 0 if it was refused, or is gone. */
    unsigned long long version;
    /* The version that was current before, and of a reload that was refused still is; 0 if there was none. */
    unsigned long long version_before;
    hot_reload_variables_t state;
    /* Whether its files hold what those of the version before held. */
    hot_reload_answer_t unchanged;
    /* Of the exported functions, those whose own code has changed, those that are new, those that are gone, and those of which that is
     * not known, because they refer to what may have moved. Only if functions_compared. */
    uint32_t functions_changed;
    uint32_t functions_added;
    uint32_t functions_removed;
    uint32_t functions_unknown;
    bool functions_compared;
    /* The reload was that of a watch. */
    bool watched;
    unsigned char reserved[6];
    /* BLAKE3 of all that its file holds, in hexadecimal, as b3sum prints it; and of the version before. */
    char content[72];
    char content_before[72];
    char module[128];
    char path[512];
    char error_message[512];
    /* Of a reload that carries variables over (hot_reload_carry_t): how many have the values that they had, and how many begin anew
     * although they were there before. */
    uint32_t variables_carried;
    uint32_t variables_anew;
    /* Of the latter the names, and why; a line each. */
    char anew[512];
} hot_reload_record_t;

/* Whether records are kept, on all threads, also after runtime_shutdown(). Not by default: as long as they are, reloads read all of their
 * files, hash them (1 GB/s), and compare the code of exported functions with that of the version before. */
int hot_reload_keep_records(bool keep);

/* The record of the last reload or rollback that ended on this thread while records were kept, refused ones included; the complete callback
 * of a reload, and its error callback, are called where it ended and after that. `module`: which of its modules, from 0, in the order of the call.
 *
 * RUNTIME_ERROR_INVALID_ARGUMENT if there is no record, or no such module in it. */
int hot_reload_last_record(uint32_t module, hot_reload_record_t* record);

#ifdef __cplusplus
}
#endif

#endif
