//! What modules need by name: other modules, libraries, and what they ask the dynamic linker for
//! (docs/modules.md). Of ELF.

#![cfg(target_os = "linux")]

mod support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use midflight::{Error, Source};
use support::linked::*;
use support::{DONE, is_child};

#[test]
fn a_modules_name_is_not_taken_for_its_librarys() {
    let (rt, shop, _turn) = start_logged("named-like");
    let thing = library(&shop, "thing", ".1", "int thing(void) { return 7; }", &[]);
    let source = "int thing(void); int answer(void) { return thing(); }";
    // Without a SONAME, as bindings are.
    let binding = module(&shop, "thing", 1, source, &with(&[&thing]));
    let mut unnamed = with(&[&thing]);
    unnamed.push("-Wl,-soname,thing.so".into());
    let short = module(&shop, "thing", 2, source, &unnamed);
    for binding in [&binding, &short] {
        load(&rt, &[binding]).unwrap();
        assert_eq!(call(&rt, "thing", "answer"), 7);
    }
    rt.shutdown().unwrap();
    // Nor is another module that is called like it.
    let unrelated =
        shop.module("thing", 3, "int unrelated(void) { return 1; } int answer(void) { return 1; }");
    let other = module(&shop, "other", 1, source, &with(&[&thing]));
    load(&rt, &[&unrelated]).unwrap();
    load(&rt, &[&other]).unwrap();
    assert_eq!((call(&rt, "other", "answer"), warned(&[])), (7, 0));
    rt.shutdown().unwrap();
    load(&rt, &[&other, &unrelated]).unwrap();
    assert_eq!((call(&rt, "other", "answer"), warned(&[])), (7, 0));
}

#[test]
fn a_module_is_taken_for_a_library_of_another_name_with_a_word() {
    let (rt, shop, _turn) = start_logged("renamed");
    let old = library(&shop, "renamed", ".1", "int renamed(void) { return 1; }", &[]);
    let user =
        module(&shop, "user", 1, "int renamed(void); int answer(void) { return renamed(); }", &with(&[&old]));
    load(&rt, &[&shop.module("renamed", 2, "int renamed(void) { return 2; }")]).unwrap();
    load(&rt, &[&user]).unwrap();
    assert_eq!(call(&rt, "user", "answer"), 2);
    assert_eq!(warned(&["\"user\"", "librenamed.so.1", "`renamed`"]), 1);
    // Of object files the name is all there is.
    rt.shutdown().unwrap();
    load(&rt, &[&shop.object("renamed.c", "int renamed(void) { return 3; }", &["-fPIC"]), &user]).unwrap();
    assert_eq!((call(&rt, "user", "answer"), warned(&[])), (3, 0));
}

#[test]
fn a_module_is_found_by_its_librarys_name_whatever_it_is_called() {
    let (rt, shop, _turn) = start_logged("by-soname");
    let named = shop.module("phys", 3, "int gravity(void) { return 10; }");
    let user = module(
        &shop,
        "user",
        1,
        "int gravity(void); int answer(void) { return gravity(); }",
        &with(&[&named]),
    );
    // SAFETY: as they are called.
    unsafe { rt.load(midflight::Source::linked("physics", [&named])) }.unwrap();
    load(&rt, &[&user]).unwrap();
    let newer = shop.module("phys", 4, "int gravity(void) { return 9; }");
    let follows = || {
        // SAFETY: as above.
        unsafe { rt.load(midflight::Source::linked("physics", [&newer])) }.unwrap();
        assert_eq!((call(&rt, "user", "answer"), warned(&[])), (9, 0));
    };
    follows();
    // Both at once.
    rt.shutdown().unwrap();
    // SAFETY: as above.
    unsafe { rt.load_all([midflight::Source::linked("physics", [&named]), (&user).into()]) }.unwrap();
    follows();
}

#[test]
fn needed_libraries_are_found_together() {
    let (rt, shop, _turn) = start_logged("underlinked");
    let low = library(&shop, "low", ".1", "int low(void) { return 7; }", &[]);
    // It does not name the other, which comes behind it.
    let high = library(
        &shop,
        "high",
        ".1",
        "int low(void); int high(void) { return low(); }",
        &["-Wl,-z,now".into()],
    );
    let source = "int high(void), low(void); int answer(void) { return high() + low() - 7; }";
    let user = module(&shop, "user", 1, source, &with(&[&high, &low]));
    load(&rt, &[&user]).unwrap();
    assert_eq!(call(&rt, "user", "answer"), 7);
    let gone = library(&shop, "gone", ".1", "int gone(void) { return 1; }", &[]);
    let user = module(
        &shop,
        "lost",
        1,
        "int gone(void); int answer(void) { return gone(); }",
        &with(&[&low, &gone]),
    );
    std::fs::remove_file(gone).unwrap();
    let error = load(&rt, &[&user]).unwrap_err();
    assert!(matches!(&error, Error::Library { library, .. } if library == "libgone.so.1"), "{error}");
}

/// ld.so is asked by a file in memory, of which the limit on files is the limit as well.
#[test]
fn needed_libraries_are_found_where_files_may_not_grow() {
    if !is_child("needed_libraries_are_found_where_files_may_not_grow") {
        return;
    }
    let (rt, shop, _turn) = start_logged("no-files");
    let needed = library(&shop, "needed", ".1", "int needed(void) { return 6; }", &[]);
    let user = module(
        &shop,
        "user",
        1,
        "int needed(void); int answer(void) { return needed(); }",
        &with(&[&needed]),
    );
    let limit = libc::rlimit { rlim_cur: 0, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a limit.
    unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
    load(&rt, &[&user]).unwrap();
    assert_eq!(call(&rt, "user", "answer"), 6);
    println!("{DONE}");
}

#[test]
fn libraries_are_looked_for_where_the_module_is_and_theirs_if_it_says_so() {
    let (rt, shop, _turn) = start_logged("search");
    let deep = library(&shop, "deep", ".1", "int deep(void) { return 8; }", &[]);
    let mut unsearched = with(&[&deep]);
    unsearched.retain(|argument| !argument.contains("rpath"));
    let outer =
        library(&shop, "outer", ".1", "int deep(void); int outer(void) { return deep(); }", &unsearched);
    let source = "int outer(void); int answer(void) { return outer(); }";
    let folders = "-Wl,-rpath,$ORIGIN/../x:${ORIGIN}/libraries";
    for (version, tags, works) in [(1, "-Wl,--enable-new-dtags", false), (2, "-Wl,--disable-new-dtags", true)]
    {
        let link = ["-Wl,--no-as-needed".into(), outer.display().to_string(), folders.into(), tags.into()];
        let mut link = link.to_vec();
        link.push(format!("-Wl,-rpath-link,{}", deep.parent().unwrap().display()));
        let user = module(&shop, "user", version, source, &link);
        let libraries = user.with_file_name("libraries");
        std::fs::create_dir_all(&libraries).unwrap();
        for library in [&outer, &deep] {
            std::fs::copy(library, libraries.join(library.file_name().unwrap())).unwrap();
        }
        let loaded = load(&rt, &[&user]);
        assert_eq!(loaded.is_ok(), works, "{loaded:?}");
    }
    assert_eq!(call(&rt, "user", "answer"), 8);
}

#[test]
fn files_and_folders_may_have_names_of_any_bytes() {
    let (rt, shop, _turn) = start_logged("bytes");
    let near = library(&shop, "near", ".1", "int near(void) { return 4; }", &[]);
    let opened = library(&shop, "opened", ".1", "int opened(void) { return 30; }", &[]);
    let source = r#"
        #include <dlfcn.h>
        int near(void);
        int answer(void) {
            void *library = dlopen("$ORIGIN/libopened.so.1", RTLD_NOW);
            int (*opened)(void) = library ? dlsym(library, "opened") : 0;
            return opened ? near() + opened() : -1;
        }"#;
    let mut link = with(&[&near]);
    link.retain(|argument| !argument.contains("rpath"));
    link.push("-Wl,-rpath,$ORIGIN".into());
    let [user, other] = [1, 2].map(|version| module(&shop, "user", version, source, &link));
    let folder = shop.path("").join(OsStr::from_bytes(b"folder\xff"));
    std::fs::create_dir(&folder).unwrap();
    for library in [&near, &opened] {
        std::fs::rename(library, folder.join(library.file_name().unwrap())).unwrap();
    }
    let [user, other] = [(user, &b"libuser.so"[..]), (other, b"other\xfe.so")].map(|(file, name)| {
        let path = folder.join(OsStr::from_bytes(name));
        std::fs::rename(file, &path).unwrap();
        path
    });
    for path in [&user, &other] {
        load(&rt, &[path]).unwrap();
        assert_eq!(call(&rt, "user", "answer"), 34, "{}", path.display());
        assert_eq!(rt.versions().unwrap().last().unwrap().path, *path);
    }
    // What has no name but its file's needs one, and can be given it.
    let unnamed = folder.join(OsStr::from_bytes(b"\xff.o"));
    let object = shop.object("plain.c", "int answer(void) { return 34; }", &["-fPIC"]);
    std::fs::rename(object, &unnamed).unwrap();
    let error = load(&rt, &[&unnamed]).unwrap_err();
    assert!(matches!(&error, Error::NoName { path } if *path == unnamed), "{error}");
    // SAFETY: as it is called.
    unsafe { rt.load(Source::linked("given", [&unnamed])) }.unwrap();
    assert_eq!(call(&rt, "given", "answer"), 34);
}

#[test]
fn who_was_loaded_after_a_module_has_its_newest_version() {
    let (rt, shop, _turn) = start_logged("in-order");
    let [one, two] = [1, 2].map(|version| {
        shop.module(
            "base",
            version,
            &format!("int value = {version}; int base_get(void) {{ return 10 * value; }}"),
        )
    });
    let user = module(
        &shop,
        "user",
        1,
        "int base_get(void); int answer(void) { return base_get(); }",
        &with(&[&one]),
    );
    load(&rt, &[&one]).unwrap();
    load(&rt, &[&user]).unwrap();
    load(&rt, &[&two]).unwrap();
    assert_eq!((call(&rt, "user", "answer"), warned(&[])), (20, 0));
}

#[test]
fn a_module_that_comes_after_who_needs_it_is_named() {
    let (rt, shop, _turn) = start_logged("late");
    let [one, two] = [1, 2]
        .map(|version| shop.module("late", version, &format!("int late_get(void) {{ return {version}0; }}")));
    let user = module(
        &shop,
        "user",
        1,
        "int late_get(void); int answer(void) { return late_get(); }",
        &with(&[&one]),
    );
    load(&rt, &[&user]).unwrap();
    load(&rt, &[&two]).unwrap();
    assert_eq!((call(&rt, "user", "answer"), warned(&["`late`", "liblate.so"])), (10, 1));
}

#[test]
fn a_library_that_brings_a_copy_of_a_module_is_named() {
    let (rt, shop, _turn) = start_logged("brings");
    let base =
        "static int value; void bottom_set(int to) { value = to; } int bottom_get(void) { return value; }";
    let base = shop.module("bottom", 1, base);
    let mid = shop.module_for(
        std::env::consts::ARCH,
        "middle",
        1,
        "int bottom_get(void); int mid_get(void) { return bottom_get(); }",
        &with(&[&base]).iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let source =
        "void bottom_set(int); int mid_get(void); int answer(void) { bottom_set(42); return mid_get(); }";
    let top = module(&shop, "top", 1, source, &with(&[&mid, &base]));
    load(&rt, &[&base, &mid]).unwrap();
    load(&rt, &[&top]).unwrap();
    assert_eq!((call(&rt, "top", "answer"), warned(&[])), (42, 0));
    rt.shutdown().unwrap();
    load(&rt, &[&base]).unwrap();
    load(&rt, &[&top]).unwrap();
    assert_eq!((call(&rt, "top", "answer"), warned(&["\"top\"", "libbottom.so", "`bottom`"])), (0, 1));
}

/// What a module finds by names of its own.
const ASKS: &str = r#"
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <pthread.h>
    #include <string.h>
    #include <stdlib.h>
    int of_library(void);
    int of_module(void) { return 5; }
    static int hidden(void) { return 6; }
    /* The real function behind a wrapper. */
    int next(void) {
        size_t (*real)(const char *) = dlsym(RTLD_NEXT, "strlen");
        int (*library)(void) = dlsym(RTLD_NEXT, "of_library");
        if (!real || !library) return -1;
        return real("four") + 10 * library();
    }
    int everywhere(void) {
        int (*own)(void) = dlsym(RTLD_DEFAULT, "of_module");
        int (*library)(void) = dlsym(RTLD_DEFAULT, "of_library");
        return own && library && dlsym(RTLD_DEFAULT, "strlen") ? own() + 10 * library() : -1;
    }
    int versioned(void) {
        int (*library)(void) = dlvsym(RTLD_NEXT, "of_library", "ASKED_2");
        return library && !dlvsym(RTLD_NEXT, "of_library", "ASKED_1") ? library() : -1;
    }
    int nowhere(void) {
        dlerror();
        if (dlsym(RTLD_NEXT, "of_nobody")) return 0;
        const char *error = dlerror();
        if (!error || !strstr(error, "of_nobody")) return 0;
        if (dlsym(RTLD_DEFAULT, "of_nobody")) return 0;
        return dlerror() != NULL;
    }
    /* Its threads are known as if it had named the function. */
    int replaced(void) {
        void *named = (void *)pthread_create;
        void *handle = dlopen("libc.so.6", RTLD_NOW);
        return dlsym(RTLD_DEFAULT, "pthread_create") == named && dlsym(RTLD_NEXT, "pthread_create") == named
            && dlsym(handle, "pthread_create") == named && dlsym(handle, "dlsym") == (void *)dlsym;
    }
    int opened(void) {
        void *by_name = dlopen("libbeside.so.1", RTLD_NOW);
        void *by_path = dlopen("$ORIGIN/beside/libbeside.so.1", RTLD_NOW);
        if (!by_name || by_name != by_path || dlopen("libnever.so.1", RTLD_NOW)) return -1;
        int (*beside)(void) = dlsym(by_name, "beside");
        return beside ? beside() : -2;
    }
    int address(void) {
        Dl_info own, local, library;
        if (!dladdr((void *)of_module, &own) || !dladdr((char *)hidden, &local)) return -1;
        if (!dladdr((void *)of_library, &library)) return -2;
        if (!strstr(own.dli_fname, "libasks.so") || own.dli_fbase != local.dli_fbase) return -3;
        if (!own.dli_sname || strcmp(own.dli_sname, "of_module") || own.dli_saddr != (void *)of_module) return -4;
        if (local.dli_sname && !strcmp(local.dli_sname, "of_module")) return -5;
        return strstr(library.dli_fname, "libasked.so.1") ? 1 : -6;
    }
"#;

#[test]
fn a_module_finds_symbols_and_libraries_by_name() {
    let (rt, shop, _turn) = start_logged("asks");
    let script = shop.file("asked.map", b"ASKED_2 { of_library; };");
    let script = format!("-Wl,--version-script={}", script.display());
    let asked = library(&shop, "asked", ".1", "int of_library(void) { return 7; }", &[script]);
    let mut arguments = with(&[&asked]);
    arguments.extend(["-Wl,-rpath,$ORIGIN/beside".into(), "-ldl".into()]);
    let asks = module(&shop, "asks", 1, ASKS, &arguments);
    let beside = library(&shop, "beside", ".1", "int beside(void) { return 9; }", &[]);
    let folder = asks.with_file_name("beside");
    std::fs::create_dir(&folder).unwrap();
    std::fs::rename(beside, folder.join("libbeside.so.1")).unwrap();
    load(&rt, &[&asks]).unwrap();
    for (function, answer) in [
        ("next", 74),
        ("everywhere", 75),
        ("versioned", 7),
        ("nowhere", 1),
        ("replaced", 1),
        ("opened", 9),
        ("address", 1),
    ] {
        assert_eq!(call(&rt, "asks", function), answer, "{function}");
    }
}

#[test]
fn a_module_of_object_files_finds_symbols_by_name() {
    let (rt, shop, _turn) = start_logged("asks-objects");
    let source = r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        int answer(void) {
            unsigned long (*real)(const char *) = dlsym(RTLD_NEXT, "strlen");
            Dl_info own;
            return real && dladdr((void *)answer, &own) && own.dli_fbase ? real("four") : -1;
        }
    "#;
    load(&rt, &[&shop.object("asks.c", source, &["-fPIC"])]).unwrap();
    assert_eq!(call(&rt, "asks", "answer"), 4);
}
