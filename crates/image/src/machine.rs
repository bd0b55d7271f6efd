//! The instruction sets, and what each calls its relocations. The two files below are twins.

mod aarch64;
mod x86_64;

use crate::error::Refusal;
use crate::fixup::Kind;
use core::fmt;

/// An instruction set that images can be linked for, on any host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Machine {
    /// AMD64, also called Intel 64.
    X86_64,
    /// Arm, 64-bit.
    Aarch64,
}

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

    /// The name of a relocation type in the processor supplement.
    pub(crate) fn relocation_name(self, r_type: u32) -> Option<&'static str> {
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
    /// Not something that is loaded here.
    Refuse(Refusal),
}

/// Number and name of each of `object`'s constants given.
macro_rules! names {
    ($($name:ident)*) => { &[$((object::elf::$name, stringify!($name))),*] };
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
                if let Dynamic::Apply(_) = machine.dynamic(r_type) {
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
