//! The round loop.

mod clients;
mod crew;
mod directory;
mod divergence;
#[cfg(feature = "mpi")]
pub(crate) mod ranks;
mod step;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::algebra::grid::Public;
use crate::cohort::{CohortLinks, Schemes, Silence};
use crate::config::{Config, PrivacyConfig};
use crate::data::{Dataset, Examples, partition};
use crate::error::{Error, Result};
use crate::learn::{Device, Learner, LocalUpdate, learner};
use crate::network::{Network, Replay};
use crate::plan;
use crate::privacy::Leakage;
use crate::privacy::audit::Assumptions;
use crate::protocol::exchange::AUDITABLE;
use crate::protocol::{Aggregate, Aggregator, ProtocolConfig, Reason, Update};
use crate::record::{Checkpoint, ClientRow, Diverged, NotFinite, Outcome, Row};
use crate::seed::Seed;
use clients::Spread;
pub(crate) use clients::{Division, LocalRound, divide, mean_count};
pub(crate) use crew::{Alone, Crew};
#[cfg(feature = "deploy")]
pub(crate) use divergence::not_finite;
pub(crate) use step::relative_error;

/// Everything of an experiment but the protocol: runs that share it are paired in partition, batches, initial model and
/// link states.
pub struct Setting {
    config: Config,
    device: String,
    dataset: Arc<Dataset>,
    learner: Box<dyn Learner>,
    /// Training examples of each client, indices into the training set.
    shards: Vec<Vec<usize>>,
    /// The examples of each client that are kept out of training; empty when no client is tested.
    held_out: Vec<Examples>,
    /// n_k · M / N for each client.
    weights: Vec<f64>,
    network: Network,
    seed: Seed,
}

impl Setting {
    /// Loads the data, divides it and builds model and links.
    ///
    /// # Errors
    /// A configuration value that breaks a rule, or a dataset file that is missing or damaged.
    pub fn build(config: &Config, device: Device) -> Result<Self> {
        config.check()?;
        Self::with_data(config, Arc::new(config.data.load().map_err(|error| error.within("data"))?), device)
    }

    /// [`Setting::build`] for a checked configuration whose dataset is loaded already.
    ///
    /// # Errors
    /// A configuration value that breaks a rule.
    pub(crate) fn with_data(config: &Config, dataset: Arc<Dataset>, device: Device) -> Result<Self> {
        let network = network(config)?;
        let name = device.name();
        let learner = learner(&config.model, &config.solver, &dataset, device)?;
        Self::assemble(config, dataset, learner, network, name)
    }

    /// A setting with a user's own dataset and learner, such as [`crate::learn::learner_of`] makes of a Burn module. The learner takes
    /// `config.solver`; `config.data` and `config.model` are not read.
    ///
    /// # Errors
    /// A configuration value that breaks a rule.
    pub fn of(config: &Config, dataset: Dataset, learner: Box<dyn Learner>) -> Result<Self> {
        config.check()?;
        config.solver.check().map_err(|error| error.within("solver"))?;
        Self::assemble(config, Arc::new(dataset), learner, network(config)?, "user")
    }

    fn assemble(
        config: &Config,
        dataset: Arc<Dataset>,
        learner: Box<dyn Learner>,
        network: Network,
        device: &str,
    ) -> Result<Self> {
        let Division { shards, held_out, weights } = divide(config, &dataset)?;
        let held_out = held_out.iter().map(|examples| dataset.train.subset(examples)).collect();
        let seed = Seed::new(config.seed);
        Ok(Self {
            config: config.clone(),
            device: device.into(),
            dataset,
            learner,
            shards,
            held_out,
            weights,
            network,
            seed,
        })
    }

    /// Leaves every client its first `examples` training examples.
    pub(crate) fn truncate(&mut self, examples: usize) {
        self.shards.iter_mut().for_each(|shard| shard.truncate(examples));
        let total: usize = self.shards.iter().map(Vec::len).sum();
        let clients = self.shards.len() as f64;
        self.weights = self.shards.iter().map(|shard| shard.len() as f64 * clients / total as f64).collect();
    }

    pub(crate) fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    pub(crate) fn shards(&self) -> &[Vec<usize>] {
        &self.shards
    }

    pub(crate) fn learner(&self) -> &dyn Learner {
        &*self.learner
    }

    /// The class-by-client table of the partition.
    #[must_use]
    pub fn class_table(&self) -> String {
        let Dataset { train, class_names, .. } = &*self.dataset;
        partition::class_table(train.labels(), class_names, &self.shards).to_string()
    }

    /// Number of model parameters d.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.learner.parameters()
    }

    /// Coordinates of the vector that a client sends.
    #[must_use]
    pub fn coordinates(&self) -> usize {
        self.config.solver.solver().coordinates(self.parameters())
    }

    /// What audits of this setting's runs assume.
    #[must_use]
    pub fn assumptions(&self) -> Assumptions {
        // The largest cohort comes first.
        Assumptions::cases(&self.config, &self.weights).swap_remove(0).of_coordinates(self.coordinates())
    }

    /// What everybody knows of what clients send.
    #[must_use]
    pub fn public(&self) -> Public {
        Public {
            clip: self.config.solver.clip_norm(),
            weight: self.weights.iter().copied().fold(0.0, f64::max),
            coordinates: Some(self.coordinates()),
            tolerance: self.config.outage.recovery_tolerance,
        }
    }

    /// A run of `protocol` in this setting.
    ///
    /// # Errors
    /// Parameters that break a rule of the protocol, or a protocol that the solver cannot go with.
    pub fn run(&self, protocol: &ProtocolConfig) -> Result<Run<'_>> {
        let protocol = plan::resolve(protocol, &self.config, self.coordinates())?;
        if protocol.participation().is_some() && self.config.solver.solver().has_controls() {
            let rule = format!(
                "{} mixes updates of different rounds, which would unbalance the control vectors of {}; take another solver or another protocol",
                protocol.kind(),
                self.config.solver.kind()
            );
            return Err(Error::config("protocol.kind", rule));
        }
        let largest = self.config.cohort.sample.unwrap_or(self.config.clients);
        let (schemes, aggregator) =
            Schemes::new(&protocol, largest, self.seed.child("protocol", 0), self.public())
                .map_err(|error| error.within("protocol"))?;
        if aggregator.holders().is_some() && !self.config.cohort.is_everybody() {
            let rule = format!(
                "{} replicates data among all clients; remove sample and drop_after",
                protocol.kind()
            );
            return Err(Error::config("cohort", rule));
        }
        let coordinates = aggregator.formal_coordinates();
        if self.config.privacy.measure && coordinates > AUDITABLE {
            let rule = format!(
                "formal inputs of `{}` have {coordinates} coordinates here, and ranks of more than {AUDITABLE} take too long in every \
                 round; set it to false",
                protocol.kind()
            );
            return Err(Error::config("privacy.measure", rule));
        }
        self.warn_of_imprecision(&*aggregator);
        Ok(Run { setting: self, protocol, schemes, aggregator, crew: &Alone, warned: Mutex::default() })
    }

    /// Says before the first round that keys are too strong for the arithmetic, where the size of updates is known.
    fn warn_of_imprecision(&self, scheme: &dyn Aggregator) {
        let d = self.coordinates() as f64;
        let declared = self.config.privacy.update_std;
        let size = match self.config.solver.clip_norm() {
            Some(clip) => clip / d.sqrt(),
            None if declared != PrivacyConfig::default().update_std => declared,
            None => return,
        };
        let tolerance = self.config.outage.recovery_tolerance;
        let fits = |scale: f64| scheme.imprecision(scale, size).is_none_or(|error| error <= tolerance);
        let (Some(std), Some(error)) = (scheme.scheme().key_std, scheme.imprecision(1.0, size)) else {
            return;
        };
        if fits(1.0) {
            return;
        }
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..40 {
            let middle = if low == 0.0 { high / 16.0 } else { f64::midpoint(low, high) };
            if fits(middle) { low = middle } else { high = middle }
        }
        tracing::warn!(
            "protocol.key_std: with keys of {std} and updates of {size:.1e} a coordinate rounding may move a sum by {error:.1e} of its \
             norm, more than outage.recovery_tolerance = {tolerance}, and rounds end as outages for want of precision; {:.2e} \
             keeps it, and arithmetic = \"field\" has no rounding",
            low * std
        );
    }
}

/// The state between two rounds.
pub type State = Checkpoint;

/// The clients of a round and the scheme among them.
struct Cohort {
    members: Vec<u16>,
    scheme: Option<Arc<dyn Aggregator>>,
}

/// One protocol in a setting.
pub struct Run<'a> {
    setting: &'a Setting,
    protocol: ProtocolConfig,
    schemes: Schemes,
    aggregator: Arc<dyn Aggregator>,
    crew: &'a dyn Crew,
    /// The clients that were named because they diverged.
    warned: Mutex<BTreeSet<u16>>,
}

impl<'a> Run<'a> {
    /// The run with its clients trained and tested by `crew`.
    pub(crate) fn with_crew(self, crew: &'a dyn Crew) -> Self {
        Self { crew, ..self }
    }
}

impl Run<'_> {
    /// The scheme behind the run, that of the largest cohort.
    #[must_use]
    pub fn aggregator(&self) -> &dyn Aggregator {
        &*self.aggregator
    }

    /// The state before the first round.
    #[must_use]
    pub fn start(&self) -> State {
        let Setting { config, learner, seed, .. } = self.setting;
        let parameters = learner.init(seed.child("model", 0));
        let controls = if config.solver.solver().has_controls() { parameters.len() } else { 0 };
        let memory = self.protocol.participation();
        State {
            round: 0,
            carried: Vec::new(),
            control: vec![0.0; controls],
            controls: if controls > 0 { vec![vec![0.0; controls]; config.clients] } else { Vec::new() },
            moments: config.server.start(parameters.len()),
            memory: memory.map_or_else(Vec::new, |m| m.start(config.clients, self.setting.coordinates())),
            misses: if config.cohort.drop_after.is_some() { vec![0; config.clients] } else { Vec::new() },
            parameters,
        }
    }

    /// One communication round: local training, aggregation over failing links, server step, test.
    ///
    /// # Errors
    /// [`Error::Diverged`] when the round brings what is not finite; `state` is then that before the round. Beside that only defects; an
    /// outage is a [`Row`].
    pub fn round(&self, state: &mut State) -> Result<(Row, Vec<ClientRow>)> {
        let before = state.of_server();
        let played = self.play(state);
        if played.is_err() {
            state.restore(before);
        }
        played
    }

    /// A round that leaves the clients' own vectors alone until nothing can diverge any more.
    fn play(&self, state: &mut State) -> Result<(Row, Vec<ClientRow>)> {
        let Setting { config, learner, dataset, network, .. } = self.setting;
        state.round += 1;
        let round = state.round;
        let diverged = |what| Diverged { round, client: None, what };

        let cohort = self.cohort(state);
        let clock = Instant::now();
        let (mut updates, trained) = self.train_clients(state, &cohort.members);
        let silent = self.silence(round, &cohort.members, &mut updates, &trained)?;
        let seconds_local = clock.elapsed().as_secs_f64();

        let clock = Instant::now();
        let all_links = Silence { links: network, silent: &silent.clients };
        let links = CohortLinks { links: &all_links, members: &cohort.members };
        let signs_of_life = config.cohort.listen(&mut state.misses, round, &all_links);
        let attempts = config.outage.attempts();
        let aggregate = match &cohort.scheme {
            Some(scheme) => scheme.aggregate(round, &updates, &links, attempts),
            None => Aggregate::nothing(Reason::TooFew),
        };
        let seconds_coding = clock.elapsed().as_secs_f64();

        let (outcome, recovery_error) =
            self.apply(state, &cohort.members, &updates, &silent, &aggregate).map_err(diverged)?;

        let clock = Instant::now();
        let tested = round.is_multiple_of(config.evaluation.every) || round == config.rounds;
        let test = tested.then(|| learner.evaluate(&state.parameters, &dataset.test));
        if test.as_ref().is_some_and(|test| !test.loss.is_finite()) {
            return Err(diverged(NotFinite::TestLoss).into());
        }
        let accuracies = if tested { self.crew.test(self, &state.parameters) } else { Vec::new() };
        let spread = Spread::of(&accuracies);
        let seconds_evaluation = clock.elapsed().as_secs_f64();

        let leakage = self.leakage(&cohort, round, &aggregate, &silent.clients)?;
        self.settle(state, &cohort.members, &updates, &aggregate, outcome).map_err(diverged)?;
        let worst = |of: fn(&Leakage) -> &Vec<f64>| {
            leakage.as_ref().and_then(|l| of(l).iter().copied().reduce(f64::max))
        };
        let helpers = aggregate.traffic.client_helper > 0;
        let row = Row {
            round,
            attempts: aggregate.attempts,
            outcome,
            reason: aggregate.decoded.reason().filter(|_| outcome == Outcome::Outage),
            cohort: cohort.members.len(),
            diverged: silent.updates.len(),
            arrivals: aggregate.arrivals,
            recovery_error,
            saturated: aggregate.lost.map(|lost| lost.saturated),
            underflowed: aggregate.lost.map(|lost| lost.underflowed),
            bytes_client_client: aggregate.traffic.client_client,
            bytes_client_server: aggregate.traffic.client_server + signs_of_life,
            bytes_client_helper: helpers.then_some(aggregate.traffic.client_helper),
            bytes_helper_helper: helpers.then_some(aggregate.traffic.helper_helper),
            bytes_helper_server: helpers.then_some(aggregate.traffic.helper_server),
            train_loss: mean_loss(silent.others(&trained)),
            test_loss: test.as_ref().map(|test| test.loss),
            test_accuracy: test.as_ref().map(|test| test.accuracy),
            client_accuracy_worst: spread.as_ref().map(|spread| spread.worst),
            client_accuracy_best: spread.as_ref().map(|spread| spread.best),
            client_accuracy_std: spread.as_ref().map(|spread| spread.std),
            leakage_link: worst(|l| &l.link),
            leakage_neighbour: worst(|l| &l.neighbour),
            leakage_server: worst(|l| &l.server),
            seconds_local,
            seconds_coding,
            seconds_evaluation,
            seconds_simulated: aggregate.seconds,
        };
        let mut clients =
            self.client_rows(round, &cohort.members, &updates, &trained, &accuracies, leakage.as_ref());
        silent.updates.iter().for_each(|&i| clients[i].update_norm = f64::NAN);
        Ok((row, clients))
    }

    /// The clients of the round that begins, and their scheme; nobody where there is no scheme.
    fn cohort(&self, state: &State) -> Cohort {
        let Setting { config, seed, .. } = self.setting;
        let members = config.cohort.members(config.clients, &state.misses, state.round, *seed);
        match self.schemes.of(members.len()) {
            Some(scheme) if !members.is_empty() => Cohort { members, scheme: Some(scheme) },
            _ => Cohort { members: Vec::new(), scheme: None },
        }
    }

    /// Local training of the round's clients. Returns what they send, and how it went.
    fn train_clients(&self, state: &State, members: &[u16]) -> (Vec<Update>, Vec<LocalUpdate>) {
        let weights = members.iter().map(|&k| self.setting.weights[usize::from(k)]);
        let trained = self.crew.train(self, state, members).into_iter();
        weights
            .zip(trained)
            .map(|(weight, (sent, how))| (Update { weight, delta: Arc::new(sent) }, how))
            .unzip()
    }

    #[cfg(feature = "deploy")]
    pub(crate) fn setting(&self) -> &Setting {
        self.setting
    }

    /// What the messages of a round gave away; who was silent gave away nothing.
    fn leakage(
        &self,
        cohort: &Cohort,
        round: u64,
        aggregate: &Aggregate,
        silent: &[u16],
    ) -> Result<Option<Leakage>> {
        let Setting { config, .. } = self.setting;
        let Some(scheme) = cohort.scheme.as_ref().filter(|_| config.privacy.measure) else { return Ok(None) };
        let views = scheme.formal(round, &Replay::new(&aggregate.sent), config.outage.attempts())?;
        let weights = cohort.members.iter().map(|&k| self.setting.weights[usize::from(k)]);
        let stds: Vec<f64> = weights.map(|weight| weight * config.privacy.update_std).collect();
        let mut leakage = Leakage::measure(&views, &stds)?;
        for k in silent.iter().filter_map(|k| cohort.members.binary_search(k).ok()) {
            (leakage.link[k], leakage.neighbour[k], leakage.server[k]) = (0.0, 0.0, 0.0);
        }
        Ok(Some(leakage))
    }

    fn client_rows(
        &self,
        round: u64,
        members: &[u16],
        updates: &[Update],
        trained: &[LocalUpdate],
        accuracies: &[f64],
        leakage: Option<&Leakage>,
    ) -> Vec<ClientRow> {
        let rows = updates.iter().zip(trained).enumerate();
        let d = self.setting.parameters();
        rows.map(|(k, (update, trained))| ClientRow {
            round,
            client: usize::from(members[k]) + 1,
            examples: self.setting.shards[usize::from(members[k])].len(),
            train_loss: trained.loss,
            test_accuracy: accuracies.get(usize::from(members[k])).copied(),
            update_norm: update.delta[..d].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt(),
            leakage_link: leakage.map(|l| l.link[k]),
            leakage_neighbour: leakage.map(|l| l.neighbour[k]),
            leakage_server: leakage.map(|l| l.server[k]),
        })
        .collect()
    }
}

fn network(config: &Config) -> Result<Network> {
    config
        .network
        .build(config.clients, config.rounds, Seed::new(config.seed).child("links", 0))
        .map_err(|error| error.within("network"))
}

/// Over the examples on which the clients trained; who had none has no loss.
fn mean_loss<'a>(trained: impl Iterator<Item = &'a LocalUpdate>) -> f64 {
    let (sum, examples) = trained
        .filter(|update| update.examples > 0)
        .fold((0.0, 0), |(sum, n), update| (sum + update.loss * update.examples as f64, n + update.examples));
    sum / examples as f64
}
