//! Random transactions, several open at once, against a model of what is promised: what each read
//! sees, which operations are taken, which commits are in conflict, and what is current afterwards.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use midflight::{
    Error, ErrorKind, Isolation, LoadOptions, OperationOptions, Runtime, Savepoint, Transaction,
    TransactionOptions,
};
use proptest::prelude::*;
use support::{Workshop, start};

midflight::module! {
    unsafe mod alpha { safe fn alpha_number() -> i32; }
    unsafe mod beta { safe fn beta_number() -> i32; }
    unsafe mod gamma { safe fn gamma_number() -> i32; }
}

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];
/// Of each module, so that it can be told which was loaded.
const VARIANTS: u32 = 2;
/// Transactions that are open at once.
const OPEN: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Begin(usize, Isolation),
    Read(usize, usize),
    List(usize),
    Load {
        at: usize,
        name: usize,
        variant: u32,
        keep: bool,
    },
    Unload(usize, usize),
    RollBack(usize, usize),
    Savepoint(usize),
    GoBack(usize, usize),
    Commit(usize),
    Abandon(usize),
    /// Not in a transaction.
    Outside {
        name: usize,
        variant: u32,
        keep: bool,
    },
}

impl Step {
    /// Which of the transactions it is about.
    fn at(&self) -> Option<usize> {
        match *self {
            Self::Read(at, _)
            | Self::List(at)
            | Self::Load { at, .. }
            | Self::Unload(at, _)
            | Self::RollBack(at, _)
            | Self::Savepoint(at)
            | Self::GoBack(at, _)
            | Self::Commit(at) => Some(at),
            Self::Begin(..) | Self::Abandon(_) | Self::Outside { .. } => None,
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (at, name) = (|| 0..OPEN, || 0..NAMES.len());
    let level = prop::sample::select(Isolation::ALL.to_vec());
    let step = prop_oneof![
        1 => (at(), level).prop_map(|(at, level)| Step::Begin(at, level)),
        4 => (at(), name()).prop_map(|(at, name)| Step::Read(at, name)),
        2 => at().prop_map(Step::List),
        5 => (at(), name(), 0..VARIANTS, any::<bool>())
            .prop_map(|(at, name, variant, keep)| Step::Load { at, name, variant, keep }),
        3 => (at(), name()).prop_map(|(at, name)| Step::Unload(at, name)),
        2 => (at(), name()).prop_map(|(at, name)| Step::RollBack(at, name)),
        2 => at().prop_map(Step::Savepoint),
        2 => (at(), 0..3_usize).prop_map(|(at, which)| Step::GoBack(at, which)),
        4 => at().prop_map(Step::Commit),
        1 => at().prop_map(Step::Abandon),
        1 => (name(), 0..VARIANTS, any::<bool>())
            .prop_map(|(name, variant, keep)| Step::Outside { name, variant, keep }),
    ];
    prop::collection::vec(step, 1..80)
}

/// A version: its number, and which variant it is.
type Version = (u64, u32);

/// A module as the model knows it.
#[derive(Clone, Debug, Default)]
struct Module {
    current: Option<Version>,
    previous: Option<Version>,
    /// The number of its latest version.
    last: u64,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Load { variant: u32, keep: bool },
    Unload,
    RollBack,
}

/// An operation as the model knows it.
#[derive(Clone, Debug)]
struct Operation {
    name: usize,
    what: What,
    then: Option<u64>,
    becomes: Option<u64>,
    /// Which of all operations it was.
    order: usize,
}

type Seen = BTreeMap<usize, u64>;

/// A transaction as the model knows it.
struct Model {
    level: Isolation,
    snapshot: Option<Seen>,
    operations: Vec<Operation>,
    read: BTreeSet<usize>,
    listed: bool,
    /// All that it ever had, and of each how many operations there were; None: gone.
    savepoints: Vec<(Savepoint, Option<usize>)>,
}

/// What is committed.
#[derive(Default)]
struct World {
    modules: [Module; NAMES.len()],
    operations: usize,
}

impl World {
    fn numbers(&self) -> Seen {
        let current = |name: usize| Some((name, self.modules[name].current?.0));
        (0..NAMES.len()).filter_map(current).collect()
    }

    fn number(&self, name: usize) -> Option<u64> {
        self.modules[name].current.map(|(number, _)| number)
    }

    fn load(&mut self, name: usize, variant: u32, keep: bool) {
        let module = &mut self.modules[name];
        let replaced = module.current;
        module.last += 1;
        module.current = Some((module.last, variant));
        if keep {
            module.previous = replaced.or(module.previous);
        }
    }

    /// What an unloading or a rollback is refused for.
    fn refuses(&self, name: usize, what: What) -> Option<ErrorKind> {
        let module = &self.modules[name];
        match what {
            What::Load { .. } => None,
            _ if module.current.is_none() => Some(ErrorKind::NotLoaded),
            What::RollBack if module.previous.is_none() => Some(ErrorKind::NoPreviousVersion),
            _ => None,
        }
    }

    fn apply(&mut self, operation: &Operation) {
        let module = &mut self.modules[operation.name];
        match operation.what {
            What::Load { variant, keep } => self.load(operation.name, variant, keep),
            What::Unload => (module.current, module.previous) = (None, None),
            What::RollBack => (module.current, module.previous) = (module.previous, module.current),
        }
    }
}

impl Model {
    fn own(&self, name: usize) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.name == name)
    }

    /// Whether something has changed that may not have.
    fn conflicts(&self, world: &World) -> bool {
        let now = world.numbers();
        let snapshot = self.snapshot.clone().unwrap_or_default();
        let changed = |name: &usize| now.get(name) != snapshot.get(name);
        let wrote = |operation: &Operation| match self.level {
            Isolation::ReadUncommitted => false,
            Isolation::ReadCommitted => world.number(operation.name) != operation.then,
            _ => changed(&operation.name),
        };
        let read = self.level == Isolation::Serializable
            && (self.read.iter().any(changed) || self.listed && now != snapshot);
        !self.operations.is_empty() && (read || self.operations.iter().any(wrote))
    }
}

/// What is intended on top of what is committed, in the order in which it was said.
fn overlaid<'o>(mut seen: Seen, operations: impl Iterator<Item = &'o Operation>) -> Seen {
    let mut all: Vec<_> = operations.collect();
    all.sort_by_key(|operation| operation.order);
    for operation in all {
        match operation.becomes {
            Some(number) => seen.insert(operation.name, number),
            None => seen.remove(&operation.name),
        };
    }
    seen
}

fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

struct Files(Vec<Vec<PathBuf>>);

impl Files {
    fn new(shop: &Workshop) -> Self {
        let file = |name: &str, variant| {
            let source = format!("int {name}_number(void) {{ return {variant}; }}");
            shop.module(name, variant, &source)
        };
        let of = |name: &&str| (0..VARIANTS).map(|variant| file(name, variant)).collect();
        Self(NAMES.iter().map(of).collect())
    }
}

/// The real thing and the model, side by side.
struct Both<'f> {
    rt: Runtime,
    files: &'f Files,
    world: World,
    open: [Option<(Transaction, Model)>; OPEN],
    levels: [Isolation; OPEN],
}

impl Both<'_> {
    fn step(&mut self, step: &Step) {
        // What is to be open is begun, at the level that it had before.
        if let Some(at) = step.at().filter(|at| self.open[*at].is_none()) {
            self.step(&Step::Begin(at, self.levels[at]));
        }
        match *step {
            Step::Begin(at, level) => {
                self.levels[at] = level;
                let options = TransactionOptions::new().isolation(level);
                let snapshot = (level >= Isolation::RepeatableRead).then(|| self.world.numbers());
                let model = Model {
                    level,
                    snapshot,
                    operations: Vec::new(),
                    read: BTreeSet::new(),
                    listed: false,
                    savepoints: Vec::new(),
                };
                // What was open there is rolled back by that.
                self.open[at] = Some((self.rt.transaction(&options).unwrap(), model));
            }
            Step::Read(at, name) => {
                let uncommitted = self.uncommitted();
                let world = &self.world;
                let Some((tx, model)) = &mut self.open[at] else { return };
                let expected = match (model.own(name), &model.snapshot) {
                    (Some(own), _) => own.becomes,
                    (None, None) if model.level == Isolation::ReadUncommitted => {
                        uncommitted.get(&name).copied()
                    }
                    (None, None) => world.number(name),
                    (None, Some(snapshot)) => {
                        model.read.insert(name);
                        snapshot.get(&name).copied()
                    }
                };
                assert_eq!(tx.version(NAMES[name]).unwrap(), expected);
            }
            Step::List(at) => {
                let uncommitted = self.uncommitted();
                let world = &self.world;
                let Some((tx, model)) = &mut self.open[at] else { return };
                let below = match &model.snapshot {
                    Some(snapshot) => snapshot.clone(),
                    None => world.numbers(),
                };
                model.listed = true;
                let expected = match model.level {
                    Isolation::ReadUncommitted => uncommitted,
                    _ => overlaid(below, model.operations.iter()),
                };
                let listed = tx.modules().unwrap();
                let listed: Vec<(&str, u64)> =
                    listed.iter().map(|(name, number)| (&**name, *number)).collect();
                let expected: Vec<_> =
                    expected.iter().map(|(name, number)| (NAMES[*name], *number)).collect();
                assert_eq!(listed, expected);
            }
            Step::Load { at, name, variant, keep } => self.add(at, name, What::Load { variant, keep }),
            Step::Unload(at, name) => self.add(at, name, What::Unload),
            Step::RollBack(at, name) => self.add(at, name, What::RollBack),
            Step::Savepoint(at) => {
                let Some((tx, model)) = &mut self.open[at] else { return };
                model.savepoints.push((tx.savepoint(), Some(model.operations.len())));
            }
            Step::GoBack(at, which) => {
                let Some((tx, model)) = &mut self.open[at] else { return };
                let Some(&(savepoint, count)) = model.savepoints.get(which) else { return };
                assert_eq!(tx.rollback_to(savepoint).is_ok(), count.is_some());
                if let Some(count) = count {
                    model.operations.truncate(count);
                    model.savepoints[which + 1..].iter_mut().for_each(|(_, count)| *count = None);
                }
            }
            Step::Commit(at) => self.commit(at),
            Step::Abandon(at) => {
                if let Some((tx, _)) = self.open[at].take() {
                    tx.rollback();
                }
            }
            Step::Outside { name, variant, keep } => {
                let options = LoadOptions::new().keep_previous(keep);
                let path = &self.files.0[name][variant as usize];
                // SAFETY: the tests' modules have the functions as declared above.
                unsafe { self.rt.load_with([path], &options) }.unwrap();
                self.world.load(name, variant, keep);
            }
        }
    }

    /// What all open transactions intend, on top of what is committed.
    fn uncommitted(&self) -> Seen {
        let operations = self.open.iter().flatten().flat_map(|(_, model)| &model.operations);
        overlaid(self.world.numbers(), operations)
    }

    fn add(&mut self, at: usize, name: usize, what: What) {
        let Some((tx, model)) = &mut self.open[at] else { return };
        let added = match what {
            What::Load { variant, keep } => {
                let options = OperationOptions::new().keep_previous(keep);
                // SAFETY: as above.
                unsafe { tx.load_with(&self.files.0[name][variant as usize], &options) }
            }
            What::Unload => tx.unload(NAMES[name]),
            What::RollBack => tx.rollback_module(NAMES[name]),
        };
        let twice = model.own(name).map(|_| ErrorKind::InvalidArgument);
        let expected = self.world.refuses(name, what).or(twice);
        assert_eq!(kind(added), expected);
        if expected.is_none() {
            let module = &self.world.modules[name];
            let becomes = match what {
                What::Load { .. } => Some(module.last + 1),
                What::Unload => None,
                What::RollBack => module.previous.map(|(number, _)| number),
            };
            self.world.operations += 1;
            let (then, order) = (self.world.number(name), self.world.operations);
            model.operations.push(Operation { name, what, then, becomes, order });
        }
    }

    fn commit(&mut self, at: usize) {
        let Some((tx, model)) = self.open[at].take() else { return };
        // Only where others' changes are passed over can there be nothing to unload or to go back
        // to. What goes is looked for first.
        let is_gone = |operation: &&Operation| matches!(operation.what, What::Unload);
        let mut in_order: Vec<_> = model.operations.iter().collect();
        in_order.sort_by_key(|operation| (!is_gone(operation), operation.name));
        let refused = in_order.iter().find_map(|of| self.world.refuses(of.name, of.what));
        let expected = match model.conflicts(&self.world) {
            true => Some(ErrorKind::Conflict),
            false => refused,
        };
        let committed = tx.commit();
        if let Ok(published) = &committed {
            assert_eq!(published.is_some(), !model.operations.is_empty());
        }
        assert_eq!(kind(committed), expected);
        if expected.is_none() {
            model.operations.iter().for_each(|operation| self.world.apply(operation));
        }
    }

    /// That what is current is what the model says, by number and by what it does.
    fn look(&self) {
        let frame = self.rt.frame();
        for (name, module) in NAMES.into_iter().zip(&self.world.modules) {
            assert_eq!(frame.version(name), module.current.map(|(number, _)| number), "{name}");
            let Some((_, variant)) = module.current else { continue };
            let found = match name {
                "alpha" => alpha::alpha_number(&frame),
                "beta" => beta::beta_number(&frame),
                _ => gamma::gamma_number(&frame),
            };
            assert_eq!(found, variant as i32, "{name}");
        }
    }
}

/// The number of each module's latest version, by loading it and taking it out again: numbers go on
/// from case to case.
fn world_of_now(rt: Runtime, files: &Files) -> World {
    let mut world = World::default();
    // SAFETY: as above.
    let loaded = unsafe { rt.load_all(files.0.iter().map(|of| &of[0])) }.unwrap();
    for (module, published) in world.modules.iter_mut().zip(&loaded.modules) {
        module.last = published.version;
    }
    rt.unload_all(NAMES).unwrap();
    world
}

#[test]
fn transactions_do_what_the_model_does() {
    let (rt, shop, _turn) = start("transaction-model");
    let files = Files::new(&shop);
    let cases = if support::is_emulated() { 24 } else { 256 };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(cases));
    let run = |steps: Vec<Step>| {
        let world = world_of_now(rt, &files);
        let levels = [Isolation::Serializable, Isolation::RepeatableRead, Isolation::ReadUncommitted];
        let mut both = Both { rt, files: &files, world, open: [const { None }; OPEN], levels };
        for step in &steps {
            both.step(step);
            both.look();
        }
        drop(both);
        let names: Vec<String> = rt.modules().unwrap().into_iter().map(|module| module.name).collect();
        rt.unload_all(names).unwrap();
        rt.collect().unwrap();
        Ok(())
    };
    runner.run(&steps(), run).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(rt.collect().unwrap().old_bytes, 0, "nothing is left");
}
