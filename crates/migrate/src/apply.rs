//! Carrying values over, as a plan says.

use crate::plan::{Place, Plan, Step};

/// The bytes are not as many as the plan is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongSize {
    /// Bytes that are wanted.
    pub wanted: u64,
    /// Bytes that there are.
    pub is: u64,
}

impl std::fmt::Display for WrongSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes where the plan is for {}", self.is, self.wanted)
    }
}

impl std::error::Error for WrongSize {}

impl Plan {
    /// Fills the newer version's state from the older one's. What nothing is carried to, padding
    /// included, is zero or what is declared.
    ///
    /// # Errors
    ///
    /// If one of the two is not as large as its layout says. Then nothing is written.
    pub fn apply(&self, old: &[u8], new: &mut [u8]) -> Result<(), WrongSize> {
        self.check(old, new)?;
        new.fill(0);
        self.apply_onto(old, new)
    }

    /// As [`apply`](Self::apply), onto a state that has its initial value: what nothing is carried
    /// to stays as it is.
    ///
    /// # Errors
    ///
    /// As for [`apply`](Self::apply).
    pub fn apply_onto(&self, old: &[u8], new: &mut [u8]) -> Result<(), WrongSize> {
        self.check(old, new)?;
        run(&self.steps, old, new, 0, 0);
        Ok(())
    }

    fn check(&self, old: &[u8], new: &[u8]) -> Result<(), WrongSize> {
        for (is, wanted) in [(old.len() as u64, self.old_size), (new.len() as u64, self.new_size)] {
            if is != wanted {
                return Err(WrongSize { wanted, is });
            }
        }
        Ok(())
    }
}

/// `from` and `to`: where the steps' offsets are counted from.
fn run(steps: &[Step], old: &[u8], new: &mut [u8], from: u64, to: u64) {
    for step in steps {
        match step {
            Step::Copy { from: source, to: target, len } => {
                let (source, target) = ((from + source) as usize, (to + target) as usize);
                new[target..][..*len as usize].copy_from_slice(&old[source..][..*len as usize]);
            }
            Step::Number { from: source, to: target, signed } => {
                write(new, to, *target, read(old, from, *source, *signed));
            }
            Step::Float { from: source, to: target } => {
                let source = &old[(from + source) as usize..][..4];
                let value = f32::from_le_bytes(source.try_into().expect("4 bytes"));
                new[(to + target) as usize..][..8].copy_from_slice(&f64::from(value).to_le_bytes());
            }
            Step::Write { to: target, bytes } => {
                new[(to + target) as usize..][..bytes.len()].copy_from_slice(bytes);
            }
            Step::Repeat { from: source, to: target, old_stride, new_stride, count, steps } => {
                for at in 0..*count {
                    run(steps, old, new, from + source + at * old_stride, to + target + at * new_stride);
                }
            }
        }
    }
}

/// The bytes that a number is in.
fn bytes(base: u64, place: Place) -> std::ops::Range<usize> {
    let start = (base + place.offset) as usize;
    start..start + (usize::from(place.first) + usize::from(place.count)).div_ceil(8)
}

fn mask(count: u8) -> u128 {
    u128::MAX >> (128 - u32::from(count))
}

/// The number, in as many bits as there may be.
fn read(old: &[u8], base: u64, place: Place, signed: bool) -> u128 {
    let mut wide = [0; 16];
    let source = &old[bytes(base, place)];
    wide[..source.len()].copy_from_slice(source);
    let value = u128::from_le_bytes(wide) >> place.first & mask(place.count);
    let is_negative = signed && value >> (place.count - 1) & 1 != 0;
    if is_negative { value | !mask(place.count) } else { value }
}

fn write(new: &mut [u8], base: u64, place: Place, value: u128) {
    let mut wide = [0; 16];
    let target = &mut new[bytes(base, place)];
    wide[..target.len()].copy_from_slice(target);
    let mask = mask(place.count) << place.first;
    let with = u128::from_le_bytes(wide) & !mask | value << place.first & mask;
    target.copy_from_slice(&with.to_le_bytes()[..target.len()]);
}
