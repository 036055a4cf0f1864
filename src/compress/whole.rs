use serde::{Deserialize, Serialize};

use super::{Compression, Map, Residual, size};
use crate::error::Result;
use crate::seed::Seed;

/// No compression.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Whole {}

impl Compression for Whole {
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn residual(&self) -> Residual {
        Residual::None
    }

    fn coordinates(&self, tensors: &[Vec<usize>]) -> usize {
        size(tensors)
    }

    fn draw(&self, _: &[Vec<usize>], _: Seed, _: u64) -> Box<dyn Map> {
        Box::new(Identity)
    }
}

struct Identity;

impl Map for Identity {
    fn compress(&self, x: &[f32]) -> Vec<f32> {
        x.to_vec()
    }

    fn expand(&self, y: &[f64]) -> Vec<f64> {
        y.to_vec()
    }
}
