//! A version as the host sees it, from its linking to its end.

use std::collections::BTreeMap;
use std::ptr;

use libc::pthread_key_t;
use midflight_image::{Host, ThreadLocals};

use super::blocks::{Block, Template};
use super::ledger::{Account, Call, Ledger, Opaque, ledger};
#[cfg(target_os = "linux")]
use super::notifications;
use super::places::{self, Id};
use super::process_exits;
use super::thread::{self, ROUNDS, Thread};
use super::thread_exits::Exit;
use super::thread_locals;
use crate::Error;
use crate::call::home::Home;

/// A version's part in threads and in the process. Dropping it takes the rest of that away: when
/// the version's code is over, and before its memory goes.
pub(crate) struct Tenant {
    id: Id,
    thread_locals: Option<ThreadLocals>,
}

/// What a version had in one thread.
pub(super) struct Evicted {
    exits: Vec<Exit>,
    values: BTreeMap<pthread_key_t, Opaque>,
    block: Option<Block>,
}

impl Tenant {
    /// A version that is about to be linked.
    ///
    /// # Errors
    ///
    /// If the process has used up its keys, or there cannot be such thread-local variables.
    pub(crate) fn new(thread_locals: Option<ThreadLocals>) -> Result<Self, Error> {
        thread::prepare()?;
        let template = thread_locals.as_ref().map(|of| {
            Template::new(of).ok_or_else(|| Error::Unsupported {
                what: format!(
                    "{} bytes of thread-local variables, aligned to {}, are more than a thread can have: allocate them",
                    of.size, of.align
                ),
            })
        });
        let account = Account { template: template.transpose()?, ..Account::default() };
        Ok(Self { id: ledger().admit(account), thread_locals })
    }

    /// What it is linked with.
    pub(crate) fn host(&self) -> Host {
        thread_locals::host(self.thread_locals.is_some().then_some(self.id))
    }

    /// It has been linked, here: `len` is a multiple of the page size. None of its code has run.
    pub(crate) fn settle(&self, base: usize, len: usize) {
        let mut ledger = ledger();
        let account = ledger.version(self.id);
        account.base = base;
        if let (Some(template), Some(of)) = (&mut account.template, &self.thread_locals) {
            template.settle(base + of.offset as usize);
        }
        places::set(self.id, base, len);
    }

    /// Where the version belongs from now on. None: it is current.
    pub(crate) fn set_home(&self, home: Option<Home>) {
        let mut ledger = ledger();
        let account = ledger.version(self.id);
        account.home = home;
        if let Some(table) = &account.table {
            table.settle(account.home.as_ref());
        }
    }

    /// Where the version belongs. None while it is current.
    pub(crate) fn home(&self) -> Option<Home> {
        ledger().version(self.id).home.clone()
    }

    /// Whether it is this one.
    pub(crate) fn is(&self, id: Id) -> bool {
        self.id == id
    }

    /// Whether threads that it started go on, or a thread that exits is inside it.
    pub(crate) fn runs(&self) -> bool {
        let mut ledger = ledger();
        let account = ledger.version(self.id);
        account.threads > 0 || account.leaving > 0
    }

    /// Whether code of it may still run though no frame is in it: threads that it started, exit
    /// functions. Then it is not to be freed yet.
    pub(crate) fn is_busy(&self) -> bool {
        let mut ledger = ledger();
        let account = ledger.version(self.id);
        [account.threads, account.leaving, account.exits].iter().any(|count| *count > 0)
    }

    /// Takes out of the threads what the version left in them, for [`Self::retire_threads`]. No
    /// frame is in it any more.
    ///
    /// False, and nothing is taken, if a thread is running one of its exit functions, or if this is
    /// one of its own threads: try again later. Threads that the version itself started keep
    /// what they have until they are over.
    pub(crate) fn evict(&self) -> bool {
        let own = thread::noted();
        let mut ledger = ledger();
        let started_by = own.and_then(|own| ledger.threads.get(&own)).and_then(|thread| thread.started_by);
        let account = ledger.version(self.id);
        if account.leaving > 0 || started_by == Some(self.id) {
            return false;
        }
        if account.evicted.is_some() {
            return true;
        }
        let Ledger { threads, keys, .. } = &mut *ledger;
        let mut all = Vec::new();
        let mut take = |thread: &mut Thread| {
            let exits: Vec<_> = thread.exits.extract_if(.., |exit| exit.version == self.id).collect();
            let values = std::mem::take(&mut thread.values);
            let (values, others) = values.into_iter().partition(|(key, _)| keys.was_of(*key, self.id));
            thread.values = others;
            let evicted = Evicted { exits, values, block: thread.blocks.take(self.id) };
            if evicted.block.is_some() || !evicted.exits.is_empty() || !evicted.values.is_empty() {
                all.push(evicted);
            }
        };
        let others =
            threads.iter_mut().filter(|(id, thread)| Some(**id) != own && thread.started_by != Some(self.id));
        others.for_each(|(_, thread)| take(thread));
        // The main thread outlives the others in C++ too.
        if let Some(thread) = own.and_then(|own| threads.get_mut(&own)) {
            take(thread);
        }
        ledger.version(self.id).evicted = Some(all);
        true
    }

    /// Ends the version's part in the threads from which [`Self::evict`] took it: runs exit
    /// functions and destructors of keys on this thread, which has the owner's thread-local
    /// variables meanwhile, and frees those.
    ///
    /// # Safety
    ///
    /// The version is initialised, was evicted, and its code may run.
    pub(crate) unsafe fn retire_threads(&self) {
        let all = ledger().version(self.id).evicted.as_mut().map(std::mem::take).unwrap_or_default();
        for Evicted { exits, values, block } in all {
            if exits.is_empty() && values.is_empty() {
                continue;
            }
            let own = self.exchange(block);
            let thread = thread::current();
            {
                let mut ledger = ledger();
                let thread = ledger.thread(thread);
                thread.exits.extend(exits);
                thread.values.extend(values);
            }
            // SAFETY: the caller promises that the version was initialised and evicted, and its
            // code may run.
            unsafe { self.drain() };
            drop(self.exchange(own));
        }
        // SAFETY: as above.
        unsafe { self.drain() };
    }

    /// Runs what the version has registered for the end of the process, the latest first, and for
    /// this thread's meanwhile.
    ///
    /// # Safety
    ///
    /// As for [`Self::retire_threads`].
    pub(crate) unsafe fn run_exits(&self) {
        if ledger().version(self.id).registers {
            // SAFETY: the caller promises that the version was initialised and evicted, and its
            // code may run.
            unsafe { process_exits::finalize(self.id) };
        }
        // SAFETY: as above.
        unsafe { self.drain() };
    }

    /// Takes back what the version has asked the C library to run on threads of its own. Returns
    /// how many timers it had left.
    pub(crate) fn give_up_timers(&self) -> usize {
        #[cfg(target_os = "linux")]
        return notifications::give_up(self.id);
        // macOS knows no SIGEV_THREAD.
        #[cfg(not(target_os = "linux"))]
        0
    }

    /// Gives this thread another block of the version.
    fn exchange(&self, block: Option<Block>) -> Option<Block> {
        let thread = thread::current();
        ledger().thread(thread).blocks.replace(self.id, block)
    }

    /// Runs what this thread has to run for the version, with what that registers.
    ///
    /// # Safety
    ///
    /// As for [`Self::retire_threads`].
    unsafe fn drain(&self) {
        let Some(thread) = thread::noted() else { return };
        for _ in 0..=ROUNDS {
            loop {
                let exit = {
                    let mut ledger = ledger();
                    let exits = &mut ledger.thread(thread).exits;
                    let Some(at) = exits.iter().rposition(|exit| exit.version == self.id) else { break };
                    exits.remove(at)
                };
                // SAFETY: the caller promises that the version's code may run.
                unsafe { exit.call.run() };
            }
            let destructors: Vec<(pthread_key_t, Call)> = {
                let mut ledger = ledger();
                let Ledger { threads, keys, .. } = &mut *ledger;
                let Some(thread) = threads.get_mut(&thread) else { return };
                let call = |(key, argument): (&pthread_key_t, &Opaque)| {
                    let function = keys.destructor(*key, self.id)?;
                    Some((*key, Call { function, argument: *argument }))
                };
                let calls: Vec<_> = thread.values.iter().filter_map(call).collect();
                calls.iter().for_each(|(key, _)| _ = thread.values.remove(key));
                calls
            };
            if destructors.is_empty() {
                return;
            }
            for (key, call) in destructors {
                // SAFETY: a key of the version's; the caller promises that its code may run.
                unsafe {
                    libc::pthread_setspecific(key, ptr::null());
                    call.run();
                }
            }
        }
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        // What its threads have asked for since.
        self.give_up_timers();
        let mut ledger = ledger();
        let Ledger { threads, keys, quick_exits, .. } = &mut *ledger;
        let blocks: Vec<Block> =
            threads.values_mut().filter_map(|thread| thread.blocks.take(self.id)).collect();
        for thread in threads.values_mut() {
            thread.exits.retain(|exit| exit.version != self.id);
            thread.values.retain(|key, _| !keys.was_of(*key, self.id));
        }
        let left = keys.remove_all_of(self.id);
        quick_exits.retain(|exit| exit.version != self.id);
        places::clear(self.id);
        ledger.dismiss(self.id);
        drop(ledger);
        drop(blocks);
        for key in left {
            // SAFETY: made by the version. Nobody has deleted it before, as far as that is known.
            unsafe { libc::pthread_key_delete(key) };
        }
    }
}
