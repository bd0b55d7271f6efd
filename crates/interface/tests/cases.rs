//! One case for each kind of difference: what the report says of it, to the letter.

mod common;

use common::*;

/// In `old` and `new` files are separated by a line of `---`.
fn check(old: &str, new: &str, expected: &str) {
    let sources = |text: &'static str| text.split("\n---\n").collect::<Vec<_>>();
    let leak = |text: &str| -> &'static str { Box::leak(text.to_string().into_boxed_str()) };
    let expected = expected.trim();
    for build in BUILDS {
        let interface = |source: &str| build.interface(&sources(leak(source)), &[]);
        let (old, new) = (interface(old), interface(new));
        assert!(old.has_debug_info() && new.has_debug_info(), "{build:?}");
        let report = old.compare(&new, 100).to_string();
        assert_eq!(report, expected, "{build:?}:\n{report}");
        assert_eq!(new.compare(&new, 100).count, 0, "{build:?}");
    }
}

#[test]
fn nothing() {
    let source = "struct list { struct list *next; int x[3]; }; static struct list head; \
        struct list *first(void) { return &head; } int last(struct list l, ...) { return l.x[2]; }";
    check(source, source, "links compatible, calls compatible, state compatible");
}

#[test]
fn exports() {
    check(
        "int stays(void) { return 1; } int goes(void) { return 2; }",
        "int stays(void) { return 1; } int comes(void) { return 2; }",
        "
links incompatible, calls compatible, state compatible
links: export removed: goes: was `a function`
links: export added: comes: `a function` (compatible)",
    );
    check(
        "int a(void) { return 1; } int b = 3; int c = 4; __thread long d = 1; __thread int e = 1; int f[4] = {1};",
        "int a = 5; int b(void) { return 3; } __thread int c = 4; __thread long d[2] = {1}; __thread int e = 1; int f[5] = {1};",
        "
links incompatible, calls compatible, state incompatible
links: export is something else: a: `a function` is now `a variable of 4 bytes`
links: export is something else: b: `a variable of 4 bytes` is now `a function`
links: export is something else: c: `a variable of 4 bytes` is now `a thread-local variable of 4 bytes`
links: size changed: d: `a thread-local variable of 8 bytes` is now `a thread-local variable of 16 bytes`
links: size changed: f: `a variable of 16 bytes` is now `a variable of 20 bytes`
state: variable changed: d: `long` is now `long[2]`
state: variable changed: f: `int[4]` is now `int[5]`
state: variable added: a: `int` (compatible)
state: variable removed: b: was `int` (compatible)",
    );
}

#[test]
fn signatures() {
    check(
        "struct agent; int f(struct agent *a, float x) { return a ? 1 : (int)x; } int g(int a) { return a; } int h(int x, ...) { return x; }
         unsigned i(void) { return 1; } void j(char *c) {} int k(int (*call)(int)) { return call(1); } long l(void) { return 1; }
         int m(void *p) { return !p; } int n(_Bool b) { return b; }",
        "struct agent; int f(struct agent *a, double x) { return a ? 1 : (int)x; } int g(int a, int b) { return a; } int h(int x) { return x; }
         int i(void) { return 1; } int j(char *c) { return 0; } int k(int (*call)(short)) { return call(1); } long long l(void) { return 1; }
         int m(char *p) { return !p; } int n(unsigned char b) { return b; }",
        "
links compatible, calls incompatible, state compatible
calls: signature changed: f: `int (struct agent *, float)` is now `int (struct agent *, double)`
calls: signature changed: g: `int (int)` is now `int (int, int)`
calls: signature changed: h: `int (int, ...)` is now `int (int)`
calls: signature changed: i: `unsigned int (void)` is now `int (void)`
calls: signature changed: j: `void (char *)` is now `int (char *)`
calls: signature changed: k: `int (int (*)(int))` is now `int (int (*)(short))`
calls: signature changed: m: `int (void *)` is now `int (char *)`
calls: signature changed: n: `int (_Bool)` is now `int (unsigned char)`",
    );
}

#[test]
fn names_of_types_and_const_do_not_matter() {
    check(
        "struct point { float x, y; }; long f(const char *text, struct point p, signed char c) { return *text + p.x + c; }",
        "typedef struct { const float x; volatile float y; } point; typedef long result; typedef signed char tiny;
         result f(char *text, const point p, tiny c) { return *text + p.x + c; }",
        "links compatible, calls compatible, state compatible",
    );
}

#[test]
fn structures_that_callers_see() {
    check(
        "struct in { int a; }; struct agent { float x, y; int hp; struct in in; union { int i; float f; } u; };
         struct flags { unsigned a : 3, b : 5; }; int by_value(struct agent a) { return a.hp; }
         int by_pointer(struct flags *f) { return f->a; }",
        "struct in { long a; }; struct agent { float x, y; long speed; int hp; struct in in; union { int i; double f; } u; };
         struct flags { unsigned a : 4, b : 5; }; int by_value(struct agent a) { return a.hp; }
         int by_pointer(struct flags *f) { return f->a; }",
        "
links compatible, calls incompatible, state incompatible
calls: layout changed: struct agent: `struct agent: size 20, hp: int at 8, no speed, in: struct in at 12, and 1 more` is now `struct agent: size 40, hp: int at 16, speed: long at 8, in: struct in at 24, and 1 more` (reached from by_value)
calls: layout changed: struct agent.u: `struct agent.u: size 4, f: float at 0` is now `struct agent.u: size 8, f: double at 0` (reached from by_value)
calls: layout changed: struct flags: `struct flags: size 4, a: unsigned int:3 at bit 0, b: unsigned int:5 at bit 3` is now `struct flags: size 4, a: unsigned int:4 at bit 0, b: unsigned int:5 at bit 4` (reached from by_pointer)
calls: layout changed: struct in: `struct in: size 4, a: int at 0` is now `struct in: size 8, a: long at 0` (reached from by_value)
state: layout changed: struct agent: `struct agent: size 20, hp: int at 8, no speed, in: struct in at 12, and 1 more` is now `struct agent: size 40, hp: int at 16, speed: long at 8, in: struct in at 24, and 1 more` (reached from by_value)
state: layout changed: struct agent.u: `struct agent.u: size 4, f: float at 0` is now `struct agent.u: size 8, f: double at 0` (reached from by_value)
state: layout changed: struct flags: `struct flags: size 4, a: unsigned int:3 at bit 0, b: unsigned int:5 at bit 3` is now `struct flags: size 4, a: unsigned int:4 at bit 0, b: unsigned int:5 at bit 4` (reached from by_pointer)
state: layout changed: struct in: `struct in: size 4, a: int at 0` is now `struct in: size 8, a: long at 0` (reached from by_value)",
    );
}

#[test]
fn enumerations() {
    check(
        "enum kind { RED, GREEN = 5, BLUE }; enum more { ONE = 1 }; enum less { TWO = 2, THREE };
         int f(enum kind k, enum more m, enum less l) { return k + m + l; }",
        "enum kind { RED, GREEN = 6, BLUE = 5 }; enum more { ONE = 1, ELEVEN = 11 }; enum less { THREE = 3 };
         int f(enum kind k, enum more m, enum less l) { return k + m + l; }",
        "
links compatible, calls incompatible, state incompatible
calls: enumeration changed: enum kind: `enum kind: size 4, GREEN = 5, BLUE = 6` is now `enum kind: size 4, GREEN = 6, BLUE = 5` (reached from f)
state: enumeration changed: enum kind: `enum kind: size 4, GREEN = 5, BLUE = 6` is now `enum kind: size 4, GREEN = 6, BLUE = 5` (reached from f)
state: enumeration changed: enum less: `enum less: size 4, TWO = 2` is now `enum less: size 4, no TWO` (reached from f)
calls: enumeration changed: enum less: `enum less: size 4, TWO = 2` is now `enum less: size 4, no TWO` (reached from f) (compatible)
calls: enumeration changed: enum more: `enum more: size 4, no ELEVEN` is now `enum more: size 4, ELEVEN = 11` (reached from f) (compatible)
state: enumeration changed: enum more: `enum more: size 4, no ELEVEN` is now `enum more: size 4, ELEVEN = 11` (reached from f) (compatible)",
    );
}

#[test]
fn state_of_its_own() {
    check(
        "struct deep { char c; }; struct node { struct node *next; struct deep *deep[4]; }; static struct node list;
         static const int primes[] = {2, 3}; struct mode { int a; }; static const struct mode modes[2] = {{1}};
         static int was; int f(int x) { static short calls; list.next = list.next->next; was += x; return ++calls + primes[x] + modes[x].a; }",
        "struct deep { short c; }; struct node { struct node *next; struct deep *deep[4]; }; static struct node list;
         static const int primes[] = {2, 3, 5}; struct mode { int a; }; static const struct mode modes[3] = {{1}};
         static int is; int f(int x) { static int calls; list.next = list.next->next; is += x; return ++calls + primes[x] + modes[x].a; }",
        "
links compatible, calls compatible, state incompatible
state: layout changed: struct deep: `struct deep: size 1, c: char at 0` is now `struct deep: size 2, c: short at 0` (reached from list)
state: variable changed: f::calls: `short` is now `int`
state: variable changed: modes: `struct mode[2]` is now `struct mode[3]` (compatible)
state: variable changed: primes: `int[2]` is now `int[3]` (compatible)
state: variable added: is: `int` (compatible)
state: variable removed: was: was `int` (compatible)",
    );
}

/// A header as the compiler sees it.
macro_rules! in_files {
    ($($file:literal $text:expr),* $(,)?) => { concat!($("#line 1 \"", $file, "\"\n", $text, "\n"),*) };
}

#[test]
fn opaque_by_a_typedef_in_another_file() {
    check(
        in_files!("api.h" "typedef struct context_s context; typedef struct seen { int a; } seen;",
            "internal.h" "struct context_s { int level; };",
            "part0.c" "context *make(seen *s) { static context c; c.level = s->a; return &c; }"),
        in_files!("api.h" "typedef struct context_s context; typedef struct seen { int a; } seen;",
            "internal.h" "struct context_s { int flags; int level; };",
            "part0.c" "context *make(seen *s) { static context c; c.level = s->a; return &c; }"),
        "
links compatible, calls compatible, state incompatible
state: layout changed: struct context_s: `struct context_s: size 4, level: int at 0, no flags` is now `struct context_s: size 8, level: int at 4, flags: int at 0` (reached from make)",
    );
}

#[test]
fn opaque_by_a_declaration_in_another_unit() {
    let second = "\n---\n#line 1 \"api.h\"\nstruct inner; struct stream { struct inner *inner; int n; };\n#line 1 \"part1.c\"\n\
        int count(struct stream *s) { return s->n; }";
    let first = |inner: &str| {
        format!(
            "#line 1 \"api.h\"\nstruct inner; struct stream {{ struct inner *inner; int n; }};\n#line 1 \"internal.h\"\n\
            struct inner {{ {inner} }};\n#line 1 \"part0.c\"\nint run(struct stream *s) {{ return s->inner->x; }}{second}"
        )
    };
    check(
        &first("int x;"),
        &first("int w, x;"),
        "
links compatible, calls compatible, state incompatible
state: layout changed: struct inner: `struct inner: size 4, x: int at 0, no w` is now `struct inner: size 8, x: int at 4, w: int at 0` (reached from count)",
    );
}

#[test]
fn opaque_as_it_is_in_the_source() {
    check(
        in_files!("api.h" "struct inner; struct stream { struct inner *inner; };",
            "part0.c" "struct inner { int x; }; int run(struct stream *s) { return s->inner->x; }"),
        in_files!("api.h" "struct inner; struct stream { struct inner *inner; };",
            "part0.c" "struct inner { int w, x; }; int run(struct stream *s) { return s->inner->x; }"),
        "
links compatible, calls compatible, state incompatible
state: layout changed: struct inner: `struct inner: size 4, x: int at 0, no w` is now `struct inner: size 8, x: int at 4, w: int at 0` (reached from run)",
    );
}
