//! What modules' symbols stand for: as ld.so has it, and where not, said in the log. Of ELF.

mod support;

use std::ffi::{CString, c_int};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use midflight::{Error, ImageError, Runtime};
use support::Workshop;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The warnings so far, a line each.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            line += &format!("{}={value:?} ", field.name());
        });
        warnings().push(line);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn warnings() -> MutexGuard<'static, Vec<String>> {
    WARNINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The warnings since this was asked last that have all these words.
fn warned(words: &[&str]) -> usize {
    let said = std::mem::take(&mut *warnings());
    said.iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

/// The runtime with nothing loaded, and the log listened to.
fn start(name: &str) -> (Runtime, Workshop, MutexGuard<'static, ()>) {
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| tracing::subscriber::set_global_default(Log).unwrap());
    let (rt, shop, turn) = support::start(name);
    rt.shutdown().unwrap();
    warnings().clear();
    (rt, shop, turn)
}

fn load(rt: &Runtime, paths: &[&PathBuf]) -> Result<(), Error> {
    // SAFETY: the functions of the tests' modules are as they are called.
    unsafe { rt.load_all(paths) }.map(drop)
}

/// Loads a library for all to see, as the host's own symbols are.
fn host(library: &Path) {
    let path = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: the test's own library.
    assert!(!unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) }.is_null());
}

/// Calls a function of a module without arguments.
fn call(rt: &Runtime, module: &str, function: &str) -> c_int {
    let address = rt.frame_symbol(module, function).unwrap();
    let frame = rt.frame();
    // SAFETY: as declared, in a frame.
    let function: extern "C" fn() -> c_int = unsafe { std::mem::transmute(address.as_ptr()) };
    let answer = function();
    drop(frame);
    answer
}

/// The linker's arguments for who is linked with these libraries, and finds them where they are.
fn with(libraries: &[&Path]) -> Vec<String> {
    let mut arguments = vec!["-Wl,--no-as-needed".to_owned()];
    for library in libraries {
        let folder = library.parent().unwrap().display();
        arguments.extend([library.display().to_string(), format!("-Wl,-rpath,{folder}")]);
    }
    arguments
}

/// A module in C, with more arguments.
fn module(shop: &Workshop, name: &str, version: u32, source: &str, arguments: &[String]) -> PathBuf {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    shop.module_for(std::env::consts::ARCH, name, version, source, &arguments)
}

/// The module `api`, whose function of this name has these versions, oldest first: each returns its number.
fn api(shop: &Workshop, versions: &[u32]) -> PathBuf {
    let number = versions.iter().fold(0, |number, version| 10 * number + version);
    let (mut source, mut script, mut before) = (String::new(), String::new(), String::new());
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
    module(shop, "api", number, &source, &[format!("-Wl,--version-script={}", script.display())])
}

fn client(shop: &Workshop, name: &str, api: &Path) -> PathBuf {
    module(shop, name, 1, "int api(void); int answer(void) { return api(); }", &with(&[api]))
}

#[test]
fn who_was_linked_with_a_version_of_a_function_gets_that_one() {
    let (rt, shop, _turn) = start("versions");
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
    assert!(matches!(error, Error::Image { source: ImageError::UnresolvedImport { .. }, .. }), "{error:?}");
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
    let (rt, shop, _turn) = start("no-versions");
    let first = client(&shop, "first", &api(&shop, &[1]));
    load(&rt, &[&shop.module("api", 1, "int api(void) { return 7; }"), &first]).unwrap();
    assert_eq!(call(&rt, "first", "answer"), 7);
    load(&rt, &[&api(&shop, &[1, 2])]).unwrap();
    assert_eq!(call(&rt, "first", "answer"), 1);
}

/// A header that the host and modules include: `VERSION` is who includes it. The functions' names say whose they are, since the tests of
/// this file may share a process.
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
    assert_eq!((of("ticks"), of("mine"), of("pool")), (101 * before, before, before));
    assert_eq!(of("made"), 1);
    // Code and constants are its own.
    assert_eq!(of("code"), 10101 * version);
}

#[test]
fn inline_variables_of_the_host_are_the_modules_too_and_code_is_not() {
    let (rt, shop, _turn) = start("inline");
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
    let (rt, shop, _turn) = start("inline-library");
    let fills = r#"extern "C" void library_fill() { needed::world().entities = {1, 2, 3}; }"#;
    let library = shop.cpp("inline_library", 1, &format!("{}{fills}", world("needed")), &["-DVERSION=1"]);
    let uses = r#"extern "C" void library_fill(); __attribute__((constructor)) static void fill() { library_fill(); }"#;
    let arguments = with(&[&library]);
    let mut arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    arguments.push("-DVERSION=2");
    load(&rt, &[&shop.cpp("plugin", 1, &format!("{}{uses}", world("needed")), &arguments)]).unwrap();
    check_plugin(&rt, "needed", 2, 1);
}

#[test]
fn an_inline_variable_that_has_grown_is_refused_by_name() {
    let (rt, shop, _turn) = start("grown");
    let source = |size: u32| {
        format!(
            "struct Grown {{ int a[{size}]; }}; inline Grown grown; extern \"C\" int *f() {{ return grown.a; }}"
        )
    };
    host(&shop.cpp("grown_host", 1, &source(4), &[]));
    let error = load(&rt, &[&shop.cpp("plugin", 1, &source(5), &[])]).unwrap_err();
    assert!(matches!(&error, Error::Convention { symbol, .. } if symbol == "grown"), "{error}");
    load(&rt, &[&shop.cpp("plugin", 2, &source(4), &[])]).unwrap();
}

#[test]
fn that_two_modules_have_each_an_inline_variable_of_their_own_is_said() {
    let (rt, shop, _turn) = start("twins");
    let modules = ["one", "two"].map(|name| {
        shop.cpp(name, 1, &format!("inline int twin; extern \"C\" int {name}_f() {{ return ++twin; }}"), &[])
    });
    load(&rt, &[&modules[0]]).unwrap();
    assert_eq!(warned(&[]), 0);
    load(&rt, &[&modules[1]]).unwrap();
    assert_eq!(warned(&["\"two\"", "`twin`", "\"one\""]), 1);
    assert_eq!([call(&rt, "one", "one_f"), call(&rt, "two", "two_f")], [1, 1]);
}

/// A module that counts the pointers which its `delete` gets and its `new` has not made, and the reverse.
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
    let (rt, shop, _turn) = start("allocators");
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
    let (rt, shop, _turn) = start("own-allocator");
    let source = r#"
        static int calls;
        void *cfree(void *p) { calls++; return p; }
        int answer(void) { void *(*volatile f)(void *) = cfree; f(0); return calls; }
    "#;
    load(&rt, &[&shop.module("own", 1, &source)]).unwrap();
    assert_eq!(call(&rt, "own", "answer"), 1);
}
