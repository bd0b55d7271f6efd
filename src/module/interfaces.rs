//! What files say of themselves, by content: read once for each, whatever the file is called and
//! whenever it was written.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use midflight_image::{Image, Input, Machine};
use midflight_interface::Interface;
use parking_lot::Mutex;

use crate::platform::files::Identity;

use super::file::{self, Contents, OnDisk, inputs};

/// The machine that modules are for. On another none is loaded, so none is asked for.
const HOST: Machine = match Machine::HOST {
    Some(machine) => machine,
    None => Machine::X86_64,
};

/// How many are kept: the current and the next version of as many modules as an engine reloads
/// often, some hundred kilobytes each for large ones.
const KEPT: usize = 128;

type Digest = [u8; 32];

/// What files say of themselves.
pub(crate) type Interfaces = ByContent<Interface>;

/// What is known of files, by content. The latest used is kept.
pub(crate) struct ByContent<T> {
    /// The latest used last.
    known: Mutex<VecDeque<(Digest, Arc<T>)>>,
    // Relaxed: only counts.
    hits: AtomicU64,
    misses: AtomicU64,
}

impl<T> Default for ByContent<T> {
    fn default() -> Self {
        Self { known: Mutex::default(), hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }
}

impl<T> ByContent<T> {
    /// Of a module's files: what is known of this content, else what `read` finds. `counts`: in the
    /// statistics.
    pub(crate) fn of<E>(
        &self,
        files: &[Input<'_>],
        counts: bool,
        read: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let digest = digest(files);
        let found = self.find(&digest);
        if counts {
            (if found.is_some() { &self.hits } else { &self.misses }).fetch_add(1, Ordering::Relaxed);
        }
        if let Some(interface) = found {
            return Ok(interface);
        }
        let interface = Arc::new(read()?);
        let mut known = self.known.lock();
        if known.len() == KEPT {
            known.pop_front();
        }
        known.push_back((digest, interface.clone()));
        Ok(interface)
    }

    /// It is the latest used now.
    fn find(&self, digest: &Digest) -> Option<Arc<T>> {
        let mut known = self.known.lock();
        let at = known.iter().position(|(of, _)| of == digest)?;
        let entry = known.remove(at)?;
        let found = entry.1.clone();
        known.push_back(entry);
        Some(found)
    }

    /// (hits, misses) of validations.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// Forgets the counts and what is known.
    pub(crate) fn clear(&self) {
        self.known.lock().clear();
        self.hits.store(0, Ordering::Relaxed);
        self.misses.store(0, Ordering::Relaxed);
    }
}

/// Of what the files hold, in their order. Their names do not matter.
fn digest(files: &[Input<'_>]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(&(file.bytes.len() as u64).to_le_bytes());
        hasher.update(file.bytes);
    }
    hasher.finalize().into()
}

/// What a version was made of, until somebody asks what that says.
pub(crate) struct Origin(Mutex<Known>);

enum Known {
    /// Files that were not kept. They may be there still.
    OnDisk(OnDisk),
    Files(Contents),
    Interface(Arc<Interface>),
}

/// Why it is not known what a version was made of.
pub(crate) enum Unread {
    Image(midflight_image::Error),
    /// The files are not there as they were.
    Gone(String),
}

impl From<midflight_image::Error> for Unread {
    fn from(error: midflight_image::Error) -> Self {
        Self::Image(error)
    }
}

impl From<Arc<Interface>> for Origin {
    fn from(interface: Arc<Interface>) -> Self {
        Self(Mutex::new(Known::Interface(interface)))
    }
}

impl From<Contents> for Origin {
    fn from(files: Contents) -> Self {
        Self(Mutex::new(Known::Files(files)))
    }
}

impl From<OnDisk> for Origin {
    fn from(files: OnDisk) -> Self {
        Self(Mutex::new(Known::OnDisk(files)))
    }
}

impl Origin {
    /// Whether it was made of this one file, which was read again: the same by its inode, its size
    /// and its times.
    pub(crate) fn is_file(&self, path: &Path, identity: Identity) -> bool {
        match &*self.0.lock() {
            Known::OnDisk(OnDisk { files, .. }) => {
                matches!(&files[..], [(of, was)] if of == path && *was == identity)
            }
            Known::Files(_) | Known::Interface(_) => false,
        }
    }

    /// What the files say.
    pub(crate) fn interface(&self, interfaces: &Interfaces) -> Result<Arc<Interface>, Unread> {
        let mut known = self.0.lock();
        let again;
        let (files, build_id) = match &*known {
            Known::Interface(interface) => return Ok(interface.clone()),
            Known::Files(files) => (files, None),
            Known::OnDisk(files) => {
                again = files.read()?;
                (&again.0, again.1)
            }
        };
        let inputs = inputs(files);
        if let Some((id, path)) = build_id {
            // The smallest page, and any size.
            let image = Image::parse_all(&inputs, HOST, 4096, 1 << 40)?;
            if image.build_id() != Some(id) {
                return Err(gone(path));
            }
        }
        let interface = interfaces.of(&inputs, false, || Interface::read(&inputs, HOST))?;
        *known = Known::Interface(interface.clone());
        Ok(interface)
    }
}

/// Files that were read again; and if they may be others now, the number that the one file must
/// have, and its path.
type Again<'d> = (Contents, Option<(&'d [u8], &'d Path)>);

impl OnDisk {
    /// Reads the files again. One that was touched, copied or linked since is not known to be the
    /// same by its times.
    fn read(&self) -> Result<Again<'_>, Unread> {
        let mut contents = Contents::new();
        let mut other = None;
        for (path, identity) in &self.files {
            let read = file::read(path, true).map_err(|_| gone(path))?;
            // Before it was read and after.
            let now = std::fs::metadata(path).map(|now| Identity::from(&now));
            if read.1 != *identity || now.ok() != Some(*identity) {
                other.get_or_insert(&**path);
            }
            contents.push((path.display().to_string(), Arc::new(read)));
        }
        let Some(path) = other else { return Ok((contents, None)) };
        match (&*self.files, &self.build_id) {
            ([_], Some(id)) => Ok((contents, Some((id, path)))),
            _ => Err(gone(path)),
        }
    }
}

fn gone(path: &Path) -> Unread {
    Unread::Gone(format!(
        "{} is not any more what was loaded from it, and no copy was kept to compare with: validate loads, or have files kept",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn ask(interfaces: &ByContent<()>, content: &[u8]) -> bool {
        let mut known = true;
        let read = || {
            known = false;
            Ok::<_, Infallible>(())
        };
        interfaces.of(&[Input { name: "any", bytes: content }], true, read).unwrap();
        known
    }

    #[test]
    fn a_content_is_read_once_and_a_changed_byte_is_seen() {
        let interfaces = ByContent::default();
        let mut content = [7; 1000];
        assert!(!ask(&interfaces, &content));
        assert!(ask(&interfaces, &content));
        for at in 0..content.len() {
            content[at] ^= 1;
            assert!(!ask(&interfaces, &content), "byte {at}");
            content[at] ^= 1;
        }
        assert_eq!(interfaces.counts(), (1, 1001));
    }

    #[test]
    fn where_one_file_ends_and_the_next_begins_matters() {
        let two =
            |first, second| digest(&[Input { name: "", bytes: first }, Input { name: "", bytes: second }]);
        assert_ne!(two(b"ab", b"c"), two(b"a", b"bc"));
    }

    #[test]
    fn the_latest_used_are_kept() {
        let interfaces = ByContent::default();
        assert!(!ask(&interfaces, b"often"));
        for other in 0..2 * KEPT {
            assert!(!ask(&interfaces, &other.to_le_bytes()));
            assert!(ask(&interfaces, b"often"));
        }
        assert!(!ask(&interfaces, &0usize.to_le_bytes()), "pushed out");
        assert_eq!(interfaces.known.lock().len(), KEPT);
    }
}
