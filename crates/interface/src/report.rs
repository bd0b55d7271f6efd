//! What [`Interface::compare`](crate::Interface::compare) answers.

use std::collections::BTreeSet;
use std::fmt;

/// The answer to one question.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Verdict {
    /// Nothing that matters to the question has changed.
    Compatible,
    /// It cannot be told: see [`Report::reason`].
    Unknown,
    /// At least one difference breaks what was built against the older version, or what it left
    /// behind.
    Incompatible,
}

/// A question that versions are compared by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Aspect {
    /// Whether what linked with the older version links with the newer one.
    Links,
    /// Whether code compiled against the older version calls the newer one rightly.
    Calls,
    /// Whether the newer version finds its data as it expects them where the older version left
    /// them.
    State,
}

/// What has changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The instruction set.
    Machine,
    /// An export is gone.
    ExportRemoved,
    /// An export is new. Compatible.
    ExportAdded,
    /// An export is a function in one version and a variable in the other, or is thread-local in
    /// one only.
    ExportKind,
    /// An exported variable has another size.
    ExportSize,
    /// An import that nobody defines. Compatible if it is weak.
    ImportUnresolved,
    /// A function's parameters or what it returns.
    Signature,
    /// A structure's, union's or class's size, members, bases or virtual functions.
    Layout,
    /// An enumeration's size or values. New names are compatible; so is to callers that names are
    /// gone.
    Enumeration,
    /// Another type that is used through a pointer.
    Type,
    /// The type of a variable.
    Variable,
    /// A variable is new. Compatible.
    VariableAdded,
    /// A variable is gone. Compatible.
    VariableRemoved,
}

/// One difference.
// In the order of lists: first what is incompatible.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[non_exhaustive]
pub struct Difference {
    /// It is said, but breaks nothing.
    pub compatible: bool,
    /// The verdict that it belongs to.
    pub aspect: Aspect,
    /// What has changed.
    pub kind: Kind,
    /// The symbol (as the linker knows it) or the type.
    pub subject: String,
    /// How it was; empty if it was not there.
    pub old: String,
    /// How it is now; empty if it is not there any more.
    pub new: String,
    /// The function or variable of the module that a type was first reached from; empty of symbols.
    pub through: String,
    /// Of a structure or an enumeration, the first member or name that has changed; else empty.
    pub member: String,
}

/// How two versions of a module differ: three verdicts, which say different things and are never
/// merged.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Report {
    /// What links with the one links with the other.
    pub links: Verdict,
    /// What calls the one can call the other.
    pub calls: Verdict,
    /// What the one left in memory the other understands.
    pub state: Verdict,
    /// Why `calls` and `state`, or a part of them, could not be told.
    pub reason: Option<String>,
    /// The first differences: those that are incompatible come first.
    pub differences: Vec<Difference>,
    /// How many there are, with those that are not listed.
    pub count: usize,
}

impl Report {
    /// One without differences: links, calls and state.
    pub fn bare([links, calls, state]: [Verdict; 3], reason: Option<String>) -> Self {
        Self { links, calls, state, reason, differences: Vec::new(), count: 0 }
    }

    /// Adds that an import of the newer version is defined by nobody, which only who links can
    /// know. `wanted` is what would have defined it, such as a version or a library; or empty.
    pub fn unresolved(&mut self, import: &crate::Import, wanted: &str) {
        let version = import.version.as_deref().map(|version| format!("@{version}")).unwrap_or_default();
        let from = if wanted.is_empty() { String::new() } else { format!(" of {wanted}") };
        let difference = Difference {
            compatible: import.weak,
            aspect: Aspect::Links,
            kind: Kind::ImportUnresolved,
            subject: import.name.to_string(),
            old: String::new(),
            new: format!("needs {}{version}{from}, which nobody defines", import.name),
            through: String::new(),
            member: String::new(),
        };
        if !difference.compatible {
            self.links = Verdict::Incompatible;
        }
        if let Err(at) = self.differences.binary_search(&difference) {
            self.differences.insert(at, difference);
            self.count += 1;
        }
    }

    /// Takes a function's new signature, or that it is gone, as no difference to who calls it: its
    /// callers are given another one.
    pub fn accept(&mut self, function: &str) {
        for difference in &mut self.differences {
            let by_function = matches!(difference.kind, Kind::Signature | Kind::ExportRemoved);
            difference.compatible |= by_function && difference.subject == function;
        }
        self.differences.sort();
        // What is not listed may be incompatible.
        if self.count > self.differences.len() {
            return;
        }
        let left = |aspect| self.differences.iter().any(|of| !of.compatible && of.aspect == aspect);
        if self.links == Verdict::Incompatible && !left(Aspect::Links) {
            self.links = Verdict::Compatible;
        }
        if self.calls == Verdict::Incompatible && !left(Aspect::Calls) {
            self.calls = if self.reason.is_some() { Verdict::Unknown } else { Verdict::Compatible };
        }
    }

    /// The verdict on one question.
    pub fn verdict(&self, aspect: Aspect) -> Verdict {
        match aspect {
            Aspect::Links => self.links,
            Aspect::Calls => self.calls,
            Aspect::State => self.state,
        }
    }
}

/// Differences while they are found. No more are kept than will be listed.
pub(crate) struct Differences {
    limit: usize,
    first: BTreeSet<Difference>,
    count: usize,
    incompatible: [bool; 3],
}

impl Differences {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, first: BTreeSet::new(), count: 0, incompatible: [false; 3] }
    }

    pub(crate) fn add(&mut self, difference: Difference) {
        self.count += 1;
        self.incompatible[difference.aspect as usize] |= !difference.compatible;
        self.first.insert(difference);
        if self.first.len() > self.limit {
            self.first.pop_last();
        }
    }

    /// With why calls and state cannot be told.
    pub(crate) fn report(self, [calls, state]: [Option<String>; 2]) -> Report {
        let verdict = |aspect: Aspect, unknown: bool| match (self.incompatible[aspect as usize], unknown) {
            (true, _) => Verdict::Incompatible,
            (false, true) => Verdict::Unknown,
            (false, false) => Verdict::Compatible,
        };
        Report {
            links: verdict(Aspect::Links, false),
            calls: verdict(Aspect::Calls, calls.is_some()),
            state: verdict(Aspect::State, state.is_some()),
            reason: calls.or(state),
            differences: self.first.into_iter().collect(),
            count: self.count,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Compatible => "compatible",
            Verdict::Unknown => "unknown",
            Verdict::Incompatible => "incompatible",
        })
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Aspect::Links => "links",
            Aspect::Calls => "calls",
            Aspect::State => "state",
        })
    }
}

/// The names of differences, which are those in C too (`compatibility_difference_t`).
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Machine => "machine changed",
            Kind::ExportRemoved => "export removed",
            Kind::ExportAdded => "export added",
            Kind::ExportKind => "export is something else",
            Kind::ExportSize => "size changed",
            Kind::ImportUnresolved => "import unresolved",
            Kind::Signature => "signature changed",
            Kind::Layout => "layout changed",
            Kind::Enumeration => "enumeration changed",
            Kind::Type => "type changed",
            Kind::Variable => "variable changed",
            Kind::VariableAdded => "variable added",
            Kind::VariableRemoved => "variable removed",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.aspect, self.kind, self.subject)?;
        match (&*self.old, &*self.new) {
            ("", "") => {}
            ("", new) => write!(f, ": `{new}`")?,
            (old, "") => write!(f, ": was `{old}`")?,
            (old, new) => write!(f, ": `{old}` is now `{new}`")?,
        }
        if !self.through.is_empty() {
            write!(f, " (reached from {})", self.through)?;
        }
        f.write_str(if self.compatible { " (compatible)" } else { "" })
    }
}

/// The three verdicts in a line, the reason, and a line for each difference.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "links {}, calls {}, state {}", self.links, self.calls, self.state)?;
        if let Some(reason) = &self.reason {
            write!(f, "\nnot all is known: {reason}")?;
        }
        for difference in &self.differences {
            write!(f, "\n{difference}")?;
        }
        match self.count.saturating_sub(self.differences.len()) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}
