//! What there is at an address, as C is told.

mod support;

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;

use midflight::ErrorKind;
use midflight_c::hot_reload::*;
use support::*;

const SIZE: u32 = size_of::<HotReloadAddress>() as u32;

/// What is told to a host whose header has so many bytes of the structure.
fn describe(address: *const c_void, size: u32) -> (i32, HotReloadAddress) {
    // SAFETY: zeroes are a value.
    let mut found: HotReloadAddress = unsafe { MaybeUninit::zeroed().assume_init() };
    found.struct_size = size;
    // SAFETY: a place for it, that says how large it is.
    let code = unsafe { hot_reload_describe_address(address, &mut found) };
    assert_eq!(found.struct_size, size);
    (code, found)
}

#[test]
fn an_address_is_described() {
    let session = start("describe");
    let path = session.module(
        "answer",
        1,
        "int value(void) { return 1; } const void *where(void) { return (void *)value; }",
    );
    ok(reload(&path));
    let (code, trampoline) = look_up(c"answer", c"value");
    ok(code);
    let (code, found) = describe(trampoline, SIZE);
    assert_eq!((code, found.standing, found.version), (0, 5, 0));
    assert_eq!((text(found.module.as_ptr()), text(found.symbol.as_ptr())), ("answer".into(), "value".into()));
    assert_eq!((text(found.path.as_ptr()), found.is_code.get()), (String::new(), true));

    let (code, function) = look_up(c"answer", c"where");
    ok(code);
    let mut frame = Default::default();
    // SAFETY: it returns an address, and is called in a frame.
    let value = unsafe {
        ok(midflight_c::runtime_core::runtime_frame_begin(&mut frame));
        let value = std::mem::transmute::<*mut c_void, extern "C" fn() -> *const c_void>(function)();
        ok(midflight_c::runtime_core::runtime_frame_end(&mut frame));
        value
    };
    let (code, found) = describe(value.wrapping_byte_add(1), SIZE);
    assert_eq!((code, found.standing, found.version, found.offset), (0, 2, 1, 1));
    assert_eq!(text(found.symbol.as_ptr()), "value");
    assert_eq!(text(found.path.as_ptr()), path.to_str().unwrap());
    // What `nm` says.
    assert_ne!(found.file_address, 0);

    // A host of earlier headers.
    let (code, earlier) = describe(value, 16);
    assert_eq!((code, earlier.standing, earlier.version, earlier.file_address), (0, 2, 1, 0));

    let before = last();
    for nothing in [ptr::null(), (&raw const before).cast(), libc::free as *const c_void] {
        let (code, found) = describe(nothing, SIZE);
        assert_eq!((code, found.standing, found.module[0]), (ErrorKind::NotLoaded as i32, 0, 0));
    }
    // SAFETY: no place at all.
    let code = unsafe { hot_reload_describe_address(value, ptr::null_mut()) };
    assert_eq!(code, ErrorKind::InvalidArgument as i32);
    assert_eq!(last(), before);
}
