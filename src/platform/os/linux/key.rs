//! Keys of pthread_key_create(3), whose numbers are given again.

use std::ffi::CStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::pthread_key_t;

use crate::platform::os::library::process_symbol;

/// What tells a key from the next one of its number: glibc counts how often each number was given
/// and taken back, beside the key's destructor (nptl/pthread_key_create.c). None: this C library
/// does not say.
#[derive(Clone, Copy)]
pub(crate) struct Made(Option<(&'static AtomicUsize, usize)>);

impl Made {
    /// The key that has this number now.
    pub(crate) fn now(key: pthread_key_t) -> Self {
        static COUNTS: OnceLock<Option<Counts>> = OnceLock::new();
        let count = COUNTS.get_or_init(Counts::find).as_ref().and_then(|counts| counts.of(key));
        Self(count.map(|count| (count, now(count))))
    }

    /// Whether the number is this key's still. If nobody knows, then it is.
    pub(crate) fn is_there(self) -> bool {
        self.0.is_none_or(|(count, then)| now(count) == then)
    }
}

/// Relaxed: nothing is read by it. A key that another thread deletes at this moment may be seen
/// either way.
fn now(count: &AtomicUsize) -> usize {
    count.load(Ordering::Relaxed)
}

/// Where glibc counts, as it tells debuggers (nptl_db/structs.def).
struct Counts {
    first: usize,
    /// Bytes from one to the next.
    stride: usize,
    keys: usize,
}

impl Counts {
    fn find() -> Option<Self> {
        /// A field's bits, how many of them there are, and where the first is, in bytes.
        fn described(name: &CStr) -> Option<[u32; 3]> {
            let address = symbol(name)?;
            // SAFETY: of these symbols there is the C library's own only, because of their version;
            // and it is such a description, which nobody writes to (nptl_db/db_info.c).
            Some(unsafe { *std::ptr::with_exposed_provenance::<[u32; 3]>(address) })
        }
        fn symbol(name: &CStr) -> Option<usize> {
            Some(process_symbol(name, Some(c"GLIBC_PRIVATE"))? as usize)
        }
        let [bits, keys, start] = described(c"_thread_db___pthread_keys")?;
        let [count_bits, counts, at] = described(c"_thread_db_pthread_key_struct_seq")?;
        let stride = bits as usize / 8;
        let first = symbol(c"__pthread_keys")? + start as usize + at as usize;
        let is_as_read = (count_bits, counts) == (usize::BITS, 1)
            && first.is_multiple_of(align_of::<usize>())
            && stride.is_multiple_of(align_of::<usize>())
            && at as usize + size_of::<usize>() <= stride;
        is_as_read.then_some(Self { first, stride, keys: keys as usize })
    }

    fn of(&self, key: pthread_key_t) -> Option<&'static AtomicUsize> {
        let key = Some(key as usize).filter(|key| *key < self.keys)?;
        let count = std::ptr::with_exposed_provenance::<AtomicUsize>(self.first + key * self.stride);
        // SAFETY: aligned and within the C library's array, as it describes that itself. It is
        // there as long as the process, and is changed by atomic instructions only.
        Some(unsafe { &*count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make() -> pthread_key_t {
        let mut key = 0;
        // SAFETY: writes the key.
        assert_eq!(unsafe { libc::pthread_key_create(&mut key, None) }, 0);
        key
    }

    fn delete(key: pthread_key_t) {
        // SAFETY: a key of this test's.
        assert_eq!(unsafe { libc::pthread_key_delete(key) }, 0);
    }

    #[test]
    fn a_key_is_told_from_the_next_of_its_number() {
        let key = make();
        let made = Made::now(key);
        assert!(made.0.is_some(), "glibc says so");
        assert!(made.is_there());
        delete(key);
        assert!(!made.is_there());
        // Other tests take keys meanwhile; this many include the number.
        let others: Vec<_> = std::iter::repeat_with(make).take(16).collect();
        assert!(!made.is_there());
        assert!(others.iter().all(|key| Made::now(*key).is_there()));
        others.into_iter().for_each(delete);
        assert!(Made::now(pthread_key_t::MAX).is_there(), "what is no key's number is never looked at");
    }
}
