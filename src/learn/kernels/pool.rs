//! Pooling of images whose channels lie together: the maximum with ReLU included, and the mean.

use pulp::{Arch, Simd, WithSimd};

use super::window::Windows;

/// Marks an output that no pixel of the window is answerable for: nothing there was above 0.
const NONE: u8 = u8::MAX;

/// `[batch, rows, columns, channels]`: the maximum of each window and 0; and the place in the window that
/// attains it, the first of several. A window has fewer than 255 places.
pub(super) fn forward(images: &[f32], windows: &Windows, channels: usize) -> (Vec<f32>, Vec<u8>) {
    let outputs = images.len() / windows.pixels() * windows.windows();
    let (mut output, mut places) = (vec![0.0; outputs], vec![NONE; outputs]);
    Arch::new().dispatch(Forward { images, output: &mut output, places: &mut places, windows, channels });
    (output, places)
}

struct Forward<'a> {
    images: &'a [f32],
    output: &'a mut [f32],
    places: &'a mut [u8],
    windows: &'a Windows,
    channels: usize,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { images, output, places, windows, channels } = self;
        let mut outputs = output.chunks_exact_mut(channels).zip(places.chunks_exact_mut(channels));
        for image in images.chunks_exact(windows.pixels() * channels) {
            for (window, (output, places)) in (0..windows.windows()).zip(&mut outputs) {
                for_each_pixel(windows, window, |place, pixel| {
                    let image = &image[pixel * channels..][..channels];
                    for ((best, at), &value) in output.iter_mut().zip(places.iter_mut()).zip(image) {
                        // NaN, the sign of divergence, must pass.
                        let take = value > *best || value.is_nan();
                        *best = if take { value } else { *best };
                        *at = if take { place } else { *at };
                    }
                });
            }
        }
    }
}

/// The gradient of the images, `[batch, height, width, channels]`.
pub(super) fn backward(gradient: &[f32], places: &[u8], windows: &Windows, channels: usize) -> Vec<f32> {
    let mut images = vec![0.0; gradient.len() / windows.windows() * windows.pixels()];
    Arch::new().dispatch(Back { gradient, places, images: &mut images, windows, channels });
    images
}

struct Back<'a> {
    gradient: &'a [f32],
    places: &'a [u8],
    images: &'a mut [f32],
    windows: &'a Windows,
    channels: usize,
}

impl WithSimd for Back<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { gradient, places, images, windows, channels } = self;
        let mut outputs = gradient.chunks_exact(channels).zip(places.chunks_exact(channels));
        for image in images.chunks_exact_mut(windows.pixels() * channels) {
            for (window, (gradient, places)) in (0..windows.windows()).zip(&mut outputs) {
                for_each_pixel(windows, window, |place, pixel| {
                    let image = &mut image[pixel * channels..][..channels];
                    for ((image, &gradient), &at) in image.iter_mut().zip(gradient).zip(places) {
                        *image += if at == place { gradient } else { 0.0 };
                    }
                });
            }
        }
    }
}

/// `[batch, rows, columns, channels]`: the mean of each window, none of which reaches over the edge.
pub(super) fn mean(images: &[f32], windows: &Windows, channels: usize) -> Vec<f32> {
    let mut output = vec![0.0; images.len() / windows.pixels() * windows.windows()];
    Arch::new().dispatch(Mean { images, output: &mut output, windows, channels });
    output
}

struct Mean<'a> {
    images: &'a [f32],
    output: &'a mut [f32],
    windows: &'a Windows,
    channels: usize,
}

impl WithSimd for Mean<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { images, output, windows, channels } = self;
        let share = 1.0 / (windows.size[0] * windows.size[1]) as f32;
        let mut outputs = output.chunks_exact_mut(channels);
        for image in images.chunks_exact(windows.pixels() * channels) {
            for (window, output) in (0..windows.windows()).zip(&mut outputs) {
                for_each_pixel(windows, window, |_, pixel| {
                    let image = &image[pixel * channels..][..channels];
                    output.iter_mut().zip(image).for_each(|(sum, value)| *sum += value * share);
                });
            }
        }
    }
}

/// The gradient of the images, `[batch, height, width, channels]`.
pub(super) fn mean_backward(gradient: &[f32], windows: &Windows, channels: usize) -> Vec<f32> {
    let mut images = vec![0.0; gradient.len() / windows.windows() * windows.pixels()];
    Arch::new().dispatch(MeanBack { gradient, images: &mut images, windows, channels });
    images
}

struct MeanBack<'a> {
    gradient: &'a [f32],
    images: &'a mut [f32],
    windows: &'a Windows,
    channels: usize,
}

impl WithSimd for MeanBack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { gradient, images, windows, channels } = self;
        let share = 1.0 / (windows.size[0] * windows.size[1]) as f32;
        let mut outputs = gradient.chunks_exact(channels);
        for image in images.chunks_exact_mut(windows.pixels() * channels) {
            for (window, gradient) in (0..windows.windows()).zip(&mut outputs) {
                for_each_pixel(windows, window, |_, pixel| {
                    let image = &mut image[pixel * channels..][..channels];
                    image.iter_mut().zip(gradient).for_each(|(image, gradient)| *image += gradient * share);
                });
            }
        }
    }
}

/// Calls `visit` with place in the window and number in the image of each pixel of window number `window`.
#[inline(always)]
fn for_each_pixel(windows: &Windows, window: usize, mut visit: impl FnMut(u8, usize)) {
    let Windows { image, size, stride, before, count, .. } = *windows;
    let (row, column) = (window / count[1] * stride[0], window % count[1] * stride[1]);
    for y in before[0].saturating_sub(row)..size[0].min(image[0] + before[0] - row) {
        for x in before[1].saturating_sub(column)..size[1].min(image[1] + before[1] - column) {
            let pixel = (row + y - before[0]) * image[1] + column + x - before[1];
            visit((y * size[1] + x) as u8, pixel);
        }
    }
}
