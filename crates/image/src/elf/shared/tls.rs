//! Thread-local storage: the module's own block, and what its relocations write.
//!
//! Ulrich Drepper, "ELF Handling For Thread-Local Storage"; for descriptors, Alexandre Oliva,
//! "Thread-Local Storage Descriptors for IA32 and AMD64/EM64T", and "ELF for the Arm 64-bit
//! Architecture". On both machines offsets count from the start of a module's block: glibc's
//! TLS_DTV_OFFSET is 0.

use super::segments::Layout;
use crate::elf::format::malformed;
use crate::linking::layout::LARGEST_BLOCK;
use crate::machine::ThreadKind;
use crate::{Error, Host, ThreadLocal, ThreadLocals};
use object::LittleEndian as LE;
use object::read::elf::ProgramHeader;

/// The module's PT_TLS, checked. No block is larger, or aligned to more, than an image may be.
pub(super) fn block(layout: &Layout<'_>, max_span: u64) -> Result<Option<ThreadLocals>, Error> {
    const TABLE: &str = "thread-local storage header (PT_TLS)";
    let Some(header) = &layout.thread_locals else { return Ok(None) };
    let (address, initialised) = (header.p_vaddr(LE), header.p_filesz(LE));
    let (size, align) = (header.p_memsz(LE), header.p_align(LE).max(1));
    if initialised > size {
        return Err(malformed(TABLE, "more bytes in the file than in memory", initialised));
    }
    if !align.is_power_of_two() {
        return Err(malformed(TABLE, "an alignment is no power of two", align));
    }
    if size == 0 {
        return Ok(None);
    }
    let limit = max_span.min(LARGEST_BLOCK);
    if size.max(align) > limit {
        return Err(Error::TooLarge { needed: size.max(align), limit });
    }
    // A block that is all zero has no bytes in the image, and may have any address.
    let offset = match initialised {
        0 => Some(0),
        _ => layout.offset(address).filter(|_| layout.readable(address, initialised)),
    };
    let offset = offset.ok_or(malformed(TABLE, "its bytes are outside the segments", address))?;
    Ok(Some(ThreadLocals { offset, initialised, size, align, skew: address & (align - 1) }))
}

/// What a relocation of this kind writes: a word, or two. `variable` is missing if the symbol is
/// weak and nobody defines it; its address is then to be the addend, so that a test for its address
/// finds 0.
pub(in crate::elf) fn words(
    kind: ThreadKind,
    variable: Option<ThreadLocal>,
    addend: i64,
    host: &Host,
) -> Result<(u64, Option<u64>), &'static str> {
    let module = variable.map_or(0, |variable| variable.module);
    let offset = variable.map_or(0, |variable| variable.offset).wrapping_add_signed(addend);
    let fixed = variable.and_then(|variable| variable.from_thread_pointer);
    let fixed = fixed.map(|fixed| fixed.wrapping_add(addend) as u64);
    match kind {
        ThreadKind::Module => Ok((module, None)),
        ThreadKind::Offset => Ok((offset, None)),
        // Of a variable that nobody defines there is no right value, since the address would differ
        // between threads: glibc leaves 0.
        ThreadKind::FromThreadPointer if variable.is_none() => Ok((0, None)),
        ThreadKind::FromThreadPointer => Ok((fixed.ok_or(NOT_FIXED)?, None)),
        ThreadKind::Descriptor if variable.is_none() => Ok((host.tls_undefined, Some(offset))),
        ThreadKind::Descriptor => match (fixed, u32::try_from(module), u32::try_from(offset)) {
            (Some(fixed), ..) => Ok((host.tls_static, Some(fixed))),
            (None, Ok(module), Ok(offset)) => {
                Ok((host.tls_dynamic, Some(u64::from(module) << 32 | u64::from(offset))))
            }
            _ => Err(TOO_FAR),
        },
    }
}

const NOT_FIXED: &str = "is a thread-local variable without a fixed place, and is used as if it had one (initial-exec): \
    compile the module with -ftls-model=global-dynamic, or link the program with the library that defines it";
const TOO_FAR: &str = "is a thread-local variable too far from the start of its block for a descriptor, which has 32 bits \
    for that: keep large arrays out of thread-local storage";

/// Whether a descriptor can say where in the module's own block this is.
pub(in crate::elf) fn fits_descriptor(offset: u64, addend: i64) -> bool {
    u32::try_from(offset.wrapping_add_signed(addend)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ThreadKind::{Descriptor, FromThreadPointer, Module, Offset};

    const HOST: Host =
        Host { tls_module: 3, tls_dynamic: 0xD1, tls_static: 0x57, tls_undefined: 0x0D, tlv_thunk: 0 };
    const DYNAMIC: ThreadLocal = ThreadLocal { module: 3, offset: 0x28, from_thread_pointer: None };
    const FIXED: ThreadLocal = ThreadLocal { module: 9, offset: 0x28, from_thread_pointer: Some(-0x40) };

    #[test]
    fn words_of_each_kind() {
        for (kind, variable, expected) in [
            (Module, Some(DYNAMIC), (3, None)),
            (Module, Some(FIXED), (9, None)),
            (Module, None, (0, None)),
            (Offset, Some(DYNAMIC), (0x2C, None)),
            (Offset, None, (4, None)),
            (FromThreadPointer, Some(FIXED), (0u64.wrapping_sub(0x3C), None)),
            (FromThreadPointer, None, (0, None)),
            (Descriptor, Some(DYNAMIC), (0xD1, Some(3 << 32 | 0x2C))),
            (Descriptor, Some(FIXED), (0x57, Some(0u64.wrapping_sub(0x3C)))),
            (Descriptor, None, (0x0D, Some(4))),
        ] {
            assert_eq!(words(kind, variable, 4, &HOST), Ok(expected), "{kind:?} {variable:?}");
        }
        assert_eq!(words(FromThreadPointer, Some(DYNAMIC), 4, &HOST), Err(NOT_FIXED));
    }

    #[test]
    fn a_descriptor_has_32_bits_for_each_half() {
        let far = |module, offset, addend| {
            words(Descriptor, Some(ThreadLocal { module, offset, from_thread_pointer: None }), addend, &HOST)
        };
        assert_eq!(far(3, u32::MAX.into(), 0), Ok((0xD1, Some(3 << 32 | 0xFFFF_FFFF))));
        for (module, offset, addend) in
            [(3, u32::MAX.into(), 1), (3, 0, -1), (3, 1 << 32, 0), (1 << 32, 0, 0)]
        {
            assert_eq!(far(module, offset, addend), Err(TOO_FAR));
        }
        assert!(fits_descriptor(8, -8) && !fits_descriptor(8, -9) && !fits_descriptor(0, 1 << 32));
    }
}
