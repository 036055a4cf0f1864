//! What has been solved for a set of clients: the same ones tend to respond, or to be missing, in every
//! round.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

/// Sets that are remembered.
const LIMIT: usize = 4096;

/// Solutions by set, at most [`LIMIT`]; forgotten all at once when there are more. Two memories are equal and
/// a copy is empty, because a memory changes no result.
#[derive(Debug)]
pub struct Memory<T, V>(RwLock<HashMap<Vec<T>, V>>);

impl<T: Copy + Eq + Hash, V: Clone> Memory<T, V> {
    /// The solution for `set`, by `solve` when it is not known. Others go on meanwhile; some may solve the
    /// same.
    pub fn get(&self, set: &[T], solve: impl FnOnce() -> V) -> V {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(set) {
            return known.clone();
        }
        let solution = solve();
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= LIMIT {
            known.clear();
        }
        known.insert(set.to_vec(), solution.clone());
        solution
    }
}

impl<T, V> Default for Memory<T, V> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T, V> Clone for Memory<T, V> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T, V> PartialEq for Memory<T, V> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_solved_once_and_the_memory_is_bounded() {
        let memory = Memory::default();
        assert_eq!(memory.get(&[1, 2], || 3), 3);
        assert_eq!(memory.get(&[1, 2], || unreachable!("known")), 3);
        assert_eq!(memory.clone().get(&[1, 2], || 4), 4, "a copy knows nothing");
        for i in 0..LIMIT {
            memory.get(&[i, i], || i);
        }
        assert_eq!(memory.get(&[1, 2], || 5), 5, "forgotten");
        assert!(memory.0.read().unwrap().len() <= LIMIT);
    }
}
