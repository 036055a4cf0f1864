//! What a coalition learned in the rounds so far.

use super::Assumptions;
use super::rotation::Rotation;
use crate::error::Result;
use crate::message::Views;
use crate::privacy::Formal;
use crate::privacy::exact;
use crate::privacy::rank::Determined;
use crate::privacy::split::{Split, number};
use crate::privacy::view::{Coalition, View};

/// What one view tells about one client.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exposure {
    /// In nats.
    pub lmip: f64,
    /// What of it the sum alone tells; 0 for one who does not obtain the sum.
    pub floor: f64,
    /// μ of Gaussian differential privacy on the view, and beyond the sum.
    pub mu: [f64; 2],
    /// Σ μ² over the rounds so far.
    pub squares: [f64; 2],
}

/// What one view tells about client `k`; distances are ‖H⁺ shift‖ on the view and beyond the sum, per unit of
/// the client's reach.
struct Told {
    k: usize,
    lmip: f64,
    floor: f64,
    distances: [f64; 2],
}

/// What one coalition learned so far.
#[derive(Clone, Debug)]
pub(super) struct Learned {
    pub coalition: Coalition,
    pub clients: Vec<Exposure>,
    pub symbols: usize,
    pub counterexample: String,
    pub sum: bool,
    /// What the reach 2 w C of an input grows by when it is rounded.
    rounding: f64,
    /// The view without losses, when others are compared with it.
    largest: Option<View>,
}

impl Learned {
    pub(super) fn new(coalition: Coalition, clients: usize, rounding: f64) -> Self {
        Self {
            coalition,
            clients: vec![Exposure::default(); clients],
            symbols: 0,
            counterexample: String::new(),
            sum: false,
            rounding,
            largest: None,
        }
    }

    /// Whether it saw no round that others are compared with.
    pub(super) fn is_new(&self) -> bool {
        self.largest.is_none()
    }

    /// What this coalition learned of the first round when the one that `times` rotations map on it learned
    /// that of its own, and nothing without keys.
    pub(super) fn moved(&self, first: &Self, formal: &Formal, rotation: Rotation, times: usize) -> Self {
        let view = match formal {
            Formal::Real(views) if first.largest.is_some() => Some(View::of(views, self.coalition.clone())),
            _ => None,
        };
        let clients = rotation.moved(&first.clients, times);
        Self { clients, sum: first.sum, largest: view, ..self.clone() }
    }

    pub(super) fn see(
        &mut self,
        formal: &Formal,
        assumptions: &Assumptions,
        every_round_is_this: bool,
    ) -> Result<()> {
        let told = match formal {
            Formal::Real(views) => {
                if self.is_no_news(views, every_round_is_this) {
                    return Ok(());
                }
                self.see_real(views, assumptions)?
            }
            Formal::Field(views) => {
                let exact = views.exposed(&self.coalition);
                self.note(exact.symbols, exact.sum, || exact.counterexample.clone());
                let measured = (0..).zip(exact::measures(&**views, &exact));
                let told = |(k, (lmip, distances))| {
                    // The sum of uniform field elements tells nothing about one of several.
                    let alone = exact.sum && exact.summed == [k];
                    Told { k, lmip, floor: if alone { lmip } else { 0.0 }, distances }
                };
                measured.map(told).collect()
            }
        };
        self.add(&told, assumptions, every_round_is_this)
    }

    /// Whether the view is part of the one without losses, with the same sum; the first view becomes that
    /// one.
    fn is_no_news(&mut self, views: &Views, every_round_is_this: bool) -> bool {
        let view = View::of(views, self.coalition.clone());
        match &self.largest {
            Some(largest) => {
                let same = !views.decoded.is_sum() || view.included == largest.included;
                same && view.rows.iter().all(|row| largest.rows.contains(row))
            }
            None => {
                self.largest = every_round_is_this.then_some(view);
                false
            }
        }
    }

    fn see_real(&mut self, views: &Views, assumptions: &Assumptions) -> Result<Vec<Told>> {
        let view = View::with_result(views, self.coalition.clone());
        let split = Split::of(&view.rows, view.clients)?;
        let determined = Determined::with(&view, &split);
        self.note(determined.combinations.len(), determined.sum, || determined.counterexample());
        let Assumptions { weights, input_std, .. } = assumptions;
        let known = assumptions.stds().map(|stds| split.lmip(&stds)).transpose()?;
        let (summed, honest): (Vec<usize>, Vec<usize>) = (view.summed(), view.honest().collect());
        // A noisy sum is not seen: then the inputs of all may go together.
        let paired = if determined.sum { &summed } else { &honest };
        let between = split.between(paired);
        let about = |k: usize| {
            let lmip = match &known {
                Some(leak) => leak[k],
                None => split.lmip_of(k, &weights.stds(k, *input_std))?,
            };
            let in_sum = summed.contains(&k);
            let floor = if determined.sum && in_sum { weights.floor(k, &summed) } else { 0.0 };
            let alone = split.alone(k);
            let beyond = if determined.sum && summed == [k] {
                // With nobody to pair it with, the sum is the input itself.
                f64::INFINITY
            } else if !paired.contains(&k) {
                alone
            } else {
                let others = paired.iter().filter(|&&j| j != k && weights.share(k, j) > 0.0);
                let moved = others.map(|&j| weights.share(k, j) * between[(k, j)]);
                moved.fold(0.0, f64::max)
            };
            // Whatever shows the sum tells at least what the sum tells.
            Ok(Told { k, lmip: lmip.max(floor), floor, distances: [alone, beyond] })
        };
        honest.iter().copied().map(about).collect()
    }

    fn note(&mut self, symbols: usize, sum: bool, counterexample: impl FnOnce() -> Option<String>) {
        if symbols > self.symbols {
            self.symbols = symbols;
            self.counterexample = counterexample().unwrap_or_default();
        }
        self.sum |= sum;
    }

    fn add(&mut self, told: &[Told], assumptions: &Assumptions, every_round_is_this: bool) -> Result<()> {
        for Told { k, lmip, floor, distances } in told {
            let total = &mut self.clients[*k];
            total.lmip = total.lmip.max(number(*lmip, "the leakage of a view")?);
            total.floor = total.floor.max(number(*floor, "the leakage of a sum")?);
            for ((distance, most), squares) in distances.iter().zip(&mut total.mu).zip(&mut total.squares) {
                let mu = match assumptions.clip {
                    _ if *distance == 0.0 => 0.0,
                    Some(clip) => (2.0 * assumptions.weights.most(*k) * clip + self.rounding) * distance,
                    None => f64::INFINITY,
                };
                *most = most.max(number(mu, "the reach of an update through the keys")?);
                *squares = if every_round_is_this {
                    assumptions.rounds as f64 * most.powi(2)
                } else {
                    *squares + mu.powi(2)
                };
            }
        }
        Ok(())
    }
}
