//! Where what has changed is declared, and how it is laid out.

mod common;

use common::*;

const HEADER: &str = "\n#line 7 \"include/body.h\"\nstruct body { float x; int id; };\nenum mode { IDLE, RUN };\n#line 20 \"part0.c\"\n";

#[test]
fn functions_and_types_have_files_and_lines() {
    for build in BUILDS {
        let first = format!(
            "{HEADER}int step(struct body *b, enum mode m)\n{{ return b->id + m; }}\nint table[4];\nstruct own {{ int a; }}; struct own own;"
        );
        let second = format!("{HEADER}int other(struct body *b) {{ return b->id; }}");
        let interface = build.interface(&[&first, &second], &[]);
        let place = |name| interface.place(name).map(|(file, line)| (file.to_owned(), line));
        assert_eq!(place("step"), Some(("part0.c".into(), 20)), "{build:?}");
        assert_eq!(place("table"), Some(("part0.c".into(), 22)), "{build:?}");
        assert_eq!(place("struct body"), Some(("body.h".into(), 7)), "{build:?}");
        assert_eq!(place("enum mode"), Some(("body.h".into(), 8)), "{build:?}");
        assert_eq!(place("struct own"), Some(("part0.c".into(), 23)), "{build:?}");
        for unknown in ["body", "walk", ""] {
            assert_eq!(place(unknown), None, "{build:?} {unknown}");
        }
    }
    let blank = BUILDS[0].interface(&["int f(void) { return 1; }"], &["-g0"]);
    assert_eq!((blank.place("f"), blank.layout("struct body")), (None, None));
}

#[test]
fn layouts_are_the_same_text_if_they_are_the_same() {
    let [one, other] = [BUILDS[0], BUILDS[1]].map(|build| {
        let user = format!("{HEADER}struct body bodies[4]; enum mode mode;");
        build.interface(&[&user], &[])
    });
    for name in ["struct body", "enum mode"] {
        assert!(one.layout(name).is_some(), "{name}");
        assert_eq!(one.layout(name), other.layout(name));
    }
    let grown = HEADER.replace("int id;", "int hp; int id;") + "struct body bodies[4];";
    let grown = BUILDS[0].interface(&[&grown], &[]);
    assert_ne!(grown.layout("struct body"), one.layout("struct body"));
    assert_eq!(one.layout("struct nobody"), None);
}
