//! The second run: the same versions at the same frames, called directly. The modules are loaded by
//! the system's own loader, and the runtime has no part in it.

use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::crew::with_crew;
use crate::modules::Modules;
use crate::systems::{Call, SYSTEMS, Schedule, VERSIONS, VersionSet};
use crate::world::{City, Slice, StepReport, World};

type Function = unsafe extern "C" fn(&Slice, &World, &mut StepReport);

/// Runs a new city through `frames`, which names the versions of each frame, and returns its
/// checksum.
pub(crate) fn replay(
    modules: &Modules,
    frames: &[VersionSet],
    agents: u32,
    lanes: u32,
) -> Result<u64, String> {
    let libraries = (0..SYSTEMS.len() * VERSIONS)
        .map(|i| Library::open(modules.file(i / VERSIONS, (i % VERSIONS) as u8 + 1)))
        .collect::<Result<Vec<_>, _>>()?;
    // By call and version.
    let mut functions = Vec::new();
    for call in Call::ALL {
        let (system, name) = call.target();
        let versions = &libraries[system * VERSIONS..][..VERSIONS];
        functions.push(versions.iter().map(|library| library.function(name)).collect::<Result<Vec<_>, _>>()?);
    }

    let mut city = City::new(agents, lanes);
    let schedule = Schedule::new(lanes);
    let work = |lane: u32, &(tick, set): &(u32, VersionSet)| {
        schedule.run(lane, tick, &city, |call, slice, world, report| {
            let version = usize::from(set[call.target().0]);
            // SAFETY: the function is one of our modules', declared in city.h as `Function` is
            // here, and its library stays open until this function returns.
            unsafe { functions[call as usize][version - 1](slice, world, report) }
        });
    };
    with_crew(lanes, work, |crew| {
        for (tick, &set) in (0..).zip(frames) {
            schedule.reset();
            crew.run((tick, set));
        }
    });
    Ok(city.checksum())
}

/// A shared library, loaded by the system.
struct Library(*mut c_void);

impl Library {
    fn open(path: &Path) -> Result<Self, String> {
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: the name is a C string; what the library runs when it loads is our compiler's
        // start-up code.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() { Err(last_error()) } else { Ok(Library(handle)) }
    }

    fn function(&self, name: &str) -> Result<Function, String> {
        let name = CString::new(name).map_err(|error| error.to_string())?;
        // SAFETY: the handle is open and the name is a C string.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        if address.is_null() {
            return Err(last_error());
        }
        // SAFETY: city.h declares every function that a module exports with this signature.
        Ok(unsafe { std::mem::transmute::<*mut c_void, Function>(address) })
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nobody calls into the library any more.
        unsafe { libc::dlclose(self.0) };
    }
}

fn last_error() -> String {
    // SAFETY: dlerror returns NULL or a C string that lives until this thread's next call of the
    // family.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            "the system's loader failed and gave no reason".to_string()
        } else {
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}
