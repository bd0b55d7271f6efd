//! Types as they are kept and compared: a graph without typedefs, qualifiers, units or files.

/// A type's number in [`Types`].
pub(crate) type Id = u32;

/// No type: what a function returns that returns nothing, and what `void *` points to.
pub(crate) const VOID: Id = 0;

/// A text in [`Types::names`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Name {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Kind {
    Void,
    /// DW_ATE_*: characters count as the integers that they are.
    Base(u8),
    Pointer,
    Reference,
    RvalueReference,
    MemberPointer,
    Struct,
    Union,
    Enum,
    Array,
    /// An array that is passed as a value (SIMD).
    Vector,
    Function,
    /// A structure that the module has only the name of, or several definitions.
    Declared,
    /// DW_TAG_* of what no other is.
    Other(u16),
}

/// A type. What its target and parts are depends on its kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Type {
    pub(crate) kind: Kind,
    /// Of structures: nobody who only calls can see what is in it. Of pointers: of what it points
    /// to.
    pub(crate) opaque: bool,
    /// Of pointers: what they point to is not written through them.
    pub(crate) constant: bool,
    /// As messages call it.
    pub(crate) name: Name,
    /// In bytes; 0 of what has none.
    pub(crate) size: u64,
    /// What it points to, is made of or returns.
    pub(crate) target: Id,
    /// In [`Types::parts`].
    pub(crate) first_part: u32,
    pub(crate) parts: u32,
}

/// What a part of a type is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(crate) enum PartKind {
    /// The value is where it begins, in bits; -1 if that is worked out while the module runs.
    Member,
    /// As a member, of a class that the class is derived from.
    Base,
    /// A virtual function; the value is its place.
    Virtual,
    /// A member that is there if the discriminant has this value.
    Variant,
    /// A type that a template was made with: containers whose members do not lead to what is in
    /// them say it here.
    Argument,
    /// A name of a value.
    Enumerator,
    Parameter,
    /// There may be more parameters.
    Variadic,
    /// The value is the number of elements; 0 if that is open.
    Dimension,
    /// One of the definitions there are of a declared type.
    Definition,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) kind: PartKind,
    /// It leads from a header to a structure that is in no header.
    pub(crate) hidden: bool,
    pub(crate) name: Name,
    pub(crate) value: i64,
    /// Of a bit field; 0 of others.
    pub(crate) bits: u32,
    pub(crate) target: Id,
}

/// The types of a module: each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Types {
    pub(crate) types: Box<[Type]>,
    pub(crate) parts: Box<[Part]>,
    pub(crate) names: Box<str>,
}

impl Types {
    pub(crate) fn get(&self, id: Id) -> &Type {
        &self.types[id as usize]
    }

    pub(crate) fn parts(&self, of: &Type) -> &[Part] {
        &self.parts[of.first_part as usize..][..of.parts as usize]
    }

    pub(crate) fn name(&self, name: Name) -> &str {
        &self.names[name.start as usize..][..name.len as usize]
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        size_of_val(&*self.types) + size_of_val(&*self.parts) + self.names.len()
    }
}

impl Kind {
    /// What has members or values of its own, and a name.
    pub(crate) fn is_aggregate(self) -> bool {
        matches!(self, Kind::Struct | Kind::Union | Kind::Enum | Kind::Declared)
    }
}
