//! Convolution of images whose channels lie together (`[batch, height, width, channels]`).
//!
//! With channels together, one row of a window is one run of memory. Forward pass and both gradients are
//! products of the padded image (see [`product`](super::product)).

use super::product::{Product, Rows, Start};
use super::window::Windows;

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
        let Self { windows, channels, filters } = *self;
        let ([rows, columns], [height, width]) = (windows.count, windows.size);
        let line = windows.padded()[1] * channels;
        let starts: Vec<usize> = (0..rows * columns)
            .map(|at| at / columns * windows.stride[0] * line + at % columns * windows.stride[1] * channels)
            .collect();
        let runs: Vec<usize> = (0..height).map(|row| row * line).collect();
        let weight = self.filters_last(weight);
        let mut output = vec![0.0; self.batch(images) * rows * columns * filters];
        let mut padded = self.canvas();
        for (image, output) in output.chunks_exact_mut(rows * columns * filters).enumerate() {
            self.pad(images, image, &mut padded);
            let product = |a: &[f32], rows: Rows<'_>, output: &mut [f32]| {
                let start = bias.map_or(Start::Zero, Start::Bias);
                let (terms, relu) = (width * channels, false);
                Product { a, rows, runs: &runs, terms, b: &weight, c: output, columns: filters, start, relu }
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
        let Self { windows, channels, filters } = *self;
        let ([rows, columns], [height, width]) = (windows.count, windows.size);
        let line = windows.padded()[1] * channels;
        let mut sum = vec![0.0; self.depth() * filters];
        let mut padded = self.canvas();
        let runs: Vec<Vec<usize>> = (0..height)
            .map(|y| (0..rows).map(|row| (row * windows.stride[0] + y) * line).collect())
            .collect();
        for (image, gradient) in gradient.chunks_exact(rows * columns * filters).enumerate() {
            self.pad(images, image, &mut padded);
            for (runs, sum) in runs.iter().zip(sum.chunks_exact_mut(width * channels * filters)) {
                let rows = Rows::Beside { rows: width * channels, step: windows.stride[1] * channels };
                Product {
                    a: &padded,
                    rows,
                    runs,
                    terms: columns,
                    b: gradient,
                    c: sum,
                    columns: filters,
                    start: Start::Kept,
                    relu: false,
                }
                .run();
            }
        }
        self.filters_first(&sum)
    }

    /// The gradient of the images, `[batch, height, width, channels]`: the convolution of `gradient`, zeros
    /// between its pixels where the stride is above 1, with the filters turned round.
    pub fn image_gradient(&self, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
        let Self { windows, channels, filters } = *self;
        let ([rows, columns], [height, width]) = (windows.count, windows.size);
        let weight = self.turned(weight);
        let [image_rows, image_columns] = windows.image;
        let line = (image_columns + width - 1) * filters;
        let mut canvas = vec![0.0; (image_rows + height - 1) * line];
        let starts: Vec<usize> = (0..windows.pixels())
            .map(|at| at / image_columns * line + at % image_columns * filters)
            .collect();
        let runs: Vec<usize> = (0..height).map(|row| row * line).collect();
        let batch = gradient.len() / (rows * columns * filters).max(1);
        let mut output = vec![0.0; batch * windows.pixels() * channels];
        let images = output.chunks_exact_mut(windows.pixels() * channels);
        for (gradient, output) in gradient.chunks_exact(rows * columns * filters).zip(images) {
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
            Product {
                a: &canvas,
                rows: Rows::At(&starts),
                runs: &runs,
                terms: width * filters,
                b: &weight,
                c: output,
                columns: channels,
                start: Start::Zero,
                relu: false,
            }
            .run();
        }
        output
    }

    fn batch(&self, images: Images<'_>) -> usize {
        images.values().len() / (self.windows.pixels() * self.channels)
    }

    /// A padded image, zero.
    fn canvas(&self) -> Vec<f32> {
        let [height, width] = self.windows.padded();
        vec![0.0; height * width * self.channels]
    }

    /// Writes image number `image` into the middle of `canvas`.
    fn pad(&self, images: Images<'_>, image: usize, canvas: &mut [f32]) {
        let (windows, channels) = (&self.windows, self.channels);
        let [_, columns] = windows.image;
        let size = windows.pixels() * channels;
        let source = &images.values()[image * size..][..size];
        let line = windows.padded()[1] * channels;
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

    /// `[filters, channels, height, width]` to `[height, width, channels, filters]`.
    fn filters_last(&self, weight: &[f32]) -> Vec<f32> {
        let (places, depth) = (self.windows.size[0] * self.windows.size[1], self.depth());
        let mut last = vec![0.0; weight.len()];
        for (row, last) in last.chunks_exact_mut(self.filters).enumerate() {
            let (place, channel) = (row / self.channels, row % self.channels);
            for (last, filter) in last.iter_mut().zip(weight.chunks_exact(depth)) {
                *last = filter[channel * places + place];
            }
        }
        last
    }

    /// The inverse of [`Conv::filters_last`].
    fn filters_first(&self, last: &[f32]) -> Vec<f32> {
        let (places, depth) = (self.windows.size[0] * self.windows.size[1], self.depth());
        let mut first = vec![0.0; last.len()];
        for (filter, first) in first.chunks_exact_mut(depth).enumerate() {
            for (at, first) in first.iter_mut().enumerate() {
                let (channel, place) = (at / places, at % places);
                *first = last[(place * self.channels + channel) * self.filters + filter];
            }
        }
        first
    }

    /// `[filters, channels, height, width]` to `[height, width, filters, channels]`, height and width
    /// backwards.
    fn turned(&self, weight: &[f32]) -> Vec<f32> {
        let (places, depth) = (self.windows.size[0] * self.windows.size[1], self.depth());
        let mut turned = vec![0.0; weight.len()];
        for (row, turned) in turned.chunks_exact_mut(self.channels).enumerate() {
            let (place, filter) = (places - 1 - row / self.filters, row % self.filters);
            let filter = &weight[filter * depth..][..depth];
            for (channel, turned) in turned.iter_mut().enumerate() {
                *turned = filter[channel * places + place];
            }
        }
        turned
    }
}
