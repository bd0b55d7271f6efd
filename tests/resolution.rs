//! What modules' symbols stand for: as ld.so has it, and where not, said in the log
//! (docs/modules.md). Of ELF.

#![cfg(target_os = "linux")]

mod support;

use std::ffi::c_int;
use std::path::{Path, PathBuf};

use midflight::{Error, ErrorKind, Runtime};
use support::linked::*;
use support::{DONE, Workshop, is_child};

/// The module `api`, whose function of this name has these versions, oldest first: each returns its
/// number.
fn api(shop: &Workshop, versions: &[u32]) -> PathBuf {
    api_with(shop, versions, "", &[])
}

fn api_with(shop: &Workshop, versions: &[u32], more: &str, arguments: &[&str]) -> PathBuf {
    let number = versions.iter().fold(0, |number, version| 10 * number + version);
    let (mut source, mut script, mut before) = (more.to_owned(), String::new(), String::new());
    for (at, version) in versions.iter().enumerate() {
        let sign = if at + 1 == versions.len() { "@@" } else { "@" };
        source += &format!(
            "__asm__(\".symver api{version},api{sign}API_{version}\");
             int api{version}(void) {{ return {version}; }}\n"
        );
        script += &format!("API_{version} {{ global: api; }} {before};\n");
        before = format!("API_{version}");
    }
    script += "HIDDEN { local: api?; };\n";
    let script = shop.file(&format!("api-{number}.map"), script.as_bytes());
    let script = format!("-Wl,--version-script={}", script.display());
    let arguments: Vec<_> = arguments.iter().map(|&argument| argument.into()).chain([script]).collect();
    module(shop, "api", number, &source, &arguments)
}

fn client(shop: &Workshop, name: &str, api: &Path) -> PathBuf {
    module(shop, name, 1, "int api(void); int answer(void) { return api(); }", &with(&[api]))
}

#[test]
fn who_was_linked_with_a_version_of_a_function_gets_that_one() {
    let (rt, shop, _turn) = start_logged("versions");
    let [one, two, three] = [&[1][..], &[1, 2], &[1, 2, 3]].map(|versions| api(&shop, versions));
    let [first, second, third] =
        [("first", &one), ("second", &two), ("third", &three)].map(|(name, api)| client(&shop, name, api));
    // One after the other.
    for module in [&two, &first, &second] {
        load(&rt, &[module]).unwrap();
    }
    assert_eq!(["first", "second"].map(|name| call(&rt, name, "answer")), [1, 2]);
    assert_eq!(["api", "api@API_1", "api@API_2"].map(|name| call(&rt, "api", name)), [2, 1, 2]);
    let error = load(&rt, &[&third]).unwrap_err();
    assert!(error.to_string().contains("api@API_3"), "{error}");
    assert!(matches!(error, Error::Unresolved { .. }), "{error:?}");
    assert!(error.to_string().contains("module `api` exports `api` in another version"), "{error}");
    // They stay with theirs, and those must stay.
    load(&rt, &[&three]).unwrap();
    load(&rt, &[&third]).unwrap();
    assert_eq!(["first", "second", "third"].map(|name| call(&rt, name, "answer")), [1, 2, 3]);
    assert_eq!(call(&rt, "api", "api"), 3);
    let error = load(&rt, &[&api(&shop, &[2, 3])]).unwrap_err();
    assert!(error.to_string().contains("api@API_1"), "{error}");
    // At once.
    rt.shutdown().unwrap();
    load(&rt, &[&first, &three, &third, &second]).unwrap();
    assert_eq!(["first", "second", "third"].map(|name| call(&rt, name, "answer")), [1, 2, 3]);
}

#[test]
fn a_module_without_versions_serves_who_was_linked_with_one() {
    let (rt, shop, _turn) = start_logged("no-versions");
    let first = client(&shop, "first", &api(&shop, &[1]));
    load(&rt, &[&shop.module("api", 1, "int api(void) { return 7; }"), &first]).unwrap();
    assert_eq!(call(&rt, "first", "answer"), 7);
    load(&rt, &[&api(&shop, &[1, 2])]).unwrap();
    assert_eq!(call(&rt, "first", "answer"), 1);
}

#[test]
fn versions_are_found_whatever_tables_a_module_has() {
    let (rt, shop, _turn) = start_logged("tables");
    let first = client(&shop, "first", &api(&shop, &[1]));
    // The address of this one only code says.
    let chosen = "static int seven(void) { return 7; } static void *choose(void) { return (void *)seven; }
                  int chosen(void) __attribute__((ifunc(\"choose\")));";
    for (more, argument) in [("", "-Wl,--hash-style=sysv"), (chosen, "-Wl,--hash-style=gnu")] {
        load(&rt, &[&api_with(&shop, &[1, 2], more, &[argument]), &first]).unwrap();
        assert_eq!(call(&rt, "first", "answer"), 1, "{argument}");
        assert_eq!(["api", "api@API_1", "api@API_2"].map(|name| call(&rt, "api", name)), [2, 1, 2]);
        assert!(rt.frame_symbol("api", "api@API_3").is_err());
    }
    // Nor that of one which is only found by its version.
    let old = "__asm__(\".symver api0,chosen@API_1\");
               static int seven(void) { return 7; } static void *choose(void) { return (void *)seven; }
               int api0(void) __attribute__((ifunc(\"choose\")));";
    for argument in ["-Wl,--hash-style=sysv", "-Wl,--hash-style=gnu"] {
        load(&rt, &[&api_with(&shop, &[1, 2], old, &[argument]), &first]).unwrap();
        assert_eq!(["api", "chosen@API_1"].map(|name| call(&rt, "api", name)), [2, 7], "{argument}");
    }
}

/// A header that the host and modules include: `VERSION` is who includes it. The functions' names
/// say whose they are, since the tests of this file may share a process.
fn world(test: &str) -> String {
    format!(
        r#"
        #include <vector>
        namespace {test} {{
        struct World {{ std::vector<int> entities; int ticks = 0; World() {{ made()++; }} static int &made() {{ static int n; return n; }} }};
        inline World &world() {{ static World one; return one; }}
        inline int tick = 0;
        inline const int limit = VERSION;
        inline thread_local int mine = 0;
        template <class T> struct Pool {{ static T all; }};
        template <class T> T Pool<T>::all{{}};
        inline int version() {{ return VERSION; }}
        struct Shape {{ virtual int version() const {{ return VERSION; }} virtual ~Shape() {{}} }};
        __attribute__((noinline)) inline const Shape *shape() {{ static Shape one; return new Shape(one); }}
        }}
        extern "C" int {test}_sees(void) {{ return {test}::world().entities.size(); }}
        extern "C" int {test}_ticks(void) {{ return 100 * ++{test}::tick + ++{test}::world().ticks; }}
        extern "C" int {test}_made(void) {{ return {test}::World::made(); }}
        extern "C" int {test}_mine(void) {{ return ++{test}::mine; }}
        extern "C" int {test}_pool(void) {{ return ++{test}::Pool<int>::all; }}
        extern "C" int {test}_code(void) {{
            auto pointer = {test}::version;
            asm volatile("" : "+r"(pointer));
            auto limit = &{test}::limit;
            asm volatile("" : "+r"(limit));
            return 10000 * *limit + 100 * pointer() + {test}::shape()->version();
        }}
        "#
    )
}

/// Checks a module `plugin` that shares what the host has of [`world`]'s header.
fn check_plugin(rt: &Runtime, test: &str, version: c_int, before: c_int) {
    let of = |function: &str| call(rt, "plugin", &format!("{test}_{function}"));
    assert_eq!(of("sees"), 3);
    assert_eq!((of("ticks"), of("pool")), (101 * before, before));
    // Thread-local variables are the version's, since their destructors are.
    assert_eq!(of("mine"), 1);
    assert_eq!(of("made"), 1);
    // Code and constants are its own.
    assert_eq!(of("code"), 10101 * version);
}

#[test]
fn inline_variables_of_the_host_are_the_modules_too_and_code_is_not() {
    let (rt, shop, _turn) = start_logged("inline");
    let fills =
        r#"__attribute__((constructor)) static void fill() { inlined::world().entities = {1, 2, 3}; }"#;
    host(&shop.cpp("inline_host", 1, &format!("{}{fills}", world("inlined")), &["-DVERSION=1"]));
    for version in 2..=4 {
        let arguments: [&[&str]; 2] = [&["-DVERSION=2", "-Wl,-z,norelro"], &["-DVERSION=3"]];
        match version {
            4 => {
                let object = shop.object("plugin.cpp", &world("inlined"), &["-DVERSION=4", "-fPIC", "-O2"]);
                load(&rt, &[&object]).unwrap();
            }
            _ => {
                let arguments = arguments[version as usize - 2];
                load(&rt, &[&shop.cpp("plugin", version as u32, &world("inlined"), arguments)]).unwrap();
            }
        }
        check_plugin(&rt, "inlined", version, version - 1);
    }
}

#[test]
fn inline_variables_of_a_needed_library_are_the_modules_too() {
    let (rt, shop, _turn) = start_logged("inline-library");
    let fills = r#"extern "C" void library_fill() { needed::world().entities = {1, 2, 3}; }"#;
    let library = shop.cpp("inline_library", 1, &format!("{}{fills}", world("needed")), &["-DVERSION=1"]);
    let uses = r#"extern "C" void library_fill(); __attribute__((constructor)) static void fill() { library_fill(); }"#;
    let arguments = with(&[&library]);
    let mut arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    arguments.push("-DVERSION=2");
    load(&rt, &[&shop.cpp("plugin", 1, &format!("{}{uses}", world("needed")), &arguments)]).unwrap();
    check_plugin(&rt, "needed", 2, 1);
}

/// A variable with a destructor that says so.
const ENDING: &str = r#"
    #include <cstdio>
    struct Ending { int value; Ending() : value(7) {} ~Ending() { value = 0; std::puts(DONE); } };
    inline Ending &ending() { static Ending one; return one; }
    extern "C" int NAME() { return ending().value; }
"#;

/// Has a module make a variable that the host has, and tells what the host sees when the module is
/// gone.
fn made_by_a_module(host_arguments: &[&str]) -> (Runtime, c_int) {
    let (rt, shop, _turn) = start_logged("made");
    let done = format!("-DDONE=\"{DONE}\"");
    let hosts: Vec<_> = host_arguments.iter().copied().chain([&*done, "-DNAME=host_ending"]).collect();
    let host_library = shop.cpp("ending_host", 1, ENDING, &hosts);
    host(&host_library);
    load(&rt, &[&shop.cpp("plugin", 1, ENDING, &[&done, "-DNAME=plugin_ending"])]).unwrap();
    assert_eq!(call(&rt, "plugin", "plugin_ending"), 7);
    rt.unload("plugin").unwrap();
    assert_eq!(rt.collect().unwrap().old_bytes, 0);
    // SAFETY: the function is there, and has this type.
    let seen: extern "C" fn() -> c_int =
        unsafe { std::mem::transmute(libc::dlsym(libc::RTLD_DEFAULT, c"host_ending".as_ptr())) };
    (rt, seen())
}

/// It ends when the process does, which tells that it has.
#[test]
fn a_variable_of_the_host_outlives_the_module_that_made_it() {
    if !is_child("a_variable_of_the_host_outlives_the_module_that_made_it") {
        return;
    }
    let (_, seen) = made_by_a_module(&[]);
    assert_eq!((seen, warned(&[])), (7, 0));
}

#[test]
fn a_variable_of_the_host_whose_destructor_only_a_module_has_is_not_ended() {
    if !is_child("a_variable_of_the_host_whose_destructor_only_a_module_has_is_not_ended") {
        return;
    }
    let (_, seen) = made_by_a_module(&["-fvisibility-inlines-hidden"]);
    assert_eq!((seen, warned(&["_ZN6EndingD1Ev", "destructor"])), (7, 1));
    println!("{DONE}");
}

#[test]
fn an_inline_variable_that_has_grown_is_refused_by_name() {
    let (rt, shop, _turn) = start_logged("grown");
    let source = |size: u32| {
        format!(
            "struct Grown {{ int a[{size}]; }}; inline Grown grown; extern \"C\" int *f() {{ return grown.a; }}"
        )
    };
    host(&shop.cpp("grown_host", 1, &source(4), &[]));
    let object = shop.object("plugin.cpp", &source(5), &["-fPIC"]);
    for module in [&shop.cpp("plugin", 1, &source(5), &[]), &object] {
        let error = load(&rt, &[module]).unwrap_err();
        let Error::AnotherSize { symbol, sizes: [16, 20], .. } = &error else { panic!("{error}") };
        assert_eq!((&**symbol, error.kind()), ("grown", ErrorKind::Incompatible));
    }
    load(&rt, &[&shop.cpp("plugin", 2, &source(4), &[])]).unwrap();
}

#[test]
fn that_two_modules_have_each_an_inline_variable_of_their_own_is_said() {
    let (rt, shop, _turn) = start_logged("twins");
    let modules = ["one", "two"].map(|name| {
        shop.cpp(name, 1, &format!("inline int twin; extern \"C\" int {name}_f() {{ return ++twin; }}"), &[])
    });
    load(&rt, &[&modules[0]]).unwrap();
    assert_eq!(warned(&[]), 0);
    load(&rt, &[&modules[1]]).unwrap();
    assert_eq!(warned(&["\"two\"", "`twin`", "\"one\""]), 1);
    assert_eq!([call(&rt, "one", "one_f"), call(&rt, "two", "two_f")], [1, 1]);
}

/// A module that counts the pointers which its `delete` gets and its `new` has not made, and the
/// reverse.
const ALLOCATING: &str = r#"
    #include <cstdlib>
    #include <new>
    #include <string>
    static long own, foreign;
    static const size_t MARK = 0x6d696466;
    void *operator new(size_t size) {
        size_t *block = (size_t *)malloc(size + 16);
        block[0] = MARK;
        own++;
        return block + 2;
    }
    void operator delete(void *pointer) noexcept {
        if (!pointer) return;
        size_t *block = (size_t *)pointer - 2;
        if (block[0] != MARK) { foreign++; return; }
        own--;
        free(block);
    }
    void operator delete(void *pointer, size_t) noexcept { operator delete(pointer); }
    extern "C" int answer() {
        {
            std::string text("0123456789abcdef");
            for (int n = 0; n < 200; n++) text.append("x");
            int *array = new int[100];
            asm volatile("" : "+r"(array));
            delete[] array;
        }
        return foreign * 1000 + own;
    }
"#;

#[test]
fn what_a_module_allocates_comes_from_the_process_if_a_library_does_so_too() {
    let (rt, shop, _turn) = start_logged("allocators");
    load(&rt, &[&shop.cpp("allocating", 1, ALLOCATING, &[])]).unwrap();
    assert_eq!(call(&rt, "allocating", "answer"), 0);
    let object = shop.object("allocating.cpp", ALLOCATING, &["-fPIC", "-O2"]);
    let source = midflight::Source::from(object).needs("libstdc++.so.6");
    // SAFETY: as declared.
    unsafe { rt.load(source) }.unwrap();
    assert_eq!(call(&rt, "allocating", "answer"), 0);
}

#[test]
fn an_allocator_that_nobody_else_has_is_the_modules() {
    let (rt, shop, _turn) = start_logged("own-allocator");
    let source = r#"
        static int calls;
        void *cfree(void *p) { calls++; return p; }
        int answer(void) { void *(*volatile f)(void *) = cfree; f(0); return calls; }
    "#;
    load(&rt, &[&shop.module("own", 1, source)]).unwrap();
    assert_eq!(call(&rt, "own", "answer"), 1);
}

#[test]
fn what_chooses_a_function_may_call_other_modules() {
    let (rt, shop, _turn) = start_logged("choosers");
    let choice = "int choice(void) { return 1; }";
    // It goes on to a third one.
    let through = "int choice(void); int asked(void) { return choice(); } int also(void) { return 1; }";
    let chooser = r#"
        int asked(void), also(void);
        static int one(void) { return 42; }
        static int other(void) { return 7; }
        static void *choose(void) { return asked() && also() ? (void *)one : (void *)other; }
        int work(void) __attribute__((ifunc("choose")));
        static int (*pointer)(void) = work;
        int answer(void) { return work() == pointer() ? work() : -1; }
    "#;
    let [first, second, third] = [("choice", choice), ("through", through), ("chooser", chooser)]
        .map(|(name, source)| shop.module(name, 1, source));
    let answers = || ["answer", "work"].map(|function| call(&rt, "chooser", function));
    // One after the other.
    for module in [&first, &second, &third] {
        load(&rt, &[module]).unwrap();
    }
    assert_eq!(answers(), [42, 42]);
    // What is new answers, not what it replaces.
    let changed = shop.module("choice", 2, "int choice(void) { return 0; }");
    load(&rt, &[&third, &second, &changed]).unwrap();
    assert_eq!(answers(), [7, 7]);
    // At once, in any order, and as an object file.
    rt.shutdown().unwrap();
    let object = shop.object("chooser.c", chooser, &["-fPIC", "-O2"]);
    load(&rt, &[&object, &second, &first]).unwrap();
    assert_eq!(answers(), [42, 42]);
}

/// Registers that a trampoline may change; the calling conventions of the platform leave them to
/// linkers.
const TRAMPOLINES_OWN: &[&str] = if cfg!(target_arch = "x86_64") { &["r11"] } else { &["x16", "x17"] };

#[test]
fn a_call_between_modules_keeps_every_register_but_those_of_linkers() {
    let (rt, shop, _turn) = start_logged("registers");
    let names: Vec<String> = if cfg!(target_arch = "x86_64") {
        ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp"]
            .map(String::from)
            .into_iter()
            .chain((8..16).map(|n| format!("r{n}")))
            .collect()
    } else {
        (0..30).map(|n| format!("x{n}")).collect()
    };
    let (mut set, mut note) = (String::new(), String::new());
    for (at, name) in names.iter().enumerate() {
        let value = 1000 + at;
        if cfg!(target_arch = "x86_64") {
            set += &format!("mov ${value}, %{name}\n");
            note += &format!("mov %{name}, seen+{}(%rip)\n", 8 * at);
        } else {
            set += &format!("mov {name}, #{value}\n");
            // The stack is nobody's below.
            note += &format!("str {name}, [sp, #-{}]\n", 8 * (at + 1));
        }
    }
    let (vectors, scalars) = if cfg!(target_arch = "x86_64") {
        let vectors: String = (0..16).map(|n| format!("movq %rax, %xmm{n}\n")).collect();
        let noted: String = (0..16).map(|n| format!("movq %xmm{n}, vectors+{}(%rip)\n", 8 * n)).collect();
        (format!("mov $77, %eax\n{vectors}"), noted)
    } else {
        let vectors: String = (0..32).map(|n| format!("fmov d{n}, x0\n")).collect();
        let noted: String = (0..32).map(|n| format!("str d{n}, [x1, #{}]\n", 8 * n)).collect();
        (format!("mov x0, #77\n{vectors}"), noted)
    };
    let probe = if cfg!(target_arch = "x86_64") {
        format!("{note}{scalars} ret")
    } else {
        let copy: String = (0..30)
            .map(|at| format!("ldr x2, [sp, #-{}]\nstr x2, [x1, #{}]\n", 8 * (at + 1), 8 * at))
            .collect();
        format!(
            "{note} adrp x1, seen\n add x1, x1, :lo12:seen\n {copy}
             adrp x1, vectors\n add x1, x1, :lo12:vectors\n {scalars} ret"
        )
    };
    let lines = |text: &str| text.lines().map(|line| format!("\"{}\\n\"\n", line.trim())).collect::<String>();
    let callee = format!(
        "__attribute__((visibility(\"hidden\"))) long seen[32], vectors[32];
         __asm__(\".text\\n.globl probe\\n.type probe, %function\\nprobe:\\n\" {} \".size probe, . - probe\\n\");
         int wrong(int at) {{ return seen[at] != 1000 + at; }}
         int wrong_vector(int at) {{ return vectors[at] != 77; }}",
        lines(&probe)
    );
    let (save, restore) = if cfg!(target_arch = "x86_64") {
        let kept = ["rbx", "rbp", "r12", "r13", "r14", "r15"];
        let save: String = kept.iter().map(|name| format!("push %{name}\n")).collect();
        let restore: String = kept.iter().rev().map(|name| format!("pop %{name}\n")).collect();
        (format!("{save} sub $8, %rsp\n"), format!("call probe@PLT\n add $8, %rsp\n {restore} ret"))
    } else {
        let pairs = [(19, 20), (21, 22), (23, 24), (25, 26), (27, 28), (29, 30)];
        let save: String = pairs.iter().map(|(a, b)| format!("stp x{a}, x{b}, [sp, #-16]!\n")).collect();
        let restore: String =
            pairs.iter().rev().map(|(a, b)| format!("ldp x{a}, x{b}, [sp], #16\n")).collect();
        let vectors = "stp d8, d9, [sp, #-16]!\nstp d10, d11, [sp, #-16]!\nstp d12, d13, [sp, #-16]!\n\
                       stp d14, d15, [sp, #-16]!\n";
        let back = "ldp d14, d15, [sp], #16\nldp d12, d13, [sp], #16\nldp d10, d11, [sp], #16\nldp d8, d9, [sp], #16\n";
        (format!("{save}{vectors}"), format!("bl probe\n {back}{restore} ret"))
    };
    let caller = format!(
        "__asm__(\".text\\n.globl run\\n.type run, %function\\nrun:\\n\" {} \".size run, . - run\\n\");",
        lines(&format!("{save}{vectors}{set}{restore}"))
    );
    load(&rt, &[&shop.module("callee", 1, &callee), &shop.module("caller", 1, &caller)]).unwrap();
    call(&rt, "caller", "run");
    let wrong = |function: &str, at: usize| {
        let address = rt.frame_symbol("callee", function).unwrap();
        // SAFETY: as declared, in a frame.
        let function: extern "C" fn(c_int) -> c_int = unsafe { std::mem::transmute(address.as_ptr()) };
        let frame = rt.frame();
        let answer = function(at as c_int);
        drop(frame);
        answer != 0
    };
    let changed: Vec<&str> =
        (0..names.len()).filter(|at| wrong("wrong", *at)).map(|at| names[at].as_str()).collect();
    assert!(changed.iter().all(|name| TRAMPOLINES_OWN.contains(name)), "{changed:?}");
    let vectors = if cfg!(target_arch = "x86_64") { 16 } else { 32 };
    assert!((0..vectors).all(|at| !wrong("wrong_vector", at)));
}

#[test]
fn that_a_functions_address_is_another_in_its_own_module_is_said() {
    let (rt, shop, _turn) = start_logged("addresses");
    let signals = "void on_tick(void) {} int is_it(void (*f)(void)) { return f == on_tick; }";
    let user = "void on_tick(void); int is_it(void (*)(void)); int answer(void) { return is_it(on_tick); }";
    let calls = "void on_tick(void); int calls(void) { on_tick(); return 1; }";
    // The calls of some compilers look alike.
    let plt = ["-fplt".to_owned()];
    let calls = module(&shop, "calls", 1, calls, if cfg!(target_arch = "x86_64") { &plt } else { &[] });
    load(&rt, &[&shop.module("signals", 1, signals), &calls]).unwrap();
    assert_eq!(said("INFO", &["`on_tick`"]), 0);
    for (name, path) in
        [("user", shop.module("user", 1, user)), ("other", shop.object("other.c", user, &["-fPIC"]))]
    {
        load(&rt, &[&path]).unwrap();
        assert_eq!(call(&rt, name, "answer"), 0);
        assert_eq!(said("INFO", &["`on_tick`", "\"signals\"", &format!("{name:?}")]), 1);
        rt.unload(name).unwrap();
    }
}
