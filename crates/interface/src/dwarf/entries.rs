//! All entries that types, functions and variables are described by, from the first to the last.

use std::collections::{HashMap, HashSet};

use gimli::{DwTag, UnitType, constants};

use super::attributes::{Attributes, Link, Location, Number};
use super::units::{File, Producer, Unit, Units};
use super::{DAMAGED, Reason, Sections, reason};
use crate::types::PartKind;
use midflight_image::debug::DebugInfo;

/// A namespace, class or function that names are in: its number in [`Raw::scopes`]. 0 is none.
pub(super) type Scope = u32;

/// A type, a function or a variable, as it is described.
pub(super) struct Entry<'d> {
    /// Counted over `.debug_info` and `.debug_types`, one after the other.
    pub(super) offset: usize,
    pub(super) tag: DwTag,
    pub(super) unit: u32,
    pub(super) scope: Scope,
    pub(super) name: &'d [u8],
    pub(super) target: Link,
    pub(super) origin: Link,
    pub(super) class: Link,
    pub(super) signature: Option<u64>,
    pub(super) size: Option<u64>,
    pub(super) encoding: u8,
    pub(super) file: File,
    pub(super) line: u32,
    /// It is in the source that was compiled, and in no header.
    pub(super) in_source: bool,
    pub(super) declaration: bool,
    pub(super) external: bool,
    pub(super) vector: bool,
    pub(super) parts: Vec<RawPart<'d>>,
}

/// A part of a type: see [`PartKind`].
pub(super) struct RawPart<'d> {
    pub(super) kind: PartKind,
    pub(super) name: &'d [u8],
    pub(super) value: i64,
    pub(super) bits: u32,
    pub(super) target: Link,
}

/// A function with code, or a variable with memory.
pub(super) struct Defined<'d> {
    /// In [`Raw::entries`].
    pub(super) entry: u32,
    pub(super) place: Location,
    pub(super) linkage: &'d [u8],
}

/// What the debug information says, not yet joined.
#[derive(Default)]
pub(crate) struct Raw<'d> {
    /// By offset.
    pub(super) entries: Vec<Entry<'d>>,
    pub(super) functions: Vec<Defined<'d>>,
    pub(super) variables: Vec<Defined<'d>>,
    /// The scope that each is in, and its name.
    pub(super) scopes: Vec<(Scope, &'d [u8])>,
    /// The types that units stand for, by signature.
    pub(super) signatures: HashMap<u64, usize>,
    pub(super) units: Vec<RawUnit<'d>>,
    /// The names of files, by their numbers.
    pub(super) files: Vec<&'d [u8]>,
    /// Classes whose source has a constructor or a destructor, by their numbers in `entries`.
    pub(super) constructed: HashSet<usize>,
    scope_numbers: HashMap<(Scope, &'d [u8]), Scope>,
}

/// What is known of a unit.
pub(super) struct RawUnit<'d> {
    /// Of its source.
    pub(super) name: &'d [u8],
    /// It leaves types undefined that its source defines.
    pub(super) sparse: bool,
    /// It says which code belongs to which line, and nothing of types or variables.
    pub(super) lines_only: bool,
    /// It is of Rust's standard library, which has lines only as it comes, and keeps nothing of a
    /// module's that others see.
    pub(super) of_rusts_own: bool,
}

/// What of a unit's entries tells whether it has lines only.
#[derive(Default)]
struct Said {
    /// Something has a type.
    types: bool,
    /// A function has code.
    code: bool,
    /// One says that its parameters are known.
    prototypes: bool,
    /// One does not even say where it was declared.
    bare: bool,
}

/// An entry that others are in.
struct Frame {
    depth: isize,
    scope: Scope,
    in_function: bool,
    role: Role,
}

/// Where an entry is.
struct At {
    offset: usize,
    tag: DwTag,
    scope: Scope,
    in_function: bool,
    parent: Role,
}

#[derive(Clone, Copy)]
enum Role {
    Other,
    Aggregate(usize),
    Function(usize),
    /// Of an aggregate: it has one variant of several, chosen by a number.
    Variant(usize, i64),
    /// What is in it describes one use of a function.
    Inlined,
}

impl<'d> Raw<'d> {
    pub(crate) fn read(debug: &'d DebugInfo<'_>) -> Result<Self, Reason> {
        let sections = Sections::of(debug);
        let units = Units::read(sections)?;
        let mut raw = Raw { scopes: vec![(0, &[])], ..Raw::default() };
        // Several attributes may take no byte.
        let mut left = (sections.info.len() + sections.types.len()).saturating_mul(16);
        for unit in &units.units {
            if let UnitType::Type { type_signature, type_offset } = unit.header.type_() {
                let at = unit.start.checked_add(type_offset.0).ok_or(DAMAGED)?;
                raw.signatures.entry(type_signature.0).or_insert(at);
            }
            raw.units.push(RawUnit {
                name: unit.name,
                sparse: unit.of_type || unit.sparse,
                lines_only: false,
                of_rusts_own: unit.of_rusts_own,
            });
            let said = raw.unit(&units, unit, &mut left)?;
            let last = raw.units.last_mut().expect("it was just put there");
            last.lines_only = !unit.is_assembly()
                && !unit.of_type
                && !said.types
                && match unit.producer {
                    // gcc notes its options, unless it is told not to. The code may be in another
                    // unit (-flto).
                    Producer::Gcc { notes_lines_only: true, .. } => true,
                    Producer::Gcc { notes_debug, .. } => {
                        unit.is_c() && !notes_debug && said.code && !said.prototypes
                    }
                    // clang describes each function that has code, or but those in which others
                    // were inlined.
                    Producer::Clang => unit.has_code && (said.bare || !said.code),
                    Producer::Other => false,
                };
        }
        raw.files = units.into_file_names();
        Ok(raw)
    }

    /// The entry that a link leads to.
    pub(super) fn find(&self, link: Link) -> Option<u32> {
        let offset = match link {
            Link::None => return None,
            Link::At(offset) => offset,
            Link::Type(signature) => *self.signatures.get(&signature)?,
        };
        let at = self.entries.binary_search_by_key(&offset, |entry| entry.offset);
        at.ok().map(|at| at as u32)
    }

    fn scope(&mut self, parent: Scope, name: &'d [u8]) -> Scope {
        let next = self.scopes.len() as Scope;
        let number = *self.scope_numbers.entry((parent, name)).or_insert(next);
        if number == next {
            self.scopes.push((parent, name));
        }
        number
    }

    fn unit(&mut self, units: &Units<'d>, unit: &Unit<'d>, left: &mut usize) -> Result<Said, Reason> {
        let mut said = Said::default();
        let abbreviations = units.abbreviations(unit)?;
        let mut entries = unit.header.entries_raw(abbreviations, None).map_err(reason)?;
        let mut frames: Vec<Frame> = Vec::new();
        while !entries.is_empty() {
            let (offset, depth) = (unit.start + entries.next_offset().0, entries.next_depth());
            let Some(abbreviation) = entries.read_abbreviation().map_err(reason)? else { continue };
            while frames.last().is_some_and(|frame| frame.depth >= depth) {
                frames.pop();
            }
            let (mut scope, mut in_function, parent) = frames
                .last()
                .map_or((0, false, Role::Other), |frame| (frame.scope, frame.in_function, frame.role));
            let (tag, specifications) = (abbreviation.tag(), abbreviation.attributes());
            *left = left.checked_sub(specifications.len()).ok_or(DAMAGED)?;
            let role;
            if matters(tag, parent) {
                in_function |= tag == constants::DW_TAG_subprogram;
                let attributes = Attributes::read(units, unit, &mut entries, specifications)?;
                said.types |= attributes.target != Link::None || is_type(tag);
                if tag == constants::DW_TAG_subprogram {
                    said.prototypes |= attributes.prototyped;
                    let has_code = matches!(attributes.low, Location::Address(_));
                    said.code |= has_code;
                    let refers = attributes.origin != Link::None;
                    said.bare |=
                        has_code && !refers && !attributes.artificial && !attributes.declared_somewhere;
                }
                role = self.entry(units, unit, At { offset, tag, scope, in_function, parent }, &attributes);
                if opens_scope(tag) {
                    let declared = self.find(attributes.origin).map(|origin| &self.entries[origin as usize]);
                    let declared = declared.map(|entry| (entry.scope, entry.name));
                    let (parent, name) = declared.unwrap_or((scope, attributes.name));
                    scope = self.scope(parent, name);
                }
            } else {
                entries.skip_attributes(specifications).map_err(reason)?;
                role = match (tag, parent) {
                    (constants::DW_TAG_inlined_subroutine, _) | (_, Role::Inlined) => Role::Inlined,
                    // Parameters that a template has any number of.
                    (constants::DW_TAG_GNU_formal_parameter_pack, Role::Function(_)) => parent,
                    _ => Role::Other,
                };
            }
            if abbreviation.has_children() {
                frames.push(Frame { depth, scope, in_function, role });
            }
        }
        Ok(said)
    }

    fn entry(&mut self, units: &Units<'d>, unit: &Unit<'d>, at: At, attributes: &Attributes<'d>) -> Role {
        let At { offset, tag, scope, in_function, parent } = at;
        if let (constants::DW_TAG_subprogram, Role::Aggregate(owner)) = (tag, parent)
            && !attributes.artificial
        {
            let class = self.entries[owner].name.split(|byte| *byte == b'<').next().unwrap_or_default();
            let name = attributes.name;
            if name.starts_with(b"~") || !class.is_empty() && name == class {
                self.constructed.insert(owner);
            }
        }
        match (tag, parent) {
            (constants::DW_TAG_namespace, _) => return Role::Other,
            (constants::DW_TAG_variable, _) if attributes.place == Location::Elsewhere => return Role::Other,
            (constants::DW_TAG_subprogram, Role::Aggregate(owner)) if attributes.is_virtual => {
                self.virtual_function(owner, attributes);
            }
            (constants::DW_TAG_member, Role::Aggregate(_) | Role::Variant(..))
                // Shared by all objects: a variable.
                if attributes.external || attributes.declaration => {}
            (constants::DW_TAG_member | constants::DW_TAG_inheritance, Role::Aggregate(owner) | Role::Variant(owner, _)) => {
                if let Role::Variant(_, chosen_by) = parent {
                    self.part(owner, PartKind::Variant, attributes.name, chosen_by, Link::None);
                }
                self.member(owner, tag, attributes);
                return Role::Other;
            }
            (constants::DW_TAG_variant_part, Role::Aggregate(owner)) => return Role::Aggregate(owner),
            (constants::DW_TAG_variant, Role::Aggregate(owner)) => {
                return Role::Variant(owner, attributes.value.known().unwrap_or(-1));
            }
            (constants::DW_TAG_template_type_parameter, Role::Aggregate(owner)) => {
                self.part(owner, PartKind::Argument, attributes.name, 0, attributes.target);
                return Role::Other;
            }
            (constants::DW_TAG_enumerator, Role::Aggregate(owner)) => {
                let value = attributes.value.known().unwrap_or(0);
                self.part(owner, PartKind::Enumerator, attributes.name, value, Link::None);
                return Role::Other;
            }
            (constants::DW_TAG_subrange_type | constants::DW_TAG_generic_subrange, Role::Aggregate(owner)) => {
                self.part(owner, PartKind::Dimension, &[], attributes.elements(), Link::None);
                return Role::Other;
            }
            (constants::DW_TAG_formal_parameter, Role::Function(owner)) => {
                // gcc's own: which parts of the object are to go.
                if !(attributes.artificial && attributes.name == b"__in_chrg") {
                    self.part(owner, PartKind::Parameter, &[], 0, attributes.target);
                }
                return Role::Other;
            }
            (constants::DW_TAG_unspecified_parameters, Role::Function(owner)) => {
                self.part(owner, PartKind::Variadic, &[], 0, Link::None);
                return Role::Other;
            }
            (
                constants::DW_TAG_member
                | constants::DW_TAG_inheritance
                | constants::DW_TAG_variant_part
                | constants::DW_TAG_variant
                | constants::DW_TAG_template_type_parameter
                | constants::DW_TAG_enumerator
                | constants::DW_TAG_generic_subrange
                | constants::DW_TAG_formal_parameter
                | constants::DW_TAG_unspecified_parameters,
                _,
            ) => return Role::Other,
            _ => {}
        }
        let index = self.entries.len();
        let defined = |place| Defined { entry: index as u32, place, linkage: attributes.linkage };
        match tag {
            constants::DW_TAG_subprogram if !unit.is_assembly() => {
                self.functions.push(defined(attributes.low));
            }
            constants::DW_TAG_variable if attributes.place != Location::None => {
                self.variables.push(defined(attributes.place));
            }
            // A constant: its value is known wherever it is used, though it may have memory.
            constants::DW_TAG_variable if !in_function && attributes.value != Number::None => {
                self.variables.push(defined(Location::Elsewhere));
            }
            // Of thread-local variables gcc does not say on AArch64 where they are.
            constants::DW_TAG_variable if !in_function && !attributes.declaration => {
                self.variables.push(defined(Location::None));
            }
            _ => {}
        }
        self.entries.push(Entry {
            offset,
            tag,
            unit: (self.units.len() - 1) as u32,
            scope,
            name: attributes.name,
            target: attributes.target,
            origin: attributes.origin,
            class: attributes.class,
            signature: attributes.signature,
            size: attributes.size,
            encoding: attributes.encoding,
            file: attributes.file,
            line: attributes.line,
            in_source: is_aggregate(tag) && unit.has_headers() && units.is_source(unit, attributes.file),
            declaration: attributes.declaration,
            external: attributes.external,
            vector: attributes.vector,
            parts: Vec::new(),
        });
        match tag {
            constants::DW_TAG_subprogram | constants::DW_TAG_subroutine_type => Role::Function(index),
            constants::DW_TAG_enumeration_type | constants::DW_TAG_array_type => Role::Aggregate(index),
            _ if is_aggregate(tag) => Role::Aggregate(index),
            _ => Role::Other,
        }
    }

    fn part(&mut self, owner: usize, kind: PartKind, name: &'d [u8], value: i64, target: Link) {
        self.entries[owner].parts.push(RawPart { kind, name, value, bits: 0, target });
    }

    fn member(&mut self, owner: usize, tag: DwTag, attributes: &Attributes<'d>) {
        let storage = || {
            let of = self.find(attributes.target).and_then(|target| self.entries[target as usize].size);
            of.unwrap_or(0)
        };
        let value = attributes.bit_offset(storage);
        let mut part = RawPart {
            kind: PartKind::Member,
            name: attributes.name,
            value,
            bits: attributes.bits.map_or(0, |bits| bits.min(u32::MAX.into()) as u32),
            target: attributes.target,
        };
        if tag == constants::DW_TAG_inheritance {
            part.kind = PartKind::Base;
            part.name = &[];
        } else if attributes.name.starts_with(b"_vptr") {
            // Each compiler has a name and a type of its own for it.
            part.name = b"_vptr";
            part.target = Link::None;
        }
        self.entries[owner].parts.push(part);
    }

    /// A place in the table of virtual functions.
    fn virtual_function(&mut self, owner: usize, attributes: &Attributes<'d>) {
        // Compilers declare those that the source does not, where they need them.
        if attributes.artificial {
            return;
        }
        // clang has no symbol for a destructor, which stands for several.
        let destructor = attributes.linkage.is_empty() || attributes.name.starts_with(b"~");
        let name = if destructor { attributes.name } else { attributes.linkage };
        let index = attributes.virtual_index.known().unwrap_or(-1);
        // Nor do compilers agree whether to say where it is.
        let index = if attributes.name.starts_with(b"~") { 0 } else { index };
        self.part(owner, PartKind::Virtual, name, index, Link::None);
    }
}

/// Whether an entry says something here. Most of them are local variables, parameters of what was
/// inlined, and calls.
fn matters(tag: DwTag, parent: Role) -> bool {
    match tag {
        constants::DW_TAG_formal_parameter | constants::DW_TAG_unspecified_parameters => {
            matches!(parent, Role::Function(_))
        }
        constants::DW_TAG_variable
        | constants::DW_TAG_subprogram
        | constants::DW_TAG_namespace
        | constants::DW_TAG_member
        | constants::DW_TAG_inheritance
        | constants::DW_TAG_variant_part
        | constants::DW_TAG_variant
        | constants::DW_TAG_template_type_parameter
        | constants::DW_TAG_enumerator
        | constants::DW_TAG_generic_subrange => true,
        _ => is_type(tag),
    }
}

pub(super) fn is_aggregate(tag: DwTag) -> bool {
    matches!(
        tag,
        constants::DW_TAG_structure_type
            | constants::DW_TAG_class_type
            | constants::DW_TAG_union_type
            | constants::DW_TAG_interface_type
    )
}

/// Another name for a type, or what may be done with it.
pub(super) fn is_modifier(tag: DwTag) -> bool {
    matches!(
        tag,
        constants::DW_TAG_typedef
            | constants::DW_TAG_template_alias
            | constants::DW_TAG_const_type
            | constants::DW_TAG_volatile_type
            | constants::DW_TAG_restrict_type
            | constants::DW_TAG_atomic_type
            | constants::DW_TAG_immutable_type
            | constants::DW_TAG_packed_type
            | constants::DW_TAG_shared_type
    )
}

fn is_type(tag: DwTag) -> bool {
    is_aggregate(tag)
        || is_modifier(tag)
        || matches!(
            tag,
            constants::DW_TAG_base_type
                | constants::DW_TAG_pointer_type
                | constants::DW_TAG_reference_type
                | constants::DW_TAG_rvalue_reference_type
                | constants::DW_TAG_ptr_to_member_type
                | constants::DW_TAG_enumeration_type
                | constants::DW_TAG_array_type
                | constants::DW_TAG_subroutine_type
                | constants::DW_TAG_subrange_type
                | constants::DW_TAG_unspecified_type
                | constants::DW_TAG_string_type
                | constants::DW_TAG_set_type
                | constants::DW_TAG_file_type
        )
}

fn opens_scope(tag: DwTag) -> bool {
    is_aggregate(tag) || matches!(tag, constants::DW_TAG_namespace | constants::DW_TAG_subprogram)
}
