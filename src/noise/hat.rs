//! Draws from a law by rejection, decided by integers.
//!
//! The numbers around the mode are divided into columns of a power of two each, the rest into two tails whose
//! parts double in width and halve in weight. Every column has a whole weight that is certainly above its
//! numbers' probabilities, in one scale T, and all weights together are 2³⁴ with those that stand for
//! nothing: a draw takes a column by the alias method (Walker 1977; Vose 1991) from the bits of one word, a
//! number in it from others, and accepts the number with the probability that is left, T · probability ·
//! width/weight, by comparing it with a uniform U whose bits are drawn as they are needed:
//!
//! 1. by the bits of the same word, against an integer below the least such probability of the column;
//! 2. by a word more in double precision, where the two logarithms differ by more than any error that their
//!    evaluation in basic operations can have;
//! 3. else, less than once in 10⁷ draws, by enclosures of both that are refined, together with U, until they
//!    part.
//!
//! No step's rounding decides anything: the law is exact. What is left out are numbers beyond 2⁶¹ from the
//! mode, which no law here takes with a probability above exp(−2⁷⁰).

use chacha20::ChaCha8;
use num_bigint::BigUint;
use rand::Rng;

use super::exact::{dyadic, ln};
use super::law::{ERROR, Law};
use crate::algebra::gaussian;
use crate::seed::Bulk;

/// Columns on either side of the mode.
const SIDE: usize = 510;

/// Places of the alias table: the columns, two tails, and nothing.
const PLACES: usize = 1024;

/// Place of the tail below; that above is the next.
const TAIL: usize = 2 * SIDE;

/// The first of the places that stand for nothing.
const NOTHING: usize = TAIL + 2;

/// Bits of a place's part in the alias table.
const PART: u32 = 24;

/// Bits of the sum of all weights.
const TOTAL: u32 = PART + PLACES.ilog2();

/// No tail has a part as wide as two to this power.
const WIDEST: u32 = 61;

/// A difference of logarithms that is larger decides: [`ERROR`], that of ln U, of the weights, and as much
/// again.
const DECIDES: f64 = 4.0 * ERROR;

/// A place of the alias table.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Place {
    /// Parts below this are the place's own.
    own: u32,
    /// Whose the others are.
    other: u16,
}

/// A law, ready to be drawn from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hat {
    law: Law,
    /// Binary logarithm of a column's width, at most 20.
    shift: u32,
    /// The number at which the columns begin.
    first: i64,
    /// T.
    scale: f64,
    places: Vec<Place>,
    /// As the bits of U behind a column's number: what is below is accepted.
    sure: Vec<u32>,
    weights: Vec<u64>,
    /// ln(T · width/weight).
    logs: Vec<f64>,
}

impl Hat {
    /// For a law of a spread up to 2⁵⁰.
    pub fn new(law: Law) -> Self {
        // σ/32 or less.
        Self::of(law, (law.spread().sqrt().log2().floor() as i32 - 5).clamp(0, 20) as u32)
    }

    /// With columns of 2^`shift` numbers, which reach farther than two σ from the mode.
    fn of(law: Law, shift: u32) -> Self {
        let width = 1i64 << shift;
        let first = law.mode() - SIDE as i64 * width;
        let ends = |place: usize| {
            let start = first + place as i64 * width;
            let end = start + width - 1;
            if place < SIDE { (end, start) } else { (start, end) }
        };
        // Bounds of the logarithms; −∞ where no number has a probability.
        let log = |k: i64| if k < law.least() { f64::NEG_INFINITY } else { law.log(k) };
        let mut peaks: Vec<f64> = (0..TAIL).map(|place| log(ends(place).0) + ERROR).collect();
        // The first part of a tail is 512 columns wide and has half of the weight.
        let tails = [first - 1, first + TAIL as i64 * width];
        peaks.extend(tails.map(|k| log(k) + ERROR + gaussian::ln(1024.0)));
        let area: f64 = peaks.iter().map(|peak| peak.exp()).sum::<f64>() * width as f64;
        // The margin is for weights that are rounded up.
        let scale = ((1u64 << TOTAL) - (1 << 20)) as f64 / area;
        let ln_scale = gaussian::ln(scale * width as f64);
        let mut weights: Vec<u64> = peaks.iter().map(|peak| weight(ln_scale + peak)).collect();
        let used: u64 = weights.iter().sum();
        weights.extend([(1 << TOTAL) - used, 0]);
        let logs: Vec<f64> =
            weights.iter().map(|&weight| ln_scale - gaussian::ln(weight.max(1) as f64)).collect();
        let bits = u64::BITS - TOTAL - shift;
        let least = |place: usize| log(ends(place).1) - ERROR + logs[place];
        let mut sure: Vec<u32> = (0..TAIL).map(|place| certain(least(place), bits)).collect();
        sure.resize(PLACES, 0);
        Self { law, shift, first, scale, places: alias(&weights), sure, weights, logs }
    }

    /// One draw.
    #[inline]
    pub fn draw(&self, words: &mut Words) -> i64 {
        loop {
            let word = words.next();
            let place = (word % PLACES as u64) as usize;
            let Place { own, other } = self.places[place];
            let part = (word / PLACES as u64) as u32 % (1 << PART);
            let place = if part < own { place } else { other.into() };
            let within = word >> TOTAL;
            let uniform = within >> self.shift;
            let k = self.first + ((place as i64) << self.shift) + (within & ((1 << self.shift) - 1)) as i64;
            if uniform < self.sure[place].into() {
                return k;
            }
            let drawn = self.decide(place, k, uniform, words);
            if let Some(k) = drawn {
                return k;
            }
        }
    }

    /// The number, if it is accepted; that of a tail is drawn first.
    #[cold]
    fn decide(&self, place: usize, k: i64, uniform: u64, words: &mut Words) -> Option<i64> {
        if place >= NOTHING {
            return None;
        }
        let bits = u64::BITS - TOTAL - self.shift;
        if place < TAIL {
            return self.accepts(k, place, 0, (uniform, bits), words).then_some(k);
        }
        // Part j is 2ʲ times as wide and has 2^{−1−j} of the weight.
        let j = words.next().trailing_zeros();
        let widest = self.shift + 9 + j;
        if widest >= WIDEST {
            return None;
        }
        let offset = (((1 << j) - 1) << (self.shift + 9)) + (words.next() % (1 << widest)) as i64;
        let k = match place {
            TAIL => self.first - 1 - offset,
            _ => self.first + ((TAIL as i64) << self.shift) + offset,
        };
        self.accepts(k, place, 10 + 2 * j, (words.next() >> 32, 32), words).then_some(k)
    }

    /// Whether U is below T · probability of k · width · 2^`wider`/weight; `bits` leading bits of U are
    /// `uniform`.
    fn accepts(
        &self,
        k: i64,
        place: usize,
        wider: u32,
        (uniform, bits): (u64, u32),
        words: &mut Words,
    ) -> bool {
        if k < self.law.least() {
            return false;
        }
        let uniform = u128::from(uniform) << 64 | u128::from(words.next());
        let bits = bits + 64;
        let known = uniform >> 32 != 0 && words.trusts_floats;
        // Deep in a tail the float is not known to be close.
        if known && wider <= 10 {
            let own = self.law.log(k) + self.logs[place] + gaussian::ln(2.0) * f64::from(wider);
            let drawn = gaussian::ln(uniform as f64) - gaussian::ln(2.0) * f64::from(bits);
            if (own - drawn).abs() > DECIDES {
                return drawn < own;
            }
        }
        self.accepts_exactly(k, place, wider, (uniform.into(), bits), words)
    }

    fn accepts_exactly(
        &self,
        k: i64,
        place: usize,
        wider: u32,
        (mut uniform, mut known): (BigUint, u32),
        words: &mut Words,
    ) -> bool {
        let (scale, exponent) = dyadic(self.scale);
        let mut bits = 192;
        loop {
            let width = exponent + i64::from(self.shift + wider);
            let hat = ln(&self.weights[place].into(), 0, bits);
            let own = self.law.enclose(k, bits) + ln(&scale, width, bits) - hat;
            let above = &uniform + 1u8;
            if ln(&above, -i64::from(known), bits).is_at_most(&own) {
                return true;
            }
            if uniform != BigUint::ZERO && own.is_at_most(&ln(&uniform, -i64::from(known), bits)) {
                return false;
            }
            for _ in 0..bits / 64 {
                uniform = (uniform << 64) + words.next();
                known += 64;
            }
            bits *= 2;
        }
    }
}

/// The least whole number that is certainly not below eˣ, at least 1, or 0 for none.
fn weight(x: f64) -> u64 {
    if x == f64::NEG_INFINITY {
        return 0;
    }
    let mut weight = (x.exp().ceil() as u64).max(1);
    while gaussian::ln(weight as f64) < x + ERROR {
        weight += weight / (1 << 26) + 1;
    }
    weight
}

/// A whole number that is certainly not above 2ᵇ eˣ, of b bits.
fn certain(x: f64, bits: u32) -> u32 {
    let most = (1u64 << bits) as f64;
    let mut number = (most * x.exp()).clamp(0.0, most - 1.0) as u32;
    while number > 0 && gaussian::ln(f64::from(number) / most) > x - ERROR {
        number -= number / (1 << 26) + 1;
    }
    number
}

/// The alias table of weights whose sum is that of all parts.
fn alias(weights: &[u64]) -> Vec<Place> {
    let whole = 1u64 << PART;
    let mut left = weights.to_vec();
    let mut places: Vec<Place> = (0..).map(|other| Place { own: whole as u32, other }).take(PLACES).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..PLACES).filter(|&i| left[i] != whole).partition(|&i| left[i] < whole);
    while let (Some(i), Some(&j)) = (small.pop(), large.last()) {
        places[i] = Place { own: left[i] as u32, other: j as u16 };
        left[j] -= whole - left[i];
        if left[j] <= whole {
            large.pop();
            if left[j] < whole {
                small.push(j);
            }
        }
    }
    places
}

/// The words of a random stream, one after the other.
pub(super) struct Words {
    rng: Bulk<ChaCha8>,
    buffer: [u64; Self::BUFFER],
    at: usize,
    /// Tests decide everything by enclosures.
    trusts_floats: bool,
}

impl Words {
    const BUFFER: usize = 512;

    pub fn new(rng: Bulk<ChaCha8>) -> Self {
        Self { rng, buffer: [0; Self::BUFFER], at: Self::BUFFER, trusts_floats: true }
    }

    #[inline]
    fn next(&mut self) -> u64 {
        if self.at == Self::BUFFER {
            self.refill();
        }
        self.at += 1;
        self.buffer[self.at - 1]
    }

    fn refill(&mut self) {
        let mut bytes = [0; 8 * Self::BUFFER];
        self.rng.fill_bytes(&mut bytes);
        let words = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
        self.buffer.iter_mut().zip(words).for_each(|(place, word)| *place = word);
        self.at = 0;
    }
}

#[cfg(test)]
mod tests;
