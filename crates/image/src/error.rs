//! Why an image was refused. Errors are data: what, which symbol, where; and the text says what to
//! do about it.

use crate::Machine;
use crate::fixup::Problem;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use object::elf;

/// Why a module could not be parsed or linked. All but [`Error::UnresolvedImport`],
/// [`Error::UnusableBinding`], [`Error::EntryOutsideCode`], [`Error::Fixup`], [`Error::OutOfReach`]
/// and those that begin with `Wrong` and speak of what the caller gave come from parsing, before
/// anything is written.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are another kind of file.
    NotElf {
        /// What they look like.
        looks_like: &'static str,
    },
    /// The file ends inside something it announces, or a table contradicts itself.
    Malformed {
        /// Which table.
        table: &'static str,
        /// What is wrong with it.
        problem: &'static str,
        /// The address, offset, index or value that is wrong, as the table has it.
        at: u64,
    },
    /// An ELF file for 32-bit or big-endian machines, or for another operating system.
    WrongClass {
        /// Which.
        found: &'static str,
    },
    /// Built for another instruction set.
    WrongMachine {
        /// `e_machine` of the file.
        found: u16,
        /// What was asked for.
        expected: Machine,
    },
    /// An ELF file, but an object file, an executable or a core dump.
    NotSharedObject {
        /// `e_type` of the file.
        e_type: u16,
    },
    /// A position-independent executable: a shared object by its type, a program by its flags.
    PieExecutable,
    /// No dynamic table, so nothing that a loader could work from.
    NoDynamicTable,
    /// A segment may be both written and executed.
    WritableExecutable {
        /// The segment's address in the file's own numbering.
        address: u64,
    },
    /// The module asks for an executable stack.
    ExecutableStack,
    /// A segment is aligned to less than a page of this system.
    SegmentAlign {
        /// The segment's address.
        address: u64,
        /// Its `p_align`.
        align: u64,
        /// The page size.
        page_size: u64,
    },
    /// Two segments with different protections share a page of this system.
    SharedPage {
        /// The address of the second of them.
        address: u64,
        /// The page size.
        page_size: u64,
    },
    /// The image needs more memory, or a larger alignment, than the caller allows.
    TooLarge {
        /// Bytes of memory, or of alignment.
        needed: u64,
        /// What the caller allows.
        limit: u64,
    },
    /// The page size is no power of two of at least 4 KiB.
    BadPageSize {
        /// What the caller gave.
        page_size: u64,
    },
    /// Code would have to be changed to load the module: it was not compiled as
    /// position-independent.
    TextRelocation {
        /// The place that would be written, in the file's own numbering; 0 if only announced.
        offset: u64,
        /// The symbol it would refer to; empty if there is none.
        symbol: String,
    },
    /// The dynamic table asks for something that is not supported.
    UnsupportedDynamic {
        /// The entry's name.
        tag: &'static str,
        /// What to do differently.
        advice: &'static str,
    },
    /// The name of a library, a version or the module itself is not UTF-8.
    UnsupportedName {
        /// The name, with bytes that are no UTF-8 as numbers.
        name: String,
    },
    /// Code has thread-local variables of the module itself at a place that only a program's have,
    /// and the linker has left no relocation for it.
    LocalExec {
        /// Where the code reads the thread pointer, in the file's own numbering.
        address: u64,
    },
    /// The processor lacks instructions that the module says it needs.
    ProcessorLevel {
        /// The levels of x86-64 that are missing, the baseline in the lowest bit.
        missing: u32,
    },
    /// The module's pointers are signed (AArch64's PAuth ABI).
    SignedPointers {
        /// What says so.
        found: &'static str,
    },
    /// A relocation that is not supported.
    UnsupportedRelocation {
        /// Whose numbering.
        machine: Machine,
        /// The number.
        r_type: u32,
        /// Why.
        refusal: Refusal,
        /// The symbol; empty if there is none.
        symbol: String,
        /// The place it applies to, in the file's own numbering.
        offset: u64,
    },
    /// In a module that is made of several files: where the error is.
    InFile {
        /// The file, as the caller named it; of an archive, with the member in parentheses.
        file: String,
        /// What is wrong there.
        error: Box<Error>,
    },
    /// A file that is not one of those that a module is made of.
    UnsupportedFile {
        /// What it is.
        found: &'static str,
        /// What to do differently.
        advice: &'static str,
    },
    /// A section of an object file that cannot be part of a module.
    UnsupportedSection {
        /// The section.
        section: String,
        /// Why not, and what to do differently.
        problem: &'static str,
    },
    /// A symbol that is exported or imported in a way that is not supported.
    UnsupportedSymbol {
        /// The symbol, as it is in the file.
        symbol: String,
        /// Why not, and what to do differently.
        problem: &'static str,
    },
    /// Two object files define the same symbol.
    DuplicateSymbol {
        /// The symbol.
        symbol: String,
        /// The file with the first definition.
        first: String,
        /// The file with the second.
        second: String,
    },
    /// A relocation of an object file names a symbol that cannot be used in that way.
    BadReference {
        /// The symbol.
        symbol: String,
        /// The section that the relocation is for.
        section: String,
        /// Why not, and what to do differently.
        problem: &'static str,
    },
    /// The value of a relocation cannot be written.
    Fixup {
        /// Whose numbering.
        machine: Machine,
        /// The number of the type.
        r_type: u32,
        /// The symbol; empty if there is none.
        symbol: String,
        /// The place it applies to, in its section.
        offset: u64,
        /// Why not.
        problem: Problem,
    },
    /// No address of the image is near enough to everything that its code names directly.
    OutOfReach {
        /// Whose numbering.
        machine: Machine,
        /// The number of a relocation type that does not reach.
        r_type: u32,
        /// The symbol that it does not reach; empty if there is none.
        symbol: String,
        /// Whether the module itself defines it.
        here: bool,
    },
    /// What the module says of itself (`runtime_module.h`) cannot be used.
    BadNote {
        /// The note's type: 1 the module's name, 2 its version, 3 a module that it needs, 16 the same
        /// with a range of versions, 17 a resource that is its alone.
        n_type: u32,
        /// What is wrong with it.
        problem: NoteProblem,
    },
    /// A symbol whose definition cannot be used.
    BadSymbol {
        /// The symbol.
        symbol: String,
        /// What is wrong with it.
        problem: &'static str,
        /// Its value in the file.
        value: u64,
    },
    /// Nothing defines what the module needs.
    UnresolvedImport {
        /// Every symbol that is missing, with its version if it has one.
        names: Vec<String>,
        /// How many more there are; 0 unless the names alone would take more than a mebibyte.
        omitted: usize,
    },
    /// The memory to link into does not have the size of the image.
    WrongMemory {
        /// [`Image::span`](crate::Image::span).
        expected: u64,
        /// What the caller gave.
        given: u64,
    },
    /// There is not one binding for each import.
    WrongBindings {
        /// How many imports there are.
        expected: usize,
        /// How many the caller gave.
        given: usize,
    },
    /// An import stands for what the module cannot use as it does.
    UnusableBinding {
        /// The symbol.
        symbol: String,
        /// What does not fit, and what to do about it.
        problem: &'static str,
    },
    /// The image has thread-local variables, and this is no number to know them by.
    WrongThreadModule {
        /// [`Host::tls_module`](crate::Host::tls_module).
        given: u64,
    },
    /// The image cannot be at this address.
    WrongBase {
        /// What the caller gave.
        base: u64,
        /// What it must be a multiple of; the image must also end before the address space does.
        align: u64,
    },
    /// A function that the module wants called when it is loaded or unloaded is not in its code.
    EntryOutsideCode {
        /// The dynamic table's name for the list.
        list: &'static str,
        /// The address that was found there.
        address: u64,
    },
}

/// Why a relocation type is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// It copies a variable into an executable.
    Copy,
    /// It has a thread-local variable of the module itself at a fixed distance from the thread
    /// pointer.
    InitialExec,
    /// It has a thread-local variable at a distance from the thread pointer that was fixed when it
    /// was compiled.
    LocalExec,
    /// It belongs in shared objects and programs.
    NotStatic,
    /// It is for a signed pointer.
    SignedPointer,
    /// It has an addend where its definition allows none.
    Addend,
    /// It belongs in object files; in a shared object it means that code is not
    /// position-independent.
    NotDynamic,
    /// The number is not in the tables of this crate.
    Unknown,
}

impl Refusal {
    fn advice(self) -> &'static str {
        match self {
            Refusal::Copy => "copy relocations belong to executables: link the module with -shared",
            Refusal::InitialExec => {
                "it is for an initial-exec thread-local variable of the module itself: compile with -fPIC \
                 -ftls-model=global-dynamic"
            }
            Refusal::LocalExec => {
                "it is for a thread-local variable of the module itself, in the form that only programs can use \
                 (local-exec): compile with -fPIC"
            }
            Refusal::SignedPointer => {
                "it is for a signed pointer (pointer authentication as an ABI), which is not supported: compile and link \
                 for aarch64-linux-gnu, without -fptrauth options and -mabi=pauthtest"
            }
            Refusal::Addend => {
                "it has an addend, and an entry of the global offset table is for a symbol: take the address first, \
                 and add to it then"
            }
            Refusal::NotStatic => {
                "no compiler writes it into an object file: the file is corrupt, build it again"
            }
            Refusal::NotDynamic => {
                "it needs code to be changed at load time: compile every object with -fPIC"
            }
            Refusal::Unknown => "no such type is known: link for this machine with a linker of this platform",
        }
    }
}

/// What is wrong with a note of a module's about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum NoteProblem {
    /// It goes past the end of its segment or section.
    CutOff,
    /// The text does not end with a zero.
    NoEnd,
    /// The text has a zero inside.
    SeveralEnds,
    /// The text is not UTF-8.
    NotUtf8,
    /// It is the name of a module, and empty.
    Empty,
    /// The module has another such note.
    Twice,
    /// It is of a type that is not known here.
    Unknown,
}

impl NoteProblem {
    /// What it is, and what to do.
    fn text(self) -> &'static str {
        match self {
            NoteProblem::CutOff => "goes past the end of its section: the file is corrupt, build it again",
            NoteProblem::NoEnd => "does not end with a zero: write it with the macros of runtime_module.h",
            NoteProblem::SeveralEnds => "has a zero inside: leave it out of the text",
            NoteProblem::NotUtf8 => "is not UTF-8: save the source as UTF-8",
            NoteProblem::Empty => "is empty: give the module's name",
            NoteProblem::Twice => {
                "is there twice: write RUNTIME_MODULE in one source file of the module only"
            }
            NoteProblem::Unknown => {
                "is not known here: the module was built for a later midflight, so load it with that one"
            }
        }
    }
}

impl core::error::Error for Error {}

fn fixup_advice(problem: &Problem) -> &'static str {
    match problem {
        Problem::OutOfRange { .. } => {
            "compile with -fPIC, and keep what code branches to or names within its reach"
        }
        Problem::Misaligned { .. } => "declare the variable with the alignment that code assumes",
        Problem::Instruction { .. } | Problem::Place => "the file is corrupt, build it again",
    }
}

/// Of a symbol that the module does not define. (Its own may have any names.)
pub(crate) const NOT_TEXT: &str = "is imported, and its name is not UTF-8, which names between images must be: give it \
                                   another name (objcopy --redefine-sym), or link what defines it into the module";

/// A symbol in a message: its first 256 characters, so that no file can make a message grow without
/// bound. Bytes that are no UTF-8 are written as numbers, such as `\xc2`.
pub(crate) fn label(name: impl AsRef<[u8]>) -> String {
    let (name, mut text) = (name.as_ref(), String::new());
    let chunks = name.get(..LABEL).unwrap_or(name).utf8_chunks();
    for (count, piece) in chunks.flat_map(pieces).enumerate() {
        if count == 256 {
            text.push_str("...");
            break;
        }
        // Writing to a string does not fail.
        let _ = match piece {
            Ok(char) => text.write_char(char),
            Err(byte) => write!(text, "\\x{byte:02x}"),
        };
    }
    text
}

/// More bytes than 256 characters have.
const LABEL: usize = 4 * 257;

fn pieces(chunk: core::str::Utf8Chunk<'_>) -> impl Iterator<Item = Result<char, u8>> {
    chunk.valid().chars().map(Ok).chain(chunk.invalid().iter().copied().map(Err))
}

struct Of<'a>(&'a str);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " for symbol `{}`", self.0) }
    }
}

fn machine_name(e_machine: u16) -> Option<&'static str> {
    Some(match e_machine {
        elf::EM_X86_64 => "x86-64",
        elf::EM_AARCH64 => "AArch64",
        elf::EM_386 => "32-bit x86",
        elf::EM_ARM => "32-bit Arm",
        elf::EM_RISCV => "RISC-V",
        elf::EM_PPC64 => "64-bit PowerPC",
        elf::EM_S390 => "s390",
        elf::EM_LOONGARCH => "LoongArch",
        elf::EM_MIPS => "MIPS",
        elf::EM_BPF => "BPF",
        _ => return None,
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotElf { looks_like } => {
                write!(
                    f,
                    "neither an ELF nor a Mach-O file but {looks_like}: give a shared object (linked with -shared or -dynamiclib), object \
                     files or an archive"
                )
            }
            Error::Malformed { table, problem, at } => write!(
                f,
                "the {table} is damaged: {problem} ({at:#x}); the file is truncated or corrupt, build it again"
            ),
            Error::WrongClass { found } => {
                write!(f, "the file is {found}: build the module as 64-bit little-endian ELF for Linux")
            }
            Error::WrongMachine { found, expected } => {
                match machine_name(*found) {
                    Some(name) => write!(f, "built for {name}")?,
                    None => write!(f, "built for machine number {found}")?,
                }
                let compiler = match expected {
                    Machine::X86_64 => "x86_64-linux-gnu-gcc or clang --target=x86_64-linux-gnu",
                    Machine::Aarch64 => "aarch64-linux-gnu-gcc or clang --target=aarch64-linux-gnu",
                };
                write!(f, ", and this process is {expected}: build it with {compiler}")
            }
            Error::NotSharedObject { e_type } => match *e_type {
                elf::ET_REL => f.write_str("an object file (.o): link it with -shared first"),
                elf::ET_EXEC => f.write_str("an executable at a fixed address: compile with -fPIC, link with -shared"),
                elf::ET_CORE => f.write_str("a core dump, not a module: give a shared object, linked with -shared"),
                other => write!(f, "ELF file type {other}, not a shared object: link with -shared"),
            },
            Error::PieExecutable => {
                f.write_str("a position-independent executable, not a module: link with -shared, without -pie")
            }
            Error::NoDynamicTable => {
                f.write_str("no dynamic table (PT_DYNAMIC): link with -shared, and do not strip program headers")
            }
            Error::WritableExecutable { address } => write!(
                f,
                "the segment at {address:#x} is writable and executable: link without -N (--omagic) or -segprot, and keep \
                 code and variables in sections of their own"
            ),
            Error::ExecutableStack => f.write_str(
                "the module asks for an executable stack: add `.section .note.GNU-stack,\"\",%progbits` to each \
                 assembly source, avoid nested functions whose address is taken, or link with -Wl,-z,noexecstack",
            ),
            Error::SegmentAlign { address, align, page_size } => write!(
                f,
                "the segment at {address:#x} is aligned to {align:#x}, less than the {page_size:#x} bytes of a \
                 page here: link with -Wl,-z,max-page-size=65536"
            ),
            Error::SharedPage { address, page_size } => write!(
                f,
                "the segment at {address:#x} shares a page of {page_size:#x} bytes with one of another \
                 protection: link with -Wl,-z,max-page-size=65536 (Mach-O: -Wl,-segalign,10000)"
            ),
            Error::TooLarge { needed, limit } => write!(
                f,
                "the image needs {needed} bytes of memory or alignment, and {limit} are allowed: make its static \
                 data smaller, or allocate it at run time"
            ),
            Error::BadPageSize { page_size } => {
                write!(f, "a page size of {page_size} is no power of two of at least 4096")
            }
            Error::TextRelocation { offset, symbol } => write!(
                f,
                "text relocation at {offset:#x}{}: the place is not writable; compile every object with -fPIC, \
                 and link with -Wl,-z,text to find the one that is not",
                Of(symbol)
            ),
            Error::UnsupportedDynamic { tag, advice } => write!(f, "{tag} is not supported: {advice}"),
            Error::UnsupportedRelocation { machine, r_type, refusal, symbol, offset } => {
                match machine.relocation_name(*r_type) {
                    Some(name) => write!(f, "relocation {name}")?,
                    None => write!(f, "{machine} relocation type {r_type}")?,
                }
                write!(f, "{} at {offset:#x} is not supported: {}", Of(symbol), refusal.advice())
            }
            Error::InFile { file, error } => write!(f, "{file}: {error}"),
            Error::UnsupportedFile { found, advice } => write!(f, "the file is {found}: {advice}"),
            Error::UnsupportedSection { section, problem } => write!(f, "section `{section}` {problem}"),
            Error::DuplicateSymbol { symbol, first, second } => write!(
                f,
                "symbol `{symbol}` is defined in `{first}` and in `{second}`: leave one of them out, or make one definition \
                 static or weak"
            ),
            Error::BadReference { symbol, section, problem } => {
                write!(f, "symbol `{symbol}`, which section `{section}` refers to, {problem}")
            }
            Error::Fixup { machine, r_type, symbol, offset, problem } => {
                f.write_str(machine.relocation_name(*r_type).unwrap_or("a relocation"))?;
                write!(f, "{} at {offset:#x} cannot be applied: {problem}; {}", Of(symbol), fixup_advice(problem))
            }
            Error::OutOfReach { machine, r_type, symbol, here } => {
                let kind = if *here { "the module" } else { "the host" };
                let name = machine.relocation_name(*r_type).unwrap_or("its relocation");
                write!(f, "`{symbol}` of {kind} is out of reach of code that names it directly ({name}): compile with -fPIC")
            }
            Error::LocalExec { address } => write!(
                f,
                "its code at {address:#x} has a thread-local variable of the module itself in the form that only programs can use \
                 (local-exec): compile every object with -fPIC, also those for which the linker does not ask for it"
            ),
            Error::ProcessorLevel { missing } => {
                f.write_str("it says that it needs an instruction set that this processor lacks (")?;
                match missing.trailing_zeros() {
                    0 => f.write_str("the x86-64 baseline")?,
                    level @ 1..=3 => write!(f, "x86-64-v{}", level + 1)?,
                    level => write!(f, "level {level} of GNU_PROPERTY_X86_ISA_1_NEEDED")?,
                }
                f.write_str("): compile it for this one (-march), and link without -z x86-64-v2 and the like")
            }
            Error::SignedPointers { found } => write!(
                f,
                "it has signed pointers ({found}, pointer authentication as an ABI), which are not supported: compile \
                 and link it for aarch64-linux-gnu, without -fptrauth options and -mabi=pauthtest"
            ),
            Error::UnsupportedName { name } => {
                write!(f, "the name `{name}` of a library or of a version is not UTF-8: link with one that is")
            }
            Error::UnsupportedSymbol { symbol, problem } => write!(f, "symbol `{symbol}` {problem}"),
            Error::BadNote { n_type, problem } => {
                match n_type {
                    1 => f.write_str("the note with the module's name")?,
                    2 => f.write_str("the note with the module's version")?,
                    3 => f.write_str("a note of a module that is needed")?,
                    _ => write!(f, "a note of type {n_type}")?,
                }
                write!(f, " (.note.midflight) {}", problem.text())
            }
            Error::BadSymbol { symbol, problem, value } => {
                write!(f, "symbol `{symbol}` (value {value:#x}) {problem}: the file is corrupt, build it again")
            }
            Error::UnresolvedImport { names, omitted } => {
                f.write_str("nothing defines ")?;
                for (index, name) in names.iter().enumerate() {
                    write!(f, "{}`{name}`", if index == 0 { "" } else { ", " })?;
                }
                if *omitted > 0 {
                    write!(f, " and {omitted} more")?;
                }
                f.write_str(": define it in the module, load the library that does, or export it from the host")
            }
            Error::WrongMemory { expected, given } => {
                write!(f, "{given} bytes of memory were given for an image of {expected}")
            }
            Error::WrongBindings { expected, given } => {
                write!(f, "{given} bindings were given for {expected} imports")
            }
            Error::UnusableBinding { symbol, problem } => write!(f, "symbol `{symbol}` {problem}"),
            Error::WrongThreadModule { given } => write!(
                f,
                "the image has thread-local variables, and {given} is no number to know them by: give one from 1 \
                 to 2^32 - 1"
            ),
            Error::WrongBase { base, align } => write!(
                f,
                "the image cannot be at {base:#x}: give a multiple of {align:#x} from which it fits below the end \
                 of the address space"
            ),
            Error::EntryOutsideCode { list, address } => write!(
                f,
                "{list} names {address:#x}, which is not a function in the module's own code: keep what is called \
                 at load and unload inside the module"
            ),
        }
    }
}
