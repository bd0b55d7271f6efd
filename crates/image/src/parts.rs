//! The parts of an image, in words that no file format owns.

/// What the pages of a region may be used for once the image is finished.
///
/// There is no writable and executable one: a segment that asks for it is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Protection {
    /// Constants, tables, and data that is read-only after relocation (RELRO).
    Read,
    /// Variables.
    ReadWrite,
    /// Code.
    ReadExecute,
}

/// A run of pages with one protection. `offset` and `len` are multiples of the page size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Region {
    /// From the start of the image.
    pub offset: u64,
    /// In bytes.
    pub len: u64,
    /// Of the finished image. While it is linked, everything must be writable.
    pub protection: Protection,
}

/// A symbol that the module uses and does not define.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Import<'a> {
    /// The symbol, as the linker wrote it (mangled).
    pub name: &'a str,
    /// The version that was there when the module was linked, such as `GLIBC_2.17`.
    pub version: Option<&'a str>,
    /// It may stay undefined; its address is then 0.
    pub weak: bool,
    /// Known to be a function: typed as one, or called through the procedure linkage table. A module that is
    /// linked without the libraries it uses has untyped imports, so `false` means "not known to be one".
    pub function: bool,
}

/// A symbol that the module defines for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Export<'a> {
    /// The symbol, as the linker wrote it (mangled).
    pub name: &'a str,
    /// From the start of the image.
    pub offset: u64,
    /// In bytes; 0 when the module does not say.
    pub size: u64,
    /// Typed as a function, or untyped (as assembly may leave it) and in an executable segment. It lies in one either way.
    pub function: bool,
}
