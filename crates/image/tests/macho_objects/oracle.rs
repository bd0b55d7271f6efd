//! Every relocation of many files, as `llvm-objdump` reads it, against what is at its place in the
//! linked image: the instruction or the word there must lead to the symbol of that name, which
//! `llvm-nm` has the address of.
//!
//! Where a section went is worked out from the names that the image has; of one without any, from
//! the first reference to it, which all others must agree with, and so must what is in it.

use crate::common::{HOST, u32_at, u64_at};
use crate::tools::{Names, Relocation, Scratch, Section, compile_all, names, relocations, run, sections};
use crate::{BASE, FAR, Linked, NEAR, generate, link_at};
use midflight_image::{ExportKind, Image, Import, Machine, Protection};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

fn host(import: &Import<'_>) -> Option<u64> {
    match import.name {
        "maybe" => None,
        "far" => Some(FAR),
        "near" => Some(NEAR),
        // Each another.
        name => Some(
            0x5555_0000_0000
                + name.bytes().fold(7u64, |sum, byte| sum * 31 % 0xFF_FFFF + u64::from(byte)) * 8,
        ),
    }
}

/// One file and everything that is known of it.
struct Case<'a> {
    bytes: &'a [u8],
    linked: Linked<'a>,
    sections: Vec<Section>,
    names: &'a Names,
    /// Where sections are, by name.
    bases: BTreeMap<String, u64>,
    /// Of the symbols that have entries of the global offset table: the page and the rest of their
    /// addresses, as far as known.
    entries: BTreeMap<String, (Option<u64>, Option<u64>)>,
    /// How many relocations of each type were compared.
    compared: BTreeMap<String, usize>,
    /// What is not as in the file, and not to be compared with it.
    changed: BTreeSet<(String, u64)>,
}

/// Not in the image as they are; `unwind.rs` looks at what becomes of them.
const NOT_COMPARED: [&str; 2] = ["__LD,__compact_unwind", "__TEXT,__eh_frame"];

impl<'a> Case<'a> {
    fn new(bytes: &'a [u8], names: &'a Names) -> Self {
        let image = Image::parse(bytes, Machine::Aarch64, 16384, 64 << 20).unwrap();
        let linked = link_at(image, BASE, host);
        let mut case = Case {
            bytes,
            linked,
            sections: sections(bytes),
            names,
            bases: BTreeMap::new(),
            entries: BTreeMap::new(),
            compared: BTreeMap::new(),
            changed: BTreeSet::new(),
        };
        // Several may have one name: their symbols, which have none in the image, share the place.
        let symbols = case.linked.image.symbols();
        for symbol in &symbols.symbols {
            let name = format!("_{}", String::from_utf8_lossy(symbols.name(symbol)));
            let (address, section) = names[&name].clone().expect("a symbol that the image has is defined");
            let offset = address - case.section(&section).address;
            let base = BASE + symbol.offset - offset;
            assert_eq!(*case.bases.entry(section).or_insert(base), base, "{name}");
        }
        case
    }

    fn section(&self, name: &str) -> &Section {
        self.sections
            .iter()
            .find(|section| section.name == name)
            .unwrap_or_else(|| panic!("no section {name}"))
    }

    fn place(&self, relocation: &Relocation) -> u64 {
        self.bases[&relocation.section] + relocation.place
    }

    /// What the file has at a relocation's place.
    fn inline(&self, relocation: &Relocation) -> i64 {
        let at = self.section(&relocation.section).offset + relocation.place as usize;
        match relocation.size {
            4 => i64::from(u32_at(self.bytes, at) as i32),
            _ => u64_at(self.bytes, at) as i64,
        }
    }

    /// What the image has there.
    fn word(&self, relocation: &Relocation) -> u64 {
        let at = (self.place(relocation) - BASE) as usize;
        match relocation.size {
            4 => i64::from(u32_at(&self.linked.memory, at) as i32) as u64,
            _ => u64_at(&self.linked.memory, at),
        }
    }

    /// The address of a symbol, if it is known. `found`: where something leads that should lead
    /// there.
    fn address(&mut self, name: &str, found: u64) -> u64 {
        if name == "___dso_handle" {
            return BASE;
        }
        match self.names.get(name).unwrap_or_else(|| panic!("no symbol {name}")) {
            Some((address, section)) => {
                let section = self.section(section).clone();
                let offset = address - section.address;
                offset + self.base(&section, found.wrapping_sub(offset))
            }
            // A common block.
            None if self.linked.image.export(&name[1..]).is_some() => self.linked.address(&name[1..]),
            None => {
                let is_it = |import: &&Import<'_>| import.name == &name[1..];
                let import =
                    self.linked.image.imports().iter().find(is_it).unwrap_or_else(|| panic!("{name}"));
                host(import).unwrap_or(0)
            }
        }
    }

    /// Where a section is; what is `found`, if nothing else says so.
    fn base(&mut self, section: &Section, found: u64) -> u64 {
        *self.bases.entry(section.name.clone()).or_insert(found)
    }

    /// Notes half of the address of an entry of the global offset table.
    fn entry(&mut self, name: &str, page: Option<u64>, low: Option<u64>) {
        let entry = self.entries.entry(name.to_string()).or_default();
        for (known, new) in [(&mut entry.0, page), (&mut entry.1, low)] {
            if let Some(new) = new {
                assert_eq!(*known.get_or_insert(new), new, "each symbol has one entry: {name}");
            }
        }
    }

    fn compare(&mut self, relocations: &[Relocation]) {
        let (mut addend, mut minus) = (0, None);
        for relocation in relocations {
            if NOT_COMPARED.contains(&&*relocation.section) {
                continue;
            }
            let Relocation { section, kind, target, .. } = relocation;
            *self.compared.entry(kind.clone()).or_default() += 1;
            for byte in 0..relocation.size as u64 {
                self.changed.insert((section.clone(), relocation.place + byte));
            }
            match &**kind {
                "ADDEND" => {
                    // 24 bits, signed.
                    addend = i64::from((u32::from_str_radix(target, 16).unwrap() << 8) as i32 >> 8);
                    continue;
                }
                "SUB" => {
                    minus = Some(target.clone());
                    continue;
                }
                _ if section == "__DATA,__thread_vars" => self.descriptor(relocation),
                _ => self.one(relocation, addend, minus.take()),
            }
            addend = 0;
        }
    }

    fn one(&mut self, relocation: &Relocation, addend: i64, minus: Option<String>) {
        let Relocation { kind, target, .. } = relocation;
        // A section that nothing names and nothing has led to yet.
        if !self.bases.contains_key(&relocation.section) {
            return;
        }
        let place = self.place(relocation);
        let what = format!("{relocation:?}");
        match &**kind {
            "UNSIGND" if !relocation.by_symbol => {
                let name = target.split_once('(').unwrap().1.trim_end_matches(')');
                let section = self.section(name).clone();
                let offset = (self.inline(relocation) as u64).wrapping_sub(section.address);
                let word = self.word(relocation);
                assert_eq!(
                    word,
                    self.base(&section, word.wrapping_sub(offset)).wrapping_add(offset),
                    "{what}"
                );
            }
            "UNSIGND" => {
                let word = self.word(relocation);
                let taken = minus.map_or(0, |minus| self.address(&minus, 0));
                let inline = self.inline(relocation);
                let found = word.wrapping_add(taken).wrapping_sub(inline as u64);
                let target = self.address(target, found);
                let wanted = target.wrapping_add_signed(inline).wrapping_sub(taken);
                assert_eq!(word, if relocation.size == 4 { wanted as i32 as u64 } else { wanted }, "{what}");
            }
            "BR26" => {
                let found = self.linked.branch(place);
                let wanted =
                    self.address(target, found.wrapping_add_signed(-addend)).wrapping_add_signed(addend);
                let reaches = (place.wrapping_sub(1 << 27)..place + (1 << 27)).contains(&wanted);
                if reaches {
                    assert_eq!(found, wanted, "{what}");
                } else {
                    assert_eq!(self.linked.through_stub(found), Some(wanted), "{what}");
                }
            }
            "PAGE21" => {
                let found = self.linked.page(place);
                // What is known of it: the page only.
                if self.known(target) {
                    let wanted = self.address(target, 0).wrapping_add_signed(addend);
                    assert_eq!(found, wanted & !0xFFF, "{what}");
                } else {
                    // The other half comes before it in the file.
                    let low =
                        self.entries.remove(&format!("low {target}")).and_then(|entry| entry.1).unwrap();
                    assert_eq!(addend, 0);
                    self.address(target, found + low);
                }
            }
            "PAGOF12" => {
                let found = self.linked.low(place);
                if self.known(target) {
                    let wanted = self.address(target, 0).wrapping_add_signed(addend);
                    assert_eq!(found, wanted & 0xFFF, "{what}");
                } else {
                    self.entries.entry(format!("low {target}")).or_default().1.get_or_insert(found);
                }
            }
            "GOTLDP" | "TLVLDP" => {
                let page = self.linked.page(place);
                self.entry(target, Some(page), None);
            }
            "GOTLDPOF" | "TLVLDPOF" => {
                let low = self.linked.low(place);
                self.entry(target, None, Some(low));
            }
            "PTRTGOT" => {
                let word = self.word(relocation);
                let from = if relocation.pc_relative { place } else { 0 };
                // What the file has there is no addend: lld takes none for this type.
                let entry = word.wrapping_add(from);
                self.entry(target, Some(entry & !0xFFF), Some(entry & 0xFFF));
            }
            other => panic!("{other}"),
        }
    }

    /// Whether it is known where a symbol must be.
    fn known(&self, name: &str) -> bool {
        match self.names.get(name) {
            Some(Some((_, section))) => self.bases.contains_key(section),
            _ => true,
        }
    }

    /// A word of a thread-local variable's descriptor.
    fn descriptor(&mut self, relocation: &Relocation) {
        let place = self.place(relocation);
        if relocation.place.is_multiple_of(24) {
            assert_eq!(relocation.target, "__tlv_bootstrap");
            assert_eq!(self.linked.word_at(place), HOST.tlv_thunk);
            return;
        }
        let key = self.linked.word_at(place - 8);
        assert_eq!((key >> 32, self.linked.word_at(place)), (HOST.tls_module, 0));
        let block = self.linked.image.thread_locals().unwrap();
        // As if the block were the template: the sections of variables that begin as zero go on
        // behind it.
        let found = BASE + block.offset + (key & 0xFFFF_FFFF);
        assert_eq!(found, self.address(&relocation.target.clone(), found), "{relocation:?}");
    }

    /// When all relocations have been compared: the table's entries, and what was in no relocation.
    fn finish(&mut self) {
        for (name, (page, low)) in core::mem::take(&mut self.entries) {
            // An instruction may have one half only.
            let (Some(page), Some(low)) = (page, low) else { continue };
            let found = self.linked.word_at(page + low);
            assert_eq!(self.linked.protection(page + low), Some(Protection::Read));
            assert_eq!(found, self.address(&name, found), "the entry of {name}");
        }
        for section in &self.sections {
            let Some(base) = self.bases.get(&section.name) else { continue };
            let hidden = NOT_COMPARED.contains(&&*section.name) || section.name == "__DATA,__thread_vars";
            if section.offset == 0 || hidden {
                continue;
            }
            for at in 0..section.size {
                if !self.changed.contains(&(section.name.clone(), at)) {
                    let found = self.linked.memory[(base + at - BASE) as usize];
                    assert_eq!(found, self.bytes[section.offset + at as usize], "{} {at:#x}", section.name);
                }
            }
        }
    }
}

const PROGRAMS: [&str; 6] = [
    "extern int far(int), near(int), host_x; int d0 = 3; static int local[20]; int *p = &local[7], *q = &host_x;
     int f(int x) { return far(x) + near(x) + host_x + local[x] + d0++; }
     const char *words[] = {\"one\", \"two\"}; const char *word(int x) { return words[x & 1]; }
     double scale(double x) { return x * 3.1415 + 2.7182; }",
    "__thread int t0 = 5; static __thread long t1; __thread char t2[100]; long sum(int x) { t1 += t0; return t1 + t2[x]; }
     extern int maybe(void) __attribute__((weak_import)); int call(void) { return maybe ? maybe() : 7; }",
    "int pick(int x, int y) { switch (x) { case 0: return y * 3; case 1: return y / 5; case 2: return y ^ 77; case 3: return \
     y + 1000; case 4: return y - x; case 5: return y * y; case 9: return 2; case 11: return 13; } return 0; }
     struct s { int a; long b; char c[30]; }; struct s table[7] = {{1, 2, \"three\"}}; extern struct s elsewhere[];
     long get(int i) { return table[i].b + elsewhere[i + 3].c[2]; }",
    "void up(void) __attribute__((constructor)); void down(void) __attribute__((destructor)); static int n; void up(void) \
     { n++; } void down(void) { n--; } int count(void) { return n; } int (*table[])(void) = {count, count};
     __attribute__((visibility(\"hidden\"))) int hidden = 4; int h(void) { return hidden + n; }
     __attribute__((weak)) int soft(int x) { return x + hidden; } int s(int x) { return soft(x); }",
    "typedef float v4 __attribute__((vector_size(16))); v4 wide = {1, 2, 3, 4}; short small[3]; unsigned char byte; v4 w(v4 x) \
     { return x * wide + (v4){5, 6, 7, 8}; } int all(int i) { return small[i] + byte + (int)wide[0]; }",
    "extern void *malloc(unsigned long), free(void *); extern int printf(const char *, ...);
     int say(int n) { char *p = malloc(n); p[0] = 3; int r = printf(\"%d %s\\n\", p[0], \"text\"); free(p); return r; }
     int shared; int *s(void) { return &shared; }",
];

const CPP: [&str; 3] = [
    "struct base { virtual int f(int); virtual ~base(); }; int base::f(int x) { return x; } base::~base() {}
     struct derived : base { int f(int x) override { return base::f(x) + 1; } }; base *make() { return new derived; }
     template <class T> T twice(T x) { static T last; return last += x + x; } int use(int x) { return twice(x) + twice((long)x); }",
    "extern int far(int); struct guard { guard(); ~guard(); }; int f(int x) { guard g; try { return far(x); } catch (int e) { \
     return e; } catch (...) { throw; } } static guard global; inline int shared = 3; int s() { return shared; }",
    "struct thing { thing(); ~thing(); int x; }; thread_local thing t; int f() { return t.x; } int g(int x) { thread_local int n; \
     return n += x; }",
];

/// So many files of assembly; from C and C++ there are some at each level.
const ASSEMBLY: u64 = 168;
const LEVELS: [&str; 4] = ["-O0", "-O1", "-O2", "-Os"];

fn files(scratch: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = |name: &str| {
        let folder = scratch.join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    };
    let assembly: Vec<_> = (0..ASSEMBLY).map(|seed| (generate::source(seed, false), "s")).collect();
    let mut files = compile_all(&folder("assembly"), &assembly, &[]);
    let mut programs: Vec<_> = PROGRAMS.iter().map(|source| (source.to_string(), "c")).collect();
    programs.extend(CPP.iter().map(|source| (source.to_string(), "cc")));
    for level in LEVELS {
        files.extend(compile_all(&folder(level), &programs, &[level, "-fcommon"]));
    }
    files
}

#[test]
fn every_relocation_leads_to_its_symbol() {
    let started = Instant::now();
    let scratch = Scratch::new();
    let files = files(scratch.path());
    assert!(files.len() >= 200);
    let paths: Vec<&Path> = files.iter().map(|(path, _)| path.as_path()).collect();
    let (relocations, names) = (relocations(&paths), names(&paths));
    let mut compared: BTreeMap<String, usize> = BTreeMap::new();
    for (path, bytes) in &files {
        let path = path.to_str().unwrap();
        let mut case = Case::new(bytes, &names[path]);
        // Twice: sections without names are found where the first reference leads.
        case.compare(&relocations[path]);
        let first = core::mem::take(&mut case.compared);
        case.compare(&relocations[path]);
        case.finish();
        for (kind, count) in first {
            *compared.entry(kind).or_default() += count;
        }
    }
    for (kind, least) in [
        ("UNSIGND", 2000),
        ("SUB", 200),
        ("BR26", 1500),
        ("PAGE21", 500),
        ("PAGOF12", 500),
        ("GOTLDP", 800),
        ("GOTLDPOF", 800),
        ("PTRTGOT", 500),
        ("TLVLDP", 300),
        ("TLVLDPOF", 300),
        ("ADDEND", 300),
    ] {
        assert!(compared[kind] >= least, "{kind}: {compared:?}");
    }
    println!("{} files, {compared:?}, {:?}", files.len(), started.elapsed());
}

/// Names, and which of them are thread-local variables.
#[test]
fn the_same_is_exported_as_by_lld() {
    let scratch = Scratch::new();
    let sources: Vec<_> = (500..512).map(|seed| (generate::source(seed, true), "s")).collect();
    let mut files = compile_all(scratch.path(), &sources, &[]);
    let folder = scratch.path().join("c");
    std::fs::create_dir(&folder).unwrap();
    let programs: Vec<_> = CPP.iter().map(|source| (source.to_string(), "cc")).collect();
    files.extend(compile_all(&folder, &programs, &["-O2"]));
    for (path, bytes) in &files {
        let library = path.with_extension("dylib");
        run(Command::new("ld64.lld-19")
            .args(["-dylib", "-arch", "arm64", "-platform_version", "macos", "11.0", "11.0"])
            .args(["-undefined", "dynamic_lookup", "-o"])
            .arg(&library)
            .arg(path));
        let text = run(Command::new("llvm-objdump-19").args(["--macho", "--exports-trie"]).arg(&library));
        let theirs: BTreeMap<String, bool> = text
            .lines()
            .filter_map(|line| line.strip_prefix("0x")?.split_once('_').map(|(_, name)| name.to_string()))
            .map(|name| {
                let plain = name.split_whitespace().next().unwrap().to_string();
                (plain, name.contains("[per-thread]"))
            })
            .collect();
        assert!(theirs.len() > 2, "{text}");
        let image = Image::parse(bytes, Machine::Aarch64, 16384, 64 << 20).unwrap();
        let exports = image.exports();
        let ours: BTreeMap<String, bool> = exports
            .iter()
            .map(|export| (export.name.to_string(), export.kind == ExportKind::ThreadLocal))
            .collect();
        assert_eq!(ours, theirs, "{}", path.display());
    }
}
