//! Programs in C and C++, against the headers and the libraries.

mod support;

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
    let output = command(&program).args([module(1), module(2)]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let expected: String = [2, 1, 2, 1].map(|n| format!("1 open, version {n}\n")).concat();
    assert_eq!((&*said, output.status.code()), (&*expected, Some(0)));
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
