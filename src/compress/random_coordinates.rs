use rand::seq::index;
use serde::{Deserialize, Serialize};

use super::{Compression, Map, Residual, check_ratio, part, size};
use crate::error::Result;
use crate::seed::Seed;

/// Some of the coordinates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RandomCoordinates {
    /// d′/d: the share of the coordinates that is sent; greater than 0, at most 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ratio: f64,
    /// Whether each client adds what earlier rounds did not carry to what it sends. Without it the mean is
    /// unbiased, and 1/ratio times as large in the coordinates that it has.
    pub error_feedback: bool,
}

impl Default for RandomCoordinates {
    fn default() -> Self {
        Self { ratio: 0.1, error_feedback: true }
    }
}

impl Compression for RandomCoordinates {
    fn check(&self) -> Result<()> {
        check_ratio(self.ratio)
    }

    fn residual(&self) -> Residual {
        if self.error_feedback { Residual::Clients } else { Residual::None }
    }

    fn coordinates(&self, tensors: &[Vec<usize>]) -> usize {
        part(size(tensors), self.ratio)
    }

    fn draw(&self, tensors: &[Vec<usize>], seed: Seed, round: u64) -> Box<dyn Map> {
        let d = size(tensors);
        let mut rng = seed.child("coordinates", round).rng();
        let mut chosen = index::sample(&mut rng, d, self.coordinates(tensors)).into_vec();
        chosen.sort_unstable();
        let scale = (d as f64 / chosen.len() as f64).sqrt();
        let back = if self.error_feedback { scale.recip() } else { scale };
        Box::new(Chosen { d, chosen, scale, back })
    }
}

struct Chosen {
    d: usize,
    /// Ascending.
    chosen: Vec<usize>,
    scale: f64,
    back: f64,
}

impl Map for Chosen {
    fn compress(&self, x: &[f32]) -> Vec<f32> {
        self.chosen.iter().map(|&i| (self.scale * f64::from(x[i])) as f32).collect()
    }

    fn expand(&self, y: &[f64]) -> Vec<f64> {
        let mut x = vec![0.0; self.d];
        self.chosen.iter().zip(y).for_each(|(&i, y)| x[i] = self.back * y);
        x
    }
}
