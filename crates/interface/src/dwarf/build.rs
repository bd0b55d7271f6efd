//! From entries to types: links followed, typedefs and qualifiers left out, declarations joined
//! with definitions; only what can be reached from exported functions and from variables.

use std::collections::{HashMap, HashSet};

use gimli::{DwTag, constants};

use super::attributes::{Link, Location};
use super::data::{Constructed, Data, Placed, Storage};
use super::entries::{Entry, RawPart, Scope, is_aggregate, is_modifier};
use super::merge::{Node, merge};
use super::{NAMES, Raw, Reason};
use crate::places::{Files, Place, Places};
use crate::types::{Id, Kind, Name, Part, PartKind, Types, VOID};

/// How many modifiers a type may have, arrays may be of arrays, and entries may complete one
/// another.
const CHAIN: usize = 32;
/// Of a name with those of what it is in.
const LONGEST: usize = 8192;

/// An export that is to be found.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    /// In the numbering of the debug information; none if only the name can tell.
    pub(crate) address: Option<u64>,
    pub(crate) function: bool,
}

/// What was found.
pub(crate) struct Found {
    pub(crate) types: Types,
    /// For each export that was wanted: the function's type; of a variable any.
    pub(crate) exports: Vec<Option<Id>>,
    /// For each import that was asked for: the types that it is declared with where it is used.
    pub(crate) imports: Vec<Vec<Id>>,
    /// By name.
    pub(crate) data: Vec<Placed>,
    pub(crate) places: Places,
    /// The source of a unit that has lines only.
    pub(crate) untyped: Option<Box<str>>,
}

pub(super) type Key<'d> = (Scope, &'d [u8]);

/// Where a link leads, through typedefs and qualifiers.
pub(super) struct Reached {
    pub(super) entry: Option<u32>,
    /// By a typedef of another file than the definition's.
    foreign: bool,
    constant: bool,
}

enum Source<'d> {
    Entry(u32),
    /// And what the first declaration calls it.
    Declared(Key<'d>, DwTag),
}

/// The work on one module.
pub(crate) struct Build<'r, 'd> {
    pub(super) raw: &'r Raw<'d>,
    is_read_only: &'r dyn Fn(u64) -> bool,
    thread_locals: bool,
    pub(super) definitions: HashMap<Key<'d>, Vec<u32>>,
    /// Those that some unit does without the definition of.
    declared: HashSet<Key<'d>>,
    /// What a typedef calls a type without a name.
    typedefs: HashMap<u32, u32>,
    nodes: Vec<Node>,
    /// Of the nodes from the second on: what they are made from.
    sources: Vec<Source<'d>>,
    of_entry: Vec<Option<Id>>,
    of_declared: HashMap<Key<'d>, Id>,
    names: String,
    name_numbers: HashMap<Box<str>, Name>,
    name_limit: usize,
}

impl<'r, 'd> Build<'r, 'd> {
    /// `size`: of all debug information. `thread_locals`: there are some, and it may not say where.
    /// `is_read_only`: of an address, whether nothing can be written there.
    pub(crate) fn new(
        raw: &'r Raw<'d>,
        size: usize,
        thread_locals: bool,
        is_read_only: &'r dyn Fn(u64) -> bool,
    ) -> Self {
        let mut build = Self {
            raw,
            is_read_only,
            thread_locals,
            definitions: HashMap::new(),
            declared: HashSet::new(),
            typedefs: HashMap::new(),
            nodes: vec![node(Kind::Void)],
            sources: Vec::new(),
            of_entry: vec![None; raw.entries.len()],
            of_declared: HashMap::new(),
            names: String::new(),
            name_numbers: HashMap::new(),
            name_limit: size.saturating_mul(4) + (1 << 20),
        };
        build.index();
        build
    }

    fn index(&mut self) {
        let (mut here, mut declared) = (HashSet::new(), Vec::new());
        for (index, entry) in (0..).zip(&self.raw.entries) {
            if entry.tag == constants::DW_TAG_typedef {
                if let Some(target) = self.raw.find(entry.target)
                    && self.raw.entries[target as usize].name.is_empty()
                {
                    self.typedefs.entry(target).or_insert(index);
                }
                continue;
            }
            if !is_aggregate(entry.tag) && entry.tag != constants::DW_TAG_enumeration_type {
                continue;
            }
            let key = self.key(entry);
            if key.1.is_empty() || entry.signature.is_some() {
                continue;
            }
            if !entry.declaration {
                self.definitions.entry(key).or_default().push(index);
                here.insert((key, entry.unit));
            } else if !self.raw.units[entry.unit as usize].sparse {
                declared.push((key, entry.unit));
            }
        }
        let without = declared.into_iter().filter(|place| !here.contains(place));
        self.declared.extend(without.map(|(key, _)| key));
    }

    /// Finds the exports and all variables, and makes their types.
    pub(crate) fn find(mut self, wanted: &[Wanted<'_>], imports: &[&str]) -> Result<Found, Reason> {
        let mut files = Files::new(&self.raw.files);
        let (exports, export_places) = self.exports(wanted, &mut files);
        let mut imports = self.imports(imports);
        let (mut data, mut constructed) = (Vec::new(), Constructed::new(self.raw));
        for variable in &self.raw.variables {
            match variable.place {
                Location::Address(0 | u64::MAX) | Location::Elsewhere => continue,
                Location::None if !self.thread_locals => continue,
                _ => {}
            }
            let chain = self.chain(variable.entry);
            let Some(named) = chain.iter().find(|entry| !entry.name.is_empty()) else { continue };
            let target = chain.iter().map(|entry| entry.target).find(|target| *target != Link::None);
            let Some(target) = target else { continue };
            let source = self.raw.units[self.raw.entries[variable.entry as usize].unit as usize].name;
            let external = chain.iter().any(|entry| entry.external);
            let place = Storage::of(variable.place);
            let constructed = constructed.is(&self, target);
            let data_of = Data {
                name: self.qualified(named).into(),
                source: (!external).then(|| String::from_utf8_lossy(source).into()),
                constant: self.is_constant(target),
                read_only: matches!(variable.place, Location::Address(address) if (self.is_read_only)(address)),
                target: self.id(target),
            };
            data.push(Placed { data: data_of, place, constructed });
        }
        let mut next = 0;
        while let Some(source) = self.sources.get(next) {
            next += 1;
            match *source {
                Source::Entry(entry) => self.fill(next, entry)?,
                Source::Declared(key, tag) => self.fill_declared(next, key, tag)?,
            }
        }
        let (types, numbers) = merge(self.nodes, self.names);
        let mut type_places = vec![Place::default(); types.types.len()];
        // The first node is void, and made from nothing.
        for (source, number) in self.sources.iter().zip(&numbers[1..]) {
            let Source::Entry(entry) = *source else { continue };
            let entry = &self.raw.entries[entry as usize];
            let place = &mut type_places[*number as usize];
            if types.get(*number).kind.is_aggregate() && *place == Place::default() {
                *place = files.place(entry.file, entry.line);
            }
        }
        for variable in &mut data {
            variable.data.target = numbers[variable.data.target as usize];
        }
        data.sort();
        data.dedup();
        let exports = exports.into_iter().map(|id| id.map(|id| numbers[id as usize])).collect();
        for ids in &mut imports {
            ids.iter_mut().for_each(|id| *id = numbers[*id as usize]);
            ids.sort_unstable();
            ids.dedup();
        }
        let untyped = self.raw.units.iter().find(|unit| unit.lines_only && !unit.of_rusts_own);
        Ok(Found {
            types,
            exports,
            imports,
            data,
            places: Places { exports: export_places.into(), types: type_places.into(), files: files.named() },
            untyped: untyped.map(|unit| String::from_utf8_lossy(unit.name).into()),
        })
    }

    /// Of each its type, and its place.
    fn exports(&mut self, wanted: &[Wanted<'_>], files: &mut Files<'_, '_>) -> (Vec<Option<Id>>, Vec<Place>) {
        let (mut places, mut names) = ([HashMap::new(), HashMap::new()], [HashMap::new(), HashMap::new()]);
        for (kind, defined) in [(1, &self.raw.functions), (0, &self.raw.variables)] {
            for defined in defined {
                match defined.place {
                    Location::Address(0 | u64::MAX) => continue,
                    Location::Address(address) => {
                        places[kind].entry(address).or_insert(defined.entry);
                    }
                    _ => {}
                }
                let declaration = self.raw.entries[defined.entry as usize].declaration;
                if declaration && defined.place != Location::Elsewhere {
                    continue;
                }
                let chain = self.chain(defined.entry);
                if !chain.iter().any(|entry| entry.external) {
                    continue;
                }
                let linkage = match defined.linkage {
                    [] => chain.iter().find_map(|entry| self.linkage(entry, kind)),
                    own => Some(own),
                };
                let name =
                    linkage.or_else(|| chain.iter().map(|entry| entry.name).find(|name| !name.is_empty()));
                if let Some(name) = name {
                    names[kind].entry(name).or_insert(defined.entry);
                }
            }
        }
        let (mut found, mut declared) = (Vec::with_capacity(wanted.len()), Vec::with_capacity(wanted.len()));
        for wanted in wanted {
            let kind = usize::from(wanted.function);
            let by_place = wanted.address.and_then(|address| places[kind].get(&address));
            let entry = by_place.or_else(|| names[kind].get(wanted.name.as_bytes())).copied();
            let chain = entry.map(|entry| self.chain(entry)).unwrap_or_default();
            let said = chain.iter().find(|entry| entry.line != 0);
            declared.push(said.map_or_else(Place::default, |entry| files.place(entry.file, entry.line)));
            let entry = entry.filter(|entry| !wanted.function || !self.is_untyped(*entry));
            found.push(entry.map(|entry| if wanted.function { self.entry_id(entry) } else { VOID }));
        }
        (found, declared)
    }

    /// Of each function that the module calls and does not define, the types that its units declare it
    /// with. One that a unit declares without its parameters (`int f();` in C) is left out: it says
    /// nothing.
    fn imports(&mut self, wanted: &[&str]) -> Vec<Vec<Id>> {
        let numbers: HashMap<&[u8], usize> =
            wanted.iter().enumerate().map(|(at, name)| (name.as_bytes(), at)).collect();
        let mut found = vec![Vec::new(); wanted.len()];
        if numbers.is_empty() {
            return found;
        }
        let raw = self.raw;
        for defined in &raw.functions {
            let entry = &raw.entries[defined.entry as usize];
            if !entry.declaration || !entry.external {
                continue;
            }
            let name = if defined.linkage.is_empty() { entry.name } else { defined.linkage };
            let Some(at) = numbers.get(name) else { continue };
            let is_open = matches!(&entry.parts[..], [only] if only.kind == PartKind::Variadic);
            if is_open || self.is_untyped(defined.entry) {
                continue;
            }
            found[*at].push(self.entry_id(defined.entry));
        }
        found
    }

    /// Whether a function is described by a unit that has lines only, so that its parameters are
    /// not known.
    fn is_untyped(&self, entry: u32) -> bool {
        let described = self.chain(entry).last().map(|entry| entry.unit as usize);
        described.is_some_and(|unit| self.raw.units[unit].lines_only)
    }

    /// The name that linkers know what an entry completes by.
    fn linkage(&self, entry: &Entry<'d>, kind: usize) -> Option<&'d [u8]> {
        let all = if kind == 1 { &self.raw.functions } else { &self.raw.variables };
        let of = |index: u32| self.raw.entries[index as usize].offset;
        let at = all.binary_search_by_key(&entry.offset, |defined| of(defined.entry)).ok()?;
        Some(all[at].linkage).filter(|name| !name.is_empty())
    }

    /// An entry, what it completes, and so on.
    fn chain(&self, entry: u32) -> Vec<&'r Entry<'d>> {
        let mut chain = vec![&self.raw.entries[entry as usize]];
        while chain.len() < CHAIN
            && let Some(origin) = self.raw.find(chain[chain.len() - 1].origin)
        {
            chain.push(&self.raw.entries[origin as usize]);
        }
        chain
    }

    /// What a type is known by in all units.
    pub(super) fn key(&self, entry: &Entry<'d>) -> Key<'d> {
        let declared = self.raw.find(entry.origin).map(|origin| &self.raw.entries[origin as usize]);
        let named = declared.filter(|declared| !declared.name.is_empty()).unwrap_or(entry);
        (named.scope, named.name)
    }

    pub(super) fn reach(&self, mut link: Link) -> Reached {
        let (mut constant, mut files) = (false, Vec::new());
        for _ in 0..CHAIN {
            let Some(index) = self.raw.find(link) else { break };
            let entry = &self.raw.entries[index as usize];
            if !is_modifier(entry.tag) {
                let foreign = files.iter().any(|file| entry.file != 0 && *file != entry.file);
                return Reached { entry: Some(index), foreign, constant };
            }
            constant |= entry.tag == constants::DW_TAG_const_type;
            if entry.tag == constants::DW_TAG_typedef && entry.file != 0 {
                files.push(entry.file);
            }
            link = entry.target;
        }
        Reached { entry: None, foreign: false, constant }
    }

    fn is_constant(&self, mut link: Link) -> bool {
        for _ in 0..CHAIN {
            let reached = self.reach(link);
            let array = reached.entry.map(|entry| &self.raw.entries[entry as usize]);
            match array.filter(|entry| entry.tag == constants::DW_TAG_array_type) {
                Some(array) if !reached.constant => link = array.target,
                _ => return reached.constant,
            }
        }
        false
    }

    /// The type that a link leads to.
    fn id(&mut self, link: Link) -> Id {
        let Some(index) = self.reach(link).entry else { return VOID };
        let entry = &self.raw.entries[index as usize];
        // It only names a type that has a unit of its own.
        let signed = entry.signature.and_then(|signature| self.raw.find(Link::Type(signature)));
        if let Some(definition) =
            signed.filter(|definition| self.raw.entries[*definition as usize].signature.is_none())
        {
            return self.entry_id(definition);
        }
        let declared = entry.declaration || entry.signature.is_some();
        if declared && (is_aggregate(entry.tag) || entry.tag == constants::DW_TAG_enumeration_type) {
            let key = self.key(entry);
            if let Some(id) = self.of_declared.get(&key) {
                return *id;
            }
            let id = self.new_node(Source::Declared(key, entry.tag));
            self.of_declared.insert(key, id);
            return id;
        }
        self.entry_id(index)
    }

    fn entry_id(&mut self, index: u32) -> Id {
        if let Some(id) = self.of_entry[index as usize] {
            return id;
        }
        let id = self.new_node(Source::Entry(index));
        self.of_entry[index as usize] = Some(id);
        id
    }

    fn new_node(&mut self, source: Source<'d>) -> Id {
        self.nodes.push(node(Kind::Void));
        self.sources.push(source);
        (self.nodes.len() - 1) as Id
    }

    fn fill_declared(&mut self, id: usize, key: Key<'d>, tag: DwTag) -> Result<(), Reason> {
        let mut made = node(Kind::Declared);
        made.opaque = true;
        made.name = self.name(format!("{}{}", keyword(tag), self.qualified_name(key.0, key.1)))?;
        for definition in self.definitions.get(&key).cloned().unwrap_or_default() {
            let target = self.entry_id(definition);
            made.parts.push(Part { target, ..part(PartKind::Definition) });
        }
        self.nodes[id] = made;
        Ok(())
    }

    /// Makes the node of an entry that is no modifier.
    fn fill(&mut self, id: usize, index: u32) -> Result<(), Reason> {
        let entry = &self.raw.entries[index as usize];
        let mut made = node(Kind::Other(entry.tag.0));
        made.size = entry.size.unwrap_or(0);
        // An owner may have named it already.
        made.name = self.nodes[id].name;
        match entry.tag {
            constants::DW_TAG_base_type => {
                made.kind = Kind::Base(plain_encoding(entry.encoding));
                made.name = self.name(cut(plain_name(entry.name)))?;
            }
            constants::DW_TAG_pointer_type
            | constants::DW_TAG_reference_type
            | constants::DW_TAG_rvalue_reference_type => {
                made.kind = match entry.tag {
                    constants::DW_TAG_pointer_type => Kind::Pointer,
                    constants::DW_TAG_reference_type => Kind::Reference,
                    _ => Kind::RvalueReference,
                };
                made.size = 0;
                let reached = self.reach(entry.target);
                made.opaque = reached.foreign && reached.entry.is_some_and(|entry| self.has_members(entry));
                // Of Rust's pointers the name says so; `*const` is what vectors and boxes have,
                // too.
                let shared = entry.name.starts_with(b"&") && !entry.name.starts_with(b"&mut ");
                made.constant = reached.constant || shared;
                made.target = self.id(entry.target);
            }
            constants::DW_TAG_ptr_to_member_type => {
                made.kind = Kind::MemberPointer;
                made.target = self.id(entry.target);
                made.parts.push(Part { target: self.id(entry.class), ..part(PartKind::Parameter) });
            }
            constants::DW_TAG_enumeration_type => {
                made.kind = Kind::Enum;
                self.name_type(&mut made, index)?;
                made.target = self.id(entry.target);
                self.fill_parts(&mut made, entry, &entry.parts)?;
            }
            constants::DW_TAG_array_type => {
                made.kind = if entry.vector { Kind::Vector } else { Kind::Array };
                made.target = self.array(&mut made, entry);
            }
            constants::DW_TAG_subroutine_type | constants::DW_TAG_subprogram => {
                made.kind = Kind::Function;
                made.size = 0;
                let chain = self.chain(index);
                let target = chain.iter().map(|entry| entry.target).find(|target| *target != Link::None);
                made.target = self.id(target.unwrap_or_default());
                // An instance of an inlined function only refers to its parameters.
                let whole = |entry: &&&Entry<'d>| {
                    !entry.parts.is_empty()
                        && entry
                            .parts
                            .iter()
                            .all(|part| part.kind != PartKind::Parameter || part.target != Link::None)
                };
                if let Some(described) = chain.iter().find(whole) {
                    self.fill_parts(&mut made, described, &described.parts)?;
                }
            }
            tag if is_aggregate(tag) => {
                made.kind = if tag == constants::DW_TAG_union_type { Kind::Union } else { Kind::Struct };
                made.opaque = self.declared.contains(&self.key(entry));
                self.name_type(&mut made, index)?;
                self.fill_parts(&mut made, entry, &entry.parts)?;
            }
            _ => {
                made.name = self.name(self.qualified_name(0, entry.name))?;
                made.target = self.id(entry.target);
            }
        }
        self.nodes[id] = made;
        Ok(())
    }

    fn fill_parts(
        &mut self,
        made: &mut Node,
        owner: &Entry<'d>,
        parts: &[RawPart<'d>],
    ) -> Result<(), Reason> {
        made.parts.reserve(parts.len());
        for raw in parts {
            let target = self.id(raw.target);
            let name = self.name(String::from_utf8_lossy(raw.name).into_owned())?;
            if raw.kind == PartKind::Member {
                self.name_by_owner(made.name, raw, target)?;
            }
            made.parts.push(Part {
                kind: raw.kind,
                hidden: raw.kind == PartKind::Member && self.is_hidden(owner, raw.target),
                name,
                value: raw.value,
                bits: raw.bits,
                target,
            });
        }
        Ok(())
    }

    /// A structure without a name gets one from where it is used first.
    fn name_by_owner(&mut self, owner: Name, member: &RawPart<'d>, target: Id) -> Result<(), Reason> {
        let Some(Source::Entry(index)) = (target as usize).checked_sub(1).map(|at| &self.sources[at]) else {
            return Ok(());
        };
        let index = *index;
        if self.nodes[target as usize].name != Name::default() || owner == Name::default() {
            return Ok(());
        }
        if self.raw.entries[index as usize].name.is_empty()
            && self.has_members(index)
            && !self.typedefs.contains_key(&index)
        {
            let of = &self.names[owner.start as usize..][..owner.len as usize];
            let member = String::from_utf8_lossy(member.name);
            let member = if member.is_empty() { "(anonymous)" } else { &member };
            let name = cut(format!("{of}.{member}"));
            self.nodes[target as usize].name = self.name(name)?;
        }
        Ok(())
    }

    /// Whether a member of a header's structure points to a structure that is in the compiled
    /// source.
    fn is_hidden(&self, owner: &Entry<'d>, mut link: Link) -> bool {
        if owner.in_source || owner.file == 0 {
            return false;
        }
        for depth in 0..CHAIN {
            let Some(index) = self.reach(link).entry else { return false };
            let entry = &self.raw.entries[index as usize];
            match entry.tag {
                constants::DW_TAG_pointer_type
                | constants::DW_TAG_reference_type
                | constants::DW_TAG_rvalue_reference_type
                | constants::DW_TAG_array_type => link = entry.target,
                _ => return depth > 0 && entry.in_source,
            }
        }
        false
    }

    fn has_members(&self, index: u32) -> bool {
        let tag = self.raw.entries[index as usize].tag;
        is_aggregate(tag) || tag == constants::DW_TAG_enumeration_type
    }

    /// Arrays of arrays are arrays of several dimensions. Returns what they are of.
    fn array(&mut self, made: &mut Node, entry: &Entry<'d>) -> Id {
        let mut entry = entry;
        for _ in 0..CHAIN {
            for dimension in entry.parts.iter().filter(|part| part.kind == PartKind::Dimension) {
                made.parts.push(Part { value: dimension.value, ..part(PartKind::Dimension) });
            }
            let inner = self.reach(entry.target).entry.map(|index| &self.raw.entries[index as usize]);
            match inner {
                Some(inner)
                    if inner.tag == constants::DW_TAG_array_type && !inner.vector && !entry.vector =>
                {
                    entry = inner;
                }
                _ => break,
            }
        }
        made.size = 0;
        self.id(entry.target)
    }

    fn name_type(&mut self, made: &mut Node, index: u32) -> Result<(), Reason> {
        let entry = &self.raw.entries[index as usize];
        let key = self.key(entry);
        let by_typedef = self.typedefs.get(&index).map(|typedef| &self.raw.entries[*typedef as usize]);
        if !key.1.is_empty() {
            made.name = self.name(format!("{}{}", keyword(entry.tag), self.qualified_name(key.0, key.1)))?;
        } else if let Some(typedef) = by_typedef {
            made.name = self.name(self.qualified(typedef))?;
        }
        Ok(())
    }

    fn qualified(&self, entry: &Entry<'d>) -> String {
        self.qualified_name(entry.scope, entry.name)
    }

    fn qualified_name(&self, mut scope: Scope, name: &[u8]) -> String {
        let mut names = vec![name];
        while let Some((parent, name)) = self.raw.scopes.get(scope as usize).filter(|_| scope != 0)
            && names.len() < CHAIN
        {
            if !name.is_empty() {
                names.push(name);
            }
            scope = *parent;
        }
        names.reverse();
        let mut text = String::new();
        for name in names {
            if !text.is_empty() {
                text += "::";
            }
            text += &String::from_utf8_lossy(name);
            if text.len() > LONGEST {
                break;
            }
        }
        cut(text)
    }

    fn name(&mut self, text: String) -> Result<Name, Reason> {
        if text.is_empty() {
            return Ok(Name::default());
        }
        if let Some(name) = self.name_numbers.get(text.as_str()) {
            return Ok(*name);
        }
        let start = u32::try_from(self.names.len()).map_err(|_| NAMES)?;
        if self.names.len() + text.len() > self.name_limit {
            return Err(NAMES);
        }
        let name = Name { start, len: text.len() as u32 };
        self.names += &text;
        self.name_numbers.insert(text.into(), name);
        Ok(name)
    }
}

fn keyword(tag: DwTag) -> &'static str {
    match tag {
        constants::DW_TAG_structure_type => "struct ",
        constants::DW_TAG_class_type => "class ",
        constants::DW_TAG_union_type => "union ",
        constants::DW_TAG_enumeration_type => "enum ",
        _ => "",
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// Characters are integers, as which all compilers agree on them.
fn plain_encoding(encoding: u8) -> u8 {
    match gimli::DwAte(encoding) {
        constants::DW_ATE_signed_char => constants::DW_ATE_signed.0,
        constants::DW_ATE_unsigned_char | constants::DW_ATE_UTF => constants::DW_ATE_unsigned.0,
        _ => encoding,
    }
}

/// What C calls an integer in the fewest words: compilers differ in theirs.
fn plain_name(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let known = |word: &str| matches!(word, "unsigned" | "signed" | "long" | "short" | "int" | "char");
    if !text.contains(' ') || !text.split(' ').all(known) {
        return text.into_owned();
    }
    let (mut words, sized) = (Vec::new(), text.contains("long") || text.contains("short"));
    words.extend(text.split(' ').filter(|word| *word == "unsigned" || *word == "signed"));
    words.extend(text.split(' ').filter(|word| matches!(*word, "long" | "short" | "char")));
    words.extend(text.split(' ').filter(|word| *word == "int" && !sized));
    words.join(" ")
}

fn node(kind: Kind) -> Node {
    Node {
        kind,
        opaque: false,
        constant: false,
        name: Name::default(),
        size: 0,
        target: VOID,
        parts: Vec::new(),
    }
}

fn part(kind: PartKind) -> Part {
    Part { kind, hidden: false, name: Name::default(), value: 0, bits: 0, target: VOID }
}
