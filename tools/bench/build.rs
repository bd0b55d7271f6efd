//! Compiles the engine in C.

fn main() {
    println!("cargo:rerun-if-changed=c/engine.c");
    println!("cargo:rerun-if-changed=../../include");
    cc::Build::new()
        .file("c/engine.c")
        .include("../../include")
        .opt_level(2)
        .warnings_into_errors(true)
        .compile("engine");
}
