//! A module's files: read once, named, parsed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use midflight_image::{Format, Image, Input, Machine};
use midflight_interface::Interface;

use crate::code::MAX_BLOCK;
use crate::debug::Identity;
use crate::{Error, buffers, files};

/// What a module is made of: a shared object; or object files and static archives, which are linked as they are loaded.
///
/// A path alone is a source: `rt.load("libmovement.so")`, `rt.load("movement.o")`, `rt.load("libmovement.a")`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    name: Option<String>,
    files: Vec<PathBuf>,
    libraries: Vec<String>,
    /// What its one file holds, if that was read already.
    content: Option<Vec<u8>>,
}

impl Source {
    /// One module of several object files and archives, in the order of a linker's command line: all object files, and of
    /// the archives the members that define what is still missing. Archives alone are taken whole.
    pub fn linked(name: impl Into<String>, files: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        let files = files.into_iter().map(Into::into).collect();
        Self { name: Some(name.into()), files, libraries: Vec::new(), content: None }
    }

    /// The file, or the first of them.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.files.first().map(PathBuf::as_path)
    }

    /// A file that was read already.
    pub(crate) fn read(path: &Path, content: Vec<u8>) -> Self {
        Self { content: Some(content), ..Self::from(path) }
    }

    /// A library of the system that the module needs, such as `libstdc++.so.6`, or another module. Shared objects name theirs
    /// themselves (DT_NEEDED); object files cannot. What the process has already in its global scope need not be named.
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

/// The bytes of a module, in private memory: what is checked is what is linked, whatever happens to the files meanwhile.
pub(crate) struct ModuleFile {
    source: Source,
    /// Of each file, with its name for messages.
    contents: Vec<(String, Vec<u8>)>,
    /// Of the first file.
    identity: Option<Identity>,
    extent: Extent,
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
            let contents = vec![(source.files[0].display().to_string(), content)];
            return Ok(Self { source, contents, identity: None, extent, interface: OnceLock::new() });
        }
        let mut identity = None;
        let read = |path: &PathBuf| match read(path, extent != Extent::Loaded) {
            Ok((bytes, of)) => {
                identity.get_or_insert(of);
                Ok((path.display().to_string(), bytes))
            }
            Err(source) => Err(Error::Read { path: path.clone(), source }),
        };
        let contents = source.files.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { source, contents, identity, extent, interface: OnceLock::new() })
    }

    /// Whether debuggers and profilers are to be told of it.
    pub(crate) fn observed(&self) -> bool {
        self.extent == Extent::Observed
    }

    /// Its files, as the readers of images take them.
    pub(crate) fn inputs(&self) -> Vec<Input<'_>> {
        self.contents.iter().map(|(name, bytes)| Input { name: name.as_str(), bytes }).collect()
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
    pub(crate) fn take_contents(&mut self) -> Vec<(String, Vec<u8>)> {
        std::mem::take(&mut self.contents)
    }

    /// The file, or the first of them.
    pub(crate) fn path(&self) -> &Path {
        &self.source.files[0]
    }

    /// Which file it was.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// The libraries it needs: those its image names, and those its source adds.
    pub(crate) fn needed<'a>(&'a self, image: &'a Image<'_>) -> impl Iterator<Item = &'a str> {
        image.needed().iter().copied().chain(self.source.libraries.iter().map(String::as_str))
    }

    pub(crate) fn parse(&self, page_size: usize) -> Result<Image<'_>, Error> {
        let host = Machine::HOST.ok_or_else(|| Error::Unsupported {
            what: "midflight loads modules on x86-64 and AArch64".into(),
        })?;
        let image = Image::parse_all(&self.inputs(), host, page_size as u64, MAX_BLOCK as u64);
        let image = image.map_err(|source| self.wrong(source))?;
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

    /// The module's name: the one it was given, else the one in its note, else its SONAME's stem, else its file's. `libmovement.so.2` is
    /// `movement`.
    pub(crate) fn name(&self, image: &Image<'_>) -> Result<String, Error> {
        let file = || self.path().file_name()?.to_str();
        let soname = image.soname().filter(|soname| !soname.is_empty());
        let stem = || soname.or_else(file).map(stem).map(str::to_owned);
        let note = || image.declared_name().map(str::to_owned);
        let name = self.source.name.clone().or_else(note).or_else(stem);
        name.filter(|name| !name.is_empty()).ok_or_else(|| Error::NoName { path: self.path().into() })
    }
}

impl Drop for ModuleFile {
    fn drop(&mut self) {
        self.contents.drain(..).for_each(|(_, bytes)| buffers::give_back(bytes));
    }
}

/// The file as long as it is now, `whole` or as much as is loaded of it. One that shrinks meanwhile is an error; what is appended
/// was not there.
fn read(path: &Path, whole: bool) -> std::io::Result<(Vec<u8>, Identity)> {
    let (held, metadata) = files::open(path)?;
    let mut file = held.get()?;
    let length = metadata.len();
    // ELF's own tables number with 32 bits.
    let length = u32::try_from(length).map_err(|_| std::io::ErrorKind::FileTooLarge)? as usize;
    let mut bytes = buffers::take(length)?;
    let start = length.min(START);
    file.read_exact(&mut bytes[..start])?;
    if let Some(loaded) = Image::loaded_length(&bytes[..start]).filter(|_| !whole) {
        bytes.truncate(start.max(usize::try_from(loaded).unwrap_or(length)));
    }
    file.read_exact(&mut bytes[start..])?;
    // What was read is another's, if the program has closed this one meanwhile.
    held.get()?;
    Ok((bytes, Identity::from(&metadata)))
}

/// What is read of a file to see what it is: all of a small one.
const START: usize = 16 << 10;

/// `libNAME.so`, `libNAME.so.1.2`, `NAME.so`, `libNAME.dylib`, `NAME.bundle`, `libNAME.a` and `NAME.o` to `NAME`.
pub(super) fn stem(file: &str) -> &str {
    let file = file.rsplit('/').next().unwrap_or(file);
    let ends = [".so", ".o", ".a", ".dylib", ".bundle"];
    let suffix = |name: &str| ends.iter().find_map(|end| name.strip_suffix(end)).map(str::len);
    let end = file.find(".so.").or_else(|| suffix(file)).unwrap_or(file.len());
    let name = &file[..end];
    name.strip_prefix("lib").filter(|rest| !rest.is_empty()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::stem;

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
