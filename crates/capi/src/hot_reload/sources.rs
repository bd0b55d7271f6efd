//! Modules of several files, and what they need.

use std::ffi::{c_char, c_int};
use std::time::Instant;

use midflight::Source;

use super::carry;
use super::{Given, HotReloadConfig, MAX_MODULES, reload};
use crate::errors::{Failure, Outcome, guarded};
use crate::gate::Call;
use crate::pointers::{self, Plain};
use crate::sized::{self, Sized};

/// `hot_reload_source_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct HotReloadSource {
    pub struct_size: u32,
    pub file_count: u32,
    pub files: *const *const c_char,
    pub name: *const c_char,
    pub needs: *const *const c_char,
    pub need_count: u32,
    pub carry: i32,
}

// SAFETY: numbers and pointers.
unsafe impl Plain for HotReloadSource {}
// SAFETY: as the size says.
unsafe impl Sized for HotReloadSource {}
const _: () = assert!(size_of::<HotReloadSource>() == 4 * 4 + 3 * 8);

/// The most files of a module, and the most that it needs.
const MOST: u32 = 65_536;

impl Given {
    /// `what` is what messages call the source.
    fn of_source(source: *const HotReloadSource, what: &str) -> Outcome<Self> {
        let source = sized::read(source, what)?;
        let most = |name: &str, count: u32, least: u32| match (least..=MOST).contains(&count) {
            true => Ok(()),
            false => Err(Failure::argument(format!("{what}: {name} is {count}: from {least} to {MOST}"))),
        };
        most("file_count", source.file_count, 1)?;
        most("need_count", source.need_count, 0)?;
        let carry = carry::read(source.carry, &format!("{what}: carry"))?;
        let strings = pointers::array(source.files, source.file_count as usize, &format!("{what}: files"))?;
        let path = |(at, string)| pointers::path(string, &format!("{what}: files[{at}]"));
        let files = strings.iter().copied().enumerate().map(path).collect::<Outcome<Vec<_>>>()?;
        let path = files[0].clone();
        let mut made = match (source.name.is_null(), files.len()) {
            (false, _) => Source::linked(pointers::name(source.name, &format!("{what}: name"))?, files),
            (true, 1) => Source::from(&path),
            (true, count) => {
                let message = format!(
                    "{what}: name is NULL, and there are {count} files: name the module that they are"
                );
                return Err(Failure::argument(message));
            }
        };
        if source.need_count > 0 {
            let needs = pointers::array(source.needs, source.need_count as usize, &format!("{what}: needs"))?;
            for (at, needed) in needs.into_iter().enumerate() {
                made = made.needs(pointers::name(needed, &format!("{what}: needs[{at}]"))?);
            }
        }
        Ok(Self { path, string: strings[0], source: made, carry })
    }
}

/// `hot_reload_source()`.
///
/// # Safety
///
/// The arguments are what the header says; the module's code is sound.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_source(
    source: *const HotReloadSource,
    reload_config: *const HotReloadConfig,
) -> c_int {
    let begun = Instant::now();
    guarded(|| {
        let call = Call::begin()?;
        let source = Given::of_source(source, "source")?;
        reload(call.runtime, &[source], &HotReloadConfig::given(reload_config)?, begun)
    })
}

/// `hot_reload_sources_atomic()`.
///
/// # Safety
///
/// As for [`hot_reload_source`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_sources_atomic(
    sources: *const *const HotReloadSource,
    source_count: u32,
    reload_config: *const HotReloadConfig,
) -> c_int {
    let begun = Instant::now();
    guarded(|| {
        let call = Call::begin()?;
        if !(1..=MAX_MODULES).contains(&source_count) {
            return Err(Failure::argument(format!(
                "source_count is {source_count}: from 1 to {MAX_MODULES}"
            )));
        }
        let sources = pointers::array(sources, source_count as usize, "sources")?.into_iter().enumerate();
        let sources = sources.map(|(at, source)| Given::of_source(source, &format!("sources[{at}]")));
        let sources = sources.collect::<Outcome<Vec<_>>>()?;
        reload(call.runtime, &sources, &HotReloadConfig::given(reload_config)?, begun)
    })
}
