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

    /// ReLU, where it belongs to the layer; NaN, the sign of divergence, passes.
    #[inline(always)]
    fn cut(&self, value: f32, to: f32) -> f32 {
        if self.relu && value <= 0.0 { 0.0 } else { to }
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

/// Runs `$body` for the channels from `$at`, first sixteen at a time, then one: `$lanes` is a constant, so
/// that sums over pixels stay in registers. Its loops are no closures, which would not be compiled for the
/// processor's vectors.
macro_rules! in_blocks {
    ($channels:expr, |$at:ident, $lanes:ident| $body:block) => {{
        let mut $at = 0;
        {
            const $lanes: usize = 16;
            while $at + $lanes <= $channels {
                $body
                $at += $lanes;
            }
        }
        {
            const $lanes: usize = 1;
            while $at < $channels {
                $body
                $at += $lanes;
            }
        }
    }};
}

#[inline(always)]
fn lanes<const L: usize>(of: &[f32], at: usize) -> &[f32; L] {
    of[at..].first_chunk().expect("a block of channels")
}

#[inline(always)]
fn lanes_mut<const L: usize>(of: &mut [f32], at: usize) -> &mut [f32; L] {
    of[at..].first_chunk_mut().expect("a block of channels")
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
        let [mut sums, mut centre, mut scale] = [(); 3].map(|()| vec![0.0f32; channels]);
        let size = norm.pixels * channels;
        for (x, y) in x.chunks_exact(size).zip(y.chunks_exact_mut(size)) {
            in_blocks!(channels, |at, L| {
                let mut sum = [0.0; L];
                for x in x.chunks_exact(channels) {
                    let x: &[f32; L] = lanes(x, at);
                    for i in 0..L {
                        sum[i] += x[i];
                    }
                }
                *lanes_mut(&mut sums, at) = sum;
            });
            let means = norm.means(&sums, |_| 1.0);
            norm.spread(&mut centre, |group| means[group]);
            in_blocks!(channels, |at, L| {
                let centre: &[f32; L] = lanes(&centre, at);
                let mut sum = [0.0; L];
                for x in x.chunks_exact(channels) {
                    let x: &[f32; L] = lanes(x, at);
                    for i in 0..L {
                        sum[i] += (x[i] - centre[i]) * (x[i] - centre[i]);
                    }
                }
                *lanes_mut(&mut sums, at) = sum;
            });
            let variances = norm.means(&sums, |_| 1.0).into_iter();
            let inverse: Vec<f32> =
                variances.map(|variance| (variance + norm.epsilon).sqrt().recip()).collect();
            norm.spread(&mut scale, |group| inverse[group]);
            scale.iter_mut().zip(&norm.gamma).for_each(|(scale, gamma)| *scale *= gamma);
            in_blocks!(channels, |at, L| {
                let [centre, scale, beta]: [&[f32; L]; 3] =
                    [lanes(&centre, at), lanes(&scale, at), lanes(&norm.beta, at)];
                for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
                    let (x, y): (&[f32; L], &mut [f32; L]) = (lanes(x, at), lanes_mut(y, at));
                    let mut values = [0.0; L];
                    for i in 0..L {
                        let value = (x[i] - centre[i]) * scale[i] + beta[i];
                        values[i] = norm.cut(value, value);
                    }
                    *y = values;
                }
            });
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
    let to = [&mut to_x[..], &mut to_gamma[..], &mut to_beta[..]];
    Arch::new().dispatch(Back { gradient, x, statistics, norm, to });
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
        let [mut centre, mut scale, mut sums, mut products, mut constant, mut slope] =
            [(); 6].map(|()| vec![0.0f32; channels]);
        let size = norm.pixels * channels;
        let images = gradient.chunks_exact(size).zip(x.chunks_exact(size)).zip(to_x.chunks_exact_mut(size));
        for (((gradient, x), to_x), statistics) in images.zip(statistics.chunks_exact(norm.groups)) {
            norm.spread(&mut centre, |group| statistics[group][0]);
            norm.spread(&mut scale, |group| statistics[group][1]);
            scale.iter_mut().zip(&norm.gamma).for_each(|(scale, gamma)| *scale *= gamma);
            in_blocks!(channels, |at, L| {
                let [centre, scale, beta]: [&[f32; L]; 3] =
                    [lanes(&centre, at), lanes(&scale, at), lanes(&norm.beta, at)];
                let (mut sum, mut product) = ([0.0; L], [0.0; L]);
                for (gradient, x) in gradient.chunks_exact(channels).zip(x.chunks_exact(channels)) {
                    let (gradient, x): (&[f32; L], &[f32; L]) = (lanes(gradient, at), lanes(x, at));
                    for i in 0..L {
                        let offset = x[i] - centre[i];
                        let own = norm.cut(offset * scale[i] + beta[i], gradient[i]);
                        sum[i] += own;
                        product[i] += own * offset;
                    }
                }
                *lanes_mut(&mut sums, at) = sum;
                *lanes_mut(&mut products, at) = product;
            });
            // With x̂ = (x − μ)/σ and means over the group: (γg − mean γg − x̂ · mean(γg x̂)) / σ.
            let mean = norm.means(&sums, |channel| norm.gamma[channel]);
            let along = norm.means(&products, |channel| norm.gamma[channel]);
            norm.spread(&mut constant, |group| -mean[group] * statistics[group][1]);
            norm.spread(&mut slope, |group| -along[group] * statistics[group][1].powi(3));
            to_beta.iter_mut().zip(&sums).for_each(|(to, sum)| *to += sum);
            norm.spread(&mut sums, |group| statistics[group][1]);
            for ((to, product), inverse) in to_gamma.iter_mut().zip(&products).zip(&sums) {
                *to += product * inverse;
            }
            in_blocks!(channels, |at, L| {
                let [centre, scale, beta]: [&[f32; L]; 3] =
                    [lanes(&centre, at), lanes(&scale, at), lanes(&norm.beta, at)];
                let [constant, slope]: [&[f32; L]; 2] = [lanes(&constant, at), lanes(&slope, at)];
                let rows = gradient.chunks_exact(channels).zip(x.chunks_exact(channels));
                for ((gradient, x), to_x) in rows.zip(to_x.chunks_exact_mut(channels)) {
                    let (gradient, x): (&[f32; L], &[f32; L]) = (lanes(gradient, at), lanes(x, at));
                    let to_x: &mut [f32; L] = lanes_mut(to_x, at);
                    for i in 0..L {
                        let offset = x[i] - centre[i];
                        let own = norm.cut(offset * scale[i] + beta[i], gradient[i]);
                        to_x[i] = own * scale[i] + offset * slope[i] + constant[i];
                    }
                }
            });
        }
    }
}
