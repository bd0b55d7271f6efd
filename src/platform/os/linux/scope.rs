//! The libraries that a module needs, found and bound together, as if ld.so had loaded the module:
//! a library may use what another of them defines, without naming it.
//!
//! ld.so is asked for all of them at once, by an object that has nothing but their names: in a file
//! without a folder (memfd_create(2)). elf/dl-load.c of glibc has how it reads that, elf/dl-deps.c
//! in which order it looks for symbols then.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use object::LittleEndian as LE;
use object::elf;
use object::pod::bytes_of;

use crate::platform::os::held::Held;
use crate::platform::os::library::{Library, Search};
use crate::platform::os::memory;

/// Opens libraries, in the order in which they are asked for symbols: those that are not in the
/// process where the search path and the system have them. The error is ld.so's own text.
///
/// # Safety
///
/// The libraries' constructors run.
pub(crate) unsafe fn open(libraries: &[&str], search: &Search) -> Result<Vec<Library>, String> {
    let file = file(&object(libraries, search));
    let path = file.as_ref().ok().and_then(|file| Some(path(file.get().ok()?.as_raw_fd())));
    // A process may have no such files (RLIMIT_FSIZE, RLIMIT_NOFILE) or paths.
    match path.filter(|path| Path::new(path).exists()) {
        // SAFETY: the caller accepts the libraries' constructors; the object itself has no code.
        Some(path) => unsafe { Library::open(path) }.map(|opened| vec![opened]),
        // SAFETY: the caller accepts the libraries' constructors.
        None => unsafe { search.open_each(libraries) },
    }
}

fn file(bytes: &[u8]) -> io::Result<Held<File>> {
    let file = Held::new(memory::shared_memory(bytes.len(), "midflight: needed libraries")?)?;
    file.get()?.write_all_at(bytes, 0)?;
    Ok(file)
}

/// The file of a descriptor by a path that nothing was loaded by: ld.so takes what it has by the
/// same.
fn path(descriptor: i32) -> String {
    static OPENED: AtomicU32 = AtomicU32::new(0);
    // Relaxed: only to be another one each time.
    let number = OPENED.fetch_add(1, Ordering::Relaxed);
    let digit = |bit| if number >> bit & 1 == 0 { "/" } else { "/./" };
    let digits: String = (0..u32::BITS).map(digit).collect();
    format!("/proc/self/fd{digits}{descriptor}")
}

/// A shared object that needs the libraries, and has nothing else.
fn object(libraries: &[&str], search: &Search) -> Vec<u8> {
    type Word = object::U64<LE>;
    let word = |value: u64| Word::new(LE, value);
    let half = |value: u32| object::U32::new(LE, value);

    let mut strings = vec![0];
    let mut name = |text: &[u8]| {
        let at = strings.len() as u64;
        strings.extend_from_slice(text);
        strings.push(0);
        at
    };
    let mut dynamic: Vec<(u32, u64)> =
        libraries.iter().map(|library| (elf::DT_NEEDED, name(library.as_bytes()))).collect();
    let tag = if search.inherited { elf::DT_RPATH } else { elf::DT_RUNPATH };
    dynamic.extend(search.path.iter().map(|path| (tag, name(path))));

    // One segment has it all, and may be written: some versions of ld.so do so to the dynamic
    // table.
    const HEADERS: usize = 3;
    let start = size_of::<elf::FileHeader64<LE>>() + HEADERS * size_of::<elf::ProgramHeader64<LE>>();
    let table = (dynamic.len() + 5) * size_of::<elf::Dyn64<LE>>();
    let symbols = start + table;
    let text = symbols + size_of::<elf::Sym64<LE>>();
    dynamic.extend([
        (elf::DT_STRTAB, text as u64),
        (elf::DT_STRSZ, strings.len() as u64),
        (elf::DT_SYMTAB, symbols as u64),
        (elf::DT_SYMENT, size_of::<elf::Sym64<LE>>() as u64),
        (elf::DT_NULL, 0),
    ]);
    let size = (text + strings.len()) as u64;

    let ident = elf::Ident {
        magic: elf::ELFMAG,
        class: elf::ELFCLASS64,
        data: elf::ELFDATA2LSB,
        version: elf::EV_CURRENT,
        os_abi: elf::ELFOSABI_NONE,
        abi_version: 0,
        padding: [0; 7],
    };
    let short = |value: usize| object::U16::new(LE, value as u16);
    let machine = if cfg!(target_arch = "x86_64") { elf::EM_X86_64 } else { elf::EM_AARCH64 };
    let header = elf::FileHeader64 {
        e_ident: ident,
        e_type: short(elf::ET_DYN.into()),
        e_machine: short(machine.into()),
        e_version: half(elf::EV_CURRENT.into()),
        e_entry: word(0),
        e_phoff: word(size_of::<elf::FileHeader64<LE>>() as u64),
        e_shoff: word(0),
        e_flags: half(0),
        e_ehsize: short(size_of::<elf::FileHeader64<LE>>()),
        e_phentsize: short(size_of::<elf::ProgramHeader64<LE>>()),
        e_phnum: short(HEADERS),
        e_shentsize: short(0),
        e_shnum: short(0),
        e_shstrndx: short(0),
    };
    let segment = |p_type, at: u64, size: u64, align: u64| elf::ProgramHeader64 {
        p_type: half(p_type),
        p_flags: half(elf::PF_R | elf::PF_W),
        p_offset: word(at),
        p_vaddr: word(at),
        p_paddr: word(at),
        p_filesz: word(size),
        p_memsz: word(size),
        p_align: word(align),
    };
    let mut bytes = bytes_of(&header).to_vec();
    for header in [
        // Of the largest page there is.
        segment(elf::PT_LOAD, 0, size, 1 << 16),
        segment(elf::PT_DYNAMIC, start as u64, table as u64, 8),
        // Without this one all stacks of the process would become executable.
        segment(elf::PT_GNU_STACK, 0, 0, 16),
    ] {
        bytes.extend_from_slice(bytes_of(&header));
    }
    for (tag, value) in dynamic {
        bytes.extend_from_slice(bytes_of(&elf::Dyn64 { d_tag: word(tag.into()), d_val: word(value) }));
    }
    bytes.resize(text, 0);
    bytes.extend_from_slice(&strings);
    bytes
}
