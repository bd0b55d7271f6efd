//! What is built: which files of which package, with what.

use std::fs;
use std::io;
use std::path::Path;

use crate::build::Case;

/// By machine and case.
type Refused = fn(&str, &Case) -> Option<&'static [&'static str]>;

/// A library, the sources of which are in a package, and the work that it is put to.
#[derive(Clone, Copy)]
pub(crate) struct Library {
    pub(crate) name: &'static str,
    /// Beyond those that must always pass.
    pub(crate) extra: bool,
    /// The package that carries the sources. None: it is modules/rust, which cargo builds.
    pub(crate) package: Option<&'static str>,
    /// In the package; `*` in a file's name stands for anything.
    pub(crate) sources: &'static [&'static str],
    /// In the package, and there only for this machine.
    pub(crate) machine_sources: &'static [(&'static str, &'static str)],
    /// Of those, not these.
    pub(crate) except: &'static [&'static str],
    /// Beside this crate.
    pub(crate) own_sources: &'static [&'static str],
    /// In the package, or beside this crate.
    pub(crate) includes: &'static [&'static str],
    pub(crate) flags: &'static [&'static str],
    /// Of the shared object.
    pub(crate) links: &'static [&'static str],
    /// What a refusal must say, of cases that cannot be loaded.
    pub(crate) refused: Refused,
    /// What the package's own build would write into its output folder, which is searched for
    /// headers too.
    pub(crate) generate: fn(package: &Path, output: &Path) -> io::Result<()>,
    /// In work/.
    pub(crate) work: &'static str,
}

const NONE: Library = Library {
    name: "",
    extra: true,
    package: None,
    sources: &[],
    machine_sources: &[],
    except: &[],
    own_sources: &[],
    includes: &[],
    flags: &[],
    links: &[],
    refused: |_, _| None,
    generate: |_, _| Ok(()),
    work: "",
};

/// Those that must pass first.
pub(crate) fn all() -> impl Iterator<Item = Library> {
    NAMED.into_iter().chain(EXTRA)
}

/// Those that are built as Mach-O too: for Apple's platforms, against Apple's headers, and run by
/// the runtime on Linux. What they want of the system is so little that the two systems agree on
/// it. The reference is built with the same flags.
pub(crate) fn macho() -> impl Iterator<Item = Library> {
    NAMED.into_iter().filter_map(|library| match library.name {
        // The number of the system, which it writes into what it makes: Apple's.
        "zlib" => Some(Library { flags: &["-DHAVE_UNISTD_H", "-DHAVE_STDARG_H", "-DOS_CODE=19"], ..library }),
        // Plain C. (LUA_USE_MACOSX takes dlopen and getc_unlocked, the numbers and layouts of which
        // are Apple's.)
        "lua" => Some(Library { flags: &[], ..library }),
        "sqlite" => Some(Library {
            own_sources: &["modules/sqlite/no_files.c"],
            flags: &[
                "-DSQLITE_THREADSAFE=0",
                "-DSQLITE_OS_OTHER=1",
                "-DSQLITE_TEMP_STORE=3",
                "-DSQLITE_OMIT_LOAD_EXTENSION",
                "-DSQLITE_WITHOUT_ZONEMALLOC",
                "-DSQLITE_ENABLE_FTS5",
                "-DSQLITE_ENABLE_RTREE",
                "-DSQLITE_ENABLE_MATH_FUNCTIONS",
                "-DSQLITE_ENABLE_DBSTAT_VTAB",
            ],
            ..library
        }),
        _ => None,
    })
}

const NAMED: [Library; 6] = [
    Library {
        name: "zlib",
        extra: false,
        package: Some("libz-sys"),
        sources: &["src/zlib/*.c"],
        includes: &["src/zlib"],
        flags: &["-DHAVE_UNISTD_H", "-DHAVE_STDARG_H"],
        work: "zlib.c",
        ..NONE
    },
    Library {
        name: "lua",
        extra: false,
        package: Some("lua-src"),
        sources: &["lua-5.4.9/*.c"],
        except: &["lua.c", "luac.c"],
        includes: &["lua-5.4.9"],
        flags: &["-DLUA_USE_LINUX"],
        links: &["-lm"],
        refused: names_variables,
        work: "lua.c",
        ..NONE
    },
    Library {
        name: "sqlite",
        extra: false,
        package: Some("libsqlite3-sys"),
        sources: &["sqlite3/sqlite3.c"],
        includes: &["sqlite3"],
        flags: &[
            "-DSQLITE_THREADSAFE=1",
            "-DSQLITE_ENABLE_FTS5",
            "-DSQLITE_ENABLE_RTREE",
            "-DSQLITE_ENABLE_MATH_FUNCTIONS",
            "-DSQLITE_ENABLE_DBSTAT_VTAB",
            "-DHAVE_USLEEP=1",
        ],
        links: &["-lm"],
        work: "sqlite.c",
        ..NONE
    },
    Library {
        name: "jsonnet",
        extra: false,
        package: Some("jsonnet-sys"),
        sources: &["jsonnet/core/*.cpp", "jsonnet/third_party/md5/md5.cpp"],
        except: &["lexer_test.cpp", "libjsonnet_test.cpp", "parser_test.cpp"],
        includes: &["jsonnet/include", "jsonnet/third_party/md5", "jsonnet/third_party/json"],
        refused: names_variables,
        generate: jsonnet_library,
        work: "jsonnet.cpp",
        ..NONE
    },
    Library {
        name: "throws",
        extra: false,
        package: Some("jsonnet-sys"),
        own_sources: &["modules/throws/throws.cpp"],
        includes: &["jsonnet/third_party/json", "modules/throws"],
        refused: |_, case| (!case.has("-fPIC")).then_some(&["local-exec", "compile with -fPIC"]),
        work: "throws.cpp",
        ..NONE
    },
    Library { name: "rust", extra: false, work: "rust.cpp", ..NONE },
];

const EXTRA: [Library; 8] = [
    Library {
        name: "zstd",
        package: Some("zstd-sys"),
        sources: &[
            "zstd/lib/common/*.c",
            "zstd/lib/compress/*.c",
            "zstd/lib/decompress/*.c",
            "zstd/lib/dictBuilder/*.c",
        ],
        machine_sources: &[("x86_64", "zstd/lib/decompress/huf_decompress_amd64.S")],
        includes: &["zstd/lib", "zstd/lib/common"],
        flags: &["-DZSTD_MULTITHREAD"],
        refused: names_variables,
        work: "zstd.c",
        ..NONE
    },
    Library {
        name: "lz4",
        package: Some("lz4-sys"),
        sources: &["liblz4/lib/*.c"],
        includes: &["liblz4/lib"],
        work: "lz4.c",
        ..NONE
    },
    Library {
        name: "bzip2",
        package: Some("bzip2-sys"),
        sources: &[
            "bzip2-1.0.8/blocksort.c",
            "bzip2-1.0.8/huffman.c",
            "bzip2-1.0.8/crctable.c",
            "bzip2-1.0.8/randtable.c",
            "bzip2-1.0.8/*compress.c",
            "bzip2-1.0.8/bzlib.c",
        ],
        includes: &["bzip2-1.0.8"],
        refused: names_variables,
        work: "bzip2.c",
        ..NONE
    },
    Library {
        name: "brotli",
        package: Some("brotlic-sys"),
        sources: &["brotli/c/common/*.c", "brotli/c/dec/*.c", "brotli/c/enc/*.c"],
        includes: &["brotli/c/include"],
        links: &["-lm"],
        work: "brotli.c",
        ..NONE
    },
    Library {
        name: "libdeflate",
        package: Some("libdeflate-sys"),
        sources: &["libdeflate/lib/*.c", "libdeflate/lib/arm/*.c", "libdeflate/lib/x86/*.c"],
        includes: &["libdeflate"],
        work: "libdeflate.c",
        ..NONE
    },
    Library {
        name: "blake3",
        package: Some("blake3"),
        sources: &["c/blake3.c", "c/blake3_dispatch.c", "c/blake3_portable.c"],
        machine_sources: &[
            ("x86_64", "c/blake3_avx2_x86-64_unix.S"),
            ("x86_64", "c/blake3_avx512_x86-64_unix.S"),
            ("x86_64", "c/blake3_sse2_x86-64_unix.S"),
            ("x86_64", "c/blake3_sse41_x86-64_unix.S"),
            ("aarch64", "c/blake3_neon.c"),
        ],
        includes: &["c"],
        work: "blake3.c",
        ..NONE
    },
    Library {
        name: "quickjs",
        package: Some("rquickjs-sys"),
        sources: &["quickjs/libregexp.c", "quickjs/libunicode.c", "quickjs/quickjs.c", "quickjs/dtoa.c"],
        includes: &["quickjs"],
        flags: &["-D_GNU_SOURCE", "-DNDEBUG", "-w"],
        links: &["-lm"],
        work: "quickjs.c",
        ..NONE
    },
    Library {
        name: "snappy",
        package: Some("snappy_src"),
        sources: &["snappy/*.cc"],
        includes: &["snappy"],
        generate: snappy_stubs,
        work: "snappy.cpp",
        ..NONE
    },
];

/// It names `stderr`, `std::cerr` or the like. x86-64 code that is compiled for a program at a
/// fixed address does so by their 32-bit addresses, and a linker would move the variables into the
/// program for it (COPY relocations). A module has nowhere to move them to.
fn names_variables(arch: &str, case: &Case) -> Option<&'static [&'static str]> {
    (arch == "x86_64" && case.has("-fno-pie"))
        .then_some(&["of the host is out of reach", "compile with -fPIC"])
}

/// Jsonnet's standard library, as the numbers of its bytes.
fn jsonnet_library(package: &Path, output: &Path) -> io::Result<()> {
    let text = fs::read(package.join("jsonnet/stdlib/std.jsonnet"))?;
    let numbers: String = text.iter().map(|byte| format!("{byte},")).collect();
    fs::write(output.join("std.jsonnet.h"), numbers + "0\n")
}

/// What CMake would fill in.
fn snappy_stubs(package: &Path, output: &Path) -> io::Result<()> {
    let mut text = fs::read_to_string(package.join("snappy/snappy-stubs-public.h.in"))?;
    for (key, value) in [
        ("HAVE_SYS_UIO_H_01", "1"),
        ("PROJECT_VERSION_MAJOR", "1"),
        ("PROJECT_VERSION_MINOR", "0"),
        ("PROJECT_VERSION_PATCH", "0"),
    ] {
        text = text.replace(&format!("${{{key}}}"), value);
    }
    fs::write(output.join("snappy-stubs-public.h"), text)
}
