//! A module's files as a journal keeps them, and as they come out of it again.

use std::sync::{Arc, OnceLock};

use midflight_journal::{Digest, Package, Stored};

use super::Source;
use super::file::{Contents, Extent, ModuleFile};
use crate::Error;
use crate::durable::Durable;
use crate::platform::buffers;
use crate::platform::files::Identity;

/// What a module is loaded with besides what its source says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LoadedWith {
    pub(crate) verified: bool,
    pub(crate) carried: bool,
}

impl ModuleFile {
    /// Its bytes in this journal, on the disk.
    pub(crate) fn keep(&self, durable: &Durable, with: LoadedWith) -> Result<Arc<Stored>, Error> {
        if let Some((stored, of)) = self.stored.get()
            && *of == with
            && durable.has(stored)
        {
            return Ok(stored.clone());
        }
        let paths = self.source.files.iter().map(|path| {
            // The process that brings it back may have another folder.
            std::path::absolute(path).unwrap_or_else(|_| path.clone())
        });
        let package = Package {
            name: self.source.name.clone(),
            libraries: self.source.libraries.clone(),
            verified: with.verified,
            carried: with.carried,
            files: paths.zip(self.contents.iter().map(|(_, file)| &*file.0)).collect(),
        };
        let bytes = package.to_bytes();
        let bytes = bytes.map_err(|source| durable.wrong(source))?;
        let stored = Arc::new(durable.put(&bytes)?);
        // Whoever was first has noted the same; or it is asked for with other options at last.
        let _ = self.stored.set((stored.clone(), with));
        Ok(stored)
    }

    /// Its bytes in the journal, if they were put there.
    pub(crate) fn stored(&self) -> Option<Arc<Stored>> {
        self.stored.get().map(|(stored, _)| stored.clone())
    }

    /// A module out of the journal, as it was loaded, and with what.
    pub(crate) fn restore(
        durable: &Durable,
        digest: Digest,
        extent: Extent,
    ) -> Result<(Self, LoadedWith), Error> {
        let bytes = durable.bytes(digest)?;
        let package = Package::from_bytes(&bytes);
        let package = package.map_err(|source| durable.wrong(source))?;
        let with = LoadedWith { verified: package.verified, carried: package.carried };
        // The same bytes again: they are compared, and held.
        let stored = Arc::new(durable.put(&bytes)?);
        let mut contents = Contents::new();
        for (path, bytes) in &package.files {
            let mut buffer =
                buffers::take(bytes.len()).map_err(|source| Error::Read { path: path.clone(), source })?;
            buffer.copy_from_slice(bytes);
            contents.push((path.display().to_string(), Arc::new((buffer, Identity::none()))));
        }
        let files = package.files.into_iter().map(|(path, _)| path).collect();
        let source = Source { name: package.name, files, libraries: package.libraries, content: None };
        let mut file = Self::new(source, contents, extent, OnceLock::new());
        file.stored = OnceLock::from((stored, with));
        file.restored = true;
        Ok((file, with))
    }
}
