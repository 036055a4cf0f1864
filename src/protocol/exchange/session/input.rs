//! Updates over the reals as inputs.

use std::ops::Range;

use super::super::Update;
use crate::algebra::grid::Grid;
use crate::algebra::{CHUNK, KeyStream, Real, Scalar};
use crate::keys::{self, Later, SeededKeys};
use crate::protocol::Input;
use crate::seed::Seed;

/// Some coordinates of an update.
pub(crate) struct Part<'a> {
    /// The update.
    pub update: &'a Update,
    /// Which of its coordinates; they begin with a [`CHUNK`].
    pub part: Range<usize>,
    /// What the weighted coordinates are rounded to, if anything.
    pub grid: Option<Grid>,
    /// What is added to them, if anything.
    pub noise: Option<Share>,
}

/// A client's own share of the noise in a sum of one round.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    /// The standard deviation of a coordinate.
    pub std: f64,
    /// What it is drawn from, whatever the attempt.
    pub seed: Seed,
}

/// The one stream of a share's seed.
pub(crate) const RELEASE: KeyStream = KeyStream { purpose: "release", round: 0, a: 0, b: 0 };

impl<S: Real> Input<S> for Part<'_> {
    fn len(&self) -> usize {
        self.part.len()
    }

    fn add_to(&self, y: &mut [S]) {
        S::axpy_f32(y, self.update.weight, &self.update.delta[self.part.clone()], self.grid.as_ref());
        if let Some(Share { std, seed }) = &self.noise {
            debug_assert!(self.part.start.is_multiple_of(CHUNK), "noise is drawn in whole chunks");
            let chunks = self.part.start / keys::CHUNK;
            let source = Later { source: SeededKeys(*seed), chunks };
            // Of a multiple and rounded noise the sum is that of the multiple and the noise, rounded.
            let grid = self.grid.map(|grid| grid.unspread());
            keys::add_noise(y, RELEASE, S::Scalar::deviation(*std), grid.as_ref(), &source);
        }
    }
}
