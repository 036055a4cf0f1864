//! A public grid of powers of two, on which masked updates lie.
//!
//! The sum of two floating-point numbers tells by its last bits which two were added: a key σ g, added in
//! floating point, hides an update as a real number only. Weighted updates and keys are therefore rounded to
//! the multiples of a step γ, a power of two that follows from what everybody knows (σ, the clip, the largest
//! weight, the number of clients and of coordinates), never from an update; they are then added without
//! rounding, and every masked vector is a function of an ideal one ([`crate::privacy::floating`] proves what
//! follows). A decoded sum that is closer to a multiple of γ than rounding can move it *is* that multiple
//! ([`crate::precision`]).

use pulp::Arch;

use super::distributed::DistributedNoise;
use super::gaussian::REACH;

/// Bytes of randomness that say by how many steps a draw is moved.
pub const COIN: usize = 4;

/// Bits of a step's multiples that double precision adds without rounding, less two for sums of several.
const DOUBLE: i32 = 51;

/// The same of single precision.
const SINGLE: i32 = 23;

/// A step is at most this power of two of a coordinate of an update.
const FINE: i32 = -20;

/// A step is at most this power of two of the keys.
const HIDDEN: i32 = -20;

/// Binary logarithm of what a coordinate of an update is taken for where nothing bounds it.
const COORDINATE: i32 = -10;

/// The key's spread over neighbouring steps, as a fraction of σ: 2 to this power.
const SPREAD: i32 = -3;

/// What everybody knows of the inputs of a round before it begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Public {
    /// Bound C on ‖x_k‖₂, if there is one.
    pub clip: Option<f64>,
    /// The largest weight that a client can have.
    pub weight: f64,
    /// Number of coordinates d, where it is known.
    pub coordinates: Option<usize>,
    /// The most that rounding may move a decoded sum, relative to its norm (`outage.recovery_tolerance`).
    pub tolerance: f64,
    /// What clients add to their weighted updates, if anything.
    pub noise: Option<DistributedNoise>,
}

impl Default for Public {
    fn default() -> Self {
        Self { clip: None, weight: 1.0, coordinates: None, tolerance: 0.01, noise: None }
    }
}

impl Public {
    /// The most that a coordinate of a weighted update can be, where it is bounded.
    #[must_use]
    pub fn reach(&self) -> Option<f64> {
        self.clip.map(|clip| clip * self.weight)
    }
}

/// The multiples of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// γ.
    step: f64,
    /// 2^52 · 1.5 γ: adding it and taking it away rounds to a multiple of γ.
    magic: f64,
    /// Binary logarithm of the number of steps over which a key is spread evenly.
    spread: u32,
}

impl Grid {
    /// The grid for `clients` masks of which the smallest has the standard deviation `least` and the largest
    /// `most`, made of draws of `least`, in `single` precision or double. `None` where the numbers are too
    /// large for any.
    #[must_use]
    pub fn new(clients: usize, (least, most): (f64, f64), single: bool, public: &Public) -> Option<Self> {
        if single && most == 0.0 {
            // Nothing is hidden, and what single precision would have to hold is not known.
            return None;
        }
        let range =
            REACH * (most + public.noise.map_or(0.0, |noise| noise.std)) + public.reach().unwrap_or(0.0);
        let finest = range.log2().ceil() as i32 - if single { SINGLE } else { DOUBLE };
        let coordinate = match (public.reach(), public.coordinates) {
            (Some(reach), Some(d)) if reach > 0.0 => (reach / (d as f64).sqrt()).log2().floor() as i32,
            _ => COORDINATE,
        };
        let noise = |noise: &DistributedNoise| noise.std / (clients as f64).sqrt();
        let noise = public.noise.as_ref().map(noise).filter(|share| *share > 0.0);
        let noise = noise.map_or(i32::MAX, |share| (share.log2().floor() as i32).saturating_add(HIDDEN));
        let hidden =
            if least > 0.0 { (least.log2().floor() as i32).saturating_add(HIDDEN) } else { i32::MAX };
        let coarse = hidden.min(noise).min(coordinate + FINE);
        let exponent = if range > 0.0 { finest.max(coarse) } else { coarse };
        let step = 2f64.powi(exponent);
        let magic = 1.5 * 2f64.powi(52) * step;
        let room = least / (clients as f64).sqrt() / step;
        let spread = (room.log2().floor() as i32).saturating_add(SPREAD).clamp(0, 32) as u32;
        (step.is_normal() && magic.is_finite()).then_some(Self { step, magic, spread })
    }

    /// γ.
    #[must_use]
    pub fn step(&self) -> f64 {
        self.step
    }

    /// The width D over which a key is spread evenly before it is rounded; at least γ.
    #[must_use]
    pub fn spread(&self) -> f64 {
        self.step * 2f64.powi(self.spread as i32)
    }

    /// The same multiples, to which draws are rounded and not moved any further.
    #[must_use]
    pub fn unspread(&self) -> Self {
        Self { spread: 0, ..*self }
    }

    /// The nearest multiple of γ; of two the even one.
    #[inline(always)]
    #[must_use]
    pub fn round(&self, x: f64) -> f64 {
        (x + self.magic) - self.magic
    }

    /// Rounds `draws`, and moves each by as many steps as its coin of [`COIN`] bytes says, from −D/2γ to D/2γ
    /// − 1.
    pub fn settle(&self, draws: &mut [f64], coins: &[u8]) {
        if self.spread == 0 {
            draws.iter_mut().for_each(|draw| *draw = self.round(*draw));
        } else {
            Arch::new().dispatch(Moves { draws, coins, grid: self });
        }
    }

    /// Whether a key takes coins.
    #[must_use]
    pub fn spreads(&self) -> bool {
        self.spread > 0
    }

    /// Makes `scale` · draw − mean of every draw, then does as [`Grid::settle`], in one pass.
    pub fn settle_less(&self, draws: &mut [f64], scale: f64, mean: &[f64], coins: &[u8]) {
        if self.spread == 0 {
            let moved = draws.iter_mut().zip(mean);
            moved.for_each(|(draw, mean)| *draw = self.round(scale * *draw - mean));
        } else {
            Arch::new().dispatch(Less(Moves { draws, coins, grid: self }, scale, mean));
        }
    }

    /// Whether no number is farther than `most` from a multiple.
    #[must_use]
    pub fn holds(&self, x: &[f64], most: f64) -> bool {
        Arch::new().dispatch(Near(x, self, most))
    }

    /// Makes every number the nearest multiple.
    pub fn round_all(&self, x: &mut [f64]) {
        Arch::new().dispatch(Rounds(x, self));
    }

    /// `y[i]` grows by `a` · `x[i]`, rounded.
    pub fn add(&self, y: &mut [f64], a: f64, x: &[f32]) {
        Arch::new().dispatch(Adds(y, a, x, self));
    }
}

/// The draws of a chunk with their coins, at the width of the CPU's registers.
struct Moves<'a> {
    draws: &'a mut [f64],
    coins: &'a [u8],
    grid: &'a Grid,
}

impl pulp::NullaryFnOnce for Moves<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { draws, coins, grid } = self;
        let grid = *grid;
        let shift = u32::BITS - grid.spread;
        for (draw, coin) in draws.iter_mut().zip(coins.as_chunks::<COIN>().0) {
            // The top bits as a signed number.
            let steps = f64::from(i32::from_le_bytes(*coin) >> shift);
            *draw = grid.round(*draw) + steps * grid.step;
        }
    }
}

/// The same of `scale` · draw − mean.
struct Less<'a>(Moves<'a>, f64, &'a [f64]);

impl pulp::NullaryFnOnce for Less<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(Moves { draws, coins, grid }, scale, mean) = self;
        let grid = *grid;
        let shift = u32::BITS - grid.spread;
        for ((draw, mean), coin) in draws.iter_mut().zip(mean).zip(coins.as_chunks::<COIN>().0) {
            let steps = f64::from(i32::from_le_bytes(*coin) >> shift);
            *draw = grid.round(scale * *draw - mean) + steps * grid.step;
        }
    }
}

/// Numbers that may be near multiples.
struct Near<'a>(&'a [f64], &'a Grid, f64);

impl pulp::NullaryFnOnce for Near<'_> {
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        let Self(x, grid, most) = self;
        let grid = *grid;
        let near = |x: &f64| (x - grid.round(*x)).abs() <= most;
        x.iter().fold(true, |all, x| all & near(x))
    }
}

/// Numbers that are to be multiples.
struct Rounds<'a>(&'a mut [f64], &'a Grid);

impl pulp::NullaryFnOnce for Rounds<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(x, grid) = self;
        let grid = *grid;
        x.iter_mut().for_each(|x| *x = grid.round(*x));
    }
}

/// The difference of two vectors.
struct Differs<'a>(&'a mut [f64], &'a [f64]);

impl pulp::NullaryFnOnce for Differs<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(y, x) = self;
        y.iter_mut().zip(x).for_each(|(y, x)| *y -= x);
    }
}

/// `y[i]` less `x[i]`.
pub fn less(y: &mut [f64], x: &[f64]) {
    Arch::new().dispatch(Differs(y, x));
}

/// What is added to a vector, and what it is rounded to.
struct Adds<'a>(&'a mut [f64], f64, &'a [f32], &'a Grid);

impl pulp::NullaryFnOnce for Adds<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(y, a, x, grid) = self;
        let grid = *grid;
        for (y, x) in y.iter_mut().zip(x) {
            *y += grid.round(a * f64::from(*x));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step(std: f64, single: bool, public: &Public) -> f64 {
        Grid::new(10, (std, std), single, public).unwrap().step().log2()
    }

    #[test]
    fn steps_worked_by_hand() {
        let unknown = Public::default();
        // A coordinate of 2⁻¹⁰ and 20 bits below it; in single precision 23 bits below the 16 that 10.2 σ fit
        // into.
        assert_eq!(step(1.0, false, &unknown), -30.0);
        assert_eq!(step(1.0, true, &unknown), -19.0);
        // 10.2·10⁶ fits into 2²⁴, 51 bits below; keys of 2⁻¹² have 20 bits below themselves.
        assert_eq!(step(1e6, false, &unknown), -27.0);
        assert_eq!(step(2f64.powi(-12), false, &unknown), -32.0);
        // C/√d = 10⁻² lies above 2⁻⁷.
        let clipped = Public { clip: Some(1.0), coordinates: Some(10_000), ..unknown };
        assert_eq!(step(1.0, false, &clipped), -27.0);
        assert!(Grid::new(10, (1e308, 1e308), false, &unknown).is_none());
        assert!(Grid::new(10, (0.0, 0.0), true, &unknown).is_none());
        assert_eq!(step(0.0, false, &unknown), -30.0);
    }

    /// At the width of the registers what a loop does one by one, to the bit; 37 numbers fill none evenly.
    #[test]
    fn kernels_round_as_a_single_number_is_rounded() {
        const N: usize = 37;
        let grid = Grid::new(10, (1.0, 1.0), false, &Public::default()).unwrap();
        let x: Vec<f64> = (0..N).map(|i| (i as f64 * 0.7315).sin() * 4.0).collect();
        let mean: Vec<f64> = x.iter().map(|x| x / 7.0).collect();
        let single: Vec<f32> = x.iter().map(|x| *x as f32).collect();
        let coins: Vec<[u8; COIN]> =
            (0..N as u32).map(|i| i.wrapping_mul(0x9E37_79B9).to_le_bytes()).collect();
        let steps = |i: usize| f64::from(i32::from_le_bytes(coins[i]) >> (32 - grid.spread)) * grid.step;
        let flat = coins.as_flattened();
        let each = |f: &dyn Fn(usize) -> f64| (0..N).map(|i| f(i).to_bits()).collect::<Vec<u64>>();
        let after = |f: &dyn Fn(&mut [f64])| {
            let mut y = x.clone();
            f(&mut y);
            y.into_iter().map(f64::to_bits).collect::<Vec<u64>>()
        };
        assert!(grid.spreads());
        assert_eq!(after(&|y| grid.settle(y, flat)), each(&|i| grid.round(x[i]) + steps(i)));
        assert_eq!(
            after(&|y| grid.settle_less(y, 1.05, &mean, flat)),
            each(&|i| grid.round(1.05 * x[i] - mean[i]) + steps(i))
        );
        assert_eq!(after(&|y| grid.round_all(y)), each(&|i| grid.round(x[i])));
        assert_eq!(
            after(&|y| grid.add(y, 0.9, &single)),
            each(&|i| x[i] + grid.round(0.9 * f64::from(single[i])))
        );
        let farthest = x.iter().map(|x| (x - grid.round(*x)).abs()).fold(0.0, f64::max);
        assert!(grid.holds(&x, farthest) && !grid.holds(&x, farthest * 0.999));
    }

    proptest! {
        #[test]
        fn numbers_become_the_nearest_multiple(power in -8i32..9, x in -1.0f64..1.0, coin in any::<u32>()) {
            let std = 10f64.powi(power);
            for single in [false, true] {
                let grid = Grid::new(10, (std, std), single, &Public::default()).unwrap();
                let x = 10.0 * std * x;
                let rounded = grid.round(x);
                prop_assert_eq!((rounded / grid.step()).fract(), 0.0);
                prop_assert!((rounded - x).abs() <= grid.step() / 2.0);
                // Spread over at most an eighth of σ/√M, and at least a 32nd where 32 bits of coin reach so
                // far.
                let width = grid.spread() * 10f64.sqrt() / std;
                prop_assert!(width <= 0.125 && (width > 1.0 / 32.0 || grid.spread == 32), "{}", width);
                let mut draw = [x];
                grid.settle(&mut draw, &coin.to_le_bytes());
                prop_assert_eq!((draw[0] / grid.step()).fract(), 0.0);
                prop_assert!((draw[0] - rounded).abs() <= grid.spread() / 2.0);
                let most = 2f64.powi(if single { 24 } else { 53 });
                prop_assert!((draw[0] / grid.step()).abs() <= most);
            }
        }
    }
}
