//! Membership of a client, told from the models that a run releases.
//!
//! In each of several runs a coin decides for every client whether its updates or zeros enter the sums: runs
//! that differ in one coin are neighbours for every adjacency of `[privacy.release]`. The clients' examples
//! are the same in all runs; whatever is drawn is another. Who attacks knows the configuration and the
//! client's examples, and guesses its coin by a score:
//!
//! | attack | sees | score |
//! |---|---|---|
//! | `loss` (Yeom et al. 2018) | the last model | − the loss ℓ of the client's examples |
//! | `likelihood` (Carlini et al. 2022) | the last model | (ℓ − ℓ_out)² − (ℓ − ℓ_in)² |
//! | `updates` | all models, and what all others sent | Σ_t ⟨θ_t − θ_{t−1} − m_t, a_t⟩ − ‖a_t‖²/2 |
//!
//! ℓ_in and ℓ_out are the means of ℓ over the other runs with the client and without it: a ratio of normal
//! densities of one variance for all, as few runs ask for. m_t is the mean of what the others sent, a_t what
//! the client would have added to it: the most powerful test against Gaussian noise where the server's step
//! is the mean itself and every upload arrives, and a weaker one elsewhere.
//!
//! No score of a client looks at its own coin, so that (ε, δ) bounds each of them: TPR ≤ e^ε FPR + δ and
//! 1 − FPR ≤ e^ε (1 − TPR) + δ.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::roc::{Roc, Scores};
use crate::config::{Config, EvaluationConfig};
use crate::error::Result;
use crate::parallel::goes_on;
use crate::seed::Seed;
use crate::train::{Alone, Crew, Experiment, Run, Setting, State, Tested, Trained};

/// One attack on what a run releases: a line of `released.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleasedRow {
    /// `loss`, `likelihood` or `updates`.
    pub attack: String,
    /// Independent runs.
    pub runs: usize,
    /// Coins of clients that took part, in all runs.
    pub members: usize,
    /// Coins of those that did not.
    pub others: usize,
    /// Area under the ROC curve.
    pub auc: f64,
    /// Lower end of its 95 % confidence interval, clustered by runs.
    pub auc_low: f64,
    /// Upper end of its 95 % confidence interval.
    pub auc_high: f64,
    /// The largest TPR − FPR of a threshold.
    pub advantage: f64,
    /// The largest TPR of a threshold with an FPR of at most 1 %.
    pub tpr_at_1_percent: f64,
    /// ε against who sees all models; empty where nothing is promised.
    pub epsilon: Option<f64>,
    /// Its δ.
    pub delta: Option<f64>,
    /// The largest area that (ε, δ) allows.
    pub auc_bound: Option<f64>,
    /// The largest advantage that it allows.
    pub advantage_bound: Option<f64>,
    /// The largest TPR at an FPR of 1 % that it allows.
    pub tpr_bound: Option<f64>,
    /// Whether the interval of the area reaches down to its bound: at a level of 2.5 % nothing speaks against
    /// the promise.
    pub kept: Option<bool>,
}

/// What (ε, δ)-differential privacy allows a test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// ε.
    pub epsilon: f64,
    /// δ.
    pub delta: f64,
}

impl Bound {
    /// The largest true positive rate at a false positive rate.
    #[must_use]
    pub fn tpr(&self, fpr: f64) -> f64 {
        let Self { epsilon, delta } = *self;
        (epsilon.exp() * fpr + delta).min(1.0 - (-epsilon).exp() * (1.0 - delta - fpr)).min(1.0)
    }

    /// The largest TPR − FPR, (e^ε − 1 + 2δ)/(e^ε + 1).
    #[must_use]
    pub fn advantage(&self) -> f64 {
        // 1 − 2x where both lines of `tpr` meet, at x = (1 − δ)/(1 + e^ε).
        1.0 - 2.0 * self.meeting()
    }

    /// The largest area under a curve: that below both lines.
    #[must_use]
    pub fn auc(&self) -> f64 {
        let (x, delta) = (self.meeting(), self.delta);
        x * (1.0 + delta - x) / 2.0 + (1.0 - delta - x) * (2.0 - x) / 2.0 + delta
    }

    fn meeting(&self) -> f64 {
        (1.0 - self.delta) / (1.0 + self.epsilon.exp())
    }
}

/// Clients of whom some send zeros; keeps what each would have sent in the last round.
struct Coins {
    takes_part: Vec<bool>,
    meant: Mutex<Vec<(u32, Vec<f32>)>>,
}

impl Crew for Coins {
    fn train(&self, run: &Run<'_>, state: &State, members: &[u32]) -> Result<Vec<Trained>> {
        let mut trained = Alone.train(run, state, members)?;
        let mut meant = self.meant.lock().unwrap_or_else(PoisonError::into_inner);
        meant.clear();
        for (&k, own) in members.iter().zip(&mut trained) {
            meant.push((k, own.sent.clone()));
            if !self.takes_part[k as usize] {
                own.sent.fill(0.0);
            }
        }
        Ok(trained)
    }

    fn test(&self, run: &Run<'_>, round: u64, parameters: &[f32]) -> Result<Tested> {
        Alone.test(run, round, parameters)
    }
}

/// What one run tells of every client.
struct Played {
    takes_part: Vec<bool>,
    /// ℓ on the client's examples.
    losses: Vec<f64>,
    /// The score of `updates`.
    along: Vec<f64>,
    /// ε against who sees all models, and δ.
    promised: Option<Bound>,
}

/// Adds to `along` what the models before and after a round tell of the coins of those who `meant` to send
/// this, with weights `weights`.
fn look(along: &mut [f64], coins: &Coins, weights: &[f64], before: &[f32], after: &[f32]) {
    if before == after {
        return;
    }
    let meant = coins.meant.lock().unwrap_or_else(PoisonError::into_inner);
    let total: f64 = meant.iter().map(|(k, _)| weights[*k as usize]).sum();
    let share = |k: u32| weights[k as usize] / total;
    // What the models moved beyond what was sent.
    let mut rest: Vec<f64> =
        before.iter().zip(after).map(|(before, after)| f64::from(*after) - f64::from(*before)).collect();
    for (k, sent) in meant.iter().filter(|(k, _)| coins.takes_part[*k as usize]) {
        rest.iter_mut().zip(sent).for_each(|(rest, x)| *rest -= share(*k) * f64::from(*x));
    }
    for (k, sent) in meant.iter() {
        let own = |x: &f32| share(*k) * f64::from(*x);
        let (product, square) = rest.iter().zip(sent).fold((0.0, 0.0), |(product, square), (rest, x)| {
            (product + rest * own(x), square + own(x).powi(2))
        });
        // Without the client's own part `rest` is short of it where the client took part.
        let product = if coins.takes_part[*k as usize] { product + square } else { product };
        along[*k as usize] += product - square / 2.0;
    }
}

/// Plays run number `index` of `config`, over the clients and examples of `setting`.
fn play(config: &Config, setting: &Setting, index: u64, stop: &AtomicBool) -> Result<Played> {
    let seed = Seed::new(config.seed).child("released", index);
    // What clients keep out of their training is out of these examples already.
    let evaluation = EvaluationConfig { client_share: 0.0, ..config.evaluation.clone() };
    let own = Config { seed: seed.word(), evaluation, ..config.clone() };
    let shards = super::in_memory(setting)?;
    let here = Experiment::new(own).loaded(setting.shared_dataset()).shards(shards.to_vec()).build()?;
    let mut draws = seed.child("coins", 0).rng();
    let takes_part: Vec<bool> = (0..config.clients).map(|_| draws.random()).collect();
    let coins = Coins { takes_part, meant: Mutex::default() };
    let run = here.run(&config.protocol)?.with_crew(&coins);
    let mut state = run.start();
    let mut along = vec![0.0; config.clients];
    while state.round < config.rounds && !run.is_spent(&state)? {
        goes_on(stop)?;
        let before = state.server.parameters.clone();
        run.round(&mut state)?;
        look(&mut along, &coins, here.weights(), &before, &state.server.parameters);
    }
    let examples = &here.dataset().train;
    let loss =
        |shard: &Vec<usize>| here.learner().evaluate(&state.server.parameters, &examples.subset(shard)).loss;
    let losses = shards.iter().map(loss).collect();
    let promised = run
        .promise(&state)?
        .map(|promise| Bound { epsilon: promise.observer.unwrap_or(f64::INFINITY), delta: promise.delta });
    Ok(Played { takes_part: coins.takes_part, losses, along, promised })
}

/// The score of `likelihood` of client `k` in run `r`; 0 where other runs say nothing.
fn likelihood(runs: &[Played], r: usize, k: usize) -> f64 {
    let mean = |took_part: bool| {
        let others = runs.iter().enumerate().filter(|(i, run)| *i != r && run.takes_part[k] == took_part);
        let (sum, count) = others.fold((0.0, 0.0), |(sum, n), (_, run)| (sum + run.losses[k], n + 1.0));
        (count > 0.0).then(|| sum / count)
    };
    let loss = runs[r].losses[k];
    mean(false).zip(mean(true)).map_or(0.0, |(out, with)| (loss - out).powi(2) - (loss - with).powi(2))
}

/// Plays `attack.runs` runs of the configured protocol over the clients and examples of `setting`, and tells
/// from what they release who took part. Returns the areas beside their bounds, and the curves, in the same
/// order. `updates` is left out where who takes part in a round is drawn: it would have to know.
///
/// # Errors
/// What the runs refuse; a run that diverges. [`Error::Stopped`](crate::Error::Stopped) once `stop` is set.
pub fn released(
    config: &Config,
    setting: &Setting,
    stop: &AtomicBool,
) -> Result<(Vec<ReleasedRow>, Vec<Roc>)> {
    let runs = 0..config.attack.runs as u64;
    let runs: Vec<Played> =
        runs.into_par_iter().map(|index| play(config, setting, index, stop)).collect::<Result<_>>()?;
    // The largest of what the runs promise holds in each of them.
    let bound = runs
        .iter()
        .filter_map(|run| run.promised)
        .reduce(|a, b| Bound { epsilon: a.epsilon.max(b.epsilon), delta: a.delta });
    type Score = fn(&[Played], usize, usize) -> f64;
    let mut attacks: Vec<(&str, Score)> =
        vec![("loss", |runs, r, k| -runs[r].losses[k]), ("likelihood", likelihood)];
    if config.is_everybody() {
        attacks.push(("updates", |runs, r, k| runs[r].along[k]));
    }
    let curve = |(name, score): (&str, Score)| {
        let of_run = |r: usize| {
            let side = |took_part: bool| {
                let clients = (0..config.clients).filter(|&k| runs[r].takes_part[k] == took_part);
                clients.map(|k| score(&runs, r, k)).collect()
            };
            Scores { members: side(true), others: side(false) }
        };
        let draws: Vec<Scores> = (0..runs.len()).map(of_run).collect();
        let roc = Roc::of(&draws);
        (row(name, &draws, &roc, bound), roc)
    };
    Ok(attacks.into_iter().map(curve).unzip())
}

fn row(attack: &str, draws: &[Scores], roc: &Roc, bound: Option<Bound>) -> ReleasedRow {
    let (auc_low, auc_high) = roc.interval();
    ReleasedRow {
        attack: attack.into(),
        runs: draws.len(),
        members: draws.iter().map(|draw| draw.members.len()).sum(),
        others: draws.iter().map(|draw| draw.others.len()).sum(),
        auc: roc.auc,
        auc_low,
        auc_high,
        advantage: roc.advantage(),
        tpr_at_1_percent: roc.power(0.01),
        epsilon: bound.map(|bound| bound.epsilon),
        delta: bound.map(|bound| bound.delta),
        auc_bound: bound.map(|bound| bound.auc()),
        advantage_bound: bound.map(|bound| bound.advantage()),
        tpr_bound: bound.map(|bound| bound.tpr(0.01)),
        kept: bound.map(|bound| auc_low <= bound.auc()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ε = ln 3: the lines meet at (1/4, 3/4), below which lie 3/4. With δ = 0.2 at (0.2, 0.8): 0.2 · 0.5 +
    /// 0.6 · 0.9 + 0.2 = 0.84.
    #[test]
    fn bounds_by_hand() {
        let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got} for {want}");
        let pure = Bound { epsilon: 3f64.ln(), delta: 0.0 };
        close(pure.auc(), 0.75);
        close(pure.advantage(), 0.5);
        close(pure.tpr(0.01), 0.03);
        close(pure.tpr(0.25), 0.75);
        close(pure.tpr(0.7), 0.9);
        let approximate = Bound { epsilon: 3f64.ln(), delta: 0.2 };
        close(approximate.advantage(), 0.6);
        close(approximate.advantage(), (3.0 - 1.0 + 0.4) / 4.0);
        close(approximate.auc(), 0.84);
        close(approximate.tpr(0.0), 0.2);
        close(approximate.tpr(0.9), 1.0);
        let nothing = Bound { epsilon: 0.0, delta: 0.0 };
        close(nothing.auc(), 0.5);
        let open = Bound { epsilon: f64::INFINITY, delta: 1e-5 };
        close(open.auc(), 1.0);
        close(open.advantage(), 1.0);
        close(open.tpr(0.01), 1.0);
    }

    /// Two clients of the weights 1 and 3, of which the first took part: the model moves by ¼ of its 4. For
    /// the first (1 − 0) · 1 − ½ = ½; the second would have moved the other coordinate by 3/2, which did not
    /// move: −9/8.
    #[test]
    fn a_move_tells_who_made_it() {
        let meant = Mutex::new(vec![(0, vec![4.0, 0.0]), (1, vec![0.0, 2.0])]);
        let coins = Coins { takes_part: vec![true, false], meant };
        let mut along = vec![0.0; 2];
        look(&mut along, &coins, &[1.0, 3.0], &[5.0, 5.0], &[6.0, 5.0]);
        assert_eq!(along, [0.5, -1.125]);
        look(&mut along, &coins, &[1.0, 3.0], &[6.0, 5.0], &[6.0, 5.0]);
        assert_eq!(along, [0.5, -1.125], "an outage tells nothing");
    }

    /// Losses 1 and 3 with the client, 6 and 8 without: in the first run the others' means are 3 and 7.
    #[test]
    fn the_other_runs_say_what_a_loss_is_worth() {
        let run = |took_part, loss| Played {
            takes_part: vec![took_part],
            losses: vec![loss],
            along: Vec::new(),
            promised: None,
        };
        let runs = [run(true, 1.0), run(true, 3.0), run(false, 6.0), run(false, 8.0)];
        assert_eq!(likelihood(&runs, 0, 0), 36.0 - 4.0);
        assert_eq!(likelihood(&runs, 2, 0), 4.0 - 16.0);
        assert_eq!(likelihood(&runs[1..], 0, 0), 0.0, "no other run has it");
    }
}
