use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Compression, Map, Residual, check_ratio, part, size};
use crate::error::{Error, Result};
use crate::seed::Seed;

/// Most rows: each holds four bytes for every parameter while a round lasts.
const MOST_ROWS: usize = 31;

/// A count sketch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CountSketch {
    /// d′/d: counters in all rows, as a share of the coordinates; greater than 0, at most 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ratio: f64,
    /// Rows, of which a median is taken; odd, 1 to 31.
    #[schemars(range(min = 1, max = 31))]
    pub rows: usize,
    /// Whether the server keeps the sketch of what it did not take yet, and takes the largest coordinates
    /// only (FetchSGD). Without it the mean is unbiased, and noisy in all coordinates.
    pub error_feedback: bool,
    /// With error feedback: how many coordinates the server takes in a round, as a share of the counters;
    /// greater than 0, at most 1, by default 0.1.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top: Option<f64>,
}

/// `top` where none is given.
const TOP: f64 = 0.1;

impl Default for CountSketch {
    fn default() -> Self {
        Self { ratio: 0.1, rows: 5, error_feedback: true, top: None }
    }
}

impl CountSketch {
    fn columns(&self, d: usize) -> usize {
        (part(d, self.ratio) / self.rows).max(1)
    }
}

impl Compression for CountSketch {
    fn check(&self) -> Result<()> {
        check_ratio(self.ratio)?;
        let refuse = |key, rule: String| Err(Error::config(key, rule));
        if self.rows.is_multiple_of(2) || self.rows > MOST_ROWS {
            return refuse("rows", format!("must be odd, 1 to {MOST_ROWS}, not {}", self.rows));
        }
        match self.top {
            Some(_) if !self.error_feedback => {
                refuse("top", "belongs to error_feedback = true; set that or remove it".into())
            }
            Some(top) if !(top > 0.0 && top <= 1.0) => {
                refuse("top", format!("must be greater than 0 and at most 1, not {top}"))
            }
            _ => Ok(()),
        }
    }

    fn residual(&self) -> Residual {
        if self.error_feedback { Residual::Server } else { Residual::None }
    }

    fn coordinates(&self, tensors: &[Vec<usize>]) -> usize {
        self.rows * self.columns(size(tensors))
    }

    /// With error feedback the hashes are the same in all rounds, so that sketches of different rounds add
    /// up.
    fn draw(&self, tensors: &[Vec<usize>], seed: Seed, round: u64) -> Box<dyn Map> {
        let d = size(tensors);
        let columns = self.columns(d);
        let seed = seed.child("sketch", if self.error_feedback { 0 } else { round });
        let hash = |row: u64| {
            let mut words = vec![0; 4 * d];
            seed.bulk(row).fill_bytes(&mut words);
            words.as_chunks().0.iter().map(|word| Place::of(u32::from_le_bytes(*word), columns)).collect()
        };
        let rows = (0..self.rows as u64).map(hash).collect();
        let share = self.top.filter(|_| self.error_feedback).unwrap_or(TOP);
        let top = self.error_feedback.then(|| part(self.rows * columns, share).min(d));
        Box::new(Sketch { d, columns, rows, top })
    }
}

/// The counter and the sign of a coordinate in a row.
#[derive(Clone, Copy)]
struct Place(u32);

impl Place {
    /// Of 31 bits for the counter and one for the sign.
    fn of(word: u32, columns: usize) -> Self {
        let counter = (u64::from(word >> 1) * columns as u64) >> 31;
        Self((counter as u32) << 1 | word & 1)
    }

    fn counter(self) -> usize {
        (self.0 >> 1) as usize
    }

    fn signed(self, x: f64) -> f64 {
        if self.0 & 1 == 1 { -x } else { x }
    }
}

struct Sketch {
    d: usize,
    columns: usize,
    rows: Vec<Vec<Place>>,
    /// Coordinates that the server takes, where it keeps the others.
    top: Option<usize>,
}

impl Sketch {
    /// 1/√rows.
    fn scale(&self) -> f64 {
        (self.rows.len() as f64).sqrt().recip()
    }

    /// What the rows say of x_i.
    fn estimates<'a>(&'a self, y: &'a [f64], i: usize) -> impl Iterator<Item = f64> + 'a {
        let back = self.scale().recip();
        let rows = self.rows.iter().zip(y.chunks_exact(self.columns));
        rows.map(move |(row, counters)| row[i].signed(back * counters[row[i].counter()]))
    }

    fn median(&self, y: &[f64], i: usize) -> f64 {
        let mut estimates = [0.0; MOST_ROWS];
        let estimates = &mut estimates[..self.rows.len()];
        estimates.iter_mut().zip(self.estimates(y, i)).for_each(|(place, estimate)| *place = estimate);
        let middle = estimates.len() / 2;
        *estimates.select_nth_unstable_by(middle, f64::total_cmp).1
    }
}

impl Map for Sketch {
    fn compress(&self, x: &[f32]) -> Vec<f32> {
        let mut counters = vec![0.0; self.rows.len() * self.columns];
        for (row, counters) in self.rows.iter().zip(counters.chunks_exact_mut(self.columns)) {
            row.iter().zip(x).for_each(|(place, x)| counters[place.counter()] += place.signed(f64::from(*x)));
        }
        counters.iter().map(|y| (self.scale() * y) as f32).collect()
    }

    fn expand(&self, y: &[f64]) -> Vec<f64> {
        let mean = |i| self.estimates(y, i).sum::<f64>() / self.rows.len() as f64;
        (0..self.d).into_par_iter().map(mean).collect()
    }

    fn take(&self, y: &[f64], kept: &mut [f32]) -> Vec<f64> {
        let Some(top) = self.top else { return self.expand(y) };
        let sketch: Vec<f64> = kept.iter().zip(y).map(|(kept, y)| f64::from(*kept) + y).collect();
        let medians: Vec<f64> = (0..self.d).into_par_iter().map(|i| self.median(&sketch, i)).collect();
        let mut order: Vec<usize> = (0..self.d).collect();
        // Of equal ones the first.
        let larger = |a: &usize, b: &usize| medians[*b].abs().total_cmp(&medians[*a].abs()).then(a.cmp(b));
        if top < self.d {
            order.select_nth_unstable_by(top, larger);
        }
        let mut taken = vec![0.0; self.d];
        kept.iter_mut().zip(&sketch).for_each(|(kept, all)| *kept = *all as f32);
        for &i in order[..top].iter().filter(|i| medians[**i] != 0.0) {
            taken[i] = medians[i];
            let counters = self.rows.iter().zip(kept.chunks_exact_mut(self.columns));
            counters.for_each(|(row, counters)| counters[row[i].counter()] = 0.0);
        }
        taken
    }
}
