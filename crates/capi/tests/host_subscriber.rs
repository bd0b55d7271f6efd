//! A host in Rust that has its own subscriber keeps it. A binary of its own: a process has one.

mod support;

use std::ffi::{c_char, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use midflight_c::runtime_core::*;
use support::*;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

struct Own;
static EVENTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Subscriber for Own {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        EVENTS.lock().unwrap().push(format!("{} {event:?}", event.metadata().target()));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

static CALLED: AtomicUsize = AtomicUsize::new(0);

extern "C-unwind" fn line(_: i32, _: *const c_char, _: *const c_char, _: *mut c_void) {
    CALLED.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn it_has_the_events() {
    tracing::subscriber::set_global_default(Own).unwrap();
    let session = stopped("host-subscriber");
    // SAFETY: the callback takes any `user`.
    ok(unsafe { runtime_set_log_callback(Some(line), 1, std::ptr::null_mut()) });
    ok(init(&RuntimeConfig::default()));
    ok(reload(session.module("hosted", 1, &returns(1))));
    let events = EVENTS.lock().unwrap().join("\n");
    assert!(
        events.contains("midflight::log") && events.contains("has a tracing subscriber already"),
        "{events}"
    );
    assert!(events.contains("published"), "{events}");
    assert_eq!(CALLED.load(Ordering::Relaxed), 0);
}
