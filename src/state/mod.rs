//! State that modules declare (`include/runtime_module.h`): its memory belongs to the runtime, and
//! the versions of a module share it.

mod storage;

pub(crate) use storage::{Held, How, Layout, Migration, Storage};
