//! How the files of `asm/` come in: where the functions are that they go on to, so that nothing
//! below names what is above.

/// Assembles `asm/ARCH/NAME.s`, or on macOS `NAME_macos.s`, with these functions and statics for
/// the names in braces in it. What is behind `; linux` is not in the latter.
///
/// `macros.s` comes before each. The compiler may put several into one object, in which macros are
/// defined once: so they are forgotten behind each (`midflight_done`).
macro_rules! assemble {
    ($name:literal $(, $symbol:ident = $path:path)* $(,)? $(; linux $(, $linux:ident = $only:path)* $(,)?)?) => {
        #[cfg(all(target_arch = "aarch64", not(target_os = "macos")))]
        std::arch::global_asm!(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/asm/aarch64/macros.s")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/asm/aarch64/", $name, ".s")),
            "midflight_done"
            $(, $symbol = sym $path)* $($(, $linux = sym $only)*)?
        );
        #[cfg(all(target_arch = "aarch64", target_os = "macos"))]
        std::arch::global_asm!(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/asm/aarch64/macros.s")),
            "midflight_macho",
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/asm/aarch64/", $name, "_macos.s")),
            "midflight_done"
            $(, $symbol = sym $path)*
        );
        #[cfg(target_arch = "x86_64")]
        std::arch::global_asm!(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/asm/x86_64/macros.s")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/asm/x86_64/", $name, ".s")),
            "midflight_done"
            $(, $symbol = sym $path)* $($(, $linux = sym $only)*)?,
            options(att_syntax)
        );
    };
}
pub(crate) use assemble;
