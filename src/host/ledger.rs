//! What is noted of versions and threads, behind one lock. No code of a module runs, and nothing of
//! the C library but its allocator is called, while it is held.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::blocks::Template;
use super::fork_handlers;
use super::keys::Keys;
#[cfg(target_os = "linux")]
use super::notifications::Notification;
use super::places::Id;
use super::process_exits::QuickExit;
use super::tenant::Evicted;
use super::thread::{Thread, ThreadId};
use crate::call::home::{Home, at_home};
use crate::call::live::{self, OwnTable};
use crate::call::pause;
use crate::platform::os::guard::Closed;

pub(super) struct Ledger {
    versions: BTreeMap<Id, Account>,
    free: BTreeSet<Id>,
    pub(super) threads: BTreeMap<ThreadId, Thread>,
    /// How many threads there were.
    count: u64,
    pub(super) keys: Keys,
    pub(super) quick_exits: Vec<QuickExit>,
    /// Their handlers of fork.
    pub(super) fork_handlers: fork_handlers::List,
    /// What modules have asked the C library to run on threads of its own, by number, and how many
    /// there were.
    #[cfg(target_os = "linux")]
    pub(super) notifications: BTreeMap<usize, Notification>,
    #[cfg(target_os = "linux")]
    pub(super) noted: usize,
    /// Versions whose first thread is new.
    pub(super) new_with_threads: Vec<Id>,
    /// The C library has been asked to run them.
    pub(super) runs_quick_exits: bool,
    /// Homes at which code runs.
    pub(super) homes_in_use: Vec<Home>,
}

/// What is noted of a version.
#[derive(Default)]
pub(super) struct Account {
    /// Where it is.
    pub(super) base: usize,
    /// The initial contents of its thread-local variables.
    pub(super) template: Option<Template>,
    /// Threads that its code started and that are not over.
    pub(super) threads: usize,
    /// Other threads that are running one of its exit functions now.
    pub(super) leaving: usize,
    /// Its exit functions of the process that have not returned.
    pub(super) exits: usize,
    /// It has registered anything for the C library to call.
    pub(super) registers: bool,
    /// Where it belongs while it is not current.
    pub(super) home: Option<Home>,
    /// How often it has become current, or another than it was.
    pub(super) moves: u64,
    /// What its own threads call through, once there was one.
    pub(super) table: Option<Arc<OwnTable>>,
    /// Its calls are had to wait.
    pub(super) waits: bool,
    /// It is being retired: what was taken out of the threads, to be run.
    pub(super) evicted: Option<Vec<Evicted>>,
}

impl Account {
    /// What the C library is to know its functions by.
    pub(super) fn handle(&self) -> *const c_void {
        ptr::without_provenance(self.base)
    }
}

static LEDGER: Mutex<Ledger> = Mutex::new(Ledger {
    versions: BTreeMap::new(),
    free: BTreeSet::new(),
    threads: BTreeMap::new(),
    count: 0,
    keys: Keys::NONE,
    quick_exits: Vec::new(),
    fork_handlers: fork_handlers::NONE,
    #[cfg(target_os = "linux")]
    notifications: BTreeMap::new(),
    #[cfg(target_os = "linux")]
    noted: 0,
    new_with_threads: Vec::new(),
    runs_quick_exits: false,
    homes_in_use: Vec::new(),
});

pub(super) fn ledger() -> MutexGuard<'static, Ledger> {
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes in the ledger that code of a version begins to run that nobody has called: an exit
/// function, a handler of fork, a thread of the C library's. `which` says of which version; then
/// `begin` notes it. None if it is none's. While the version's calls are had to wait, this waits.
///
/// The thread that pauses looks at what is noted, under the same lock, after it has the version
/// wait: so it sees this, or this waits.
pub(super) fn begin<R>(
    which: impl Fn(&Ledger) -> Option<Id>,
    begin: impl FnOnce(&mut Ledger, Id) -> R,
) -> Option<R> {
    loop {
        let mut ledger = ledger();
        let version = which(&ledger)?;
        if !(ledger.version(version).waits && pause::is_under_way()) {
            return Some(begin(&mut ledger, version));
        }
        drop(ledger);
        pause::wait_until_over();
    }
}

impl Ledger {
    /// Gives a version the lowest id.
    pub(super) fn admit(&mut self, account: Account) -> Id {
        let id = self.free.pop_first().unwrap_or(Id(self.versions.len() as u32));
        self.versions.insert(id, account);
        id
    }

    /// Strikes a version out. Its id will be given again.
    pub(super) fn dismiss(&mut self, id: Id) {
        self.versions.remove(&id);
        self.free.insert(id);
    }

    /// An id is named by code of its version, which is running, or by the version's tenant. So the
    /// version is there, and has an account.
    pub(super) fn version(&mut self, id: Id) -> &mut Account {
        self.versions.get_mut(&id).expect("the version is there")
    }

    /// The version's home, for code of it that is about to run. None: it is current.
    fn use_home(&mut self, id: Id) -> Option<InUse> {
        let home = self.version(id).home.clone()?;
        self.homes_in_use.push(home.clone());
        Some(InUse(home))
    }

    /// A new thread.
    pub(super) fn enter(&mut self) -> ThreadId {
        self.count += 1;
        let id = ThreadId(self.count);
        self.threads.insert(id, Thread::default());
        id
    }

    /// A thread takes itself off the list when it ends, and not before.
    pub(super) fn thread(&mut self, id: ThreadId) -> &mut Thread {
        self.threads.get_mut(&id).expect("the thread is there")
    }

    /// Notes that a version has one more thread, which begins soon.
    pub(super) fn add_thread(&mut self, id: Id) {
        let account = self.version(id);
        account.threads += 1;
        if account.table.is_none() {
            account.table = Some(OwnTable::new(account.home.as_ref()));
            self.new_with_threads.push(id);
        }
    }

    /// Marks that a thread begins or ends running an exit function of a version. Threads that the
    /// version started are counted already.
    pub(super) fn mark(&mut self, thread: ThreadId, version: Id, begins: bool) {
        if self.thread(thread).started_by != Some(version) {
            let leaving = &mut self.version(version).leaving;
            *leaving = if begins { *leaving + 1 } else { *leaving - 1 };
        }
    }
}

/// Something of a module's, which is only handed back to it.
#[derive(Clone, Copy)]
pub(super) struct Opaque(pub(super) *mut c_void);

// SAFETY: nothing is done with it here. A module that leaves it to be used at a thread's or the
// process's end cannot count on the thread that it left it on: destructors of thread-local
// variables run on the retiring thread (see `Tenant`).
unsafe impl Send for Opaque {}

/// A module's function, with its argument.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) function: unsafe extern "C" fn(*mut c_void),
    pub(super) argument: Opaque,
}

impl Call {
    /// # Safety
    ///
    /// The module asked for this call, and is there.
    pub(super) unsafe fn run(self) {
        // SAFETY: the caller promises that the module asked for this call and is there.
        unsafe { (self.function)(self.argument.0) };
    }
}

/// Runs code of a version at its home. The version is marked, so that it stays.
pub(super) fn run_at_home(version: Id, run: impl FnOnce()) {
    let ask = || {
        let mut ledger = ledger();
        (ledger.version(version).moves, ledger.use_home(version))
    };
    // What is under way must not be left: it has locks of the C library's, and a place to go back
    // to.
    let _closed = Closed::new();
    at_home(ask, run);
}

/// A home at which code of a version runs. It is kept as it is, should the version become current
/// meanwhile and have none.
pub(super) struct InUse(Home);

impl Deref for InUse {
    type Target = Home;
    fn deref(&self) -> &Home {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let homes = &mut ledger().homes_in_use;
        let at =
            homes.iter().position(|home| home.is(self)).expect("it is on the list as long as it is in use");
        homes.swap_remove(at);
    }
}

/// Has each fork wait for two locks: the ledger's, and that of the tables that follow publications.
/// In the child no other thread goes on, so a lock that one of them held would never be free, and
/// what it was changing would stay half-changed.
pub(super) fn watch_forks() {
    thread_local! {
        /// No destructor, so it is there to the thread's very end.
        static HELD: Cell<Option<ManuallyDrop<Held>>> = const { Cell::new(None) };
    }
    type Held = (live::Lock, MutexGuard<'static, Ledger>);
    extern "C" fn before() {
        let ledger = ledger();
        HELD.set(Some(ManuallyDrop::new((live::lock(), ledger))));
    }
    extern "C" fn after() {
        drop(HELD.take().map(ManuallyDrop::into_inner));
    }
    // SAFETY: the handlers take and free a lock, and stay for the life of the process. They were
    // there before any module's: so the lock is taken after those have run, and freed before.
    unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after)) };
}
