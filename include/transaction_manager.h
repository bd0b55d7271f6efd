/* Transactions: operations on several modules that are published together or not at all, and apart from what others do meanwhile.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A transaction changes nothing until it is committed. Then everything that it has is checked and linked, constructors run, and one
 * publication makes all of it current: every frame sees all of it or nothing. Whatever fails before that, nothing has moved.
 *
 * Nobody waits for anybody. Two transactions may be about the same modules, and the first that commits wins: the other one gets
 * RUNTIME_ERROR_CONFLICT, and is begun again. docs/transactions.md says what each isolation level prevents, and why no two transactions can
 * ever wait for each other.
 *
 * A handle is given out by transaction_begin() and ends with transaction_commit(), whatever that returns, with transaction_rollback(), and
 * with runtime_shutdown(). One that has ended, or was never given out, is RUNTIME_ERROR_INVALID_ARGUMENT. Any thread may use a handle; of
 * several threads that use one at once, one waits for the other.
 */
#ifndef MIDFLIGHT_TRANSACTION_MANAGER_H
#define MIDFLIGHT_TRANSACTION_MANAGER_H

#include "runtime_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A handle. Each is given out once in the life of the process; none is 0. */
typedef uint64_t transaction_id_t;

/* How far a transaction is kept apart from others. Each level prevents what those before it do. */
typedef enum {
    /* Reads also see what other transactions are to do and have not committed. Commits over whatever is there. */
    ISOLATION_READ_UNCOMMITTED = 0,
    /* Each read sees what is committed then. A module that has changed since its operation was added is a conflict. */
    ISOLATION_READ_COMMITTED = 1,
    /* All reads see what was committed when the transaction began. A module of an operation that has changed since then is a conflict. */
    ISOLATION_REPEATABLE_READ = 2,
    /* As above, and what was read and has changed since is a conflict too, if there are operations. */
    ISOLATION_SERIALIZABLE = 3
} isolation_level_t;

/* How a module of a transaction is reloaded. */
typedef struct {
    /* Compare the code in memory with what was linked, once it is published: that of all modules of the transaction. If it differs, the
     * commit returns RUNTIME_ERROR_INTEGRITY, and a second publication has undone all of it. */
    bool validate_integrity;
    /* Keep the version that is replaced, for hot_reload_rollback() and transaction_add_rollback_operation(): one for each module. */
    bool backup_state;
} reload_operation_config_t;

typedef enum {
    /* Before it is published. */
    TRANSACTION_DURABLE = 0,
    /* It outlives the process once it is published, and the machine from the next durable commit on. */
    TRANSACTION_LAZY = 1,
    /* Not committed to the journal. The next publication that is durable or lazy commits all that is loaded, this included. */
    TRANSACTION_NOT_DURABLE = 2
} transaction_durability_t;

typedef struct {
    uint32_t struct_size; /* see RUNTIME_SIZED() */
    /* 0 is ISOLATION_READ_UNCOMMITTED, as everywhere. */
    isolation_level_t isolation;
    /* From the beginning to the publication, in milliseconds. Default: transaction_timeout_ms of runtime_init(). */
    uint32_t timeout_ms;
    /* The most operations. Default: max_transaction_size of runtime_init(). */
    uint32_t max_operations;
    /* Operations are refused with RUNTIME_ERROR_INVALID_ARGUMENT. */
    bool read_only;
    /* A transaction_durability_t: when the commit is on the disk, if there is a journal (journal_folder of runtime_set_options()). */
    uint8_t durability;
    uint8_t reserved[6]; /* 0 */
    /* What the commit does about conflicts of its operations as a whole with what is loaded, as in hot_reload_config_t. */
    conflict_resolution_mode_t conflict_mode;
    /* Resolvers are asked first (conflict_resolution.h). */
    bool auto_resolve_conflicts;
    /* A commit that has lost is merged with what has won, if that can be, and then published: see transaction_merge(). */
    bool merge;
    uint8_t reserved_too[2]; /* 0 */
} transaction_options_t;

/* Begins a transaction. From ISOLATION_REPEATABLE_READ on it notes which versions are loaded, and waits for a reload that is being linked.
 *
 * Sets the handle to 0 if it fails. RUNTIME_ERROR_TIMEOUT. */
int transaction_begin(transaction_id_t* transaction_id, isolation_level_t isolation_level);

/* As transaction_begin(). */
int transaction_begin_with(transaction_id_t* transaction_id, const transaction_options_t* options);

/* Publishes all operations at once, and ends the handle. Without operations it does nothing, and returns 0.
 *
 * On a failure nothing was published (but see validate_integrity): the transaction is rolled back. RUNTIME_ERROR_CONFLICT: begin it again.
 * RUNTIME_ERROR_IN_USE: a module that is to be unloaded is called by one that stays. RUNTIME_ERROR_TIMEOUT, and the codes of
 * hot_reload_module(). The modules' constructors run in this call. */
int transaction_commit(transaction_id_t transaction_id);

/* Ends the handle. Nothing has happened. */
int transaction_rollback(transaction_id_t transaction_id);

/* Adds the reload of a module, or its first load: NULL is the default configuration. The file is read in this call, bound and linked to
 * see what is wrong with it, and what was read is what a commit publishes, whatever becomes of the file. What other operations may make
 * right (missing symbols, functions that others call and it lacks) is an error of the commit only.
 *
 * On a failure the transaction stays as it was, and goes on. Codes as for hot_reload_module(). Of every operation:
 * RUNTIME_ERROR_INVALID_ARGUMENT if the transaction is read-only, has as many operations as it may, or has one of this module. */
int transaction_add_reload_operation(transaction_id_t transaction_id, const char* module_path,
                                     const reload_operation_config_t* operation_config);

/* Adds the unloading of a module, by its name. RUNTIME_ERROR_NOT_LOADED. */
int transaction_add_unload_operation(transaction_id_t transaction_id, const char* module);

/* Adds the return of a module, by its name, to the version that was kept of it. RUNTIME_ERROR_NOT_LOADED, NO_PREVIOUS_VERSION. */
int transaction_add_rollback_operation(transaction_id_t transaction_id, const char* module);

/* A point to go back to: a number from 1, which holds for this transaction. */
int transaction_savepoint(transaction_id_t transaction_id, uint64_t* savepoint);

/* Takes back the operations that were added since, and the later savepoints. RUNTIME_ERROR_INVALID_ARGUMENT if there is none of this
 * number. */
int transaction_rollback_to(transaction_id_t transaction_id, uint64_t savepoint);

/* The number of a module's version as the transaction sees it, its own operations included: of a version that is to be loaded the number
 * that it will have. 0: not loaded. */
int transaction_read_version(transaction_id_t transaction_id, const char* module, uint64_t* version);

/* Whether a module is loaded and exports a function of this symbol, as the transaction sees it. RUNTIME_ERROR_CONFLICT, from
 * ISOLATION_REPEATABLE_READ on, if the module was replaced since the beginning. */
int transaction_read_symbol(transaction_id_t transaction_id, const char* module, const char* symbol, bool* is_there);

#ifdef __cplusplus
}
#endif

#endif
