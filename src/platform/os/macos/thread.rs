//! A thread's own words, in the thread-specific data that its thread register points at.
//!
//! macOS has no thread-local storage whose offset from the thread register is the same in every
//! thread and known when code is made. But the values of pthread keys are an array of words at
//! TPIDRRO_EL0, the key its index: `_os_tsd_get_base` and `_os_tsd_get_direct` of xnu's libsyscall/
//! os/tsd.h, `tsd` of libpthread's src/types_internal.h; and dyld's own thread-local variables are
//! found so (libdyld/threadLocalHelpers.s), as are Go's. The array is part of the thread's pthread
//! structure and zero when it begins. The low three bits of the register held the core's number in
//! older systems; dyld clears them, and so do we.
//!
//! So the runtime takes [`WORDS`] keys with successive numbers. That this is how it is on the
//! running system is tried before the first use. A thread that the runtime has never seen has null
//! in all of them: null for a table is the live table, in trampolines as here.
//!
//! At a thread's end libpthread takes each key's value away before it calls the key's destructor,
//! with or without one (src/pthread_tsd.c, `_pthread_tsd_cleanup_key`); and it does so up to four
//! times, also for keys of the host that come later, whose destructors may have frames open. So
//! each word has a destructor, that puts it back. Values that are there in the end are
//! forgotten with the thread.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use midflight_dispatch::ThreadBlock;

/// The table and the record ([`ThreadBlock`]), the blocks of thread-local variables, the number of
/// the thread in `host`.
const WORDS: usize = 4;
const BLOCKS: usize = 2;
const NOTED: usize = 3;

const _: () = assert!(size_of::<ThreadBlock>() == BLOCKS * size_of::<usize>());

/// The first word's distance from the thread register in bytes; 0 before the keys were made.
/// Relaxed: what it leads to is the calling thread's own, and was zero before any of these threads
/// began. Read by asm/aarch64/thread_local_macos.s as well: no module's code runs before the keys
/// were made, as even its constructors run with a table in the word.
pub(crate) static OFFSET: AtomicUsize = AtomicUsize::new(0);

/// The calling thread's array of values.
#[inline(always)]
fn base() -> usize {
    let base: usize;
    // SAFETY: reads the thread register, which is constant for a thread: `pure` and `nomem` hold.
    unsafe {
        std::arch::asm!("mrs {}, tpidrro_el0", out(reg) base, options(pure, nomem, nostack, preserves_flags));
    }
    base & !7
}

/// The calling thread's word of this number.
#[inline(always)]
fn word(number: usize) -> NonNull<Cell<*mut c_void>> {
    let mut offset = OFFSET.load(Ordering::Relaxed);
    if offset == 0 {
        offset = take_keys();
    }
    let at = ptr::with_exposed_provenance_mut(base() + offset + number * size_of::<usize>());
    // SAFETY: a thread has an array of values, and our keys are in it.
    unsafe { NonNull::new_unchecked(at) }
}

/// The calling thread's block: table and record. A table of null is the live table.
#[inline(always)]
pub(crate) fn block() -> NonNull<ThreadBlock> {
    word(0).cast()
}

/// The table word's distance from the thread register, for the trampolines' immediate. The same in
/// every thread. Beyond any trampoline's reach if the process has no keys left.
pub(crate) fn table_offset() -> i64 {
    offset().map_or(i64::MAX, |offset| offset as i64)
}

/// Gives the calling thread another table of blocks.
pub(super) fn set_blocks(table: *const AtomicUsize) {
    // SAFETY: the calling thread's own.
    unsafe { word(BLOCKS).as_ref() }.set(table.cast_mut().cast());
}

/// The number that `host` knows the calling thread by, 0 if it does not. It is there to the
/// thread's very end, which a Rust thread-local is not: dyld frees an image's thread-local
/// variables at the thread's end, between two destructors of keys, and makes them anew for who asks
/// later (libdyld/ThreadLocalVariables.cpp).
pub(crate) fn noted() -> u64 {
    // SAFETY: the calling thread's own.
    unsafe { word(NOTED).as_ref() }.get().addr() as u64
}

/// See [`noted`].
pub(crate) fn set_noted(number: u64) {
    // SAFETY: the calling thread's own.
    unsafe { word(NOTED).as_ref() }.set(ptr::without_provenance_mut(number as usize));
}

#[cold]
fn take_keys() -> usize {
    offset().expect("the process has used up its pthread keys, of which the runtime needs four in a row: start it earlier")
}

fn offset() -> Option<usize> {
    static FIRST: OnceLock<Option<usize>> = OnceLock::new();
    *FIRST.get_or_init(|| {
        let offset = adjacent_keys()? as usize * size_of::<usize>();
        OFFSET.store(offset, Ordering::Relaxed);
        Some(offset)
    })
}

/// Keys with successive numbers; the first. None if there are none, or if values are not where they
/// are read here.
fn adjacent_keys() -> Option<libc::pthread_key_t> {
    let destructors: [unsafe extern "C" fn(*mut c_void); WORDS] =
        [put_back::<0>, put_back::<1>, put_back::<2>, put_back::<3>];
    let (mut run, mut spare) = (Vec::new(), Vec::new());
    // libpthread gives the lowest number that is free, so this ends when all are taken.
    while run.len() < WORDS {
        let mut key = 0;
        // SAFETY: writes the key.
        if unsafe { libc::pthread_key_create(&mut key, Some(destructors[run.len()])) } != 0 {
            break;
        }
        if run.last().is_some_and(|last| last + 1 != key) {
            // Its destructor is for another place.
            spare.push(key);
            spare.append(&mut run);
        } else {
            run.push(key);
        }
    }
    let found = (run.len() == WORDS && run.iter().all(|key| is_read_here(*key))).then(|| run[0]);
    if found.is_none() {
        spare.append(&mut run);
    }
    for key in spare {
        // SAFETY: made above; no thread has a value.
        unsafe { libc::pthread_key_delete(key) };
    }
    found
}

/// Whether the calling thread's value of a key is the word that is read and written here.
fn is_read_here(key: libc::pthread_key_t) -> bool {
    const PROBE: *const c_void = ptr::without_provenance(0x5bd1_e995);
    let at: *const Cell<*mut c_void> =
        ptr::with_exposed_provenance(base() + key as usize * size_of::<usize>());
    // SAFETY: our key; the array has a word for each key that there is (src/types_internal.h of
    // libpthread).
    unsafe {
        let set = libc::pthread_setspecific(key, PROBE) == 0 && (*at).get().cast_const() == PROBE;
        (*at).set(ptr::null_mut());
        set && libc::pthread_getspecific(key).is_null()
    }
}

/// The thread exits, and libpthread has taken the word.
unsafe extern "C" fn put_back<const NUMBER: usize>(value: *mut c_void) {
    // SAFETY: the calling thread's own.
    unsafe { word(NUMBER).as_ref() }.set(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_each_threads_own_and_outlast_destructors() {
        set_noted(7);
        let elsewhere = std::thread::spawn(|| {
            assert_eq!(noted(), 0);
            set_noted(9);
            noted()
        });
        assert_eq!(elsewhere.join().unwrap(), 9);
        assert_eq!(noted(), 7);

        static SEEN: AtomicUsize = AtomicUsize::new(0);
        unsafe extern "C" fn last(_: *mut c_void) {
            SEEN.store(noted() as usize, Ordering::Relaxed);
        }
        std::thread::spawn(|| {
            set_noted(11);
            let mut key = 0;
            // SAFETY: a new key, made after the words' own: its destructor comes after theirs in
            // each round.
            unsafe {
                assert_eq!(libc::pthread_key_create(&mut key, Some(last)), 0);
                assert_eq!(libc::pthread_setspecific(key, ptr::without_provenance(1)), 0);
            }
        })
        .join()
        .unwrap();
        assert_eq!(SEEN.load(Ordering::Relaxed), 11);
    }
}
