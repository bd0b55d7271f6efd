//! What a conflict is.

use std::fmt;

/// What kind of conflict it is. The numbers are those of the C API (`CONFLICT_TYPE_*`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(i32)]
pub enum Kind {
    /// A function is gone that others call, or that nobody defines, or that two modules export.
    ApiChange = 1,
    /// A function takes or returns something else.
    FunctionSignature = 2,
    /// A structure is laid out differently that the module shares with its callers.
    DataStructure = 3,
    /// What the loaded version leaves in memory, the candidate lays out differently.
    MemoryLayout = 4,
    /// A module is missing that another needs, or has a version that does not do, or modules need
    /// each other.
    DependencyChain = 5,
    /// An enumeration that state holds has other values.
    StateMachine = 6,
    /// Two modules say that the same resource is theirs alone.
    ResourceAccess = 7,
    /// Somebody else changes or has changed the same module.
    ConcurrentModification = 8,
    /// What the module's version says is not what has changed.
    SemanticMismatch = 9,
}

/// How grave a conflict is. The numbers are those of the C API (`CONFLICT_SEVERITY_*`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(i32)]
pub enum Severity {
    /// It is said; as far as is known nobody comes by it.
    Low = 1,
    /// It goes wrong if state or an address has been kept that nobody knows of.
    Medium = 2,
    /// It can be published, and somebody would go wrong.
    High = 3,
    /// It cannot be published: a load of it is refused.
    Critical = 4,
}

/// Where a conflict is. What is not known is empty, and a line is 0.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Place {
    /// The function, variable or type, as the linker or the source calls it; of a dependency the
    /// module, of a resource its name.
    pub symbol: String,
    /// The first member of a structure that has changed.
    pub member: String,
    /// The source file that it is declared in, without its folder; if that is not known, the
    /// candidate's file.
    pub file: String,
    /// The line in it.
    pub line: u32,
}

/// Something that does not go together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// How grave it is.
    pub severity: Severity,
    /// What it is.
    pub kind: Kind,
    /// The module that is about to be replaced or loaded.
    pub module: String,
    /// Where it is.
    pub place: Place,
    /// The other modules that are concerned, by name. [`Conflict::PROGRAM`] is the program itself.
    pub concerned: Vec<String>,
    /// What is wrong, in a sentence.
    pub message: String,
    /// What to do, in a sentence.
    pub proposal: String,
}

impl Conflict {
    /// What the program itself is called among those concerned. It is no name that a module can
    /// have.
    pub const PROGRAM: &'static str = "(the program)";
}

impl Kind {
    /// All kinds, by their numbers.
    pub const ALL: [Self; 9] = [
        Self::ApiChange,
        Self::FunctionSignature,
        Self::DataStructure,
        Self::MemoryLayout,
        Self::DependencyChain,
        Self::StateMachine,
        Self::ResourceAccess,
        Self::ConcurrentModification,
        Self::SemanticMismatch,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ApiChange => "function missing",
            Self::FunctionSignature => "signature changed",
            Self::DataStructure => "shared structure changed",
            Self::MemoryLayout => "state laid out differently",
            Self::DependencyChain => "dependency not met",
            Self::StateMachine => "values of state changed",
            Self::ResourceAccess => "resource is another's",
            Self::ConcurrentModification => "changed by somebody else",
            Self::SemanticMismatch => "version does not say what changed",
        })
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

/// `physics: high: signature changed: step: ...`, and what to do.
impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, kind, module, place, message, proposal, .. } = self;
        write!(f, "{module}: {severity}: {kind}: ")?;
        if !place.file.is_empty() {
            write!(f, "{}:", place.file)?;
            if place.line != 0 {
                write!(f, "{}:", place.line)?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{message}. {proposal}")
    }
}
