//! A stationary two-state Markov chain whose state at any time is a pure function of a key and the time.
//!
//! Every step is driven by a uniform draw u_t: a good state turns bad if u_t < a, a bad state stays bad if
//! u_t < 1 − b. Draws below both thresholds end in the bad state and draws above both in the good one
//! *whatever the state was before*. Going back in time to the last such draw therefore gives the exact state
//! of the chain that has run for ever (Propp & Wilson 1996, coupling from the past), without a table of
//! earlier states; a draw between the thresholds keeps the state if a ≤ 1 − b and swaps it otherwise. The
//! expected number of draws is 1 / (a + b), or 1 / (2 − a − b) in the second case.

use crate::seed::{mix, unit};

/// Least probability that a draw determines the state: chains with a longer memory would take for ever to
/// look up.
const LEAST_RENEWAL: f64 = 1e-4;

/// Transition probabilities a (good → bad) and b (bad → good) per step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Chain {
    to_bad: f64,
    to_good: f64,
}

impl Chain {
    /// A chain that forgets its past; `Err` says why it does not. Both arguments are probabilities.
    pub(super) fn new(to_bad: f64, to_good: f64) -> Result<Self, String> {
        let moves = to_bad + to_good;
        if moves == 0.0 {
            return Err("the chain never changes its state, so it has no stationary law; \
                        give a positive transition probability"
                .into());
        }
        if moves.min(2.0 - moves) < LEAST_RENEWAL {
            return Err(format!(
                "transition probabilities {to_bad} and {to_good} make a chain that hardly ever forgets its past; \
                 their sum must lie in [{LEAST_RENEWAL}, {}]",
                2.0 - LEAST_RENEWAL
            ));
        }
        Ok(Self { to_bad, to_good })
    }

    /// The chain that is bad in the share `bad` of all steps, 0 ≤ `bad` < 1, for `length` ≥ 1 steps at a time
    /// on average.
    pub(super) fn of_bursts(bad: f64, length: f64) -> Result<Self, String> {
        let to_good = 1.0 / length;
        let to_bad = to_good * bad / (1.0 - bad);
        if to_bad.is_nan() || to_bad > 1.0 {
            return Err(format!(
                "bursts of {length} rounds cannot fill the share {bad} of all rounds; \
                 the share is at most length / (length + 1)"
            ));
        }
        Self::new(to_bad, to_good)
    }

    /// The share of bad steps, a / (a + b).
    pub(super) fn bad_share(self) -> f64 {
        self.to_bad / (self.to_bad + self.to_good)
    }

    /// Whether the chain with this `key` is bad at `time`.
    pub(super) fn is_bad(self, key: u64, time: u64) -> bool {
        let (a, stay) = (self.to_bad, 1.0 - self.to_good);
        let (low, high) = (a.min(stay), a.max(stay));
        let mut swapped = false;
        let mut step = time;
        loop {
            let u = unit(mix(key ^ step));
            if u < low {
                return !swapped;
            }
            if u >= high {
                return swapped;
            }
            swapped ^= a > stay;
            step = step.wrapping_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 400,000 steps of one chain: the share of bad steps within 4.5 standard errors of a/(a+b), whose
    /// variance a chain with lag-one correlation r = 1 − a − b inflates by (1+r)/(1−r), and both transition
    /// frequencies within 4.5 standard errors; α < 10⁻⁵ each.
    #[test]
    fn states_follow_the_chain() {
        for (a, b) in [(0.05, 0.2), (0.3, 0.3), (0.9, 0.6), (0.02, 1.0)] {
            let chain = Chain::new(a, b).unwrap();
            let n = 400_000u64;
            let states: Vec<bool> = (0..=n).map(|t| chain.is_bad(77, t)).collect();
            let bad = states[..n as usize].iter().filter(|bad| **bad).count() as f64;
            let share = chain.bad_share();
            let r = 1.0 - a - b;
            let error = (share * (1.0 - share) / n as f64 * (1.0 + r) / (1.0 - r)).sqrt();
            assert!((bad / n as f64 - share).abs() < 4.5 * error.max(1e-4), "{a} {b}: {bad}");
            let moves =
                |from: bool| states.windows(2).filter(|w| w[0] == from && w[1] != from).count() as f64;
            for (from, p, visits) in [(false, a, n as f64 - bad), (true, b, bad)] {
                let bound = 4.5 * (p * (1.0 - p) / visits).sqrt() + 1e-12;
                assert!((moves(from) / visits - p).abs() <= bound, "{a} {b} {from}");
            }
        }
    }

    #[test]
    fn bursts_have_the_mean_length_and_share() {
        let chain = Chain::of_bursts(0.25, 5.0).unwrap();
        assert!((chain.to_good - 0.2).abs() < 1e-12 && (chain.bad_share() - 0.25).abs() < 1e-12);
    }

    #[test]
    fn chains_without_a_law_are_refused() {
        for (a, b) in [(0.0, 0.0), (1.0, 1.0), (1e-5, 1e-5)] {
            assert!(Chain::new(a, b).is_err(), "{a} {b}");
        }
        assert!(Chain::of_bursts(0.8, 1.0).is_err());
        assert!(Chain::of_bursts(0.5, 1.0).is_err_and(|e| e.contains("hardly ever forgets")));
    }
}
