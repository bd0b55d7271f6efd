//! The instruction sets, and what each calls its relocations. The two files below are twins.

mod aarch64;
mod x86_64;

use crate::error::Refusal;
use crate::fixup::{Howto, Kind};
use core::fmt;

/// An instruction set that images can be linked for, on any host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Machine {
    /// AMD64, also called Intel 64.
    X86_64,
    /// Arm, 64-bit.
    Aarch64,
}

/// Types of relocations of Mach-O's are counted from here wherever types of both formats may be
/// meant; ELF's are all below.
pub(crate) const MACHO: u32 = 1 << 16;

impl Machine {
    /// The instruction set this process executes, if it is one of them.
    pub const HOST: Option<Machine> = if cfg!(target_arch = "x86_64") {
        Some(Machine::X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Machine::Aarch64)
    } else {
        None
    };

    /// The value of `e_machine` in an ELF header.
    pub(crate) fn elf(self) -> u16 {
        match self {
            Machine::X86_64 => object::elf::EM_X86_64,
            Machine::Aarch64 => object::elf::EM_AARCH64,
        }
    }

    /// What a relocation type asks for in a shared object.
    pub(crate) fn dynamic(self, r_type: u32) -> Dynamic {
        match self {
            Machine::X86_64 => x86_64::dynamic(r_type),
            Machine::Aarch64 => aarch64::dynamic(r_type),
        }
    }

    /// What a relocation type asks for in an object file.
    pub(crate) fn object(self, r_type: u32) -> Static {
        match self {
            Machine::X86_64 => x86_64::objects::object(r_type),
            Machine::Aarch64 => aarch64::objects::object(r_type),
        }
    }

    /// How a relocation type of an object file is applied, for the tests that compare it with
    /// linkers.
    #[doc(hidden)]
    pub fn howto(self, r_type: u32) -> Option<Howto> {
        match self.object(r_type) {
            Static::Apply(howto) => Some(howto),
            Static::Nothing | Static::Refuse(_) => None,
        }
    }

    /// The name of a relocation type in the processor supplement; from 65,536 on, that of Mach-O's
    /// type of the number above that.
    pub fn relocation_name(self, r_type: u32) -> Option<&'static str> {
        if let (Machine::Aarch64, Some(number)) = (self, r_type.checked_sub(MACHO)) {
            return MACHO_NAMES.get(number as usize).copied();
        }
        let names = match self {
            Machine::X86_64 => x86_64::NAMES,
            Machine::Aarch64 => aarch64::NAMES,
        };
        names.iter().find(|(number, _)| *number == r_type).map(|(_, name)| *name)
    }

    /// Addresses of functions are multiples of this.
    pub(crate) fn code_align(self) -> u64 {
        match self {
            Machine::X86_64 => 1,
            Machine::Aarch64 => 4,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Machine::X86_64 => "x86-64",
            Machine::Aarch64 => "AArch64",
        })
    }
}

/// What a dynamic relocation type means to a loader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dynamic {
    /// A placeholder that a linker left behind.
    Nothing,
    /// To be applied.
    Apply(Kind),
    /// The address that the function at B + A returns.
    Indirect,
    /// About a thread-local variable.
    ThreadLocal(ThreadKind),
    /// Not something that is loaded here.
    Refuse(Refusal),
}

/// What a relocation type of an object file means to a static linker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Static {
    /// A mark for linkers that replace instructions.
    Nothing,
    /// To be applied.
    Apply(Howto),
    /// Not something that is linked here.
    Refuse(Refusal),
}

/// What is to be written of a thread-local variable: ELF Handling For Thread-Local Storage, chapter
/// 4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ThreadKind {
    /// The module that has it.
    Module,
    /// Where it is in that module's block.
    Offset,
    /// Where it is from the thread pointer (initial-exec).
    FromThreadPointer,
    /// A descriptor: two words, the function that finds it and what that is given.
    Descriptor,
}

/// Apple's <mach-o/arm64/reloc.h>, in the order of the numbers.
const MACHO_NAMES: [&str; 12] = [
    "ARM64_RELOC_UNSIGNED",
    "ARM64_RELOC_SUBTRACTOR",
    "ARM64_RELOC_BRANCH26",
    "ARM64_RELOC_PAGE21",
    "ARM64_RELOC_PAGEOFF12",
    "ARM64_RELOC_GOT_LOAD_PAGE21",
    "ARM64_RELOC_GOT_LOAD_PAGEOFF12",
    "ARM64_RELOC_POINTER_TO_GOT",
    "ARM64_RELOC_TLVP_LOAD_PAGE21",
    "ARM64_RELOC_TLVP_LOAD_PAGEOFF12",
    "ARM64_RELOC_ADDEND",
    "ARM64_RELOC_AUTHENTICATED_POINTER",
];

/// Number and name of each of `object`'s constants given, and then of our own.
macro_rules! names {
    ($($name:ident)* $(, $own:ident)*) => {
        &[$((object::elf::$name, stringify!($name)),)* $(($own, stringify!($own)),)*]
    };
}
use names;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const BOTH: [Machine; 2] = [Machine::X86_64, Machine::Aarch64];

    #[test]
    fn every_supported_type_has_a_name() {
        for machine in BOTH {
            for r_type in 0..2048 {
                if machine.howto(r_type).is_some()
                    || !matches!(machine.dynamic(r_type), Dynamic::Nothing | Dynamic::Refuse(_))
                {
                    assert!(machine.relocation_name(r_type).is_some(), "{machine} {r_type}");
                }
            }
        }
    }

    #[test]
    fn each_number_is_named_once() {
        for machine in BOTH {
            let names: Vec<_> = (0..2048).filter_map(|n| machine.relocation_name(n)).collect();
            let table = match machine {
                Machine::X86_64 => x86_64::NAMES,
                Machine::Aarch64 => aarch64::NAMES,
            };
            assert_eq!(names.len(), table.len());
        }
    }

    #[test]
    fn the_host_is_one_of_them() {
        assert!(Machine::HOST.is_some_and(|host| BOTH.contains(&host)));
    }
}
