//! Memory of tensors that are no longer needed, used again: what a kernel overwrites whole need not be cleared first.

use std::cell::RefCell;

use burn::backend::TensorMetadata;

use super::flex::Plain;

/// Vectors that a thread keeps: more than one step of a model needs, so that none is dropped in the middle of training.
const KEPT: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// A vector of `len` values that mean nothing and are to be overwritten.
pub(super) fn take(len: usize) -> Vec<f32> {
    let spare = SPARE.with_borrow_mut(|spare| {
        let at = spare.iter().rposition(|values| values.len() == len)?;
        Some(spare.swap_remove(at))
    });
    spare.unwrap_or_else(|| vec![0.0; len])
}

/// Keeps the memory of an ordered tensor, or of images whose channels lie together, for [`take`], unless another tensor shares it.
pub(super) fn give(x: Plain) {
    let ordered = if x.shape().len() == 4 { x.permute(&[0, 2, 3, 1]) } else { x.clone() };
    drop(x);
    let x = ordered;
    if !x.is_unique() || x.as_slice::<f32>().is_none_or(|values| size_of_val(values) != x.bytes().len()) {
        return;
    }
    let Ok(values) = x.into_data().try_into_vec::<f32>() else { return };
    SPARE.with_borrow_mut(|spare| {
        if spare.len() == KEPT {
            spare.remove(0);
        }
        spare.push(values);
    });
}

/// Gives up what this thread keeps.
pub(super) fn clear() {
    SPARE.take();
}

#[cfg(test)]
mod tests {
    use super::super::flex::{images, tensor};
    use super::*;

    #[test]
    fn memory_is_used_again_only_where_nothing_shares_it() {
        clear();
        let kept = |values: &[f32]| values.as_ptr();
        let values = vec![1.0; 24];
        let at = kept(&values);
        let shared = tensor(values, [24]);
        give(shared.clone());
        assert_ne!(kept(&take(24)), at, "another tensor shares it");
        give(shared);
        assert_eq!(take(23), [0.0; 23], "another size");
        let again = take(24);
        assert_eq!((kept(&again), &*again), (at, &[1.0; 24][..]));
        // Images lie with their channels together, and part of a tensor is not its whole memory.
        give(images(again, 2, [3, 4]));
        let again = take(24);
        assert_eq!(kept(&again), at);
        give(tensor(again, [4, 6]).narrow(0, 1, 2));
        assert_eq!(take(12), [0.0; 12]);
        for len in 1..=KEPT + 1 {
            give(tensor(vec![1.0; len], [len]));
        }
        assert_eq!((take(1), take(2)), (vec![0.0], vec![1.0, 1.0]), "the oldest is dropped");
        clear();
        assert_eq!(take(3), [0.0; 3]);
    }
}
