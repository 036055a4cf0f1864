//! What is fixed before the first round, and the runs in it.

use std::sync::{Arc, Mutex, OnceLock};

use super::Run;
use super::compression::Compressor;
use super::crew::Alone;
use super::work::Work;
use crate::algebra::grid::Public;
use crate::audit::Assumptions;
use crate::cohort::Schemes;
use crate::config::{Config, Contender};
use crate::devices::Devices;
use crate::error::{Error, Result};
use crate::learn::Solver;
use crate::network::LinkModel;
use crate::parallel::NEVER;
use crate::participation::{Participation, check_shown};
use crate::plan;
use crate::protocol::exchange::AUDITABLE;
use crate::protocol::{Aggregator, ProtocolConfig};
use crate::release::Release;
use crate::seed::Seed;
use crate::server_rule::ServerRule;

/// A rule of participation and what it is called.
type Rule = (String, Arc<dyn Participation>);

/// Everything of an experiment but the protocol: runs that share it are paired in partition, batches, initial
/// model and link states.
pub struct Setting {
    pub(super) config: Config,
    pub(super) device: String,
    /// Sections whose part is not the configured one.
    pub(super) own: Vec<&'static str>,
    pub(super) work: Work,
    pub(super) solver: Arc<dyn Solver>,
    pub(super) server: Arc<dyn ServerRule>,
    /// The rule of participation, if there is one.
    pub(super) rule: Option<Arc<dyn Participation>>,
    /// What travels of an update, where that is not all of it.
    pub(super) compressor: Option<Compressor>,
    /// n_k · M / N for each client.
    pub(super) weights: Vec<f64>,
    /// See [`Setting::mean_count`].
    pub(super) mean_count: OnceLock<f64>,
    pub(super) links: Box<dyn LinkModel>,
    pub(super) devices: Devices,
    /// The model before the first round, where it is not drawn.
    pub(super) start: Option<Vec<f32>>,
    pub(super) seed: Seed,
}

impl Setting {
    /// The configuration, of which sections with a part of one's own say nothing.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Coordinates of the vector that a client sends.
    #[must_use]
    pub fn coordinates(&self) -> usize {
        self.compressor.as_ref().map_or_else(|| self.updated(), |compressor| compressor.coordinates)
    }

    /// Coordinates of an update before it is compressed.
    pub(super) fn updated(&self) -> usize {
        self.solver.coordinates(self.parameters())
    }

    /// n_k · M / N for each client, bounded by `privacy.release.largest_weight`.
    pub(crate) fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// What audits of this setting's runs assume.
    #[must_use]
    pub fn assumptions(&self) -> Assumptions {
        // The largest cohort comes first.
        let largest = self.config.cases(&self.weights).swap_remove(0).of_coordinates(self.coordinates());
        // A solver of one's own clips as it says, not as `[solver]` does.
        Assumptions { clip: self.solver.clip_norm(), ..largest }
    }

    /// What everybody knows of what clients send.
    #[must_use]
    pub fn public(&self) -> Public {
        Public {
            clip: self.solver.clip_norm(),
            weight: self.weights.iter().copied().fold(0.0, f64::max),
            coordinates: Some(self.entered()),
            tolerance: self.config.outage.recovery_tolerance,
            noise: None,
        }
    }

    /// A run of the configured `protocol` in this setting.
    ///
    /// # Errors
    /// Parameters that break a rule of the protocol, or a protocol that the rule of participation cannot go
    /// with.
    pub fn run(&self, protocol: &ProtocolConfig) -> Result<Run<'_>> {
        self.configured(protocol, self.rule())
    }

    /// A run of one of `[[compare]]` in this setting, with its own rule of participation if it has one.
    ///
    /// # Errors
    /// As [`Setting::run`], with keys relative to the contender.
    pub fn contender(&self, contender: &Contender) -> Result<Run<'_>> {
        let Some(own) = &contender.participation else { return self.run(&contender.protocol) };
        let chosen = own.chosen().map(|estimator| (own.kind().to_owned(), estimator));
        let run = self.configured(&contender.protocol, chosen)?;
        Ok(Run { participation: Some(own.clone()), ..run })
    }

    /// The rule of participation and its name, if there is one.
    fn rule(&self) -> Option<Rule> {
        let name = self.name_of("participation", self.config.participation.kind());
        self.rule.clone().map(|estimator| (name, estimator))
    }

    fn configured(&self, protocol: &ProtocolConfig, rule: Option<Rule>) -> Result<Run<'_>> {
        let protocol = plan::resolve(protocol, &self.config, self.entered())?;
        let largest = self.config.cohort.most(self.config.clients);
        let seed = self.seed.child("protocol", 0);
        let build = |public| Schemes::new(&protocol, largest, seed, public);
        let (schemes, aggregator) = build(self.public())?;
        let release = self.release(&*aggregator, rule.is_some())?;
        let noise = release.as_ref().and_then(Release::noise);
        let (schemes, aggregator) = match noise {
            None => (schemes, aggregator),
            noise => build(Public { noise, ..self.public() })?,
        };
        let name = protocol.kind().to_owned();
        let run = self.start(name, Some(protocol), rule, (schemes, aggregator))?;
        Ok(Run { release, ..run })
    }

    /// A run of one's own scheme, called `name` in tables, in this setting: among all clients, in every
    /// round.
    ///
    /// # Errors
    /// A scheme for another number of clients; `[cohort]` asks for schemes of several sizes.
    pub fn run_of(&self, name: &str, mut scheme: Box<dyn Aggregator>) -> Result<Run<'_>> {
        if !self.config.is_everybody() {
            let rule = format!(
                "{name} is given for all clients only; remove sample, rate, drop_after, buffered and devices.availability"
            );
            return Err(Error::config("cohort", rule));
        }
        let rule = self.rule();
        let release = self.release(&*scheme, rule.is_some())?;
        if let Some(noise) = release.as_ref().and_then(Release::noise) {
            scheme.add_noise(&noise)?;
        }
        let scheme: Arc<dyn Aggregator> = scheme.into();
        let schemes = Schemes::only(self.config.clients, Arc::clone(&scheme));
        let run = self.start(name.into(), None, rule, (schemes, scheme))?;
        Ok(Run { release, ..run })
    }

    /// Checks how the scheme goes with the setting.
    fn start(
        &self,
        name: String,
        protocol: Option<ProtocolConfig>,
        rule: Option<Rule>,
        (schemes, aggregator): (Schemes, Arc<dyn Aggregator>),
    ) -> Result<Run<'_>> {
        if let Some((rule, _)) = &rule {
            check_shown(rule, &name, &*aggregator)?;
            self.check_singles(rule)?;
            if self.solver.has_controls() {
                let problem = format!(
                    "{rule} mixes updates of different rounds, which would unbalance the control vectors of {}; take another solver \
                     or \"none\"",
                    self.name_of("solver", self.config.solver.kind())
                );
                return Err(Error::config("participation.kind", problem));
            }
        }
        self.check_downlinks(&name, &*aggregator)?;
        self.check_devices(rule.is_some())?;
        if self.links.combines() && !aggregator.resends() {
            let problem = format!(
                "{name} sends other messages in later transfers on a link, and there is nothing to combine; take combining = \"none\", \
                 or fedavg, gaussian or zero-sum"
            );
            return Err(Error::config("network", problem));
        }
        if aggregator.estimates() && self.solver.has_controls() {
            let problem = format!(
                "{name} estimates the sum of what clients send, which would unbalance the control vectors of {}; take another solver \
                 or protocol",
                self.name_of("solver", self.config.solver.kind())
            );
            return Err(Error::config("protocol.kind", problem));
        }
        if aggregator.holders().is_some() && !self.config.is_everybody() {
            let rule = format!(
                "{name} replicates data among all clients; remove sample, rate, drop_after, buffered and devices.availability"
            );
            return Err(Error::config("cohort", rule));
        }
        if aggregator.estimates() && self.config.outage.is_per_client() {
            let rule = format!(
                "{} gives the new model to those whose updates are in the sum, and {name} has an estimate of it; take skip",
                self.config.outage.policy.name()
            );
            return Err(Error::config("outage.policy", rule));
        }
        if aggregator.holders().is_some() && matches!(self.work, Work::Elsewhere(_)) {
            let rule = format!(
                "{name} replicates the clients' examples, which are with another program here; take another protocol"
            );
            return Err(Error::config("protocol.kind", rule));
        }
        let coordinates = aggregator.formal_coordinates();
        if self.config.privacy.measure && coordinates > AUDITABLE {
            let rule = format!(
                "formal inputs of `{name}` have {coordinates} coordinates here, and ranks of more than {AUDITABLE} take too long in every \
                 round; set it to false"
            );
            return Err(Error::config("privacy.measure", rule));
        }
        self.warn_of_imprecision(&*aggregator);
        let name = match &rule {
            Some((rule, _)) => format!("{name} with {rule}"),
            None => name,
        };
        let rule = rule.map(|(_, estimator)| estimator);
        Ok(Run {
            setting: self,
            name,
            protocol,
            participation: None,
            rule,
            schemes,
            aggregator,
            release: None,
            crew: &Alone,
            stop: &NEVER,
            warned: Mutex::default(),
        })
    }
}
