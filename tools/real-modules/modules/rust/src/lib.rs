//! A module in Rust that uses its standard library for real: collections, threads, channels,
//! thread-locals with destructors, panics, backtraces, files, and three crates that are used
//! everywhere.

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::{CStr, c_char};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, OnceLock, RwLock, mpsc};
use std::time::{Duration, Instant};
use std::{fs, thread};

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Maps, strings, sorting, formatting.
#[unsafe(no_mangle)]
pub extern "C" fn rust_collections(seed: u64) -> u64 {
    let numbers =
        std::iter::successors(Some(seed), |x| Some(x.wrapping_mul(6364136223846793005).wrapping_add(1)));
    let numbers: Vec<u64> = numbers.take(5_000).collect();
    let words: HashMap<String, u64> = numbers.iter().map(|n| (format!("{:x}", n >> 44), *n)).collect();
    let mut sorted: Vec<_> = words.iter().collect();
    sorted.sort_by(|a, b| b.cmp(a));
    let tree: BTreeMap<_, _> = numbers.iter().enumerate().map(|(i, n)| (n % 1_009, i)).collect();
    let queue: VecDeque<_> = tree.range(100..900).rev().collect();
    let mut text = String::new();
    for (i, n) in numbers.iter().enumerate().take(500) {
        let real = *n as f64 / 1e9;
        write!(
            text,
            "{i:>6}|{n:#018x}|{real:e}|{real:.3}|{:?};",
            (real as f32, char::from_u32(*n as u32 % 0xd800))
        )
        .expect("a string takes all");
    }
    hash((sorted, queue, &text, text.to_uppercase(), text.split(';').rev().collect::<Vec<_>>()))
}

/// Threads with all that they meet by: channels, locks, barriers, parking, scopes.
#[unsafe(no_mangle)]
pub extern "C" fn rust_threads(count: u64) -> u64 {
    static SHARED: LazyLock<RwLock<BTreeMap<u64, u64>>> = LazyLock::new(Default::default);
    let (send, receive) = mpsc::sync_channel(3);
    let (total, barrier) = (Arc::new(AtomicU64::new(0)), Arc::new(Barrier::new(count as usize)));
    let threads: Vec<_> = (0..count)
        .map(|i| {
            let (send, total, barrier) = (send.clone(), total.clone(), barrier.clone());
            let thread = thread::Builder::new().name(format!("module {i}"));
            let run = move || {
                barrier.wait();
                total.fetch_add(i, Ordering::Relaxed);
                (0..100).for_each(|n| send.send(i * 1000 + n).expect("the receiver stays"));
                SHARED.write().expect("nobody panics").insert(i, i * i);
                thread::current().name().map(str::len)
            };
            thread.spawn(run).expect("a thread")
        })
        .collect();
    drop(send);
    let mut received: Vec<u64> = receive.iter().collect();
    received.sort_unstable();
    let names: usize = threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).sum();

    let (turn, changed) = (Mutex::new(0), Condvar::new());
    thread::scope(|scope| {
        for i in 0..count {
            let (turn, changed) = (&turn, &changed);
            scope.spawn(move || {
                let mut now =
                    changed.wait_while(turn.lock().expect("no panic"), |now| *now != i).expect("no panic");
                *now += 1;
                changed.notify_all();
            });
        }
    });
    let parked = thread::spawn(thread::park);
    parked.thread().unpark();
    parked.join().expect("no panic");
    let begin = Instant::now();
    thread::sleep(Duration::from_millis(1));
    assert!(begin.elapsed() >= Duration::from_millis(1));
    let shared = std::mem::take(&mut *SHARED.write().expect("nobody panics"));
    hash((received, names, total.load(Ordering::Relaxed), turn.into_inner().expect("no panic"), shared))
}

/// Panics that are caught here: of several kinds, on this thread and on others, with destructors on
/// the way.
#[unsafe(no_mangle)]
pub extern "C" fn rust_panics(count: u64) -> u64 {
    struct Unwound<'c>(&'c AtomicU64);
    impl Drop for Unwound<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let unwound = AtomicU64::new(0);
    let mut messages = Vec::new();
    panic::set_hook(Box::new(|_| {}));
    for i in 0..count {
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            let _guard = Unwound(&unwound);
            match i % 5 {
                0 => panic!("panic number {i}"),
                1 => _ = vec![0; 3][3 + i as usize],
                2 => _ = None::<u64>.expect("there is none"),
                3 => panic::resume_unwind(Box::new(i)),
                _ => _ = RefCell::new(0).try_borrow_mut().map(|_| u64::MAX.checked_add(i).unwrap()),
            }
        }));
        let payload = result.expect_err("each of them panics");
        let text = payload.downcast_ref::<String>().cloned();
        messages.push(
            text.or_else(|| payload.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default(),
        );
    }
    let joined = thread::spawn(|| panic!("on a thread")).join();
    assert_eq!(joined.expect_err("it panicked").downcast_ref::<&str>(), Some(&"on a thread"));
    drop(panic::take_hook());
    hash((messages, unwound.into_inner()))
}

/// A panic leaves the module: the function's ABI says that it may.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn rust_panic_out(host: extern "C-unwind" fn()) -> u64 {
    // The host's own exception or panic passes this frame, in which there is something to destroy.
    let _guard = Counted::new();
    host();
    0
}

struct Counted(Vec<u8>);
static COUNTED: AtomicU64 = AtomicU64::new(0);

impl Counted {
    fn new() -> Self {
        COUNTED.fetch_add(1, Ordering::Relaxed);
        Self(vec![1; 100])
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        COUNTED.fetch_sub(u64::from(self.0[0]), Ordering::Relaxed);
    }
}

/// How many objects that frames or threads hold are alive.
#[unsafe(no_mangle)]
pub extern "C" fn rust_alive() -> u64 {
    COUNTED.load(Ordering::Relaxed)
}

/// Thread-locals: with a destructor, without, lazily made by each other. Returns how often this
/// thread has called.
#[unsafe(no_mangle)]
pub extern "C" fn rust_thread_local() -> u64 {
    thread_local! {
        static CALLS: RefCell<u64> = const { RefCell::new(0) };
        static OBJECT: Counted = Counted::new();
        static LATER: RefCell<Vec<Counted>> = RefCell::new(OBJECT.with(|object| vec![Counted(object.0.clone())]));
    }
    if LATER.with_borrow(Vec::is_empty) {
        return 0;
    }
    if CALLS.with_borrow(|calls| *calls == 0) {
        // The clone above was not counted; its destructor takes it off.
        COUNTED.fetch_add(1, Ordering::Relaxed);
    }
    CALLS.with_borrow_mut(|calls| {
        *calls += 1;
        *calls
    })
}

/// Whether a backtrace taken here names this function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn rust_backtrace() -> bool {
    let text = Backtrace::force_capture().to_string();
    text.contains("rust_backtrace")
}

/// Crates: a JSON document edited, regular expressions, hashes and a cipher in assembly.
///
/// # Safety
///
/// `path` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rust_crates(path: *const c_char) -> u64 {
    static WORD: OnceLock<regex::Regex> = OnceLock::new();
    // SAFETY: the caller's promise.
    let path = unsafe { CStr::from_ptr(path) }.to_str().expect("a path in UTF-8");
    let text = fs::read_to_string(path).expect("the file is there");
    let word = WORD.get_or_init(|| regex::Regex::new(r"(?m)\b([a-z])(\w+)\b(\s*\()?").expect("it parses"));
    let calls = word.captures_iter(&text).filter(|found| found.get(3).is_some());
    let calls: Vec<String> = calls.map(|found| found[0].to_owned()).collect();
    let replaced = word.replace_all(&text, "$2-$1");
    let mut json = serde_json::json!({ "calls": calls, "length": text.len(), "nested": [1, 2.5, null, { "a": "\u{e9}\n" }] });
    json["more"] = serde_json::from_str(r#"{"x": [1e3, -0.25, true], "y": "\u00e9"}"#).expect("it parses");
    let json = serde_json::to_string_pretty(&json).expect("it prints");
    let digest = ring::digest::digest(&ring::digest::SHA512, replaced.as_bytes());
    let mac =
        ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, digest.as_ref()), json.as_bytes());
    use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
    let mut sealed = text.into_bytes();
    for algorithm in [&AES_256_GCM, &CHACHA20_POLY1305] {
        let key = LessSafeKey::new(
            UnboundKey::new(algorithm, &digest.as_ref()[..32]).expect("a key of its length"),
        );
        let nonce = Nonce::assume_unique_for_key([7; 12]);
        key.seal_in_place_append_tag(nonce, Aad::from(mac.as_ref()), &mut sealed).expect("it fits");
    }
    hash((json, digest.as_ref(), mac.as_ref(), sealed))
}
