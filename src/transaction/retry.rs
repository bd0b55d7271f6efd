//! Beginning again after a conflict.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::{Transaction, TransactionOptions};
use crate::{Error, ErrorKind, Publication, Runtime};

impl Runtime {
    /// Does `body` in a transaction and commits it. After a conflict, of either, it waits and does
    /// both again: longer each time, and for a part that is random, so that two that are in each
    /// other's way are not so again. Returns what the last `body` did, and what was published; None
    /// if there was nothing to.
    ///
    /// Time-out and size are those of each attempt.
    ///
    /// ```no_run
    /// use midflight::{Runtime, TransactionOptions};
    ///
    /// # fn main() -> Result<(), midflight::Error> {
    /// let rt = Runtime::start()?;
    /// rt.transact(&TransactionOptions::new(), |tx| {
    ///     if tx.version("physics")?.is_some() {
    ///         // SAFETY: our own module, built with the same headers.
    ///         unsafe { tx.load("libphysics_tests.so") }?;
    ///     }
    ///     Ok(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The last conflict, after [`TransactionOptions::retries`]; any other error at once.
    pub fn transact<T>(
        &self,
        options: &TransactionOptions,
        mut body: impl FnMut(&mut Transaction) -> Result<T, Error>,
    ) -> Result<(T, Option<Publication>), Error> {
        let mut attempt = || -> Result<_, Error> {
            let mut transaction = self.transaction(options)?;
            let result = body(&mut transaction)?;
            Ok((result, transaction.commit()?))
        };
        let mut retry = 0;
        loop {
            match attempt() {
                Err(error) if error.kind() == ErrorKind::Conflict && retry < options.retries => {
                    // Keyed anew each time, by the system's random numbers.
                    let random = RandomState::new().hash_one(retry);
                    std::thread::sleep(wait(retry, options.first_wait, options.longest_wait, random));
                    retry += 1;
                }
                result => return result,
            }
        }
    }
}

/// How long to wait before a retry, counted from 0: between half and all of `first * 2^retry`, or
/// of `longest` if that is less.
fn wait(retry: u32, first: Duration, longest: Duration, random: u64) -> Duration {
    let whole = first.saturating_mul(1_u32.checked_shl(retry).unwrap_or(u32::MAX)).min(longest);
    let half = whole / 2;
    let part = (u128::from(random) * (whole - half).as_nanos()) >> 64;
    // Of what is less than u64::MAX nanoseconds; what is more is no time to wait exactly.
    half + Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_doubles_until_the_longest() {
        let longest = 100 * MS;
        let all = |random| (0..40).map(move |retry| wait(retry, MS, longest, random));
        for (retry, (least, most)) in all(0).zip(all(u64::MAX)).enumerate() {
            let whole = if retry < 7 { MS * (1 << retry) } else { longest };
            assert_eq!(least, whole / 2);
            assert!(most <= whole && whole - most <= Duration::from_nanos(1), "{most:?} of {whole:?}");
        }
    }

    proptest! {
        #[test]
        fn it_is_between_half_and_all(retry: u32, first: u64, longest: u64, random: u64) {
            let [first, longest] = [first, longest].map(Duration::from_nanos);
            let waited = wait(retry, first, longest, random);
            prop_assert!(waited <= longest);
            prop_assert!(waited >= first.min(longest) / 2);
        }
    }
}
