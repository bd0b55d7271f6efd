//! What Mach-O modules are given on AArch64 Linux where Apple's C library, or its calling
//! convention, differs from what the process has. docs/macos.md tells users of it.
//!
//! Names here are C's: without the underscore that a Mach-O symbol begins with. Sources: Apple,
//! "Writing ARM64 code for Apple platforms"; Arm, "Procedure Call Standard for the Arm 64-bit
//! Architecture" (AAPCS64); the headers of both C libraries.

#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
mod ctype;
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
mod files;
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
mod linux;
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
mod refused;
#[cfg(all(test, target_arch = "aarch64", target_os = "linux"))]
mod tests;

/// What a Mach-O module's import stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(
    not(all(target_arch = "aarch64", target_os = "linux")),
    allow(dead_code, reason = "made on AArch64 Linux only")
)]
pub(crate) enum Found {
    /// A function or a variable that keeps to Apple's convention.
    Address(u64),
    /// The process may have it, and it would go wrong: why, and what to do. The text goes on from
    /// the symbol's name.
    Refused(&'static str),
    /// Nothing special: what the process has under this name.
    Unknown,
}

/// What is to be done about a name that a Mach-O module imports. Elsewhere than on AArch64 Linux
/// all are unknown.
pub(crate) fn symbol(name: &str) -> Found {
    #[cfg(all(target_arch = "aarch64", target_os = "linux"))]
    if let Some(address) = linux::find(name) {
        return Found::Address(address);
    } else if let Some(reason) = refused::find(name) {
        return Found::Refused(reason);
    }
    let _ = name;
    Found::Unknown
}
