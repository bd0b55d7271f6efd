//! Memory over many reloads. Its own process and a single test, so that nothing else maps or
//! allocates meanwhile.

mod support;

use midflight::Runtime;
use support::{Workshop, count_mappings, is_emulated, mappings};

midflight::module! {
    unsafe mod steady_a { safe fn number() -> i32; }
    unsafe mod steady_b { safe fn number() -> i32; }
}

#[test]
fn mappings_and_memory_stay_flat_over_reloads() {
    let shop = Workshop::new("steady");
    let rt = Runtime::start().unwrap();
    let source =
        |n: i32| format!("static int data[4096] = {{ {n} }}; int number(void) {{ return data[0]; }}");
    let versions =
        [0, 1].map(|n| ["steady_a", "steady_b"].map(|name| shop.module(name, n as u32, &source(n))));
    let reload = |times: usize| {
        for round in 0..times {
            // SAFETY: as declared.
            unsafe { rt.load_all(&versions[round % 2]) }.unwrap();
            let frame = rt.frame();
            assert_eq!(steady_a::number(&frame) + steady_b::number(&frame), 2 * (round as i32 % 2));
        }
        rt.collect().unwrap();
    };
    #[cfg(not(target_os = "linux"))]
    let resident_kib = || midflight::ProcessUsage::now().unwrap().resident as usize >> 10;
    // Exact, as other counts of the kernel's are not.
    #[cfg(target_os = "linux")]
    let resident_kib = || {
        let status = std::fs::read_to_string("/proc/self/smaps_rollup").expect("/proc is mounted");
        let line = status.lines().find(|line| line.starts_with("Rss:")).expect("smaps_rollup has Rss");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number of kB")
    };
    // The first measurement is thrown away: reading /proc allocates.
    let measure = || (count_mappings(), resident_kib());
    reload(1000);
    measure();
    reload(1000);
    let (mappings_before, resident_before) = measure();
    reload(2000);
    let (mappings_after, resident_after) = measure();
    // macOS's allocator maps at any time.
    let allocator = if cfg!(target_os = "linux") { 0 } else { 16 };
    assert!(
        mappings_after <= mappings_before + allocator,
        "{mappings_before} to {mappings_after}\n{}",
        mappings()
    );
    // Under QEMU the process's memory holds the emulator's translations too, which are evicted by
    // size alone.
    if !is_emulated() {
        assert!(resident_after <= resident_before + 512, "{resident_before} to {resident_after} KiB");
    }
}
