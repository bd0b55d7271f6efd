//! A module's files: read once, named, parsed.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use midflight_image::{Format, Image, Input, Machine};
use midflight_interface::Interface;
use midflight_journal::Stored;

use super::kept::LoadedWith;
use crate::Error;
use crate::code::MAX_BLOCK;
use crate::platform::buffers::{self, Buffer};
use crate::platform::files::{ContentHash, Identity};
use crate::platform::{arch, files};

/// What a module is made of: a shared object; or object files and static archives, which are linked
/// as they are loaded.
///
/// A path alone is a source: `rt.load("libmovement.so")`, `rt.load("movement.o")`,
/// `rt.load("libmovement.a")`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    pub(super) name: Option<String>,
    pub(super) files: Vec<PathBuf>,
    pub(super) libraries: Vec<String>,
    /// What its one file holds, if that was read already.
    pub(super) content: Option<Content>,
}

/// What a file holds, which file it was, and the hash of all of it.
#[derive(Clone)]
pub(crate) struct Content(Arc<(Buffer, Identity)>, ContentHash);

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Content {}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.fmt(f)
    }
}

impl Source {
    /// One module of several object files and archives, in the order of a linker's command line:
    /// all object files, and of the archives the members that define what is still missing.
    /// Archives alone are taken whole.
    pub fn linked(name: impl Into<String>, files: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        let files = files.into_iter().map(Into::into).collect();
        Self { name: Some(name.into()), files, libraries: Vec::new(), content: None }
    }

    /// The file, or the first of them.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.files.first().map(PathBuf::as_path)
    }

    /// A file that was read already.
    pub(crate) fn read(path: &Path, content: Buffer, identity: Identity, hash: ContentHash) -> Self {
        Self { content: Some(Content(Arc::new((content, identity)), hash)), ..Self::from(path) }
    }

    /// A library of the system that the module needs, such as `libstdc++.so.6`, or another module.
    /// Shared objects name theirs themselves (DT_NEEDED); object files cannot. What the process
    /// has already in its global scope need not be named.
    pub fn needs(mut self, library: impl Into<String>) -> Self {
        self.libraries.push(library.into());
        self
    }
}

impl<P: AsRef<Path>> From<P> for Source {
    fn from(path: P) -> Self {
        Self { name: None, files: vec![path.as_ref().into()], libraries: Vec::new(), content: None }
    }
}

/// What files hold, each with its name for messages.
pub(crate) type Contents = Vec<(String, Arc<(Buffer, Identity)>)>;

/// Files, as the readers of images take them.
pub(super) fn inputs(contents: &Contents) -> Vec<Input<'_>> {
    contents.iter().map(|(name, file)| Input { name: name.as_str(), bytes: &file.0 }).collect()
}

/// Where a module's files were, and which they were.
pub(crate) struct OnDisk {
    pub(super) files: Vec<(PathBuf, Identity)>,
    pub(super) build_id: Option<Box<[u8]>>,
}

/// The bytes of a module, in private memory: what is checked is what is linked, whatever happens to
/// the files meanwhile.
pub(crate) struct ModuleFile {
    pub(super) source: Source,
    pub(super) contents: Contents,
    /// Its bytes in the journal, if they were put there.
    pub(super) stored: OnceLock<(Arc<Stored>, LoadedWith)>,
    /// It comes out of the journal: what is where it was by now may be another file.
    pub(super) restored: bool,
    extent: Extent,
    /// Of all that its files hold, if that is known.
    hash: OnceLock<ContentHash>,
    /// What the linker calls its content, once it was parsed and if that says.
    build_id: OnceLock<Box<[u8]>>,
    /// What it says of itself, once somebody has asked.
    interface: OnceLock<Arc<Interface>>,
}

/// How much of a module's files is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Extent {
    /// What is loaded.
    Loaded,
    /// Everything, debug information included.
    Whole,
    /// Everything, because debuggers or profilers read it.
    Observed,
}

impl ModuleFile {
    pub(crate) fn read(mut source: Source, extent: Extent) -> Result<Self, Error> {
        if source.files.is_empty() {
            return Err(Error::NoFiles);
        }
        if let Some(content) = source.content.take() {
            let contents = vec![(source.files[0].display().to_string(), content.0)];
            return Ok(Self::new(source, contents, extent, OnceLock::from(content.1)));
        }
        let read = |path: &PathBuf| match read(path, extent != Extent::Loaded) {
            Ok(read) => Ok((path.display().to_string(), Arc::new(read))),
            Err(source) => Err(Error::Read { path: path.clone(), source }),
        };
        let contents = source.files.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self::new(source, contents, extent, OnceLock::new()))
    }

    pub(super) fn new(
        source: Source,
        contents: Contents,
        extent: Extent,
        hash: OnceLock<ContentHash>,
    ) -> Self {
        Self {
            source,
            contents,
            stored: OnceLock::new(),
            restored: false,
            extent,
            hash,
            build_id: OnceLock::new(),
            interface: OnceLock::new(),
        }
    }

    /// Hashes its files, if they were read wholly and nobody has done so.
    pub(crate) fn hash(&self) {
        if self.extent != Extent::Loaded && self.hash.get().is_none() {
            let files = self.contents.iter().map(|(_, file)| ContentHash::of(&file.0));
            if let Some(hash) = ContentHash::of_all(&files.collect::<Vec<_>>()) {
                // Whoever was first has noted the same.
                let _ = self.hash.set(hash);
            }
        }
    }

    /// The hash of all that its files hold, if that is known.
    pub(crate) fn content_hash(&self) -> Option<ContentHash> {
        self.hash.get().copied()
    }

    /// Whether debuggers and profilers are to be told of it.
    pub(crate) fn observed(&self) -> bool {
        self.extent == Extent::Observed
    }

    /// Its files, as the readers of images take them.
    pub(crate) fn inputs(&self) -> Vec<Input<'_>> {
        inputs(&self.contents)
    }

    /// Whether it comes out of the journal.
    pub(crate) fn is_restored(&self) -> bool {
        self.restored
    }

    /// Notes what it says of itself.
    pub(crate) fn set_interface(&self, interface: Arc<Interface>) {
        // Whoever was first has noted the same.
        let _ = self.interface.set(interface);
    }

    /// Takes out what it says of itself, if that was noted.
    pub(crate) fn take_interface(&mut self) -> Option<Arc<Interface>> {
        self.interface.take()
    }

    /// Takes out what the files hold, each with its name.
    pub(crate) fn take_contents(&mut self) -> Contents {
        std::mem::take(&mut self.contents)
    }

    /// Where the files are, and which they were.
    pub(crate) fn on_disk(&mut self) -> OnDisk {
        let files = self.source.files.iter().zip(&self.contents);
        OnDisk {
            // The folder may be another by then.
            files: files
                .map(|(path, (_, file))| (std::path::absolute(path).unwrap_or_else(|_| path.clone()), file.1))
                .collect(),
            build_id: self.build_id.take(),
        }
    }

    /// The file, or the first of them.
    pub(crate) fn path(&self) -> &Path {
        &self.source.files[0]
    }

    /// Which file it was.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.contents.first().map(|(_, file)| file.1)
    }

    /// The libraries it needs: those its image names, and those its source adds.
    pub(crate) fn needed<'a>(&'a self, image: &'a Image<'_>) -> impl Iterator<Item = &'a str> {
        image.needed().iter().copied().chain(self.source.libraries.iter().map(String::as_str))
    }

    /// What who is linked with it calls it: its SONAME, else its file's name. None: nobody is
    /// linked with it.
    pub(crate) fn library<'a>(&'a self, image: &'a Image<'_>) -> Option<&'a str> {
        let soname = image.soname().filter(|soname| !soname.is_empty());
        let file = || {
            self.path().file_name()?.to_str().filter(|name| !name.ends_with(".o") && !name.ends_with(".a"))
        };
        soname.map(file_name).or_else(file)
    }

    pub(crate) fn parse(&self, page_size: usize) -> Result<Image<'_>, Error> {
        let host = Machine::HOST.ok_or_else(|| Error::Unsupported {
            what: "midflight loads modules on x86-64 and AArch64".into(),
        })?;
        let image = Image::parse_all(&self.inputs(), host, page_size as u64, MAX_BLOCK as u64);
        let image = image.map_err(|source| self.wrong(source))?;
        image.check_processor(arch::levels::levels()).map_err(|source| self.wrong(source))?;
        if let Some(id) = image.build_id() {
            // Whoever was first has noted the same.
            let _ = self.build_id.set(id.into());
        }
        if cfg!(target_os = "macos") && image.format() == Format::Elf {
            let what = format!(
                "{}: an ELF file, which macOS runs no code of: compile the module for arm64-apple-macos",
                self.path().display()
            );
            return Err(Error::Unsupported { what });
        }
        Ok(image)
    }

    pub(crate) fn wrong(&self, source: midflight_image::Error) -> Error {
        Error::Image { path: self.path().into(), source }
    }

    /// The module's name: the one it was given, else the one in its note, else its SONAME's stem,
    /// else its file's. `libmovement.so.2` is `movement`.
    pub(crate) fn name(&self, image: &Image<'_>) -> Result<String, Error> {
        let file = || self.path().file_name()?.to_str();
        let soname = image.soname().filter(|soname| !soname.is_empty());
        let stem = || soname.or_else(file).map(stem).map(str::to_owned);
        let note = || image.declared_name().map(str::to_owned);
        let name = self.source.name.clone().or_else(note).or_else(stem);
        name.filter(|name| !name.is_empty()).ok_or_else(|| Error::NoName { path: self.path().into() })
    }
}

/// The file as long as it is now, `whole` or as much as is loaded of it. One that shrinks meanwhile
/// is an error; what is appended was not there.
pub(super) fn read(path: &Path, whole: bool) -> std::io::Result<(Buffer, Identity)> {
    let (held, metadata) = files::open(path)?;
    let bytes = held.use_up(|file| read_open(file, metadata.len(), whole))?;
    Ok((bytes, Identity::from(&metadata)))
}

fn read_open(mut file: &File, length: u64, whole: bool) -> std::io::Result<Buffer> {
    // ELF's own tables number with 32 bits.
    let length = u32::try_from(length).map_err(|_| std::io::ErrorKind::FileTooLarge)? as usize;
    // No memory for what is not read.
    let mut start = buffers::take(length.min(START))?;
    file.read_exact(&mut start)?;
    let loaded = Image::loaded_length(&start).filter(|_| !whole);
    let loaded = loaded.and_then(|loaded| usize::try_from(loaded).ok()).unwrap_or(length);
    if loaded.min(length) <= start.len() {
        return Ok(start);
    }
    let mut bytes = buffers::take(loaded.min(length))?;
    bytes[..start.len()].copy_from_slice(&start);
    file.read_exact(&mut bytes[start.len()..])?;
    Ok(bytes)
}

/// What is read of a file to see what it is: all of a small one.
const START: usize = 16 << 10;

/// `libNAME.so`, `libNAME.so.1.2`, `NAME.so`, `libNAME.dylib`, `NAME.bundle`, `libNAME.a` and
/// `NAME.o` to `NAME`.
pub(crate) fn stem(file: &str) -> &str {
    let file = file_name(file);
    let ends = [".so", ".o", ".a", ".dylib", ".bundle"];
    let suffix = |name: &str| ends.iter().find_map(|end| name.strip_suffix(end)).map(str::len);
    let end = file.find(".so.").or_else(|| suffix(file)).unwrap_or(file.len());
    let name = &file[..end];
    name.strip_prefix("lib").filter(|rest| !rest.is_empty()).unwrap_or(name)
}

/// A path without its folders.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::stem;

    /// This program is a file with much in it that is not loaded.
    #[cfg(target_os = "linux")]
    #[test]
    fn there_is_memory_only_for_what_is_read() {
        let path = std::env::current_exe().unwrap();
        let (whole, identity) = super::read(&path, true).unwrap();
        let (loaded, same) = super::read(&path, false).unwrap();
        assert_eq!(whole.len() as u64, std::fs::metadata(&path).unwrap().len());
        assert_eq!(Some(loaded.len() as u64), midflight_image::Image::loaded_length(&whole));
        assert!(loaded.len() < whole.len() && whole.starts_with(&loaded) && identity == same);
    }

    #[test]
    fn a_name_is_what_is_left_without_lib_and_so() {
        for (file, name) in [
            ("libmovement.so", "movement"),
            ("libmovement.so.2.1", "movement"),
            ("movement.so", "movement"),
            ("movement", "movement"),
            ("lib.so", "lib"),
            ("build/libmovement.so", "movement"),
            ("libsolid.so", "solid"),
            ("movement.v2", "movement.v2"),
            ("movement.o", "movement"),
            ("libmovement.a", "movement"),
            ("movement.2.o", "movement.2"),
            ("@rpath/libmovement.dylib", "movement"),
            ("movement.bundle", "movement"),
            (".so", ""),
            ("", ""),
        ] {
            assert_eq!(stem(file), name, "{file}");
        }
    }
}
