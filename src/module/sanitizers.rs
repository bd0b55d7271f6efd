//! Sanitizers whose run-time library must be in the process before anything else is: it takes over
//! memory, threads or signals from the start, and one that is loaded later ends the process. So a
//! module that needs one is refused before any library of it is loaded, unless the process has it.
//!
//! The undefined behaviour sanitizer is not among them: its library may come at any time.

use crate::platform::os::library::{self, Library};

/// What the code of a sanitizer calls first, the stem of its library's name, and what to say.
struct Sanitizer {
    init: &'static str,
    libraries: &'static [&'static str],
    advice: &'static str,
}

macro_rules! sanitizer {
    ($init:literal, $flag:literal, $($library:literal),*) => {
        Sanitizer {
            init: $init,
            libraries: &[$($library),*],
            advice: concat!(
                "is of a sanitizer (-fsanitize=", $flag, ") that must be in a process from its start, and this one lacks it: \
                 build the module without -fsanitize=", $flag, ", or the program with it"
            ),
        }
    };
}

const ALL: &[Sanitizer] = &[
    sanitizer!("__asan_init", "address", "libasan", "libclang_rt.asan"),
    sanitizer!("__tsan_init", "thread", "libtsan", "libclang_rt.tsan"),
    sanitizer!("__msan_init", "memory", "libmsan", "libclang_rt.msan"),
    sanitizer!("__hwasan_init", "hwaddress", "libhwasan", "libclang_rt.hwasan"),
    sanitizer!("__lsan_init", "leak", "liblsan", "libclang_rt.lsan"),
    sanitizer!("__dfsan_init", "dataflow", "libclang_rt.dfsan"),
    sanitizer!("__tysan_init", "type", "libclang_rt.tysan"),
    sanitizer!("__nsan_init", "numerical", "libclang_rt.nsan"),
    sanitizer!("__rtsan_init", "realtime", "libclang_rt.rtsan"),
    sanitizer!("__memprof_init", "memory profile", "libclang_rt.memprof"),
];

/// The first name that is of a sanitizer which the process lacks, and why that is wrong. `names`:
/// of what a module imports, and of the libraries that it needs.
pub(super) fn missing<'n>(names: impl Iterator<Item = &'n str>) -> Option<(String, &'static str)> {
    names.filter_map(|name| Some((name, of(name)?))).find_map(|(name, sanitizer)| {
        let there = library::process_symbol(&c_name(sanitizer.init), None).is_some()
            || (name != sanitizer.init && Library::loaded(name).is_some());
        (!there).then(|| (name.to_owned(), sanitizer.advice))
    })
}

/// The sanitizer that a symbol or a library belongs to.
fn of(name: &str) -> Option<&'static Sanitizer> {
    // Most names are neither: every import of a module comes by here.
    if name.starts_with("__") {
        return ALL.iter().find(|sanitizer| name == sanitizer.init);
    }
    let file = name.rsplit('/').next().unwrap_or(name);
    if !file.starts_with("lib") {
        return None;
    }
    let is_library = |stem: &str| {
        let rest = file.strip_prefix(stem);
        rest.is_some_and(|rest| rest.starts_with(['.', '-', '_']) && rest.contains(".so"))
    };
    ALL.iter().find(|sanitizer| sanitizer.libraries.iter().any(|stem| is_library(stem)))
}

fn c_name(name: &'static str) -> std::ffi::CString {
    std::ffi::CString::new(name).expect("no name above has a NUL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_symbol_and_by_library() {
        let flag = |name| of(name).map(|sanitizer| sanitizer.init);
        for (name, init) in [
            ("__asan_init", Some("__asan_init")),
            ("libasan.so.8", Some("__asan_init")),
            ("/opt/lib/libasan.so", Some("__asan_init")),
            ("libclang_rt.asan-x86_64.so", Some("__asan_init")),
            ("libclang_rt.asan.so", Some("__asan_init")),
            ("liblsan.so.0", Some("__lsan_init")),
            ("libtsan.so.2", Some("__tsan_init")),
            ("libclang_rt.hwasan_aliases-x86_64.so", Some("__hwasan_init")),
            ("libubsan.so.1", None),
            ("libclang_rt.ubsan_standalone-x86_64.so", None),
            ("libasancore.so", None),
            ("__asan_init_mine", None),
            ("libasan", None),
        ] {
            assert_eq!(flag(name), init, "{name}");
        }
    }

    #[test]
    fn this_process_has_none() {
        let (name, advice) = missing(["f", "libubsan.so.1", "libtsan.so.2"].into_iter()).unwrap();
        assert_eq!(name, "libtsan.so.2");
        assert!(advice.contains("-fsanitize=thread"), "{advice}");
        assert!(missing(["f", "libc.so.6", "__ubsan_handle_add_overflow"].into_iter()).is_none());
    }
}
