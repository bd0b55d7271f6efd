//! How long a publication takes, and how many reloads a core makes.

use std::path::Path;
use std::time::{Duration, Instant};

use midflight::{LoadOptions, Runtime, Source};

use crate::Result;
use crate::loaded::{load, load_all, start_with_many};
use crate::modules::{self, MANY, SLOTS, WIDE, m0000};
use crate::worker::{Samples, stay_on_core, time_on_core};

/// Modules that one publication has.
pub(crate) const TOGETHER: usize = 64;

/// Publications of one module and of all that are loaded, in turns: microseconds of the
/// publication, and of the staging before it.
pub(crate) fn measure(folder: &Path, rounds: usize) -> Result<Samples> {
    let rt = start_with_many(folder, 1, TOGETHER)?;
    let files = [1, 2].map(|version| [0; TOGETHER].into_iter().enumerate().map(move |(n, _)| (version, n)));
    let files =
        files.map(|all| all.map(|(version, n)| modules::many(folder, version, n)).collect::<Vec<_>>());
    let mut samples = Samples::new();
    let mut add = |name: &str, time: Duration| {
        samples.entry(name.into()).or_default().push(time.as_secs_f64() * 1e6);
    };
    for round in 0..rounds {
        let files = &files[1 - round % 2];
        let one = load(rt, &files[round / 2 % TOGETHER])?;
        add("one", one.publish);
        add("stage one", one.stage);
        let all = load_all(rt, files)?;
        if all.modules.len() != TOGETHER || m0000::call(&rt.frame(), 0) != 2 - round as u64 % 2 {
            return Err("not all modules were published".into());
        }
        add("all", all.publish);
        add("stage all", all.stage);
        let options = LoadOptions::new().threads(2);
        // SAFETY: as for `load`.
        let beside = unsafe { rt.load_with(files, &options) }?;
        add("stage all on two threads", beside.stage);
    }
    Ok(samples)
}

/// Reloads per second on one core, a module after the other of all that are loaded; a sample for
/// each time round. And how many it would have been had the core done nothing else, by this
/// thread's time on it.
pub(crate) fn throughput(folder: &Path, rounds: usize) -> Result<Samples> {
    stay_on_core(0)?;
    let rt = start_with_many(folder, 1, MANY)?;
    let files = [1, 2].map(|v| (0..MANY).map(|n| modules::many(folder, v, n)).collect::<Vec<_>>());
    let mut samples = Samples::new();
    for round in 0..rounds {
        let (begin, begin_on_core) = (Instant::now(), time_on_core());
        for file in &files[1 - round % 2] {
            load(rt, file)?;
        }
        let times = [("rate", begin.elapsed()), ("rate on core", time_on_core() - begin_on_core)];
        for (name, time) in times {
            samples.entry(name.into()).or_default().push(MANY as f64 / time.as_secs_f64());
        }
        if m0000::call(&rt.frame(), 0) != 2 - round as u64 % 2 {
            return Err("a module was not reloaded".into());
        }
    }
    Ok(samples)
}

/// Reloads of one module, and how long of that its publication takes, beside more and more that
/// stays as it is: microseconds.
pub(crate) fn scale(folder: &Path, rounds: usize) -> Result<Samples> {
    let rt = Runtime::start()?;
    let mut samples = Samples::new();
    let mut measure = |beside: &str| {
        for round in 0..rounds {
            let begin = Instant::now();
            let publication = load(rt, &modules::version_file(folder, 1 + round as u64 % 2))?;
            for (what, time) in [("reload", begin.elapsed()), ("publish", publication.publish)] {
                let name = format!("{what} {beside}");
                samples.entry(name).or_default().push(time.as_secs_f64() * 1e6);
            }
        }
        Result::Ok(())
    };
    measure("alone")?;
    for number in 0..10 * MANY {
        let source = Source::linked(format!("m{number}"), [modules::many(folder, 1, number % MANY)]);
        // SAFETY: as for `load`.
        unsafe { rt.load(source) }?;
        match number + 1 {
            MANY => measure("modules 1000")?,
            n if n == 10 * MANY => measure("modules 10000")?,
            _ => {}
        }
    }
    for copy in 0..SLOTS / WIDE {
        let module = format!("wide{copy}");
        // SAFETY: as for `load`.
        unsafe { rt.load(Source::linked(&module, [modules::wide(folder)])) }?;
        for number in 0..WIDE {
            rt.symbol(&module, &format!("w{number}"))?;
        }
    }
    measure("slots")?;
    Ok(samples)
}
