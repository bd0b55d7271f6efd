//! Journals in real folders.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use midflight_journal::{Change, Damage, Digest, Error, Event, Journal, Options, Stage};

/// A folder that is gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Numbers of one process: no other memory is reached by them.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("midflight-journal-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    /// Not there yet, and neither is what it is in.
    fn journal(&self) -> PathBuf {
        self.0.join("state/journal")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn commit(journal: &Journal, module: &str, bytes: &[u8]) -> Digest {
    let new = journal.put(bytes).unwrap();
    let change = match journal.committed().get(module) {
        Some(old) => Change::replace(module, *old, new.digest()),
        None => Change::load(module, new.digest()),
    };
    let id = journal.begin(vec![change]).unwrap();
    journal.prepared(id).unwrap();
    journal.commit(id).unwrap();
    journal.applied(id).unwrap();
    new.digest()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_committed_is_found_by_who_opens_it_next() {
    let folder = Folder::new();
    let opened = Journal::open(folder.journal()).unwrap();
    assert!(opened.committed.is_empty() && opened.in_flight.is_empty());
    let first = commit(&opened.journal, "physics", b"one");
    opened.journal.close().unwrap();
    for round in 0..3_u8 {
        let opened = Journal::open(folder.journal()).unwrap();
        let found = *opened.committed.get("physics").unwrap();
        let expected = if round == 0 { b"one".to_vec() } else { vec![round - 1; 5000] };
        assert_eq!(opened.journal.bytes(found).unwrap(), expected);
        commit(&opened.journal, "physics", &[round; 5000]);
        // Some do not close.
        if round == 1 {
            opened.journal.close().unwrap();
        }
    }
    let expected = ["lock", "modules", "store.redb", "witness.0", "witness.1", "witness.2"];
    assert_eq!(files(&folder.journal()), expected);
    assert!(files(&folder.journal().join("modules")).contains(&first.to_string()));
}

#[test]
fn a_second_one_is_refused_by_name() {
    let folder = Folder::new();
    let opened = Journal::open(folder.journal()).unwrap();
    let error = Journal::open(folder.journal()).unwrap_err().error;
    let this = std::process::id();
    assert_eq!(error, Error::InUse { folder: folder.journal(), process: Some(this) });
    assert!(error.to_string().contains("is open in this process already"), "{error}");
    opened.journal.close().unwrap();

    // As another process leaves it: the lock is the system's, and the number is for the message.
    let path = folder.journal().join("lock");
    let mut other = OpenOptions::new().write(true).truncate(true).open(path).unwrap();
    writeln!(other, "4242").unwrap();
    other.lock().unwrap();
    let error = Journal::open(folder.journal()).unwrap_err().error;
    assert_eq!(error, Error::InUse { folder: folder.journal(), process: Some(4242) });
    let said = error.to_string();
    assert!(said.contains("is open in process 4242") && said.contains("state/journal"), "{said}");
    drop(other);
    Journal::open(folder.journal()).unwrap();
}

#[test]
fn damage_is_named_and_what_was_committed_can_be_served_and_gone_on_from() {
    let folder = Folder::new();
    let journal = Journal::open(folder.journal()).unwrap().journal;
    let first = commit(&journal, "physics", b"one");
    journal.close().unwrap();
    let store = folder.journal().join("store.redb");
    let older = fs::read(&store).unwrap();
    let journal = Journal::open(folder.journal()).unwrap().journal;
    let digest = commit(&journal, "physics", b"two");
    journal.close().unwrap();
    assert_ne!(first, digest);

    let length = fs::metadata(&store).unwrap().len();
    /// What is done to the store, what that is, and what is said of it.
    type Case<'a> = (&'a dyn Fn(), fn(&Damage) -> bool, &'a str);
    let cases: [Case<'_>; 4] = [
        (
            &|| fs::write(&store, &older).unwrap(),
            |damage| matches!(damage, Damage::Older { .. }),
            "is an older one",
        ),
        (
            &|| OpenOptions::new().write(true).open(&store).unwrap().set_len(length / 2).unwrap(),
            |damage| matches!(damage, Damage::Truncated { .. }),
            "is truncated",
        ),
        (&|| drop(File::create(&store).unwrap()), |damage| *damage == Damage::Empty, "is empty, and was not"),
        (&|| fs::remove_file(&store).unwrap(), |damage| *damage == Damage::Missing, "is missing"),
    ];
    for (spoil, is, says) in cases {
        spoil();
        let error = Journal::open(folder.journal()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.to_string().contains("Options::rebuild"), "{error}");
        let last = error.last_good.unwrap();
        assert_eq!(last.committed["physics"], digest);
        assert_eq!(Journal::read_bytes(folder.journal(), digest).unwrap(), b"two");

        let opened = Options::new().rebuild(true).open(folder.journal()).unwrap();
        assert!(opened.damage.as_ref().is_some_and(is), "{:?}", opened.damage);
        assert_eq!(opened.committed, last.committed);
        opened.journal.close().unwrap();
    }
    // Each one that was there was kept aside.
    let aside = files(&folder.journal()).into_iter().filter(|name| name.starts_with("damaged-")).count();
    assert_eq!(aside, 3);
}

#[test]
fn a_modules_file_that_was_overwritten_since_does_not_pass() {
    let folder = Folder::new();
    let journal = Journal::open(folder.journal()).unwrap().journal;
    let digest = commit(&journal, "physics", b"the right ones");
    let path = folder.journal().join("modules").join(digest.to_string());
    fs::write(&path, b"the wrong ones").unwrap();
    assert_eq!(journal.bytes(digest), Err(Error::BytesDamaged(digest)));
    let error = Journal::read_bytes(folder.journal(), digest).unwrap_err();
    assert!(error.to_string().contains("has other bytes"), "{error}");
    journal.put(b"the right ones").unwrap();
    assert_eq!(journal.bytes(digest).unwrap(), b"the right ones");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in files(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

/// `tests/format-1` was written by the first midflight that had a journal, whose process was
/// killed. If this fails, journals that are there can no longer be read.
#[test]
fn a_journal_of_the_first_format_is_read() {
    let folder = Folder::new();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format-1"), &folder.journal());
    let opened = Journal::open(folder.journal()).unwrap();
    let set = ["physics one", "sound one"].map(|bytes| Digest::of(bytes.as_bytes()));
    assert_eq!(
        opened.committed.into_iter().collect::<Vec<_>>(),
        [("physics".to_owned(), set[0]), ("sound".to_owned(), set[1])]
    );
    let open = opened.in_flight.iter().map(|open| (open.transaction.number(), open.stage));
    assert_eq!(
        open.collect::<Vec<_>>(),
        [(2, Stage::Committed), (4, Stage::Committed), (5, Stage::Prepared)]
    );
    assert_eq!(opened.journal.bytes(set[0]).unwrap(), b"physics one");
    let events = opened.journal.records().unwrap().into_iter().map(|record| match record.event {
        Event::Begin(changes) => format!("begin {}", changes.len()),
        Event::Abort(reason) => reason,
        other => format!("{other:?}"),
    });
    assert_eq!(
        events.collect::<Vec<_>>(),
        [
            "begin 2",
            "Prepared",
            "Commit",
            "Applied",
            "begin 1",
            "Commit",
            "begin 1",
            "it is in use",
            "begin 1",
            "Commit",
            "begin 1",
            "Prepared",
            "it was not committed when the journal was closed",
        ]
    );
}

#[test]
fn a_folder_that_cannot_be_made_is_said() {
    let folder = Folder::new();
    fs::write(folder.0.join("file"), b"").unwrap();
    let error = Journal::open(folder.0.join("file/journal")).unwrap_err();
    assert!(error.to_string().starts_with("making the journal's folder: "), "{error}");
    assert_eq!(error.last_good, None);
}
