//! The part of `conflict_resolution.h` that is about functions for old callers.

use std::ffi::{c_char, c_int};

use midflight::{Adapter, AdapterId, Unsaid};

use crate::errors::{Failure, guarded};
use crate::gate::Call;
use crate::pointers::{self, Output, Plain, fill};
use crate::sized::{self, Sized};

/// `compatibility_adapter_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct CompatibilityAdapter {
    pub struct_size: u32,
    pub unsaid: i32,
    pub module: *const c_char,
    pub symbol: *const c_char,
    pub signature: *const c_char,
    pub adapter_module: *const c_char,
    pub adapter_symbol: *const c_char,
}

/// `function_signature_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct FunctionSignature {
    pub text: [c_char; 256],
}

// SAFETY: numbers and addresses, which are looked at before they are used.
unsafe impl Plain for CompatibilityAdapter {}
// SAFETY: as the size says.
unsafe impl Sized for CompatibilityAdapter {}
// SAFETY: bytes.
unsafe impl Plain for FunctionSignature {}
const _: () = assert!(size_of::<CompatibilityAdapter>() == 8 + 5 * size_of::<usize>());

const UNSAID: [Unsaid; 3] = [Unsaid::Refuse, Unsaid::Old, Unsaid::New];

/// `register_compatibility_adapter()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn register_compatibility_adapter(
    adapter: *const CompatibilityAdapter,
    adapter_id: *mut u64,
) -> c_int {
    guarded(|| {
        let output = Output::new(adapter_id, "adapter_id")?;
        let call = Call::begin()?;
        let given = sized::read(adapter, "adapter")?;
        let unsaid = usize::try_from(given.unsaid).ok().and_then(|at| UNSAID.get(at)).ok_or_else(|| {
            Failure::argument(format!(
                "adapter: its unsaid is {}, which is none of compatibility_unsaid_t",
                given.unsaid
            ))
        })?;
        let name = |text, what| pointers::name(text, what);
        let adapter = Adapter::new(
            name(given.module, "adapter: module")?,
            name(given.symbol, "adapter: symbol")?,
            name(given.signature, "adapter: signature")?,
            (
                name(given.adapter_module, "adapter: adapter_module")?,
                name(given.adapter_symbol, "adapter: adapter_symbol")?,
            ),
        );
        output.put(call.runtime.add_adapter(&adapter.unsaid(*unsaid))?.number());
        Ok(())
    })
}

/// `unregister_compatibility_adapter()`.
#[unsafe(no_mangle)]
pub extern "C" fn unregister_compatibility_adapter(adapter_id: u64) -> c_int {
    guarded(|| {
        let call = Call::begin()?;
        match call.runtime.remove_adapter(AdapterId::of(adapter_id))? {
            true => Ok(()),
            false => Err(Failure::argument(format!("there is no adapter {adapter_id}"))),
        }
    })
}

/// `hot_reload_function_signature()`.
///
/// # Safety
///
/// The arguments are what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hot_reload_function_signature(
    module: *const c_char,
    symbol: *const c_char,
    signature: *mut FunctionSignature,
) -> c_int {
    guarded(|| {
        let output = Output::new(signature, "signature")?;
        let call = Call::begin()?;
        let (module, symbol) = (pointers::name(module, "module")?, pointers::name(symbol, "symbol")?);
        // Who asks once will ask again, of a file that may have been overwritten by then.
        call.runtime.set_keep_files(true);
        let said = call.runtime.signature(&module, &symbol)?;
        let said = said.ok_or_else(|| {
            let message = format!(
                "the signature of `{symbol}` of {module} is not known: it is not loaded, has no such function, or was built without -g"
            );
            Failure::new(midflight::ErrorKind::CompatibilityUnknown, message)
        })?;
        output.put(FunctionSignature { text: fill(&said) });
        Ok(())
    })
}
