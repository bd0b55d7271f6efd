//! By which folders and links a path leads to its file, and notice of every change on that way.
//!
//! Of the folder that has the file's name, or a symbolic link's on the way to it, notice is given
//! when names come or go; of the file itself, when it is written, by whatever name (a hard link's);
//! of the other folders only when they are moved or removed themselves: what else goes on in them
//! wakes nobody. Where the way ends before the file, all its folders tell of names: a folder has to
//! be empty to be removed, so that happens after its file went.
//!
//! inotify(7) names folders by path when notice is asked for, and things move meanwhile. So each
//! step asks first and looks afterwards, and the way is gone until it was the same twice: whatever
//! changes after its second walk is told of by the notice of its first.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use super::WatchId;
use crate::platform::os::changes::{Changes, Interest, Place};

/// What gives notice, and for whom.
#[derive(Default)]
pub(super) struct Places(HashMap<Place, Armed>);

struct Armed {
    path: PathBuf,
    /// What the kernel was asked for.
    interest: Interest,
    users: BTreeMap<WatchId, Use>,
}

#[derive(Default)]
struct Use {
    interest: Interest,
    names: BTreeSet<OsString>,
}

/// A place on the way.
#[derive(PartialEq, Eq)]
struct Stop {
    place: Place,
    interest: Interest,
    /// The next step, from a folder.
    name: Option<OsString>,
}

/// All places that a search has asked for notice.
type Asked = BTreeMap<Place, (PathBuf, Interest)>;

const ITSELF: Interest = Interest { names: false, contents: false };
const NAMES: Interest = Interest { names: true, contents: false };
const CONTENTS: Interest = Interest { names: false, contents: true };

/// As many as the kernel follows: path_resolution(7).
const MOST_LINKS: usize = 40;
/// How often a way is gone that changes each time.
const MOST_WALKS: usize = 8;

impl Places {
    /// Finds the way of an absolute path, and has notice given of it from now on, instead of the
    /// way that it took before. Returns whether it is found: if not, it is changing right now.
    ///
    /// # Errors
    ///
    /// If a place cannot give notice. The notice of the old way stays.
    pub(super) fn find(&mut self, changes: &Changes, id: WatchId, path: &Path) -> io::Result<bool> {
        let mut asked = Asked::new();
        let found = search(changes, path, &mut asked);
        let (stops, result) = match found {
            Ok((stops, settled)) => (Some(stops), Ok(settled)),
            Err(error) => (None, Err(error)),
        };
        self.take_over(changes, id, asked, stops);
        result
    }

    /// No notice any more for this watch.
    pub(super) fn forget(&mut self, changes: &Changes, id: WatchId) {
        self.take_over(changes, id, Asked::new(), Some(Vec::new()));
    }

    fn take_over(&mut self, changes: &Changes, id: WatchId, asked: Asked, stops: Option<Vec<Stop>>) {
        for (place, (path, interest)) in asked {
            let armed = self.0.entry(place).or_insert_with(|| Armed {
                path: PathBuf::new(),
                interest: ITSELF,
                users: BTreeMap::new(),
            });
            armed.path = path;
            armed.interest = armed.interest.or(interest);
        }
        if let Some(stops) = stops {
            self.0.values_mut().for_each(|armed| drop(armed.users.remove(&id)));
            for stop in stops {
                // What is not there any more has been asked for all the same.
                let Some(armed) = self.0.get_mut(&stop.place) else { continue };
                let used = armed.users.entry(id).or_default();
                used.interest = used.interest.or(stop.interest);
                used.names.extend(stop.name);
            }
        }
        self.0.retain(|&place, armed| {
            let needed = armed
                .users
                .values()
                .fold(None, |sum: Option<Interest>, used| Some(sum.unwrap_or_default().or(used.interest)));
            let Some(needed) = needed else {
                changes.disarm(place);
                return false;
            };
            if needed != armed.interest {
                match changes.limit(&armed.path, needed) {
                    Ok(same) if same == place => armed.interest = needed,
                    // Another one is there now, of which the way's next walk will learn; the notice
                    // of this one said so.
                    Ok(other) => changes.disarm(other),
                    // Nothing is there now: as above.
                    Err(_) => {}
                }
            }
            true
        });
    }

    /// None gives notice any more, nor are the numbers the same.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The place is gone. Returns who used it.
    pub(super) fn remove(&mut self, place: Place) -> Vec<WatchId> {
        self.0.remove(&place).map(|armed| armed.users.into_keys().collect()).unwrap_or_default()
    }

    /// Whom it concerns that something happened to the place, or to a name in it.
    pub(super) fn concerned(&self, place: Place, name: Option<&OsStr>) -> impl Iterator<Item = WatchId> {
        let users = self.0.get(&place).into_iter().flat_map(|armed| &armed.users);
        users.filter(move |(_, used)| name.is_none_or(|name| used.names.contains(name))).map(|(&id, _)| id)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn search(changes: &Changes, path: &Path, asked: &mut Asked) -> io::Result<(Vec<Stop>, bool)> {
    let (mut stops, mut missing) = walk(changes, path, false, asked)?;
    for _ in 0..MOST_WALKS {
        let again = walk(changes, path, missing, asked)?;
        if again.0 == stops && again.1 == missing {
            return Ok((stops, true));
        }
        (stops, missing) = again;
    }
    Ok((stops, false))
}

/// Goes the way once. Returns also whether it ended before the file. `all`: every folder tells of
/// names.
fn walk(changes: &Changes, path: &Path, all: bool, asked: &mut Asked) -> io::Result<(Vec<Stop>, bool)> {
    let mut stops = Vec::new();
    let mut arm = |path: &Path, interest: Interest, name: Option<&OsStr>| {
        let place = changes.arm(path, interest)?;
        let entry = asked.entry(place).or_insert_with(|| (path.to_owned(), ITSELF));
        entry.1 = entry.1.or(interest);
        stops.push(Stop { place, interest, name: name.map(OsStr::to_owned) });
        Ok::<_, io::Error>(())
    };
    let mut folder = PathBuf::from("/");
    let mut rest = steps(path);
    let mut links = 0;
    let missing = loop {
        // A path that is a folder's own has no file.
        let Some(name) = rest.pop_front() else { break false };
        if name == ".." {
            folder.pop();
            continue;
        }
        let at = folder.join(&name);
        let mut interest = if all || rest.is_empty() { NAMES } else { ITSELF };
        let kind = loop {
            match arm(&folder, interest, Some(&name)) {
                Ok(()) => {}
                Err(error) if is_missing(&error) => break None,
                // A folder that may be gone through, but not read. Its being moved is not seen.
                Err(error) if error.kind() == ErrorKind::PermissionDenied && interest == ITSELF => {}
                Err(error) => return Err(error),
            }
            let kind = kind(&at)?;
            if interest.names || kind.is_some_and(|kind| kind.is_dir()) {
                break kind;
            }
            // A link, or nothing: look again when it cannot change unnoticed.
            interest = NAMES;
        };
        let Some(kind) = kind else { break true };
        if kind.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            match fs::read_link(&at) {
                Ok(target) => {
                    if target.is_absolute() {
                        folder = PathBuf::from("/");
                    }
                    let mut ahead = steps(&target);
                    ahead.append(&mut rest);
                    rest = ahead;
                }
                // It has just changed.
                Err(_) => rest.push_front(name),
            }
        } else if rest.is_empty() {
            break match arm(&at, CONTENTS, None) {
                Ok(()) => false,
                Err(error) if is_missing(&error) => true,
                // Reading it will say so.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => false,
                Err(error) => return Err(error),
            };
        } else if kind.is_dir() {
            folder = at;
        } else {
            break true;
        }
    };
    Ok((stops, missing))
}

fn steps(path: &Path) -> VecDeque<OsString> {
    let step = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().filter_map(step).collect()
}

fn kind(path: &Path) -> io::Result<Option<FileType>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata.file_type())),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
