//! Canaries: every version's functions return a number of its own, which must be that of the
//! generation that the caller is in, while versions are replaced as fast as can be. Freed text is
//! overwritten with traps or unmapped at once (`src/code/backing.rs`), so that a stale call ends
//! the process: each run is a process of its own.
//!
//! Which thread does what is drawn from a seed, which a failure prints. `MIDFLIGHT_CANARY_SEED`
//! repeats it (the schedule is the system's all the same), `MIDFLIGHT_CANARY_SECONDS` makes the
//! runs longer.

mod support;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::c_void;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use midflight::{Backing, Config, Frame, Runtime, SharedFrame};
use support::{Workshop, is_emulated, this_test};

type Callback = extern "C" fn(*mut c_void) -> i32;

midflight::module! {
    unsafe mod canary_a { safe fn canary_a() -> i32; unsafe fn through(callback: Callback, data: *mut c_void) -> i32; safe fn place() -> usize; }
    unsafe mod canary_b { safe fn canary_b() -> i32; }
    unsafe mod canary_u { safe fn canary_u() -> i32; }
    unsafe mod canary_s { safe fn canary_s() -> i32; }
}

/// Files of each module. The number in them is that of the load modulo this.
const FILES: usize = 4;
/// What the module that is never replaced returns.
const STEADY: i32 = 4711;

/// Which way of the runtime a child runs.
const WAY: &str = "MIDFLIGHT_CANARY_WAY";
const SEED: &str = "MIDFLIGHT_CANARY_SEED";
const SECONDS: &str = "MIDFLIGHT_CANARY_SECONDS";

fn config(way: &str) -> Config {
    let mut config = Config::default();
    (config.backing, config.force_fences) = match way {
        "memfd" => (Backing::Memfd, false),
        "write once" => (Backing::WriteOnce, false),
        "toggled" => (Backing::Toggled, false),
        "fences" => (config.backing, true),
        _ => unreachable!("{way}"),
    };
    config
}

/// Every other file has more text, so that some loads take the pages of a freed version and some do
/// not.
fn padding(file: usize) -> String {
    let (begin, end) =
        if support::is_macho() { (".text", "") } else { (".pushsection .text", "; .popsection") };
    format!("__asm__(\"{begin}; .skip {}{end}\");\n", 1 + (file % 2) * 40_000)
}

fn source_a(file: usize) -> String {
    format!(
        "{}int canary_b(void);
         int canary_a(void) {{ return {file}; }}
         unsigned long place(void) {{ return (unsigned long)canary_a; }}
         int through(int (*callback)(void *), void *data) {{
             int before = canary_b(), inside = callback(data), after = canary_b();
             return before == {file} && after == {file} && inside == {file} ? {file} : -1;
         }}",
        padding(file)
    )
}

fn source(module: &str, number: i32) -> String {
    format!("{}int {module}(void) {{ return {number}; }}", padding(number as usize % FILES))
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// What was done; each must have been.
#[derive(Debug)]
struct Done {
    frames: AtomicUsize,
    nested: AtomicUsize,
    joined: AtomicUsize,
    exits: AtomicUsize,
    parked: AtomicUsize,
    unpinned: AtomicUsize,
    signals: AtomicUsize,
    publications: AtomicUsize,
    freed: AtomicUsize,
}

fn count(what: &AtomicUsize) {
    what.fetch_add(1, Ordering::Relaxed);
}

static DONE: Done = Done {
    frames: AtomicUsize::new(0),
    nested: AtomicUsize::new(0),
    joined: AtomicUsize::new(0),
    exits: AtomicUsize::new(0),
    parked: AtomicUsize::new(0),
    unpinned: AtomicUsize::new(0),
    signals: AtomicUsize::new(0),
    publications: AtomicUsize::new(0),
    freed: AtomicUsize::new(0),
};

impl Done {
    /// Whether everything was done at least once that every way of running does.
    fn is_complete(&self) -> bool {
        let Self { frames, nested, joined, exits, parked, publications, freed, .. } = self;
        [frames, nested, joined, exits, parked, publications, freed]
            .iter()
            .all(|times| times.load(Ordering::Relaxed) > 0)
    }
}

/// How much longer than it was to take it may take.
const PATIENCE: Duration = Duration::from_secs(30);
static STOP: AtomicBool = AtomicBool::new(false);

fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Frames that wait for a worker, and what happened: whoever waits for either sleeps, and leaves
/// the cores to the others.
#[derive(Default)]
struct Meeting {
    shared: Mutex<VecDeque<SharedFrame>>,
    news: Condvar,
}

impl Meeting {
    fn shared(&self) -> MutexGuard<'_, VecDeque<SharedFrame>> {
        self.shared.lock().unwrap()
    }

    fn offer(&self, frame: &Frame) {
        let mut shared = self.shared();
        if shared.len() < 16 {
            shared.push_back(frame.share());
        }
        drop(shared);
        self.news.notify_all();
    }

    /// None when all is over.
    fn take(&self) -> Option<SharedFrame> {
        let is_idle = |shared: &mut VecDeque<_>| shared.is_empty() && !stopped();
        self.news.wait_while(self.shared(), is_idle).unwrap().pop_front()
    }

    fn wait_for_publications(&self, until: usize) {
        let too_few = |_: &mut VecDeque<_>| DONE.publications.load(Ordering::Relaxed) < until && !stopped();
        drop(self.news.wait_while(self.shared(), too_few).unwrap());
    }

    fn tell(&self, what: impl FnOnce()) {
        let _shared = self.shared();
        what();
        self.news.notify_all();
    }
}

/// That all canaries of a frame are those of its generation.
fn check(frame: &Frame, random: &mut Random, depth: usize) -> i32 {
    let version = frame.version("canary_a");
    assert_eq!(version, frame.version("canary_b"), "they are published together");
    let expected = ((version.unwrap() - 1) % FILES as u64) as i32;
    assert_eq!(canary_a::canary_a(frame), expected);
    assert_eq!(canary_b::canary_b(frame), expected);
    if depth < 3 && random.below(4) == 0 {
        let mut visit = Visit { generation: frame.generation(), depth: depth + 1, random };
        // SAFETY: the visitor takes a visit, and the module only hands it on.
        assert_eq!(unsafe { canary_a::through(frame, visitor, (&raw mut visit).cast()) }, expected);
    }
    expected
}

/// A host's function that a module calls: this thread's return address is in the module meanwhile.
struct Visit<'r> {
    generation: u64,
    depth: usize,
    random: &'r mut Random,
}

extern "C" fn visitor(visit: *mut c_void) -> i32 {
    // SAFETY: `check` passes its own.
    let visit = unsafe { &mut *visit.cast::<Visit<'_>>() };
    if visit.random.below(2) == 0 {
        thread::yield_now();
    }
    let nested = Runtime::start().unwrap().frame();
    assert_eq!(nested.generation(), visit.generation, "a frame within a frame is in its generation");
    count(&DONE.nested);
    check(&nested, visit.random, visit.depth)
}

/// Opens frames, and shares some of them.
fn open_frames(rt: Runtime, meeting: &Meeting, mut random: Random) {
    while !stopped() {
        let frame = rt.frame();
        check(&frame, &mut random, 0);
        if random.below(8) == 0 {
            meeting.offer(&frame);
        }
        // Some leave before a worker enters, some after.
        if random.below(16) == 0 {
            thread::yield_now();
        }
        check(&frame, &mut random, 0);
        count(&DONE.frames);
    }
}

/// Joins frames that others opened, and hands some of them on.
fn join_frames(meeting: &Meeting, mut random: Random) {
    while let Some(ticket) = meeting.take() {
        let generation = ticket.generation();
        // Some when the frame is long over: then the ticket alone holds the generation.
        if random.below(4) == 0 {
            meeting.wait_for_publications(DONE.publications.load(Ordering::Relaxed) + 1 + random.below(3));
        }
        let frame = ticket.join().unwrap();
        drop(ticket);
        assert_eq!(frame.generation(), generation);
        check(&frame, &mut random, 0);
        if random.below(3) == 0 {
            meeting.offer(&frame);
        }
        check(&frame, &mut random, 0);
        count(&DONE.joined);
    }
}

/// A frame that ends when its thread does, after the runtime's own thread-local.
struct LastFrame(Frame, Random);

impl Drop for LastFrame {
    fn drop(&mut self) {
        check(&self.0, &mut self.1, 0);
        count(&DONE.exits);
    }
}

thread_local! {
    static LAST: RefCell<Option<LastFrame>> = const { RefCell::new(None) };
}

/// Threads that live for a frame or two; every other one exits inside a frame.
fn give_birth(rt: Runtime, mut random: Random) {
    while !stopped() {
        let mut theirs = Random(random.below(usize::MAX) as u64);
        let child = move || {
            let exits_inside = theirs.below(2) == 0;
            if exits_inside {
                // Registered before the runtime's own, and so destroyed after it.
                LAST.with_borrow(|none| assert!(none.is_none()));
            }
            check(&rt.frame(), &mut theirs, 0);
            if exits_inside {
                LAST.set(Some(LastFrame(rt.frame(), theirs)));
            }
        };
        thread::spawn(child).join().unwrap();
    }
}

/// Stays in a frame until so many publications have come.
fn park(rt: Runtime, meeting: &Meeting, mut random: Random) {
    while !stopped() {
        let frame = rt.frame();
        check(&frame, &mut random, 0);
        let until = DONE.publications.load(Ordering::Relaxed) + 1 + random.below(100);
        meeting.wait_for_publications(until);
        check(&frame, &mut random, 0);
        count(&DONE.parked);
    }
}

/// Calls by address, outside frames. The gate is the host's promise: who frees what escaped shuts
/// it first.
fn call_unpinned(address: usize, gate: &RwLock<()>) {
    // SAFETY: the module's function is of this type.
    let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(address) };
    while !stopped() {
        let _inside = gate.read().unwrap();
        for _ in 0..100 {
            let canary = function();
            assert!((0..FILES as i32).contains(&canary), "{canary}");
            count(&DONE.unpinned);
        }
        thread::yield_now();
    }
}

/// The trampoline that the signal handler calls, wherever its thread is: in a frame, outside,
/// entering or leaving.
static FOR_SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_signal(_: i32) {
    // SAFETY: a trampoline of this type, which is made before the first signal.
    let function: extern "C" fn() -> i32 =
        unsafe { std::mem::transmute(FOR_SIGNALS.load(Ordering::Relaxed)) };
    if function() != STEADY {
        // A panic is not for handlers.
        std::process::abort();
    }
    count(&DONE.signals);
}

/// Interrupts other threads, which are joined after this has returned.
fn interrupt(threads: &[libc::pthread_t], mut random: Random) {
    while !stopped() {
        // SAFETY: not joined yet, so the id is valid.
        unsafe { libc::pthread_kill(threads[random.below(threads.len())], libc::SIGUSR1) };
        thread::yield_now();
    }
}

/// Replaces versions as fast as it can.
fn publish(
    rt: Runtime,
    files: &[[PathBuf; FILES]; 3],
    (meeting, gate): (&Meeting, &RwLock<()>),
    mut random: Random,
    until: Instant,
) {
    let [a, b, u] = files;
    // Each module was loaded once.
    let (mut pairs, mut singles) = (1, 1);
    // A slow machine may need longer for something of everything.
    let enough = || Instant::now() >= until && (DONE.is_complete() || Instant::now() >= until + PATIENCE);
    while !enough() {
        // SAFETY: the modules have the functions as declared; addresses are used as the gate says.
        unsafe {
            if random.below(4) > 0 {
                rt.load_all([&a[pairs % FILES], &b[pairs % FILES]]).unwrap();
                pairs += 1;
            } else {
                rt.load(&u[singles % FILES]).unwrap();
                singles += 1;
            }
        }
        meeting.tell(|| count(&DONE.publications));
        if random.below(16) == 0 {
            let _nobody = gate.write().unwrap();
            // SAFETY: nobody is inside: all who call by address are at the gate, and the handler's
            // module is never replaced.
            let done = unsafe { rt.collect_escaped() }.unwrap();
            DONE.freed.fetch_add(done.freed, Ordering::Relaxed);
            assert_eq!(done.retained, 0);
            // One for each thread that is in a frame, and one for each frame that waits to be
            // joined.
            assert!(done.held <= 40, "{done:?}");
        }
    }
}

/// Has all threads end.
struct Stop<'m>(&'m Meeting);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.tell(|| STOP.store(true, Ordering::Relaxed));
    }
}

fn run(way: &str, seed: u64, duration: Duration) {
    let shop = Workshop::new("canary");
    let rt = Runtime::start_with(config(way)).unwrap();
    let has_membarrier = cfg!(target_os = "linux") && !support::is_forced("no-membarrier");
    assert_eq!(rt.is_asymmetric(), has_membarrier && way != "fences");
    let files = [("canary_a", true), ("canary_b", false), ("canary_u", false)].map(|(module, is_a)| {
        let text = |file| if is_a { source_a(file) } else { source(module, file as i32) };
        std::array::from_fn(|file| shop.module(module, file as u32, &text(file)))
    });
    let steady = shop.module("canary_s", 0, &source("canary_s", STEADY));
    // SAFETY: the modules have the functions as declared.
    unsafe {
        rt.load_all([&files[0][0], &files[1][0]]).unwrap();
        rt.load_all([&files[2][0], &steady]).unwrap();
    }
    let address = |module| rt.symbol(module, module).unwrap().as_ptr() as usize;
    FOR_SIGNALS.store(address("canary_s"), Ordering::Relaxed);
    // SAFETY: the handler calls a function that is always there, and counts.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(i32) as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    let mut seeds = 0..;
    let mut random = || Random(seed.wrapping_mul(1_000_003).wrapping_add(seeds.next().unwrap()));
    let (meeting, gate) = (&Meeting::default(), &RwLock::new(()));
    let until = Instant::now() + duration;
    let ids = &Mutex::new(Vec::new());
    thread::scope(|scope| {
        // Also if this thread panics: the others are waited for.
        let stop = Stop(meeting);
        let mut threads = Vec::new();
        for _ in 0..2 {
            let (opener, worker) = (random(), random());
            threads.push(scope.spawn(move || {
                // SAFETY: this thread's id.
                ids.lock().unwrap().push(unsafe { libc::pthread_self() });
                open_frames(rt, meeting, opener);
            }));
            threads.push(scope.spawn(move || join_frames(meeting, worker)));
        }
        let theirs = random();
        threads.push(scope.spawn(move || give_birth(rt, theirs)));
        let theirs = random();
        threads.push(scope.spawn(move || park(rt, meeting, theirs)));
        let by_address = address("canary_u");
        threads.push(scope.spawn(move || call_unpinned(by_address, gate)));
        while ids.lock().unwrap().len() < 2 {
            thread::yield_now();
        }
        let (targets, theirs) = (ids.lock().unwrap().clone(), random());
        let pest = scope.spawn(move || interrupt(&targets, theirs));
        publish(rt, &files, (meeting, gate), random(), until);
        drop(stop);
        pest.join().unwrap();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    meeting.shared().clear();
    // SAFETY: all threads are over.
    let left = unsafe { rt.collect_escaped() }.unwrap();
    assert_eq!((left.held, left.retained, left.busy), (0, 0, 0), "everything that was replaced is gone");
    assert!(DONE.is_complete(), "{DONE:?}");
    let Done { unpinned, signals, .. } = &DONE;
    assert!(unpinned.load(Ordering::Relaxed) > 0 && signals.load(Ordering::Relaxed) > 0, "{DONE:?}");
    println!("{way}, seed {seed}: {DONE:?}");
}

fn canaries(test: &str, way: &str) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number(SEED).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("a clock after 1970").as_nanos() as u64 & 0xffff_ffff
    });
    if std::env::var_os(WAY).is_some() {
        let seconds = number(SECONDS).map_or(Duration::from_millis(1500), Duration::from_secs);
        return run(way, seed, if is_emulated() { seconds * 2 } else { seconds });
    }
    let mut child = this_test(test);
    let output = child.env(WAY, way).env(SEED, seed.to_string()).output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{SEED}={seed}: {:?}\n{said}\n{told}", output.status);
}

#[cfg(target_os = "linux")]
#[test]
fn canaries_with_membarrier_and_memfd() {
    canaries("canaries_with_membarrier_and_memfd", "memfd");
}

#[cfg(target_os = "linux")]
#[test]
fn canaries_with_membarrier_and_mprotect() {
    canaries("canaries_with_membarrier_and_mprotect", "write once");
}

#[cfg(target_os = "macos")]
#[test]
fn canaries_with_fences_and_map_jit() {
    canaries("canaries_with_fences_and_map_jit", "toggled");
}

#[test]
fn canaries_with_fences() {
    canaries("canaries_with_fences", "fences");
}

/// That the runs above can fail: an address that is kept past its frame, against the contract of
/// `Runtime::load`.
#[test]
fn a_stale_call_ends_the_process() {
    const TEST: &str = "a_stale_call_ends_the_process";
    const STALE: &str = "the version is freed and its address called";
    if let Ok(way) = std::env::var(WAY) {
        let shop = Workshop::new("stale");
        let rt = Runtime::start_with(config(&way)).unwrap();
        let [a, next] = [0, 2].map(|file| shop.module("canary_a", file as u32, &source_a(file)));
        let b = shop.module("canary_b", 0, &source("canary_b", 0));
        let u = shop.module("canary_u", 0, &source("canary_u", 0));
        let s = shop.module("canary_s", 0, &source("canary_s", STEADY));
        // SAFETY: the modules have the functions as declared; what is done to the contract is the
        // test.
        let stale: extern "C" fn() -> i32 = unsafe {
            rt.load_all([&a, &b, &u, &s]).unwrap();
            std::mem::transmute(canary_a::place(&rt.frame()))
        };
        assert_eq!(stale(), 0, "it is current");
        // SAFETY: as above.
        unsafe { rt.load(&next) }.unwrap();
        assert_eq!(rt.collect().unwrap().held, 0);
        println!("{STALE}");
        drop(shop);
        std::process::exit(stale());
    }
    let ways = if cfg!(target_os = "linux") { ["memfd", "write once"] } else { ["toggled", "write once"] };
    for way in ways {
        let output = this_test(TEST).env(WAY, way).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(STALE), "{way}: {said} {}", String::from_utf8_lossy(&output.stderr));
        let trapped = [libc::SIGILL, libc::SIGTRAP, libc::SIGSEGV].map(Some);
        assert!(trapped.contains(&output.status.signal()), "{way}: {:?}", output.status);
    }
}
