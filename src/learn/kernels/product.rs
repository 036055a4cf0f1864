//! Matrix products C = A·B in registers: the arithmetic of every layer.
//!
//! C is computed in tiles of up to 12 rows and two vectors, which stay in registers over the whole inner
//! dimension: 24 multiply-adds for 2 vectors and 12 scalars loaded. B is read where it lies. So is A, or,
//! where its rows consist of runs that are read along the inner dimension, pieces of 36 rows and 256 terms
//! are laid side by side first. Because rows of A may begin anywhere and consist of runs, a convolution is
//! such a product of the padded image itself: no matrix of patches is ever written.
//!
//! Every element of C is one chain of multiply-adds in the order of the inner dimension. With fused
//! multiply-add the result does not depend on the width of the vectors.

use std::cell::Cell;

use pulp::{Arch, Simd, WithSimd};

/// Terms of the inner dimension per piece of A.
const DEPTH: usize = 256;
/// Rows of A per piece: three tiles.
const GROUP: usize = 36;
/// A row of a piece, longer than its terms so that rows do not compete for the same lines of the cache.
type Line = [f32; DEPTH + 16];

thread_local! {
    /// Kept from product to product: clearing it takes as long as a small one.
    static LINES: Cell<Option<Box<[Line; GROUP]>>> = const { Cell::new(None) };
}

/// How the rows of A lie in memory.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    /// Row i begins at the i-th offset; its terms are neighbours within each run.
    At(&'a [usize]),
    /// This many rows of a single run lie one behind the other.
    Below { rows: usize },
    /// This many rows begin at neighbouring places; their terms are `step` apart within each run.
    Beside { rows: usize, step: usize },
}

/// What C is before the product is added.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    Zero,
    /// What it holds.
    Kept,
    /// The same row, `columns` long, everywhere.
    Bias(&'a [f32]),
}

/// C = start + A·B. The inner dimension has `runs.len() * terms` terms: `terms` in each run of A.
pub(super) struct Product<'a> {
    pub a: &'a [f32],
    pub rows: Rows<'a>,
    /// Where each run begins in `a`, added to where the row begins.
    pub runs: &'a [usize],
    pub terms: usize,
    /// `[inner dimension, columns]`.
    pub b: &'a [f32],
    /// `[rows, columns]`.
    pub c: &'a mut [f32],
    pub columns: usize,
    pub start: Start<'a>,
    /// Whether C = max(0, start + A·B) instead.
    pub relu: bool,
}

impl Product<'_> {
    /// # Panics
    /// When a slice is too short.
    pub fn run(self) {
        let mut lines = LINES.take().unwrap_or_else(|| Box::new([[0.0; DEPTH + 16]; GROUP]));
        Arch::new().dispatch(Packed { product: self, lines: &mut lines });
        LINES.set(Some(lines));
    }
}

/// A product and where pieces of A are laid side by side.
struct Packed<'a> {
    product: Product<'a>,
    lines: &'a mut [Line; GROUP],
}

impl WithSimd for Packed<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { product: Product { a, rows, runs, terms, b, c, columns, start, relu }, lines } = self;
        let mut tiles = Tiles { b, c, columns, start, relu };
        match rows {
            Rows::Beside { rows, step } => {
                for first in (0..rows).step_by(GROUP) {
                    let group = first..rows.min(first + GROUP);
                    tiles.group(simd, Beside { a, runs, terms, step }, group);
                }
            }
            Rows::Below { rows } => {
                for first in (0..rows).step_by(GROUP) {
                    let group = first..rows.min(first + GROUP);
                    tiles.group(simd, Below { a, terms }, group);
                }
            }
            Rows::At(rows) => {
                let depth = runs.len() * terms;
                for first in (0..rows.len()).step_by(GROUP) {
                    let group = first..rows.len().min(first + GROUP);
                    for from in (0..depth.max(1)).step_by(DEPTH) {
                        let to = depth.min(from + DEPTH);
                        for (line, &row) in lines.iter_mut().zip(&rows[group.clone()]) {
                            let mut term = from;
                            while term < to {
                                let (run, skip) = (term / terms, term % terms);
                                let length = (terms - skip).min(to - term);
                                copy(&mut line[term - from..], &a[row + runs[run] + skip..], length);
                                term += length;
                            }
                        }
                        tiles.start = if from == 0 { start } else { Start::Kept };
                        tiles.relu = relu && to == depth;
                        let piece = Piece { lines, first, from, depth: to - from };
                        tiles.group(simd, piece, group.clone());
                    }
                }
            }
        }
    }
}

/// The left operand of a tile: accumulates A·B for `H` rows and `W` vectors.
trait Left: Copy {
    fn accumulate<S: Simd, const H: usize, const W: usize, const PART: bool>(
        self,
        simd: S,
        row: usize,
        b: Right<'_>,
        sum: [[S::f32s; W]; H],
    ) -> [[S::f32s; W]; H];
}

/// Columns of B: `width` of them from `column` on.
#[derive(Clone, Copy)]
struct Right<'a> {
    b: &'a [f32],
    columns: usize,
    column: usize,
    width: usize,
}

impl<'a> Right<'a> {
    /// The rows from `term` on: the columns, and what follows in memory.
    #[inline(always)]
    fn from(self, term: usize) -> impl Iterator<Item = &'a [f32]> {
        let Self { b, columns, column, .. } = self;
        (term..).map(move |term| &b[term * columns + column..])
    }

    /// `W` vectors of a row. Of a part, what lies beyond the columns is of no consequence: it is never
    /// stored.
    #[inline(always)]
    fn load<S: Simd, const W: usize, const PART: bool>(self, simd: S, row: &[f32]) -> [S::f32s; W] {
        if PART && row.len() < S::F32_LANES {
            [simd.partial_load_f32s(&row[..self.width]); W]
        } else {
            let (vectors, _) = S::as_simd_f32s(&row[..W * S::F32_LANES]);
            std::array::from_fn(|j| vectors[j])
        }
    }
}

/// Rows laid side by side.
#[derive(Clone, Copy)]
struct Piece<'a> {
    lines: &'a [Line; GROUP],
    /// The row in the first line.
    first: usize,
    /// The term in the first column, and how many follow.
    from: usize,
    depth: usize,
}

impl Left for Piece<'_> {
    #[inline(always)]
    fn accumulate<S: Simd, const H: usize, const W: usize, const PART: bool>(
        self,
        simd: S,
        row: usize,
        b: Right<'_>,
        mut sum: [[S::f32s; W]; H],
    ) -> [[S::f32s; W]; H] {
        let lines: &[Line; H] = self.lines[row - self.first..][..H].try_into().expect("H lines");
        assert!(self.depth <= DEPTH);
        for (t, row) in (0..self.depth).zip(b.from(self.from)) {
            let b = b.load::<S, W, PART>(simd, row);
            for i in 0..H {
                let a = simd.splat_f32s(lines[i][t]);
                for j in 0..W {
                    sum[i][j] = simd.mul_add_e_f32s(a, b[j], sum[i][j]);
                }
            }
        }
        sum
    }
}

/// Rows that lie one behind the other.
#[derive(Clone, Copy)]
struct Below<'a> {
    a: &'a [f32],
    terms: usize,
}

impl Left for Below<'_> {
    #[inline(always)]
    fn accumulate<S: Simd, const H: usize, const W: usize, const PART: bool>(
        self,
        simd: S,
        row: usize,
        b: Right<'_>,
        mut sum: [[S::f32s; W]; H],
    ) -> [[S::f32s; W]; H] {
        let mut rows = [&self.a[..0]; H];
        for (i, own) in rows.iter_mut().enumerate() {
            *own = &self.a[(row + i) * self.terms..][..self.terms];
        }
        for (t, row) in (0..self.terms).zip(b.from(0)) {
            let b = b.load::<S, W, PART>(simd, row);
            for i in 0..H {
                let a = simd.splat_f32s(rows[i][t]);
                for j in 0..W {
                    sum[i][j] = simd.mul_add_e_f32s(a, b[j], sum[i][j]);
                }
            }
        }
        sum
    }
}

/// Rows that begin side by side in memory.
#[derive(Clone, Copy)]
struct Beside<'a> {
    a: &'a [f32],
    runs: &'a [usize],
    terms: usize,
    step: usize,
}

impl Left for Beside<'_> {
    #[inline(always)]
    fn accumulate<S: Simd, const H: usize, const W: usize, const PART: bool>(
        self,
        simd: S,
        row: usize,
        b: Right<'_>,
        mut sum: [[S::f32s; W]; H],
    ) -> [[S::f32s; W]; H] {
        for (run, &at) in self.runs.iter().enumerate() {
            let a = &self.a[at + row..];
            for (t, row) in (0..self.terms).zip(b.from(run * self.terms)) {
                let b = b.load::<S, W, PART>(simd, row);
                let a: &[f32; H] = a[t * self.step..][..H].try_into().expect("H values");
                for i in 0..H {
                    let a = simd.splat_f32s(a[i]);
                    for j in 0..W {
                        sum[i][j] = simd.mul_add_e_f32s(a, b[j], sum[i][j]);
                    }
                }
            }
        }
        sum
    }
}

/// C and what its tiles share.
struct Tiles<'a> {
    b: &'a [f32],
    c: &'a mut [f32],
    columns: usize,
    start: Start<'a>,
    relu: bool,
}

impl Tiles<'_> {
    #[inline(always)]
    fn group<S: Simd>(&mut self, simd: S, left: impl Left, rows: std::ops::Range<usize>) {
        let mut column = 0;
        while self.columns - column >= 2 * S::F32_LANES {
            self.column::<S, 2, false>(simd, left, rows.clone(), column);
            column += 2 * S::F32_LANES;
        }
        if self.columns - column >= S::F32_LANES {
            self.column::<S, 1, false>(simd, left, rows.clone(), column);
            column += S::F32_LANES;
        }
        if self.columns > column {
            self.column::<S, 1, true>(simd, left, rows, column);
        }
    }

    /// Tiles below each other, as high as the registers hold.
    #[inline(always)]
    fn column<S: Simd, const W: usize, const PART: bool>(
        &mut self,
        simd: S,
        left: impl Left,
        rows: std::ops::Range<usize>,
        column: usize,
    ) {
        let mut row = rows.start;
        // Every tile begins with a literal of its rows: what a loop fills the compiler may leave in memory.
        macro_rules! tiles {
            ($([$($i:literal)+])+) => {$(
                while rows.end - row >= [$($i),+].len() {
                    let start = [$(self.begin::<S, W, PART>(simd, row + $i, column)),+];
                    self.tile::<S, _, W, PART>(simd, left, row, column, start);
                    row += start.len();
                }
            )+};
        }
        if S::REGISTER_COUNT >= 32 {
            tiles!([0 1 2 3 4 5 6 7 8 9 10 11] [0 1 2 3 4 5 6 7]);
        }
        tiles!([0 1 2 3 4 5] [0 1 2 3] [0 1] [0]);
    }

    fn width<S: Simd, const W: usize, const PART: bool>(&self, column: usize) -> usize {
        if PART { self.columns - column } else { W * S::F32_LANES }
    }

    /// What the sums of one row begin with.
    #[inline(always)]
    fn begin<S: Simd, const W: usize, const PART: bool>(
        &self,
        simd: S,
        row: usize,
        column: usize,
    ) -> [S::f32s; W] {
        let width = self.width::<S, W, PART>(column);
        match self.start {
            Start::Zero => [simd.splat_f32s(0.0); W],
            Start::Kept => load::<S, W, PART>(simd, &self.c[row * self.columns + column..][..width]),
            Start::Bias(bias) => load::<S, W, PART>(simd, &bias[column..][..width]),
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const H: usize, const W: usize, const PART: bool>(
        &mut self,
        simd: S,
        left: impl Left,
        row: usize,
        column: usize,
        start: [[S::f32s; W]; H],
    ) {
        let columns = self.columns;
        let width = self.width::<S, W, PART>(column);
        let zero = simd.splat_f32s(0.0);
        let b = Right { b: self.b, columns, column, width };
        let sum = left.accumulate::<S, H, W, PART>(simd, row, b, start);
        for (i, mut sum) in sum.into_iter().enumerate() {
            if self.relu {
                // Not a maximum: NaN, the sign of divergence, must pass.
                for x in &mut sum {
                    *x = simd.select_f32s(simd.less_than_f32s(*x, zero), zero, *x);
                }
            }
            let c = &mut self.c[(row + i) * columns + column..][..width];
            if PART {
                simd.partial_store_f32s(c, sum[0]);
            } else {
                S::as_mut_simd_f32s(c).0.copy_from_slice(&sum);
            }
        }
    }
}

/// Copies `length` values, and more where there is room: blocks need no call for the many short runs.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32], length: usize) {
    const BLOCK: usize = 16;
    let whole = length.next_multiple_of(BLOCK);
    if to.len() < whole || from.len() < whole {
        to[..length].copy_from_slice(&from[..length]);
        return;
    }
    for (to, from) in to[..whole].chunks_exact_mut(BLOCK).zip(from[..whole].chunks_exact(BLOCK)) {
        to.copy_from_slice(from);
    }
}

/// `W` vectors, or, of a part, one that ends in zeros.
#[inline(always)]
fn load<S: Simd, const W: usize, const PART: bool>(simd: S, from: &[f32]) -> [S::f32s; W] {
    if PART {
        [simd.partial_load_f32s(from); W]
    } else {
        let (vectors, _) = S::as_simd_f32s(from);
        std::array::from_fn(|j| vectors[j])
    }
}
