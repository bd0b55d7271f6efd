//! Why an image was refused. Errors are data: what, which symbol, where; and the text says what to
//! do about it.

mod text;

use crate::Machine;
use crate::fixup::Problem;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

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

impl core::error::Error for Error {}

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
