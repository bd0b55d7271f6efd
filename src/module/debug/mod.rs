//! What the process is told of a version's code, and forgets before that code goes.
//!
//! `gdb` has its names and lines; `perf_map` and `jitdump` are written for profilers when the
//! configuration asks for them. Its place is in `host/loaded.rs`, which modules ask.

mod gdb;
mod jitdump;
mod perf_map;

use std::ffi::c_void;
use std::io;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use midflight_image::Image;
use midflight_image::debug::SymbolFile;

use crate::Error;
use crate::host::dynamic::Scope;
#[cfg(target_os = "linux")]
use crate::host::iterate;
use crate::host::loaded::{self, FileOnDisk, FrameHeader, Object};
use crate::platform::buffers;
use crate::platform::os::unwind::Frames;

/// When gdb is told the names and lines of what is loaded. Telling it takes a copy of a module's
/// symbols and debug information with the addresses they have here: 8 % of the time of loading a
/// small module without any, and 1.6 ms for each MiB of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Gdb {
    /// From when it is attached: it then waits for new symbol files by a breakpoint, which is seen.
    /// What was loaded before it came is told at its next reload.
    #[default]
    WhenAttached,
    /// Always: for programs that it is attached to later, and for debuggers that leave no
    /// breakpoint in memory (emulators' gdb servers).
    Always,
    /// Never.
    Never,
}

/// Who is told of code, as the configuration asks.
pub(crate) struct Observers {
    gdb: Gdb,
    perf_map: Option<perf_map::PerfMap>,
    jitdump: Option<jitdump::JitDump>,
}

impl Observers {
    /// A map for perf if that is asked for; a dump of the code in the folder that is named.
    pub(crate) fn new(gdb: Gdb, perf_map: bool, jitdump: Option<&Path>) -> Result<Self, Error> {
        let jitdump = jitdump.map(jitdump::JitDump::create).transpose()?;
        let perf_map = perf_map.then(perf_map::PerfMap::create).transpose()?;
        Ok(Self { gdb, perf_map, jitdump })
    }

    /// Whether somebody is there to read a module's symbols and its code. Asked once for each
    /// module: it decides what is read of its file.
    pub(crate) fn are_there(&self) -> bool {
        self.perf_map.is_some() || self.jitdump.is_some() || self.tells_gdb()
    }

    fn tells_gdb(&self) -> bool {
        match self.gdb {
            Gdb::WhenAttached => gdb::is_attached(),
            Gdb::Always => true,
            Gdb::Never => false,
        }
    }

    /// Tells profilers of an image that is linked for `base` in `memory`, and gathers what is to be
    /// registered when it is there.
    ///
    /// `memory` is the whole image if observers [`are_there`](Self::are_there), which is what
    /// `watched` says. `frames` is the offset of its call frame information, as
    /// [`unwind::Plan`](crate::module::unwind::Plan) left it.
    pub(crate) fn describe(
        &mut self,
        image: &Image<'_>,
        file: FileOnDisk,
        base: u64,
        memory: &[u8],
        watched: bool,
        frames: Option<usize>,
    ) -> Result<Description, Error> {
        if let Some(map) = &mut self.perf_map {
            map.add(&image.symbols(), base)?;
        }
        if let Some(dump) = &mut self.jitdump {
            dump.add(&image.symbols(), &image.debug(base).lines(), base, memory)?;
        }
        let frames = frames.map(|offset| base + offset as u64);
        let bias = image.bias(base).unwrap_or(base);
        let (regions, header) = (image.regions().into(), frames.map(FrameHeader::new));
        let object = Object::new([base, bias], regions, header, file, image.export_tables());
        let for_gdb =
            (watched && self.tells_gdb()).then(|| image.symbol_file(base, memory, buffers::take_vector()));
        Ok(Description { frames, object, for_gdb })
    }
}

/// What is to be registered for a version.
pub(crate) struct Description {
    /// The address of its call frame information.
    frames: Option<u64>,
    object: Object,
    for_gdb: Option<SymbolFile>,
}

impl Description {
    /// Of a version that asks for symbols and libraries by name: what it reaches.
    pub(crate) fn reaching(mut self, scope: Scope) -> Self {
        self.object.scope = Some(Arc::new(scope));
        self
    }

    /// Why gdb is not told of the module's debug information, although it has some.
    pub(crate) fn omitted(&self) -> Option<&'static str> {
        self.for_gdb.as_ref()?.omitted
    }

    /// # Safety
    ///
    /// The image is where it was said to be, and stays there unchanged until the registration is
    /// dropped.
    pub(crate) unsafe fn register(self) -> Registration {
        let code = self.object.code();
        let frames = self.frames.and_then(|address| NonNull::new(address as *mut c_void));
        // SAFETY: the caller promises that the image stays as it is until the registration is
        // dropped, of a section that is in the image or behind it.
        let frames = frames.map(|section| unsafe { Frames::register(section, code) });
        #[cfg(target_os = "linux")]
        iterate::prepare();
        let loaded = loaded::Registered::new(self.object);
        let gdb = self.for_gdb.map(|file| gdb::Registered::new(file.bytes));
        Registration { _gdb: gdb, loaded, _frames: frames }
    }
}

/// All that is registered for a version. Made when its memory is sealed and before any of its code
/// runs, and dropped before that memory goes.
pub(crate) struct Registration {
    // Dropped in this order, the reverse of that in which they were made.
    _gdb: Option<gdb::Registered>,
    pub(crate) loaded: loaded::Registered,
    _frames: Option<Frames>,
}

impl Registration {
    /// Greater than those of registrations before.
    pub(crate) fn number(&self) -> u64 {
        self.loaded.number
    }
}

/// A file for profilers that cannot be written.
fn failed(path: &std::path::Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::Profile { path, source }
}
