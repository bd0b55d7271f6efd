//! Types as C writes them, in a line. What would be long is cut.

use crate::types::{Id, Kind, Part, PartKind, Type, Types};

/// In characters, about.
const LONGEST: usize = 240;
const DEPTH: u32 = 12;
const PARAMETERS: usize = 32;

impl Types {
    /// A type without const and typedefs, and of structures only the name.
    pub(crate) fn text(&self, id: Id) -> String {
        shorten(self.declare(id, String::new(), DEPTH))
    }

    /// A function's type, if it can be said whole.
    pub(crate) fn signature(&self, id: Id) -> Option<String> {
        let of = self.get(id);
        let parts = self.parts(of);
        if of.kind != Kind::Function || parts.len() >= PARAMETERS {
            return None;
        }
        let text = self.declare(id, String::new(), DEPTH);
        // Dots that do not stand for a variable number of parameters stand for what was left out.
        let open = usize::from(parts.iter().any(|part| part.kind == PartKind::Variadic));
        let is_whole = text.len() <= LONGEST && text.matches("...").count() == open;
        is_whole.then_some(text)
    }

    /// That of all of these, if it is the same.
    pub(crate) fn signature_of_all(&self, ids: &[Id]) -> Option<String> {
        let (first, rest) = ids.split_first()?;
        let first = self.signature(*first)?;
        rest.iter().all(|id| self.signature(*id).as_ref() == Some(&first)).then_some(first)
    }

    /// What `inner` is declared as.
    fn declare(&self, id: Id, inner: String, depth: u32) -> String {
        let of = self.get(id);
        if depth == 0 || inner.len() > LONGEST {
            return spaced("...", &inner);
        }
        match of.kind {
            Kind::Void => spaced("void", &inner),
            Kind::Pointer | Kind::Reference | Kind::RvalueReference => {
                let mark = match of.kind {
                    Kind::Pointer => "*",
                    Kind::Reference => "&",
                    _ => "&&",
                };
                let binds = matches!(self.get(of.target).kind, Kind::Array | Kind::Function);
                let inner = if binds { format!("({mark}{inner})") } else { format!("{mark}{inner}") };
                self.declare(of.target, inner, depth - 1)
            }
            Kind::MemberPointer => {
                let class = self.parts(of).first().map_or_else(String::new, |part| self.named(part.target));
                let binds = matches!(self.get(of.target).kind, Kind::Array | Kind::Function);
                let inner = if binds { format!("({class}::*{inner})") } else { format!("{class}::*{inner}") };
                self.declare(of.target, inner, depth - 1)
            }
            Kind::Array => self.declare(of.target, inner + &self.dimensions(of), depth - 1),
            Kind::Vector => {
                let element = self.declare(of.target, String::new(), depth - 1);
                spaced(&format!("vector {element}{}", self.dimensions(of)), &inner)
            }
            Kind::Function => {
                let (mut parameters, mut length) = (Vec::new(), 0);
                for (index, part) in self.parts(of).iter().enumerate() {
                    if part.kind == PartKind::Variadic || index == PARAMETERS || length > LONGEST {
                        parameters.push("...".into());
                        break;
                    }
                    let text = self.declare(part.target, String::new(), depth.min(6) - 1);
                    length += text.len();
                    parameters.push(text);
                }
                if parameters.is_empty() {
                    parameters.push("void".into());
                }
                let inner = format!("{inner}({})", parameters.join(", "));
                self.declare(of.target, inner, depth - 1)
            }
            _ => spaced(&self.named(id), &inner),
        }
    }

    /// The definitions of a name.
    pub(crate) fn called(&self, name: &str) -> impl Iterator<Item = Id> {
        let is_called = move |id: &Id| {
            let of = self.get(*id);
            let own = self.name(of.name);
            let same = own == name || own.len() > LONGEST && shorten(own.into()) == name;
            same && !own.is_empty() && of.kind.is_aggregate() && of.kind != Kind::Declared
        };
        (0..self.types.len() as Id).filter(is_called)
    }

    /// All definitions of a name, each with its size and parts.
    pub(crate) fn layout(&self, name: &str) -> Option<String> {
        let mut layouts: Vec<String> = self
            .called(name)
            .map(|id| {
                let of = self.get(id);
                let parts = self.parts(of).iter().map(|part| format!("\n{}", self.part_text(part)));
                format!("{} bytes:{}", of.size, parts.collect::<String>())
            })
            .collect();
        layouts.sort_unstable();
        (!layouts.is_empty()).then(|| layouts.join("\n"))
    }

    fn dimensions(&self, of: &Type) -> String {
        let dimension = |part: &Part| match part.value {
            0 => "[]".to_string(),
            count => format!("[{count}]"),
        };
        self.parts(of).iter().take(8).map(dimension).collect()
    }

    /// The name of a type that has one.
    pub(crate) fn named(&self, id: Id) -> String {
        let of = self.get(id);
        match (self.name(of.name), of.kind) {
            ("", Kind::Struct) => "struct (anonymous)".into(),
            ("", Kind::Union) => "union (anonymous)".into(),
            ("", Kind::Enum) => "enum (anonymous)".into(),
            ("", Kind::Other(_)) => format!("an unusual type of {} bytes", of.size),
            ("", _) => "a type without a name".into(),
            (name, _) => name.into(),
        }
    }

    /// What a part is called: `hp`.
    pub(crate) fn part_name(&self, part: &Part) -> String {
        match (part.kind, self.name(part.name)) {
            (PartKind::Base, _) => format!("base {}", self.named(part.target)),
            (_, "") => "(anonymous)".into(),
            (PartKind::Virtual, name) => format!("virtual {name}"),
            (_, name) => name.into(),
        }
    }

    /// A part of a structure: `hp: int at 8`.
    pub(crate) fn part_text(&self, part: &Part) -> String {
        let name = self.part_name(part);
        let place = match (part.value, part.bits) {
            (-1, _) => "at a place of its own".to_string(),
            (bit, 0) if bit % 8 == 0 => format!("at {}", bit / 8),
            (bit, _) => format!("at bit {bit}"),
        };
        shorten(match part.kind {
            PartKind::Member if part.bits != 0 => {
                format!("{name}: {}:{} {place}", self.text(part.target), part.bits)
            }
            PartKind::Member => format!("{name}: {} {place}", self.text(part.target)),
            PartKind::Base => format!("{name} {place}"),
            PartKind::Virtual => format!("{name} is number {}", part.value),
            PartKind::Variant => format!("{name} is variant {}", part.value),
            PartKind::Argument => format!("{name}: {}", self.text(part.target)),
            PartKind::Enumerator => format!("{name} = {}", part.value),
            PartKind::Parameter | PartKind::Definition => self.text(part.target),
            PartKind::Variadic => "...".into(),
            PartKind::Dimension => format!("[{}]", part.value),
        })
    }
}

fn spaced(name: &str, inner: &str) -> String {
    match inner {
        "" => name.to_string(),
        inner if inner.starts_with('[') => format!("{name}{inner}"),
        inner => format!("{name} {inner}"),
    }
}

pub(crate) fn shorten(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text += "...";
    }
    text
}
