//! The declaration of a module's functions.

/// Declares functions of a module, to be called like ordinary functions with a [`Frame`](crate::Frame) before their own arguments.
///
/// ```
/// midflight::module! {
///     /// How agents move.
///     pub mod movement {
///         /// Advances `x` by `dt` seconds.
///         pub fn step(x: &mut f32, dt: f32);
///     }
/// }
/// # fn main() {}
/// ```
///
/// The Rust module's name is the loaded module's, and each function's name the exported symbol. They are called with the
/// C ABI (`extern "C-unwind"`: exceptions pass through the calling Rust frames, running their destructors, to whoever
/// catches them further up; a program that is built with panic=abort ends instead). Types are those in scope where the macro stands. Loading a file that lacks one of them fails
/// with [`Error::MissingFunctions`](crate::Error::MissingFunctions). A function that returns a reference names its
/// lifetime: `fn first<'w>(world: &'w World) -> &'w Agent`.
///
/// That the file's functions really have the declared types is what the caller of
/// [`Runtime::load`](crate::Runtime::load), which is unsafe, vouches for; with that, calling them is safe.
///
/// # Aborts
///
/// A call when no version of the module is loaded prints the function's name and aborts the process.
#[macro_export]
macro_rules! module {
    ($(
        $(#[$module_attribute:meta])*
        $module_visibility:vis mod $module:ident {
            $(
                $(#[$attribute:meta])*
                $visibility:vis fn $function:ident $(<$($lifetime:lifetime),+>)? ($($argument:ident : $type:ty),* $(,)?) $(-> $return:ty)?;
            )*
        }
    )*) => {$(
        $(#[$module_attribute])*
        $module_visibility mod $module {
            #[allow(unused_imports)]
            use super::*;
            $(
                $(#[$attribute])*
                #[inline(always)]
                #[allow(clippy::too_many_arguments)]
                pub fn $function $(<$($lifetime),+>)? (frame: &$crate::Frame, $($argument: $type),*) $(-> $return)? {
                    static SLOT: $crate::Slot =
                        $crate::Slot::new(::core::stringify!($module), ::core::stringify!($function));
                    #[$crate::private::linkme::distributed_slice($crate::private::DECLARED)]
                    #[linkme(crate = $crate::private::linkme)]
                    static DECLARATION: &$crate::Slot = &SLOT;
                    // SAFETY: it is declared just above. Whoever loaded the module vouched for this type in `Runtime::load`'s
                    // contract; an unbound slot holds a function that never returns.
                    let function: extern "C-unwind" fn($($type),*) $(-> $return)? =
                        unsafe { ::core::mem::transmute::<*const (), _>(frame.target(&DECLARATION)) };
                    function($($argument),*)
                }
            )*
        }
    )*};
}
