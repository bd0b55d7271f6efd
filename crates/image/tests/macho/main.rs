//! Mach-O dylibs and bundles for arm64, made while the tests run: what the reader makes of them
//! against what LLVM's tools print of the same files, and what it says of damaged ones.
//!
//! Needed: clang-19, ld64.lld-19, llvm-objdump-19 and llvm-nm-19 (Debian: clang-19, lld-19,
//! llvm-19).

#[path = "../common/mod.rs"]
mod common;

mod details;
mod generate;
mod hostile;
mod mutations;
mod objdump;
mod oracle;
mod patch;
mod refusals;
mod tools;
mod walk;
