//! Frames, and what is not one.

mod support;

use std::sync::mpsc::channel;

use midflight::ErrorKind::{InvalidArgument, NotInitialized, WrongFrame};
use midflight_c::runtime_core::*;
use midflight_c::runtime_types::RuntimeFrame;
use support::*;

fn begin(frame: &mut RuntimeFrame) -> i32 {
    // SAFETY: a place for a frame.
    unsafe { runtime_frame_begin(frame) }
}

fn end(frame: &mut RuntimeFrame) -> i32 {
    // SAFETY: a place for a frame.
    unsafe { runtime_frame_end(frame) }
}

/// For other threads, as C would have it.
#[derive(Clone, Copy)]
struct Address(*mut RuntimeFrame);
// SAFETY: that is what is tested.
unsafe impl Send for Address {}

#[test]
fn a_frame_stays_in_its_generation() {
    let session = start("frame-generation");
    ok(reload(session.module("frames", 1, &returns(1))));
    let (code, address) = look_up(c"frames", c"value");
    ok(code);
    // SAFETY: its type.
    let value: extern "C" fn() -> i32 = unsafe { std::mem::transmute(address) };
    let mut outer = RuntimeFrame::default();
    ok(begin(&mut outer));
    assert_eq!(value(), 1);
    let other = session.module("frames", 2, &returns(2));
    std::thread::scope(|scope| scope.spawn(|| ok(reload(other))).join().unwrap());
    let mut inner = RuntimeFrame::default();
    ok(begin(&mut inner));
    assert_eq!(value(), 1);
    // In whichever order.
    ok(end(&mut outer));
    assert_eq!(value(), 1);
    ok(end(&mut inner));
    assert_eq!(call(c"frames", c"value"), 2);
}

#[test]
fn threads_join() {
    let session = start("frame-join");
    ok(reload(session.module("joined", 1, &returns(1))));
    let (code, address) = look_up(c"joined", c"value");
    ok(code);
    // SAFETY: its type.
    let value: extern "C" fn() -> i32 = unsafe { std::mem::transmute(address) };
    let mut frame = RuntimeFrame::default();
    ok(begin(&mut frame));
    ok(reload(session.module("joined", 2, &returns(2))));
    let place = Address(&mut frame);
    let (joined, is_joined) = channel();
    let (ended, has_ended) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let place = place;
            let mut own = RuntimeFrame::default();
            // SAFETY: the other frame is open until `joined` is told.
            unsafe {
                ok(runtime_frame_join(&mut own, place.0));
                joined.send(()).unwrap();
                has_ended.recv().unwrap();
                // Its opener is gone, its generation is here still.
                assert_eq!(value(), 1);
                ok(runtime_frame_end(&mut own));
                ok(runtime_frame_begin(&mut own));
                assert_eq!(value(), 2);
                ok(runtime_frame_end(&mut own));
            }
        });
        is_joined.recv().unwrap();
        ok(end(&mut frame));
        ended.send(()).unwrap();
    });

    // A thread that is inside another generation cannot.
    ok(begin(&mut frame));
    ok(reload(session.module("joined", 3, &returns(3))));
    let place = Address(&mut frame);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let place = place;
            let (mut inside, mut own) = (RuntimeFrame::default(), RuntimeFrame::default());
            ok(begin(&mut inside));
            // SAFETY: both are frames, and the other is open.
            fails(unsafe { runtime_frame_join(&mut own, place.0) }, WrongFrame, "inside generation");
            fails(end(&mut own), WrongFrame, "not open");
            ok(end(&mut inside));
            // Nor can another thread end it.
            // SAFETY: it is one.
            fails(unsafe { runtime_frame_end(place.0) }, WrongFrame, "another thread's");
        });
    });
    assert_eq!(value(), 2);
    ok(end(&mut frame));
}

#[test]
fn what_is_no_frame_is_refused_as_it_is() {
    let _session = start("frame-wrong");
    let mut frame = RuntimeFrame::default();
    fails(end(&mut frame), WrongFrame, "not open");
    // SAFETY: addresses that the functions are to refuse.
    unsafe {
        fails(runtime_frame_begin(std::ptr::null_mut()), InvalidArgument, "NULL");
        fails(runtime_frame_end(std::ptr::null_mut()), InvalidArgument, "NULL");
        fails(runtime_frame_join(&mut frame, std::ptr::null()), InvalidArgument, "NULL");
        let odd = (&raw mut frame).byte_add(1);
        fails(runtime_frame_begin(odd), InvalidArgument, "aligned");
        fails(runtime_frame_end(odd), InvalidArgument, "aligned");
        fails(runtime_frame_join(odd, &frame), InvalidArgument, "aligned");
    }
    for garbage in [u64::MAX, 1, 0xdead_beef, 0x6d69_6466_6c69_6768] {
        let mut garbage = RuntimeFrame { reserved: [garbage; 4] };
        let before = garbage.reserved;
        fails(end(&mut garbage), WrongFrame, "not open");
        // SAFETY: both are places for frames.
        fails(unsafe { runtime_frame_join(&mut frame, &garbage) }, WrongFrame, "not open");
        assert_eq!(garbage.reserved, before);
    }
    ok(begin(&mut frame));
    let mut copy = frame;
    fails(end(&mut copy), WrongFrame, "not open");
    let mut other = RuntimeFrame::default();
    // SAFETY: both are places for frames.
    fails(unsafe { runtime_frame_join(&mut other, &copy) }, WrongFrame, "copy");
    ok(end(&mut frame));
    fails(end(&mut frame), WrongFrame, "not open");
    // SAFETY: both are places for frames.
    fails(unsafe { runtime_frame_join(&mut other, &frame) }, WrongFrame, "not open");
}

#[test]
fn frames_need_a_runtime_to_begin_and_none_to_end() {
    let session = start("frame-stopped");
    ok(reload(session.module("stopping", 1, &returns(1))));
    let mut frame = RuntimeFrame::default();
    let mut other = RuntimeFrame::default();
    ok(begin(&mut frame));
    ok(runtime_shutdown());
    fails(begin(&mut other), NotInitialized, "runtime_init()");
    // SAFETY: both are places for frames.
    fails(unsafe { runtime_frame_join(&mut other, &frame) }, NotInitialized, "runtime_init()");
    ok(end(&mut frame));
    fails(end(&mut frame), WrongFrame, "not open");
}
