// The declarations of "Runtime Initialization": start, state, stop.
#include "driver.h"
#include BLOCK

int main(void) {
    runtime_status_t status;
    CHECK(runtime_get_status(&status) == RUNTIME_ERROR_NOT_INITIALIZED && status.state == RUNTIME_STATE_STOPPED);
    CHECK(runtime_init(NULL) == 0);
    CHECK(runtime_get_status(&status) == 0);
    CHECK(status.state == RUNTIME_STATE_RUNNING && status.is_healthy);
    CHECK(status.memory_used_bytes > 1000000 && status.active_threads >= 1 && status.total_reloads == 0);
    CHECK(runtime_shutdown() == 0);
    CHECK(runtime_shutdown() == RUNTIME_ERROR_NOT_INITIALIZED);
    CHECK(runtime_get_status(&status) == RUNTIME_ERROR_NOT_INITIALIZED && status.state == RUNTIME_STATE_STOPPED);
    return 0;
}
