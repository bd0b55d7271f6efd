//! The texts of errors: what is wrong, and behind it what to do.

use super::{Error, NoteProblem, Refusal};
use crate::Machine;
use crate::fixup::Problem;
use core::fmt::{self, Formatter};
use object::elf;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotElf { .. }
            | Error::Malformed { .. }
            | Error::WrongClass { .. }
            | Error::WrongMachine { .. }
            | Error::NotSharedObject { .. }
            | Error::PieExecutable
            | Error::NoDynamicTable
            | Error::UnsupportedFile { .. }
            | Error::InFile { .. } => self.of_the_file(f),
            Error::WritableExecutable { .. }
            | Error::ExecutableStack
            | Error::SegmentAlign { .. }
            | Error::SharedPage { .. }
            | Error::TooLarge { .. }
            | Error::UnsupportedSection { .. } => self.of_segments(f),
            Error::UnsupportedDynamic { .. }
            | Error::UnsupportedName { .. }
            | Error::LocalExec { .. }
            | Error::ProcessorLevel { .. }
            | Error::SignedPointers { .. }
            | Error::BadNote { .. }
            | Error::EntryOutsideCode { .. } => self.of_demands(f),
            Error::TextRelocation { .. }
            | Error::UnsupportedRelocation { .. }
            | Error::BadReference { .. }
            | Error::Fixup { .. }
            | Error::OutOfReach { .. } => self.of_relocations(f),
            Error::UnsupportedSymbol { .. }
            | Error::DuplicateSymbol { .. }
            | Error::BadSymbol { .. }
            | Error::UnresolvedImport { .. }
            | Error::UnusableBinding { .. } => self.of_symbols(f),
            Error::BadPageSize { .. }
            | Error::WrongMemory { .. }
            | Error::WrongBindings { .. }
            | Error::WrongThreadModule { .. }
            | Error::WrongBase { .. } => self.of_the_call(f),
        }
    }
}

/// The texts, by what they are about. `fmt` brings each the errors that it has texts for, and no
/// others.
impl Error {
    /// What kind of file it is, and whether it is whole.
    fn of_the_file(&self, f: &mut Formatter<'_>) -> fmt::Result {
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
                elf::ET_EXEC => {
                    f.write_str("an executable at a fixed address: compile with -fPIC, link with -shared")
                }
                elf::ET_CORE => {
                    f.write_str("a core dump, not a module: give a shared object, linked with -shared")
                }
                other => write!(f, "ELF file type {other}, not a shared object: link with -shared"),
            },
            Error::PieExecutable => f.write_str(
                "a position-independent executable, not a module: link with -shared, without -pie",
            ),
            Error::NoDynamicTable => f.write_str(
                "no dynamic table (PT_DYNAMIC): link with -shared, and do not strip program headers",
            ),
            Error::UnsupportedFile { found, advice } => write!(f, "the file is {found}: {advice}"),
            Error::InFile { file, error } => write!(f, "{file}: {error}"),
            other => fmt::Debug::fmt(other, f),
        }
    }

    /// What memory its parts want.
    fn of_segments(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
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
            Error::UnsupportedSection { section, problem } => write!(f, "section `{section}` {problem}"),
            other => fmt::Debug::fmt(other, f),
        }
    }

    /// What it asks of a loader or of the processor, and what it says of itself.
    fn of_demands(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Error::UnsupportedDynamic { tag, advice } => write!(f, "{tag} is not supported: {advice}"),
            Error::UnsupportedName { name } => {
                write!(
                    f,
                    "the name `{name}` of a library or of a version is not UTF-8: link with one that is"
                )
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
            Error::BadNote { n_type, problem } => {
                match n_type {
                    1 => f.write_str("the note with the module's name")?,
                    2 => f.write_str("the note with the module's version")?,
                    3 => f.write_str("a note of a module that is needed")?,
                    _ => write!(f, "a note of type {n_type}")?,
                }
                write!(f, " (.note.midflight) {}", problem.text())
            }
            Error::EntryOutsideCode { list, address } => write!(
                f,
                "{list} names {address:#x}, which is not a function in the module's own code: keep what is called \
                 at load and unload inside the module"
            ),
            other => fmt::Debug::fmt(other, f),
        }
    }

    /// The places that are to be filled in.
    fn of_relocations(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Error::TextRelocation { offset, symbol } => write!(
                f,
                "text relocation at {offset:#x}{}: the place is not writable; compile every object with -fPIC, \
                 and link with -Wl,-z,text to find the one that is not",
                Of(symbol)
            ),
            Error::UnsupportedRelocation { machine, r_type, refusal, symbol, offset } => {
                match machine.relocation_name(*r_type) {
                    Some(name) => write!(f, "relocation {name}")?,
                    None => write!(f, "{machine} relocation type {r_type}")?,
                }
                write!(f, "{} at {offset:#x} is not supported: {}", Of(symbol), refusal.advice())
            }
            Error::BadReference { symbol, section, problem } => {
                write!(f, "symbol `{symbol}`, which section `{section}` refers to, {problem}")
            }
            Error::Fixup { machine, r_type, symbol, offset, problem } => {
                f.write_str(machine.relocation_name(*r_type).unwrap_or("a relocation"))?;
                write!(
                    f,
                    "{} at {offset:#x} cannot be applied: {problem}; {}",
                    Of(symbol),
                    fixup_advice(problem)
                )
            }
            Error::OutOfReach { machine, r_type, symbol, here } => {
                let kind = if *here { "the module" } else { "the host" };
                let name = machine.relocation_name(*r_type).unwrap_or("its relocation");
                write!(
                    f,
                    "`{symbol}` of {kind} is out of reach of code that names it directly ({name}): compile with -fPIC"
                )
            }
            other => fmt::Debug::fmt(other, f),
        }
    }

    /// What is defined, and what is looked for.
    fn of_symbols(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Error::UnsupportedSymbol { symbol, problem } => write!(f, "symbol `{symbol}` {problem}"),
            Error::DuplicateSymbol { symbol, first, second } => write!(
                f,
                "symbol `{symbol}` is defined in `{first}` and in `{second}`: leave one of them out, or make one definition \
                 static or weak"
            ),
            Error::BadSymbol { symbol, problem, value } => {
                write!(
                    f,
                    "symbol `{symbol}` (value {value:#x}) {problem}: the file is corrupt, build it again"
                )
            }
            Error::UnresolvedImport { names, omitted } => {
                f.write_str("nothing defines ")?;
                for (index, name) in names.iter().enumerate() {
                    write!(f, "{}`{name}`", if index == 0 { "" } else { ", " })?;
                }
                if *omitted > 0 {
                    write!(f, " and {omitted} more")?;
                }
                f.write_str(
                    ": define it in the module, load the library that does, or export it from the host",
                )
            }
            Error::UnusableBinding { symbol, problem } => write!(f, "symbol `{symbol}` {problem}"),
            other => fmt::Debug::fmt(other, f),
        }
    }

    /// What the caller gave.
    fn of_the_call(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Error::BadPageSize { page_size } => {
                write!(f, "a page size of {page_size} is no power of two of at least 4096")
            }
            Error::WrongMemory { expected, given } => {
                write!(f, "{given} bytes of memory were given for an image of {expected}")
            }
            Error::WrongBindings { expected, given } => {
                write!(f, "{given} bindings were given for {expected} imports")
            }
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
            other => fmt::Debug::fmt(other, f),
        }
    }
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

fn fixup_advice(problem: &Problem) -> &'static str {
    match problem {
        Problem::OutOfRange { .. } => {
            "compile with -fPIC, and keep what code branches to or names within its reach"
        }
        Problem::Misaligned { .. } => "declare the variable with the alignment that code assumes",
        Problem::Instruction { .. } | Problem::Place => "the file is corrupt, build it again",
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

struct Of<'a>(&'a str);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " for symbol `{}`", self.0) }
    }
}
