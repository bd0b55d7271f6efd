//! What there is at an address, for who finds one in a crash.

use std::path::Path;

use crate::call::{slots, trampolines};
use crate::host::loaded;

/// How current is what an address is in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Standing {
    /// A version that is being loaded: its constructors may be running, or its load has failed and
    /// it is about to go.
    Coming,
    /// The version that frames opened now run.
    Current,
    /// A version that was replaced, or whose module was unloaded, and that is still in memory.
    Old,
    /// A version that is gone. Its memory may not be there any more.
    Gone,
    /// A stable address ([`Runtime::symbol`](crate::Runtime::symbol)), which is in no version: what
    /// it calls is the frame's, or what is current.
    Trampoline,
}

/// What there is at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct AddressDescription<'d> {
    /// How current it is.
    pub standing: Standing,
    /// The name of the module.
    pub module: &'d str,
    /// The number of the version; None of a trampoline.
    pub version: Option<u64>,
    /// The file that the version was read from; None of a trampoline.
    pub path: Option<&'d Path>,
    /// Whether it is code, or else data.
    pub is_code: bool,
    /// The name of the exported symbol that it is in, as the file has it: `c++filt` and `rustfilt`
    /// know mangled ones.
    pub symbol: Option<&'d [u8]>,
    /// How far it is from the start of that; 0 if there is none.
    pub offset: u64,
    /// The address in the file's own numbering, as `addr2line` and `objdump` take it. 0 of a
    /// trampoline. Of object files and archives, which have none: how far it is from the start
    /// of the module in memory.
    pub file_address: u64,
}

/// Tells what there is at an address, if it is in a module: a version's, of whatever age, or a
/// trampoline. None if it is the program's, a library's or nobody's.
///
/// For handlers of crashes, which find addresses in registers and on stacks. Async-signal-safe, if
/// `tell` is: it takes no lock and allocates nothing. Of versions that are gone the latest 128 are
/// known.
pub fn describe_address<T>(address: *const (), tell: impl FnOnce(&AddressDescription<'_>) -> T) -> Option<T> {
    let address = address.addr();
    if let Some((slot, offset)) = trampolines::find(address) {
        let (module, symbol) = slots::name(slot)?.split_once("::")?;
        return Some(tell(&AddressDescription {
            standing: Standing::Trampoline,
            module,
            version: None,
            path: None,
            is_code: true,
            symbol: Some(symbol.as_bytes()),
            offset: offset as u64,
            file_address: 0,
        }));
    }
    let mut tell = Some(tell);
    let mut tell = |description: &AddressDescription<'_>| tell.take().map(|tell| tell(description));
    let there = loaded::find(address as u64, |object| {
        let name = object.name_at(address as u64);
        tell(&AddressDescription {
            standing: match object.standing() {
                loaded::Standing::Coming => Standing::Coming,
                loaded::Standing::Current => Standing::Current,
                loaded::Standing::Old => Standing::Old,
            },
            module: object.file.module(),
            version: Some(object.file.version()),
            path: Some(object.file.as_path()),
            is_code: object.is_code(address as u64 - object.base),
            symbol: name.map(|(name, _)| name),
            offset: name.map_or(0, |(_, offset)| offset),
            file_address: (address as u64).wrapping_sub(object.bias),
        })
    });
    let gone = || {
        super::explain(address, true, |at| {
            let name = at.name();
            tell(&AddressDescription {
                standing: Standing::Gone,
                module: &at.past.module,
                version: Some(at.past.number),
                path: Some(&at.past.path),
                is_code: at.is_code(),
                symbol: name.map(|(name, _)| name),
                offset: name.map_or(0, |(_, offset)| offset),
                file_address: (address as u64).wrapping_sub(at.past.bias),
            })
        })
    };
    there.or_else(gone).flatten()
}
