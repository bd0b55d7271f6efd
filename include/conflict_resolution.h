/* Conflicts of a new version with what is loaded: found before anything is published, and resolved.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * docs/conflicts.md has the table of them: what each is, how grave, what to do.
 */
#ifndef MIDFLIGHT_CONFLICT_RESOLUTION_H
#define MIDFLIGHT_CONFLICT_RESOLUTION_H

#include "runtime_types.h"
#include "transaction_manager.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    CONFLICT_TYPE_NONE = 0,
    /* A function is gone that others call, or that nobody defines, or that two modules export. */
    CONFLICT_TYPE_API_CHANGE = 1,
    /* A function takes or returns something else. */
    CONFLICT_TYPE_FUNCTION_SIGNATURE = 2,
    /* A structure is laid out differently that the module shares with its callers. */
    CONFLICT_TYPE_DATA_STRUCTURE = 3,
    /* What the loaded version leaves in memory, the new one lays out differently. */
    CONFLICT_TYPE_MEMORY_LAYOUT = 4,
    /* A module is missing that another needs, or its version does not do, or modules need each
     * other. */
    CONFLICT_TYPE_DEPENDENCY_CHAIN = 5,
    /* An enumeration that state holds has other values. */
    CONFLICT_TYPE_STATE_MACHINE = 6,
    /* Two modules say that the same resource is theirs alone (RUNTIME_MODULE_EXCLUSIVE). */
    CONFLICT_TYPE_RESOURCE_ACCESS = 7,
    /* Somebody else changes or has changed the same module. */
    CONFLICT_TYPE_CONCURRENT_MODIFICATION = 8,
    /* What the module's version says is not what has changed. */
    CONFLICT_TYPE_SEMANTIC_MISMATCH = 9
} conflict_type_t;

typedef enum {
    CONFLICT_SEVERITY_NONE = 0,
    CONFLICT_SEVERITY_LOW = 1,     /* it is said; as far as is known nobody comes by it */
    CONFLICT_SEVERITY_MEDIUM = 2,  /* it goes wrong if state or an address has been kept that nobody knows of */
    CONFLICT_SEVERITY_HIGH = 3,    /* it can be loaded, and somebody would go wrong */
    CONFLICT_SEVERITY_CRITICAL = 4 /* it cannot be loaded: a reload of it is refused */
} conflict_severity_t;

#define CONFLICT_MAX_CONCERNED 4
#define CONFLICT_MAX_LISTED 16

/* One conflict, some 2 KB. What has no room in a text is left out; what is not known is 0 or
 * empty. */
typedef struct {
    conflict_type_t type;
    conflict_severity_t severity;
    /* The module that is about to be replaced or loaded. */
    char module[128];
    /* Where: the function, variable or type; of a dependency the other module, of a resource its
     * name. Of a structure, the first member that has changed. */
    char symbol[128];
    char member[64];
    /* The source file and line that it is declared in; if they are not known, the new version's
     * file, and 0. */
    char file[256];
    uint32_t line;
    /* How many other modules are concerned, and the first of them by name. "(the program)" is the
     * program itself. */
    uint32_t concerned_count;
    char concerned[CONFLICT_MAX_CONCERNED][64];
    /* What is wrong, and what to do: a sentence each. */
    char message[768];
    char proposal[384];
} conflict_info_t;

/* Some 35 KB. */
typedef struct {
    /* The gravest: the first of the list. All zero if there is none. */
    conflict_info_t conflict_info;
    /* How many there are, and how many of them are listed: the gravest first. */
    uint32_t count;
    uint32_t listed_count;
    conflict_info_t conflicts[CONFLICT_MAX_LISTED];
    /* The generation that the new version was compared with. */
    unsigned long long generation;
    /* Everything could be looked at. If not, more may conflict, and the first reason is said:
     * mostly that a module was built without -g. */
    bool is_complete;
    char unknown_because[256];
} conflict_analysis_t;

/* What is loaded, in short: for who looks, thinks, and acts on it later. */
typedef struct {
    unsigned long long generation;
    /* When it was taken: get_timestamp_ns(). 0: it was not. */
    unsigned long long timestamp_ns;
    uint32_t module_count;
    uint32_t reserved;
} system_state_t;

/* Fills a state with what is loaded now. */
int runtime_get_current_state(system_state_t* current_state);

/* How a conflict is to be resolved, if no registered resolver does. */
typedef enum {
    RESOLUTION_STRATEGY_DEFAULT = 0, /* as prefer_latest says */
    RESOLUTION_STRATEGY_PREFER_LATEST = 1,
    RESOLUTION_STRATEGY_KEEP_CURRENT = 2,
    /* Two changes of the set of modules are merged, which transaction_merge() does: what one side
     * alone has changed is no conflict. What both have changed, and all else, is for a person. */
    RESOLUTION_STRATEGY_THREE_WAY_MERGE = 3,
    /* Old callers are given the function that is registered for them
     * (register_compatibility_adapter()). If none is, for a person. */
    RESOLUTION_STRATEGY_COMPATIBILITY_LAYER = 4,
    RESOLUTION_STRATEGY_MANUAL = 5,
    /* There is no model yet that has learned from outcomes: the result says so (model_used), and is
     * that of the default. */
    RESOLUTION_STRATEGY_ML_GUIDED = 6
} resolution_strategy_t;

typedef enum {
    RESOLUTION_ACTION_NONE = 0,
    RESOLUTION_ACTION_USE_LATEST = 1,   /* load the new version */
    RESOLUTION_ACTION_KEEP_CURRENT = 2, /* do not */
    RESOLUTION_ACTION_MERGE = 3,        /* load the merged set */
    RESOLUTION_ACTION_USE_COMPATIBILITY_LAYER = 4, /* load it with functions for old callers */
    RESOLUTION_ACTION_MANUAL = 5        /* a person decides */
} resolution_action_t;

/* Zero everything you do not set. */
typedef struct {
    resolution_strategy_t strategy;
    /* A decision may stand without a person. If not, the result says what would be done, and
     * `success` is false. */
    bool auto_resolve;
    /* A decision stands only if so many of earlier ones went well, from 0.0 to 1.0; or, as long as
     * there were none, if a resolver claims so much. 0.0: always. */
    double confidence_threshold;
    /* Where the strategy leaves it open: the new version, if it can be loaded, rather than what is
     * loaded. */
    bool prefer_latest;
} resolution_config_t;

typedef struct {
    /* The decision stands: nobody else need be asked. */
    bool success;
    resolution_action_t action;
    /* How often the action went well on conflicts of this type, from 0.0 to 1.0, and of how many
     * times: 0.0 of 0, until something has come of it. It went well if the module was loaded and
     * has not been rolled back. Of keeping what is loaded nothing comes that could be counted. */
    double confidence;
    unsigned long long outcome_count;
    /* What a registered resolver has claimed (it sets `confidence`), and its name. 0.0 and empty:
     * none has decided. */
    double claimed_confidence;
    char resolver[64];
    /* A model has decided: false, as there is none. */
    bool model_used;
    /* Why, in plain words. */
    char explanation[512];
} resolution_result_t;

/* Asked about a conflict. 0: `result` has its `action`, `success` and `confidence`, the latter as
 * a claim. -1, or anything else: the next resolver is asked, and at last the strategy. `result` is
 * zeroed before.
 *
 * On the thread that asks; in a reload with auto_resolve_conflicts it may call what a
 * reload_progress_callback_t may. */
typedef int (*conflict_resolver_func_t)(const conflict_info_t* conflict, resolution_result_t* result);

/* Finds what in a file conflicts with what is loaded. Nothing is published or run.
 *
 * `current_state` is what the caller has looked at: if the module has changed since, that is a
 * conflict. NULL or all zero: what is loaded now. Signatures and layouts are known of modules that
 * have debug information (-g). From the first call of this on, the files of reloads are kept in
 * memory until they are asked for, as by hot_reload_check_compatibility().
 *
 * 0 if there is none; how many, if there are; else the codes of hot_reload_module() for a file that
 * cannot be read as a module. */
int detect_potential_conflicts(const char* module_path, const system_state_t* current_state, conflict_analysis_t* conflict_analysis);

/* The same of a transaction: all of its operations together, as they would be committed. A caller
 * that is replaced or unloaded with what it calls does not conflict with it. What has changed since
 * the transaction looked is a conflict, as far as its isolation level minds. Another transaction
 * that is open and touches one of the modules is a conflict as well, here and in
 * detect_potential_conflicts(). It refuses no commit, whatever the mode: the first that commits
 * wins. */
int transaction_detect_conflicts(transaction_id_t transaction_id, conflict_analysis_t* conflict_analysis);

/* Merges a transaction that has lost with what was committed since it began. If they have changed
 * different modules, and nothing of both together conflicts that is graver than
 * CONFLICT_SEVERITY_LOW, then it becomes a transaction that was begun now: what it had read counts
 * no more. Then commit it.
 *
 * 0: it is merged. How many, if there are modules that both have changed
 * (CONFLICT_TYPE_CONCURRENT_MODIFICATION) or conflicts: then the analysis lists them, and the
 * transaction is as it was. Else a code; RUNTIME_ERROR_TIMEOUT. */
int transaction_merge(transaction_id_t transaction_id, conflict_analysis_t* conflict_analysis);

/* Says what is to be done about a conflict: 0 if that is said, whatever it is. It does nothing
 * itself: load the module, or do not. What comes of its next reload is counted for `confidence`.
 *
 * RUNTIME_ERROR_INVALID_ARGUMENT if the conflict has no type, or for what no enumeration has. */
int resolve_module_conflicts(const conflict_info_t* conflict_info, const resolution_config_t* resolution_config,
                             resolution_result_t* resolution_result);

/* Has a function be asked about each conflict before the strategy decides: those that were
 * registered first, first. A name that is registered already is registered anew, behind the others.
 * NULL takes out the function of that name (RUNTIME_ERROR_INVALID_ARGUMENT if there is none). They
 * are all taken out by runtime_shutdown(). */
int register_conflict_resolver(const char* strategy_name, conflict_resolver_func_t resolver_func);

/* What a caller is taken for that does not say which signature it was built against, as it has no
 * debug information that does. */
typedef enum {
    COMPATIBILITY_UNSAID_REFUSE = 0, /* it is refused: RUNTIME_ERROR_COMPATIBILITY_UNKNOWN */
    COMPATIBILITY_UNSAID_OLD = 1,    /* built against the old one */
    COMPATIBILITY_UNSAID_NEW = 2     /* built against what is loaded, or is being loaded with it */
} compatibility_unsaid_t;

/* A function that does for old callers of another one what that did before its signature
 * changed. */
typedef struct {
    uint32_t struct_size; /* see RUNTIME_SIZED() */
    compatibility_unsaid_t unsaid;
    /* The function that has changed, and the signature that old callers were built against, as
     * hot_reload_function_signature() says it. */
    const char* module;
    const char* symbol;
    const char* signature;
    /* The adapter: a function of another module, or of the same one. It may call the changed
     * function, and then has the new one. */
    const char* adapter_module;
    const char* adapter_symbol;
} compatibility_adapter_t;

typedef struct {
    char text[256]; /* as C writes it, without const and typedefs: "int (int)" */
} function_signature_t;

/* The signature of a function that is loaded, by its debug information.
 * RUNTIME_ERROR_COMPATIBILITY_UNKNOWN. */
int hot_reload_function_signature(const char* module, const char* symbol, function_signature_t* signature);

/* Registers an adapter. Do that while what is loaded has the old signature: the program, which does
 * not say what it was built against, is taken to fit that.
 *
 * The publication that brings the function with a new signature, or without it, binds old callers
 * to the adapter, and new ones to the function itself. Nobody is loaded anew for that. The
 * program's own addresses of the function stay for the old signature; hot_reload_symbol() gives the
 * other one for "twice as double (double)". From the registration on, what has no adapter is
 * refused with RUNTIME_ERROR_INCOMPATIBLE: reloads, rollbacks and unloads alike. An adapter for the
 * same signature takes the place of the one before. runtime_shutdown() takes all out.
 *
 * RUNTIME_ERROR_COMPATIBILITY_UNKNOWN if what is loaded does not say its signature, or a caller
 * what it was built against. RUNTIME_ERROR_INCOMPATIBLE if callers that are loaded were built
 * against different ones. */
int register_compatibility_adapter(const compatibility_adapter_t* adapter, uint64_t* adapter_id);

/* Takes an adapter out. RUNTIME_ERROR_INCOMPATIBLE if somebody goes by it: then it stays.
 * RUNTIME_ERROR_INVALID_ARGUMENT if there is no such adapter. */
int unregister_compatibility_adapter(uint64_t adapter_id);

#ifdef __cplusplus
}
#endif

#endif
