//! Whether a file fits the version that is loaded: the runtime's side. `crates/interface` has what
//! is compared.

mod support;

use std::path::PathBuf;

use midflight::interface::Verdict::{self, Compatible, Incompatible, Unknown};
use midflight::{Compatibility, Error, ErrorKind, LoadOptions, Runtime};
use support::{Workshop, start};

fn module(shop: &Workshop, number: u32, source: &str, arguments: &[&str]) -> PathBuf {
    shop.module_for(std::env::consts::ARCH, "compared", number, source, arguments)
}

const OLD: &str = "struct agent { int hp; float x; }; struct agent agents[4];
                   int step(struct agent *agent, float dt) { agent->x += dt; return agent->hp; }";
/// A member more: what callers and the module's own data have is laid out differently.
const GROWN: &str = "struct agent { int hp; int armour; float x; }; struct agent agents[4];
                     int step(struct agent *agent, float dt) { agent->x += dt; return agent->hp; }";

/// Of Mach-O files only what is exported and imported is compared.
fn without_debug_information(rt: Runtime, old: &PathBuf, grown: &PathBuf) {
    for path in [old, grown] {
        let compared = rt.compatibility(path).unwrap();
        assert_eq!(verdicts(&compared), [Compatible, Unknown, Unknown]);
        assert!(
            compared.report.reason.as_ref().is_some_and(|reason| reason.contains("Mach-O")),
            "{compared}"
        );
    }
}

fn verdicts(compatibility: &Compatibility) -> [Verdict; 3] {
    let report = &compatibility.report;
    [report.links, report.calls, report.state]
}

fn load(rt: Runtime, path: &PathBuf, validate: bool) -> Result<(), Error> {
    // SAFETY: the tests' modules are sound.
    unsafe { rt.load_with([path], &LoadOptions::new().validate(validate)) }.map(drop)
}

#[test]
fn three_verdicts_on_what_is_loaded() {
    let (rt, shop, _turn) = start("compatibility");
    rt.shutdown().unwrap();
    let (old, grown) = (module(&shop, 1, OLD, &["-g"]), module(&shop, 2, GROWN, &["-g"]));
    let first = rt.compatibility(&old).unwrap();
    assert_eq!((first.loaded, verdicts(&first)), (None, [Compatible; 3]), "nothing is there to break");

    let blank = module(&shop, 3, OLD, &["-s"]);
    let first = rt.compatibility(&blank).unwrap();
    assert_eq!(
        (verdicts(&first), &first.report.reason),
        ([Compatible; 3], &None),
        "whatever it says of itself"
    );

    // Nothing was kept to compare with, and it is not there any more.
    let removed = shop.file("removed.so", &std::fs::read(&old).unwrap());
    load(rt, &removed, false).unwrap();
    std::fs::remove_file(&removed).unwrap();
    let blind = rt.compatibility(&grown).unwrap();
    assert_eq!(verdicts(&blind), [Unknown; 3], "{blind}");
    assert!(blind.report.reason.is_some_and(|reason| reason.contains("removed.so")));

    rt.set_keep_files(true);
    load(rt, &old, false).unwrap();
    let before = rt.frame().generation();
    if support::is_macho() {
        without_debug_information(rt, &old, &grown);
    } else {
        assert_eq!(verdicts(&rt.compatibility(&old).unwrap()), [Compatible; 3]);
        let compared = rt.compatibility(&grown).unwrap();
        assert_eq!(verdicts(&compared)[2], Incompatible, "{compared}");
        assert!(compared.to_string().contains("agent"), "{compared}");
    }
    assert_eq!(verdicts(&rt.compatibility(&blank).unwrap()), [Compatible, Unknown, Unknown]);
    let renamed = module(&shop, 4, "int walk(void) { return 0; }", &["-g"]);
    assert_eq!(verdicts(&rt.compatibility(&renamed).unwrap())[0], Incompatible);
    let unresolved =
        module(&shop, 5, &format!("{OLD} int nobody(void); int more(void) {{ return nobody(); }}"), &["-g"]);
    let compared = rt.compatibility(&unresolved).unwrap();
    assert!(verdicts(&compared)[0] == Incompatible && compared.to_string().contains("nobody"), "{compared}");
    assert_eq!(rt.frame().generation(), before, "nothing was published");
    assert_eq!(rt.compatibility(shop.path("missing.so")).unwrap_err().kind(), ErrorKind::Io);
    rt.set_keep_files(false);
}

/// It may define what nobody else does.
#[cfg(target_os = "linux")]
#[test]
fn a_library_that_is_not_loaded_leaves_linking_unknown() {
    let (rt, shop, _turn) = start("absent");
    if support::is_macho() {
        return;
    }
    rt.shutdown().unwrap();
    load(rt, &module(&shop, 1, OLD, &["-g"]), false).unwrap();
    let library = shop.module("may_define", 1, "int defined(void) { return 1; }");
    let linked = |number, more: &str| {
        let source = format!("{OLD} {more}");
        module(&shop, number, &source, &["-g", "-Wl,--no-as-needed", library.to_str().unwrap()])
    };
    let user = linked(2, "int defined(void); int more(void) { return defined(); }");
    let compared = rt.compatibility(&user).unwrap();
    assert_eq!(verdicts(&compared), [Unknown, Compatible, Compatible], "{compared}");
    let reason = compared.report.reason.unwrap();
    assert!(reason.contains("libmay_define.so may define defined, and is not loaded"), "{reason}");
    // Not if nothing is missing, whatever it defines.
    let whole = rt.compatibility(linked(3, "")).unwrap();
    assert_eq!((verdicts(&whole), &whole.report.reason), ([Compatible; 3], &None), "{whole}");
    // Nor is what was found not to fit by what is there.
    let lacking = module(
        &shop,
        4,
        "int walk(void); int defined(void); int more(void) { return defined(); }",
        &["-g", library.to_str().unwrap()],
    );
    assert_eq!(verdicts(&rt.compatibility(&lacking).unwrap())[0], Incompatible);
}

/// What was not kept is read again where it was loaded from, if it is known to be the same still.
// By ELF's debug information.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_was_not_kept_is_read_again_if_it_is_the_same() {
    if support::is_macho() {
        return;
    }
    let (rt, shop, _turn) = start("on_disk");
    rt.shutdown().unwrap();
    let of = |number, source, build_id: &str| module(&shop, number, source, &["-g", "-O0", build_id]);
    let (numbered, grown) = (of(1, OLD, "-Wl,--build-id"), of(2, GROWN, "-Wl,--build-id"));
    let not_numbered = of(3, OLD, "-Wl,--build-id=none");
    let state = || {
        let compared = rt.compatibility(&grown).unwrap();
        let unknown_because = compared.report.reason.clone().unwrap_or_default();
        (verdicts(&compared)[2], unknown_because)
    };
    let now = std::time::SystemTime::now();
    let place = |name: &str, of: &PathBuf| {
        let path = shop.file(name, &std::fs::read(of).unwrap());
        load(rt, &path, false).unwrap();
        path
    };
    let touch = |path: &PathBuf| {
        std::fs::File::options().append(true).open(path).unwrap().set_modified(now).unwrap();
    };

    place("as_it_was.so", &not_numbered);
    assert_eq!(state().0, Incompatible);
    // A link, a touch and a copy are the same content, which the linker's number says.
    let touched = place("touched.so", &numbered);
    std::fs::hard_link(&touched, shop.path("link.so")).unwrap();
    touch(&touched);
    assert_eq!(state().0, Incompatible);
    let copied = place("copied.so", &numbered);
    shop.file("copied.so", &std::fs::read(&copied).unwrap());
    assert_eq!(state().0, Incompatible);
    // Without a number nothing says so.
    let touched = place("not_numbered.so", &not_numbered);
    touch(&touched);
    let (verdict, because) = state();
    assert!(verdict == Unknown && because.contains("not_numbered.so"), "{because}");
    // Overwritten in place, with the same length and the time that it had.
    let overwritten = place("overwritten.so", &not_numbered);
    let before = std::fs::metadata(&overwritten).unwrap().modified().unwrap();
    std::fs::write(&overwritten, std::fs::read(&overwritten).unwrap()).unwrap();
    std::fs::File::options().append(true).open(&overwritten).unwrap().set_modified(before).unwrap();
    assert_eq!(state().0, Unknown);
    // Replaced by the next version, as builds do.
    let replaced = place("replaced.so", &numbered);
    shop.file("replaced.so", &std::fs::read(&grown).unwrap());
    let (verdict, because) = state();
    assert!(
        verdict == Unknown && because.contains("replaced.so") && because.contains("validate"),
        "{because}"
    );
    drop(replaced);
}

// By ELF's debug information.
#[cfg(target_os = "linux")]
#[test]
fn what_does_not_fit_is_refused_when_validated_and_a_content_is_validated_once() {
    let (rt, shop, _turn) = start("validation");
    rt.shutdown().unwrap();
    let (old, grown) = (module(&shop, 1, OLD, &["-g"]), module(&shop, 2, GROWN, &["-g"]));
    load(rt, &old, true).unwrap();
    let error = load(rt, &grown, true).unwrap_err();
    assert!(error.kind() == ErrorKind::Incompatible && error.to_string().contains("agent"), "{error}");
    assert_eq!(error.path(), Some(&*grown));
    let hits = |rt: Runtime| {
        let statistics = rt.statistics().unwrap();
        (statistics.cache_hits, statistics.cache_misses)
    };
    assert_eq!(hits(rt), (0, 2));
    // The same bytes by another name, and with another time.
    let copy = shop.file("copy.so", &std::fs::read(&old).unwrap());
    for round in 1..=3 {
        load(rt, &copy, true).unwrap();
        assert_eq!(hits(rt), (round, 2));
    }
    // A byte that means nothing, in a file of the same length and time.
    let mut bytes = std::fs::read(&copy).unwrap();
    let time = std::fs::metadata(&copy).unwrap().modified().unwrap();
    let note = bytes.windows(4).position(|window| window == b"GCC:").expect("the compiler's name");
    bytes[note + 5] ^= 1;
    std::fs::write(&copy, bytes).unwrap();
    std::fs::File::options().write(true).open(&copy).unwrap().set_modified(time).unwrap();
    load(rt, &copy, true).unwrap();
    assert_eq!(hits(rt), (3, 3), "a changed byte is seen");
    // Unknown is not refused.
    load(rt, &module(&shop, 3, OLD, &["-s"]), true).unwrap();
    load(rt, &grown, false).unwrap();
}
