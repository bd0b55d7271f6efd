//! Hundreds of files against what llvm-objdump prints of them: where everything is, every byte of
//! the linked image, imports, exports, what is called at load and unload, thread-local variables.

use super::common::{HOST, MAX_SPAN};
use super::generate::{LIBRARY_ONE, LIBRARY_TWO, module};
use super::objdump::{self, File, Fixup};
use super::tools::{DYLIB, Folder, compile, link};
use midflight_image::{Binding, ExportKind, Format, Image, Import, Lookup, Machine, Protection};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// How each source is linked: with the libraries or without, for which macOS, and the flags.
const FORMS: &[(bool, &str, &[&str])] = &[
    (false, "11.0", &["-dylib", "-fixup_chains"]),
    (false, "11.0", &["-dylib", "-no_fixup_chains"]),
    (true, "11.0", &["-dylib", "-no_fixup_chains", "-rpath", "@loader_path/../lib", "-rpath", "/opt/lib"]),
    (true, "14.0", &["-dylib", "-install_name", "@rpath/libmine.dylib"]),
    (true, "14.0", &["-dylib", "-flat_namespace", "-init_offsets"]),
    (true, "12.0", &["-dylib", "-flat_namespace", "-no_fixup_chains", "-no_data_const"]),
    (true, "13.0", &["-bundle"]),
    (true, "11.0", &["-bundle", "-no_fixup_chains", "-dead_strip"]),
];

const SOURCES: u64 = 27;

/// What compilers make: stubs, thread-local variables, constructors, exceptions.
const COMPILED: &[(&str, &str)] = &[
    (
        "rich.c",
        r#"
extern int host_add(int, int), host_value;
extern int maybe(void) __attribute__((weak_import));
int counter = 7, zeroed[5000];
static int hidden = 9;
int *to_counter = &counter, *to_hidden = &hidden, *to_host = &host_value, (*to_maybe)(void) = maybe;
char *past_host = (char *)&host_value + 24;
__attribute__((weak)) int soft(int x) { return x; }
int (*to_soft)(int) = soft;
__thread int mine = 3, zeros[9];
static __thread int one = 9;
__thread int *pointer = &counter;
int (*const calls[])(int, int) = {host_add};
const char *const names[] = {"one", "two"};
int step(int x) { return host_add(x, counter) + host_value + hidden++ + soft(x) + mine++ + one++ + (maybe ? maybe() : 0) + *pointer; }
__attribute__((constructor)) void up(void) { counter++; }
__attribute__((destructor)) void down(void) { counter--; }
"#,
    ),
    (
        "thrower.cc",
        r#"
struct Base { virtual ~Base(); virtual int get() { return 1; } int value = 3; };
Base::~Base() {}
struct Derived : Base { int get() override { if (value > 3) throw value; return 2; } };
inline int count() { static int counter; return ++counter; }
extern "C" Base *make() { return new Derived; }
extern "C" int use(Base *base) { try { return base->get() + count(); } catch (int x) { return x; } }
"#,
    ),
];

struct Built {
    path: PathBuf,
    bytes: Vec<u8>,
    what: String,
}

/// The two libraries.
fn libraries(folder: &Folder) -> [PathBuf; 2] {
    [("one", LIBRARY_ONE), ("two", LIBRARY_TWO)].map(|(name, source)| {
        let object = compile(folder, &format!("{name}.s"), source, &[]);
        let (output, id) = (folder.path(&format!("lib{name}.dylib")), format!("@rpath/lib{name}.dylib"));
        link(&output, &[&object], "11.0", &["-dylib", "-install_name", &id]);
        output
    })
}

fn build(folder: &Folder, object: &Path, form: usize, libraries: &[PathBuf; 2]) -> Built {
    let (with, version, flags) = FORMS[form];
    let path = folder.path(&format!("module{form}.dylib"));
    let mut inputs = vec![object];
    if with {
        inputs.extend(libraries.iter().map(PathBuf::as_path));
    }
    let bytes = link(&path, &inputs, version, &[flags, &DYLIB[1..]].concat());
    let what = format!("{} as {version} {flags:?}", object.display());
    Built { path, bytes, what }
}

/// What a symbol of others stands for: any number, one for each.
fn address_of(name: &str) -> u64 {
    let hash = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    (hash >> 24) | 1 << 39
}

fn binding(import: &Import<'_>) -> Option<Binding> {
    (!import.weak).then(|| Binding::Address(address_of(import.name)))
}

fn c_name(symbol: &str) -> &str {
    symbol.strip_prefix('_').unwrap_or(symbol)
}

/// Everything that is asked of one file.
fn check(built: &Built) -> (Imports, Option<usize>) {
    let (what, bytes) = (&built.what, &built.bytes);
    let file = objdump::read(&built.path);
    let expected = Expected::of(&file, bytes);
    let mut imported = Imports::new();
    for page_size in [4096, 16384] {
        let image = Image::parse(bytes, Machine::Aarch64, page_size, MAX_SPAN);
        let image = image.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(image.format(), Format::MachO);
        regions(&file, &image, page_size, what);
        imported = imports(&image);
        assert!(imported.keys().eq(expected.imports.keys()), "{what}: {imported:?} {:?}", expected.imports);
        for (import, weak) in &imported {
            assert!(expected.imports[import].is_none_or(|expected| expected == *weak), "{what}: {import:?}");
        }
        exports(&file, &image, bytes, what);
        for base in [0x4000_0000, 0x7F12_3456_0000] {
            linked(&file, &image, &expected, base, what);
        }
        let needed: Vec<String> =
            file.libraries.iter().map(|library| library.trim_start_matches("@rpath/").into()).collect();
        assert_eq!(image.needed(), needed, "{what}");
        assert_eq!(image.soname(), file.id.as_deref().map(|id| id.trim_start_matches("@rpath/")), "{what}");
        let runpath: Vec<String> =
            file.rpaths.iter().map(|folder| folder.replace("@loader_path", "$ORIGIN")).collect();
        assert_eq!(image.runpath().unwrap_or_default(), runpath.join(":"), "{what}");
    }
    (imported, file.imports_format)
}

fn loaded(file: &File) -> impl Iterator<Item = &objdump::Segment> {
    file.segments.iter().filter(|segment| segment.name != "__LINKEDIT" && segment.size > 0)
}

fn regions(file: &File, image: &Image<'_>, page_size: u64, what: &str) {
    let mut expected = Vec::new();
    for segment in loaded(file) {
        let protection = match &*segment.protection {
            "r-x" => Protection::ReadExecute,
            "rw-" if segment.read_only => Protection::Read,
            "rw-" => Protection::ReadWrite,
            "r--" => Protection::Read,
            other => panic!("{other}"),
        };
        for page in (segment.address..segment.address + segment.size).step_by(page_size as usize) {
            expected.push((page, protection));
        }
    }
    let end = expected.last().unwrap().0 + page_size;
    let mut pages = Vec::new();
    for region in image.regions() {
        let all = (region.offset..region.offset + region.len).step_by(page_size as usize);
        pages.extend(all.map(|page| (page, region.protection)).filter(|(page, _)| *page < end));
    }
    assert_eq!(pages, expected, "{what}");
    // Behind it only what the reader has made of unwind tables.
    let rest = image.unwind().map_or(0, |unwind| unwind.size.next_multiple_of(page_size));
    assert_eq!(image.span(), end + rest, "{what}");
}

/// What the linker has in this place of the file.
fn word(file: &File, bytes: &[u8], at: u64) -> u64 {
    let holds =
        |segment: &&objdump::Segment| (segment.address..segment.address + segment.file_size).contains(&at);
    let segment = file.segments.iter().find(holds).unwrap();
    let offset = (at - segment.address + segment.file_offset) as usize;
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

/// With whether they may be missing.
type Imports = BTreeMap<(String, Lookup), bool>;

struct Expected {
    /// The places, and what they are to hold: an address of the file, or what a symbol stands for
    /// and more.
    places: BTreeMap<u64, Value>,
    imports: BTreeMap<(String, Lookup), Option<bool>>,
    memory: Vec<u8>,
}

#[derive(Clone)]
enum Value {
    Own(u64),
    Number(u64),
    Symbol(String, Lookup, i64),
}

impl Expected {
    fn of(file: &File, bytes: &[u8]) -> Self {
        let exports: BTreeMap<&str, &objdump::Export> =
            file.exports.iter().map(|export| (&*export.name, export)).collect();
        let mut expected = Expected { places: BTreeMap::new(), imports: BTreeMap::new(), memory: Vec::new() };
        for segment in loaded(file) {
            expected.memory.resize((segment.address + segment.size) as usize, 0);
            let part = &bytes[segment.file_offset as usize..][..segment.file_size as usize];
            expected.memory[segment.address as usize..][..part.len()].copy_from_slice(part);
        }
        let short =
            |library: &String| library.rsplit('/').next().unwrap().trim_end_matches(".dylib").to_string();
        let libraries: Vec<String> = file.libraries.iter().map(short).collect();
        for fixup in &file.fixups {
            match fixup {
                Fixup::Rebase { at } => {
                    let word = word(file, bytes, *at);
                    // The highest byte is a tag: C++ marks names of types so that others may have,
                    // too.
                    let target = match file.chained {
                        true => word & 0xF_FFFF_FFFF | (word >> 36 & 0xFF) << 56,
                        false => word,
                    };
                    expected.places.insert(*at, Value::Own(target));
                }
                Fixup::Bind { at, name, library, addend, weak } => {
                    let from = match &**library {
                        "flat-namespace" | "weak" => Lookup::Anywhere,
                        "main-executable" => Lookup::Program,
                        "this-image" => panic!("{name} in this image"),
                        library => {
                            let index = libraries.iter().position(|name| name == library);
                            Lookup::Library(index.unwrap_or_else(|| panic!("{library}: {libraries:?}")))
                        }
                    };
                    expected.bind(*at, name, from, *addend, *weak, &exports);
                }
                // The module's own, or what the other tables have said.
                Fixup::WeakBind { at, name, addend } => {
                    if exports.contains_key(&**name) || !expected.places.contains_key(at) {
                        expected.bind(*at, name, Lookup::Anywhere, *addend, Some(false), &exports);
                    }
                }
            }
        }
        for section in file.sections.iter().filter(|section| section.kind == "S_THREAD_LOCAL_VARIABLES") {
            for at in (section.address..section.address + section.size).step_by(24) {
                let variable = HOST.tls_module << 32 | word(file, bytes, at + 16);
                for (at, word) in [(at, HOST.tlv_thunk), (at + 8, variable), (at + 16, 0)] {
                    expected.places.insert(at, Value::Number(word));
                }
            }
        }
        expected
    }

    fn bind(
        &mut self,
        at: u64,
        name: &str,
        from: Lookup,
        addend: i64,
        weak: Option<bool>,
        exports: &BTreeMap<&str, &objdump::Export>,
    ) {
        let value = match (name, exports.get(name)) {
            ("__tlv_bootstrap", _) => return,
            ("dyld_stub_binder", _) => Value::Number(0),
            (_, Some(export)) if from == Lookup::Anywhere => match export.flags.contains("absolute") {
                true => Value::Number(export.address.wrapping_add_signed(addend)),
                false => Value::Own(export.address.wrapping_add_signed(addend)),
            },
            _ => {
                let may_be_missing = self.imports.entry((c_name(name).into(), from)).or_default();
                *may_be_missing = match (*may_be_missing, weak) {
                    (Some(one), Some(other)) => Some(one && other),
                    (one, other) => one.or(other),
                };
                Value::Symbol(c_name(name).into(), from, addend)
            }
        };
        self.places.insert(at, value);
    }
}

fn imports(image: &Image<'_>) -> Imports {
    // What the module has itself is bound to that here.
    let imports = image.imports().iter().filter(|import| import.own.is_none());
    let all: Imports = imports.map(|import| ((import.name.to_string(), import.from), import.weak)).collect();
    let own = image.imports().iter().filter(|import| import.own.is_some()).count();
    assert_eq!(all.len() + own, image.imports().len(), "each is there once");
    all
}

fn exports(file: &File, image: &Image<'_>, bytes: &[u8], what: &str) {
    let code: Vec<_> = file.sections.iter().filter(|section| section.code).collect();
    let mut expected = BTreeSet::new();
    for export in file.exports.iter().filter(|export| !export.flags.contains("absolute")) {
        let function =
            code.iter().any(|code| (code.address..code.address + code.size).contains(&export.address));
        let (kind, offset) = match export.flags.contains("per-thread") {
            true => ("thread-local", word(file, bytes, export.address + 16)),
            false if function => ("function", export.address),
            false => ("data", export.address),
        };
        expected.insert((c_name(&export.name).to_string(), offset, kind));
    }
    let mut found = BTreeSet::new();
    for export in image.exports() {
        let kind = match export.kind {
            ExportKind::Function => "function",
            ExportKind::Data => "data",
            ExportKind::ThreadLocal => "thread-local",
            ExportKind::Indirect => "indirect",
        };
        found.insert((export.name.to_string(), export.offset, kind));
        assert_eq!(image.export(export.name), Some(export), "{what}");
    }
    assert_eq!(found, expected, "{what}");
    assert!(image.export("no such symbol").is_none() && image.export("").is_none());
}

fn linked(file: &File, image: &Image<'_>, expected: &Expected, base: u64, what: &str) {
    let mut memory = vec![0; image.span() as usize];
    let bindings: Vec<_> = image.imports().iter().map(binding).collect();
    image.link(base, &mut memory, &HOST, &bindings).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut model = expected.memory.clone();
    for (at, value) in &expected.places {
        let value = match value {
            Value::Own(address) => address.wrapping_add(base),
            Value::Number(number) => *number,
            Value::Symbol(name, from, addend) => {
                let missing = image
                    .imports()
                    .iter()
                    .any(|i| i.weak && i.own.is_none() && i.name == name && i.from == *from);
                (if missing { 0 } else { address_of(name) }).wrapping_add_signed(*addend)
            }
        };
        model[*at as usize..][..8].copy_from_slice(&value.to_le_bytes());
    }
    let differs = model.iter().zip(&memory).position(|(one, other)| one != other);
    assert_eq!(differs.map(|at| format!("{at:#x}")), None, "{what}");

    let at = |place: u64| u64::from_le_bytes(model[place as usize..][..8].try_into().unwrap());
    let of = |kind: &str| -> Vec<_> { file.sections.iter().filter(|section| section.kind == kind).collect() };
    let words = |kind: &str| -> Vec<u64> {
        of(kind).iter().flat_map(|s| (s.address..s.address + s.size).step_by(8).map(at)).collect()
    };
    let mut init = words("S_MOD_INIT_FUNC_POINTERS");
    for section in of("S_INIT_FUNC_OFFSETS") {
        init.extend((section.address..section.address + section.size).step_by(4).map(|place| {
            base + u64::from(u32::from_le_bytes(model[place as usize..][..4].try_into().unwrap()))
        }));
    }
    let mut fini = words("S_MOD_TERM_FUNC_POINTERS");
    fini.reverse();
    assert_eq!(image.init(base, &memory).unwrap(), init, "{what}");
    assert_eq!(image.fini(base, &memory).unwrap(), fini, "{what}");

    let mut parts = [of("S_THREAD_LOCAL_REGULAR"), of("S_THREAD_LOCAL_ZEROFILL")].concat();
    parts.retain(|part| part.size > 0);
    let start = parts.iter().map(|part| part.address).min();
    let block = image.thread_locals();
    assert_eq!(block.is_some(), start.is_some(), "{what}");
    if let (Some(block), Some(start)) = (block, start) {
        let end = |kind: &str| parts.iter().filter(|p| p.kind == kind).map(|p| p.address + p.size).max();
        let filled = end("S_THREAD_LOCAL_REGULAR").map_or(0, |end| end - start);
        assert_eq!(block.initialised, filled, "{what}");
        assert!(filled == 0 || block.offset == start, "{what}");
        let size = end("S_THREAD_LOCAL_REGULAR").max(end("S_THREAD_LOCAL_ZEROFILL")).unwrap() - start;
        let align = parts.iter().map(|part| part.align).max().unwrap();
        assert_eq!((block.size, block.align, block.skew), (size, align, start % align), "{what}");
    }
    if let Some(unwind) = image.unwind() {
        let section = image.content(&memory, unwind.offset, unwind.size);
        let functions =
            midflight_image::unwind::check(section, base + unwind.offset, base..base + image.span());
        assert!(functions.unwrap_or_else(|error| panic!("{what}: {error}")) > 0, "{what}");
    }
}

#[test]
fn generated_files() {
    let checked = std::sync::atomic::AtomicUsize::new(0);
    let formats = std::sync::Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (checked, formats) = (&checked, &formats);
            scope.spawn(move || {
                let folder = Folder::new();
                let libraries = libraries(&folder);
                for seed in (half..SOURCES).step_by(2) {
                    let object = compile(&folder, &format!("module{seed}.s"), &module(seed), &[]);
                    let mut imported = Vec::new();
                    for form in 0..FORMS.len() {
                        let built = build(&folder, &object, form, &libraries);
                        let (imports, format) = check(&built);
                        imported.push(imports);
                        formats.lock().unwrap().insert(format);

                        checked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                    // The same in both forms of fix-ups.
                    assert_eq!(imported[0], imported[1], "{seed}");
                }
            });
        }
    });
    assert!(checked.into_inner() >= 200);
    // Opcodes, and every form that imports of chained fix-ups have.
    assert_eq!(formats.into_inner().unwrap(), BTreeSet::from([None, Some(1), Some(2), Some(3)]));
}

#[test]
fn compiled_files() {
    let folder = Folder::new();
    let libraries = libraries(&folder);
    for (name, source) in COMPILED {
        let object = compile(&folder, name, source, &[]);
        let mut imported = Vec::new();
        for form in 0..FORMS.len() {
            let built = build(&folder, &object, form, &libraries);
            imported.push(check(&built).0);
            let image = Image::parse(&built.bytes, Machine::Aarch64, 16384, MAX_SPAN).unwrap();
            assert!(image.unwind().is_some(), "{}", built.what);
        }
        assert_eq!(imported[0], imported[1], "{name}");
    }
}
