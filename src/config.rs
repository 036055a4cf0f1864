//! Configuration: what was typed (TOML and `--set`) → what is valid.
//!
//! [`Config`] is the file; [`Config::load`] reads it and reports a wrong key or type with its place. Rules
//! that join several values are checked where the values are used, by [`crate::train::Setting::build`],
//! before anything runs.

mod assumptions;
mod deploy;
mod devices;
mod explain;
mod former;
mod sections;
mod sets;
mod sweep;
mod template;
mod tools;
mod written;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use deploy::{DeployConfig, is_name};
pub use explain::{explain, schema};
pub use sections::{EvaluationConfig, OnDivergence, OutageConfig, OutagePolicy, PrivacyConfig, RecordConfig};
pub(crate) use sets::{Changed, TAGS, with};
pub(crate) use sweep::{Axis, axes, leaves};
pub use sweep::{SweepConfig, Variant};
pub use template::template;
pub use tools::{AttackConfig, StudyConfig};
pub use written::{Set, Written, Wrong};

use crate::choice::typed;
use crate::cohort::CohortConfig;
use crate::compress::CompressionConfig;
use crate::data::partition::PartitionConfig;
use crate::data::{DataConfig, Response};
use crate::devices::DevicesConfig;
use crate::error::{Error, Result};
use crate::learn::{ModelConfig, ScheduleConfig, SolverConfig};
use crate::message::{COHORT, POPULATION};
use crate::network::{Network, NetworkConfig};
use crate::participation::ParticipationConfig;
use crate::paths;
use crate::protocol::ProtocolConfig;
use crate::seed::Seed;
use crate::server_rule::ServerConfig;

/// A training run, or with `[[compare]]` several runs that differ in their protocol and the rule beside it
/// only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Seed of every random stream: partition, initial model, batches, links and keys.
    pub seed: u64,
    /// Number of communication rounds; 1 to 10 million.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub rounds: u64,
    /// Number of clients M, 1 to 10000000, of whom at most 65535 take part in a round (`[cohort]`); schemes
    /// with keys need at least 2.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub clients: usize,
    /// The model that training starts from, instead of one that is drawn: a run folder, whose last model it
    /// is, or a safetensors file with the same tensors (`seccogc export`). Relative to the configuration
    /// file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<PathBuf>,
    /// The examples.
    pub data: DataConfig,
    /// How the training examples are divided over the clients.
    pub partition: PartitionConfig,
    /// The neural network.
    pub model: ModelConfig,
    /// What a client does in one round.
    pub solver: SolverConfig,
    /// How the clients' learning rate changes over the rounds.
    pub schedule: ScheduleConfig,
    /// What the server does with the direction that it decoded.
    pub server: ServerConfig,
    /// How the server makes up for clients which do not arrive, with protocols that show it single updates:
    /// `ideal`, `fedavg`, `gaussian` and `mds-relay`.
    pub participation: ParticipationConfig,
    /// What travels of an update, with every protocol.
    #[serde(skip_serializing_if = "CompressionConfig::is_none")]
    pub compression: CompressionConfig,
    /// When and how the global model is tested.
    pub evaluation: EvaluationConfig,
    /// Which messages are lost.
    pub network: NetworkConfig,
    /// The clients' devices: who is there, and how fast.
    #[serde(skip_serializing_if = "DevicesConfig::is_none")]
    pub devices: DevicesConfig,
    /// Which clients take part in a round.
    pub cohort: CohortConfig,
    /// What happens in a round whose sum cannot be decoded.
    pub outage: OutageConfig,
    /// How leakage is measured.
    pub privacy: PrivacyConfig,
    /// What the run directory receives.
    pub record: RecordConfig,
    /// Clients in processes of their own: `seccogc serve` and `seccogc join`.
    pub deploy: DeployConfig,
    /// What `seccogc attack` tries.
    pub attack: AttackConfig,
    /// The aggregation protocol.
    pub protocol: ProtocolConfig,
    /// What `seccogc privacy` varies.
    pub study: StudyConfig,
    /// The runs of `seccogc sweep`.
    #[serde(skip_serializing_if = "SweepConfig::is_empty")]
    pub sweep: SweepConfig,
    /// The runs of `seccogc compare`: each has a name and a protocol.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compare: Vec<Contender>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            rounds: 100,
            clients: 10,
            start: None,
            data: DataConfig::default(),
            partition: PartitionConfig::default(),
            model: ModelConfig::default(),
            solver: SolverConfig::default(),
            schedule: ScheduleConfig::default(),
            server: ServerConfig::default(),
            participation: ParticipationConfig::default(),
            compression: CompressionConfig::default(),
            evaluation: EvaluationConfig::default(),
            network: NetworkConfig::default(),
            devices: DevicesConfig::default(),
            cohort: CohortConfig::default(),
            outage: OutageConfig::default(),
            privacy: PrivacyConfig::default(),
            record: RecordConfig::default(),
            deploy: DeployConfig::default(),
            attack: AttackConfig::default(),
            protocol: ProtocolConfig::default(),
            study: StudyConfig::default(),
            sweep: SweepConfig::default(),
            compare: Vec::new(),
        }
    }
}

/// One run of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contender {
    /// The name in tables and figures, and of the run's folder.
    pub name: String,
    /// Its protocol, with the keys of `[protocol]`.
    pub protocol: ProtocolConfig,
    /// How the server makes up for clients which do not arrive, with the keys of `[participation]`, which it
    /// is by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participation: Option<ParticipationConfig>,
}

/// Most rounds of a run: every round is a line in memory when tables and figures are made.
const MOST_ROUNDS: u64 = 10_000_000;

/// Most clients among which leakage is measured in every round: the time grows with their third power.
const MEASURED_CLIENTS: usize = 200;

/// Most bytes of a configuration, with room for large tables of links.
pub(crate) const MOST_BYTES: u64 = 16 << 20;

impl Config {
    /// Reads a TOML file and applies `sets`, each `dotted.key=value` with a TOML value (a bare word is a
    /// string), in any order.
    ///
    /// Where one of them chooses another kind of a section, the section's keys that both kinds have stay as
    /// the file says, and the others fall away with a warning.
    ///
    /// # Errors
    /// One line with the file or the one of `sets`, the key and the rule.
    pub fn load(path: &Path, sets: &[String]) -> Result<Self> {
        let written = Written::load(path)?;
        let sets = sets.iter().map(|set| Set::parse(set)).collect::<Result<Vec<_>>>()?;
        Ok(written.read(&sets)?.0)
    }

    /// Paths of the configuration's file are relative to its `folder`.
    pub(crate) fn resolve_paths(&mut self, folder: &Path) {
        self.network.resolve_paths(folder);
        self.data.resolve_paths(folder);
        self.devices.resolve_paths(folder);
        self.deploy.resolve_paths(folder);
        if let Some(start) = &mut self.start {
            *start = paths::absolute(folder, start);
        }
    }

    /// The configuration that a table says, and what in it has another name now. Messages about a key begin
    /// with its path, marked as by [`typed`].
    pub(crate) fn read(mut table: toml::Table) -> Result<(Self, Vec<String>), String> {
        let notes = former::renew(&mut table)?;
        Ok((typed::<Self>(table)?, notes))
    }

    /// Checks the rules that need no data, network or scheme.
    ///
    /// # Errors
    /// The key and the rule that it breaks.
    pub fn check(&self) -> Result<()> {
        let at_least = |key: &str, value: u64, least: u64| {
            if value >= least {
                Ok(())
            } else {
                Err(Error::config(key, format!("{value} is too small; give at least {least}")))
            }
        };
        at_least("rounds", self.rounds, 1)?;
        if self.rounds > MOST_ROUNDS {
            let rule = format!("{} is too large; the limit is {MOST_ROUNDS}", self.rounds);
            return Err(Error::config("rounds", rule));
        }
        at_least("clients", self.clients as u64, 1)?;
        at_least("record.checkpoint_every", self.record.checkpoint_every, 1)?;
        if self.clients > POPULATION {
            let rule = format!("{} is too large; the limit is {POPULATION}", self.clients);
            return Err(Error::config("clients", rule));
        }
        self.outage.check().map_err(|error| error.within("outage"))?;
        let positive = |key: &str, value: f64| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(Error::config(key, format!("{value} must be a finite number greater than 0")))
            }
        };
        positive("privacy.update_std", self.privacy.update_std)?;
        self.data.check().map_err(|error| error.within("data"))?;
        self.evaluation.check().map_err(|error| error.within("evaluation"))?;
        self.check_response()?;
        self.schedule.check(self.rounds).map_err(|error| error.within("schedule"))?;
        self.server.rule().check().map_err(|error| error.within("server"))?;
        self.participation.rule().check().map_err(|error| error.within("participation"))?;
        self.compression.compression().check().map_err(|error| error.within("compression"))?;
        if self.outage.keeps_local_models() && !self.solver.solver().accumulates() {
            let rule = format!(
                "{} goes on from local models, but {} starts every round from the global model; take skip or retry",
                self.outage.policy.name(),
                self.solver.kind()
            );
            return Err(Error::config("outage.policy", rule));
        }
        self.privacy.check().map_err(|error| error.within("privacy"))?;
        let cohort = self.cohort.most(self.clients);
        if cohort > COHORT {
            let rule = format!(
                "{cohort} in one round are too many, the limit is {COHORT}; let cohort.sample or cohort.rate draw fewer"
            );
            return Err(Error::config("clients", rule));
        }
        if self.privacy.measure && cohort > MEASURED_CLIENTS {
            let rule = format!(
                "the leakage among {cohort} clients would take minutes a round; set it to false, and audit a cohort of at most \
                 {MEASURED_CLIENTS}"
            );
            return Err(Error::config("privacy.measure", rule));
        }
        self.cohort
            .check(self.clients, self.outage.keeps_local_models())
            .map_err(|error| error.within("cohort"))?;
        self.check_devices()?;
        self.deploy.check().map_err(|error| error.within("deploy"))?;
        self.study.check().map_err(|error| error.within("study"))?;
        self.sweep.check().map_err(|error| error.within("sweep"))?;
        self.attack.check().map_err(|error| error.within("attack"))?;
        for (i, contender) in self.compare.iter().enumerate() {
            if let Some(own) = &contender.participation {
                own.rule().check().map_err(|error| error.within(&format!("compare[{i}].participation")))?;
            }
            let same = self.compare[..i].iter().any(|other| slug(&other.name) == slug(&contender.name));
            if slug(&contender.name).is_empty() || same {
                return Err(Error::config(
                    format!("compare[{i}].name"),
                    format!(
                        "`{}` must contain letters or digits and differ from the other names",
                        contender.name
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Refuses accuracies of quantities, about which nothing is right or wrong.
    fn check_response(&self) -> Result<()> {
        let EvaluationConfig { target, client_share, .. } = &self.evaluation;
        let accuracies = [("target", target.is_some()), ("client_share", *client_share > 0.0)];
        match accuracies.into_iter().find(|(_, given)| *given && self.data.response == Response::Quantity) {
            None => Ok(()),
            Some((key, _)) => {
                let rule = "is about accuracy, and quantities (data.response) have none; remove it";
                Err(Error::config(format!("evaluation.{key}"), rule))
            }
        }
    }

    /// The links of a run.
    ///
    /// # Errors
    /// See [`NetworkConfig::build`].
    pub fn links(&self) -> Result<Network> {
        let seed = Seed::new(self.seed).child("links", 0);
        self.network.build(self.clients, self.rounds, seed).map_err(|error| error.within("network"))
    }

    /// The configuration as TOML with every default written out; that of a sweep as it was written, with
    /// paths that hold anywhere.
    ///
    /// # Errors
    /// A value that TOML cannot express, such as an integer above 2⁶³ − 1.
    pub fn to_toml(&self) -> Result<String> {
        let Some(mut written) = self.sweep.written.clone() else {
            return toml::to_string(self).map_err(no_form);
        };
        let resolved = toml::Table::try_from(self).map_err(no_form)?;
        for section in ["start", "data", "network", "devices", "deploy"] {
            if let (Some(own), Some(now)) = (written.get_mut(section), resolved.get(section)) {
                sets::refresh(own, now);
            }
        }
        toml::to_string(&written).map_err(no_form)
    }
}

/// A name as a folder: its letters and digits in lower case, everything else one hyphen.
///
/// ```
/// assert_eq!(seccogc::config::slug("Fair-SecCoGC, s = 7"), "fair-seccogc-s-7");
/// ```
#[must_use]
pub fn slug(name: &str) -> String {
    let lower = name.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

fn no_form(error: toml::ser::Error) -> Error {
    Error::Refused(format!("the configuration has no TOML form: {error}"))
}

fn parse(text: &str) -> Result<toml::Table, String> {
    text.parse::<toml::Table>().map_err(|error| {
        let place = error.span().map_or_else(String::new, |span| {
            let before = &text[..span.start.min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
            format!("line {line}, column {column}: ")
        });
        format!("{place}{}", error.message().lines().collect::<Vec<_>>().join(" "))
    })
}
