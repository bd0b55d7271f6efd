//! What stands in the way of a plan.

use std::fmt;

/// A member that no value can be carried over to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Obstacle {
    /// Where it is, such as `agents[].kind`; empty: the state itself.
    pub path: Box<str>,
    /// What is in the way.
    pub reason: Reason,
}

/// What is in the way.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// It has fewer bits than it had, and its value might not fit.
    Narrowed {
        /// Bits before.
        from: u64,
        /// Bits now.
        to: u64,
    },
    /// It may be negative, and is to be a number without a sign.
    SignLost,
    /// It is another kind of thing.
    KindChanged {
        /// What it was.
        from: Box<str>,
        /// What it is to be.
        to: Box<str>,
    },
    /// A name of an enumeration stands for another number, which values in the state mean.
    Renumbered {
        /// The name.
        name: Box<str>,
        /// Its number before.
        from: i64,
        /// Its number now.
        to: i64,
    },
    /// An enumeration has lost a name, whose number values may have.
    EnumeratorGone {
        /// The name.
        name: Box<str>,
    },
    /// An array has fewer elements.
    Shortened {
        /// Elements before.
        from: u64,
        /// Elements now.
        to: u64,
    },
    /// A pointer leads to data that is laid out in another way.
    PointerToChanged {
        /// What it leads to.
        name: Box<str>,
    },
    /// It is, or leads to, an address of code, which is that of the older version.
    Code,
    /// A union is not as it was, and nothing says which of its members is there.
    UnionChanged,
    /// Nothing is known of what is in it.
    Unknown {
        /// What it is called.
        name: Box<str>,
    },
    /// Several members have the same name, or none.
    Unnamed,
    /// A value is declared for a member that is not new, or not there.
    NothingAdded,
    /// The value that is declared for it has another size.
    DefaultOfAnotherSize {
        /// Bytes of the value.
        is: u64,
        /// Bytes of the member.
        wanted: u64,
    },
    /// The layout cannot be: a type is missing, contains itself, or a member is outside of its
    /// structure.
    Malformed,
    /// It would take more steps than are taken.
    TooLarge,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.path {
            "" => write!(f, "the state: {}", self.reason),
            path => write!(f, "`{path}`: {}", self.reason),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Narrowed { from, to } => {
                write!(f, "it has {to} bits where it had {from}, and its value might not fit")
            }
            Reason::SignLost => f.write_str("it may be negative, and now has no sign"),
            Reason::KindChanged { from, to } => write!(f, "it was {from} and now is {to}"),
            Reason::Renumbered { name, from, to } => {
                write!(
                    f,
                    "`{name}` was {from} and now is {to}: values of the state would mean something else"
                )
            }
            Reason::EnumeratorGone { name } => write!(f, "`{name}` is gone, and values may have it"),
            Reason::Shortened { from, to } => write!(f, "it has {to} elements where it had {from}"),
            Reason::PointerToChanged { name } => {
                write!(f, "what it leads to ({name}) is laid out in another way")
            }
            Reason::Code => f.write_str("it is or leads to an address of code, which is the older version's"),
            Reason::UnionChanged => {
                f.write_str("the union is not as it was, and nothing says which member is there")
            }
            Reason::Unknown { name } => {
                write!(f, "nothing is known of {name}: is its debug information there?")
            }
            Reason::Unnamed => f.write_str("several of its members have one name, or none"),
            Reason::NothingAdded => f.write_str("a value is declared for it, but it is not new"),
            Reason::DefaultOfAnotherSize { is, wanted } => {
                write!(f, "the value that is declared for it has {is} bytes, and it has {wanted}")
            }
            Reason::Malformed => f.write_str("its layout cannot be"),
            Reason::TooLarge => f.write_str("it takes too many steps"),
        }
    }
}
