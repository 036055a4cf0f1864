//! What a client insists on, whatever the server announces: `join --policy FILE`.
//!
//! Against a server that deviates, a client has the authority's word for names and its own rules, nothing
//! else. The rules are checked before anything that depends on an update is sent.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::message::told;
use super::roster::About;
use super::vote;
use crate::audit::{Adversaries, Audit, Entry};
use crate::audits::{Losses, Subject};
use crate::bounds;
use crate::cohort::CohortConfig;
use crate::config::{Config, is_name};
use crate::error::{Error, Result};
use crate::protocol::{Arithmetic, ProtocolConfig};

/// Protocols that show the server no single update, whatever it announces: a client sends one round of
/// messages, sealed or masked with what it shares with the others, or votes on who survived before it tells
/// what unmasks.
const SECURE: [&str; 5] = ["sec-cogc", "zero-sum", "light-sec-agg", "sec-agg", "sec-agg-plus"];

/// A client's rules. A run that breaks one ends the client; it sits out a round that does, and ends at the
/// third in a row ([`super::client::SITS_OUT`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Protocols that it plays, by kind; by default those that show even a server that deviates no single
    /// update.
    pub protocols: Vec<String>,
    /// Members who may collude with the server in `light-sec-agg`, `groupwise`, `sec-agg` and `sec-agg-plus`:
    /// as many as the run withstands at least, and the vote of every cohort that the policy allows. With 0
    /// the server alone may deviate; `groupwise` withstands no more.
    pub colluders: usize,
    /// Whether the server may be trusted to have chosen the run's seed blindly. `sec-agg-plus` draws its
    /// graphs from it; without that trust only such thresholds are played with which every graph will do.
    pub trusted_seed: bool,
    /// Smallest σ of keys or noise over the largest norm of a weighted update: clip_norm, times the clients
    /// of a round, times `largest_share`. Keys hide what is bounded: without clipping, or off the grid, only
    /// 0, for whatever there is, allows them. Keys over a field are uniform and always strong enough.
    pub least_key_ratio: f64,
    /// Largest norm to which updates are clipped; without it any, and none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// The clients with whom it forms a cohort, by the names in their certificates; without it all for whom
    /// the authority vouches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Fewest clients of a cohort, itself included, at least 2. A sum over M clients hides an update from at
    /// most M − 2 that collude with the server.
    pub least_cohort: usize,
    /// Largest share that any client may have of all examples of a cohort, above 0 and at most 1: a sum of
    /// which one update is nearly all is that update.
    pub largest_share: f64,
    /// Most rounds of a run.
    pub most_rounds: u64,
    /// Most parameters of the model: four bytes each, several times over while it trains.
    pub most_parameters: usize,
    /// Most local steps of a round, each over a batch of at most all its examples.
    pub most_steps: usize,
    /// Most sums that may hold its update, over all runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_releases: Option<u64>,
    /// Fewest clients by which two different cohorts that hold it may differ, of the last 64; 1 for any. The
    /// difference of two sums is a sum over the clients by which their cohorts differ: take more than 1 and
    /// the members that may collude with the server.
    pub least_difference: usize,
    /// Largest ε that its updates may lose beyond the sums, over all runs, as the audit of the announced
    /// configuration bounds it; without it σ alone counts. Runs that were played without a budget may have
    /// cost anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// δ of `epsilon`, of every run, between 0 and 1.
    pub delta: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            protocols: SECURE.map(String::from).to_vec(),
            colluders: 1,
            trusted_seed: false,
            least_key_ratio: 1.0,
            clip_norm: None,
            names: None,
            least_cohort: 3,
            largest_share: 0.5,
            most_rounds: 100_000,
            most_parameters: 100_000_000,
            most_steps: 100_000,
            most_releases: None,
            least_difference: 1,
            epsilon: None,
            delta: 1e-5,
        }
    }
}

impl Policy {
    /// Reads a policy, TOML.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, a value that breaks a rule.
    pub fn load(path: &Path) -> Result<Self> {
        let text = bounds::read_text(path, 1 << 20, "a policy")?;
        Self::parse(&text).map_err(|problem| Error::file(path, problem))
    }

    /// Reads a policy from its text.
    ///
    /// # Errors
    /// As [`Policy::load`], one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let policy: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            format!("line {line}: {}", told(error.message()))
        })?;
        policy.check().map_err(|error| told(&error.to_string()))?;
        Ok(policy)
    }

    fn check(&self) -> Result<()> {
        for (i, kind) in self.protocols.iter().enumerate() {
            if !ProtocolConfig::KINDS.contains(&kind.as_str()) {
                let rule = format!(
                    "there is no protocol `{kind}`; give some of {}",
                    ProtocolConfig::KINDS.join(", ")
                );
                return Err(Error::config(format!("protocols[{i}]"), rule));
            }
        }
        let named = self.names.iter().flatten().enumerate().find(|(_, name)| !is_name(name));
        if let Some((i, name)) = named {
            let rule = format!("`{name}` is not a name; give 1 to 63 letters, digits, \"-\" and \"_\"");
            return Err(Error::config(format!("names[{i}]"), rule));
        }
        let number = |key: &str, value: f64, fits: bool, rule: &str| {
            if fits { Ok(()) } else { Err(Error::config(key, format!("{value} must be {rule}"))) }
        };
        let ratio = self.least_key_ratio;
        number("least_key_ratio", ratio, ratio >= 0.0 && ratio.is_finite(), "a finite number, at least 0")?;
        number("delta", self.delta, self.delta > 0.0 && self.delta < 1.0, "between 0 and 1")?;
        let share = self.largest_share;
        number("largest_share", share, share > 0.0 && share <= 1.0, "above 0 and at most 1")?;
        for (key, value) in [("clip_norm", self.clip_norm), ("epsilon", self.epsilon)] {
            let value = value.unwrap_or(1.0);
            number(key, value, value > 0.0 && value.is_finite(), "a finite number greater than 0")?;
        }
        let counts = [("least_cohort", self.least_cohort, 2), ("least_difference", self.least_difference, 1)];
        match counts.into_iter().find(|(_, value, least)| value < least) {
            Some((key, value, least)) => {
                Err(Error::config(key, format!("{value} is too small; give at least {least}")))
            }
            None => Ok(()),
        }
    }

    /// Whether a run may be played, as far as its configuration tells.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn run(&self, config: &Config) -> Result<()> {
        let protocol = &config.protocol;
        if !self.protocols.iter().any(|kind| kind == protocol.kind()) {
            let rule =
                format!("protocol {}, and `protocols` has {}", protocol.kind(), self.protocols.join(", "));
            return Err(broken(rule));
        }
        let clip = config.solver.solver().clip_norm();
        if let Some(most) = self.clip_norm
            && clip.is_none_or(|clip| clip > most || clip.is_nan())
        {
            let clip = clip.map_or("no clipping".into(), |clip| format!("clip_norm {clip}"));
            return Err(broken(format!("{clip}, and `clip_norm` is {most}")));
        }
        self.collusion(config)?;
        self.keys(config, clip)?;
        if config.rounds > self.most_rounds {
            return Err(broken(format!(
                "{} rounds, and `most_rounds` is {}",
                config.rounds, self.most_rounds
            )));
        }
        Ok(())
    }

    /// Whether schemes in which the server tells who survived withstand as many colluders as they must.
    fn collusion(&self, config: &Config) -> Result<()> {
        let least = self.least_cohort;
        let (what, withstood) = match &config.protocol {
            ProtocolConfig::LightSecAgg(config) => ("colluders", config.colluders),
            // All members of a group know its keys.
            ProtocolConfig::Groupwise(_) => ("groupwise", 0),
            // The smallest cohort has the smallest default.
            ProtocolConfig::SecAgg(config) => {
                ("threshold", config.threshold.unwrap_or((2 * least).div_ceil(3)).saturating_sub(1))
            }
            ProtocolConfig::SecAggPlus(config) if self.trusted_seed => {
                ("threshold", config.threshold().saturating_sub(1))
            }
            ProtocolConfig::SecAggPlus(config) => {
                let in_any = config.withstood_in_any_graph().ok_or_else(|| {
                    let (t, k) = (config.threshold(), config.neighbours);
                    let remedy = match config.least_for_any_graph(self.colluders) {
                        least if least <= k => format!("{least} will do in every graph"),
                        _ => "take more neighbours".into(),
                    };
                    broken(format!(
                        "threshold {t} of {k} neighbours leaves it to the graph what is unmasked, and to the server's seed the graph; \
                         {remedy}, or `trusted_seed`"
                    ))
                })?;
                ("threshold", in_any)
            }
            _ => return Ok(()),
        };
        let want = self.colluders;
        if withstood < want {
            let rule = format!("{what} withstands {withstood} clients that collude with the server");
            return Err(broken(format!("{rule}, and `colluders` is {want}")));
        }
        let voted = (least..=config.clients).map(vote::tolerated).min();
        if let Some(voted) = voted.filter(|voted| *voted < want) {
            let rule = format!("a vote of {least} clients or more withstands {voted} that collude");
            return Err(broken(format!("{rule}, and `colluders` is {want}")));
        }
        Ok(())
    }

    /// Whether keys over the reals hide what they are added to.
    fn keys(&self, config: &Config, clip: Option<f64>) -> Result<()> {
        let least = self.least_key_ratio;
        let Some((std, grid)) = real_keys(&config.protocol).filter(|_| least > 0.0) else { return Ok(()) };
        let field = "take arithmetic = \"field\"";
        let Some(clip) = clip else {
            let rule = "no clipping, without which key_std hides nothing";
            return Err(broken(format!("{rule}, and `least_key_ratio` is {least}; {field}")));
        };
        if !grid {
            let rule = "grid = false, so that last bits tell more than key_std says";
            return Err(broken(format!("{rule}, and `least_key_ratio` is {least}; {field}")));
        }
        let norm = clip * config.clients as f64 * self.largest_share;
        // Also what is no number is not enough.
        if std >= least * norm {
            Ok(())
        } else {
            Err(broken(format!(
                "key_std {std} beside weighted updates of norm {norm}, and `least_key_ratio` is {least}; {field}"
            )))
        }
    }

    /// Whether a client with `examples` of these classes and this shape may be put to so much work.
    ///
    /// # Errors
    /// The rule that it breaks; a model that does not fit the examples.
    pub fn work(&self, config: &Config, shape: [usize; 3], classes: usize, examples: usize) -> Result<()> {
        self.parameters(config.model.size(shape, classes).map_err(|error| error.within("model"))?)?;
        let steps = config.solver.solver().steps(examples);
        if steps > self.most_steps {
            return Err(broken(format!("{steps} local steps, and `most_steps` is {}", self.most_steps)));
        }
        Ok(())
    }

    /// Whether a client may be given a model of so many parameters.
    ///
    /// # Errors
    /// More than the policy allows.
    pub fn parameters(&self, parameters: usize) -> Result<()> {
        if parameters > self.most_parameters {
            let rule = format!("{parameters} parameters, and `most_parameters` is {}", self.most_parameters);
            return Err(broken(rule));
        }
        Ok(())
    }

    /// The ε that a run may cost beyond its sums; `None` where the policy does not ask. `coordinates` is the
    /// length of an update.
    ///
    /// # Errors
    /// More than the policy allows.
    pub fn cost(
        &self,
        config: &Config,
        about: About,
        coordinates: usize,
        ledger: &Ledger,
    ) -> Result<Option<f64>> {
        let Some(budget) = self.epsilon else { return Ok(None) };
        // The server's choice of what to audit, and at which δ, does not count.
        let mut config = config.clone();
        config.compare.clear();
        config.cohort = CohortConfig { least: self.least_cohort, ..CohortConfig::default() };
        config.privacy.ldp_delta = self.delta;
        let real = real_keys(&config.protocol).is_some();
        let subject = Subject::new(&config, coordinates)?;
        let audits = subject.audits(&Adversaries::default(), &Losses::Worst, &mut |_, _, _| Ok(()))?;
        let provable = |audit: &Audit| if real && audit.step.is_none() { f64::INFINITY } else { 0.0 };
        let entries = |audit: &Audit| audit.entries.iter().map(Entry::provable_epsilon).fold(0.0, f64::max);
        let cost = audits.iter().map(|audit| entries(audit).max(provable(audit))).fold(0.0, f64::max);
        let Some(before) = ledger.epsilon_before(about) else {
            let rule = format!("runs without a budget may have cost anything, and `epsilon` is {budget}");
            return Err(broken(format!("{rule}; take another --ledger only for other data")));
        };
        if before + cost > budget {
            let rule = format!("it may cost ε = {cost:.3} after {before:.3}, and `epsilon` is {budget}");
            return Err(broken(rule));
        }
        Ok(Some(cost))
    }

    /// Whether any more rounds may be played.
    ///
    /// # Errors
    /// As many as the policy allows were.
    pub fn spent(&self, ledger: &Ledger) -> Result<()> {
        match self.most_releases {
            Some(most) if ledger.releases() >= most => {
                let rule = format!("{most} sums may hold its update by now, and `most_releases` is {most}");
                Err(broken(rule))
            }
            _ => Ok(()),
        }
    }

    /// Whether a round may be played among `names`, in order, with these numbers of examples.
    ///
    /// # Errors
    /// The rule that the round breaks.
    pub fn round(&self, names: &[&str], examples: &[u64], ledger: &Ledger) -> Result<()> {
        if names.len() < self.least_cohort {
            return Err(broken(format!(
                "a cohort of {}, and `least_cohort` is {}",
                names.len(),
                self.least_cohort
            )));
        }
        let allowed =
            |name: &&&str| self.names.as_ref().is_none_or(|all| all.iter().any(|one| one == **name));
        if let Some(name) = names.iter().find(|name| !allowed(name)) {
            return Err(broken(format!("`{name}` is in the cohort and not in `names`")));
        }
        let total: f64 = examples.iter().map(|n| *n as f64).sum();
        for (name, n) in names.iter().zip(examples) {
            let share = *n as f64 / total;
            if share > self.largest_share {
                let rule = format!(
                    "`{name}` has {share:.3} of all examples, and `largest_share` is {}",
                    self.largest_share
                );
                return Err(broken(rule));
            }
        }
        match ledger.nearest(names) {
            Some(near) if near < self.least_difference => Err(broken(format!(
                "the cohort differs from an earlier one by {near} of its clients, and `least_difference` is {}",
                self.least_difference
            ))),
            _ => Ok(()),
        }
    }
}

/// σ of keys or noise over the reals, and whether they lie on a grid; `None` where there are none, or uniform
/// ones.
fn real_keys(protocol: &ProtocolConfig) -> Option<(f64, bool)> {
    match protocol {
        ProtocolConfig::SecCoGc(config) if config.arithmetic != Arithmetic::Field => {
            Some((config.key_std, config.grid))
        }
        ProtocolConfig::ZeroSum(config) => Some((config.key_std, config.grid)),
        ProtocolConfig::Gaussian(config) => Some((config.key_std, config.grid)),
        _ => None,
    }
}

fn broken(rule: String) -> Error {
    Error::Refused(format!("the server asks for what the policy forbids: {rule}"))
}

#[cfg(test)]
mod tests;
