// midflight.hpp, with exceptions and with -fno-exceptions.
#include "driver.h"
#include "midflight.hpp"

#include <string>
#include <thread>
#include <type_traits>

static_assert(!std::is_copy_constructible_v<midflight::frame> && !std::is_move_constructible_v<midflight::frame>);
static_assert(!std::is_copy_constructible_v<midflight::runtime> && !std::is_move_constructible_v<midflight::runtime>);

// Runs what must fail, and returns the code.
template <class Call> static int code_of(Call call) {
#ifdef __cpp_exceptions
    try {
        call();
    } catch (const midflight::error& error) {
        CHECK(error.what() == std::string(runtime_last_error()) && !std::string(error.what()).empty());
        return error.code();
    }
    return 0;
#else
    return call();
#endif
}

// Runs what must succeed.
#ifdef __cpp_exceptions
#define DO(call) call
#else
#define DO(call) CHECK((call) == 0)
#endif

int main(int argc, char** argv) {
    start(argc, argv);
    put("graphics_module", 1);
    put("physics_engine", 1);
    const std::string graphics = path_of("graphics_module"), physics = path_of("physics_engine");
    CHECK(code_of([&] { return midflight::reload(graphics.c_str()); }) == RUNTIME_ERROR_NOT_INITIALIZED);
    {
        midflight::runtime runtime;
        CHECK(runtime.code() == 0);
        CHECK(code_of([] { return midflight::reload("/nowhere/at_all.so"); }) == RUNTIME_ERROR_IO);
        midflight::function<int()> version;
        CHECK(!version);
        CHECK(code_of([&] { return version.bind("graphics_module", "graphics_module_version"); }) == RUNTIME_ERROR_NOT_LOADED);

        midflight::record record;
        CHECK(code_of([&] { return record.read(); }) == RUNTIME_ERROR_INVALID_ARGUMENT && !record);
        DO(midflight::keep_records());
        DO(midflight::reload_all({graphics.c_str(), physics.c_str()}));
        DO(record.read(1));
        CHECK(record && record->outcome == HOT_RELOAD_OUTCOME_PUBLISHED && record->module_count == 2);
        CHECK(record->module == std::string("physics_engine") && record->version == 1 && record->path == physics);
        CHECK(record->state == HOT_RELOAD_VARIABLES_NEW && &record.get() == record.operator->());
        CHECK(code_of([] { return midflight::reload("/nowhere/at_all.so"); }) == RUNTIME_ERROR_IO);
#ifdef __cpp_exceptions
        record = midflight::record(0);
#else
        DO(record.read());
#endif
        CHECK(record->outcome == HOT_RELOAD_OUTCOME_REFUSED && record->error_code == RUNTIME_ERROR_IO && record->generation == 0);
        CHECK(code_of([&] { return record.read(1); }) == RUNTIME_ERROR_INVALID_ARGUMENT && !record && record->error_code == 0);
        DO(midflight::keep_records(false));
        DO(version.bind("graphics_module", "graphics_module_version"));
        CHECK(code_of([&] { return midflight::callback<int()>().bind("graphics_module", "none"); }) == RUNTIME_ERROR_NO_SUCH_SYMBOL);
        {
            midflight::frame frame;
            CHECK(frame.code() == 0 && version(frame) == 1);
            put("graphics_module", 2);
            DO(midflight::reload(graphics.c_str()));
            // This frame's generation, also on a thread that joins it.
            CHECK(version(frame) == 1);
            std::thread([&] {
                {
                    auto mine = midflight::frame::join(frame);
                    CHECK(mine.code() == 0 && version(mine) == 1);
                }
                midflight::frame own;
                CHECK(version(own) == 2);
            }).join();
        }
        midflight::callback<int()> anywhere;
        DO(anywhere.bind("graphics_module", "graphics_module_version"));
        CHECK(anywhere() == 2 && anywhere.get()() == 2);
        DO(midflight::watch(graphics.c_str()));
        DO(midflight::unwatch(graphics.c_str()));
        CHECK(code_of([&] { return midflight::unwatch(graphics.c_str()); }) == RUNTIME_ERROR_NOT_WATCHED);
    }
    CHECK(runtime_shutdown() == RUNTIME_ERROR_NOT_INITIALIZED);
    return 0;
}
