//! A module as it was loaded: its files, and what it was loaded with that they do not say. It is
//! one value, so that one digest names all of it, however many files the module has.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::codec::{Coded, Read, Unreadable, read_list, take, write_count, write_list};
use crate::error::Error;

/// What such bytes begin with.
const MAGIC: &[u8; 8] = b"mfmodule";
/// The newest form that is known here.
const FORM: u32 = 1;

const VERIFIED: u32 = 1;
const CARRIED: u32 = 2;

/// The longest text of it, and the most of each list: far more than a system takes.
const LONGEST: usize = 1 << 16;

/// A module as it was loaded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Package<'b> {
    /// The name that it was given. None: its files say it.
    pub name: Option<String>,
    /// Libraries that it needs besides those that its files name.
    pub libraries: Vec<String>,
    /// Its code was compared with what was linked.
    pub verified: bool,
    /// Its variables were noted, to be carried over to its next version.
    pub carried: bool,
    /// Its files in their order: where each was, and what was in it.
    pub files: Vec<(PathBuf, &'b [u8])>,
}

/// A text, or a path: bytes with their length before them.
struct Bytes(Vec<u8>);

impl Coded for Bytes {
    fn write(&self, to: &mut Vec<u8>) {
        write_count(self.0.len(), to);
        to.extend_from_slice(&self.0);
    }

    fn read(from: &mut &[u8]) -> Read<Self> {
        match u32::read(from)? as usize {
            count if count > LONGEST => Err(Unreadable),
            count => take(from, count).map(|bytes| Self(bytes.to_vec())),
        }
    }
}

impl Bytes {
    fn into_text(self) -> Read<String> {
        String::from_utf8(self.0).map_err(|_| Unreadable)
    }
}

/// A file's path, and how many bytes it has.
struct Place(Bytes, u64);

impl Coded for Place {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut &[u8]) -> Read<Self> {
        Ok(Self(Bytes::read(from)?, u64::read(from)?))
    }
}

impl<'b> Package<'b> {
    /// The bytes to [`put`](crate::Journal::put).
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`], if a text of it has more than 65,536 bytes, or a list as many parts.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let texts = self.name.iter().chain(&self.libraries).map(String::len);
        let paths = self.files.iter().map(|(path, _)| path.as_os_str().len());
        let lists = [self.libraries.len(), self.files.len()];
        if let Some(size) = texts.chain(paths).chain(lists).find(|size| *size > LONGEST) {
            return Err(Error::TooLarge { what: "bytes of a module's name or path", size, most: LONGEST });
        }
        let text = |text: &String| Bytes(text.as_bytes().to_vec());
        let path = |path: &Path| Bytes(path.as_os_str().as_bytes().to_vec());
        let length: usize = self.files.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut bytes = Vec::with_capacity(length + 4096);
        bytes.extend_from_slice(MAGIC);
        FORM.write(&mut bytes);
        let flag = |is: bool, flag: u32| if is { flag } else { 0 };
        (flag(self.verified, VERIFIED) | flag(self.carried, CARRIED)).write(&mut bytes);
        self.name.as_ref().map(text).write(&mut bytes);
        write_list(&self.libraries.iter().map(text).collect::<Vec<_>>(), &mut bytes);
        let files = self.files.iter().map(|(at, bytes)| Place(path(at), bytes.len() as u64));
        write_list(&files.collect::<Vec<_>>(), &mut bytes);
        self.files.iter().for_each(|(_, file)| bytes.extend_from_slice(file));
        Ok(bytes)
    }

    /// The module of such bytes.
    ///
    /// # Errors
    ///
    /// [`Error::NewerModule`], [`Error::NoModule`].
    pub fn from_bytes(bytes: &'b [u8]) -> Result<Self, Error> {
        let mut from = bytes.strip_prefix(MAGIC).ok_or(Error::NoModule)?;
        match u32::read(&mut from) {
            Ok(FORM) => Self::read(from).map_err(|Unreadable| Error::NoModule),
            Ok(found) if found > FORM => Err(Error::NewerModule { found, known: FORM }),
            _ => Err(Error::NoModule),
        }
    }

    fn read(mut from: &'b [u8]) -> Read<Self> {
        let from = &mut from;
        let flags = u32::read(from)?;
        if flags & !(VERIFIED | CARRIED) != 0 {
            return Err(Unreadable);
        }
        let name = Option::<Bytes>::read(from)?.map(Bytes::into_text).transpose()?;
        let libraries = read_list::<Bytes>(from, LONGEST)?;
        let libraries = libraries.into_iter().map(Bytes::into_text).collect::<Read<_>>()?;
        let mut files = Vec::new();
        for Place(path, length) in read_list::<Place>(from, LONGEST)? {
            let length = usize::try_from(length).map_err(|_| Unreadable)?;
            files.push((PathBuf::from(OsStr::from_bytes(&path.0)), length));
        }
        let files = files.into_iter().map(|(path, length)| Ok((path, take(from, length)?)));
        let files = files.collect::<Read<Vec<_>>>()?;
        if !from.is_empty() || files.is_empty() {
            return Err(Unreadable);
        }
        let (verified, carried) = (flags & VERIFIED != 0, flags & CARRIED != 0);
        Ok(Self { name, libraries, verified, carried, files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_form_is_named_and_what_is_none_is_refused() {
        let package = Package { files: vec![("a.so".into(), b"bytes")], ..Package::default() };
        let mut bytes = package.to_bytes().unwrap();
        assert_eq!(Package::from_bytes(&bytes), Ok(package));
        bytes[8] = 2;
        assert_eq!(Package::from_bytes(&bytes), Err(Error::NewerModule { found: 2, known: 1 }));
        assert_eq!(Package::from_bytes(b"\x7fELF"), Err(Error::NoModule));
        let none = Package::default().to_bytes().unwrap();
        assert_eq!(Package::from_bytes(&none), Err(Error::NoModule), "a module has a file at least");
        let long = Package { name: Some("n".repeat(LONGEST + 1)), ..Package::default() };
        assert!(matches!(long.to_bytes(), Err(Error::TooLarge { .. })));
    }
}
