use rand::seq::index;
use serde::{Deserialize, Serialize};

use super::{Compression, Map, Residual, check_ratio, part};
use crate::error::Result;
use crate::noise::Hadamard;
use crate::seed::Seed;

/// Every matrix times a random one with fewer columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LowRank {
    /// r/l: the share of a matrix that is sent, r being the rank of what arrives and l the longer side;
    /// greater than 0, at most 1. Vectors, such as biases, are sent whole; a convolution is a matrix of one
    /// row for each output.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ratio: f64,
    /// Whether each client adds what earlier rounds did not carry to what it sends. Without it the mean is
    /// unbiased, and l/r times as large in the directions that it has.
    pub error_feedback: bool,
}

impl Default for LowRank {
    fn default() -> Self {
        Self { ratio: 0.1, error_feedback: true }
    }
}

impl Compression for LowRank {
    fn check(&self) -> Result<()> {
        check_ratio(self.ratio)
    }

    fn residual(&self) -> Residual {
        if self.error_feedback { Residual::Clients } else { Residual::None }
    }

    fn coordinates(&self, tensors: &[Vec<usize>]) -> usize {
        tensors.iter().map(|shape| Sides::of(shape).sent(self.ratio)).sum()
    }

    fn draw(&self, tensors: &[Vec<usize>], seed: Seed, round: u64) -> Box<dyn Map> {
        let seed = seed.child("projection", round);
        let tensor = |(i, shape): (u64, &Vec<usize>)| {
            let sides = Sides::of(shape);
            (sides, Projection::draw(sides.long, part(sides.long, self.ratio), seed.child("tensor", i)))
        };
        let tensors = (0..).zip(tensors).map(tensor).collect();
        Box::new(Projected { tensors, ratio: self.ratio, error_feedback: self.error_feedback })
    }
}

/// A tensor as a matrix: its first axis and the others.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sides {
    long: usize,
    /// 0 for what is no matrix.
    short: usize,
    /// Whether a vector along the long side lies together.
    in_rows: bool,
}

impl Sides {
    fn of(shape: &[usize]) -> Self {
        let size: usize = shape.iter().product();
        let rows = shape.first().copied().unwrap_or(1);
        let columns = size.checked_div(rows).unwrap_or(0);
        match rows.min(columns) {
            0 | 1 => Self { long: size, short: 0, in_rows: true },
            short => Self { long: rows.max(columns), short, in_rows: columns >= rows },
        }
    }

    fn size(self) -> usize {
        self.long * self.short.max(1)
    }

    fn sent(self, ratio: f64) -> usize {
        if self.short == 0 { self.long } else { part(self.long, ratio) * self.short }
    }

    /// Places of the vector number `i` along the long side.
    fn places(self, i: usize) -> impl Iterator<Item = usize> {
        let (start, stride) = if self.in_rows { (i * self.long, 1) } else { (i, self.short) };
        (0..self.long).map(move |j| start + j * stride)
    }
}

/// V of l×r with orthonormal columns: of a random rotation of the l coordinates r are kept. Two overlapping
/// Hadamard rotations make one of any length.
struct Projection {
    first: Hadamard,
    last: Hadamard,
    /// The largest power of two of coordinates.
    power: usize,
    length: usize,
    /// Ascending.
    kept: Vec<usize>,
}

impl Projection {
    fn draw(length: usize, rank: usize, seed: Seed) -> Self {
        let power = 1 << length.max(1).ilog2();
        let mut kept = index::sample(&mut seed.child("kept", 0).rng(), length, rank.min(length)).into_vec();
        kept.sort_unstable();
        let [first, last] = [0, 1].map(|i| Hadamard::new(seed.child("rotation", i)));
        Self { first, last, power, length, kept }
    }

    /// Vᵀ x, in the memory of `x`.
    fn project(&self, x: &mut [f64]) -> impl Iterator<Item = f64> {
        self.first.rotate(&mut x[..self.power]);
        if self.power < self.length {
            self.last.rotate(&mut x[self.length - self.power..]);
        }
        self.kept.iter().map(|&i| x[i])
    }

    /// V y.
    fn lift(&self, y: &[f64]) -> Vec<f64> {
        let mut x = vec![0.0; self.length];
        self.kept.iter().zip(y).for_each(|(&i, y)| x[i] = *y);
        if self.power < self.length {
            self.last.invert(&mut x[self.length - self.power..]);
        }
        self.first.invert(&mut x[..self.power]);
        x
    }
}

struct Projected {
    tensors: Vec<(Sides, Projection)>,
    ratio: f64,
    error_feedback: bool,
}

impl Map for Projected {
    fn compress(&self, x: &[f32]) -> Vec<f32> {
        let mut sent = Vec::new();
        let mut rest = x;
        for (sides, projection) in &self.tensors {
            let (own, others) = rest.split_at(sides.size());
            rest = others;
            if sides.short == 0 {
                sent.extend_from_slice(own);
                continue;
            }
            let scale = (sides.long as f64 / projection.kept.len() as f64).sqrt();
            for i in 0..sides.short {
                let mut vector: Vec<f64> = sides.places(i).map(|at| f64::from(own[at])).collect();
                sent.extend(projection.project(&mut vector).map(|x| (scale * x) as f32));
            }
        }
        sent
    }

    fn expand(&self, y: &[f64]) -> Vec<f64> {
        let mut x = vec![0.0; self.tensors.iter().map(|(sides, _)| sides.size()).sum()];
        let (mut whole, mut rest) = (&mut x[..], y);
        for (sides, projection) in &self.tensors {
            let (own, others) = whole.split_at_mut(sides.size());
            let (sent, later) = rest.split_at(sides.sent(self.ratio));
            (whole, rest) = (others, later);
            if sides.short == 0 {
                own.copy_from_slice(sent);
                continue;
            }
            let rank = projection.kept.len();
            let scale = (sides.long as f64 / rank as f64).sqrt();
            let back = if self.error_feedback { scale.recip() } else { scale };
            for (i, sent) in sent.chunks_exact(rank).enumerate() {
                let vector = projection.lift(sent);
                sides.places(i).zip(vector).for_each(|(at, x)| own[at] = back * x);
            }
        }
        x
    }
}
