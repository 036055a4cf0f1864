//! Local solvers: how a client moves its weights in one round, what it sends, and what the server makes of
//! the sum.
//!
//! A solver is composed with any aggregation protocol: it changes the vector whose weighted mean the protocol
//! computes, never the protocol. x is the global model, w_k the weight of client k, Δ_k its local model − x,
//! η its learning rate in the round.
//!
//! | kind | local step | client k sends | server adds to x, from the mean over the clients in the sum |
//! |---|---|---|---|
//! | [`sgd`] | w − η·g | Δ_k | mean Δ |
//! | [`adam`] | Adam, AdamW | Δ_k | mean Δ |
//! | [`fedprox`] | g + μ(w − x) | Δ_k | mean Δ |
//! | [`scaffold`] | g − c_k + c | \[Δ_k ‖ η·Δc_k\] | mean Δ; c moves by mean Δc |
//! | [`fednova`] | w − η·g | Δ_k · τ/a_k, a_k growing with its steps, τ their mean | mean of these |
//! | [`feddyn`] | g − h_k + α(w − x) | Δ_k | mean Δ − h/α; h moves by −α·mean Δ |
//!
//! **Control vectors** (c and c_k, h and h_k) start at zero and keep Σ_k w_k c_k / Σ_k w_k = c, up to the
//! precision of the protocol. A client therefore moves its own vector only when its message entered the sum,
//! by exactly what it sent. It learns that from the next broadcast, which tells whose messages did; an outage
//! moves neither side.

pub mod adam;
pub mod feddyn;
pub mod fednova;
pub mod fedprox;
pub mod scaffold;
pub mod sgd;

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};

use super::private::{PrivateConfig, SampledGaussian};
use crate::{
    choice::choice,
    error::{Error, Result},
};

use adam::AdamConfig;
use feddyn::FedDynConfig;
use fednova::FedNovaConfig;
use fedprox::FedProxConfig;
use scaffold::ScaffoldConfig;
use sgd::SgdConfig;

/// Steps, or passes over its examples, that a client may take in one round.
const MOST_STEPS: usize = 10_000_000;

/// The state of one client's steps during one round; fresh in every round.
pub trait LocalSolver {
    /// One step of parameter number `parameter` (in the order of the flat vector): the new weights from
    /// the weights and the gradient of the batch's mean loss, all of shape `[parameter's size]`.
    fn step(&mut self, parameter: usize, weight: Tensor<1>, gradient: Tensor<1>) -> Tensor<1>;
}

/// What a round asks of one client, beside its examples.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Weights to start from, length d.
    pub start: &'a [f32],
    /// The global model x, length d, the centre of proximal terms: `start`, except when a client goes on from
    /// its local model after an outage.
    pub global: &'a [f32],
    /// Added to every gradient: length d, or empty for nothing.
    pub correction: &'a [f32],
    /// Factor on the learning rate in this round.
    pub rate: f64,
}

impl<'a> Task<'a> {
    /// Training from `start` at the configured learning rate, without correction.
    #[must_use]
    pub fn new(start: &'a [f32]) -> Self {
        Self { start, global: start, correction: &[], rate: 1.0 }
    }
}

/// A client's work of one round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Steps taken.
    pub steps: usize,
    /// Their size η.
    pub rate: f64,
    /// Σ_k w_k a_k / Σ_k w_k over all clients, a_k being [`Solver::count`] of their steps.
    pub mean_count: f64,
}

/// The keys that all solvers share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shared {
    /// Step size η.
    pub learning_rate: f64,
    /// L2 penalty λ.
    pub weight_decay: f64,
    /// Passes over the examples in one round.
    pub epochs: Option<usize>,
    /// Batches in one round.
    pub steps: Option<usize>,
    /// Images per batch.
    pub batch_size: usize,
    /// Bound C on the norm of what is sent.
    pub clip_norm: Option<f64>,
    /// What makes the steps private for each example.
    pub private: Option<PrivateConfig>,
}

impl Shared {
    fn check(&self) -> Result<()> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let refuse = |key, rule: String| Err(Error::config(key, rule));
        if !positive(self.learning_rate) {
            return refuse(
                "learning_rate",
                format!("must be a finite number above 0, not {}; try 0.05", self.learning_rate),
            );
        }
        at_least_zero("weight_decay", self.weight_decay)?;
        if self.epochs.is_some() && self.steps.is_some() {
            return refuse("steps", "cannot stand beside `epochs`; remove one of the two".into());
        }
        for (key, value) in
            [("epochs", self.epochs), ("steps", self.steps), ("batch_size", Some(self.batch_size))]
        {
            if value == Some(0) {
                return refuse(key, "must be at least 1".into());
            }
            if let Some(value) = value.filter(|value| key != "batch_size" && *value > MOST_STEPS) {
                return refuse(key, format!("{value} in a round are too many; the limit is {MOST_STEPS}"));
            }
        }
        if let Some(clip) = self.clip_norm.filter(|clip| !positive(*clip)) {
            let rule =
                format!("must be a finite number above 0, not {clip}; remove it to leave updates unclipped");
            return refuse("clip_norm", rule);
        }
        self.private.map_or(Ok(()), |private| private.check().map_err(|error| error.within("private")))
    }

    /// Scales `sent` down to the norm `clip_norm`, if there is one and it is exceeded.
    pub fn clip(&self, sent: &mut [f32]) {
        if let Some(bound) = self.clip_norm {
            clip(sent, bound);
        }
    }
}

fn at_least_zero(key: &str, value: f64) -> Result<()> {
    if value >= 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(Error::config(key, format!("must be a finite number of at least 0, not {value}")))
    }
}

fn check_momentum(momentum: f64) -> Result<()> {
    if (0.0..1.0).contains(&momentum) {
        Ok(())
    } else {
        let rule = format!("must be at least 0 and below 1, not {momentum}; try 0 or 0.9");
        Err(Error::config("momentum", rule))
    }
}

/// Declares a solver's section: its own keys with their defaults, and the shared ones.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident at $rate:literal {
        $($(#[$fdoc:meta])* $field:ident: $type:ty = $default:expr),* $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            /// Step size η, above 0; `[schedule]` varies it over the rounds.
            #[schemars(range(min = 0.0))]
            pub learning_rate: f64,
            $($(#[$fdoc])* pub $field: $type,)*
            /// L2 penalty λ: λw is added to the gradient. At least 0.
            #[schemars(range(min = 0.0))]
            pub weight_decay: f64,
            /// Passes over the client's examples in one round, at least 1. Give `epochs` or `steps`; with
            /// neither, 1 epoch.
            #[schemars(range(min = 1))]
            pub epochs: Option<usize>,
            /// Batches in one round, at least 1; examples are shuffled again whenever all were used. Give
            /// `epochs` or `steps`.
            #[schemars(range(min = 1))]
            pub steps: Option<usize>,
            /// Images per batch, at least 1. The last batch of an epoch holds what is left; with `private`,
            /// the mean number of a step.
            #[schemars(range(min = 1))]
            pub batch_size: usize,
            /// Bound on the L2 norm of what a client sends in one round, above 0; a longer vector is scaled
            /// down to it: the update, with scaffold update and control variate together, with fednova the
            /// normalised update. Without it, nothing is clipped.
            #[schemars(range(min = 0.0))]
            pub clip_norm: Option<f64>,
            /// Privacy for each of a client's examples by DP-SGD, in simulations: a table of `clip`, the
            /// bound on the L2 norm of one example's gradient, above 0, and `noise_multiplier`, the standard
            /// deviation of the noise on the sum of a batch over it, at least 0. A step takes each example
            /// with probability batch_size over their number. Without it, none.
            pub private: Option<$crate::learn::PrivateConfig>,
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    learning_rate: $rate,
                    $($field: $default,)*
                    weight_decay: 0.0,
                    epochs: None,
                    steps: None,
                    batch_size: 32,
                    clip_norm: None,
                    private: None,
                }
            }
        }

        impl $crate::learn::solver::Section for $name {
            fn shared(&self) -> $crate::learn::solver::Shared {
                let Self { learning_rate, weight_decay, epochs, steps, batch_size, clip_norm, private, .. } =
                    *self;
                $crate::learn::solver::Shared {
                    learning_rate,
                    weight_decay,
                    epochs,
                    steps,
                    batch_size,
                    clip_norm,
                    private,
                }
            }
        }
    };
}
use section;

/// A section with the shared keys.
pub trait Section: Send + Sync {
    /// Their values.
    fn shared(&self) -> Shared;
}

/// A solver: what is minimised locally, how steps are made, and what travels. The defaults are those of
/// FederatedAveraging (McMahan et al. 2017, algorithm 1).
pub trait Solver: Section {
    /// Checks the keys that only this solver has.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    fn check(&self) -> Result<()>;

    /// How steps of size `rate` are made from gradients.
    fn stepper(&self, rate: f64) -> Box<dyn LocalSolver>;

    /// λ: λw is added to the gradient.
    fn l2(&self) -> f64 {
        self.shared().weight_decay
    }

    /// μ: μ(w − x) is added to the gradient.
    fn proximal(&self) -> f64 {
        0.0
    }

    /// Whether server and clients keep a control vector each, d numbers, zero at the start.
    fn has_controls(&self) -> bool {
        false
    }

    /// Whether a client may go on from its local model after an outage.
    fn accumulates(&self) -> bool {
        !self.has_controls()
    }

    /// Coordinates of the vector that a client sends for `d` parameters.
    fn coordinates(&self, d: usize) -> usize {
        d
    }

    /// What is added to every gradient (length d, or empty) of a client with control vector `own`, `server`
    /// being the server's.
    fn correction(&self, _server: &[f32], _own: &[f32]) -> Vec<f32> {
        Vec::new()
    }

    /// How much the gradients of `steps` steps count together in Δ/η: their number for plain steps.
    fn count(&self, steps: usize) -> f64 {
        steps as f64
    }

    /// The vector that a client sends, clipped, of its Δ; `server` is the server's control vector.
    fn encode(&self, mut delta: Vec<f32>, _work: Work, _server: &[f32]) -> Vec<f32> {
        self.shared().clip(&mut delta);
        delta
    }

    /// Moves a client's control vector once the vector `sent` has entered the sum.
    fn advance(&self, _own: &mut [f32], _sent: &[f32], _rate: f64) {}

    /// The direction for the server's optimiser (d coordinates), and the server's control vector moved.
    /// `mean` is the weighted mean of the vectors sent by the clients in the sum, `share` their share of the
    /// weight of all clients.
    fn direction(&self, _server: &mut [f32], mean: Vec<f64>, _share: f64, _rate: f64) -> Vec<f64> {
        mean
    }
}

choice! {
    /// How a client trains in one round, and what it sends.
    SolverConfig by "kind" or "sgd" as solver: Solver {
        /// Stochastic gradient descent: FederatedAveraging (McMahan et al. 2017).
        "sgd" => Sgd(SgdConfig),
        /// Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019), started afresh in every round.
        "adam" => Adam(AdamConfig),
        /// SGD with a proximal term: FedProx (Li et al. 2020).
        "fedprox" => FedProx(FedProxConfig),
        /// SGD with control variates against client drift: SCAFFOLD (Karimireddy et al. 2020).
        "scaffold" => Scaffold(ScaffoldConfig),
        /// SGD with normalised averaging, for clients that take different numbers of steps: FedNova (Wang et
        /// al. 2020).
        "fednova" => FedNova(FedNovaConfig),
        /// SGD with a dynamic regulariser: FedDyn (Acar et al. 2021).
        "feddyn" => FedDyn(FedDynConfig),
    }
}

impl Default for SolverConfig {
    fn default() -> Self {
        Self::Sgd(SgdConfig::default())
    }
}

impl dyn Solver + '_ {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    pub fn check_all(&self) -> Result<()> {
        self.shared().check()?;
        self.check()
    }

    /// A fresh solver for one round of clients that move together, or of a single one: gradients of the
    /// batch's loss in, steps on the local objective out, each parameter holding those of all clients one
    /// after the other. `sizes` are the sizes of one client's parameters, in the order of the flat vector.
    ///
    /// # Panics
    /// Without a task, and when their rates differ.
    #[must_use]
    pub fn begin<'a>(&self, tasks: &[Task<'a>], sizes: &[usize]) -> Box<dyn LocalSolver + 'a> {
        let (l2, proximal) = (self.l2(), self.proximal());
        let rate = tasks[0].rate;
        assert!(tasks.iter().all(|task| task.rate == rate), "one rate for all");
        let inner = self.stepper(self.shared().learning_rate * rate);
        if l2 == 0.0 && proximal == 0.0 && tasks[0].correction.is_empty() {
            return inner;
        }
        let terms = sizes.iter().scan(0, |at, size| {
            *at += size;
            Some(Term { at: *at - size..*at, correction: None, global: None })
        });
        Box::new(Objective { tasks: tasks.to_vec(), l2, proximal, terms: terms.collect(), inner })
    }

    /// Images per step.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        self.shared().batch_size
    }

    /// Steps of one round for a client with `examples` examples.
    #[must_use]
    pub fn steps(&self, examples: usize) -> usize {
        let Shared { steps, epochs, batch_size, .. } = self.shared();
        match steps {
            _ if examples == 0 => 0,
            Some(steps) => steps,
            None => epochs.unwrap_or(1).saturating_mul(examples.div_ceil(batch_size)),
        }
    }

    /// Gradients of examples that a client with `examples` examples computes in one round; in the mean where
    /// its steps are private.
    #[must_use]
    pub fn gradients(&self, examples: usize) -> usize {
        let (steps, epoch) = (self.steps(examples), examples.div_ceil(self.batch_size()).max(1));
        (steps / epoch).saturating_mul(examples).saturating_add(steps % epoch * self.batch_size())
    }

    /// The noisy steps of one round of a client with `examples` examples, where its steps are private.
    #[must_use]
    pub fn sampled(&self, examples: usize) -> Option<SampledGaussian> {
        let Shared { batch_size, private, .. } = self.shared();
        let noise_multiplier = private?.noise_multiplier;
        let rate = if batch_size < examples { batch_size as f64 / examples as f64 } else { 1.0 };
        Some(SampledGaussian { rate, noise_multiplier, steps: self.steps(examples) })
    }

    /// The bound C on the L2 norm of what a client sends, if any.
    #[must_use]
    pub fn clip_norm(&self) -> Option<f64> {
        self.shared().clip_norm
    }
}

/// Adds to each gradient what the local objective has beside the loss: λw + correction + μ(w − x).
struct Objective<'a> {
    tasks: Vec<Task<'a>>,
    l2: f64,
    proximal: f64,
    terms: Vec<Term>,
    inner: Box<dyn LocalSolver>,
}

/// One parameter's place in the flat vector and, from the first step on, its correction and its part of x.
struct Term {
    at: Range<usize>,
    correction: Option<Tensor<1>>,
    global: Option<Tensor<1>>,
}

impl LocalSolver for Objective<'_> {
    fn step(&mut self, parameter: usize, weight: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        let Term { at, correction, global } = &mut self.terms[parameter];
        let tasks = &self.tasks;
        let part = |of: for<'t> fn(&'t Task<'_>) -> &'t [f32]| {
            let values: Vec<f32> = tasks.iter().flat_map(|task| &of(task)[at.clone()]).copied().collect();
            let size = [values.len()];
            Tensor::<1>::from_data(TensorData::new(values, size), &weight.device())
        };
        let mut direction = gradient;
        if self.l2 > 0.0 {
            direction = direction + weight.clone().mul_scalar(self.l2);
        }
        if !tasks[0].correction.is_empty() {
            direction = direction + correction.get_or_insert_with(|| part(|task| task.correction)).clone();
        }
        if self.proximal > 0.0 {
            let global = global.get_or_insert_with(|| part(|task| task.global)).clone();
            direction = direction + (weight.clone() - global).mul_scalar(self.proximal);
        }
        self.inner.step(parameter, weight, direction)
    }
}

/// The L2 norm of an update.
#[must_use]
pub fn norm(update: &[f32]) -> f64 {
    update.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// Scales `update` so that its L2 norm is at most `bound`.
///
/// A norm that is not finite is left alone: a diverged client shows as NaN instead of as a small update.
pub fn clip(update: &mut [f32], bound: f64) {
    let norm = norm(update);
    if norm > bound && norm.is_finite() {
        // Rounding a product to f32 can lengthen it by 2⁻²⁴; the margin keeps the bound a bound.
        let scale = (bound / norm * (1.0 - 2f64.powi(-22))) as f32;
        update.iter_mut().for_each(|x| *x *= scale);
    }
}

#[cfg(test)]
mod tests;
