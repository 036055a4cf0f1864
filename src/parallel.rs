//! Work on all cores.
//!
//! Schemes, symbols and keys are generic, and every parallel iterator over them would be compiled anew for
//! each combination; here is one loop for all. Its results are in the order of its items, whatever the number
//! of threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::{Error, Result};

/// Gives the work of this process so many threads, before it begins.
///
/// # Errors
/// Work has begun.
pub fn set_threads(threads: usize) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build_global().map_err(|error| Error::Refused(format!("{threads} threads: {error}")))
}

/// What nobody sets: the end of work that no one wants to stop.
pub static NEVER: AtomicBool = AtomicBool::new(false);

/// To be asked between the parts of long work.
///
/// # Errors
/// [`Error::Stopped`] once `stop` is set.
pub fn goes_on(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) { Err(Error::Stopped) } else { Ok(()) }
}

/// `work` of every item.
pub fn map<T: Send, R: Send>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> R + Send + Sync,
) -> Vec<R> {
    let places: Vec<Mutex<Place<T, R>>> =
        items.into_iter().map(|item| Mutex::new(Place::Waits(item))).collect();
    each(places.len(), &|i| {
        let mut place = places[i].lock().unwrap_or_else(PoisonError::into_inner);
        if let Place::Waits(item) = std::mem::replace(&mut *place, Place::Taken) {
            *place = Place::Done(work(item));
        }
    });
    let done = |place: Mutex<Place<T, R>>| match place.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Place::Done(result) => Some(result),
        Place::Waits(_) | Place::Taken => None,
    };
    places.into_iter().filter_map(done).collect()
}

/// Does `work` to every item.
pub fn for_each<T: Send>(items: impl IntoIterator<Item = T>, work: impl Fn(T) + Send + Sync) {
    map(items, work);
}

/// Does `work` to every block of `block` coordinates of `vectors`, which are equally long: its number, and
/// its part of each of them.
pub fn for_each_block<'a, T: Send + 'a>(
    vectors: impl IntoIterator<Item = &'a mut [T]>,
    block: usize,
    work: impl Fn(usize, Vec<&'a mut [T]>) + Send + Sync,
) {
    let mut parts: Vec<_> = vectors.into_iter().map(|vector| vector.chunks_mut(block)).collect();
    let count = parts.first().map_or(0, ExactSizeIterator::len);
    let blocks: Vec<_> = (0..count).map(|_| parts.iter_mut().filter_map(Iterator::next).collect()).collect();
    for_each(blocks.into_iter().enumerate(), |(number, parts)| work(number, parts));
}

enum Place<T, R> {
    Waits(T),
    Taken,
    Done(R),
}

/// Returns when `work` is done for all of 0..`count`; a panic of one of them is passed on.
fn each(count: usize, work: &(dyn Fn(usize) + Sync)) {
    if count == 1 {
        work(0);
    } else {
        (0..count).into_par_iter().for_each(work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_their_items() {
        for count in [0, 1, 2, 1000] {
            let words: Vec<String> = (0..count).map(|i| i.to_string()).collect();
            let lengths = map(&words, |word| (word.clone(), word.len()));
            assert_eq!(lengths, words.iter().map(|word| (word.clone(), word.len())).collect::<Vec<_>>());
        }
        let mut values = vec![1; 100];
        for_each(values.chunks_mut(7).enumerate(), |(i, chunk)| chunk.fill(i));
        assert_eq!(values, (0..100).map(|i| i / 7).collect::<Vec<_>>());
    }

    #[test]
    fn blocks_are_parts_of_all_vectors() {
        let mut vectors = vec![vec![0; 10], vec![0; 10], vec![0; 10]];
        for_each_block(vectors.iter_mut().map(Vec::as_mut_slice), 4, |number, parts| {
            parts.into_iter().enumerate().for_each(|(k, part)| part.fill(10 * number + k));
        });
        let want = |k| [vec![k; 4], vec![10 + k; 4], vec![20 + k; 2]].concat();
        assert_eq!(vectors, [want(0), want(1), want(2)]);
        for_each_block(std::iter::empty::<&mut [u8]>(), 4, |_, _| unreachable!());
    }

    #[test]
    #[should_panic(expected = "the third")]
    fn panics_are_passed_on() {
        for_each(0..9, |i| assert_ne!(i, 2, "the third"));
    }
}
