//! Functions of modules that the C library runs on threads of its own: timers, messages, look-ups
//! (SIGEV_THREAD).
#![cfg(target_os = "linux")]

mod support;

use std::ffi::c_int;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use midflight::{LoadOptions, Runtime};
use support::linked::{lines, start_logged, warned};
use support::*;

midflight::module! {
    unsafe mod ticking { safe fn begin(state: &'static State) -> c_int; safe fn end() -> c_int; safe fn handle() -> usize; }
    unsafe mod messages { safe fn watch(queue: c_int, count: &'static AtomicU64) -> c_int; }
    unsafe mod asking { safe fn ask(state: &'static State) -> c_int; }
}

/// What a timer's function and its test tell each other.
#[repr(C)]
struct State {
    begun: AtomicU64,
    go_on: AtomicU64,
    /// Which version of the other module it called, and how often.
    called: AtomicI32,
    over: AtomicU64,
}

impl State {
    const fn new() -> Self {
        Self {
            begun: AtomicU64::new(0),
            go_on: AtomicU64::new(0),
            called: AtomicI32::new(0),
            over: AtomicU64::new(0),
        }
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        thread::yield_now();
    }
}

/// Frees all that is over. What the modules' threads call is retained, and nobody else calls that.
fn nothing_is_left(rt: Runtime) -> bool {
    // SAFETY: no thread is inside what no thread of a version keeps.
    unsafe { rt.collect_escaped() }.unwrap().old_bytes == 0
}

/// Loads files as one publication.
fn load<const N: usize>(rt: Runtime, files: [&PathBuf; N]) {
    // SAFETY: the functions are as declared.
    unsafe { rt.load_with(files, &LoadOptions::default()) }.unwrap();
}

/// How many timers the process has.
fn timers() -> usize {
    std::fs::read_to_string("/proc/self/timers").unwrap().matches("ID: ").count()
}

/// `ticking`, whose timer runs out each millisecond, and what it calls.
fn versions(shop: &Workshop, version: u32, keeps: bool) -> [PathBuf; 2] {
    let source = format!(
        "#include <signal.h>
         #include <time.h>
         #include <sched.h>
         struct state {{ _Atomic unsigned long begun, go_on; _Atomic int called; _Atomic unsigned long over; }};
         int used_id(void);
         static timer_t timer;
         static _Atomic int armed;
         static void tick(union sigval value) {{
             struct state *state = value.sival_ptr;
             state->begun++;
             while (!state->go_on) sched_yield();
             state->called = used_id();
             state->over++;
         }}
         int end(void) {{ return armed && !(armed = 0) ? timer_delete(timer) : 0; }}
         unsigned long handle(void) {{ return (unsigned long)timer; }}
         int begin(struct state *state) {{
             struct sigevent event = {{ .sigev_notify = SIGEV_THREAD, .sigev_notify_function = tick }};
             event.sigev_value.sival_ptr = state;
             struct itimerspec each = {{ {{ 0, 1000000 }}, {{ 0, 1000000 }} }};
             armed = 1;
             return timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &each, 0);
         }}
         void module_shutdown(void) {{ if (!{}) end(); }}",
        u32::from(keeps)
    );
    let used = shop.module("used", version, &format!("int used_id(void) {{ return {version}; }}"));
    [used, shop.module("ticking", version, &source)]
}

#[test]
fn a_timers_function_keeps_its_version_and_calls_what_that_was_made_for() {
    static STATE: State = State::new();
    let (rt, shop, _turn) = start("timer");
    if is_macho() {
        return;
    }
    rt.shutdown().unwrap();
    load(rt, versions(&shop, 1, false).each_ref());
    assert_eq!(ticking::begin(&rt.frame(), &STATE), 0);
    wait_until("the timer runs out", || STATE.begun.load(Ordering::SeqCst) > 0);
    load(rt, versions(&shop, 2, false).each_ref());
    let left = rt.collect().unwrap();
    assert_eq!((left.freed, left.busy), (0, 1), "its thread is inside, and `used` is what it calls");
    let begun = STATE.begun.load(Ordering::SeqCst);
    STATE.go_on.store(1, Ordering::SeqCst);
    wait_until("it goes on", || STATE.over.load(Ordering::SeqCst) == begun);
    assert_eq!(STATE.called.load(Ordering::SeqCst), 1);
    wait_until("its threads end", || nothing_is_left(rt));
    assert_eq!(STATE.over.load(Ordering::SeqCst), begun, "none begins any more");
    rt.shutdown().unwrap();
}

#[test]
fn a_timer_that_a_module_leaves_does_not_run_it_any_more() {
    static STATE: State = State::new();
    let (rt, shop, _turn) = start("timer-left");
    if is_macho() {
        return;
    }
    rt.shutdown().unwrap();
    STATE.go_on.store(1, Ordering::SeqCst);
    load(rt, versions(&shop, 3, true).each_ref());
    assert_eq!(ticking::begin(&rt.frame(), &STATE), 0);
    wait_until("the timer runs out", || STATE.over.load(Ordering::SeqCst) > 5);
    rt.unload_all(["ticking", "used"]).unwrap();
    wait_until("nothing keeps it", || nothing_is_left(rt));
    // An emulator's are not those that it shows.
    assert!(is_emulated() || timers() == 0, "it is deleted");
    let over = STATE.over.load(Ordering::SeqCst);
    // Another's timer runs out several times meanwhile.
    load(rt, versions(&shop, 4, false).each_ref());
    static OTHER: State = State::new();
    OTHER.go_on.store(1, Ordering::SeqCst);
    assert_eq!(ticking::begin(&rt.frame(), &OTHER), 0);
    wait_until("time passes", || OTHER.over.load(Ordering::SeqCst) > 20);
    assert_eq!(STATE.over.load(Ordering::SeqCst), over);
    assert_eq!(ticking::end(&rt.frame()), 0);
    rt.shutdown().unwrap();
}

/// Whoever has a timer's handle may delete it; the C library gives the next one the same.
#[test]
fn a_timer_of_the_programs_is_left_alone_when_it_has_the_handle_of_a_modules() {
    /// glibc's `struct sigevent`, where it asks for a thread.
    #[repr(C)]
    struct Event {
        value: usize,
        signal: c_int,
        notify: c_int,
        function: extern "C" fn(usize),
        rest: [usize; 5],
    }
    extern "C" fn tick(_: usize) {}
    static STATE: State = State::new();
    let (rt, shop, _turn) = start("timer-handle");
    if is_macho() {
        return;
    }
    rt.shutdown().unwrap();
    STATE.go_on.store(1, Ordering::SeqCst);
    load(rt, versions(&shop, 1000, true).each_ref());
    assert_eq!(ticking::begin(&rt.frame(), &STATE), 0);
    let handle = ticking::handle(&rt.frame()) as libc::timer_t;
    wait_until("the timer runs out", || STATE.over.load(Ordering::SeqCst) > 0);
    let mut event = Event { value: 0, signal: 0, notify: libc::SIGEV_THREAD, function: tick, rest: [0; 5] };
    let mut timer: libc::timer_t = std::ptr::null_mut();
    let hour = libc::timespec { tv_sec: 3600, tv_nsec: 0 };
    let hours = libc::itimerspec { it_interval: hour, it_value: hour };
    // SAFETY: the module's timer, which it does not use any more; one of our own after that, with a
    // function that stays.
    unsafe {
        assert_eq!(libc::timer_delete(handle), 0);
        let event = (&raw mut event).cast();
        assert_eq!(libc::timer_create(libc::CLOCK_MONOTONIC, event, &raw mut timer), 0);
        assert_eq!(libc::timer_settime(timer, 0, &raw const hours, std::ptr::null_mut()), 0);
    }
    assert_eq!(timer, handle, "this is what the test is about");
    rt.unload_all(["ticking", "used"]).unwrap();
    wait_until("nothing keeps it", || nothing_is_left(rt));
    let mut left = libc::itimerspec {
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: libc::timespec { tv_sec: 0, tv_nsec: 0 },
    };
    // SAFETY: our own timer.
    unsafe {
        assert_eq!(libc::timer_gettime(timer, &raw mut left), 0, "it is there");
        assert_eq!(libc::timer_delete(timer), 0);
    }
    assert_eq!(left.it_interval.tv_sec, 3600);
}

#[test]
fn each_timer_has_a_value_of_its_own_and_may_be_taken_back() {
    static COUNTS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
    let (rt, shop, _turn) = start_logged("timers-apart");
    if is_macho() {
        return;
    }
    let source = "
        #include <signal.h>
        #include <time.h>
        static void tick(union sigval value) { ++*(_Atomic unsigned long *)value.sival_ptr; }
        int begin_each(unsigned long counts[3]) {
            struct itimerspec each = { { 0, 1000000 }, { 0, 1000000 } };
            timer_t timers[3];
            for (int i = 0; i < 3; i++) {
                struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = tick };
                event.sigev_value.sival_ptr = counts + i;
                if (timer_create(CLOCK_MONOTONIC, &event, timers + i)) return 1;
            }
            if (timer_delete(timers[1])) return 2;
            return timer_settime(timers[0], 0, &each, 0) || timer_settime(timers[2], 0, &each, 0) ? 3 : 0;
        }";
    load(rt, [&shop.module("several", 1, source)]);
    let begin = rt.frame_symbol("several", "begin_each").unwrap();
    {
        let _frame = rt.frame();
        // SAFETY: it is of that type.
        let begin: extern "C" fn(&[AtomicU64; 3]) -> c_int = unsafe { std::mem::transmute(begin) };
        assert_eq!(begin(&COUNTS), 0);
    }
    let counts = || COUNTS.each_ref().map(|count| count.load(Ordering::SeqCst));
    wait_until("both run out", || counts()[0] > 0 && counts()[2] > 0);
    lines().clear();
    rt.unload("several").unwrap();
    wait_until("nothing keeps it", || nothing_is_left(rt));
    assert_eq!(counts()[1], 0);
    // An emulator's timers are not those that it shows: what was left is not known there.
    assert!(is_emulated() || warned(&["several", "timers=2"]) == 1, "what was taken back is not left");
}

#[test]
fn timers_come_and_go_while_versions_are_replaced() {
    static STATE: State = State::new();
    let (rt, shop, _turn) = start("timers");
    if is_macho() {
        return;
    }
    rt.shutdown().unwrap();
    STATE.go_on.store(1, Ordering::SeqCst);
    let pairs = [(5, false), (6, true)].map(|(version, keeps)| versions(&shop, version, keeps));
    for round in 0..40 {
        load(rt, pairs[round % 2].each_ref());
        let over = STATE.over.load(Ordering::SeqCst);
        assert_eq!(ticking::begin(&rt.frame(), &STATE), 0);
        wait_until("the timer runs out", || STATE.over.load(Ordering::SeqCst) > over);
    }
    rt.shutdown().unwrap();
    wait_until("all are over", || nothing_is_left(rt));
    assert!((5..=6).contains(&STATE.called.load(Ordering::SeqCst)));
}

#[test]
fn a_message_that_comes_late_finds_nothing_to_run() {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (rt, shop, _turn) = start("messages");
    // QEMU cannot do the notification.
    if is_macho() || is_emulated() {
        return;
    }
    let source = "
        #include <mqueue.h>
        #include <signal.h>
        static void come(union sigval value) { ++*(_Atomic unsigned long *)value.sival_ptr; }
        int watch(int queue, unsigned long *count) {
            struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = come };
            event.sigev_value.sival_ptr = count;
            return mq_notify(queue, &event);
        }";
    let name = std::ffi::CString::new(format!("/midflight-{}", std::process::id())).unwrap();
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_NONBLOCK;
    // SAFETY: a name, and no attributes; unlinked here.
    let queue = unsafe {
        let queue = libc::mq_open(name.as_ptr(), flags, 0o600, std::ptr::null_mut::<libc::mq_attr>());
        libc::mq_unlink(name.as_ptr());
        queue
    };
    assert!(queue >= 0, "{}", std::io::Error::last_os_error());
    let mut drained = vec![0_u8; 1 << 16];
    let mut send = || {
        // SAFETY: one byte, and a buffer that is larger than a message.
        unsafe {
            assert_eq!(libc::mq_send(queue, c"m".as_ptr(), 1, 0), 0);
            assert_eq!(
                libc::mq_receive(queue, drained.as_mut_ptr().cast(), drained.len(), std::ptr::null_mut()),
                1
            );
        }
    };
    load(rt, [&shop.module("messages", 1, source)]);
    assert_eq!(messages::watch(&rt.frame(), queue, &COUNT), 0);
    send();
    wait_until("it is told", || COUNT.load(Ordering::SeqCst) == 1);
    assert_eq!(messages::watch(&rt.frame(), queue, &COUNT), 0);
    load(rt, [&shop.module("messages", 2, source)]);
    wait_until("nothing keeps the old version", || nothing_is_left(rt));
    send();
    // The queue takes another's wish only when the one before has been told.
    wait_until("the queue is free again", || messages::watch(&rt.frame(), queue, &COUNT) == 0);
    send();
    wait_until("the new version is told", || COUNT.load(Ordering::SeqCst) == 2);
    rt.unload("messages").unwrap();
    wait_until("nothing keeps it", || nothing_is_left(rt));
    // SAFETY: opened above.
    unsafe { libc::mq_close(queue) };
}

#[test]
fn the_end_of_a_look_up_is_told_on_a_thread_that_is_the_versions() {
    static STATE: State = State::new();
    let (rt, shop, _turn) = start("look-up");
    if is_macho() {
        return;
    }
    let source = "
        #define _GNU_SOURCE
        #include <netdb.h>
        #include <sched.h>
        #include <signal.h>
        struct state { _Atomic unsigned long begun, go_on; };
        static void come(union sigval value) {
            struct state *state = value.sival_ptr;
            state->begun++;
            while (!state->go_on) sched_yield();
        }
        int ask(struct state *state) {
            static struct addrinfo hints = { .ai_flags = AI_NUMERICHOST };
            static struct gaicb one = { .ar_name = \"127.0.0.1\", .ar_request = &hints };
            struct gaicb *list[] = { &one };
            struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = come };
            event.sigev_value.sival_ptr = state;
            return getaddrinfo_a(GAI_NOWAIT, list, 1, &event);
        }";
    load(rt, [&shop.module("asking", 1, source)]);
    assert_eq!(asking::ask(&rt.frame(), &STATE), 0);
    wait_until("it is told", || STATE.begun.load(Ordering::SeqCst) == 1);
    rt.unload("asking").unwrap();
    assert_eq!(rt.collect().unwrap().busy, 1);
    STATE.go_on.store(1, Ordering::SeqCst);
    wait_until("its thread ends", || nothing_is_left(rt));
}

#[test]
fn the_c_librarys_own_thread_for_timers_keeps_nothing() {
    let (rt, shop, _turn) = start("timers-thread");
    // An emulator has a thread of its own among ours, which cannot be looked at: no look is ever
    // clear.
    if is_macho() || is_emulated() {
        return;
    }
    rt.shutdown().unwrap();
    static STATE: State = State::new();
    STATE.go_on.store(1, Ordering::SeqCst);
    let begin = Instant::now();
    // Any number on any stack may look like an address of a version: then the next one is looked
    // for.
    let is_seen_to_be_free = |version: u32| {
        thread::scope(|scope| {
            scope.spawn(|| {
                load(rt, versions(&shop, version, false).each_ref());
                assert_eq!(ticking::begin(&rt.frame(), &STATE), 0);
                // It may be called by anyone, so it is looked for.
                rt.symbol("used", "used_id").unwrap();
                rt.unload_all(["ticking", "used"]).unwrap();
            });
        });
        // The threads of a timer that has run out may be on their way still.
        (0..1000).any(|_| rt.collect_quiescent().unwrap().collected.old_bytes == 0)
    };
    let mut version = 7;
    while !is_seen_to_be_free(version) {
        version += 1;
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", rt.collect_quiescent());
    }
}
