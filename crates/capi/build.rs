//! How the shared library is linked: linker/libmidflight.flags.

const FLAGS: &str = "../../linker/libmidflight.flags";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={FLAGS}");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let flags = std::fs::read_to_string(FLAGS).unwrap_or_else(|error| panic!("{FLAGS}: {error}"));
    for flag in flags.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        println!("cargo:rustc-cdylib-link-arg={flag}");
    }
}
