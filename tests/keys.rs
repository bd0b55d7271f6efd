//! Keys of threads (pthread_key_create, tss_create) that modules make: their destructors, and their
//! ends.

mod support;

#[cfg(target_os = "linux")]
use std::ffi::c_void;
#[cfg(target_os = "linux")]
use std::ptr;
use std::sync::mpsc;

use support::saying::*;
use support::start;

midflight::module! {
    unsafe mod keys { safe fn set(value: u64) -> i32; }
}

const KEYS: &str = "
    static pthread_key_t key, plain;
    static tss_t standard;
    static void end(void *value) { say((word)value); if ((word)value % 10 < 2) pthread_setspecific(key, value + 1); }
    static void end_standard(void *value) { say((word)value + 1000); }
    __attribute__((constructor)) static void begin(void) {
        if (pthread_key_create(&key, end) || pthread_key_create(&plain, 0) || tss_create(&standard, end_standard)) abort();
        // Deleted with a value: nothing is said of it.
        tss_t deleted;
        pthread_key_t gone;
        if (tss_create(&deleted, end_standard) || pthread_key_create(&gone, end)) abort();
        if (tss_set(deleted, &key) || pthread_setspecific(gone, &key) || pthread_key_delete(gone)) abort();
        tss_delete(deleted);
        if (tss_set(deleted, &key) == 0) abort();
    }
    int set(word value) {
        return pthread_setspecific(key, (void *)value) || pthread_setspecific(plain, (void *)value)
            || tss_set(standard, (void *)value) || pthread_getspecific(key) != (void *)value
            || tss_get(standard) != (void *)value;
    }";

#[test]
fn destructors_of_keys_run_at_the_end_of_their_thread_or_version() {
    let (rt, shop, _turn) = start("keys");
    load(rt, module(&shop, "keys", 1, KEYS));
    said();
    let sorted = || {
        let mut said = said();
        said.sort_unstable();
        said
    };
    std::thread::spawn(move || assert_eq!(keys::set(&rt.frame(), 20), 0)).join().unwrap();
    assert_eq!(sorted(), [20, 21, 22, 1020]);
    assert_eq!(keys::set(&rt.frame(), 30), 0);
    let (set, wait) = mpsc::channel();
    let (go, stay) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        assert_eq!(keys::set(&rt.frame(), 40), 0);
        set.send(()).unwrap();
        stay.recv().unwrap_err();
    });
    wait.recv().unwrap();
    unload_wholly(rt, "keys");
    assert_eq!(sorted(), [30, 31, 32, 40, 41, 42, 1030, 1040]);
    drop(go);
    thread.join().unwrap();
    assert!(said().is_empty());
}

/// The C library gives a key's number again.
#[test]
fn a_value_of_a_key_that_is_gone_is_not_the_next_ones() {
    let (rt, shop, _turn) = start("next_key");
    let source = |number: u32, sets: &str| {
        format!(
            "static pthread_key_t key;
             static void end(void *value) {{ say({number}); {sets}; }}
             __attribute__((constructor)) static void begin(void) {{ if (pthread_key_create(&key, end)) abort(); }}
             int set(word value) {{ return value ? pthread_setspecific(key, (void *)value) : (int)key; }}"
        )
    };
    // A destructor that always sets the value again: some rounds, and no more, as in the C library.
    let stubborn = module(&shop, "keys", 3, &source(1, "pthread_setspecific(key, value)"));
    let other = module(&shop, "other_keys", 1, &source(2, ""));
    let next = module(&shop, "keys", 4, &source(3, ""));
    let thread = std::thread::spawn(move || {
        for path in [&stubborn, &other] {
            load(rt, path);
        }
        said();
        let set = rt.frame_symbol("other_keys", "set").unwrap();
        // SAFETY: it is of that type, and called in a frame.
        let set_other: extern "C" fn(u64) -> i32 = unsafe { std::mem::transmute(set) };
        let number = {
            let frame = rt.frame();
            assert_eq!((keys::set(&frame, 10), set_other(20)), (0, 0));
            keys::set(&frame, 0)
        };
        unload_wholly(rt, "keys");
        let rounds = said();
        assert!(rounds.len() > 1 && rounds.iter().all(|said| *said == 1), "{rounds:?}");
        load(rt, &next);
        assert_eq!(keys::set(&rt.frame(), 0), number);
    });
    thread.join().unwrap();
    assert_eq!(said(), [2], "the other's value is still there, and the next key has none");
    rt.unload_all(["keys", "other_keys"]).unwrap();
}

#[test]
fn keys_are_given_back() {
    let (rt, shop, _turn) = start("keys_back");
    let path = module(&shop, "keys", 2, KEYS);
    // There are 1,024 keys in a process (PTHREAD_KEYS_MAX), and the module takes three.
    for _ in 0..400 {
        load(rt, &path);
        unload(rt, "keys");
    }
}

/// The host deletes a module's key, and is given its number for a key of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_key_that_the_host_has_deleted_is_the_modules_no_more() {
    extern "C" fn end(value: *mut c_void) {
        say(value.addr() as u64);
    }
    let (rt, shop, _turn) = start("host_key");
    let source = "
        static pthread_key_t key;
        static void end(void *value) { abort(); }
        __attribute__((constructor)) static void begin(void) { if (pthread_key_create(&key, end)) abort(); }
        int set(word value) { return value ? pthread_setspecific(key, (void *)value) : (int)key; }";
    load(rt, module(&shop, "keys", 5, source));
    said();
    let number = keys::set(&rt.frame(), 0);
    assert_eq!(keys::set(&rt.frame(), 7), 0);
    let mut own = number as libc::pthread_key_t;
    // SAFETY: the module's key, which nobody uses after this, and one of our own.
    let made = unsafe { (libc::pthread_key_delete(own), libc::pthread_key_create(&mut own, Some(end))) };
    assert_eq!((made, own), ((0, 0), number as libc::pthread_key_t));
    // SAFETY: our own key, as long as it is there: that is what is asked.
    let set = move |value| unsafe { libc::pthread_setspecific(own, ptr::without_provenance(value)) };
    // SAFETY: as above.
    let get = move || unsafe { libc::pthread_getspecific(own).addr() };
    // By way of the module, which knows no better, it is the host's as well.
    std::thread::spawn(move || assert_eq!(keys::set(&rt.frame(), 20), 0)).join().unwrap();
    assert_eq!(said(), [20]);
    assert_eq!(set(30), 0);
    unload_wholly(rt, "keys");
    assert_eq!((get(), said()), (30, vec![]));
    std::thread::spawn(move || assert_eq!(set(40), 0)).join().unwrap();
    assert_eq!(said(), [40]);
    // SAFETY: our own key.
    assert_eq!(unsafe { libc::pthread_key_delete(own) }, 0);
}

/// The same, and it is a module's again.
#[cfg(target_os = "linux")]
#[test]
fn a_value_of_a_key_that_the_host_has_deleted_is_not_the_next_ones() {
    let (rt, shop, _turn) = start("host_next");
    let source = |number: u32| {
        format!(
            "static pthread_key_t key;
             static void end(void *value) {{ say({number}); }}
             __attribute__((constructor)) static void begin(void) {{ if (pthread_key_create(&key, end)) abort(); }}
             int set(word value) {{ return value ? pthread_setspecific(key, (void *)value) : (int)key; }}"
        )
    };
    let (first, next) = (module(&shop, "keys", 6, &source(1)), module(&shop, "other_keys", 6, &source(2)));
    std::thread::spawn(move || {
        load(rt, &first);
        let number = keys::set(&rt.frame(), 0);
        assert_eq!(keys::set(&rt.frame(), 7), 0);
        // SAFETY: the module's key, which nobody uses after this.
        assert_eq!(unsafe { libc::pthread_key_delete(number as libc::pthread_key_t) }, 0);
        load(rt, &next);
        let set = rt.frame_symbol("other_keys", "set").unwrap();
        // SAFETY: it is of that type, and called in a frame.
        let set_other: extern "C" fn(u64) -> i32 = unsafe { std::mem::transmute(set) };
        let _frame = rt.frame();
        assert_eq!(set_other(0), number);
    })
    .join()
    .unwrap();
    assert_eq!(said(), [0; 0], "the key that is there has no value on the thread that has ended");
    rt.unload_all(["keys", "other_keys"]).unwrap();
}
