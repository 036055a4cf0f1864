//! What travels of an update, and what of it waits ([`crate::compress`]).

use std::sync::Arc;

use rayon::prelude::*;

use super::work::Work;
use super::{Run, Setting, State};
use crate::bounds;
use crate::compress::{Compression, Map, Residual, size};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::learn::Solver;
use crate::protocol::Update;
use crate::seed::Seed;

/// The compression of a setting's model.
pub(super) struct Compressor {
    family: Arc<dyn Compression>,
    /// Shapes of the model's tensors.
    tensors: Vec<Vec<usize>>,
    /// d′.
    pub coordinates: usize,
}

impl Compressor {
    /// Checks how a compression goes with what else is configured.
    pub fn new(
        family: Arc<dyn Compression>,
        work: &Work,
        config: &Config,
        solver: &dyn Solver,
    ) -> Result<Self> {
        let tensors: Vec<Vec<usize>> = work.layers().into_iter().map(|(_, shape)| shape).collect();
        let refuse = |key: &str, rule: String| Err(Error::config(format!("compression.{key}"), rule));
        family.check().map_err(|error| error.within("compression"))?;
        let d = size(&tensors);
        if solver.has_controls() {
            let rule =
                "control vectors must move by exactly what arrives; take a solver without them, or \"none\"";
            return refuse("kind", rule.into());
        }
        if solver.coordinates(d) != d {
            let sent = solver.coordinates(d);
            let rule = format!(
                "the solver sends {sent} coordinates for {d} parameters; take another one, or \"none\""
            );
            return refuse("kind", rule);
        }
        if family.residual() == Residual::Clients {
            if config.outage.keeps_local_models() {
                let rule = format!(
                    "clients keep what did not arrive, and with outage.policy = \"{}\" it would count twice; take false, or skip or \
                     retry",
                    config.outage.policy.name()
                );
                return refuse("error_feedback", rule);
            }
            let taken = (config.cohort.most(config.clients) as u64).saturating_mul(config.rounds);
            let keeping = taken.min(config.clients as u64);
            bounds::check_memory(4 * (d as u64).saturating_mul(keeping)).map_err(|free| {
                let rule = format!("what {keeping} clients keep takes {free}; take false");
                Error::config("compression.error_feedback", rule)
            })?;
        }
        let coordinates = family.coordinates(&tensors);
        Ok(Self { family, tensors, coordinates })
    }

    /// Whether the server's estimate is a linear function of what it receives in the round.
    fn is_memoryless(&self) -> bool {
        self.family.residual() != Residual::Server
    }

    fn draw(&self, seed: Seed, round: u64) -> Box<dyn Map> {
        self.family.draw(&self.tensors, seed.child("compression", 0), round)
    }
}

/// The updates of a round as they travel.
pub(super) struct Compressed {
    map: Box<dyn Map>,
    /// A v_k, clipped.
    pub sent: Vec<Update>,
    /// Whether each was no longer than the noise in the sum is made for.
    pub below: Vec<bool>,
    /// v_k: the update and what the client kept before; nothing where clients keep nothing.
    whole: Vec<Vec<f32>>,
}

impl Compressed {
    /// The server's estimate of the mean, d coordinates, from the mean of what was sent.
    pub fn take(&self, mean: &[f64], state: &mut State) -> Vec<f64> {
        self.map.take(mean, &mut state.server.residual)
    }

    /// The estimates of single updates, from them as they were received.
    pub fn expand(&self, singles: &mut [Update]) {
        singles.par_iter_mut().for_each(|single| {
            let received: Vec<f64> = single.delta.iter().copied().map(f64::from).collect();
            single.delta = Arc::new(self.map.expand(&received).into_iter().map(|x| x as f32).collect());
        });
    }

    /// What client number `i` of the round keeps when its message entered the sum.
    fn left(&self, i: usize) -> Vec<f32> {
        let sent: Vec<f64> = self.sent[i].delta.iter().copied().map(f64::from).collect();
        let carried = self.map.expand(&sent);
        self.whole[i]
            .iter()
            .zip(carried)
            .map(|(whole, carried)| (f64::from(*whole) - carried) as f32)
            .collect()
    }
}

impl Setting {
    /// Whether clients send less than their updates.
    #[cfg(feature = "deploy")]
    pub(crate) fn compresses(&self) -> bool {
        self.compressor.is_some()
    }

    /// Checks that a rule of participation, called `rule`, has single updates to remember.
    pub(super) fn check_singles(&self, rule: &str) -> Result<()> {
        match &self.compressor {
            Some(compressor) if !compressor.is_memoryless() => {
                let problem = format!(
                    "{rule} remembers single updates, and the server takes parts of sums only here; take compression.error_feedback = \
                     false, another compression, or \"none\""
                );
                Err(Error::config("participation.kind", problem))
            }
            _ => Ok(()),
        }
    }

    /// What was not carried before the first round: of the server, and of each client.
    pub(super) fn first_residuals(&self) -> (Vec<f32>, Vec<Vec<f32>>) {
        let Some(compressor) = &self.compressor else { return Default::default() };
        match compressor.family.residual() {
            Residual::None => Default::default(),
            Residual::Server => (vec![0.0; compressor.coordinates], Vec::new()),
            Residual::Clients => (Vec::new(), vec![Vec::new(); self.config.clients]),
        }
    }
}

impl Run<'_> {
    /// What the `members` of a round send, where that is not their updates.
    pub(super) fn compressed(
        &self,
        state: &State,
        members: &[u32],
        updates: &[Update],
    ) -> Option<Compressed> {
        let compressor = self.setting.compressor.as_ref()?;
        let map = compressor.draw(self.setting.seed, state.round);
        let with_kept = |(k, update): (&u32, &Update)| -> Vec<f32> {
            let kept = &state.clients.residuals[*k as usize];
            match kept.is_empty() {
                true => update.delta.to_vec(),
                false => update.delta.iter().zip(kept).map(|(x, kept)| x + kept).collect(),
            }
        };
        let whole: Vec<Vec<f32>> = match state.clients.residuals.is_empty() {
            true => Vec::new(),
            false => members.par_iter().zip(updates).map(with_kept).collect(),
        };
        let send = |(i, update): (usize, &Update)| {
            let mut sent = map.compress(whole.get(i).unwrap_or(&update.delta));
            self.setting.solver.shared().clip(&mut sent);
            let below = self.bound(state, &mut sent);
            (Update { weight: update.weight, delta: Arc::new(sent) }, below)
        };
        let (sent, below) = updates.par_iter().enumerate().map(send).unzip();
        Some(Compressed { map, sent, below, whole })
    }

    /// Lets the `members` of a round keep what was not carried: all that they had where they are not
    /// `included` in the sum.
    pub(super) fn keep_rest(
        &self,
        state: &mut State,
        members: &[u32],
        compressed: Compressed,
        included: &[u16],
    ) {
        let is_in = |i: usize| included.binary_search(&(i as u16)).is_ok();
        let rest = |i: usize| if is_in(i) { compressed.left(i) } else { compressed.whole[i].clone() };
        let kept: Vec<Vec<f32>> = (0..compressed.whole.len()).into_par_iter().map(rest).collect();
        members.iter().zip(kept).for_each(|(&k, kept)| state.clients.residuals[k as usize] = kept);
    }
}
