//! Convolutions of 3×3 windows that lie beside each other, by Winograd's algorithm F(4×4, 3×3) (Lavin, Gray,
//! *Fast Algorithms for Convolutional Neural Networks*, 2016, section 4.2): 36 products for 16 pixels where
//! the sum over the window takes 144.
//!
//! | paper | here | shape |
//! |---|---|---|
//! | d, a tile of the padded image | `canvas` | 6×6 pixels, 4 apart |
//! | U = G g Gᵀ | [`Filter`] | `[36, channels, filters]` |
//! | V = Bᵀ d B | [`Data`] | `[36, tiles, channels]` |
//! | M = U V, and Y = Aᵀ M A | [`Outcome`] | `[36, tiles, filters]`, 4×4 pixels |
//! | the transpose of Y: A y Aᵀ | [`Gradient`] | `[36, tiles, filters]` |
//! | the transpose of U: Gᵀ u G | [`Weights`] | `[3, 3, channels, filters]` |
//!
//! The transforms work on all channels of a pixel at once, so that channels must come in whole vectors, and
//! the 36 products are those of [`Product`]. An image's tiles know nothing of other images. What comes out is
//! off by less than 10⁻⁵ of Σ |x·w|, where the direct sum is by 3·10⁻⁷ (`winograd/tests.rs`).

use pulp::{Arch, Simd, WithSimd};

use super::product::{Product, Rows, Start};
use super::spare;

/// Sides of what a tile gives, of the window, and of the tile.
const STEP: usize = 4;
const WINDOW: usize = 3;
const TILE: usize = STEP + WINDOW - 1;
const POINTS: usize = TILE * TILE;

/// Channels of the widest vector.
const VECTOR: usize = 16;
/// Tiles that go through the 36 products together: what lies between the transforms stays in the cache.
const GROUP: usize = 36;
/// Fewer tiles save less than the transform of the filters takes.
const FEWEST: usize = 16;
/// Between planes, whose lines would else compete for the same places of the cache.
const GAP: usize = VECTOR;

/// The convolutions of `batch` images.
#[derive(Clone, Copy, Debug)]
pub(super) struct Winograd {
    batch: usize,
    /// Height and width of what comes out.
    size: [usize; 2],
    channels: usize,
    filters: usize,
}

impl Winograd {
    /// `None` where the direct sum is faster: for other windows, channels that fill no vectors, tiles that
    /// are half empty, and few of them. `size` is that of what comes out.
    pub fn new(
        window: [usize; 2],
        batch: usize,
        size: [usize; 2],
        [channels, filters]: [usize; 2],
    ) -> Option<Self> {
        let own = Self { batch, size, channels, filters };
        let tiles = own.per_image();
        let whole = channels.is_multiple_of(VECTOR) && filters.is_multiple_of(VECTOR);
        let full = 2 * size[0] * size[1] >= tiles * STEP * STEP && batch * tiles >= FEWEST;
        (window == [WINDOW; 2] && whole && full).then_some(own)
    }

    /// Tiles below and beside each other.
    fn tiles(&self) -> [usize; 2] {
        self.size.map(|side| side.div_ceil(STEP))
    }

    fn per_image(&self) -> usize {
        self.tiles().iter().product()
    }

    /// Height and width of the padded image: what the tiles cover.
    pub fn canvas(&self) -> [usize; 2] {
        self.tiles().map(|tiles| tiles * STEP + WINDOW - 1)
    }

    /// Images that go through together.
    fn group(&self) -> usize {
        (GROUP / self.per_image()).clamp(1, self.batch.max(1))
    }

    /// `[batch, height, width, filters]`; `pad` writes an image of `channels` into the canvas, always to the
    /// same pixels. The weights are `[3, 3, channels, filters]`.
    pub fn convolve(
        &self,
        weight: &[f32],
        bias: Option<&[f32]>,
        pad: impl Fn(usize, &mut [f32]),
    ) -> Vec<f32> {
        let Self { batch, size: [height, width], channels, filters } = *self;
        let mut output = vec![0.0; batch * height * width * filters];
        let depth = channels * filters;
        let mut transformed = spare::take(POINTS * depth);
        let flat = |side: usize| Grid { first: 0, row: side * depth, column: depth };
        let filter = Tile { from: flat(WINDOW), to: flat(TILE), size: [TILE; 2] };
        Transform {
            step: Filter,
            from: weight,
            to: &mut transformed,
            lanes: depth,
            bias: None,
            tiles: [filter],
        }
        .run();
        let mut planes = Planes::new(self);
        let mut products = spare::take(POINTS * planes.stride(filters));
        let images = height * width * filters;
        for (group, output) in output.chunks_mut(self.group() * images).enumerate() {
            let count = planes.fill(group * self.group(), output.len() / images, &pad);
            let stride = planes.stride(filters);
            let operands =
                planes.values.chunks_exact(planes.stride(channels)).zip(transformed.chunks_exact(depth));
            for ((a, b), c) in operands.zip(products.chunks_exact_mut(stride)) {
                Product {
                    a,
                    rows: Rows::Below { rows: count },
                    runs: &[0],
                    terms: channels,
                    b,
                    c: &mut c[..count * filters],
                    columns: filters,
                    start: Start::Zero,
                    relu: false,
                }
                .run();
            }
            let tiles = (0..count).map(|tile| {
                let [image, row, column] = self.place(tile);
                let first = ((image * height + row) * width + column) * filters;
                Tile {
                    from: Grid::of_planes(tile * filters, stride),
                    to: Grid { first, row: width * filters, column: filters },
                    size: [height - row, width - column],
                }
            });
            Transform { step: Outcome, from: &products, to: output, lanes: filters, bias, tiles }.run();
        }
        spare::keep(products);
        spare::keep(transformed);
        planes.end();
        output
    }

    /// The gradient of the weights, `[3, 3, channels, filters]`, from that of what came out,
    /// `[batch, height, width, filters]`, and the padded images.
    pub fn weight_gradient(&self, gradient: &[f32], pad: impl Fn(usize, &mut [f32])) -> Vec<f32> {
        let Self { size: [height, width], channels, filters, .. } = *self;
        let depth = channels * filters;
        let mut planes = Planes::new(self);
        let stride = planes.stride(filters);
        let mut gradients = spare::take(POINTS * stride);
        let mut sums = vec![0.0; POINTS * depth];
        let images = height * width * filters;
        for (group, gradient) in gradient.chunks(self.group() * images).enumerate() {
            let count = planes.fill(group * self.group(), gradient.len() / images, &pad);
            let tiles = (0..count).map(|tile| {
                let [image, row, column] = self.place(tile);
                let first = ((image * height + row) * width + column) * filters;
                Tile {
                    from: Grid { first, row: width * filters, column: filters },
                    to: Grid::of_planes(tile * filters, stride),
                    size: [height - row, width - column],
                }
            });
            Transform {
                step: Gradient,
                from: gradient,
                to: &mut gradients,
                lanes: filters,
                bias: None,
                tiles,
            }
            .run();
            let operands =
                planes.values.chunks_exact(planes.stride(channels)).zip(gradients.chunks_exact(stride));
            for ((a, b), c) in operands.zip(sums.chunks_exact_mut(depth)) {
                Product {
                    a,
                    rows: Rows::Beside { rows: channels, step: channels },
                    runs: &[0],
                    terms: count,
                    b,
                    c,
                    columns: filters,
                    start: Start::Kept,
                    relu: false,
                }
                .run();
            }
        }
        spare::keep(gradients);
        planes.end();
        let mut weight = vec![0.0; WINDOW * WINDOW * depth];
        let flat = |side: usize| Grid { first: 0, row: side * depth, column: depth };
        let all = Tile { from: flat(TILE), to: flat(WINDOW), size: [TILE; 2] };
        Transform { step: Weights, from: &sums, to: &mut weight, lanes: depth, bias: None, tiles: [all] }
            .run();
        weight
    }

    /// Image of the group, row and column of the first pixel that a tile gives.
    fn place(&self, tile: usize) -> [usize; 3] {
        let [below, beside] = self.tiles();
        [tile / (below * beside), tile / beside % below * STEP, tile % beside * STEP]
    }
}

/// The transforms V of a group of images.
struct Planes<'a> {
    of: &'a Winograd,
    canvas: Vec<f32>,
    values: Vec<f32>,
}

impl<'a> Planes<'a> {
    fn new(of: &'a Winograd) -> Self {
        let [height, width] = of.canvas();
        // Zero, as its edges stay.
        let canvas = vec![0.0; of.group() * height * width * of.channels];
        let mut planes = Self { of, canvas, values: Vec::new() };
        planes.values = spare::take(POINTS * planes.stride(of.channels));
        planes
    }

    /// From plane to plane of the 36, each with so many channels.
    fn stride(&self, channels: usize) -> usize {
        self.of.group() * self.of.per_image() * channels + GAP
    }

    /// Transforms `images` images from number `first` on, and returns the number of their tiles.
    fn fill(&mut self, first: usize, images: usize, pad: &impl Fn(usize, &mut [f32])) -> usize {
        let (of, stride) = (self.of, self.stride(self.of.channels));
        let ([height, width], channels) = (of.canvas(), of.channels);
        for (image, canvas) in
            self.canvas.chunks_exact_mut(height * width * channels).take(images).enumerate()
        {
            pad(first + image, canvas);
        }
        let count = images * of.per_image();
        let tiles = (0..count).map(|tile| {
            let [image, row, column] = of.place(tile);
            let first = ((image * height + row) * width + column) * channels;
            Tile {
                from: Grid { first, row: width * channels, column: channels },
                to: Grid::of_planes(tile * channels, stride),
                size: [TILE; 2],
            }
        });
        let (from, to) = (&self.canvas, &mut self.values);
        Transform { step: Data, from, to, lanes: channels, bias: None, tiles }.run();
        count
    }

    fn end(self) {
        spare::keep(self.values);
    }
}

/// Where the values of a tile lie.
#[derive(Clone, Copy)]
struct Grid {
    first: usize,
    /// From row to row.
    row: usize,
    column: usize,
}

impl Grid {
    /// The 36 values that begin at `first` of their planes.
    fn of_planes(first: usize, stride: usize) -> Self {
        Self { first, row: TILE * stride, column: stride }
    }

    #[inline(always)]
    fn at(self, row: usize, column: usize) -> usize {
        self.first + row * self.row + column * self.column
    }
}

/// What is transformed to where: the rows and columns up to `size` of the pixels of an image, which ends
/// there.
#[derive(Clone, Copy)]
struct Tile {
    from: Grid,
    to: Grid,
    size: [usize; 2],
}

/// One transform of several tiles, `lanes` values at every place.
struct Transform<'a, T, I> {
    step: T,
    from: &'a [f32],
    to: &'a mut [f32],
    lanes: usize,
    /// Added to the values at every place.
    bias: Option<&'a [f32]>,
    tiles: I,
}

/// A linear map of `N` values to `M`, applied to the rows and then to the columns of a tile.
trait Step<const N: usize, const M: usize>: Copy {
    fn apply<S: Simd>(self, simd: S, x: [S::f32s; N]) -> [S::f32s; M];
}

impl<T, I> Transform<'_, T, I> {
    fn run<const N: usize, const M: usize>(self)
    where
        T: Step<N, M>,
        I: IntoIterator<Item = Tile>,
    {
        struct Dispatched<'a, T, I, const N: usize, const M: usize>(Transform<'a, T, I>);

        impl<T: Step<N, M>, I: IntoIterator<Item = Tile>, const N: usize, const M: usize> WithSimd
            for Dispatched<'_, T, I, N, M>
        {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Transform { step, from, to, lanes, bias, tiles } = self.0;
                for tile in tiles {
                    let pixels = N == STEP || M == STEP;
                    let whole = !pixels || tile.size.into_iter().all(|side| side >= STEP);
                    for lane in (0..lanes).step_by(S::F32_LANES) {
                        let bias = bias.map(|bias| S::as_simd_f32s(&bias[lane..]).0[0]);
                        if whole {
                            one::<S, T, N, M, true>(simd, step, from, to, bias, tile, lane);
                        } else {
                            one::<S, T, N, M, false>(simd, step, from, to, bias, tile, lane);
                        }
                    }
                }
            }
        }

        Arch::new().dispatch(Dispatched(self));
    }
}

/// One vector at every place of a tile. Where it is not whole, pixels beyond the image are 0, or left out.
#[inline(always)]
fn one<S: Simd, T: Step<N, M>, const N: usize, const M: usize, const WHOLE: bool>(
    simd: S,
    step: T,
    from: &[f32],
    to: &mut [f32],
    bias: Option<S::f32s>,
    tile: Tile,
    lane: usize,
) {
    let [rows, columns] = tile.size;
    let mut half = [[simd.splat_f32s(0.0); N]; M];
    for i in 0..N {
        let mut x = [simd.splat_f32s(0.0); N];
        for j in 0..N {
            if WHOLE || N != STEP || i < rows && j < columns {
                x[j] = S::as_simd_f32s(&from[tile.from.at(i, j) + lane..][..S::F32_LANES]).0[0];
            }
        }
        let y = step.apply(simd, x);
        for j in 0..M {
            half[j][i] = y[j];
        }
    }
    for j in 0..M {
        let y = step.apply(simd, half[j]);
        for i in 0..M {
            if WHOLE || M != STEP || i < rows && j < columns {
                let value = bias.map_or(y[i], |bias| simd.add_f32s(y[i], bias));
                S::as_mut_simd_f32s(&mut to[tile.to.at(i, j) + lane..][..S::F32_LANES]).0[0] = value;
            }
        }
    }
}

/// k · a + b
#[inline(always)]
fn plus<S: Simd>(simd: S, k: f32, a: S::f32s, b: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(k), a, b)
}

/// k · a
#[inline(always)]
fn times<S: Simd>(simd: S, k: f32, a: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(k), a)
}

/// Bᵀ of the points 0, 1, −1, 2, −2 and ∞.
#[derive(Clone, Copy)]
struct Data;

impl Step<TILE, TILE> for Data {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [a, b, c, d, e, f]: [S::f32s; TILE]) -> [S::f32s; TILE] {
        let (even, odd) = (plus(simd, -4.0, c, e), plus(simd, -4.0, b, d));
        let (far, twice) = (simd.sub_f32s(e, c), simd.sub_f32s(d, b));
        [
            plus(simd, 4.0, a, plus(simd, -5.0, c, e)),
            simd.add_f32s(even, odd),
            simd.sub_f32s(even, odd),
            plus(simd, 2.0, twice, far),
            plus(simd, -2.0, twice, far),
            plus(simd, 4.0, b, plus(simd, -5.0, d, f)),
        ]
    }
}

/// Aᵀ.
#[derive(Clone, Copy)]
struct Outcome;

impl Step<TILE, STEP> for Outcome {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [a, b, c, d, e, f]: [S::f32s; TILE]) -> [S::f32s; STEP] {
        let (near, less) = (simd.add_f32s(b, c), simd.sub_f32s(b, c));
        let (far, least) = (simd.add_f32s(d, e), simd.sub_f32s(d, e));
        [
            simd.add_f32s(a, simd.add_f32s(near, far)),
            plus(simd, 2.0, least, less),
            plus(simd, 4.0, far, near),
            simd.add_f32s(plus(simd, 8.0, least, less), f),
        ]
    }
}

/// A.
#[derive(Clone, Copy)]
struct Gradient;

impl Step<STEP, TILE> for Gradient {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [a, b, c, d]: [S::f32s; STEP]) -> [S::f32s; TILE] {
        let (even, odd) = (simd.add_f32s(a, c), simd.add_f32s(b, d));
        let (far, twice) = (plus(simd, 4.0, c, a), plus(simd, 4.0, d, b));
        [
            a,
            simd.add_f32s(even, odd),
            simd.sub_f32s(even, odd),
            plus(simd, 2.0, twice, far),
            plus(simd, -2.0, twice, far),
            d,
        ]
    }
}

/// G.
#[derive(Clone, Copy)]
struct Filter;

impl Step<WINDOW, TILE> for Filter {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [a, b, c]: [S::f32s; WINDOW]) -> [S::f32s; TILE] {
        let near = times(simd, -1.0 / 6.0, simd.add_f32s(a, c));
        let far = plus(simd, 1.0 / 24.0, a, times(simd, 1.0 / 6.0, c));
        [
            times(simd, 0.25, a),
            plus(simd, -1.0 / 6.0, b, near),
            plus(simd, 1.0 / 6.0, b, near),
            plus(simd, 1.0 / 12.0, b, far),
            plus(simd, -1.0 / 12.0, b, far),
            c,
        ]
    }
}

/// Gᵀ.
#[derive(Clone, Copy)]
struct Weights;

impl Step<TILE, WINDOW> for Weights {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [a, b, c, d, e, f]: [S::f32s; TILE]) -> [S::f32s; WINDOW] {
        let (near, less) = (simd.add_f32s(b, c), simd.sub_f32s(c, b));
        let (far, least) = (simd.add_f32s(d, e), simd.sub_f32s(d, e));
        [
            plus(simd, 0.25, a, plus(simd, 1.0 / 24.0, far, times(simd, -1.0 / 6.0, near))),
            plus(simd, 1.0 / 6.0, less, times(simd, 1.0 / 12.0, least)),
            plus(simd, 1.0 / 6.0, simd.sub_f32s(far, near), f),
        ]
    }
}

#[cfg(test)]
mod tests;
