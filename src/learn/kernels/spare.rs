//! The memory of the last step's gradients, and of what lies between a layer's transforms, used again: it is
//! overwritten whole, so that it need not be cleared first.

use std::cell::RefCell;
use std::collections::HashMap;

use burn::backend::{Flex, tensor::FloatTensor};

/// Vectors of one length that a thread keeps: more layers of one shape than a model has.
const KEPT: usize = 8;

thread_local! {
    /// By length, of the lengths that were asked for.
    static SPARE: RefCell<HashMap<usize, Vec<Vec<f32>>>> = RefCell::default();
}

/// A vector of `len` values that mean nothing and are to be overwritten.
pub(super) fn take(len: usize) -> Vec<f32> {
    let spare = SPARE.with_borrow_mut(|spare| spare.entry(len).or_default().pop());
    spare.unwrap_or_else(|| vec![0.0; len])
}

/// Keeps the memory of an ordered tensor for [`take`], unless another tensor shares it.
pub(super) fn give(x: FloatTensor<Flex>) {
    let Some(len) = x.as_slice::<f32>().map(<[f32]>::len) else { return };
    if !x.is_unique() || x.bytes().len() != len * size_of::<f32>() {
        return;
    }
    // Whoever did not ask for that length need not pay for the conversion.
    if SPARE.with_borrow(|spare| spare.get(&len).is_some_and(|spare| spare.len() < KEPT))
        && let Ok(values) = x.into_data().try_into_vec()
    {
        keep(values);
    }
}

/// Keeps memory that [`take`] gave.
pub(super) fn keep(values: Vec<f32>) {
    SPARE.with_borrow_mut(|spare| {
        if let Some(spare) = spare.get_mut(&values.len())
            && spare.len() < KEPT
        {
            spare.push(values);
        }
    });
}

/// Gives up what this thread keeps.
pub(super) fn clear() {
    SPARE.take();
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FloatTensor<Flex> {
        FloatTensor::<Flex>::from_data(TensorData::new(values, shape))
    }

    #[test]
    fn memory_is_used_again_only_where_nothing_shares_it() {
        clear();
        give(tensor(vec![1.0; 3], [3]));
        assert_eq!(take(3), [0.0; 3], "nobody had asked for that length");
        let values = vec![1.0; 24];
        let at = values.as_ptr();
        assert_eq!(take(24), [0.0; 24]);
        let shared = tensor(values, [4, 6]);
        give(shared.clone());
        assert_eq!(take(24), [0.0; 24], "another tensor shares it");
        give(shared);
        assert_eq!(take(23), [0.0; 23], "another length");
        let again = take(24);
        assert_eq!((again.as_ptr(), &*again), (at, &[1.0; 24][..]));
        // Part of a tensor is not its whole memory.
        take(12);
        give(tensor(again, [4, 6]).narrow(0, 1, 2));
        assert_eq!(take(12), [0.0; 12]);
        for _ in 0..=KEPT {
            give(tensor(vec![1.0; 12], [12]));
        }
        let kept = (0..=KEPT).filter(|_| take(12)[0] == 1.0).count();
        assert_eq!(kept, KEPT);
        give(tensor(vec![1.0; 12], [12]));
        clear();
        assert_eq!(take(12), [0.0; 12]);
    }
}
