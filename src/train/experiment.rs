//! What is fixed before the first round: the builder of experiments, in which every part can be one's own.

use std::sync::{Arc, OnceLock};

use super::compression::Compressor;
use super::holdings::{Holdings, weights_of};
use super::setting::Setting;
use super::start;
use super::work::{Elsewhere, Here, Work, checked};
use crate::compress::Compression;
use crate::config::Config;
use crate::data::Dataset;
use crate::data::partition::Partition;
use crate::error::{Error, Result};
use crate::learn::state_dict::StateDict;
use crate::learn::{Classifier, Device, Learner, Objective, Solver, learner_toward, objective};
use crate::network::LinkModel;
use crate::participation::Participation;
use crate::seed::Seed;
use crate::server_rule::ServerRule;

/// Makes a learner once data, device and solver are known.
type MakeLearner = Box<dyn FnOnce(&Dataset, Device, Toward) -> Result<Box<dyn Learner>>>;

/// What local steps descend, and how.
struct Toward {
    objective: Arc<dyn Objective>,
    solver: Arc<dyn Solver>,
}

/// Collects the parts of an experiment: whatever is not given is the configured one.
///
/// ```
/// use seccogc::{config::Config, train::Experiment};
///
/// fn main() -> seccogc::Result<()> {
///     let setting = Experiment::new(Config { rounds: 2, ..Config::default() }).build()?;
///     for row in setting.run(&setting.config().protocol)?.rounds() {
///         println!("{:?}", row?.outcome);
///     }
///     Ok(())
/// }
/// ```
#[must_use]
pub struct Experiment {
    config: Config,
    /// The CPU by default.
    device: Option<Device>,
    dataset: Option<Arc<Dataset>>,
    /// Whether the examples are those of `[data]`, loaded before.
    loaded: bool,
    shards: Option<Vec<Vec<usize>>>,
    partition: Option<Box<dyn Partition>>,
    learner: Option<MakeLearner>,
    objective: Option<Arc<dyn Objective>>,
    solver: Option<Arc<dyn Solver>>,
    server: Option<Arc<dyn ServerRule>>,
    participation: Option<Arc<dyn Participation>>,
    compression: Option<Arc<dyn Compression>>,
    links: Option<Box<dyn LinkModel>>,
    start: Option<StateDict>,
    elsewhere: Option<Elsewhere>,
}

impl Experiment {
    /// The configured experiment, on the CPU.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            device: None,
            dataset: None,
            loaded: false,
            shards: None,
            partition: None,
            learner: None,
            objective: None,
            solver: None,
            server: None,
            participation: None,
            compression: None,
            links: None,
            start: None,
            elsewhere: None,
        }
    }

    /// On another device.
    pub fn on(self, device: Device) -> Self {
        Self { device: Some(device), ..self }
    }

    /// With these examples instead of `[data]`.
    pub fn data(self, dataset: impl Into<Arc<Dataset>>) -> Self {
        Self { dataset: Some(dataset.into()), ..self }
    }

    /// With the examples of `[data]`, which are loaded already.
    pub(crate) fn loaded(self, dataset: Arc<Dataset>) -> Self {
        Self { dataset: Some(dataset), loaded: true, ..self }
    }

    /// With these training examples for each of the `clients` clients, indices into the training set, instead
    /// of `[partition]`.
    pub fn shards(self, shards: Vec<Vec<usize>>) -> Self {
        Self { shards: Some(shards), ..self }
    }

    /// With another division of the training examples than that of `[partition]`.
    pub fn partition(self, partition: impl Partition + 'static) -> Self {
        Self { partition: Some(Box::new(partition)), ..self }
    }

    /// With a Burn module instead of `[model]`, made on the device for the data; its weights are not used.
    pub fn model<M: Classifier>(self, make: impl FnOnce(&Dataset, &Device) -> M + 'static) -> Self {
        self.make_learner(Box::new(|dataset, device, Toward { objective, solver }| {
            learner_toward(make(dataset, &device), solver, objective, dataset, device)
        }))
    }

    /// With a learner that trains as it likes: of the solver it shares what is sent and what the server makes
    /// of the sum.
    pub fn learner(self, learner: Box<dyn Learner>) -> Self {
        self.make_learner(Box::new(|_, _, _| Ok(learner)))
    }

    fn make_learner(self, make: MakeLearner) -> Self {
        Self { learner: Some(make), ..self }
    }

    /// With another loss, and other measures of a global model, than those of the data; for configured models
    /// and [`Experiment::model`].
    pub fn objective(self, objective: impl Objective + 'static) -> Self {
        Self { objective: Some(Arc::new(objective)), ..self }
    }

    /// With another solver than that of `[solver]`.
    pub fn solver(self, solver: impl Solver + 'static) -> Self {
        Self { solver: Some(Arc::new(solver)), ..self }
    }

    /// With another rule than that of `[server]`.
    pub fn server(self, rule: impl ServerRule + 'static) -> Self {
        Self { server: Some(Arc::new(rule)), ..self }
    }

    /// With another rule than that of `[participation]`, for runs of every protocol.
    pub fn participation(self, rule: impl Participation + 'static) -> Self {
        Self { participation: Some(Arc::new(rule)), ..self }
    }

    /// With another compression than that of `[compression]`.
    pub fn compression(self, compression: impl Compression + 'static) -> Self {
        Self { compression: Some(Arc::new(compression)), ..self }
    }

    /// Over these links instead of `[network]`.
    pub fn links(self, links: impl LinkModel + 'static) -> Self {
        Self { links: Some(Box::new(links)), ..self }
    }

    /// From these weights instead of `start`, or of ones that are drawn.
    pub fn start(self, weights: StateDict) -> Self {
        Self { start: Some(weights), ..self }
    }

    /// With a model that another program trains on examples of its own: a [`Crew`](super::Crew) carries out
    /// the runs. Instead of `[data]`, `[partition]`, `[model]` and the local steps of `[solver]`, of which
    /// `clip_norm` and `learning_rate` hold.
    pub fn elsewhere(self, elsewhere: Elsewhere) -> Self {
        Self { elsewhere: Some(elsewhere), ..self }
    }

    /// Loads what is to be loaded, divides the data and checks how the parts go together.
    ///
    /// # Errors
    /// A value that breaks a rule, by its key; a dataset file that is missing or damaged.
    pub fn build(self) -> Result<Setting> {
        let Self { config, device, dataset, loaded, shards, partition, .. } = self;
        let Self {
            learner,
            objective,
            solver,
            server,
            participation,
            compression,
            links,
            start,
            elsewhere,
            ..
        } = self;
        config.check()?;
        let away = elsewhere.is_some();
        let own = [
            ("data", away || dataset.is_some() && !loaded),
            ("partition", away || shards.is_some() || partition.is_some()),
            ("model", away || learner.is_some()),
            ("objective", objective.is_some()),
            ("solver", away || solver.is_some()),
            ("server", server.is_some()),
            ("participation", participation.is_some()),
            ("compression", compression.is_some()),
            ("network", links.is_some()),
        ];
        let own: Vec<&str> =
            own.into_iter().filter(|(_, given)| *given).map(|(section, _)| section).collect();
        let links = match links {
            Some(links) => links,
            None => Box::new(config.links()?),
        };
        let devices = config.devices()?;
        let solver = solver.unwrap_or_else(|| config.solver.clone().into());
        solver.check_all().map_err(|error| error.within("solver"))?;
        let server = server.unwrap_or_else(|| config.server.clone().into());
        server.check().map_err(|error| error.within("server"))?;
        let rule = participation.or_else(|| config.participation.chosen());
        if let Some(rule) = &rule {
            rule.check().map_err(|error| error.within("participation"))?;
        }
        if config.outage.keeps_local_models() && !solver.accumulates() {
            let rule = format!(
                "{} goes on from local models, but this solver starts every round from the global model; take skip or retry",
                config.outage.policy.name()
            );
            return Err(Error::config("outage.policy", rule));
        }
        let device = device.map_or_else(|| "cpu".parse(), Ok)?;
        let name = device.name();
        let (work, weights) = if let Some(elsewhere) = elsewhere {
            elsewhere.check(&config)?;
            let weights = weights_of(elsewhere.examples.iter().copied());
            (Work::Elsewhere(elsewhere), weights)
        } else {
            let dataset = match dataset {
                Some(dataset) => dataset,
                None => Arc::new(config.data.load().map_err(|error| error.within("data"))?),
            };
            let objective = objective.unwrap_or_else(|| objective::of(&dataset));
            let learner = match learner {
                Some(make) => make(&dataset, device, Toward { objective, solver: Arc::clone(&solver) })?,
                None => {
                    config.model.check(dataset.train.shape()).map_err(|error| error.within("model"))?;
                    config.model.learner(Arc::clone(&solver), objective, &dataset, device)?
                }
            };
            let holdings = match shards {
                Some(shards) => Holdings::of_shards(&config, checked(shards, &config, &dataset)?)?,
                None => {
                    let partition = partition.as_deref().unwrap_or_else(|| config.partition.partition());
                    Holdings::of(&config, partition, &dataset)?
                }
            };
            let weights = holdings.weights();
            (Work::Here(Here { dataset, learner, holdings }), weights)
        };
        let weights = Setting::bounded(&config, weights);
        let family = compression.or_else(|| config.compression.chosen());
        let compressor =
            family.map(|family| Compressor::new(family, &work, &config, &*solver)).transpose()?;
        let start = start::parameters(start, config.start.as_deref(), &work)?;
        Ok(Setting {
            device: name.into(),
            seed: Seed::new(config.seed),
            mean_count: OnceLock::new(),
            config,
            own,
            work,
            solver,
            server,
            rule,
            compressor,
            weights,
            links,
            devices,
            start,
        })
    }
}

impl Setting {
    /// The configured experiment: [`Experiment::build`].
    ///
    /// # Errors
    /// As there.
    pub fn build(config: &Config, device: Device) -> Result<Self> {
        Experiment::new(config.clone()).on(device).build()
    }

    /// A setting with a user's own dataset and learner: [`Experiment::data`] and [`Experiment::learner`].
    ///
    /// # Errors
    /// As [`Experiment::build`].
    pub fn of(config: &Config, dataset: Dataset, learner: Box<dyn Learner>) -> Result<Self> {
        Experiment::new(config.clone()).data(dataset).learner(learner).build()
    }
}
