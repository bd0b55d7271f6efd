//! How data lies in memory: types by number, in a graph that pointers may close.

/// A type's number in its [`Layouts`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TypeId(u32);

/// The types of one version.
#[derive(Clone, Debug, Default)]
pub struct Layouts {
    types: Vec<Type>,
}

/// A type as it lies in memory. Sizes and offsets are in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Type {
    /// A number without a fraction; characters too.
    Integer {
        /// 1, 2, 4, 8 or 16.
        size: u64,
        /// Whether it may be negative.
        signed: bool,
    },
    /// A truth value: 0 or 1.
    Bool {
        /// 1, 2, 4 or 8.
        size: u64,
    },
    /// A number of IEEE 754.
    Float {
        /// 4 and 8 can be widened; others are kept as they are.
        size: u64,
    },
    /// Named numbers.
    Enum {
        /// What messages call it.
        name: Box<str>,
        /// 1, 2, 4 or 8.
        size: u64,
        /// Whether its numbers may be negative.
        signed: bool,
        /// The names, and what they stand for.
        values: Vec<(Box<str>, i64)>,
    },
    /// An address.
    Pointer {
        /// In general 8.
        size: u64,
        /// What is there.
        to: Target,
    },
    /// Elements of one type, one behind the other.
    Array {
        /// Their type.
        element: TypeId,
        /// How many there are.
        count: u64,
    },
    /// Members at offsets of their own: a structure or class, its bases among the members.
    Struct {
        /// What messages call it.
        name: Box<str>,
        /// With the padding at its end.
        size: u64,
        /// In any order.
        members: Vec<Member>,
    },
    /// Members of which one is there, and nothing says which.
    Union {
        /// What messages call it.
        name: Box<str>,
        /// Of the largest, and padding.
        size: u64,
        /// In any order.
        members: Vec<Member>,
    },
    /// What nothing is known of but the size.
    Opaque {
        /// What messages call it.
        name: Box<str>,
        /// All of it.
        size: u64,
    },
}

/// What a pointer leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// Data of a type.
    Data(TypeId),
    /// Data of which nothing is said (`void *`).
    Unknown,
    /// Code, or a table of functions: an address in the version that made it.
    Code,
}

/// A member of a structure or union.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Empty: it has none, as an unnamed structure within another.
    pub name: Box<str>,
    /// From the start of the structure. Of a bit field, of the byte that its lowest bit is in.
    pub offset: u64,
    /// Its type.
    pub of: TypeId,
    /// Of a bit field: which bits of the little-endian number at the offset.
    pub bits: Option<Bits>,
}

/// The bits of a bit field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bits {
    /// The lowest one's place in its byte: 0 to 7.
    pub first: u8,
    /// How many there are: 1 to 64.
    pub count: u8,
}

impl Layouts {
    /// Without any type.
    pub const fn new() -> Self {
        Self { types: Vec::new() }
    }

    /// Adds a type. It may name types that are added later.
    pub fn add(&mut self, of: Type) -> TypeId {
        self.types.push(of);
        self.next_before(1)
    }

    /// The number that the next type but `ahead` will have: for types that lead to each other.
    pub fn upcoming(&self, ahead: u32) -> TypeId {
        TypeId(u32::try_from(self.types.len()).expect("fewer than 2^32 types") + ahead)
    }

    fn next_before(&self, back: usize) -> TypeId {
        TypeId(u32::try_from(self.types.len() - back).expect("fewer than 2^32 types"))
    }

    /// The type of a number; None if there is none.
    pub fn get(&self, id: TypeId) -> Option<&Type> {
        self.types.get(id.0 as usize)
    }

    /// Bytes of a type; None if it is not all there, is more than 2^63, or contains itself.
    pub fn size(&self, id: TypeId) -> Option<u64> {
        let (mut at, mut times) = (id, 1_u64);
        for _ in 0..=DEEPEST {
            let size = match self.get(at)? {
                Type::Array { element, count } => {
                    times = times.checked_mul(*count)?;
                    at = *element;
                    continue;
                }
                Type::Integer { size, .. }
                | Type::Bool { size }
                | Type::Float { size }
                | Type::Enum { size, .. }
                | Type::Pointer { size, .. }
                | Type::Struct { size, .. }
                | Type::Union { size, .. }
                | Type::Opaque { size, .. } => *size,
            };
            return times.checked_mul(size).filter(|size| *size < 1 << 63);
        }
        None
    }

    /// As messages have it.
    pub fn name(&self, id: TypeId) -> String {
        let of = |id: TypeId| self.get(id);
        match of(id) {
            None => "a type that is not there".into(),
            Some(Type::Integer { size, signed }) => {
                format!("{}int{}_t", if *signed { "" } else { "u" }, size * 8)
            }
            Some(Type::Bool { .. }) => "bool".into(),
            Some(Type::Float { size }) => format!("float of {} bits", size * 8),
            Some(Type::Enum { name, .. }) => format!("enum {name}"),
            Some(Type::Pointer { to: Target::Code, .. }) => "pointer to code".into(),
            Some(Type::Pointer { to: Target::Unknown, .. }) => "void *".into(),
            Some(Type::Pointer { to: Target::Data(target), .. }) => match of(*target) {
                Some(Type::Struct { name, .. } | Type::Union { name, .. } | Type::Opaque { name, .. }) => {
                    format!("{name} *")
                }
                _ => "pointer".into(),
            },
            Some(Type::Array { count, .. }) => format!("array of {count}"),
            Some(Type::Struct { name, .. } | Type::Union { name, .. } | Type::Opaque { name, .. }) => {
                name.to_string()
            }
        }
    }
}

/// How deep structures and arrays may be in each other.
pub(crate) const DEEPEST: usize = 64;
