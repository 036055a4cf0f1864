//! Winograd's sums against those of the definition in double precision.

use burn::nn::PaddingConfig2d;

use super::super::conv::{Conv, Images};
use super::super::window::Windows;
use super::*;

/// Values in [−1, 1), always the same.
fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A convolution of 3×3 windows and what goes in and out of it.
struct Case {
    conv: Conv,
    images: Vec<f32>,
    weight: Vec<f32>,
    gradient: Vec<f32>,
}

/// Sums in double precision, and of their terms' magnitudes.
struct Sums(Vec<(f64, f64)>);

impl Sums {
    fn zero(count: usize) -> Self {
        Self(vec![(0.0, 0.0); count])
    }

    fn add(&mut self, at: usize, x: f32, y: f32) {
        let term = f64::from(x) * f64::from(y);
        self.0[at].0 += term;
        self.0[at].1 += term.abs();
    }

    /// The largest difference over the sum of the magnitudes.
    fn error(&self, got: &[f32]) -> f64 {
        assert_eq!(got.len(), self.0.len());
        let off = |(got, (want, size)): (&f32, &(f64, f64))| (f64::from(*got) - want).abs() / size.max(1e-9);
        got.iter().zip(&self.0).map(off).fold(0.0, f64::max)
    }
}

impl Case {
    fn new(batch: usize, image: [usize; 2], [channels, filters]: [usize; 2], stride: usize) -> Self {
        let padding = PaddingConfig2d::Explicit(1, 0, 2, 1);
        let windows = Windows::new(image, [3, 3], [stride; 2], &padding).unwrap();
        let conv = Conv { windows, channels, filters };
        Self {
            images: values(batch * windows.pixels() * channels, 1),
            weight: values(9 * channels * filters, 2),
            gradient: values(batch * windows.windows() * filters, 3),
            conv,
        }
    }

    /// Calls `visit` for each term with the places of pixel, weight and output.
    fn terms(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let Conv { windows, channels, filters } = self.conv;
        let ([height, width], [rows, columns]) = (windows.image, windows.count);
        for output in 0..self.gradient.len() / filters {
            let (image, row, column) = (output / (rows * columns), output / columns % rows, output % columns);
            for place in 0..9 {
                let y = (row * windows.stride[0] + place / 3).wrapping_sub(windows.before[0]);
                let x = (column * windows.stride[1] + place % 3).wrapping_sub(windows.before[1]);
                for channel in (0..channels).filter(|_| y < height && x < width) {
                    let pixel = ((image * height + y) * width + x) * channels + channel;
                    for filter in 0..filters {
                        let weight = (filter * channels + channel) * 9 + place;
                        visit(pixel, weight, output * filters + filter);
                    }
                }
            }
        }
    }

    /// Errors of the forward pass and the gradients of weights and images.
    fn errors(&self) -> [f64; 3] {
        let Self { conv, images, weight, gradient } = self;
        let [mut forward, mut to_weight, mut to_images] =
            [gradient, weight, images].map(|like| Sums::zero(like.len()));
        self.terms(|pixel, place, output| {
            forward.add(output, images[pixel], weight[place]);
            to_weight.add(place, images[pixel], gradient[output]);
            to_images.add(pixel, weight[place], gradient[output]);
        });
        let together = Images::Together(images);
        [
            forward.error(&conv.forward(together, weight, None)),
            to_weight.error(&conv.weight_gradient(together, gradient)),
            to_images.error(&conv.image_gradient(gradient, weight)),
        ]
    }
}

#[test]
fn sums_are_those_of_the_definition() {
    for (batch, image, sizes, stride) in [
        (1, [16, 16], [16, 16], 1),
        (2, [13, 15], [16, 32], 1),
        (9, [4, 9], [32, 16], 1),
        (3, [9, 12], [48, 16], 1),
        (16, [4, 8], [64, 64], 1),
        // Several groups of images, the last of them not whole.
        (5, [16, 16], [16, 32], 1),
        (40, [4, 8], [32, 16], 1),
        (19, [4, 8], [128, 64], 1),
        // Only the gradient of the images.
        (2, [14, 12], [16, 32], 2),
    ] {
        let case = Case::new(batch, image, sizes, stride);
        let ours = |size: [usize; 2]| Winograd::new([3, 3], batch, size, sizes).is_some();
        assert!(ours(image) && (stride == 2 || ours(case.conv.windows.count)));
        for (part, error) in ["forward", "weights", "images"].iter().zip(case.errors()) {
            assert!(error < 1e-5 && error > 0.0, "{part} of {image:?}, {sizes:?}: {error}");
        }
    }
}

/// With small whole numbers nothing is rounded in the direct sum.
#[test]
fn few_tiles_and_odd_channels_are_summed_directly() {
    for (batch, image, sizes) in [(15, [4, 4], [16, 16]), (9, [5, 6], [32, 32]), (9, [8, 8], [16, 24])] {
        let mut case = Case::new(batch, image, sizes, 1);
        assert!(Winograd::new([3, 3], batch, image, sizes).is_none());
        for values in [&mut case.images, &mut case.weight, &mut case.gradient] {
            values.iter_mut().for_each(|x| *x = (*x * 4.0).round());
        }
        assert_eq!(case.errors(), [0.0; 3]);
    }
    assert!(Winograd::new([5, 5], 32, [32, 32], [16, 16]).is_none());
    assert!(Winograd::new([3, 3], 32, [32, 32], [3, 16]).is_none());
}

/// The same bytes beside other images.
#[test]
fn images_know_nothing_of_each_other() {
    let Case { conv, images, weight, gradient } = Case::new(6, [17, 18], [16, 16], 1);
    let bias = values(16, 4);
    let together = conv.forward(Images::Together(&images), &weight, Some(&bias));
    let image = images.len() / 6;
    let alone = |x: &[f32]| conv.forward(Images::Together(x), &weight, Some(&bias));
    assert_eq!(images.chunks(image).flat_map(alone).collect::<Vec<f32>>(), together);
    let together = conv.image_gradient(&gradient, &weight);
    let alone = |x: &[f32]| conv.image_gradient(x, &weight);
    assert_eq!(gradient.chunks(gradient.len() / 6).flat_map(alone).collect::<Vec<f32>>(), together);
}

#[test]
fn bias_is_added_everywhere() {
    let Case { conv, images, weight, .. } = Case::new(2, [14, 15], [16, 32], 1);
    let bias = values(32, 4);
    let plain = conv.forward(Images::Together(&images), &weight, None);
    let moved = conv.forward(Images::Together(&images), &weight, Some(&bias));
    for (plain, moved) in plain.chunks_exact(32).zip(moved.chunks_exact(32)) {
        assert!(plain.iter().zip(&bias).zip(moved).all(|((x, bias), y)| x + bias == *y));
    }
}

#[test]
fn nan_passes() {
    let Case { conv, mut images, weight, .. } = Case::new(1, [16, 16], [16, 16], 1);
    images[0] = f32::NAN;
    let y = conv.forward(Images::Together(&images), &weight, None);
    assert!(y[..16].iter().all(|y| y.is_nan()) && !y[y.len() - 1].is_nan());
}
