//! What is below everything else: the kernel (`os`) and the instruction set (`arch`), which name
//! nothing above them, and what is made of them alone.

pub(crate) mod arch;
pub(crate) mod assemble;
pub(crate) mod buffers;
pub(crate) mod files;
pub(crate) mod lockless;
pub(crate) mod os;
pub(crate) mod threads;
