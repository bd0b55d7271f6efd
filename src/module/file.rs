//! A module's file: read once, named, parsed.

use std::fs;
use std::path::{Path, PathBuf};

use midflight_image::{Image, Machine};

use crate::Error;
use crate::code::MAX_BLOCK;

/// The bytes of a module, in private memory: what is checked is what is linked, whatever happens to the file meanwhile.
pub(crate) struct ModuleFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl ModuleFile {
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Ok(Self { path: path.into(), bytes })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn parse(&self, page_size: usize) -> Result<Image<'_>, Error> {
        let host = Machine::HOST.ok_or_else(|| Error::Unsupported {
            what: "midflight loads modules on x86-64 and AArch64".into(),
        })?;
        Image::parse(&self.bytes, host, page_size as u64, MAX_BLOCK as u64)
            .map_err(|source| self.wrong(source))
    }

    pub(crate) fn wrong(&self, source: midflight_image::Error) -> Error {
        Error::Image { path: self.path.clone(), source }
    }

    /// The module's name: its SONAME's stem, else its file's. `libmovement.so.2` is `movement`.
    pub(crate) fn name(&self, image: &Image<'_>) -> Result<String, Error> {
        let file = || self.path.file_name()?.to_str();
        let from = image.soname().filter(|soname| !soname.is_empty()).or_else(file);
        from.map(stem)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| Error::NoName { path: self.path.clone() })
    }
}

/// `libNAME.so`, `libNAME.so.1.2` and `NAME.so` to `NAME`.
pub(super) fn stem(file: &str) -> &str {
    let file = file.rsplit('/').next().unwrap_or(file);
    let end = file.find(".so.").or_else(|| file.strip_suffix(".so").map(str::len)).unwrap_or(file.len());
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
            (".so", ""),
            ("", ""),
        ] {
            assert_eq!(stem(file), name, "{file}");
        }
    }
}
