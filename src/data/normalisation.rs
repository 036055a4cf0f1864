//! Statistics of examples, by which values are standardised.

use super::Examples;
use super::examples::{Labels, Values};

/// The mean and standard deviation of every channel of images, with pixels in [0, 1], or of every feature of
/// a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalisation {
    /// Mean per channel or feature.
    pub mean: Vec<f64>,
    /// Standard deviation per channel or feature, positive.
    pub std: Vec<f64>,
}

impl Normalisation {
    /// Leaves pixels as x/255 and features as they are.
    #[must_use]
    pub fn identity(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// The statistics of `examples`; a constant channel or feature gets deviation 1.
    #[must_use]
    pub fn of(examples: &Examples) -> Self {
        match &examples.values {
            Values::Pixels(pixels) => Self::of_pixels(pixels, examples.shape()),
            Values::Features(features) => Self::of_features(features, examples.shape().iter().product()),
            Values::Tokens(_) => Self::identity(examples.shape()[0]),
        }
    }

    /// What a value of a channel, feature or response was before it was standardised to x.
    #[must_use]
    pub fn restore(&self, channel: usize, x: f32) -> f64 {
        f64::from(x) * self.std[channel] + self.mean[channel]
    }

    /// The statistics of the response values of `examples`, `each` an example; the identity without examples.
    #[must_use]
    pub fn of_responses(examples: &Examples, each: usize) -> Self {
        match &examples.labels {
            Labels::Values { values, each } if !values.is_empty() => Self::of_features(values, *each),
            _ => Self::identity(each),
        }
    }

    /// From exact integer sums, in single precision as the pixels.
    fn of_pixels(pixels: &[u8], [channels, height, width]: [usize; 3]) -> Self {
        let plane = height * width;
        let mut sums = vec![(0u64, 0u64); channels];
        for (i, chunk) in pixels.chunks_exact(plane).enumerate() {
            // One image plane fits u32 sums (255² · 66,000 pixels), which vectorise; larger ones are cut.
            for piece in chunk.chunks(1 << 15) {
                let sum: u32 = piece.iter().map(|&x| u32::from(x)).sum();
                let squares: u32 = piece.iter().map(|&x| u32::from(x) * u32::from(x)).sum();
                let total = &mut sums[i % channels];
                total.0 += u64::from(sum);
                total.1 += u64::from(squares);
            }
        }
        let count = (pixels.len() / channels).max(1) as f64;
        let mut norm = Self::identity(channels);
        for (c, (sum, squares)) in sums.into_iter().enumerate() {
            let mean = sum as f64 / count;
            let variance = squares as f64 / count - mean * mean;
            norm.mean[c] = f64::from((mean / 255.0) as f32);
            if variance > 0.0 {
                norm.std[c] = f64::from((variance.sqrt() / 255.0) as f32);
            }
        }
        norm
    }

    /// In two passes and from the first value on, so that a feature far from 0 keeps its digits.
    fn of_features(features: &[f64], columns: usize) -> Self {
        let rows = (features.len() / columns).max(1) as f64;
        let mut norm = Self::identity(columns);
        for column in 0..columns {
            let values = || features.iter().skip(column).step_by(columns).copied();
            let first = features.get(column).copied().unwrap_or_default();
            let mean = first + values().map(|x| x - first).sum::<f64>() / rows;
            let deviation = (values().map(|x| (x - mean).powi(2)).sum::<f64>() / rows).sqrt();
            norm.mean[column] = mean;
            if deviation > 0.0 {
                norm.std[column] = deviation;
            }
        }
        norm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_does_not_change_what_is_standardised() {
        let times = |start: f64| {
            let rows = (0..1000).map(|i| start + f64::from(i * 37 % 101)).collect();
            let examples = Examples::of_features(rows, vec![0; 1000], 1).unwrap();
            let mut values = Vec::new();
            examples.extend_batch(&[0, 1, 2, 3, 500, 999], &Normalisation::of(&examples), &mut values);
            values
        };
        // Milliseconds since 1970: single precision has steps of 131,072 there.
        let pairs = times(1_700_000_000_000.0).into_iter().zip(times(0.0));
        assert!(pairs.into_iter().all(|(x, y)| (x - y).abs() < 1e-5));
        let constant = Examples::of_features(vec![0.1; 7], vec![0; 7], 1).unwrap();
        assert_eq!(Normalisation::of(&constant), Normalisation { mean: vec![0.1], std: vec![1.0] });
    }
}
