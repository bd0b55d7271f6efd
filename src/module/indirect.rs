//! Functions whose address is chosen by code of the module itself (STT_GNU_IFUNC), by what the
//! processor can do.

use std::collections::HashMap;
use std::io;

use midflight_image::Image;

use crate::code::Block;
use crate::platform::arch;

/// What resolvers have answered. Each is asked once, as in any program: two answers might differ.
pub(crate) struct Resolvers<'b> {
    block: &'b Block,
    answers: HashMap<u64, u64>,
}

impl<'b> Resolvers<'b> {
    pub(crate) fn new(block: &'b Block) -> Self {
        Self { block, answers: HashMap::new() }
    }

    /// Fills the places that linking left to the module's own code.
    ///
    /// # Safety
    ///
    /// The block is the image, linked and sealed; its code is sound; and nobody else is inside it.
    pub(crate) unsafe fn fill(&mut self, image: &Image<'_>) -> io::Result<()> {
        for indirect in image.indirect() {
            // SAFETY: the image says that a function is there; the caller vouches for it.
            let address = unsafe { self.ask(indirect.resolver) }.wrapping_add_signed(indirect.addend);
            // SAFETY: the image says that the place is 8 bytes of its data, and nobody reads them
            // yet.
            unsafe { self.block.amend(indirect.place as usize, address)? };
        }
        Ok(())
    }

    /// The function that the resolver at this offset chooses.
    ///
    /// # Safety
    ///
    /// As for [`fill`](Self::fill), and a resolver is there.
    pub(crate) unsafe fn ask(&mut self, resolver: u64) -> u64 {
        let address = self.block.base() + resolver as usize;
        // Another thread may have linked it, and the cores are synchronised later.
        arch::cache::synchronise_this_core();
        // SAFETY: the caller promises that a resolver is there, and vouches for it.
        *self.answers.entry(resolver).or_insert_with(|| arch::arithmetic::kept(|| unsafe { call(address) }))
    }
}

/// Calls a resolver as glibc does on x86-64: without arguments.
///
/// # Safety
///
/// A resolver is there.
#[cfg(target_arch = "x86_64")]
unsafe fn call(resolver: usize) -> u64 {
    // SAFETY: the caller promises that a resolver is there.
    unsafe { std::mem::transmute::<usize, extern "C" fn() -> u64>(resolver)() }
}

/// Calls a resolver as the AArch64 System V ABI asks ("GNU indirect functions"): with AT_HWCAP,
/// marked as followed by a pointer to the rest, so that resolvers of either age understand it.
///
/// # Safety
///
/// A resolver is there.
#[cfg(target_arch = "aarch64")]
unsafe fn call(resolver: usize) -> u64 {
    /// `__ifunc_arg_t` of sys/ifunc.h.
    #[repr(C)]
    struct Argument {
        size: u64,
        hwcap: u64,
        hwcap2: u64,
    }
    const IFUNC_ARG_HWCAP: u64 = 1 << 62;
    #[cfg(target_os = "linux")]
    // SAFETY: getauxval(3) has no preconditions.
    let (hwcap, hwcap2) = unsafe { (libc::getauxval(libc::AT_HWCAP), libc::getauxval(libc::AT_HWCAP2)) };
    #[cfg(not(target_os = "linux"))]
    let (hwcap, hwcap2) = (0, 0);
    let argument = Argument { size: size_of::<Argument>() as u64, hwcap, hwcap2 };
    // SAFETY: the caller promises that a resolver is there.
    unsafe {
        let resolver: extern "C" fn(u64, &Argument) -> u64 = std::mem::transmute(resolver);
        resolver(hwcap | IFUNC_ARG_HWCAP, &argument)
    }
}
