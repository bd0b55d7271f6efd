//! A call to a function whose module is not loaded stops the process and names the function.

mod support;

use midflight::Runtime;
use support::{DONE, start, this_test};

midflight::module! {
    unsafe mod absent { safe fn compute(x: i32) -> i32; }
}

#[test]
fn an_unbound_call_names_the_function() {
    const CHILD: &str = "MIDFLIGHT_TEST_UNBOUND_CHILD";
    let rt = Runtime::start().unwrap();
    if std::env::var_os(CHILD).is_some() {
        absent::compute(&rt.frame(), 1);
        unreachable!("the call returned");
    }
    let output = this_test("an_unbound_call_names_the_function").env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("absent::compute was called") && text.contains("load it"), "{text}");
    assert!(!text.contains("the call returned"), "{text}");
}

/// Those that call a module outside of frames find what they were made for as long as they are
/// there, and nobody after them.
#[test]
fn a_slot_that_was_left_for_old_callers_is_unbound_with_them() {
    const TEST: &str = "a_slot_that_was_left_for_old_callers_is_unbound_with_them";
    const CHILD: &str = "MIDFLIGHT_TEST_LEFT_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let (rt, shop, _turn) = start("left");
        let called = shop.module("called", 1, "int called(void) { return 7; }");
        let calling = shop.module("calling", 1, "int called(void); int through(void) { return called(); }");
        // SAFETY: as they are called.
        unsafe { rt.load_all([&calling, &called]) }.unwrap();
        let [through, called] = [("calling", "through"), ("called", "called")].map(|(module, function)| {
            let address = rt.symbol(module, function).unwrap();
            // SAFETY: it is of that type.
            unsafe { std::mem::transmute::<_, extern "C" fn() -> i32>(address) }
        });
        assert_eq!((through(), called()), (7, 7));
        rt.unload_all(["calling", "called"]).unwrap();
        assert_eq!((rt.collect().unwrap().retained, called()), (2, 7));
        // SAFETY: nobody is in them.
        assert_eq!(unsafe { rt.collect_escaped() }.unwrap().freed, 2);
        println!("{DONE}");
        called();
        unreachable!("the call returned");
    }
    let output = this_test(TEST).env(CHILD, "1").output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && said.contains(DONE), "{said}{told}");
    assert!(told.contains("called::called was called"), "{told}");
}
