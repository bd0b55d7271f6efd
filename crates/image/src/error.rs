//! Why an image was refused. Errors are data: what, which symbol, where; and the text says what to do about it.

use crate::Machine;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use object::elf;

/// Why a module could not be parsed or linked. All but [`Error::UnresolvedImport`], [`Error::WrongMemory`],
/// [`Error::WrongBase`] and [`Error::EntryOutsideCode`] come from parsing, before anything is written.
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
    /// The module has thread-local variables of its own, or a thread-local symbol.
    ThreadLocal {
        /// The symbol; empty if the module as a whole is meant.
        symbol: String,
    },
    /// A symbol whose address is chosen by calling code at load time (GNU ifunc).
    IndirectFunction {
        /// The symbol.
        symbol: String,
    },
    /// Code would have to be changed to load the module: it was not compiled as position-independent.
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
        /// Every symbol that is missing.
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
    /// It is about thread-local variables.
    ThreadLocal,
    /// It calls code to learn an address.
    IndirectFunction,
    /// It belongs in object files; in a shared object it means that code is not position-independent.
    NotDynamic,
    /// The number is not in the tables of this crate.
    Unknown,
}

impl Refusal {
    fn advice(self) -> &'static str {
        match self {
            Refusal::Copy => "copy relocations belong to executables: link the module with -shared",
            Refusal::ThreadLocal => {
                "thread-local variables are not supported in modules: keep such state in the host and pass it in"
            }
            Refusal::IndirectFunction => {
                "ifunc symbols are not supported: choose the implementation in an init function instead"
            }
            Refusal::NotDynamic => {
                "it needs code to be changed at load time: compile every object with -fPIC"
            }
            Refusal::Unknown => "no such type is known: link for this machine with a linker of this platform",
        }
    }
}

impl core::error::Error for Error {}

/// A symbol in a message: its first 256 characters, so that no file can make a message grow without bound.
pub(crate) fn label(name: &str) -> String {
    match name.char_indices().nth(256) {
        None => String::from(name),
        Some((end, _)) => {
            let mut short = String::from(&name[..end]);
            short.push_str("...");
            short
        }
    }
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
                write!(f, "not an ELF file but {looks_like}: give a shared object, linked with -shared")
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
                "the segment at {address:#x} is writable and executable: link without -N (--omagic), and keep \
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
                 protection: link with -Wl,-z,max-page-size=65536"
            ),
            Error::TooLarge { needed, limit } => write!(
                f,
                "the image needs {needed} bytes of memory or alignment, and {limit} are allowed: make its static \
                 data smaller, or allocate it at run time"
            ),
            Error::BadPageSize { page_size } => {
                write!(f, "a page size of {page_size} is no power of two of at least 4096")
            }
            Error::ThreadLocal { symbol } => {
                write!(f, "thread-local storage{}: {}", Of(symbol), Refusal::ThreadLocal.advice())
            }
            Error::IndirectFunction { symbol } => {
                write!(f, "indirect function{}: {}", Of(symbol), Refusal::IndirectFunction.advice())
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
