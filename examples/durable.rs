//! Commits transactions on a runtime with a journal for ever, for `scripts/crash-test`, which kills
//! it: durable JOURNAL MODULES [POINT]
//!
//! MODULES has folders 1, 2, ... with three modules each, whose functions return the folder's
//! number, and of which one calls another. Before it commits it looks whether what the journal has
//! brought back is one of these sets, wholly, and calls it. Each line that it writes is one step:
//! `found N`, `asked N`, `acknowledged N`. At a named point of a commit or of the recovery it kills
//! itself; it reaches it some times before that.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use midflight::{Config, Durability, JournalOptions, Runtime, TransactionOptions};

midflight::module! {
    unsafe mod physics { safe fn physics_number() -> i32; }
    unsafe mod sound { safe fn sound_number() -> i32; }
    unsafe mod world { safe fn world_number() -> i32; }
}

const MODULES: [&str; 3] = ["physics", "sound", "world"];

fn say(step: &str, number: i32) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{step} {number}")?;
    out.flush()
}

/// Ends the process at a point, as if somebody had killed it there.
fn die_at(point: &str, after: u32) {
    static POINT: OnceLock<(String, u32)> = OnceLock::new();
    static REACHED: AtomicU32 = AtomicU32::new(0);
    POINT.set((point.to_owned(), after)).expect("it is set once");
    midflight::private::journal_points::watch(|point| {
        let (at, after) = POINT.get().expect("it is set before");
        // Relaxed: one thread commits.
        if point == at && REACHED.fetch_add(1, Ordering::Relaxed) == *after {
            // SAFETY: ends the process.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
    });
}

fn main() -> Result<(), Box<dyn Error>> {
    const USAGE: &str = "durable JOURNAL MODULES [POINT AFTER]";
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (journal, modules) = match &arguments[..] {
        [journal, modules] => (journal, modules),
        [journal, modules, point, after] => {
            die_at(point, after.parse()?);
            (journal, modules)
        }
        _ => return Err(USAGE.into()),
    };
    // Little room, so that old records and bytes are dropped all the time.
    // SAFETY: it has the modules that scripts/crash-test has compiled.
    let journal = unsafe { JournalOptions::new(journal) }.kept_records(100).module_bytes(400_000);
    let rt = Runtime::start_with(Config::new().journal(journal))?;
    let loaded: Vec<String> = rt.modules()?.into_iter().map(|module| module.name).collect();
    let mut number = 0;
    if !loaded.is_empty() {
        let frame = rt.frame();
        number = physics::physics_number(&frame);
        let whole = if number % 2 == 1 { &MODULES[..] } else { &MODULES[..2] };
        if loaded != whole || sound::sound_number(&frame) != number {
            return Err(format!("not whole: {loaded:?} at {number}").into());
        }
        if number % 2 == 1 && world::world_number(&frame) != number {
            return Err(format!("not whole: the world is at {}", world::world_number(&frame)).into());
        }
    }
    say("found", number)?;
    let versions = Path::new(modules).read_dir()?.count() as i32;
    loop {
        number += 1;
        // Which of the files it is: the same ones come round again, so numbers do.
        if number > versions {
            number = 1;
        }
        let folder: PathBuf = Path::new(modules).join(number.to_string());
        // A process that is killed does not lose what was not synced: so each way must hold.
        let durability = if number % 5 == 0 { Durability::Lazy } else { Durability::Durable };
        let mut tx = rt.transaction(&TransactionOptions::new().durability(durability).rehearse(false))?;
        let all = if number % 2 == 1 { &MODULES[..] } else { &MODULES[..2] };
        for module in all {
            // SAFETY: as above.
            unsafe { tx.load(folder.join(format!("lib{module}.so"))) }?;
        }
        if number % 2 == 0 && tx.version("world")?.is_some() {
            tx.unload("world")?;
        }
        say("asked", number)?;
        tx.commit()?;
        say("acknowledged", number)?;
    }
}
