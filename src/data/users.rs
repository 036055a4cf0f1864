//! Training examples that belong to users: a client is one of them, and its examples are read when it trains.
//!
//! What is held of a population is a few bytes a user; the examples of those who do not take part in a round
//! need not be anywhere but where they are stored, or are not even made yet.

mod folders;
mod json;
mod leaf;
mod moments;
mod synthetic;

use std::fmt::Debug;

use sha2::{Digest, Sha256};

use super::Examples;
use crate::error::Result;

pub(super) use folders::Folders;
pub(super) use leaf::{Leaf, Wanted};
pub use synthetic::{Population, Synthetic};

/// The training examples of a population.
pub trait Users: Send + Sync + Debug {
    /// Number of users.
    fn number(&self) -> usize;

    /// Examples of a user, from 0; every user has one at least.
    fn count(&self, user: usize) -> usize;

    /// The examples of a user, as many as [`Users::count`] says and the same ones in the same order at every
    /// time.
    ///
    /// # Errors
    /// Examples that cannot be read any more, or have changed.
    fn read(&self, user: usize) -> Result<Examples>;

    /// SHA-256 of all examples, or of all that they follow from.
    fn digest(&self) -> [u8; 32];
}

/// The examples of each user, by their places among all.
pub(super) type Places = Vec<Vec<usize>>;

/// Users whose examples are in memory.
#[derive(Debug)]
pub struct Held {
    examples: Examples,
    /// The examples of each user.
    places: Vec<Vec<usize>>,
}

impl Held {
    /// Each user's `places` among `examples`; users without any are left out.
    #[must_use]
    pub fn new(examples: Examples, mut places: Vec<Vec<usize>>) -> Self {
        places.retain(|own| !own.is_empty());
        Self { examples, places }
    }
}

impl Users for Held {
    fn number(&self) -> usize {
        self.places.len()
    }

    fn count(&self, user: usize) -> usize {
        self.places[user].len()
    }

    fn read(&self, user: usize) -> Result<Examples> {
        Ok(self.examples.subset(&self.places[user]))
    }

    fn digest(&self) -> [u8; 32] {
        let mut all = Sha256::new();
        all.update(self.examples.digest());
        for own in &self.places {
            all.update((own.len() as u64).to_le_bytes());
            own.iter().for_each(|&i| all.update((i as u64).to_le_bytes()));
        }
        all.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_in_memory_have_their_own_examples_in_order() {
        let all = Examples::of_features((0..10).map(f64::from).collect(), vec![0, 1, 2, 3, 4], 2).unwrap();
        let users = Held::new(all.clone(), vec![vec![3, 1], vec![], vec![0]]);
        assert_eq!((users.number(), users.count(0), users.count(1)), (2, 2, 1));
        assert_eq!(users.read(0).unwrap(), all.subset(&[3, 1]));
        assert_eq!(users.read(1).unwrap().labels(), [0]);
        assert_ne!(users.digest(), Held::new(all, vec![vec![1, 3], vec![0]]).digest());
    }
}
