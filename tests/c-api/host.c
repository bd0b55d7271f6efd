// A module that calls back into its host: scripts/c-api links this with and without -rdynamic, and builds the module with -DMODULE.
int host_gives(void);

#ifdef MODULE
int asks(void) { return host_gives(); }
#else
#include "runtime_api.h"
#include <stdio.h>

int host_gives(void) { return 42; }

int main(int argc, char** argv) {
    int (*asks)(void);
    int code = argc < 2 ? RUNTIME_ERROR_INVALID_ARGUMENT : runtime_init(NULL);
    if (code == 0) code = hot_reload_module(argv[1], NULL);
    if (code == 0) code = hot_reload_symbol("host_module", "asks", (void**)&asks);
    if (code == 0) printf("%d\n", asks());
    if (code != 0) printf("%d %s\n", code, runtime_last_error());
    return code != 0;
}
#endif
