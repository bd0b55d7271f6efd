//! Modules that tell the tests what they do, and wait for them: of ends of threads and of the
//! process.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use midflight::{Collected, Runtime};

use super::Workshop;

/// What modules said.
pub(crate) static LOG: Mutex<Vec<u64>> = Mutex::new(Vec::new());

pub(crate) extern "C" fn say(n: u64) {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).push(n);
}

pub(crate) fn said() -> Vec<u64> {
    std::mem::take(&mut LOG.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Where modules wait: how many do, and how many may go on.
pub(crate) static GATE: (Mutex<(u32, u32)>, Condvar) = (Mutex::new((0, 0)), Condvar::new());

pub(crate) extern "C" fn wait() {
    let mut gate = GATE.0.lock().unwrap_or_else(PoisonError::into_inner);
    gate.0 += 1;
    GATE.1.notify_all();
    gate = GATE.1.wait_while(gate, |(_, open)| *open == 0).unwrap_or_else(PoisonError::into_inner);
    *gate = (gate.0 - 1, gate.1 - 1);
}

/// Until so many wait.
pub(crate) fn wait_for_waiting(count: u32) {
    let gate = GATE.0.lock().unwrap_or_else(PoisonError::into_inner);
    drop(GATE.1.wait_while(gate, |(waiting, _)| *waiting < count).unwrap_or_else(PoisonError::into_inner));
}

pub(crate) fn open_gate(count: u32) {
    GATE.0.lock().unwrap_or_else(PoisonError::into_inner).1 += count;
    GATE.1.notify_all();
}

/// C's own threads, and keys, where the C library has none: macOS's. They are a pthread, whose
/// result is a number, and a key.
pub(crate) const THREADS: &str = "
    typedef pthread_t thrd_t;
    typedef pthread_key_t tss_t;
    struct begun { int (*function)(void *); void *argument; };
    static inline void *begin_thread(void *memory) {
        struct begun begun = *(struct begun *)memory;
        free(memory);
        return (void *)(long)begun.function(begun.argument);
    }
    static inline int thrd_create(thrd_t *thread, int (*function)(void *), void *argument) {
        struct begun *begun = malloc(sizeof *begun);
        *begun = (struct begun){ function, argument };
        return pthread_create(thread, 0, begin_thread, begun);
    }
    static inline int thrd_join(thrd_t thread, int *result) {
        void *of;
        int error = pthread_join(thread, &of);
        *result = (int)(long)of;
        return error;
    }
    static inline int thrd_detach(thrd_t thread) { return pthread_detach(thread); }
    static inline int tss_create(tss_t *key, void (*end)(void *)) { return pthread_key_create(key, end); }
    static inline void tss_delete(tss_t key) { pthread_key_delete(key); }
    static inline int tss_set(tss_t key, void *value) { return pthread_setspecific(key, value); }
    static inline void *tss_get(tss_t key) { return pthread_getspecific(key); }
";

pub(crate) fn prelude() -> String {
    // macOS's own function for the end of a thread does not ask whose it is.
    let at_thread_exit = if super::is_macho() {
        "void _tlv_atexit(void (*)(void *), void *);
         #define __cxa_thread_atexit_impl(function, argument, owner) _tlv_atexit(function, argument)"
    } else {
        "int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);"
    };
    format!(
        "#include <errno.h>
         #include <pthread.h>
         #include <stdlib.h>
         #include <unistd.h>
         typedef unsigned long word;
         static void say(word n) {{ ((void (*)(word)){}ul)(n); }}
         static inline void wait_for_host(void) {{ ((void (*)(void)){}ul)(); }}
         extern void *__dso_handle;
         int __cxa_atexit(void (*)(void *), void *, void *);
         {at_thread_exit}
         ",
        say as *const () as usize, wait as *const () as usize
    )
}

pub(crate) fn load(rt: Runtime, path: impl AsRef<Path>) {
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load(path.as_ref()) }.unwrap();
}

pub(crate) fn module(shop: &Workshop, name: &str, version: u32, source: &str) -> PathBuf {
    // Apple's attributes are laid out otherwise than Linux's.
    let threads = match (super::is_macho(), super::is_bridged()) {
        (false, _) => "#include <threads.h>\n",
        (_, false) => THREADS,
        (_, true) => &format!("#define NO_ATTRIBUTES\n{THREADS}"),
    };
    shop.module(name, version, &(prelude() + threads + source))
}

pub(crate) fn module_of_cpp(shop: &Workshop, name: &str, source: &str) -> PathBuf {
    let prelude = prelude().replace("extern void *__dso_handle;", "extern \"C\" {");
    shop.cpp(name, 1, &("#include <thread>\n".to_owned() + &prelude + "}\n" + source), &[])
}

/// Unloads, which frees what it can. What is left is in the report.
pub(crate) fn unload(rt: Runtime, name: &str) -> Collected {
    rt.unload(name).unwrap();
    rt.collect().unwrap()
}

pub(crate) fn unload_wholly(rt: Runtime, name: &str) {
    let left = unload(rt, name);
    assert_eq!((left.held, left.busy), (0, 0));
}
