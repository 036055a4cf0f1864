//! Random flips and crops of training images (He et al. 2016, section 4.2; McMahan et al. 2017, section 3).

use rand::RngExt;

use super::Normalisation;
use crate::seed::Seed;

/// What local training does to the images of every batch. The default leaves them alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augmentation {
    /// Whether an image is mirrored left to right with probability 1/2.
    pub flip: bool,
    /// The image is padded with this many black pixels on every side and cut back to its size at a uniformly
    /// random place.
    pub crop: usize,
}

impl Augmentation {
    /// Augments standardised images of `shape` (channels, height, width) that lie one after another in
    /// `values`.
    pub fn apply(&self, values: &mut [f32], shape: [usize; 3], norm: &Normalisation, seed: Seed) {
        if *self == Self::default() {
            return;
        }
        let [channels, height, width] = shape;
        let mut rng = seed.rng();
        let mut original = vec![0.0; channels * height * width];
        for image in values.chunks_exact_mut(original.len()) {
            let mirrored = self.flip && rng.random::<bool>();
            let (down, right) = (rng.random_range(0..=2 * self.crop), rng.random_range(0..=2 * self.crop));
            original.copy_from_slice(image);
            for (channel, plane) in image.chunks_exact_mut(height * width).enumerate() {
                let source = &original[channel * height * width..][..height * width];
                // What standardisation makes of a pixel of value 0.
                let black = -(norm.mean[channel] as f32) / norm.std[channel] as f32;
                for (y, row) in plane.chunks_exact_mut(width).enumerate() {
                    let from = (y + down).checked_sub(self.crop).filter(|&y| y < height);
                    for (x, value) in row.iter_mut().enumerate() {
                        let x = if mirrored { width - 1 - x } else { x };
                        let column = (x + right).checked_sub(self.crop).filter(|&x| x < width);
                        *value = from.zip(column).map_or(black, |(y, x)| source[y * width + x]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn norm() -> Normalisation {
        Normalisation { mean: vec![0.5, 0.25], std: vec![0.5, 0.25] }
    }

    /// 4000 copies of an image of two channels, 2×3, augmented.
    fn augmented(augmentation: Augmentation, seed: u64) -> Vec<[f32; 12]> {
        let image: Vec<f32> = (1u8..=12).map(f32::from).collect();
        let mut values = image.repeat(4000);
        augmentation.apply(&mut values, [2, 2, 3], &norm(), Seed::new(seed));
        values.chunks_exact(12).map(|image| image.try_into().unwrap()).collect()
    }

    #[test]
    fn flips_mirror_half_of_the_images() {
        let images = augmented(Augmentation { flip: true, crop: 0 }, 1);
        let mirror = [3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 9.0, 8.0, 7.0, 12.0, 11.0, 10.0];
        let flipped = images.iter().filter(|image| **image == mirror).count();
        let kept = images.iter().filter(|image| image.is_sorted()).count();
        assert_eq!(flipped + kept, 4000);
        // Binomial(4000, 1/2): four standard deviations are 126, α < 1e-4; fixed seed.
        assert!(flipped.abs_diff(2000) < 126, "{flipped}");
    }

    #[test]
    fn crops_shift_by_up_to_the_padding_and_fill_with_black() {
        let images = augmented(Augmentation { flip: false, crop: 1 }, 2);
        // Black is −1 in both channels. Down and right by one place: the first row and column move out of the
        // image.
        let shifted = [5.0, 6.0, -1.0, -1.0, -1.0, -1.0, 11.0, 12.0, -1.0, -1.0, -1.0, -1.0];
        let up_left = [-1.0, -1.0, -1.0, -1.0, 1.0, 2.0, -1.0, -1.0, -1.0, -1.0, 7.0, 8.0];
        let mut seen: Vec<[f32; 12]> = Vec::new();
        for image in &images {
            if !seen.contains(image) {
                seen.push(*image);
            }
        }
        assert_eq!(seen.len(), 9, "3 × 3 places");
        assert!(seen.contains(&shifted) && seen.contains(&up_left));
        for place in seen {
            let count = images.iter().filter(|image| **image == place).count();
            // Binomial(4000, 1/9): 444 ± 20; five standard deviations for each of nine places, α < 1e-5;
            // fixed seed.
            assert!(count.abs_diff(444) < 100, "{count}");
        }
    }

    #[test]
    fn the_seed_decides_and_the_default_does_nothing() {
        let both = Augmentation { flip: true, crop: 2 };
        assert_eq!(augmented(both, 3), augmented(both, 3));
        assert_ne!(augmented(both, 3), augmented(both, 4));
        assert!(augmented(Augmentation::default(), 3).iter().all(|image| image.is_sorted()));
    }
}
