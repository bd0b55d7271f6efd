//! Commits transactions for ever, for `scripts/crash-test`, which kills it: commits FOLDER
//!
//! Before that it looks whether what it finds is whole, and says which commit it is. Commit N has
//! three modules of version N, and a fourth if N is odd. So a set that mixes two commits is seen.
//! Each line that it writes is one step: `found N`, `asked N`, `acknowledged N`.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::io::{self, Write};

use midflight_journal::{Change, Digest, Options};

const MODULES: [&str; 3] = ["physics", "sound", "world"];

/// Some kilobytes, so that the store and the modules have more than a page.
fn bytes(module: &str, version: u64) -> Vec<u8> {
    format!("{module} of version {version}\n").repeat(100 + version as usize % 100).into_bytes()
}

/// What is committed by the commit of this number.
fn set(number: u64) -> BTreeMap<String, Digest> {
    let all = MODULES.into_iter().chain((number % 2 == 1).then_some("odd"));
    let all = all.filter(|_| number > 0);
    all.map(|module| (module.to_owned(), Digest::of(&bytes(module, number)))).collect()
}

fn say(step: &str, number: u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{step} {number}")?;
    out.flush()
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args().nth(1).ok_or("commits FOLDER")?;
    // Little room, so that old records and bytes are dropped all the time.
    let opened = Options::new().kept_records(100).module_bytes(100_000).open(folder)?;
    let journal = opened.journal;
    // The version is in the bytes, and the number is the version.
    let mut number = match opened.committed.get(MODULES[0]) {
        None => 0,
        Some(digest) => {
            let bytes = String::from_utf8(journal.bytes(*digest)?)?;
            let version = bytes.lines().next().and_then(|line| line.rsplit(' ').next());
            version.ok_or("a module without a version")?.parse()?
        }
    };
    if opened.committed != set(number) {
        return Err(format!("not whole: {:?}", opened.committed).into());
    }
    for digest in opened.committed.values() {
        journal.bytes(*digest)?;
    }
    say("found", number)?;
    for open in journal.in_flight() {
        journal.applied(open.transaction)?;
    }
    loop {
        let (old, new) = (journal.committed(), set(number + 1));
        let held = new.keys().map(|module| journal.put(&bytes(module, number + 1)));
        let held = held.collect::<Result<Vec<_>, _>>()?;
        let change = |module: &str| match (old.get(module), new.get(module)) {
            (None, None) => None,
            (None, Some(new)) => Some(Change::load(module, *new)),
            (Some(old), None) => Some(Change::unload(module, *old)),
            (Some(old), Some(new)) => Some(Change::replace(module, *old, *new)),
        };
        let changes = MODULES.into_iter().chain(["odd"]).filter_map(change).collect();
        let transaction = journal.begin(changes)?;
        drop(held);
        journal.prepared(transaction)?;
        number += 1;
        say("asked", number)?;
        // A process that is killed does not lose what was not synced: so each way must hold.
        if number.is_multiple_of(5) {
            journal.commit_lazily(transaction)?;
        } else {
            journal.commit(transaction)?;
        }
        say("acknowledged", number)?;
        journal.applied(transaction)?;
    }
}
