//! Linear compression of updates: d′ numbers A x travel instead of d.
//!
//! A is the same for all clients of a round and follows from a public seed, so that it commutes with sums:
//! Σ_k w_k A x_k = A Σ_k w_k x_k. Codes, masks and fields carry the shorter vectors as they carry any, and
//! the server expands the mean that it decodes. A is scaled such that E‖A x‖² = ‖x‖²; `solver.clip_norm`
//! bounds what is sent, ‖A x‖ included, so that noise and masks are made for d′ coordinates of that norm.
//!
//! | kind | A x | mean without error feedback | with it | source |
//! |---|---|---|---|---|
//! | `none` | x | y | | |
//! | `random-coordinates` | √(d/d′) times d′ coordinates, drawn anew in every round | Aᵀy, unbiased | (d′/d) Aᵀy, a projection | random masks: Konečný et al., *Federated Learning: Strategies for Improving Communication Efficiency*, 2016, section 2 |
//! | `low-rank` | each matrix times √(l/r) V, its longer side l projected on r columns V, orthonormal and drawn anew; vectors as they are | Aᵀy, unbiased | (r/l) Aᵀy, a projection | low rank with a random factor: the same section; a projection that all share: Vogels et al., *PowerSGD*, NeurIPS 2019 |
//! | `count-sketch` | rows of counters, each the sum of the coordinates that hash to it, with signs | mean over the rows, unbiased; hashes drawn anew | the coordinates of the largest medians over the rows, from a sketch that the server keeps; hashes drawn once | Charikar et al. 2002; Rothchild et al., *FetchSGD*, ICML 2020, algorithm 1, without its momentum |
//!
//! **Error feedback** (Karimireddy et al., *Error Feedback Fixes SignSGD*, ICML 2019). An unbiased mean is
//! d/d′ times as large where it is not zero, which is stable for small steps only. With error feedback the
//! server takes less, and what it did not take is kept: with `random-coordinates` and `low-rank` by the
//! client, which sends A v_k of v_k = x_k + e_k and keeps e_k ← v_k − B A v_k when its message entered the
//! sum, e_k ← v_k when it did not: an outage loses nothing. With `count-sketch` the server keeps it, and a
//! message that is lost is lost. It empties the counters of the coordinates that it takes, as the authors'
//! program does: to subtract what was taken, as they write, multiplies what is kept where no coordinates
//! stand out.

mod count_sketch;
mod low_rank;
mod random_coordinates;
#[cfg(test)]
mod tests;
mod whole;

use std::sync::Arc;

use crate::choice::choice;
use crate::error::{Error, Result};
use crate::seed::Seed;
pub use count_sketch::CountSketch;
pub use low_rank::LowRank;
pub use random_coordinates::RandomCoordinates;
pub use whole::Whole;

/// Who keeps what a round did not carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// Nobody.
    None,
    /// Every client its own part, d numbers.
    Clients,
    /// The server, d′ numbers.
    Server,
}

/// A family of linear maps, one for every round.
pub trait Compression: Send + Sync {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    fn check(&self) -> Result<()>;

    /// Who keeps what a round did not carry.
    fn residual(&self) -> Residual;

    /// d′ for a model of tensors of these shapes.
    fn coordinates(&self, tensors: &[Vec<usize>]) -> usize;

    /// The map of `round` (from 1) for such a model. `seed` is the same in all rounds, and public.
    fn draw(&self, tensors: &[Vec<usize>], seed: Seed, round: u64) -> Box<dyn Map>;
}

/// The map of a round, and what the server makes of its results. The same bytes whatever the number of
/// threads.
pub trait Map: Send + Sync {
    /// A x, d′ coordinates, of d.
    fn compress(&self, x: &[f32]) -> Vec<f32>;

    /// B y, d coordinates, of d′: linear.
    fn expand(&self, y: &[f64]) -> Vec<f64>;

    /// What the server steps along, d coordinates, for the mean y (d′ coordinates) of what was sent; `kept`
    /// is what it kept of earlier rounds, d′ numbers, with [`Residual::Server`] and nothing otherwise.
    fn take(&self, y: &[f64], kept: &mut [f32]) -> Vec<f64> {
        let _ = kept;
        self.expand(y)
    }
}

choice! {
    /// What travels of an update: the same linear map of it for all clients of a round, which all protocols
    /// carry.
    CompressionConfig by "kind" or "none" as compression: Compression {
        /// All of it.
        "none" => None(Whole),
        /// Some of its coordinates, drawn in every round.
        "random-coordinates" => RandomCoordinates(RandomCoordinates),
        /// A count sketch (Rothchild et al. 2020).
        "count-sketch" => CountSketch(CountSketch),
        /// Every matrix times a random one with fewer columns (Konečný et al. 2016).
        "low-rank" => LowRank(LowRank),
    }
}

impl Default for CompressionConfig {
    fn default() -> Self {
        Self::None(Whole::default())
    }
}

impl CompressionConfig {
    /// Whether updates travel as they are.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None(_))
    }

    /// The compression, if there is one.
    #[must_use]
    pub fn chosen(&self) -> Option<Arc<dyn Compression>> {
        (!self.is_none()).then(|| self.clone().into())
    }
}

/// Values in tensors of these shapes.
#[must_use]
pub fn size(tensors: &[Vec<usize>]) -> usize {
    tensors.iter().map(|shape| shape.iter().product::<usize>()).sum()
}

fn check_ratio(ratio: f64) -> Result<()> {
    match ratio > 0.0 && ratio <= 1.0 {
        true => Ok(()),
        false => Err(Error::config("ratio", format!("must be greater than 0 and at most 1, not {ratio}"))),
    }
}

/// `ratio` of `n`, at least 1 of them.
fn part(n: usize, ratio: f64) -> usize {
    ((n as f64 * ratio).round() as usize).clamp(1, n.max(1))
}
