//! Programs in C and C++, against the headers and the libraries.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::*;

const PROGRAM: &str = r#"
#include "runtime_api.h"
#include <stdio.h>
#include <string.h>

#define CHECK(what) do { if (!(what)) { printf("line %d: %s: %s\n", __LINE__, #what, runtime_last_error()); return 1; } } while (0)

static unsigned last_percent;
static int completed;

static void on_progress(const char* module_path, uint32_t progress_percent) {
    (void)module_path;
    last_percent = progress_percent;
}
static void on_complete(const char* module_path, bool success, double duration_ms) {
    printf("complete %s %d %d\n", strrchr(module_path, '/') + 1, success, duration_ms > 0);
    completed++;
}
static void on_error(const char* module_path, int error_code, const char* message) {
    printf("error %s %s %d\n", strrchr(module_path, '/') + 1, runtime_strerror(error_code), strlen(message) > 10);
}

int main(int argc, char** argv) {
    CHECK(argc == 3);
    CHECK(hot_reload_module(argv[1], NULL) == RUNTIME_ERROR_NOT_INITIALIZED);
    runtime_config_t config;
    memset(&config, 0, sizeof config);
    config.hot_reload_threads = 2;
    config.reload_timeout_ns = 5000000000ULL;
    CHECK(runtime_init(&config) == 0);

    hot_reload_config_t reload;
    memset(&reload, 0, sizeof reload);
    reload.validate_before_reload = true;
    reload.backup_current_state = true;
    reload.progress_callback = on_progress;
    reload.complete_callback = on_complete;
    reload.error_callback = on_error;
    CHECK(hot_reload_module(argv[1], &reload) == RUNTIME_OK);
    CHECK(last_percent == 100 && completed == 1);

    void* address;
    CHECK(hot_reload_symbol("answer", "value", &address) == 0);
    int (*value)(void);
    memcpy(&value, &address, sizeof value);
    CHECK(value() == 41);
    runtime_frame_t frame;
    CHECK(runtime_frame_begin(&frame) == 0);
    CHECK(hot_reload_module(argv[2], &reload) == 0);
    CHECK(value() == 41);
    CHECK(runtime_frame_end(&frame) == 0);
    CHECK(runtime_frame_end(&frame) == RUNTIME_ERROR_WRONG_FRAME);
    CHECK(value() == 42);
    CHECK(hot_reload_rollback("answer") == 0);
    CHECK(value() == 41);
    CHECK(hot_reload_module("/no/such.so", &reload) == RUNTIME_ERROR_IO);

    runtime_status_t status;
    hot_reload_stats_t stats;
    CHECK(runtime_get_status(&status) == 0 && hot_reload_get_statistics(&stats) == 0);
    CHECK(status.state == RUNTIME_STATE_RUNNING && status.is_healthy && status.total_errors == 2);
    CHECK(stats.successful_reloads == 2 && stats.failed_reloads == 1 && stats.cache_misses > 0);
    printf("reloads %llu, memory %s\n", status.total_reloads, status.memory_used_bytes > 1000000 ? "used" : "none");
    CHECK(runtime_gc_collect() == 0);
    CHECK(runtime_shutdown() == 0);
    CHECK(runtime_shutdown() == RUNTIME_ERROR_NOT_INITIALIZED);
    puts("done");
    return 0;
}
"#;

const SAYS: &str = "complete libanswer.so 1 1\n\
    complete libanswer.so 1 1\n\
    error such.so RUNTIME_ERROR_IO: a file could not be read or written 1\n\
    complete such.so 0 1\n\
    reloads 3, memory used\n\
    done\n";

/// Loads the module, and prints what its constructor was given.
const PRINTS: &str = r#"
#include "runtime_api.h"
#include <stdio.h>
#include <string.h>

int main(int argc, char** argv) {
    void* address;
    const char* (*given)(void);
    if (runtime_init(NULL) || hot_reload_module(argv[argc - 1], NULL) || hot_reload_symbol("given", "given", &address)) {
        puts(runtime_last_error());
        return 1;
    }
    memcpy(&given, &address, sizeof given);
    puts(given());
    return runtime_shutdown();
}
"#;

/// Keeps the first argument but the program's name, and how many there are.
const GIVEN: &str = r#"
static char text[] = "0 of unknown";
__attribute__((constructor)) static void begin(int count, char **arguments) {
    if (count < 2 || arguments[count]) return;
    text[0] = '0' + count;
    for (int at = 0; at < 7 && arguments[1][at]; at++) text[5 + at] = arguments[1][at];
}
const char *given(void) { return text; }
"#;

/// Jumps out of a module and of the frame in which it was called, and loads another version.
const JUMPS: &str = r#"
#include "runtime_api.h"
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

static jmp_buf recover;
static void jump(void) { longjmp(recover, 1); }
static int (*run)(void (*)(void));

static int turn(void (*call)(void)) {
    runtime_frame_t frame;
    if (runtime_frame_begin(&frame)) return -1;
    int version = run(call);
    return runtime_frame_end(&frame) ? -2 : version;
}
static void nothing(void) {}

int main(int argc, char** argv) {
    void* address;
    if (argc != 3 || runtime_init(NULL) || hot_reload_module(argv[1], NULL)) return 2;
    if (hot_reload_frame_symbol("jumping", "run", &address)) return 3;
    memcpy(&run, &address, sizeof run);
    uint32_t depth = runtime_frame_depth();
    for (volatile int round = 0; round < 4; round++) {
        if (!setjmp(recover)) turn(jump);
        printf("%u open, ", (unsigned)runtime_frame_depth());
        if (runtime_frame_unwind(depth)) return 4;
        if (hot_reload_module(argv[1 + (round + 1) % 2], NULL)) return 5;
        printf("version %d\n", turn(nothing));
    }
    hot_reload_stats_t stats;
    if (hot_reload_get_statistics(&stats) || stats.retired_bytes) return 6;
    return runtime_shutdown();
}
"#;

#[test]
fn frames_that_were_jumped_out_of_are_ended_where_the_jump_lands() {
    let session = stopped("program-jumps");
    let program = compile_of(JUMPS, &session, "jumps.c", &["-std=gnu11"], &[&library("a")]);
    let module = |n: u32| {
        let source = format!("int run(void (*call)(void)) {{ call(); return {n}; }}");
        session.module("jumping", n, &source)
    };
    for checks in ["off", "on"] {
        let mut run = command(&program);
        let output = run.args([module(1), module(2)]).env("MIDFLIGHT_CHECKS", checks).output().unwrap();
        let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
        let expected: String = [2, 1, 2, 1].map(|n| format!("1 open, version {n}\n")).concat();
        assert_eq!((&*said[0], &*said[1], output.status.code()), (&*expected, "", Some(0)), "{checks}");
    }
}

fn compile(session: &Workshop, file: &str, arguments: &[&str], libraries: &[&Path]) -> PathBuf {
    compile_of(PROGRAM, session, file, arguments, libraries)
}

fn compile_of(
    text: &str,
    session: &Workshop,
    file: &str,
    arguments: &[&str],
    libraries: &[&Path],
) -> PathBuf {
    let source = session.file(file, text.as_bytes());
    let program = source.with_extension("program");
    let mut command = host_compiler(std::env::consts::ARCH, file.ends_with(".cpp"));
    command.args(["-Wall", "-Wextra", "-Wpedantic", "-Werror"]).args(arguments).arg("-I").arg(include());
    let result = command
        .arg("-o")
        .args([&program, &source])
        .args(libraries)
        .args(["-lpthread", "-ldl", "-lm"])
        .output();
    let result = result.expect("scripts/setup installs the compilers");
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
    program
}

/// In the emulator, if that is what the tests run in.
fn command(program: &Path) -> Command {
    let mut command = match std::env::var("MIDFLIGHT_TEST_RUNNER") {
        Ok(runner) => {
            let mut words = runner.split_whitespace();
            let mut command = Command::new(words.next().expect("a runner"));
            command.args(words).arg(program);
            command
        }
        Err(_) => Command::new(program),
    };
    // The shared library is beside the program.
    command.env("LD_LIBRARY_PATH", program.parent().unwrap());
    command
}

fn run(program: &Path, session: &Workshop) {
    let versions = [41, 42].map(|n| session.module("answer", n, &returns(n as i32)));
    let result = command(program).args(versions).output().unwrap();
    let said = String::from_utf8_lossy(&result.stdout);
    let says = SAYS.replace("libanswer.so", &library_name("answer"));
    assert_eq!(
        (&*said, result.status.code()),
        (&*says, Some(0)),
        "{}",
        String::from_utf8_lossy(&result.stderr)
    );
}

#[test]
fn c_with_the_static_library() {
    let session = stopped("program-c");
    for standard in ["c11", "gnu11"] {
        let program = compile(&session, "program.c", &[&format!("-std={standard}")], &[&library("a")]);
        run(&program, &session);
    }
}

#[test]
fn cpp_with_the_static_library() {
    let session = stopped("program-cpp");
    let program = compile(&session, "program.cpp", &["-std=c++17"], &[&library("a")]);
    run(&program, &session);
}

#[test]
fn c_with_the_shared_library() {
    let session = stopped("program-shared");
    let shared = session.path("libmidflight.so");
    std::fs::copy(library("so"), &shared).unwrap();
    let program = compile(&session, "program.c", &["-std=c11"], &[&shared]);
    // By its SONAME it is found.
    std::fs::rename(&shared, session.path("libmidflight.so.0")).unwrap();
    run(&program, &session);
}

/// What a C++ host and its module both include.
const SIM: &str = r#"
namespace sim {
struct point { float x, y; };
class world {
public:
    explicit world(int size) : size_(size) {}
    int size() const;
    point grow(int by, const point& at);
    int size_;
};
point scaled(point from, float by);
float scaled(float from, float by);
int count();
}
"#;

const SIM_MODULE: &str = r#"
int sim::world::size() const { return size_; }
sim::point sim::world::grow(int by, const point& at) { size_ += by; return {at.x + 1, at.y + 2}; }
sim::point sim::scaled(point from, float by) { return {from.x * by, from.y * by}; }
float sim::scaled(float from, float by) { return from * by; }
int sim::count() { return 5; }
extern "C" int plain(int value) { return value + 1; }
"#;

/// Functions and methods by their types; and what is said if there is none of that type.
const SIM_HOST: &str = r#"
#include <cstdio>
#include <cstring>

#define CHECK(what) do { if (!(what)) { std::printf("line %d: %s: %s\n", __LINE__, #what, runtime_last_error()); return 1; } } while (0)

int main(int, char** argv) {
    using namespace midflight;
    runtime running;
    reload(argv[1]);
    const function<sim::point(sim::point, float)> points("sim", "sim::scaled");
    const function<float(float, float)> numbers("sim", "sim::scaled");
    const function<int()> count("sim", "sim::count");
    const function<int(int)> plain("sim", "plain");
    const callback<float(float, float)> anywhere("sim", "sim::scaled");
    const method<int (sim::world::*)() const> size("sim", "sim::world::size");
    const method<sim::point (sim::world::*)(int, const sim::point&)> grow("sim", "sim::world::grow");
    {
        sim::world world(3);
        frame here;
        CHECK(points(here, {1, 2}, 3).y == 6 && numbers(here, 4, 2) == 8 && anywhere(5, 2) == 10);
        CHECK(count(here) == 5 && plain(here, 6) == 7);
        CHECK(size(here, world) == 3 && grow(here, world, 4, {1, 1}).y == 3 && size(here, world) == 7);
    }
    try {
        function<int(int)>("sim", "sim::scaled");
        CHECK(!"no function of that type");
    } catch (const error& error) {
        CHECK(error.code() == RUNTIME_ERROR_NO_SUCH_SYMBOL && std::strstr(error.what(), "`sim::scaled(float, float)`"));
    }
    try {
        method<int (sim::world::*)()>("sim", "sim::world::size");
        CHECK(!"it is const");
    } catch (const error& error) {
        CHECK(error.code() == RUNTIME_ERROR_NO_SUCH_SYMBOL && std::strstr(error.what(), "`sim::world::size() const`"));
    }
    return 0;
}
"#;

/// Without exceptions and types at run time.
const SIM_PLAIN_HOST: &str = r#"
int main(int, char** argv) {
    midflight::runtime running;
    if (midflight::reload(argv[1])) return 2;
    midflight::function<float(float, float)> numbers;
    midflight::method<int (sim::world::*)() const> size;
    const int several = numbers.bind("sim", "sim::scaled");
    if (several != RUNTIME_ERROR_INVALID_ARGUMENT) return 3;
    if (numbers.bind("sim", "sim::scaled(float, float)") || size.bind("sim", "sim::world::size")) return 4;
    sim::world world(3);
    midflight::frame here;
    return numbers(here, 4, 2) == 8 && size(here, world) == 3 ? 0 : 5;
}
"#;

#[test]
fn functions_of_cpp_by_their_types() {
    let session = stopped("program-types");
    let module = session.cpp("sim", 1, &format!("{SIM}{SIM_MODULE}"), &[]);
    for (host, options) in [(SIM_HOST, &[][..]), (SIM_PLAIN_HOST, &["-fno-exceptions", "-fno-rtti"])] {
        let text = format!("#include \"midflight.hpp\"\n{SIM}{host}");
        let options = [&["-std=c++17"], options].concat();
        let program = compile_of(&text, &session, "types.cpp", &options, &[&library("a")]);
        let output = command(&program).arg(&module).output().unwrap();
        let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
        assert_eq!((&*said[0], &*said[1], output.status.code()), ("", "", Some(0)), "{options:?}");
    }
}

/// A host that was compiled before this library was: with the headers of then.
#[test]
fn a_program_of_earlier_headers() {
    let session = stopped("program-earlier");
    let shared = session.path("libmidflight.so.0");
    std::fs::copy(library("so"), &shared).unwrap();
    for earlier in earlier_headers() {
        let include = format!("-I{}", earlier.display());
        for (file, standard) in [("program.c", "-std=c11"), ("program.cpp", "-std=c++17")] {
            for library in [&shared, &library("a")] {
                run(&compile(&session, file, &[standard, &include], &[library]), &session);
            }
        }
    }
}

#[test]
fn constructors_get_the_programs_arguments() {
    let session = stopped("program-arguments");
    let shared = session.path("libmidflight.so.0");
    std::fs::copy(library("so"), &shared).unwrap();
    let module = session.module("given", 1, GIVEN);
    for (file, library) in [("static.c", library("a")), ("shared.c", shared)] {
        let program = compile_of(PRINTS, &session, file, &["-std=gnu11"], &[&library]);
        let output = command(&program).arg("whatever").arg(&module).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "3 of whateve\n", "{file}");
        assert!(output.status.success());
    }
}

/// Watches a file that is replaced by another version, and then by what is none.
const WATCHING: &str = r#"
#include "runtime_api.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void on_error(const char* module_path, int error_code, const char* message) { (void)module_path; (void)error_code; (void)message; }
static void on_complete(const char* module_path, bool success, double duration_ms) { (void)module_path; (void)success; (void)duration_ms; }

static void replace(const char* path, const char* by) {
    char beside[4096], block[4096];
    size_t length;
    snprintf(beside, sizeof beside, "%s.new", path);
    FILE *from = fopen(by, "rb"), *to = fopen(beside, "wb");
    while ((length = fread(block, 1, sizeof block, from))) fwrite(block, 1, length, to);
    fclose(from);
    fclose(to);
    rename(beside, path);
}

int main(int argc, char** argv) {
    hot_reload_config_t config;
    hot_reload_stats_t stats;
    memset(&config, 0, sizeof config);
    if (argc != 5 || runtime_init(NULL)) return 1;
    if (strstr(argv[1], "error")) config.error_callback = on_error;
    if (strstr(argv[1], "complete")) config.complete_callback = on_complete;
    if (hot_reload_watch(argv[2], strcmp(argv[1], "default") ? &config : NULL) || hot_reload_module(argv[2], NULL)) return 2;
    for (unsigned step = 0; step < 2; step++) {
        unsigned waited = 0;
        replace(argv[2], argv[3 + step]);
        do {
            usleep(10000);
            if (hot_reload_get_statistics(&stats)) return 3;
        } while (stats.successful_reloads + stats.failed_reloads < 2 + step && waited++ < 2000);
    }
    return runtime_shutdown();
}
"#;

#[test]
fn a_watch_without_callbacks_says_on_stderr_what_happens() {
    let session = stopped("program-watch");
    let program = compile_of(WATCHING, &session, "watching.c", &["-std=gnu11"], &[&library("a")]);
    let versions = [41, 42].map(|n| session.module("answer", n, &returns(n as i32)));
    let garbage = session.file("garbage", b"no module at all");
    for (how, new_version, failure) in [
        ("default", true, true),
        ("zeroed", true, true),
        ("complete", false, true),
        ("error", false, false),
        ("error and complete", false, false),
    ] {
        let watched = session.file("watched.so", &std::fs::read(&versions[0]).unwrap());
        let result = command(&program).arg(how).args([&watched, &versions[1], &garbage]).output().unwrap();
        let said = String::from_utf8_lossy(&result.stderr);
        assert_eq!(result.status.code(), Some(0), "{how}: {said}");
        assert_eq!(
            said.contains("watched.so was loaded: answer 2, from generation "),
            new_version,
            "{how}: {said}"
        );
        assert_eq!(said.contains("watched.so was not loaded: "), failure, "{how}: {said}");
        assert_eq!(said.lines().count(), usize::from(new_version) + usize::from(failure), "{how}: {said}");
    }
}

/// Keeps the address that a module gives, over a reload, and calls it.
const KEEPING: &str = r#"
#include "runtime_api.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void* had;

static void on_fault(int number) {
    char text[512];
    (void)number;
    if (runtime_explain_address(had, text, sizeof text) && write(2, text, strlen(text)) > 0) _exit(7);
    _exit(8);
}

int main(int argc, char** argv) {
    void* address;
    void* (*gives)(void);
    int (*kept)(void);
    runtime_frame_t frame;
    if (argc != 4 || runtime_report_stale_calls(true) != RUNTIME_ERROR_NOT_INITIALIZED) return 1;
    if (runtime_init(NULL) || hot_reload_module(argv[2], NULL) || hot_reload_frame_symbol("gives", "gives", &address)) return 2;
    if (!strcmp(argv[1], "silent") && runtime_report_stale_calls(false)) return 3;
    if (!strcmp(argv[1], "retained") && hot_reload_retain("gives")) return 4;
    memcpy(&gives, &address, sizeof gives);
    runtime_frame_begin(&frame);
    had = gives();
    runtime_frame_end(&frame);
    if (hot_reload_module(argv[3], NULL) || runtime_gc_collect()) return 5;
    if (!strcmp(argv[1], "asks")) {
        static const int faults[] = {SIGILL, SIGTRAP, SIGSEGV, SIGBUS};
        for (unsigned i = 0; i < 4; i++) signal(faults[i], on_fault);
    }
    memcpy(&kept, &had, sizeof kept);
    return 10 + kept();
}
"#;

#[test]
fn an_address_that_is_kept_over_a_reload() {
    let session = stopped("program-keeping");
    let program = compile_of(KEEPING, &session, "keeping.c", &["-std=gnu11"], &[&library("a")]);
    let source = |n| format!("int kept(void) {{ return {n}; }} void *gives(void) {{ return (void *)kept; }}");
    let versions = [1, 2].map(|n| session.module("gives", n, &source(n)));
    let run = |how| {
        let result = command(&program).arg(how).args(&versions).output().unwrap();
        (result.status, String::from_utf8_lossy(&result.stderr).into_owned())
    };
    let what = "code of `kept` (+0x0) in gives version 1 (";
    let faults = [libc::SIGILL, libc::SIGTRAP, libc::SIGSEGV, libc::SIGBUS].map(Some);

    let (status, told) = run("reported");
    assert!(faults.contains(&status.signal()), "{status:?}: {told}");
    assert!(told.starts_with("midflight: stale call by thread ") && told.contains(what), "{told}");
    assert!(told.contains("hot_reload_symbol()") && told.contains("hot_reload_retain()"), "{told}");

    let (status, told) = run("silent");
    assert!(faults.contains(&status.signal()) && !told.contains("midflight: "), "{status:?}: {told}");

    let (status, told) = run("asks");
    assert_eq!(status.code(), Some(7), "{told}");
    assert!(told.starts_with("0x") && told.contains(what), "{told}");

    let (status, told) = run("retained");
    assert_eq!((status.code(), &*told), (Some(11), ""));
}

/// What frames are not for, each by its name.
const CARELESS: &str = r#"
#include "runtime_api.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static int (*value)(void);
static runtime_frame_t frames[100];
static int code;

static void* calls(void* unused) { value(); return unused; }
static void* ends(void* frame) { code = runtime_frame_end(frame); return frame; }
static void* joins(void* frame) {
    runtime_frame_t mine;
    code = runtime_frame_join(&mine, frame);
    if (!code && value() == 41) code = runtime_frame_end(&mine);
    return NULL;
}
static void on(void* (*run)(void*), void* what) {
    pthread_t thread;
    pthread_create(&thread, NULL, run, what);
    pthread_join(thread, NULL);
}

static void logs(log_level_t level, const char* target, const char* message, void* unused) {
    (void)unused;
    if (level == LOG_LEVEL_WARN) printf("%s: %s\n", target, message);
}

int main(int argc, char** argv) {
    void* address;
    if (argc != 4) return 1;
    if (strstr(argv[1], "logged")) runtime_set_log_callback(logs, LOG_LEVEL_WARN, NULL);
    if (strstr(argv[1], "asked")) runtime_check_frames(strstr(argv[1], "not") == NULL);
    if (runtime_init(&(runtime_config_t){.hot_reload_threads = 1, .log_level = LOG_LEVEL_DEFAULT})) return 2;
    if (hot_reload_module(argv[2], NULL) || hot_reload_frame_symbol("answer", "value", &address)) return 2;
    memcpy(&value, &address, sizeof value);
    if (strstr(argv[1], "outside")) on(calls, NULL);
    if (runtime_frame_begin(&frames[0]) || value() != 41) return 3;
    if (strstr(argv[1], "join")) { on(joins, &frames[0]); return code; }
    if (strstr(argv[1], "thread")) { on(ends, &frames[0]); return code == RUNTIME_ERROR_WRONG_FRAME && !runtime_frame_end(&frames[0]) ? 0 : 4; }
    if (strstr(argv[1], "twice")) {
        if (runtime_frame_begin(&frames[0]) != RUNTIME_ERROR_WRONG_FRAME || !strstr(runtime_last_error(), "is open")) return 5;
        return runtime_frame_end(&frames[0]) || runtime_frame_begin(&frames[0]) || runtime_frame_end(&frames[0]);
    }
    if (strstr(argv[1], "overwritten")) {
        memset(&frames[0], 0, sizeof frames[0]);
        return runtime_frame_begin(&frames[0]) || runtime_frame_end(&frames[0]);
    }
    if (strstr(argv[1], "deep")) {
        for (int i = 1; i < 100; i++) if (runtime_frame_begin(&frames[i])) return 6;
        return 0;
    }
    if (strstr(argv[1], "forgotten")) {
        if (hot_reload_module(argv[3], NULL) || value() != 41) return 7;
        return runtime_shutdown();
    }
    return runtime_frame_end(&frames[0]) || runtime_shutdown();
}
"#;

#[test]
fn careless_use_of_frames_is_reported_in_checked_mode() {
    let session = stopped("program-careless");
    let versions = [41, 42].map(|n| session.module("answer", n, &returns(n as i32)));
    let program = |name: &str, arguments: &[&str]| {
        compile_of(CARELESS, &session, name, &[&["-std=gnu11"], arguments].concat(), &[&library("a")])
    };
    let [debug, optimised, released] = [
        program("debug.c", &["-O0"]),
        program("optimised.c", &["-O1"]),
        program("released.c", &["-O0", "-DNDEBUG"]),
    ];
    let run = |program: &Path, how: &str, checks: &str| {
        let mut command = command(program);
        command.env("MIDFLIGHT_CHECKS", checks).arg(how).args(&versions);
        let result = command.output().unwrap();
        (result.status, String::from_utf8_lossy(&result.stderr).into_owned())
    };
    let reports: [(&str, &[&str]); 7] = [
        ("nothing", &[]),
        ("join", &[]),
        ("thread", &["` was to end a frame that thread ", "` has open"]),
        ("twice", &["a frame was begun that is open: thread ", " s ago and has not ended it"]),
        ("overwritten", &["was not ended before its memory was used again"]),
        ("deep", &["and has 64 frames open, one in another"]),
        ("forgotten", &["is inside a frame of generation 2, which was replaced 0.", "answer version 1"]),
    ];
    for (how, expected) in reports {
        let (status, told) = run(&debug, how, "");
        assert_eq!(status.code(), Some(0), "{how}: {told}");
        assert!(expected.iter().all(|part| told.contains(part)), "{how}: {told}");
        assert_eq!(told.lines().count(), usize::from(!expected.is_empty()), "{how}: {told}");
    }
    let (status, told) = run(&debug, "outside", "");
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{told}");
    assert!(
        told.contains("`value` of `answer` was called outside a frame (hot_reload_frame_symbol), by thread "),
        "{told}"
    );

    for (program, how, checks, checked) in [
        (&optimised, "outside", "", false),
        (&released, "outside", "", false),
        (&debug, "outside, not asked for", "", false),
        (&debug, "outside", "off", false),
        (&optimised, "outside, asked for", "", true),
        (&released, "outside", "on", true),
        (&debug, "outside, not asked for", "on", true),
    ] {
        let (status, told) = run(program, how, checks);
        let expected = (Some(0), None, false);
        let expected = if checked { (None, Some(libc::SIGABRT), true) } else { expected };
        assert_eq!(
            (status.code(), status.signal(), told.contains("outside a frame")),
            expected,
            "{how} {checks}: {told}"
        );
    }
    // With longest-frame, the second begin is a look.
    let (status, told) = run(&debug, "deep", "longest-frame=0");
    assert!(status.success() && told.contains("and has 2 frames open, one in another"), "{told}");
    let result = command(&debug).arg("thread, logged").args(&versions).output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&result.stdout), String::from_utf8_lossy(&result.stderr));
    assert!(
        said.starts_with("midflight::checks: thread ") && said.contains("` was to end a frame that"),
        "{said}{told}"
    );
    assert!(result.status.success() && told.is_empty(), "{told}");
    let (status, told) = run(&optimised, "twice", "");
    assert_eq!((status.code(), &*told), (Some(5), ""));
}

/// By name, by its global name, by its address, and by the header for C++.
#[test]
fn cpp_starts_a_debug_build_in_every_form() {
    let session = stopped("program-forms");
    let program = r#"
#include "midflight.hpp"
int main() {
    int (*const start)(const runtime_config_t*) = &::runtime_init;
    if (::runtime_init(nullptr) || runtime_init(nullptr) || start(nullptr)) return 1;
    midflight::runtime runtime;
    return start == CALLED ? 0 : 2;
}
"#;
    for (optimisation, called) in [("-O0", "runtime_init_debug"), ("-O2", "runtime_init")] {
        let called = format!("-DCALLED={called}");
        let arguments = ["-std=c++17", optimisation, &called];
        let program = compile_of(program, &session, "forms.cpp", &arguments, &[&library("a")]);
        assert_eq!(command(&program).status().unwrap().code(), Some(0), "{optimisation}");
    }
}

/// One error that says what to do, and no others.
#[test]
fn the_header_for_cpp_says_which_cpp_it_needs() {
    let session = stopped("program-old-cpp");
    let source = session.file("old.cpp", b"#include \"midflight.hpp\"\nint main() {}\n");
    for (standard, accepted) in [("c++11", false), ("c++14", false), ("c++17", true), ("c++20", true)] {
        let mut compiler = host_compiler(std::env::consts::ARCH, true);
        compiler.args(["-Wall", "-Werror", "-fsyntax-only", &format!("-std={standard}"), "-I"]);
        let result = compiler.arg(include()).arg(&source).output().expect("scripts/setup installs it");
        let said = String::from_utf8_lossy(&result.stderr);
        assert_eq!(result.status.success(), accepted, "{standard}: {said}");
        if !accepted {
            assert!(
                said.contains("needs C++17") && said.matches("error:").count() == 1,
                "{standard}: {said}"
            );
        }
    }
}
