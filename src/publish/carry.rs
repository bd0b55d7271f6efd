//! Carrying the values of ordinary variables over to the version that replaces theirs.
//!
//! A variable goes on if the new version has one of the same name and scope, laid out as it was, by
//! the debug information of both. Its bytes are copied while nobody is inside the module
//! (`state/pause.rs`), after the new version's constructors. Pointers in it stay as they are,
//! but for those to other variables that go on as well: these then lead to the new version's.

use std::collections::HashMap;
use std::ops::Range;
use std::ptr;

use midflight_interface::{Layouts, TypeId, Variable, VariablePlace, Variables};
use midflight_migrate::{Target, Type};

use crate::error::NotCarried;
use crate::module::Version;

/// A variable that goes on.
struct Move<'v> {
    variable: &'v Variable,
    old: Range<usize>,
    new: usize,
    /// The words that say whether code has made it: of both, or of neither.
    guards: Option<[usize; 2]>,
    /// Where pointers in it are, and words of which nothing is known.
    words: Vec<(usize, Word)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Pointer,
    Unknown,
}

/// More words than these are not looked at in one variable.
const MOST_WORDS: usize = 1 << 20;

/// What goes on from one version of a module to the next.
pub(super) struct Carriage<'v> {
    old: &'v Version,
    moves: Vec<Move<'v>>,
}

impl<'v> Carriage<'v> {
    /// Finds what goes on, as far as debug information tells. What does not is added to `left`.
    pub(super) fn plan(old: &'v Version, new: &'v Version, left: &mut Vec<NotCarried>) -> Self {
        let mut plan = Self { old, moves: Vec::new() };
        let mut leave = |variable: &str, reason: String| {
            let (module, variable) = (new.name().to_string(), variable.into());
            left.push(NotCarried { module, variable, reason });
        };
        let (was, is) = match (old.variables(), new.variables()) {
            (Some(Ok(was)), Some(Ok(is))) => (was, is),
            (None, _) => {
                let reason = format!(
                    "of version {}, which is loaded, the variables are not known: load that with `carry`, too",
                    old.number()
                );
                leave("", reason);
                return plan;
            }
            (Some(Err(reason)), _) | (_, Some(Err(reason))) => {
                leave("", format!("there is no debug information to go by: {reason}"));
                return plan;
            }
            (_, None) => return plan,
        };
        if let Some(source) = was.untyped.as_ref().or(is.untyped.as_ref()) {
            leave("", format!("{source} was compiled with debug information of lines only: use -g"));
        }
        let before = by_name(was);
        let now = by_name(is);
        for (key, found) in &now {
            let Some(earlier) = before.get(key) else { continue };
            let (name, variable) = (key.0, found[0]);
            if variable.constant || new.state(name).is_some() {
                continue;
            }
            match (&earlier[..], &found[..]) {
                ([was_one], [is_one]) => match plan.of(was, was_one, is, is_one, new) {
                    Ok(one) => plan.moves.push(one),
                    Err(reason) => leave(name, reason),
                },
                _ => leave(name, "several variables of the module have this name".into()),
            }
        }
        plan.moves.sort_by_key(|one| one.old.start);
        plan
    }

    /// How one variable goes on.
    fn of(
        &self,
        was: &'v Variables,
        old: &'v Variable,
        is: &Variables,
        new: &'v Variable,
        version: &Version,
    ) -> Result<Move<'v>, String> {
        let (VariablePlace::Image(from), VariablePlace::Image(to)) = (old.place, new.place) else {
            return Err("it is thread-local: each version has its own".into());
        };
        if old.constant {
            return Err("it was constant".into());
        }
        if old.constructed || new.constructed {
            return Err("its class has a constructor or a destructor".into());
        }
        if !was.layouts.is_alike(old.of, &is.layouts, new.of) {
            return Err(format!(
                "it had another layout ({}) than it has now ({})",
                was.layouts.describe(old.of),
                is.layouts.describe(new.of)
            ));
        }
        let size = was.layouts.size(old.of).filter(|size| *size > 0);
        let size = size.and_then(|size| usize::try_from(size).ok()).ok_or("its size is not known")?;
        let (old_at, new_at) = (self.old.place(from, size), version.place(to, size));
        let (Some(old_at), Some(new_at)) = (old_at, new_at) else {
            return Err("it is where nothing can be written".into());
        };
        let guards = match (old.guard, new.guard) {
            (None, None) => None,
            (Some(was), Some(is)) => Some([self.old.place(was, 8), version.place(is, 8)]),
            _ => return Err("only one of the versions makes it when it is first used".into()),
        };
        let guards = match guards {
            None => None,
            Some([Some(was), Some(is)]) => Some([was, is]),
            Some(_) => return Err("its guard is where nothing can be written".into()),
        };
        let mut words = Vec::new();
        if !find_words(&was.layouts, old.of, &mut words) {
            return Err("it has too many pointers to look at".into());
        }
        Ok(Move { variable: old, old: old_at..old_at + size, new: new_at, guards, words })
    }

    /// Takes out what leads into the old version, but not to a variable that goes on.
    ///
    /// # Safety
    ///
    /// Nobody writes to the old version's variables.
    pub(super) unsafe fn look(&mut self, left: &mut Vec<NotCarried>) {
        let inside = self.old.range();
        loop {
            let mut out = Vec::new();
            for (at, one) in self.moves.iter().enumerate() {
                let leads = one.words.iter().find_map(|&(offset, word)| {
                    // SAFETY: within the variable, which the caller says nobody writes to.
                    let value = unsafe { read(one.old.start + offset) };
                    let goes_on = word == Word::Pointer && self.target(value).is_some();
                    (inside.contains(&value) && !goes_on).then_some((offset, value))
                });
                if let Some((offset, value)) = leads {
                    out.push((at, offset, value));
                }
            }
            if out.is_empty() {
                return;
            }
            for (at, offset, value) in out.into_iter().rev() {
                let one = self.moves.remove(at);
                let reason = format!("at byte {offset} it has an address of the old version ({value:#x})");
                let (module, variable) = (self.old.name().to_string(), one.variable.name.to_string());
                left.push(NotCarried { module, variable, reason });
            }
        }
    }

    /// Where the new version has what is at an address of the old one's variables.
    fn target(&self, address: usize) -> Option<usize> {
        let after = self.moves.partition_point(|one| one.old.start <= address);
        let one = &self.moves[after.checked_sub(1)?];
        // The end is a place that pointers may have as well.
        (address <= one.old.end).then(|| one.new + (address - one.old.start))
    }

    /// Copies the values.
    ///
    /// # Safety
    ///
    /// Nobody reads or writes the variables of either version.
    pub(super) unsafe fn run(&self) {
        for one in &self.moves {
            let from = ptr::with_exposed_provenance::<u8>(one.old.start);
            let to = ptr::with_exposed_provenance_mut::<u8>(one.new);
            // SAFETY: both are as large, in writable parts of their images, and nobody else's now.
            unsafe { ptr::copy_nonoverlapping(from, to, one.old.len()) };
            for &(offset, word) in &one.words {
                // SAFETY: as above, within the variable.
                let value = unsafe { read(one.old.start + offset) };
                if let Some(target) = self.target(value).filter(|_| word == Word::Pointer) {
                    let to = ptr::with_exposed_provenance_mut::<usize>(one.new + offset);
                    // SAFETY: as above.
                    unsafe { to.write_unaligned(target) };
                }
            }
            if let Some([was, is]) = one.guards {
                let (from, to) =
                    (ptr::with_exposed_provenance::<u64>(was), ptr::with_exposed_provenance_mut(is));
                // SAFETY: the guards are 8 bytes in such parts, and nobody else's now.
                unsafe { ptr::copy_nonoverlapping(from, to, 1) };
            }
        }
    }

    /// The module, and how many of its variables go on.
    pub(super) fn count(&self) -> (String, usize) {
        (self.old.name().to_string(), self.moves.len())
    }

    /// How many variables go on.
    pub(super) fn len(&self) -> usize {
        self.moves.len()
    }
}

/// # Safety
///
/// A word there can be read, and nobody writes it.
unsafe fn read(at: usize) -> usize {
    // SAFETY: the caller's promise; it need not be aligned.
    unsafe { ptr::with_exposed_provenance::<usize>(at).read_unaligned() }
}

type Name<'v> = (&'v str, Option<&'v str>);

fn by_name(variables: &Variables) -> HashMap<Name<'_>, Vec<&Variable>> {
    let mut names = HashMap::<_, Vec<_>>::new();
    for variable in &variables.variables {
        names.entry((&*variable.name, variable.source.as_deref())).or_default().push(variable);
    }
    names
}

/// Where a type has pointers, and words of which nothing is known: offsets. False: too many.
fn find_words(layouts: &Layouts, of: TypeId, words: &mut Vec<(usize, Word)>) -> bool {
    const WORD: u64 = size_of::<usize>() as u64;
    let mut open = vec![(0_u64, of, 0)];
    while let Some((offset, id, depth)) = open.pop() {
        if words.len() + open.len() > MOST_WORDS || depth > 64 {
            return false;
        }
        match layouts.get(id) {
            Some(Type::Pointer { to: Target::Code | Target::Data(_) | Target::Unknown, .. }) => {
                words.push((offset as usize, Word::Pointer));
            }
            Some(Type::Array { element, count }) => {
                let Some(size) = layouts.size(*element) else { return false };
                // Elements without pointers need no look.
                let mut inside = Vec::new();
                if !find_words_once(layouts, *element, &mut inside) {
                    return false;
                }
                if inside.is_empty() {
                    continue;
                }
                if count.saturating_mul(inside.len() as u64) > MOST_WORDS as u64 {
                    return false;
                }
                for at in 0..*count {
                    words.extend(
                        inside.iter().map(|&(inner, word)| ((offset + at * size) as usize + inner, word)),
                    );
                }
            }
            Some(Type::Struct { members, .. }) => {
                open.extend(members.iter().map(|member| (offset + member.offset, member.of, depth + 1)));
            }
            Some(Type::Union { size, .. } | Type::Opaque { size, .. }) => {
                let whole = (0..size / WORD).map(|at| ((offset + at * WORD) as usize, Word::Unknown));
                words.extend(whole.take(MOST_WORDS));
            }
            Some(Type::Integer { .. } | Type::Bool { .. } | Type::Float { .. } | Type::Enum { .. }) => {}
            None => return false,
        }
    }
    true
}

/// As [`find_words`], of an array's element.
fn find_words_once(layouts: &Layouts, of: TypeId, words: &mut Vec<(usize, Word)>) -> bool {
    // An array in an array, and so on: each level is one call, and layouts that contain themselves
    // have no size.
    layouts.size(of).is_some() && find_words(layouts, of, words)
}
