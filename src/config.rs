//! Configuration: what was typed (TOML and `--set`) → what is valid.
//!
//! [`Config`] is the file; [`Config::load`] reads it and reports a wrong key or type with its place. Rules
//! that join several values are checked where the values are used, by [`crate::train::Setting::build`],
//! before anything runs.

mod assumptions;
mod deploy;
mod explain;
mod former;
mod sections;
mod sweep;
mod tools;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use deploy::{DeployConfig, is_name};
pub use explain::explain;
pub use sections::{EvaluationConfig, OnDivergence, OutageConfig, OutagePolicy, PrivacyConfig, RecordConfig};
pub(crate) use sweep::{Axis, axes, leaves};
pub use sweep::{SweepConfig, Variant};
pub use tools::{AttackConfig, StudyConfig};

use crate::choice::{readable, typed};
use crate::cohort::CohortConfig;
use crate::data::DataConfig;
use crate::data::partition::PartitionConfig;
use crate::error::{Error, Result};
use crate::learn::{ModelConfig, ScheduleConfig, SolverConfig};
use crate::network::{Network, NetworkConfig};
use crate::participation::ParticipationConfig;
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
    /// Number of communication rounds; at least 1.
    #[schemars(range(min = 1))]
    pub rounds: u64,
    /// Number of clients M, 1 to 65535; schemes with keys need at least 2.
    #[schemars(range(min = 1, max = 65535))]
    pub clients: usize,
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
    /// `ideal`, `fedavg` and `gaussian`.
    pub participation: ParticipationConfig,
    /// When and how the global model is tested.
    pub evaluation: EvaluationConfig,
    /// Which messages are lost.
    pub network: NetworkConfig,
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
            data: DataConfig::default(),
            partition: PartitionConfig::default(),
            model: ModelConfig::default(),
            solver: SolverConfig::default(),
            schedule: ScheduleConfig::default(),
            server: ServerConfig::default(),
            participation: ParticipationConfig::default(),
            evaluation: EvaluationConfig::default(),
            network: NetworkConfig::default(),
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

/// Most clients among which leakage is measured in every round: the time grows with their third power.
const MEASURED_CLIENTS: usize = 200;

/// Keys that choose the kind of their section.
pub(crate) const TAGS: [&str; 1] = ["kind"];

impl Config {
    /// Reads a TOML file and applies `sets`, each `dotted.key=value` with a TOML value (a bare word is a
    /// string).
    ///
    /// Setting a key that chooses a section's kind to another kind starts that section anew with the new
    /// kind's defaults.
    ///
    /// # Errors
    /// One line with the file, the key and the rule.
    pub fn load(path: &Path, sets: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let mut table = parse(&text).map_err(|problem| Error::file(path, problem))?;
        let in_file = |problem: String| Error::file(path, problem);
        let (mut config, mut notes) =
            Self::read(table.clone()).map_err(|problem| in_file(readable(&problem)))?;
        if !sets.is_empty() {
            for set in sets {
                apply(&mut table, set)?;
            }
            (config, notes) =
                Self::read(table).map_err(|problem| Error::Refused(blame(sets, &readable(&problem))))?;
        }
        notes.iter().for_each(|note| tracing::warn!("{}: {note}", path.display()));
        let folder = path.parent().unwrap_or(Path::new(""));
        config.network.resolve_paths(folder);
        config.data.resolve_paths(folder);
        config.deploy.resolve_paths(folder);
        config.check().map_err(|error| Error::file(path, error.to_string()))?;
        Ok(config)
    }

    /// The configuration that a table says, and what in it has another name now. Messages about a key begin
    /// with its path, marked as by [`typed`].
    pub(crate) fn read(mut table: toml::Table) -> Result<(Self, Vec<String>), String> {
        let former = former::renew(&mut table)?;
        let mut config = typed::<Self>(table)?;
        config.sweep.former = former.protocol.filter(|_| !config.sweep.is_empty());
        Ok((config, former.notes))
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
        at_least("clients", self.clients as u64, 1)?;
        at_least("record.checkpoint_every", self.record.checkpoint_every, 1)?;
        if self.clients > usize::from(u16::MAX) {
            return Err(Error::config(
                "clients",
                format!("{} is too large; the limit is {}", self.clients, u16::MAX),
            ));
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
        self.schedule.check(self.rounds).map_err(|error| error.within("schedule"))?;
        self.server.rule().check().map_err(|error| error.within("server"))?;
        self.participation.rule().check().map_err(|error| error.within("participation"))?;
        if self.outage.accumulates() && !self.solver.solver().accumulates() {
            let rule = format!(
                "accumulate goes on from local models, but {} starts every round from the global model; take skip or retry",
                self.solver.kind()
            );
            return Err(Error::config("outage.policy", rule));
        }
        self.privacy.check().map_err(|error| error.within("privacy"))?;
        let cohort = self.cohort.sample.unwrap_or(self.clients);
        if self.privacy.measure && cohort > MEASURED_CLIENTS {
            let rule = format!(
                "the leakage among {cohort} clients would take minutes a round; set it to false, and audit a cohort of at most \
                 {MEASURED_CLIENTS}"
            );
            return Err(Error::config("privacy.measure", rule));
        }
        self.cohort.check(self.clients, self.outage.accumulates()).map_err(|error| error.within("cohort"))?;
        self.evaluation.check().map_err(|error| error.within("evaluation"))?;
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

    /// The links of a run.
    ///
    /// # Errors
    /// See [`NetworkConfig::build`].
    pub fn links(&self) -> Result<Network> {
        let seed = Seed::new(self.seed).child("links", 0);
        self.network.build(self.clients, self.rounds, seed).map_err(|error| error.within("network"))
    }

    /// The configuration as TOML with every default written out.
    ///
    /// # Errors
    /// A value that TOML cannot express, such as an integer above 2⁶³ − 1.
    pub fn to_toml(&self) -> Result<String> {
        let no_form = |error| Error::Refused(format!("the configuration has no TOML form: {error}"));
        let Some(protocol) = &self.sweep.former else { return toml::to_string(self).map_err(no_form) };
        let mut table = toml::Table::try_from(self).map_err(no_form)?;
        table.insert("protocol".into(), protocol.clone().into());
        table.remove("participation");
        toml::to_string(&table).map_err(no_form)
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

/// Applies one `--set`.
fn apply(table: &mut toml::Table, set: &str) -> Result<()> {
    let refuse = |problem: String| Error::Refused(format!("--set {set}: {problem}"));
    let Some((path, value)) = set.split_once('=') else {
        return Err(refuse("give it as key=value, for example protocol.stragglers=5".into()));
    };
    let value = match parse(&format!("value = {value}")) {
        Ok(mut parsed) => parsed.remove("value").unwrap_or_else(|| toml::Value::String(value.into())),
        Err(_) => toml::Value::String(value.into()),
    };
    insert(table, path, value).map_err(refuse)
}

/// Puts a value at a dotted path. A new kind of a section starts the section anew.
pub(crate) fn insert(table: &mut toml::Table, path: &str, value: toml::Value) -> Result<(), String> {
    let mut keys: Vec<&str> = path.split('.').map(str::trim).collect();
    let last = keys.pop().unwrap_or_default();
    let mut section = table;
    for key in keys {
        let inner = section.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        section = inner.as_table_mut().ok_or_else(|| format!("`{key}` is a value, not a section"))?;
    }
    if TAGS.contains(&last) && section.get(last).is_some_and(|old| *old != value) {
        section.clear();
    }
    section.insert(last.into(), value);
    Ok(())
}

/// Names the `--set` that an error belongs to: the one whose section the error's path lies in.
fn blame(sets: &[String], problem: &str) -> String {
    let path = problem.split(": ").next().unwrap_or_default();
    let of_set = |set: &&String| {
        let key = set.split('=').next().unwrap_or_default().trim();
        let section = key.rsplit_once('.').map_or("", |(section, _)| section);
        let last = key.rsplit('.').next().unwrap_or_default();
        path == key || ((path == section || section.is_empty()) && problem.contains(&format!("`{last}`")))
    };
    match sets.iter().rev().find(of_set).or(sets.last()) {
        Some(set) => format!("--set {set}: {problem}"),
        None => problem.to_owned(),
    }
}
