//! A static that outlives the versions of its module.

use std::ops::Deref;
use std::ptr;

use crate::Outlives;

/// A state, as [`state!`](crate::state!) declares it: used as the value itself.
///
/// The memory is the runtime's, at the same address in each version that lays it out alike. Threads
/// that are in an older version use it at the same time; so what changes is in atomics or in a lock,
/// as in any static.
#[repr(transparent)]
pub struct State<T: 'static> {
    /// When the module is linked, where its own first value is; the runtime puts its memory's
    /// address here when it loads the module.
    at: &'static T,
}

impl<T: Outlives + Sync> State<T> {
    #[doc(hidden)]
    pub const fn of(first: &'static T) -> Self {
        Self { at: first }
    }
}

impl<T: 'static> Deref for State<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // The compiler would take the first value's address, which it knows, for what is in here.
        // SAFETY: a reference that can be read.
        unsafe { ptr::read_volatile(&raw const self.at) }
    }
}

/// Declares a state: a static whose value and address outlive the versions of the module.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// midflight_module::state! {
///     /// How often it was called.
///     #[schema = 1]
///     pub static CALLS: AtomicU64 = AtomicU64::new(0);
/// }
///
/// CALLS.fetch_add(1, Ordering::Relaxed);
/// # }
/// ```
///
/// `schema` is a literal number below 2^32. Count it up when the layout or the meaning of what is
/// in there changes. The name is a symbol that the module exports: a module has one state of a
/// name. The type is `Sync` and [`Outlives`].
///
/// It is used as a `&'static` of the type; see [`State`]. States are for modules that
/// are shared libraries of Linux: link them without `-Bsymbolic`.
#[cfg(target_os = "linux")]
#[macro_export]
macro_rules! state {
    ($(
        $(#[doc = $doc:expr])*
        #[schema = $schema:literal]
        $visible:vis static $name:ident: $type:ty = $first:expr;
    )+) => {$(
        $(#[doc = $doc])*
        #[used]
        $visible static $name: $crate::State<$type> = {
            #[unsafe(no_mangle)]
            static $name: $type = $first;
            const _: u32 = $schema;
            mod note {
                // What MIDFLIGHT_STATE of runtime_module.h writes: an ELF note of type 4.
                ::core::arch::global_asm!(
                    ".pushsection .note.midflight,\"a\",%note",
                    ".balign 4",
                    ".long 772f - 771f, 774f - 773f, 4",
                    "771: .asciz \"midflight\"",
                    "772: .balign 4",
                    "773: .long {schema}, 0, 0",
                    concat!(".asciz \"", stringify!($name), "\""),
                    "774: .balign 4",
                    ".popsection",
                    schema = const $schema,
                );
            }
            $crate::State::of(&$name)
        };
    )+};
}
