//! What many modules cost: as much as there are of them, not as there are pairs.

#[allow(dead_code, reason = "of it only the time is asked")]
#[path = "../crates/image/tests/common/clock.rs"]
mod clock;
mod support;

use std::path::PathBuf;
use std::sync::Mutex;

use clock::Clock;
use midflight::{Runtime, Source};

/// The modules whose destructors have run, in that order.
static ENDED: Mutex<Vec<u64>> = Mutex::new(Vec::new());

extern "C" fn end(module: u64) {
    ENDED.lock().unwrap().push(module);
}

/// Who calls whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    /// Nobody.
    Apart,
    /// Each the one before it.
    Chain,
    /// All the first.
    Star,
}

/// What stands in the compiled file for a module's number, where the module has it and where it
/// says whom it calls.
const NUMBER: u64 = 0x1f2e_3d4c_5b6a_7988;
const OWN: &str = "number_99999";
const CALLED: &str = "number_88888";

/// So many modules: one compiled file, with other names.
fn modules(shop: &support::Workshop, shape: Shape, count: u64) -> Vec<(String, PathBuf)> {
    let callee = match shape {
        Shape::Apart => String::new(),
        Shape::Chain | Shape::Star => {
            format!("extern int {CALLED}(void); int call(void) {{ return {CALLED}(); }}")
        }
    };
    let source = |callee: &str| {
        format!(
            "{callee} static volatile unsigned long number = {NUMBER}ul;
             int {OWN}(void) {{ return (int)number; }}
             __attribute__((destructor)) static void end(void) {{ ((void (*)(unsigned long)){}ul)(number); }}",
            end as *const () as usize
        )
    };
    let compile = |name: &str, callee: &str| {
        let object = shop.object(name, &source(callee), &["-O2", "-fPIC"]);
        std::fs::read(object).unwrap()
    };
    let (first, others) =
        (Template::new(compile("first.c", "")), Template::new(compile("others.c", &callee)));
    let named = |number: u64| {
        let template = if number == 0 { &first } else { &others };
        let called = if shape == Shape::Chain { number.saturating_sub(1) } else { 0 };
        let name = format!("many_{number:05}");
        let path = shop.file(&format!("{name}.o"), &template.with(number, called));
        (name, path)
    };
    (0..count).map(named).collect()
}

/// A compiled file, and where its names and its number stand.
struct Template {
    bytes: Vec<u8>,
    number: Vec<usize>,
    own: Vec<usize>,
    called: Vec<usize>,
}

impl Template {
    fn new(bytes: Vec<u8>) -> Self {
        let places = |what: &[u8]| {
            let all = bytes.windows(what.len()).enumerate();
            all.filter(|(_, window)| *window == what).map(|(at, _)| at).collect::<Vec<_>>()
        };
        let (number, own) = (places(&NUMBER.to_ne_bytes()), places(OWN.as_bytes()));
        assert!(!number.is_empty() && !own.is_empty());
        Self { number, own, called: places(CALLED.as_bytes()), bytes }
    }

    fn with(&self, number: u64, called: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let mut write = |places: &[usize], what: &[u8]| {
            places.iter().for_each(|at| bytes[*at..][..what.len()].copy_from_slice(what))
        };
        write(&self.number, &number.to_ne_bytes());
        write(&self.own, format!("number_{number:05}").as_bytes());
        write(&self.called, format!("number_{called:05}").as_bytes());
        bytes
    }
}

/// Processor time of loading them in one publication and of unloading all: the least of several
/// times.
fn measure(rt: Runtime, shape: Shape, modules: &[(String, PathBuf)], times: usize) -> [f64; 2] {
    let mut least = [f64::MAX; 2];
    for _ in 0..times {
        let sources = modules.iter().map(|(name, path)| Source::linked(name, [path]));
        let clock = Clock::start();
        // SAFETY: the modules are the ones above.
        unsafe { rt.load_all(sources) }.unwrap();
        least[0] = clock.seconds().min(least[0]);
        let clock = Clock::start();
        rt.shutdown().unwrap();
        least[1] = clock.seconds().min(least[1]);

        let mut ended = std::mem::take(&mut *ENDED.lock().unwrap());
        match shape {
            Shape::Apart => {}
            Shape::Chain => assert!(ended.is_sorted_by(|caller, called| caller > called), "{ended:?}"),
            Shape::Star => assert_eq!(ended.last(), Some(&0)),
        }
        ended.sort();
        assert!(ended.into_iter().eq(0..modules.len() as u64), "{shape:?}: each once");
    }
    least
}

#[test]
fn eight_times_as_many_modules_cost_about_eight_times_as_much() {
    const FEW: usize = 120;
    // What grows with pairs costs 64 times as much, or half of that where it is not all there is.
    const AT_MOST: f64 = 18.0;
    let (rt, shop, _turn) = support::start("scale");
    for shape in [Shape::Apart, Shape::Chain, Shape::Star] {
        let all = modules(&shop, shape, 8 * FEW as u64);
        let few = measure(rt, shape, &all[..FEW], 4);
        let many = measure(rt, shape, &all, 2);
        for (what, few, many) in [("load", few[0], many[0]), ("unload", few[1], many[1])] {
            assert!(many < AT_MOST * few, "{shape:?}: {what}: {few} s, of eight times as many {many} s");
        }
    }
}
