//! Updates over a field, and what is lost on the way.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Lost, Update};
use crate::algebra::field::Prime;
use crate::algebra::quantise::Quantiser;
use crate::protocol::Input;
use crate::seed::Seed;

/// Share of clipped coordinates above which a run is warned.
pub const MOST_SATURATED: f64 = 0.01;

/// Share of coordinates rounded to 0 above which a run is warned.
pub const MOST_UNDERFLOWED: f64 = 0.5;

/// What quantising loses of `updates`; says so once when it is much.
pub(super) fn lost(quantiser: &Quantiser, updates: &[Update], warned: &AtomicBool) -> Lost {
    let counts = updates.iter().map(|update| quantiser.lost(update.weight, &update.delta));
    let (clipped, vanished) = counts.fold((0, 0), |(a, b), (c, v)| (a + c, b + v));
    let all = updates.iter().map(|update| update.delta.len()).sum::<usize>().max(1) as f64;
    let lost = Lost { saturated: clipped as f64 / all, underflowed: vanished as f64 / all };
    let advice = if lost.saturated > MOST_SATURATED {
        Some((lost.saturated, "exceed quantisation.clip", "raise it"))
    } else if lost.underflowed > MOST_UNDERFLOWED {
        let change = "raise quantisation.bits or lower quantisation.clip";
        Some((lost.underflowed, "are rounded to 0", change))
    } else {
        None
    };
    if let Some((share, what, change)) = advice
        && !warned.swap(true, Ordering::Relaxed)
    {
        tracing::warn!("{:.0} % of the updates' coordinates {what}; {change}", 100.0 * share);
    }
    lost
}

/// An update as field symbols.
pub(crate) struct Quantised<'a> {
    /// How it becomes symbols.
    pub quantiser: Quantiser,
    /// The update.
    pub update: &'a Update,
    /// Which of its coordinates.
    pub part: Range<usize>,
    /// Feeds stochastic rounding.
    pub seed: Seed,
}

impl<F: Prime> Input<F> for Quantised<'_> {
    fn len(&self) -> usize {
        self.part.len()
    }

    fn add_to(&self, y: &mut [F]) {
        let delta = &self.update.delta[..self.part.end];
        self.quantiser.add_to(y, self.update.weight, delta, self.part.start, self.seed);
    }
}
