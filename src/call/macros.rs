//! The declaration of a module's functions.

/// Declares functions of a module, to be called like ordinary functions with a
/// [`Frame`](crate::Frame) before their own arguments.
///
/// ```
/// midflight::module! {
///     /// How agents move.
///     pub unsafe mod movement {
///         /// Advances `x` by `dt` seconds.
///         pub safe fn step(x: &mut f32, dt: f32);
///
///         /// Advances `n` of them.
///         ///
///         /// # Safety
///         ///
///         /// `first` points to `n` numbers that nobody else uses meanwhile.
///         pub unsafe fn step_all(first: *mut f32, n: usize, dt: f32);
///     }
/// }
/// # fn main() {}
/// ```
///
/// The Rust module's name is the loaded module's, and each function's name the exported symbol.
/// They are called with the C ABI (`extern "C-unwind"`). Types are those in scope where the macro
/// stands. Loading a file that lacks one of them fails with
/// [`Error::MissingFunctions`](crate::Error::MissingFunctions).
///
/// # Who vouches for what
///
/// It is as with Rust's own `unsafe extern` blocks.
///
/// - Whoever calls [`Runtime::load`](crate::Runtime::load), which is unsafe, vouches for the file:
///   that its code is sound, and that its functions have the declared types.
/// - A function is unsafe to call, unless its declaration says `safe fn`. The caller vouches for
///   what its code asks of its arguments and of the moment. `fn` alone is `unsafe fn`.
/// - Whoever writes `safe fn` vouches that no arguments of these types, on any thread and at any
///   time, are wrong: so not for a function that follows a raw pointer, or that works on a variable
///   of the module without a lock. That is a promise which the compiler cannot check, so the module
///   says `unsafe mod`: whoever looks for `unsafe` in a program finds it.
///
/// ```compile_fail,E0133
/// midflight::module! {
///     mod table { fn get(place: *const i32) -> i32; }
/// }
/// fn first(runtime: &midflight::Runtime) -> i32 {
///     table::get(&runtime.frame(), 16 as *const i32) // error: call to unsafe function
/// }
/// # fn main() {}
/// ```
///
/// ```compile_fail
/// midflight::module! {
///     mod clock { safe fn now() -> u64; } // error: write `unsafe mod clock`
/// }
/// # fn main() {}
/// ```
///
/// # What may cross
///
/// A module and its host are compiled apart, perhaps by different compilers and in different
/// languages. What has the same form for both may cross: numbers, raw pointers, references to such,
/// `#[repr(C)]` structures of such, `extern "C"` functions. Rust's lint `improper_ctypes` looks at
/// each declaration, as it does in `extern` blocks, and warns of what has not: `String`, `Vec`,
/// slices, `dyn`, tuples, structures without `repr(C)`. A reference to an opaque structure of the
/// host's is fine: declare the structure `#[repr(C)]`, or say `#[allow(improper_ctypes)]` at the
/// function.
///
/// ```compile_fail
/// #![deny(improper_ctypes)]
/// midflight::module! {
///     unsafe mod shapes { safe fn area(shape: &dyn std::any::Any) -> f64; } // error: not FFI-safe
/// }
/// # fn main() {}
/// ```
///
/// What belongs to a version goes with it: its functions, literals and variables, and so the vtable
/// of a `dyn` that it made. Such an address is good until the frame ends. A function that returns a
/// reference into its module says so by the lifetime `'frame`, and the compiler sees that it is not
/// kept for longer. One that returns what it was given names that lifetime.
///
/// ```
/// # use std::ffi::c_char;
/// # #[repr(C)] pub struct World { first: u32 }
/// midflight::module! {
///     unsafe mod agents {
///         safe fn title() -> &'frame c_char;
///         safe fn first<'w>(world: &'w World) -> &'w u32;
///     }
/// }
/// # fn main() {}
/// ```
///
/// ```compile_fail,E0716
/// # use std::ffi::c_char;
/// # midflight::module! { unsafe mod agents { safe fn title() -> &'frame c_char; } }
/// fn keep(runtime: &midflight::Runtime) {
///     let title = agents::title(&runtime.frame()); // error: the frame is gone while borrowed
///     println!("{title}");
/// }
/// # fn main() {}
/// ```
///
/// `'static` is refused where a module could hand out with it what is not: in results, and behind
/// `mut`. If it really is the host's, or of a module that is [retained](crate::Runtime::retain), an
/// alias (`type Name = &'static c_char;`) says that you know.
///
/// ```compile_fail,E0080
/// midflight::module! {
///     mod agents { fn name() -> &'static std::ffi::c_char; } // error: write 'frame
/// }
/// # fn main() {}
/// ```
///
/// No compiler sees it with function pointers, raw pointers, and whatever has no lifetime in its
/// type (a `Box` with a destructor of the module's): who calls
/// [`Runtime::load`](crate::Runtime::load) vouches that these are not kept.
///
/// # Panics and exceptions
///
/// Exceptions pass through the calling Rust frames, running their destructors, to whoever catches
/// them further up in the same language; a program that is built with panic=abort ends instead. A
/// panic of a Rust module is a foreign exception for a host that has a standard library of its own,
/// as usual: `catch_unwind` in the host ends the process ("Rust cannot catch foreign exceptions").
/// So catch it in the module, and return a code. docs/rust-modules.md says when it can be caught.
///
/// # Guarded functions
///
/// A function that is declared `guarded` returns a `Result`. If the module's code fails, by a fault
/// of an instruction, an exception, a panic, abort() or exit(), the call ends by a
/// [`Failure`](crate::Failure), and the process goes on. What the code had begun stays as it was
/// then, and arguments that were given away are not dropped: docs/containment.md has more.
///
/// ```
/// midflight::module! {
///     unsafe mod movement { safe guarded fn step(x: &mut f32, dt: f32) -> f32; }
/// }
/// fn step(frame: &midflight::Frame, x: &mut f32) -> Result<f32, midflight::Failure> {
///     movement::step(frame, x, 0.1)
/// }
/// # fn main() {}
/// ```
///
/// # Aborts
///
/// A call when no version of the module is loaded prints the function's name and aborts the
/// process.
#[macro_export]
macro_rules! module {
    () => {};
    (
        $(#[$attribute:meta])*
        $visibility:vis mod $module:ident { $($functions:tt)* }
        $($more:tt)*
    ) => {
        $(#[$attribute])*
        $visibility mod $module {
            #[allow(unused_imports)]
            use super::*;
            $crate::__functions! { [] $module { $($functions)* } }
        }
        $crate::module! { $($more)* }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis unsafe mod $module:ident { $($functions:tt)* }
        $($more:tt)*
    ) => {
        $(#[$attribute])*
        $visibility mod $module {
            #[allow(unused_imports)]
            use super::*;
            $crate::__functions! { [unsafe] $module { $($functions)* } }
        }
        $crate::module! { $($more)* }
    };
}

/// The functions of one module, whose declaration begins with the first tokens: `[unsafe]` or `[]`.
#[doc(hidden)]
#[macro_export]
macro_rules! __functions {
    ($vouched:tt $module:ident { $(
        $(#[$attribute:meta])*
        // The second of each pair is empty. It is there to be named.
        $visibility:vis $(safe $safe:vis)? $(unsafe $unsafe:vis)? $(guarded $guarded:vis)? fn $function:ident
            $(<$($lifetime:lifetime),+ $(,)?>)?
            ($($argument:ident : $type:ty),* $(,)?) $(-> $return:ty)?;
    )* }) => {$(
        $crate::__function! {
            $vouched [$(safe $safe)?] [$($unsafe unsafe)?]
            [$(#[$attribute])*] [$(guarded $guarded)?] $module $function [$($(, $lifetime)+)?] ($($argument: $type),*) [$($return)?]
        }
    )*};
}

/// One function: who vouches for calls of it decides whether it is unsafe.
#[doc(hidden)]
#[macro_export]
macro_rules! __function {
    ([unsafe] [safe $empty:vis] [] $($function:tt)*) => {
        $crate::__define! { [] $($function)* }
    };
    ($vouched:tt [] $unsafe:tt $($function:tt)*) => {
        $crate::__define! { [unsafe] $($function)* }
    };
    ([] [safe $empty:vis] [] $attributes:tt $guarded:tt $module:ident $function:ident $($more:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "whoever declares `safe fn ", ::core::stringify!($function), "` vouches that no call of it is wrong: ",
            "write `unsafe mod ", ::core::stringify!($module), "`, or `unsafe fn`"
        ));
    };
    ($vouched:tt $safe:tt $unsafe:tt $attributes:tt $guarded:tt $module:ident $function:ident $($more:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "`", ::core::stringify!($function), "` cannot be both safe and unsafe"
        ));
    };
}

/// The function that the program calls.
#[doc(hidden)]
#[macro_export]
macro_rules! __define {
    (
        [$($unsafe:tt)?] [$($attributes:tt)*] $guarded:tt $module:ident $function:ident [$($lifetimes:tt)*]
        ($($argument:ident : $type:ty),*) [$($return:ty)?]
    ) => {
        $($attributes)*
        #[inline(always)]
        #[allow(clippy::too_many_arguments)]
        pub $($unsafe)? fn $function<'frame $($lifetimes)*>(
            frame: &'frame $crate::Frame,
            $($argument: $type),*
        ) -> $crate::__result!($guarded ($($return)?)) {
            static SLOT: $crate::Slot =
                $crate::Slot::new(
                    ::core::stringify!($module),
                    ::core::stringify!($function),
                    ::core::cfg!(debug_assertions),
                );
            #[$crate::private::linkme::distributed_slice($crate::private::DECLARED)]
            #[linkme(crate = $crate::private::linkme)]
            static DECLARATION: &$crate::Slot = &SLOT;
            // Never called, so nothing is linked: the compiler looks at its types
            // (`improper_ctypes`).
            unsafe extern "C-unwind" {
                #[allow(dead_code, clashing_extern_declarations)]
                fn $function<'frame $($lifetimes)*>($($argument: $type),*) $(-> $return)?;
            }
            const _: () = {
                $(::core::assert!(
                    !$crate::private::is_static(::core::stringify!($return)),
                    ::core::concat!(
                        "`", ::core::stringify!($function), "` returns a 'static: what is in a module goes with ",
                        "its version. Write 'frame, or the lifetime of an argument"
                    )
                );)?
                $(::core::assert!(
                    !$crate::private::gives_static(::core::stringify!($type)),
                    ::core::concat!(
                        "`", ::core::stringify!($function), "` can write a 'static to `", ::core::stringify!($argument),
                        "`: what is in a module goes with its version. Write 'frame, or another lifetime"
                    )
                );)*
            };
            // SAFETY: it is declared just above. Whoever loaded the module vouched for this type in
            // `Runtime::load`'s contract; an unbound slot holds a function that never returns. For
            // this call vouches who makes it, or who declared it safe.
            unsafe {
                let target = frame.target(&DECLARATION);
                let function: unsafe extern "C-unwind" fn($($type),*) $(-> $return)? =
                    ::core::mem::transmute::<*const (), _>(target);
                $crate::__call!($guarded target, function($($argument),*))
            }
        }
    };
}

/// What a function returns here.
#[doc(hidden)]
#[macro_export]
macro_rules! __result {
    ([] ()) => { () };
    ([] ($return:ty)) => { $return };
    ([guarded $empty:vis] ()) => { ::core::result::Result<(), $crate::Failure> };
    ([guarded $empty:vis] ($return:ty)) => { ::core::result::Result<$return, $crate::Failure> };
}

/// The call itself.
#[doc(hidden)]
#[macro_export]
macro_rules! __call {
    ([] $target:ident, $($call:tt)*) => { $($call)* };
    // The function alone is in the closure.
    ([guarded $empty:vis] $target:ident, $($call:tt)*) => { $crate::private::guarded($target, move || $($call)*) };
}

/// Whether a type, as it is written, has `'static` in it.
#[doc(hidden)]
pub const fn is_static(written: &str) -> bool {
    find(written.as_bytes(), b"'static", 0).is_some()
}

/// Whether something static can be written through a value of a type: `'static` behind `mut`.
#[doc(hidden)]
pub const fn gives_static(written: &str) -> bool {
    match find(written.as_bytes(), b"mut ", 0) {
        Some(at) => find(written.as_bytes(), b"'static", at).is_some(),
        None => false,
    }
}

/// Where a word begins at or behind a place, if nothing that it could be the middle of comes before
/// or behind it.
const fn find(text: &[u8], word: &[u8], from: usize) -> Option<usize> {
    const fn is_name(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || byte == b'_'
    }
    let mut at = from;
    while at + word.len() <= text.len() {
        let mut same = 0;
        while same < word.len() && text[at + same] == word[same] {
            same += 1;
        }
        let end = at + same;
        let begins = at == 0 || !is_name(text[at - 1]);
        let ends = !is_name(word[word.len() - 1]) || end == text.len() || !is_name(text[end]);
        if same == word.len() && begins && ends {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{gives_static, is_static};

    #[test]
    fn static_is_seen_as_a_word_and_behind_mut_only_where_it_can_be_written() {
        for (text, returned, given) in [
            ("&'static str", true, false),
            ("Option<&'static Agent>", true, false),
            ("&mut &'static str", true, true),
            ("*mut &'static str", true, true),
            ("&'static mut f32", true, false),
            ("&'statics str", false, false),
            ("Permut <&'static str>", true, false),
            ("&'frame str", false, false),
            ("", false, false),
        ] {
            assert_eq!((is_static(text), gives_static(text)), (returned, given), "{text}");
        }
    }
}
