// The declarations of "Transaction Management": each is called, with success and without.
#include "driver.h"
#include BLOCK

int main(int argc, char** argv) {
    start(argc, argv);
    transaction_id_t first = 7, second = 7;
    reload_operation_config_t config = {true, true};
    put("core", 1);
    CHECK(transaction_begin(&first, ISOLATION_SERIALIZABLE) == RUNTIME_ERROR_NOT_INITIALIZED && first == 0);
    CHECK(runtime_init(NULL) == 0);
    CHECK(transaction_begin(&first, (isolation_level_t)9) == RUNTIME_ERROR_INVALID_ARGUMENT && first == 0);

    // Rolled back, nothing has happened; committed without operations, neither.
    CHECK(transaction_begin(&first, ISOLATION_SERIALIZABLE) == 0 && first != 0);
    CHECK(transaction_add_reload_operation(first, path_of("core"), &config) == 0);
    CHECK(transaction_rollback(first) == 0 && statistics().loaded_modules == 0);
    CHECK(transaction_commit(first) == RUNTIME_ERROR_INVALID_ARGUMENT);
    CHECK(transaction_begin(&first, ISOLATION_READ_COMMITTED) == 0);
    CHECK(transaction_commit(first) == 0 && statistics().generation == 0);

    // The first that commits wins.
    CHECK(transaction_begin(&first, ISOLATION_REPEATABLE_READ) == 0);
    CHECK(transaction_begin(&second, ISOLATION_REPEATABLE_READ) == 0 && first != second);
    CHECK(transaction_add_reload_operation(first, path_of("core"), NULL) == 0);
    put("core", 2);
    CHECK(transaction_add_reload_operation(second, path_of("core"), &config) == 0);
    CHECK(transaction_commit(first) == 0 && version_of("core") == 1);
    CHECK(transaction_commit(second) == RUNTIME_ERROR_CONFLICT && version_of("core") == 1);
    CHECK(strstr(runtime_last_error(), "Transaction conflict detected, rolling back: module `core`") != NULL);
    CHECK(runtime_shutdown() == 0);
    return 0;
}
