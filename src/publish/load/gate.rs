//! Taking turns: how many loads are under way at once, and how long one waits and works.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::Error;

/// When a load is to be given up.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    limit: Duration,
    /// None: never.
    at: Option<Instant>,
}

impl Deadline {
    /// So long after now. What is too long for the clock is never.
    pub(crate) fn after(limit: Option<Duration>) -> Self {
        Self {
            limit: limit.unwrap_or(Duration::MAX),
            at: limit.and_then(|limit| Instant::now().checked_add(limit)),
        }
    }

    /// Whichever comes first.
    pub(crate) fn or_sooner(self, other: Self) -> Self {
        match (self.at, other.at) {
            (None, _) => other,
            (Some(at), Some(other_at)) if other_at < at => other,
            _ => self,
        }
    }

    pub(crate) fn at(&self) -> Option<Instant> {
        self.at
    }

    pub(crate) fn error(&self) -> Error {
        Error::Timeout { limit: self.limit }
    }

    /// An error if it has come.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.at {
            Some(at) if Instant::now() >= at => Err(self.error()),
            _ => Ok(()),
        }
    }
}

/// Lets so many loads in at once.
#[derive(Default)]
pub(crate) struct Gate {
    inside: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Default)]
struct Inside {
    loads: usize,
    limit: Option<usize>,
}

impl Gate {
    /// None: any number.
    pub(crate) fn set_limit(&self, limit: Option<usize>) {
        self.inside.lock().limit = limit;
        self.changed.notify_all();
    }

    /// Waits until there is room.
    pub(crate) fn enter(&self, deadline: &Deadline) -> Result<Turn<'_>, Error> {
        let mut inside = self.inside.lock();
        while inside.limit.is_some_and(|limit| inside.loads >= limit) {
            match deadline.at() {
                None => self.changed.wait(&mut inside),
                Some(at) if self.changed.wait_until(&mut inside, at).timed_out() => {
                    return Err(deadline.error());
                }
                Some(_) => {}
            }
        }
        inside.loads += 1;
        Ok(Turn(self))
    }
}

/// A load that is inside.
pub(crate) struct Turn<'g>(&'g Gate);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.inside.lock().loads -= 1;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Deadline = Deadline { limit: Duration::ZERO, at: None };

    fn soon() -> Deadline {
        Deadline::after(Some(Duration::from_millis(1)))
    }

    #[test]
    fn as_many_as_the_limit_says_are_let_in() {
        let gate = Gate::default();
        let all: Vec<_> = (0..100).map(|_| gate.enter(&AT_ONCE).unwrap()).collect();
        gate.set_limit(Some(2));
        assert!(gate.enter(&soon()).is_err());
        drop(all);
        let first = gate.enter(&soon()).unwrap();
        let _second = gate.enter(&soon()).unwrap();
        let refused = gate.enter(&soon()).err().expect("two are inside");
        assert_eq!(refused.to_string(), "Hot-reload timeout after 1ms");
        drop(first);
        assert!(gate.enter(&soon()).is_ok());
    }

    #[test]
    fn who_waits_comes_in_when_another_leaves() {
        let gate = Gate::default();
        gate.set_limit(Some(1));
        let turn = gate.enter(&AT_ONCE).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| gate.enter(&AT_ONCE).map(drop));
            drop(turn);
            waiter.join().unwrap().unwrap();
        });
    }

    #[test]
    fn of_two_deadlines_the_sooner_counts() {
        let [never, soon, later] =
            [None, Some(1), Some(1_000_000)].map(|ms| Deadline::after(ms.map(Duration::from_millis)));
        for (one, other, expected) in
            [(soon, later, soon), (later, soon, soon), (never, later, later), (later, never, later)]
        {
            assert_eq!(one.or_sooner(other).at(), expected.at());
        }
        assert!(never.or_sooner(never).at().is_none());
    }

    #[test]
    fn a_time_out_beyond_the_clock_is_none() {
        assert!(Deadline::after(Some(Duration::MAX)).check().is_ok());
        assert!(Deadline::after(None).check().is_ok());
        assert!(Deadline::after(Some(Duration::ZERO)).check().is_err());
    }
}
