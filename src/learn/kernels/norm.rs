//! Group normalisation of images whose channels lie together, with or without ReLU.

use pulp::{Arch, Simd, WithSimd};

/// A layer: γ and β for each channel.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    pub groups: usize,
    pub epsilon: f32,
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
    /// Pixels of an image.
    pub pixels: usize,
    pub relu: bool,
}

/// Mean and 1/√(variance + ε) of each group of each image.
pub(super) type Statistics = Vec<[f32; 2]>;

impl Norm {
    /// Spreads one value a group over its channels.
    fn spread(&self, to: &mut [f32], of: impl Fn(usize) -> f32) {
        let each = to.len() / self.groups;
        to.chunks_exact_mut(each).enumerate().for_each(|(group, to)| to.fill(of(group)));
    }

    /// The mean over each group of values that were summed over the pixels, weighted by channel.
    fn means(&self, sums: &[f32], weight: impl Fn(usize) -> f32) -> Vec<f32> {
        let each = sums.len() / self.groups;
        let count = (each * self.pixels) as f32;
        let mean = |group: usize| {
            let channels = group * each..(group + 1) * each;
            channels.map(|channel| weight(channel) * sums[channel]).sum::<f32>() / count
        };
        (0..self.groups).map(mean).collect()
    }
}

/// `[batch, pixels, channels]` normalised, and the statistics.
pub(super) fn forward(x: &[f32], norm: &Norm) -> (Vec<f32>, Statistics) {
    let (mut y, mut statistics) = (vec![0.0; x.len()], Vec::new());
    Arch::new().dispatch(Forward { x, y: &mut y, statistics: &mut statistics, norm });
    (y, statistics)
}

struct Forward<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
    statistics: &'a mut Statistics,
    norm: &'a Norm,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { x, y, statistics, norm } = self;
        let channels = norm.gamma.len();
        let (mut sums, mut centre, mut scale) =
            (vec![0.0; channels], vec![0.0; channels], vec![0.0; channels]);
        let size = norm.pixels * channels;
        for (x, y) in x.chunks_exact(size).zip(y.chunks_exact_mut(size)) {
            sums.fill(0.0);
            for x in x.chunks_exact(channels) {
                sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
            }
            let means = norm.means(&sums, |_| 1.0);
            norm.spread(&mut centre, |group| means[group]);
            sums.fill(0.0);
            for x in x.chunks_exact(channels) {
                for ((sum, x), centre) in sums.iter_mut().zip(x).zip(&centre) {
                    *sum += (x - centre) * (x - centre);
                }
            }
            let inverse: Vec<f32> = norm
                .means(&sums, |_| 1.0)
                .iter()
                .map(|variance| (variance + norm.epsilon).sqrt().recip())
                .collect();
            norm.spread(&mut scale, |group| inverse[group]);
            scale.iter_mut().zip(&norm.gamma).for_each(|(scale, gamma)| *scale *= gamma);
            for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
                for ((((y, x), centre), scale), beta) in
                    y.iter_mut().zip(x).zip(&centre).zip(&scale).zip(&norm.beta)
                {
                    let value = (x - centre) * scale + beta;
                    // NaN, the sign of divergence, must pass.
                    *y = if norm.relu && value <= 0.0 { 0.0 } else { value };
                }
            }
            statistics.extend(means.into_iter().zip(inverse).map(<[f32; 2]>::from));
        }
    }
}

/// The gradients of the images, of γ and of β.
pub(super) fn backward(
    gradient: &[f32],
    x: &[f32],
    statistics: &[[f32; 2]],
    norm: &Norm,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let channels = norm.gamma.len();
    let (mut to_x, mut to_gamma, mut to_beta) =
        (vec![0.0; x.len()], vec![0.0; channels], vec![0.0; channels]);
    let (images, gamma, beta) = (&mut to_x[..], &mut to_gamma[..], &mut to_beta[..]);
    Arch::new().dispatch(Back { gradient, x, statistics, norm, to: [images, gamma, beta] });
    (to_x, to_gamma, to_beta)
}

struct Back<'a> {
    gradient: &'a [f32],
    x: &'a [f32],
    statistics: &'a [[f32; 2]],
    norm: &'a Norm,
    /// Images, γ and β.
    to: [&'a mut [f32]; 3],
}

impl WithSimd for Back<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { gradient, x, statistics, norm, to: [to_x, to_gamma, to_beta] } = self;
        let channels = norm.gamma.len();
        let zeros = || vec![0.0f32; channels];
        let (mut centre, mut inverse, mut sums, mut products) = (zeros(), zeros(), zeros(), zeros());
        let (mut constant, mut slope) = (zeros(), zeros());
        let size = norm.pixels * channels;
        let images = gradient.chunks_exact(size).zip(x.chunks_exact(size)).zip(to_x.chunks_exact_mut(size));
        for (((gradient, x), to_x), statistics) in images.zip(statistics.chunks_exact(norm.groups)) {
            norm.spread(&mut centre, |group| statistics[group][0]);
            norm.spread(&mut inverse, |group| statistics[group][1]);
            sums.fill(0.0);
            products.fill(0.0);
            let rows = gradient.chunks_exact(channels).zip(x.chunks_exact(channels));
            for ((gradient, x), to_x) in rows.zip(to_x.chunks_exact_mut(channels)) {
                for i in 0..channels {
                    let offset = x[i] - centre[i];
                    let value = offset * inverse[i] * norm.gamma[i] + norm.beta[i];
                    let own = if norm.relu && value <= 0.0 { 0.0 } else { gradient[i] };
                    to_x[i] = own;
                    sums[i] += own;
                    products[i] += own * offset;
                }
            }
            // With x̂ = (x − μ)/σ and means over the group: (γg − mean γg − x̂ · mean(γg x̂)) / σ.
            let mean = norm.means(&sums, |channel| norm.gamma[channel]);
            let along = norm.means(&products, |channel| norm.gamma[channel]);
            norm.spread(&mut constant, |group| -mean[group] * statistics[group][1]);
            norm.spread(&mut slope, |group| -along[group] * statistics[group][1].powi(3));
            for i in 0..channels {
                to_beta[i] += sums[i];
                to_gamma[i] += products[i] * inverse[i];
                inverse[i] *= norm.gamma[i];
            }
            for (x, to_x) in x.chunks_exact(channels).zip(to_x.chunks_exact_mut(channels)) {
                for i in 0..channels {
                    to_x[i] = to_x[i] * inverse[i] + (x[i] - centre[i]) * slope[i] + constant[i];
                }
            }
        }
    }
}
