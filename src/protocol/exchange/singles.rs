//! Single updates as the server received them.

use std::sync::Arc;

use super::Update;
use crate::error::{Error, Result};
use crate::message::Decoded;
use crate::parallel;

/// That there are none to be had.
pub(super) fn hidden() -> Error {
    Error::Refused("the scheme shows the server a sum only; single updates cannot be had".into())
}

/// The single updates of a round, gathered part by part.
pub(super) struct Gathered<'a> {
    updates: &'a [Update],
    /// By client whom the result includes.
    vectors: Vec<Vec<f32>>,
}

impl<'a> Gathered<'a> {
    /// Of a round with these updates, of which weights and lengths are read.
    pub fn new(updates: &'a [Update]) -> Self {
        Self { updates, vectors: Vec::new() }
    }

    /// Appends a part: the inputs that `decoded` was made of.
    ///
    /// # Errors
    /// [`Error::Broken`]: the protocol `P` hands over other inputs than it included.
    pub fn append<P, S: Clone + Send + Sync, T>(
        &mut self,
        decoded: &Decoded<T>,
        singles: Vec<Arc<Vec<S>>>,
        numbers: impl Fn(Vec<S>) -> Vec<f64> + Send + Sync,
    ) -> Result<()> {
        let included = decoded.included();
        let len = match decoded {
            Decoded::Sum { sum, .. } | Decoded::Estimate { sum, .. } => sum.len(),
            Decoded::Outage(_) => 0,
        };
        if singles.len() != included.len() || singles.iter().any(|single| single.len() != len) {
            let what = format!(
                "a result of {len} symbols over {} clients is made of {} single inputs of {:?}",
                included.len(),
                singles.len(),
                singles.iter().map(|single| single.len()).collect::<Vec<_>>()
            );
            return Err(Error::broken::<P>(what));
        }
        self.vectors.resize_with(included.len(), Vec::new);
        let clients = included.iter().map(|&k| &self.updates[usize::from(k)]);
        parallel::for_each(clients.zip(singles).zip(&mut self.vectors), |((update, single), vector)| {
            vector.reserve_exact(update.delta.len().saturating_sub(vector.len()));
            let scale = update.weight.recip();
            vector.extend(numbers(Arc::unwrap_or_clone(single)).into_iter().map(|x| (scale * x) as f32));
        });
        Ok(())
    }

    /// The updates of those whom the round includes in the end.
    pub fn of(self, decoded: &Decoded<f64>) -> Vec<Update> {
        let weights = decoded.included().iter().map(|&k| self.updates[usize::from(k)].weight);
        weights.zip(self.vectors).map(|(weight, x)| Update { weight, delta: Arc::new(x) }).collect()
    }
}
