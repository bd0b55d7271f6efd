//! How the host's threads compute is theirs: what the code of a module that is run for it sets, it
//! sets for itself.

mod support;

use std::hint::black_box;

use support::{is_bridged, start};

midflight::module! {
    unsafe mod fast { safe fn number() -> i32; }
}

/// What a thread computes when it computes as it should.
fn computes() -> [f64; 2] {
    // Half of the smallest normal number; and a third, rounded to nearest.
    [black_box(f64::MIN_POSITIVE) / black_box(2.0), black_box(1.0) / black_box(3.0)]
}

#[test]
fn a_module_that_computes_fast_does_not_change_how_the_host_does() {
    // The names are glibc's.
    if is_bridged() || cfg!(target_os = "macos") {
        return;
    }
    let (rt, shop, _turn) = start("fast");
    // Subnormal numbers off, as crtfastmath.o does it, and rounding down; by each function that a
    // load and an unload call.
    let source = "#include <fenv.h>
                  static void change(void) {
                      fesetround(FE_DOWNWARD);
                  #ifdef __x86_64__
                      __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
                  #else
                      __builtin_aarch64_set_fpcr(__builtin_aarch64_get_fpcr() | 1 << 24);
                  #endif
                  }
                  static int one(void) { return WAY; }
                  int number(void) { return one(); }
                  #if WAY == 1
                  __attribute__((constructor)) static void begin(void) { change(); }
                  #elif WAY == 2
                  int module_init(void) { change(); return 0; }
                  #elif WAY == 3
                  void module_shutdown(void) { change(); }
                  #elif WAY == 4
                  __attribute__((destructor)) static void end(void) { change(); }
                  #elif WAY == 5
                  extern int atexit(void (*)(void));
                  __attribute__((constructor)) static void begin(void) { atexit(change); }
                  #elif WAY == 6
                  int module_init(void) { change(); return 7; }
                  #else
                  static int (*choose(void))(void) {
                  #ifdef __x86_64__
                      __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
                  #else
                      __builtin_aarch64_set_fpcr(__builtin_aarch64_get_fpcr() | 1 << 24);
                  #endif
                      return one;
                  }
                  int chosen(void) __attribute__((ifunc(\"choose\")));
                  int call(void) { return chosen(); }
                  #endif
                  ";
    let before = computes();
    assert!(before[0] > 0.0);
    for way in 1..=7 {
        let define = format!("-DWAY={way}");
        let module = shop.module_for(
            std::env::consts::ARCH,
            "fast",
            way,
            source,
            &[&define, "-frounding-math", "-lm"],
        );
        // SAFETY: the module has the function as declared.
        let loaded = unsafe { rt.load(&module) };
        assert_eq!(computes().map(f64::to_bits), before.map(f64::to_bits), "loaded, {way}");
        assert_eq!(loaded.is_ok(), way != 6, "{loaded:?}");
        if loaded.is_ok() {
            assert_eq!(fast::number(&rt.frame()), way as i32);
            rt.unload("fast").unwrap();
            rt.collect().unwrap();
        }
        assert_eq!(computes().map(f64::to_bits), before.map(f64::to_bits), "unloaded, {way}");
    }
}
