//! What `module!` makes of a declaration: functions that are safe or not, generic in lifetimes, and
//! tied to the frame.

mod support;

use std::ffi::{CStr, c_char};

use support::start;

/// Two numbers.
#[repr(C)]
pub struct Pair {
    first: i32,
    second: i32,
}

midflight::module! {
    unsafe mod declared {
        safe fn sum(pair: &Pair) -> i32;
        /// # Safety
        ///
        /// `place` points to a number.
        pub unsafe fn read(place: *const i32) -> i32;
        fn read_again(place: *const i32) -> i32;
        pub(crate) safe fn second<'p>(pair: &'p mut Pair) -> &'p mut i32;
        safe fn title() -> &'frame c_char;
        #[cfg(any())]
        safe fn no_version_has_this();
    }
    /// Declared a second time, by somebody who vouches for nothing.
    mod r#declared_again {}
    /// One that others may see.
    pub mod again {
        /// # Safety
        ///
        /// Nothing is asked of its arguments.
        fn sum(first: i32, second: i32) -> i32;
    }
}

/// A program that forbids unsafe code may call what is declared safe.
fn title(frame: &midflight::Frame) -> &c_char {
    #![forbid(unsafe_code)]
    declared::title(frame)
}

#[test]
fn functions_are_as_they_are_declared() {
    let (rt, shop, _turn) = start("declarations");
    let source = "
        struct pair { int first, second; };
        int sum(const struct pair *pair) { return pair->first + pair->second; }
        int read(const int *place) { return *place; }
        int read_again(const int *place) { return *place; }
        int *second(struct pair *pair) { return &pair->second; }
        const char *title(void) { return \"a title\"; }
    ";
    let again = "int sum(int first, int second) { return first + second; }";
    let paths = [shop.module("declared", 1, source), shop.module("again", 1, again)];
    // SAFETY: the functions are as declared above.
    unsafe { rt.load_all(&paths) }.unwrap();
    let frame = rt.frame();
    let mut pair = Pair { first: 1, second: 2 };
    *declared::second(&frame, &mut pair) += 10;
    assert_eq!(declared::sum(&frame, &pair), 13);
    // SAFETY: a number of ours, for both, and two numbers of our own.
    let read = unsafe {
        [
            declared::read(&frame, &pair.second),
            declared::read_again(&frame, &pair.first),
            again::sum(&frame, 3, 4),
        ]
    };
    assert_eq!(read, [12, 1, 7]);
    // SAFETY: it ends in 0, and the frame is there.
    assert_eq!(unsafe { CStr::from_ptr(title(&frame)) }, c"a title");
}
