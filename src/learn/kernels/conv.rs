//! Convolution of images whose channels lie together (`[batch, height, width, channels]`).
//!
//! With channels together, one row of a window is one run of memory. Forward pass and both gradients are
//! products of the padded image (see [`product`](super::product)), or, for windows of 3×3 where that is
//! faster, Winograd's (see [`winograd`](super::winograd)).

use super::product::{Product, Rows, Start};
use super::spare;
use super::window::Windows;
use super::winograd::Winograd;

/// Filters that are turned together: a line of the cache.
const BLOCK: usize = 16;

/// A convolution without dilation and groups.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conv {
    pub windows: Windows,
    pub channels: usize,
    pub filters: usize,
}

/// Images in memory.
#[derive(Clone, Copy)]
pub(super) enum Images<'a> {
    /// `[batch, height, width, channels]`.
    Together(&'a [f32]),
    /// `[batch, channels, height, width]`.
    Apart(&'a [f32]),
}

impl<'a> Images<'a> {
    fn values(self) -> &'a [f32] {
        match self {
            Self::Together(values) | Self::Apart(values) => values,
        }
    }
}

impl Conv {
    /// The number of weights of one filter.
    fn depth(&self) -> usize {
        self.windows.size[0] * self.windows.size[1] * self.channels
    }

    /// `[batch, rows, columns, filters]` of `images`, weights `[filters, channels, height, width]` and bias
    /// `[filters]`.
    pub fn forward(&self, images: Images<'_>, weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let weight = self.filters_last(weight);
        let output = match self.winograd(self.batch(images)) {
            Some(winograd) => {
                let line = winograd.canvas()[1] * self.channels;
                winograd.convolve(&weight, bias, |image, canvas| self.pad(images, image, line, canvas))
            }
            None => self.sums(images, &weight, bias),
        };
        spare::keep(weight);
        output
    }

    /// [`Conv::forward`] with weights `[height, width, channels, filters]` as it is defined.
    fn sums(&self, images: Images<'_>, weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let Self { windows, channels, filters } = *self;
        let ([rows, columns], [height, width]) = (windows.count, windows.size);
        let line = windows.padded()[1] * channels;
        let starts: Vec<usize> = (0..rows * columns)
            .map(|at| at / columns * windows.stride[0] * line + at % columns * windows.stride[1] * channels)
            .collect();
        let runs: Vec<usize> = (0..height).map(|row| row * line).collect();
        let mut output = vec![0.0; self.batch(images) * rows * columns * filters];
        let mut padded = self.canvas();
        for (image, output) in output.chunks_exact_mut(rows * columns * filters).enumerate() {
            self.pad(images, image, line, &mut padded);
            let product = |a: &[f32], rows: Rows<'_>, output: &mut [f32]| {
                let start = bias.map_or(Start::Zero, Start::Bias);
                let (terms, relu) = (width * channels, false);
                Product { a, rows, runs: &runs, terms, b: weight, c: output, columns: filters, start, relu }
                    .run();
            };
            if channels * windows.stride[1] == 1 {
                // Windows beside each other begin beside each other.
                for (row, output) in output.chunks_exact_mut(columns * filters).enumerate() {
                    let row = &padded[row * windows.stride[0] * line..];
                    product(row, Rows::Beside { rows: columns, step: 1 }, output);
                }
            } else {
                product(&padded, Rows::At(&starts), output);
            }
        }
        output
    }

    /// The gradient of the weights, `[filters, channels, height, width]`; `gradient` is
    /// `[batch, rows, columns, filters]`.
    pub fn weight_gradient(&self, images: Images<'_>, gradient: &[f32]) -> Vec<f32> {
        let sums = match self.winograd(self.batch(images)) {
            Some(winograd) => {
                let line = winograd.canvas()[1] * self.channels;
                winograd.weight_gradient(gradient, |image, canvas| self.pad(images, image, line, canvas))
            }
            None => self.weight_sums(images, gradient),
        };
        self.filters_first(&sums)
    }

    /// [`Conv::weight_gradient`] as it is defined, `[height, width, channels, filters]`.
    fn weight_sums(&self, images: Images<'_>, gradient: &[f32]) -> Vec<f32> {
        let Self { windows, channels, filters } = *self;
        let ([rows, columns], [height, width]) = (windows.count, windows.size);
        let line = windows.padded()[1] * channels;
        let mut sums = vec![0.0; self.depth() * filters];
        let mut padded = self.canvas();
        let runs: Vec<Vec<usize>> = (0..height)
            .map(|y| (0..rows).map(|row| (row * windows.stride[0] + y) * line).collect())
            .collect();
        for (image, gradient) in gradient.chunks_exact(rows * columns * filters).enumerate() {
            self.pad(images, image, line, &mut padded);
            for (runs, sums) in runs.iter().zip(sums.chunks_exact_mut(width * channels * filters)) {
                let rows = Rows::Beside { rows: width * channels, step: windows.stride[1] * channels };
                Product {
                    a: &padded,
                    rows,
                    runs,
                    terms: columns,
                    b: gradient,
                    c: sums,
                    columns: filters,
                    start: Start::Kept,
                    relu: false,
                }
                .run();
            }
        }
        sums
    }

    /// The gradient of the images, `[batch, height, width, channels]`: the convolution of `gradient`, zeros
    /// between its pixels where the stride is above 1, with the filters turned round.
    pub fn image_gradient(&self, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
        let Self { windows, channels, filters } = *self;
        let batch = gradient.len() / (windows.windows() * filters).max(1);
        let weight = self.turned(weight);
        let images = match Winograd::new(windows.size, batch, windows.image, [filters, channels]) {
            Some(winograd) => {
                let line = winograd.canvas()[1] * filters;
                winograd.convolve(&weight, None, |image, canvas| self.spread(gradient, image, line, canvas))
            }
            None => self.image_sums(batch, gradient, &weight),
        };
        spare::keep(weight);
        images
    }

    /// [`Conv::image_gradient`] with weights turned round, as it is defined.
    fn image_sums(&self, batch: usize, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
        let Self { windows, channels, filters } = *self;
        let ([rows, columns], [height, width]) = (windows.image, windows.size);
        let line = (columns + width - 1) * filters;
        let mut canvas = vec![0.0; (rows + height - 1) * line];
        let starts: Vec<usize> =
            (0..rows * columns).map(|at| at / columns * line + at % columns * filters).collect();
        let runs: Vec<usize> = (0..height).map(|row| row * line).collect();
        let mut output = vec![0.0; batch * rows * columns * channels];
        for (image, output) in output.chunks_exact_mut(rows * columns * channels).enumerate() {
            self.spread(gradient, image, line, &mut canvas);
            Product {
                a: &canvas,
                rows: Rows::At(&starts),
                runs: &runs,
                terms: width * filters,
                b: weight,
                c: output,
                columns: channels,
                start: Start::Zero,
                relu: false,
            }
            .run();
        }
        output
    }

    /// The faster algorithm for the convolution, where it is.
    fn winograd(&self, batch: usize) -> Option<Winograd> {
        let Self { windows, channels, filters } = *self;
        let beside = windows.stride == [1, 1];
        beside.then(|| Winograd::new(windows.size, batch, windows.count, [channels, filters])).flatten()
    }

    fn batch(&self, images: Images<'_>) -> usize {
        images.values().len() / (self.windows.pixels() * self.channels)
    }

    /// A padded image, zero.
    fn canvas(&self) -> Vec<f32> {
        let [height, width] = self.windows.padded();
        vec![0.0; height * width * self.channels]
    }

    /// Writes image number `image` into the middle of `canvas`, whose rows have `line` values.
    fn pad(&self, images: Images<'_>, image: usize, line: usize, canvas: &mut [f32]) {
        let (windows, channels) = (&self.windows, self.channels);
        let [_, columns] = windows.image;
        let size = windows.pixels() * channels;
        let source = &images.values()[image * size..][..size];
        let start = windows.before[0] * line + windows.before[1] * channels;
        let lines = canvas[start..].chunks_mut(line);
        match images {
            Images::Together(_) => {
                for (line, source) in lines.zip(source.chunks_exact(columns * channels)) {
                    line[..columns * channels].copy_from_slice(source);
                }
            }
            Images::Apart(_) => {
                for (row, line) in lines.take(windows.image[0]).enumerate() {
                    for (channel, source) in source.chunks_exact(windows.pixels()).enumerate() {
                        let source = &source[row * columns..][..columns];
                        for (pixel, &value) in line.chunks_exact_mut(channels).zip(source) {
                            pixel[channel] = value;
                        }
                    }
                }
            }
        }
    }

    /// Writes the gradient of output number `image` into `canvas`, whose rows have `line` values: its pixels
    /// a stride apart, the first where the filters turned round meet the first pixel of the image.
    fn spread(&self, gradient: &[f32], image: usize, line: usize, canvas: &mut [f32]) {
        let Self { windows, filters, .. } = *self;
        let [rows, columns] = windows.count;
        let gradient = &gradient[image * rows * columns * filters..][..rows * columns * filters];
        let first = [0, 1].map(|i| windows.size[i] - 1 - windows.before[i]);
        for (row, gradient) in gradient.chunks_exact(columns * filters).enumerate() {
            let at = (first[0] + row * windows.stride[0]) * line + first[1] * filters;
            if windows.stride[1] == 1 {
                canvas[at..][..columns * filters].copy_from_slice(gradient);
            } else {
                let step = windows.stride[1] * filters;
                for (pixel, gradient) in gradient.chunks_exact(filters).enumerate() {
                    canvas[at + pixel * step..][..filters].copy_from_slice(gradient);
                }
            }
        }
    }

    /// Where a weight of `[channels, height, width]` lies in `[height, width, channels]`.
    fn along(&self, at: usize) -> usize {
        let places = self.windows.size[0] * self.windows.size[1];
        at % places * self.channels + at / places
    }

    /// `[filters, channels, height, width]` to `[height, width, channels, filters]`.
    fn filters_last(&self, weight: &[f32]) -> Vec<f32> {
        let depth = self.depth();
        let mut last = spare::take(weight.len());
        for (block, filters) in weight.chunks(BLOCK * depth).enumerate() {
            for at in 0..depth {
                let last = &mut last[self.along(at) * self.filters + block * BLOCK..];
                for (last, filter) in last.iter_mut().zip(filters.chunks_exact(depth)) {
                    *last = filter[at];
                }
            }
        }
        last
    }

    /// The inverse of [`Conv::filters_last`].
    fn filters_first(&self, last: &[f32]) -> Vec<f32> {
        let depth = self.depth();
        let mut first = spare::take(last.len());
        for (block, filters) in first.chunks_mut(BLOCK * depth).enumerate() {
            for at in 0..depth {
                let last = &last[self.along(at) * self.filters + block * BLOCK..];
                for (last, filter) in last.iter().zip(filters.chunks_exact_mut(depth)) {
                    filter[at] = *last;
                }
            }
        }
        first
    }

    /// `[filters, channels, height, width]` to `[height, width, filters, channels]`, height and width
    /// backwards.
    fn turned(&self, weight: &[f32]) -> Vec<f32> {
        let (places, channels) = (self.windows.size[0] * self.windows.size[1], self.channels);
        let mut turned = spare::take(weight.len());
        for (filter, weight) in weight.chunks_exact(self.depth()).enumerate() {
            for place in 0..places {
                let row = (places - 1 - place) * self.filters + filter;
                let turned = &mut turned[row * channels..][..channels];
                for (turned, channel) in turned.iter_mut().zip(weight.chunks_exact(places)) {
                    *turned = channel[place];
                }
            }
        }
        turned
    }
}
