//! How the shared library is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libmidflight.so.0");
        // Signal handlers, trampolines and threads stay: dlclose(3) must not take the library away under them.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        // The bounds of linkme's lists are the linker's symbols, which it would export.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,start-stop-visibility=hidden");
    }
}
