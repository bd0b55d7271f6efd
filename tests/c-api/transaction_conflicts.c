// "Transaction Conflicts": the message that the document quotes, and its solution.
#include "driver.h"

static int with_the_solution(void) {
#include BLOCK
    return retry_count;
}

int main(int argc, char** argv) {
    start(argc, argv);
    CHECK(runtime_init(NULL) == 0);
    put("core", 1);
    transaction_id_t transaction;
    CHECK(transaction_begin(&transaction, ISOLATION_READ_COMMITTED) == 0);
    CHECK(transaction_add_reload_operation(transaction, path_of("core"), NULL) == 0);
    CHECK(hot_reload_module(path_of("core"), NULL) == 0);
    CHECK(transaction_commit(transaction) == RUNTIME_ERROR_CONFLICT);
    CHECK(strstr(runtime_last_error(), "Transaction conflict detected, rolling back") != NULL);
    // Nobody else is there: it succeeds at once.
    CHECK(with_the_solution() == 0);
    CHECK(version_of("core") == 1);
    CHECK(runtime_shutdown() == 0);
    // Nobody begins one now: it gives up after three.
    CHECK(with_the_solution() == 3);
    return 0;
}
