//! Mean and deviation of values that come one user after another.

use crate::data::{Examples, Normalisation};

/// Count, mean and sum of squared deviations of every channel or feature (Chan, Golub, LeVeque 1983).
#[derive(Debug)]
pub(super) struct Moments {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    /// Of nothing, for so many channels or features.
    pub fn new(channels: usize) -> Self {
        Self { count: 0.0, mean: vec![0.0; channels], squares: vec![0.0; channels] }
    }

    /// Adds the examples of a user, pixels in [0, 1].
    pub fn add(&mut self, examples: &Examples) {
        let channels = self.mean.len();
        let all: Vec<usize> = (0..examples.len()).collect();
        let mut values = Vec::new();
        examples.extend_batch(&all, &Normalisation::identity(channels), &mut values);
        let plane = examples.shape().iter().product::<usize>() / channels;
        let count = (examples.len() * plane) as f64;
        for channel in 0..channels {
            let own = || {
                let planes = values.chunks_exact(plane).skip(channel).step_by(channels);
                planes.flatten().map(|x| f64::from(*x))
            };
            let mean = own().sum::<f64>() / count;
            let squares: f64 = own().map(|x| (x - mean).powi(2)).sum();
            let (apart, total) = (mean - self.mean[channel], self.count + count);
            self.mean[channel] += apart * count / total;
            self.squares[channel] += squares + apart * apart * self.count * count / total;
        }
        self.count += count;
    }

    /// What they are; a constant channel or feature gets deviation 1.
    pub fn normalisation(self) -> Normalisation {
        let std = self.squares.iter().map(|squares| (squares / self.count).sqrt());
        let std = std.map(|std| if std > 0.0 { std } else { 1.0 }).collect();
        Normalisation { mean: self.mean, std }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_one_by_one_give_the_statistics_of_all() {
        let pixels: Vec<u8> = (0..5 * 2 * 6u32).map(|i| (i * i % 251) as u8).collect();
        let all = Examples::new(pixels, vec![0; 5], [2, 2, 3]).unwrap();
        let mut moments = Moments::new(2);
        moments.add(&all.subset(&[0, 1]));
        moments.add(&all.subset(&[2, 3, 4]));
        let (own, whole) = (moments.normalisation(), Normalisation::of(&all));
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(&own.mean, &whole.mean) && near(&own.std, &whole.std), "{own:?} {whole:?}");
        let mut constant = Moments::new(1);
        constant.add(&Examples::of_features(vec![3.0; 4], vec![0; 4], 1).unwrap());
        assert_eq!(constant.normalisation(), Normalisation { mean: vec![3.0], std: vec![1.0] });
    }
}
