//! Frames that the host opens or drops while a module's constructor calls it.

mod support;

use std::cell::RefCell;
use std::path::Path;

use midflight::{Frame, Runtime};
use support::start;

midflight::module! {
    unsafe mod held { safe fn number() -> i32; }
}

thread_local! {
    static HELD: RefCell<Option<Frame>> = const { RefCell::new(None) };
}

/// Opens a frame that stays open, or drops the one that is.
extern "C" fn hook() {
    let next = |held: &mut Option<Frame>| match held.take() {
        None => Some(Runtime::start().unwrap().frame()),
        Some(_) => None,
    };
    HELD.with_borrow_mut(|held| *held = next(held));
}

#[test]
fn frames_may_begin_and_end_in_a_constructor() {
    let (rt, shop, _turn) = start("constructor_frames");
    // SAFETY: the modules have the functions as declared.
    let load = |path: &Path| unsafe { rt.load(path) }.unwrap();
    let number = [1, 2].map(|n| shop.module("held", n, &format!("int number(void) {{ return {n}; }}")));
    let call_hook = format!(
        "__attribute__((constructor)) static void begin(void) {{ ((void (*)(void)){:#x})(); }}",
        hook as extern "C" fn() as usize
    );
    let hooked = shop.module("hooked", 1, &call_hook);
    load(&number[0]);
    let address = rt.symbol("held", "number").unwrap();
    // SAFETY: the function is of this type.
    let by_address: extern "C" fn() -> i32 = unsafe { std::mem::transmute(address) };
    let reload = || {
        for path in number.iter().chain(&number) {
            load(path);
            // SAFETY: no other thread; this one is outside frames' calls.
            unsafe { rt.collect_escaped() }.unwrap();
        }
    };

    load(&hooked);
    load(&number[1]);
    HELD.with_borrow(|frame| assert_eq!(held::number(frame.as_ref().expect("the hook opened it")), 1));
    assert_eq!(by_address(), 1, "within a frame that a constructor's host opened");
    HELD.take();
    reload();
    assert_eq!(by_address(), 2, "and when it is over");

    HELD.set(Some(rt.frame()));
    load(&hooked);
    HELD.with_borrow(|frame| assert!(frame.is_none(), "the hook dropped it"));
    load(&number[0]);
    reload();
    load(&number[0]);
    assert_eq!(by_address(), 1, "after a frame that ended in a constructor");
}
