//! The runtime where the kernel has no membarrier: the pins carry the fences. Its own process,
//! because a runtime's configuration is chosen at its start.

mod support;

use midflight::{Backing, Config, Runtime};
use support::Workshop;

midflight::module! {
    unsafe mod fenced { safe fn number() -> i32; }
}

#[test]
fn frames_and_publications_work_with_fences_and_mprotect() {
    let shop = Workshop::new("fences");
    let mut config = Config::default();
    config.force_fences = true;
    config.backing = Backing::WriteOnce;
    let rt = Runtime::start_with(config).unwrap();
    assert!(!rt.is_asymmetric());
    // Constants that are too long to be copied twice: they take another way into pages that are
    // changed by mprotect.
    let source = |n| {
        format!(
            "static const volatile int constants[10000] = {{ [9999] = {n} }};
             int number(void) {{ return constants[9999]; }}"
        )
    };
    let versions = [0, 1].map(|n| shop.module("fenced", n, &source(n)));
    // SAFETY: as declared.
    unsafe { rt.load(&versions[0]) }.unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let frame = rt.frame();
                let number = fenced::number(&frame);
                assert_eq!(Some(number as u64), frame.version("fenced").map(|version| (version - 1) % 2));
                assert_eq!(fenced::number(&frame), number);
            }
        });
        for round in 1..300 {
            // SAFETY: as declared.
            unsafe { rt.load(&versions[round % 2]) }.unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let left = rt.collect().unwrap();
    assert_eq!((left.held, left.retained), (0, 0));
    // Outside frames the trampoline discards stale instructions itself.
    let number = rt.symbol("fenced", "number").unwrap();
    // SAFETY: as declared.
    let number: extern "C" fn() -> i32 = unsafe { std::mem::transmute(number) };
    for round in 300..310 {
        // SAFETY: as declared.
        unsafe { rt.load(&versions[round % 2]) }.unwrap();
        assert_eq!(number(), round as i32 % 2);
    }
}
