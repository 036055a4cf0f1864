//! Steps that add up.

use super::loss::{Sampled, Side};
use super::pld::{self, Composed, Precision};
use super::rdp;
use super::step::{Adjacency, Step};
use crate::error::{Error, Result};
use crate::privacy::ldp;

/// Most distinct sampled steps that go through privacy-loss distributions; with more of them Rényi
/// divergences are left.
const DISTINCT: usize = 64;

/// Upper bounds on one number, ε or δ, by each path that applies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The Gaussian curve, without what sampling gains: exact where there is none.
    pub gaussian: Option<f64>,
    /// Privacy-loss distributions.
    pub composed: Option<Composed>,
    /// Rényi divergences: the bound, and the order that gives it.
    pub renyi: (f64, f64),
}

impl Bounds {
    /// The least of the bounds, which is one.
    #[must_use]
    pub fn least(&self) -> f64 {
        let others = [self.gaussian, self.composed.map(|composed| composed.value)];
        others.into_iter().flatten().fold(self.renyi.0, f64::min)
    }

    fn exact(value: f64) -> Self {
        Self { gaussian: Some(value), composed: None, renyi: (value, f64::NAN) }
    }
}

/// What was released so far.
///
/// ```
/// use seccogc::account::{Accountant, Adjacency, Sampling, Step};
///
/// let round = Step::gaussian(1.1, Sampling::Poisson { rate: 0.01 }, Adjacency::AddOrRemove)?;
/// let mut accountant = Accountant::new(Adjacency::AddOrRemove);
/// accountant.add(&round, 1000)?;
/// let epsilon = accountant.epsilon(1e-5)?.least();
/// assert!(1.5 < epsilon && epsilon < 1.6);
/// # Ok::<(), seccogc::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Accountant {
    adjacency: Adjacency,
    /// Σ μ² of the Gaussian steps without sampling.
    square: f64,
    /// Σ μ² of all Gaussian steps, as if there were no sampling; none once there is another noise.
    whole: Option<f64>,
    /// Sampled Gaussian steps, and how often; none once there are too many, or another noise.
    sampled: Option<Vec<(Sampled, u64)>>,
    /// Divergences at [`rdp::ORDERS`].
    renyi: Vec<f64>,
    /// Those of the latest step, which is often the next one too.
    latest: Option<(Step, Vec<f64>)>,
    /// The latest number after a round.
    told: Option<Told>,
}

/// An answer, and what it was for.
#[derive(Clone, Debug)]
struct Told {
    delta: f64,
    steps: Vec<(Sampled, u64)>,
    epsilon: f64,
}

/// A number of times, upwards to nine binary digits.
fn rounded_up(times: u64) -> u64 {
    let unit = 1u64 << times.max(1).ilog2().saturating_sub(9);
    times.div_ceil(unit).saturating_mul(unit)
}

impl Accountant {
    /// An accountant of nothing yet.
    #[must_use]
    pub fn new(adjacency: Adjacency) -> Self {
        Self {
            adjacency,
            square: 0.0,
            whole: Some(0.0),
            sampled: Some(Vec::new()),
            renyi: vec![0.0; rdp::ORDERS.len()],
            latest: None,
            told: None,
        }
    }

    /// For which neighbours all is stated.
    #[must_use]
    pub fn adjacency(&self) -> Adjacency {
        self.adjacency
    }

    /// Adds a step, taken `times` times.
    ///
    /// # Errors
    /// A step of another adjacency.
    pub fn add(&mut self, step: &Step, times: u64) -> Result<()> {
        if step.adjacency() != self.adjacency {
            let rule = format!(
                "a step under {} does not add up with others under {}: state all for the same neighbours",
                step.adjacency().name(),
                self.adjacency.name()
            );
            return Err(Error::config("adjacency", rule));
        }
        let shift = step.shift();
        if times == 0
            || shift.is_some_and(|(mu, rate)| mu == 0.0 || rate == 0.0)
            || step.sampling().rate() == 0.0
        {
            return Ok(());
        }
        let divergences = match self.latest.take() {
            Some((latest, divergences)) if latest == *step => divergences,
            _ => rdp::curve(step),
        };
        self.renyi.iter_mut().zip(&divergences).for_each(|(total, own)| *total += times as f64 * own);
        self.latest = Some((*step, divergences));
        match shift {
            None => (self.whole, self.sampled) = (None, None),
            Some((mu, rate)) => {
                let square = times as f64 * mu * mu;
                self.whole = self.whole.map(|whole| whole + square);
                match rate < 1.0 {
                    true => self.take(Sampled { rate, mu }, times),
                    false => self.square += square,
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, step: Sampled, times: u64) {
        let Some(steps) = &mut self.sampled else { return };
        match steps.iter().position(|(other, _)| *other == step) {
            Some(at) => steps[at].1 = steps[at].1.saturating_add(times),
            None if steps.len() < DISTINCT => steps.push((step, times)),
            None => self.sampled = None,
        }
    }

    /// Bounds on ε for this δ.
    ///
    /// # Errors
    /// A δ that is not from 0 to below 1.
    pub fn epsilon(&self, delta: f64) -> Result<Bounds> {
        self.epsilon_with(delta, Precision::Fine)
    }

    pub(super) fn epsilon_with(&self, delta: f64, precision: Precision) -> Result<Bounds> {
        check_delta(delta)?;
        if self.is_silent() {
            return Ok(Bounds::exact(0.0));
        }
        if delta == 0.0 {
            return Ok(Bounds::exact(f64::INFINITY));
        }
        let composed = self.steps().and_then(|steps| pld::epsilon(&steps, self.sides(), delta, precision));
        Ok(self.bounds(composed, delta))
    }

    fn bounds(&self, composed: Option<Composed>, delta: f64) -> Bounds {
        let gaussian = self.whole.map(|square| ldp::epsilon(square.sqrt(), delta));
        Bounds { gaussian, composed, renyi: rdp::epsilon(&self.renyi, delta) }
    }

    /// Bounds on δ for this ε.
    ///
    /// # Errors
    /// An ε that is not at least 0.
    pub fn delta(&self, epsilon: f64) -> Result<Bounds> {
        if epsilon.is_nan() || epsilon < 0.0 {
            return Err(Error::config("epsilon", format!("{epsilon} is not at least 0")));
        }
        if self.is_silent() || epsilon.is_infinite() {
            return Ok(Bounds::exact(0.0));
        }
        let gaussian = self.whole.map(|square| ldp::delta(square.sqrt(), epsilon));
        let composed =
            self.steps().and_then(|steps| pld::delta(&steps, self.sides(), epsilon, Precision::Fine));
        Ok(Bounds { gaussian, composed, renyi: rdp::delta(&self.renyi, epsilon) })
    }

    /// The least bound on ε, as it is asked for after every round: above that of [`Accountant::epsilon`] by
    /// half a hundredth at most, and far cheaper. Long runs are counted up to nine binary digits, so that
    /// many rounds share an answer.
    ///
    /// # Errors
    /// As [`Accountant::epsilon`].
    pub fn running(&mut self, delta: f64) -> Result<f64> {
        let Some(mut steps) = self.steps().filter(|_| delta > 0.0) else {
            return Ok(self.epsilon_with(delta, Precision::Coarse)?.least());
        };
        check_delta(delta)?;
        steps.iter_mut().for_each(|(_, times)| *times = rounded_up(*times));
        if let Some(told) = self.told.as_ref().filter(|told| told.delta == delta && told.steps == steps) {
            return Ok(told.epsilon);
        }
        let composed = pld::epsilon(&steps, self.sides(), delta, Precision::Coarse);
        let epsilon = self.bounds(composed, delta).least();
        self.told = Some(Told { delta, steps, epsilon });
        Ok(epsilon)
    }

    /// Whether nothing was told.
    fn is_silent(&self) -> bool {
        self.renyi.iter().all(|&r| r == 0.0)
    }

    /// What is composed: sampled steps, and all others as one; nothing where the Gaussian curve is exact.
    fn steps(&self) -> Option<Vec<(Sampled, u64)>> {
        let mut steps = self.sampled.clone().filter(|steps| !steps.is_empty())?;
        if self.square > 0.0 {
            steps.push((Sampled { rate: 1.0, mu: self.square.sqrt() }, 1));
        }
        Some(steps)
    }

    fn sides(&self) -> &'static [Side] {
        match self.adjacency {
            Adjacency::ReplaceOne => &[Side::Replaced],
            Adjacency::AddOrRemove | Adjacency::ZeroOut => &[Side::Removed, Side::Added],
        }
    }
}

fn check_delta(delta: f64) -> Result<()> {
    match (0.0..1.0).contains(&delta) {
        true => Ok(()),
        false => Err(Error::config("delta", format!("{delta} is no probability below 1"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::account::{Integers, Noise, Sampling};

    fn poisson(multiplier: f64, rate: f64, adjacency: Adjacency) -> Step {
        Step::gaussian(multiplier, Sampling::Poisson { rate }, adjacency).unwrap()
    }

    fn after(step: &Step, times: u64) -> Accountant {
        let mut accountant = Accountant::new(step.adjacency());
        accountant.add(step, times).unwrap();
        accountant
    }

    fn epsilon(step: &Step, times: u64, delta: f64) -> f64 {
        after(step, times).running(delta).unwrap()
    }

    const ADJACENCIES: [Adjacency; 3] = [Adjacency::AddOrRemove, Adjacency::ReplaceOne, Adjacency::ZeroOut];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// More rounds, a higher rate or less noise tell more; all paths are upper bounds, and the
        /// transform is never above Rényi's by more than its error.
        #[test]
        fn more_is_more(
            multiplier in 0.3f64..5.0, rate in 1e-4f64..1.0, times in 1u64..3000, log in 2.0f64..12.0, which in 0usize..3,
        ) {
            let (adjacency, delta) = (ADJACENCIES[which], 10f64.powf(-log));
            let step = poisson(multiplier, rate, adjacency);
            let bounds = after(&step, times).epsilon_with(delta, Precision::Coarse).unwrap();
            let least = bounds.least();
            let composed = bounds.composed.unwrap();
            prop_assert!(composed.value - composed.error <= bounds.renyi.0, "{bounds:?}");
            prop_assert!(composed.value - composed.error <= bounds.gaussian.unwrap(), "{bounds:?}");
            prop_assert!(least.is_finite() && least >= 0.0);
            // The steps of a lattice are not monotone to the last digit.
            let more = least * (1.0 + 5e-3) + 1e-9;
            prop_assert!(epsilon(&step, times / 2, delta) <= more);
            prop_assert!(epsilon(&poisson(multiplier, rate / 1.1, adjacency), times, delta) <= more);
            prop_assert!(epsilon(&poisson(multiplier * 1.1, rate, adjacency), times, delta) <= more);
            prop_assert!(epsilon(&step, times, (delta * 1.5).min(0.9)) <= more);
        }

        /// The running number is above the exact one, and close.
        #[test]
        fn running_is_close(multiplier in 0.5f64..3.0, rate in 1e-3f64..0.5, times in 1u64..2000) {
            let mut accountant = after(&poisson(multiplier, rate, Adjacency::AddOrRemove), times);
            let (fine, running) = (accountant.epsilon(1e-5).unwrap().least(), accountant.running(1e-5).unwrap());
            prop_assert!(running >= fine * (1.0 - 1e-6) && running <= fine * (1.0 + 5e-3) + 1e-9, "{fine} {running}");
        }
    }

    #[test]
    fn a_rate_of_one_is_the_gaussian_curve() {
        for adjacency in ADJACENCIES {
            let mu = adjacency.reach() / 2.0 * 10.0;
            for delta in [1e-3, 1e-9] {
                let want = ldp::epsilon(mu, delta);
                assert_eq!(epsilon(&poisson(2.0, 1.0, adjacency), 100, delta), want);
                let almost = after(&poisson(2.0, 1.0 - 1e-9, adjacency), 100).epsilon(delta).unwrap();
                let composed = almost.composed.unwrap();
                assert!((composed.value / want - 1.0).abs() < 2e-5, "{almost:?} for {want}");
            }
        }
    }

    #[test]
    fn nothing_tells_nothing() {
        for adjacency in ADJACENCIES {
            let silent = [
                poisson(1.0, 0.0, adjacency),
                Step::new(Noise::Gaussian { mu: 0.0 }, Sampling::None, adjacency).unwrap(),
            ];
            for delta in [0.0, 1e-300, 1e-5, 0.5] {
                assert_eq!(Accountant::new(adjacency).running(delta).unwrap(), 0.0);
                assert_eq!(epsilon(&poisson(1.0, 0.5, adjacency), 0, delta), 0.0);
                silent.iter().for_each(|step| assert_eq!(epsilon(step, 1000, delta), 0.0));
            }
            assert_eq!(Accountant::new(adjacency).delta(0.0).unwrap().least(), 0.0);
            // A rate below δ is as good as none.
            assert!(epsilon(&poisson(1.0, 1e-12, adjacency), 100, 1e-5) < 1e-6);
        }
    }

    #[test]
    fn extremes_are_finite() {
        for adjacency in ADJACENCIES {
            for multiplier in [1e-3, 1.0, 1e9] {
                for rate in [1e-12, 0.5, 1.0] {
                    for times in [1, 100_000] {
                        let accountant = after(&poisson(multiplier, rate, adjacency), times);
                        for delta in [1e-300, 1e-5, 0.9] {
                            let at = format!("{adjacency:?} {multiplier} {rate} {times} {delta}");
                            let bounds = accountant.epsilon_with(delta, Precision::Coarse).unwrap();
                            assert!(bounds.least().is_finite() && bounds.least() >= 0.0, "{at}: {bounds:?}");
                        }
                        assert_eq!(accountant.epsilon(0.0).unwrap().least(), f64::INFINITY);
                    }
                }
            }
            let bare = Step::new(Noise::Gaussian { mu: f64::INFINITY }, Sampling::None, adjacency).unwrap();
            assert_eq!(epsilon(&bare, 1, 1e-5), f64::INFINITY);
            assert_eq!(after(&bare, 1).delta(3.0).unwrap().least(), 1.0);
        }
    }

    #[test]
    fn delta_is_the_inverse_of_epsilon() {
        for adjacency in ADJACENCIES {
            let accountant = after(&poisson(1.0, 0.05, adjacency), 200);
            for delta in [0.01, 1e-6, 1e-12] {
                let epsilon = accountant.epsilon(delta).unwrap().least();
                let back = accountant.delta(epsilon).unwrap().least();
                assert!((back / delta - 1.0).abs() < 1e-4, "{adjacency:?} {delta}: {back}");
            }
        }
    }

    /// Steps of three kinds: the sum is above each alone, and the order does not matter.
    #[test]
    fn different_steps_add_up() {
        let adjacency = Adjacency::ZeroOut;
        let whole = Step::new(Noise::Gaussian { mu: 0.5 }, Sampling::None, adjacency).unwrap();
        let noise = Integers { l2: 1.0, l1: 1.0, variance: 25.0, shares: 5, dimension: 1 };
        let skellam = Step::new(Noise::Skellam(noise), Sampling::None, adjacency).unwrap();
        let (often, seldom) = (poisson(1.0, 0.1, adjacency), poisson(2.0, 0.01, adjacency));
        let of = |steps: &[(&Step, u64)]| {
            let mut accountant = Accountant::new(adjacency);
            steps.iter().for_each(|(step, times)| accountant.add(step, *times).unwrap());
            accountant
        };
        let mixed = of(&[(&whole, 3), (&often, 50), (&seldom, 100)]);
        let turned = of(&[(&seldom, 60), (&often, 20), (&whole, 3), (&seldom, 40), (&often, 30)]);
        let (a, b) = (mixed.epsilon(1e-5).unwrap(), turned.epsilon(1e-5).unwrap());
        assert!((a.least() / b.least() - 1.0).abs() < 1e-6, "{a:?} {b:?}");
        assert!(a.composed.unwrap().value < a.renyi.0 && a.composed.unwrap().value < a.gaussian.unwrap());
        for alone in [of(&[(&whole, 3)]), of(&[(&often, 50)])] {
            assert!(alone.epsilon(1e-5).unwrap().least() < a.least());
        }
        let with = of(&[(&whole, 3), (&skellam, 1)]).epsilon(1e-5).unwrap();
        assert!(with.composed.is_none() && with.gaussian.is_none());
        // Skellam noise is close to Gaussian of the same variance.
        let like = of(&[(&whole, 3), (&Step::gaussian(5.0, Sampling::None, adjacency).unwrap(), 1)])
            .epsilon(1e-5)
            .unwrap();
        assert!(with.renyi.0 >= like.renyi.0 && with.renyi.0 < like.renyi.0 * 1.05, "{with:?} {like:?}");
    }

    /// A number after every round never falls, and is that of a fresh accountant.
    #[test]
    fn a_running_number_grows() {
        let step = poisson(1.0, 0.02, Adjacency::ReplaceOne);
        let mut accountant = Accountant::new(Adjacency::ReplaceOne);
        let mut last = 0.0;
        for round in 1..=1500 {
            accountant.add(&step, 1).unwrap();
            let epsilon = accountant.running(1e-5).unwrap();
            assert!(epsilon >= last * (1.0 - 1e-3), "{round}: {epsilon} after {last}");
            last = epsilon;
        }
        assert_eq!(last, self::epsilon(&step, 1500, 1e-5));
        assert!(last >= after(&step, 1500).epsilon(1e-5).unwrap().least());
        assert_eq!(
            [1, 511, 512, 1023, 1024, 1025, u64::MAX].map(rounded_up),
            [1, 511, 512, 1023, 1024, 1026, u64::MAX]
        );
    }

    #[test]
    fn too_many_kinds_of_steps_are_left_to_renyi() {
        let mut accountant = Accountant::new(Adjacency::ZeroOut);
        for i in 0..=DISTINCT {
            accountant.add(&poisson(1.0, 0.01 + 1e-4 * i as f64, Adjacency::ZeroOut), 1).unwrap();
        }
        let bounds = accountant.epsilon(1e-5).unwrap();
        assert!(bounds.composed.is_none() && bounds.least() == bounds.renyi.0.min(bounds.gaussian.unwrap()));
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        let line = |result: Result<()>| result.unwrap_err().to_string();
        let mut accountant = Accountant::new(Adjacency::ZeroOut);
        assert_eq!(
            line(accountant.add(&poisson(1.0, 0.1, Adjacency::ReplaceOne), 1)),
            "adjacency: a step under replace-one does not add up with others under zero-out: state all for the same neighbours"
        );
        for (delta, shown) in [(-0.1, "-0.1"), (1.0, "1"), (f64::NAN, "NaN")] {
            assert_eq!(
                line(accountant.epsilon(delta).map(drop)),
                format!("delta: {shown} is no probability below 1")
            );
        }
        assert_eq!(line(accountant.delta(-1.0).map(drop)), "epsilon: -1 is not at least 0");
        let step = |noise, sampling, adjacency| line(Step::new(noise, sampling, adjacency).map(drop));
        let noise = Noise::Gaussian { mu: 1.0 };
        let replace = Adjacency::ReplaceOne;
        assert_eq!(
            step(Noise::Gaussian { mu: f64::NAN }, Sampling::None, replace),
            "mu: NaN is not at least 0"
        );
        assert_eq!(
            step(noise, Sampling::Poisson { rate: 1.5 }, replace),
            "rate: 1.5 is no probability from 0 to 1"
        );
        let fixed = |cohort, clients| Sampling::Fixed { cohort, clients };
        assert_eq!(step(noise, fixed(0, 3), replace), "cohort: 0 of 3 clients: take from 1 to all of them");
        assert_eq!(step(noise, fixed(4, 3), replace), "cohort: 4 of 3 clients: take from 1 to all of them");
        assert_eq!(
            step(noise, fixed(2, 3), Adjacency::AddOrRemove),
            "adjacency: add-or-remove has no bound for samples of fixed size: take replace-one, or Poisson sampling"
        );
        let sum = Integers { l2: 1.0, l1: 0.0, variance: 1.0, shares: 1, dimension: 1 };
        assert_eq!(
            step(Noise::Skellam(sum), Sampling::None, replace),
            "l1: 0 is not a finite number above 0"
        );
        assert_eq!(
            line(Step::gaussian(0.0, Sampling::None, replace).map(drop)),
            "noise_multiplier: 0 is not above 0"
        );
    }
}
