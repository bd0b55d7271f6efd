//! A reload of a small module whose new file is there: from the call to the new code being called
//! by everybody. Microseconds.

use std::fs;
use std::hint;
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use hot_lib_reloader::LibReloader;
use midflight::Runtime;
use subsecond::HotFn;

use crate::Result;
use crate::calls::{apply, table};
use crate::loaded::load;
use crate::modules::{self, measured};
use crate::worker::Samples;

/// Reloads in a row: each finds the caches as it left them itself.
const BLOCK: usize = 8;
/// How long a file must rest before `hot-lib-reloader` looks at it. Not part of what is measured.
const REST: Duration = Duration::from_millis(4);

/// Somebody who reloads: the version to load is the argument, and the time is returned.
type Reload<'r> = Box<dyn FnMut(u64) -> Result<Duration> + 'r>;

fn patched(x: u64) -> u64 {
    x + 1_000
}

/// `patches` reloads by each, of which a process bears [`modules::PATCHES`]: `subsecond` gives back
/// nothing.
pub(crate) fn measure(folder: &Path, patches: usize) -> Result<Samples> {
    let (mut midflight, mut subsecond) = (midflight(folder)?, subsecond(folder)?);
    let mut hot_lib_reloader = hot_lib_reloader(folder)?;
    let mut samples = Samples::new();
    for block in 0..patches.min(modules::PATCHES) / BLOCK {
        let mut peers: [(&str, &mut Reload); 3] = [
            ("midflight", &mut midflight),
            ("subsecond", &mut subsecond),
            ("hot-lib-reloader", &mut hot_lib_reloader),
        ];
        peers.rotate_left(block % 3);
        for (name, reload) in peers {
            for number in 0..BLOCK {
                // Starting with the version that it has not loaded.
                let time = reload(2 - number as u64 % 2)?;
                samples.entry(name.into()).or_default().push(time.as_secs_f64() * 1e6);
            }
        }
    }
    Ok(samples)
}

/// Everything that `load` does: the publication, and freeing the version before.
fn midflight(folder: &Path) -> Result<Reload<'static>> {
    let rt = Runtime::start()?;
    let files = [1, 2].map(|version| modules::version_file(folder, version));
    load(rt, &files[0])?;
    Ok(Box::new(move |version| {
        let begin = Instant::now();
        load(rt, &files[version as usize - 1])?;
        let time = begin.elapsed();
        check("midflight", measured::call(&rt.frame(), 0), version)?;
        Ok(time)
    }))
}

/// A table of one function, which takes the least time.
fn subsecond(folder: &Path) -> Result<Reload<'_>> {
    let mut patched = HotFn::current(patched);
    let from = patched.ptr_address().0;
    let target = modules::address(&modules::patch(folder, 0), "call_it")?;
    let mut files = (0..modules::PATCHES).map(|number| modules::patch(folder, number));
    Ok(Box::new(move |version| {
        let file = files.next().ok_or("no patch is left")?;
        let table = table(&file, std::iter::once((from, target)))?;
        let begin = Instant::now();
        apply(table)?;
        let time = begin.elapsed();
        check("subsecond", patched.call((0,)), version)?;
        Ok(time)
    }))
}

/// `update()`, once it was told that there is a new file. A thread of its own tells it, and takes
/// as long as it is made to.
fn hot_lib_reloader(folder: &Path) -> Result<Reload<'_>> {
    let watched = modules::watched_folder(folder)?;
    let mut reloader = LibReloader::new(&watched, "measured", Some(REST), None)?;
    let changes = reloader.subscribe_to_file_changes();
    let file = watched.join("libmeasured.so");
    Ok(Box::new(move |version| {
        let bytes = fs::read(modules::version_file(folder, version))?;
        fs::write(&file, &bytes)?;
        // Its watch begins some time after `new`, and does not see what was written before.
        while !is_told(&changes)? {
            fs::write(&file, &bytes)?;
        }
        let begin = Instant::now();
        let updated = reloader.update()?;
        let time = begin.elapsed();
        if !updated {
            return Err("hot-lib-reloader: nothing to update".into());
        }
        // SAFETY: `call` has this type; scalars are passed as in C.
        let call = unsafe { reloader.get_symbol::<extern "C" fn(u64) -> u64>(b"call\0") }?;
        check("hot-lib-reloader", call(0), version)?;
        Ok(time)
    }))
}

/// Waits for the word, but not for ever. Without leaving the core, so that caches and clock are as
/// in the others' rounds.
fn is_told(changes: &Receiver<()>) -> Result<bool> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        match changes.try_recv() {
            Ok(()) => return Ok(true),
            Err(TryRecvError::Empty) => hint::spin_loop(),
            Err(TryRecvError::Disconnected) => return Err("hot-lib-reloader: its watcher has ended".into()),
        }
    }
    Ok(false)
}

fn check(who: &str, got: u64, version: u64) -> Result<()> {
    if got == version { Ok(()) } else { Err(format!("{who}: version {got} runs, not {version}").into()) }
}
