//! Where the clients' examples are: in this program, or with a program around it that trains on them.

use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};

use super::clients;
use super::holdings::{Holdings, Own, weights_of};
use super::turn::{self, Turn};
use super::{Run, Setting, State};
use crate::config::Config;
use crate::data::Dataset;
use crate::error::{Error, Result, count};
use crate::learn::Learner;
use crate::learn::state_dict::{About, Layout, StateDict};

/// Examples of this program, and its learner.
pub(crate) struct Here {
    pub dataset: Arc<Dataset>,
    pub learner: Box<dyn Learner>,
    /// Which examples each client has.
    pub holdings: Holdings,
}

/// A model that another program trains on examples of its own, for which it brings a [`Crew`](super::Crew).
#[derive(Clone, Debug, PartialEq)]
pub struct Elsewhere {
    /// Names and shapes of the parameters, in the order in which the flat vector holds them.
    pub layers: Vec<(String, Vec<usize>)>,
    /// The model before the first round, d parameters.
    pub start: Vec<f32>,
    /// Training examples n_k of each client.
    pub examples: Vec<usize>,
}

/// Who trains on what.
pub(crate) enum Work {
    Here(Here),
    Elsewhere(Elsewhere),
}

impl Work {
    /// Whose names and shapes those of the parameters are.
    pub fn layout(&self) -> Layout {
        match self {
            Self::Here(_) => Layout::Burn,
            Self::Elsewhere(_) => Layout::Own,
        }
    }

    /// Names and shapes of the parameters.
    pub fn layers(&self) -> Vec<(String, Vec<usize>)> {
        match self {
            Self::Here(here) => here.learner.layers(),
            Self::Elsewhere(own) => own.layers.clone(),
        }
    }
}

/// The name of a model that another program trains, in checkpoints.
pub(super) const ELSEWHERE: &str = "another program's model";

impl Elsewhere {
    /// Checks that the parts fit each other and the configuration.
    pub(super) fn check(&self, config: &Config) -> Result<()> {
        let Self { layers, start, examples } = self;
        let (clients, solver) = (config.clients, config.solver.kind());
        let refuse = |key: &str, rule: String| Err(Error::config(key, rule));
        let parameters = sizes(layers).try_fold(0usize, |all, size| all.checked_add(size?));
        if parameters != Some(start.len()) || start.is_empty() {
            let rule = format!("layers of other sizes than the {} given", count(start.len(), "parameter"));
            return refuse("model", rule);
        }
        if let Some(i) = start.iter().position(|x| !x.is_finite()) {
            return refuse("model", format!("parameter {i} is not a finite number before the first round"));
        }
        if solver != "sgd" {
            let rule = format!(
                "{solver} makes steps that another program makes here; take sgd, of which learning_rate and clip_norm hold"
            );
            return refuse("solver.kind", rule);
        }
        if config.solver.solver().shared().private.is_some() {
            let rule = "another program makes the steps here, and clips no example's gradient; remove it";
            return refuse("solver.private", rule.into());
        }
        if examples.len() != clients {
            let given = count(examples.len(), "client");
            return refuse("clients", format!("{clients}, but the learner has {given}; make them equal"));
        }
        match examples.iter().position(|&n| n == 0) {
            Some(k) => {
                refuse("partition", format!("client {} has no example; give each at least one", k + 1))
            }
            None => Ok(()),
        }
    }
}

/// Shards of one's own: one for each client, of examples that there are.
pub(super) fn checked(
    shards: Vec<Vec<usize>>,
    config: &Config,
    dataset: &Dataset,
) -> Result<Vec<Vec<usize>>> {
    let (clients, examples) = (config.clients, dataset.train.len());
    let refuse = |rule: String| Err(Error::config("partition", rule));
    if shards.len() != clients {
        return refuse(format!(
            "{} for {}; give one to each",
            count(shards.len(), "shard"),
            count(clients, "client")
        ));
    }
    if let Some(k) = shards.iter().position(Vec::is_empty) {
        return refuse(format!("client {} has no example; give each at least one", k + 1));
    }
    if let Some(i) = shards.iter().flatten().find(|i| **i >= examples) {
        return refuse(format!("example {i} of {examples}; indices begin with 0"));
    }
    Ok(shards)
}

fn sizes(layers: &[(String, Vec<usize>)]) -> impl Iterator<Item = Option<usize>> {
    layers.iter().map(|(_, shape)| shape.iter().try_fold(1usize, |size, &n| size.checked_mul(n)))
}

impl Setting {
    /// The examples of this program. Panics where the clients train elsewhere: whoever asks builds settings
    /// of configurations alone.
    pub(crate) fn here(&self) -> &Here {
        match &self.work {
            Work::Here(here) => here,
            Work::Elsewhere(_) => panic!("the clients' examples are with another program"),
        }
    }

    /// The examples of this program, where the clients' are here.
    #[cfg(feature = "deploy")]
    pub(crate) fn examples_here(&self) -> Option<&Dataset> {
        match &self.work {
            Work::Here(here) => Some(&here.dataset),
            Work::Elsewhere(_) => None,
        }
    }

    pub(crate) fn dataset(&self) -> &Dataset {
        &self.here().dataset
    }

    pub(crate) fn shared_dataset(&self) -> Arc<Dataset> {
        Arc::clone(&self.here().dataset)
    }

    /// Which examples each client has.
    pub(crate) fn holdings(&self) -> &Holdings {
        &self.here().holdings
    }

    /// The training examples of a client.
    ///
    /// # Errors
    /// Examples that cannot be read any more.
    pub(crate) fn own(&self, client: usize) -> Result<Own<'_>> {
        self.holdings().own(self.dataset(), client)
    }

    pub(crate) fn learner(&self) -> &dyn Learner {
        &*self.here().learner
    }

    /// See [`crate::learn::Work::mean_count`].
    pub(super) fn mean_count(&self) -> f64 {
        *self.mean_count.get_or_init(|| {
            let examples = (0..self.weights.len()).map(|k| self.count(k as u32));
            clients::mean_count(&*self.solver, examples, &self.weights)
        })
    }

    /// Leaves every client its first `examples` training examples.
    pub fn truncate(&mut self, examples: usize) {
        match &mut self.work {
            Work::Here(here) => here.holdings.truncate(examples),
            Work::Elsewhere(own) => own.examples.iter_mut().for_each(|n| *n = examples.min(*n)),
        }
        self.mean_count = OnceLock::new();
        self.weights = Self::bounded(&self.config, weights_of(self.counts().into_iter()));
    }

    /// Training examples n_k of each client.
    #[must_use]
    pub fn counts(&self) -> Vec<usize> {
        match &self.work {
            Work::Here(here) => (0..here.holdings.clients()).map(|k| here.holdings.count(k)).collect(),
            Work::Elsewhere(own) => own.examples.clone(),
        }
    }

    /// Training examples n_k of a client.
    pub(super) fn count(&self, client: u32) -> usize {
        match &self.work {
            Work::Here(here) => here.holdings.count(client as usize),
            Work::Elsewhere(own) => own.examples[client as usize],
        }
    }

    /// The class-by-client table of the partition; of users, and without classes, the clients' numbers of
    /// examples.
    #[must_use]
    pub fn class_table(&self) -> String {
        match &self.work {
            Work::Here(Here { dataset, holdings, .. }) => holdings.table(dataset),
            Work::Elsewhere(own) => {
                let each: Vec<String> = own.examples.iter().map(ToString::to_string).collect();
                format!("examples of the clients: {}", each.join(", "))
            }
        }
    }

    /// Numbers of examples to train and to test on; how many another program tests on it does not tell.
    #[must_use]
    pub fn examples(&self) -> (usize, usize) {
        let tested = match &self.work {
            Work::Here(here) => here.dataset.test.len(),
            Work::Elsewhere(_) => 0,
        };
        (self.counts().iter().sum(), tested)
    }

    /// Names and shapes of the parameters, in the order in which the flat vector holds them.
    #[must_use]
    pub fn layers(&self) -> Vec<(String, Vec<usize>)> {
        self.work.layers()
    }

    /// Number of model parameters d.
    #[must_use]
    pub fn parameters(&self) -> usize {
        match &self.work {
            Work::Here(here) => here.learner.parameters(),
            Work::Elsewhere(own) => own.start.len(),
        }
    }

    /// The model before the first round.
    pub(super) fn first_model(&self) -> Vec<f32> {
        match (&self.start, &self.work) {
            (Some(start), _) => start.clone(),
            (None, Work::Here(here)) => here.learner.init(self.seed.child("model", 0)),
            (None, Work::Elsewhere(own)) => own.start.clone(),
        }
    }

    /// SHA-256 of the examples and of their division over the clients, in hexadecimal; of another program's
    /// examples only their numbers are known.
    pub(super) fn data_digest(&self) -> String {
        let mut all = Sha256::new();
        match &self.work {
            Work::Here(Here { dataset, holdings, .. }) => {
                all.update(dataset.train.digest());
                all.update(dataset.test.digest());
                holdings.digest(&mut all);
            }
            Work::Elsewhere(own) => {
                own.examples.iter().for_each(|&n| all.update((n as u64).to_le_bytes()));
            }
        }
        all.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What a section's part is called in files: the configured kind, or that it is one's own.
    pub(super) fn name_of(&self, section: &str, configured: &str) -> String {
        if self.own.contains(&section) { format!("own {section}") } else { configured.into() }
    }

    /// What the model is called in checkpoints.
    pub(super) fn model_name(&self) -> String {
        match &self.work {
            Work::Here(_) => self.name_of("model", self.config.model.kind()),
            Work::Elsewhere(_) => ELSEWHERE.into(),
        }
    }

    /// The weights of a model of this setting after `round` rounds, as PyTorch names them, and what they are
    /// for, where this program knows. Panics when they are not as many as the model has.
    #[must_use]
    pub fn state_dict(&self, parameters: &[f32], round: u64) -> StateDict {
        let weights = StateDict::of(self.work.layout(), &self.layers(), parameters);
        let Work::Here(Here { dataset, .. }) = &self.work else { return weights };
        weights.about(About::of(self.model_name(), round, dataset))
    }
}

/// What a [`Crew`](super::Crew) of another program needs to know of the work of one client in a round.
impl Run<'_> {
    /// The weights from which a client trains in the round of `state`, d of them: the global model, the last
    /// one that arrived where that did not, or with `outage.policy = "accumulate"`, "postpone" or "echo" its
    /// own where it has not got that.
    #[must_use]
    pub fn local_start(&self, state: &State, client: u32) -> Vec<f32> {
        let mut start = state.model_of(client as usize).to_vec();
        let carried = state.clients.carried.get(client as usize).into_iter().flatten();
        start.iter_mut().zip(carried).for_each(|(x, carried)| *x += carried);
        start
    }

    /// What the client sends for its local model `trained` (d parameters): the difference from the global
    /// model of `state` as the client has it, clipped as `[solver]` says, in the memory of `trained`.
    #[must_use]
    pub fn update(&self, state: &State, client: u32, trained: Vec<f32>) -> Vec<f32> {
        turn::update(&*self.setting.solver, trained, state.model_of(client as usize))
    }

    /// What a client trains by in a round.
    #[must_use]
    pub fn turn(&self, round: u64, client: u32) -> Turn {
        Turn::of(&self.setting.config, &*self.setting.solver, round, client as usize)
    }
}
