//! A compression of one's own: a block of the parameters in every round, one after the other.

use seccogc::compress::{Compression, Map, Residual, size};
use seccogc::config::Config;
use seccogc::error::{Error, Result};
use seccogc::seed::Seed;
use seccogc::train::Experiment;

/// The parameters in so many blocks.
struct Blocks(usize);

/// The block from `start` on, of `d` parameters.
struct Block {
    start: usize,
    len: usize,
    d: usize,
}

impl Compression for Blocks {
    fn check(&self) -> Result<()> {
        match self.0 {
            0 => Err(Error::config("blocks", "0 is too small; give at least 1")),
            _ => Ok(()),
        }
    }

    fn residual(&self) -> Residual {
        Residual::Clients
    }

    fn coordinates(&self, tensors: &[Vec<usize>]) -> usize {
        size(tensors).div_ceil(self.0)
    }

    fn draw(&self, tensors: &[Vec<usize>], _: Seed, round: u64) -> Box<dyn Map> {
        let (len, d) = (self.coordinates(tensors), size(tensors));
        Box::new(Block { start: (round as usize % self.0 * len).min(d - len), len, d })
    }
}

impl Map for Block {
    fn compress(&self, x: &[f32]) -> Vec<f32> {
        x[self.start..][..self.len].to_vec()
    }

    fn expand(&self, y: &[f64]) -> Vec<f64> {
        let mut x = vec![0.0; self.d];
        x[self.start..][..self.len].copy_from_slice(y);
        x
    }
}

pub fn main() -> Result<()> {
    let setting =
        Experiment::new(Config { rounds: 12, ..Config::default() }).compression(Blocks(4)).build()?;
    let rows = setting.run(&setting.config().protocol)?.rounds().collect::<Result<Vec<_>>>()?;
    println!("accuracy after twelve rounds of a quarter each: {:?}", rows[11].test_accuracy);
    assert!(rows[11].test_accuracy > Some(0.7));
    Ok(())
}
