//! The audits of a configuration: each of its protocols, in every cohort that a round may have.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use crate::audit::calibrate::{Bounds, Calibrated, calibrate_until};
use crate::audit::erasures::Lost;
use crate::audit::{Adversaries, Assumptions, Audit, Erasures, Observe, audit_observed, check_size};
use crate::config::{Config, Contender};
use crate::error::{Error, Result};
use crate::keys::KeyChoice;
use crate::network::Network;
use crate::parallel::{NEVER, goes_on};
use crate::participation::{ParticipationConfig, check_shown};
use crate::plan;
use crate::privacy::view::Coalition;
use crate::protocol::{Aggregator, ProtocolConfig};
use crate::seed::Seed;
use crate::train::divide;

/// Which messages the audits of a configuration count as lost.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Losses {
    /// The worst over patterns of loss.
    #[default]
    Worst,
    /// The configured links' own in every round of the run.
    Actual,
    /// Those of a CSV file, in every round; see [`Lost::load`].
    File(PathBuf),
}

impl Losses {
    /// Those that the flag `--erasures` names: `worst`, `actual` or a file.
    #[must_use]
    pub fn named(which: &str) -> Self {
        match which {
            "worst" => Self::Worst,
            "actual" => Self::Actual,
            file => Self::File(file.into()),
        }
    }
}

/// A configuration to be audited.
///
/// ```
/// use seccogc::audit::Adversaries;
/// use seccogc::audits::{Losses, Subject};
/// use seccogc::config::Config;
///
/// let config = Config { rounds: 10, ..Config::default() };
/// let subject = Subject::new(&config, config.coordinates()?)?;
/// let audits = subject.audits(&Adversaries::default(), &Losses::Worst, &mut |_, _, _| Ok(()))?;
/// let worst = audits[0].entries.iter().map(|entry| entry.lmip_bits).fold(0.0, f64::max);
/// assert!(worst.is_finite() && audits[0].findings.is_empty());
/// # Ok::<(), seccogc::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    config: &'a Config,
    subjects: Vec<One>,
    cases: Vec<Assumptions>,
    bounds: Bounds,
    stop: &'a AtomicBool,
}

/// A protocol under a name, and the rule of participation beside it.
#[derive(Clone, Debug)]
struct One {
    name: String,
    protocol: ProtocolConfig,
    participation: ParticipationConfig,
    /// Which of `[[compare]]` it is.
    contender: Option<usize>,
}

/// The weakest sufficient keys of one construction: a line of `seccogc audit --calibrate`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sufficient {
    /// Name of the protocol.
    pub protocol: String,
    /// Construction, `noise` for independent noise.
    pub keys: String,
    /// Smallest sufficient σ; empty when no σ suffices.
    pub key_std: Option<f64>,
    /// Σ_k Var(u_k) per coordinate.
    pub total_power: Option<f64>,
    /// Its ratio to the first construction's of the same protocol.
    pub power_ratio: Option<f64>,
    /// Why no σ suffices.
    pub obstacle: Option<String>,
}

impl<'a> Subject<'a> {
    /// The protocols of a configuration, or of its `[[compare]]` sections. The examples are divided for the
    /// clients' weights, unless these have examples of their own (`deploy.names`); `coordinates` is the
    /// length of an update ([`Config::coordinates`]).
    ///
    /// # Errors
    /// More clients in a round than an audit examines; data that cannot be read or divided; `stragglers =
    /// "auto"` over a network on which nothing recovers.
    pub fn new(config: &'a Config, coordinates: usize) -> Result<Self> {
        check_size(config.cohort.most(config.clients))?;
        let weights = if config.deploy.names.is_empty() {
            let dataset = config.data.load().map_err(|error| error.within("data"))?;
            divide(config, &dataset)?.weights()
        } else {
            vec![1.0; config.clients]
        };
        let cases = config.cases(&weights).into_iter().map(|case| case.of_coordinates(coordinates)).collect();
        let resolve = |protocol: &ProtocolConfig| plan::resolve(protocol, config, coordinates);
        let own = || -> Result<One> {
            Ok(One {
                name: config.participation.label(config.protocol.kind()),
                protocol: resolve(&config.protocol)?,
                participation: config.participation.clone(),
                contender: None,
            })
        };
        let contender = |(i, one): (usize, &Contender)| -> Result<One> {
            Ok(One {
                name: one.name.clone(),
                protocol: resolve(&one.protocol)?,
                participation: one.participation.as_ref().unwrap_or(&config.participation).clone(),
                contender: Some(i),
            })
        };
        let subjects = if config.compare.is_empty() {
            vec![own()?]
        } else {
            config.compare.iter().enumerate().map(contender).collect::<Result<_>>()?
        };
        let privacy = &config.privacy;
        let bounds = Bounds { epsilon: privacy.max_ldp_epsilon, lmip_bits: privacy.max_lmip_bits };
        Ok(Self { config, subjects, cases, bounds, stop: &NEVER })
    }

    /// The same, whose audits end with [`Error::Stopped`] once `stop` is set.
    #[must_use]
    pub fn with_stop(self, stop: &'a AtomicBool) -> Self {
        Self { stop, ..self }
    }

    /// What is assumed of a round, for every number of clients that it may have, the largest first.
    #[must_use]
    pub fn cases(&self) -> &[Assumptions] {
        &self.cases
    }

    /// Clients of the smallest round: those that every coalition must be among.
    #[must_use]
    pub fn smallest(&self) -> usize {
        self.cases.iter().map(|case| case.weights.clients()).min().unwrap_or(self.config.clients)
    }

    /// The adversaries that the flags `--coalition` and `--all-coalitions` name.
    ///
    /// # Errors
    /// A coalition that is not one of the smallest round.
    pub fn adversaries(&self, coalition: Option<&str>, all: usize) -> Result<Adversaries> {
        let coalition = coalition.map(|text| Coalition::parse(text, self.smallest())).transpose()?;
        Ok(Adversaries { all, coalition })
    }

    /// One audit for every protocol and number of clients; numbers for which there is no scheme are outages,
    /// in which nothing is sent, and are left out. Each tells `observe` how far it is.
    ///
    /// # Errors
    /// A protocol that cannot be built for the largest number; a file of losses that breaks a rule; actual
    /// losses where the cohort changes or links have deadlines; what [`audit`](crate::audit::audit) refuses;
    /// an error of `observe`.
    pub fn audits(&self, adversaries: &Adversaries, losses: &Losses, observe: Observe) -> Result<Vec<Audit>> {
        let network = self.network(losses)?;
        let mut audits = Vec::new();
        for one in &self.subjects {
            for (i, case) in self.cases.iter().enumerate() {
                let scheme = match self.scheme(one, case) {
                    Err(_) if i > 0 => continue,
                    built => built?,
                };
                let attempts = self.config.outage.attempts();
                let lost;
                let erasures = match losses {
                    Losses::Worst => Erasures::Worst(Seed::new(self.config.seed).child("audit", 0)),
                    Losses::Actual => Erasures::Actual(&network),
                    Losses::File(path) => {
                        // Transfers have the names that this scheme gives them.
                        lost = Lost::load(path, self.config.clients, attempts, &scheme.phases())?;
                        Erasures::These(&lost)
                    }
                };
                let about = match self.subjects.len() * self.cases.len() {
                    1 => String::new(),
                    _ => format!("{} among {}, ", one.name, case.weights.clients()),
                };
                let mut observe = |done: usize, all: usize, what: &str| {
                    goes_on(self.stop)?;
                    observe(done, all, &format!("{about}{what}"))
                };
                let scheme = (&*scheme, attempts);
                let audit = audit_observed(&one.name, scheme, erasures, adversaries, case, &mut observe)?;
                let rule = one.participation.chosen().map(|_| one.participation.kind().to_owned());
                audits.push(Audit { participation: rule, ..audit });
            }
        }
        Ok(audits)
    }

    /// The scheme of a protocol among the clients of a case, which shows its rule of participation what that
    /// reads.
    fn scheme(&self, one: &One, case: &Assumptions) -> Result<Box<dyn Aggregator>> {
        let One { protocol, participation, contender, .. } = one;
        let (clients, seed) = (case.weights.clients(), Seed::new(self.config.seed).child("protocol", 0));
        let built = protocol.fitted(clients).build_for(clients, seed, &case.public());
        let scheme = built.map_err(|error| error.within("protocol"))?;
        if participation.chosen().is_some() {
            check_shown(participation.kind(), protocol.kind(), &*scheme).map_err(
                |error| match contender {
                    Some(i) => error.within(&format!("compare[{i}]")),
                    None => error,
                },
            )?;
        }
        Ok(scheme)
    }

    /// The configured links, once it is known that an audit over such losses makes sense.
    fn network(&self, losses: &Losses) -> Result<Network> {
        if *losses != Losses::Worst {
            self.config.is_the_same_in_every_round()?;
        }
        let network = self.config.links()?;
        if *losses == Losses::Actual && network.has_deadline() {
            let rule = "lateness depends on the size of the messages, which an audit does without; take --erasures worst or a file";
            return Err(Error::config("network", rule));
        }
        Ok(network)
    }

    /// The smallest sufficient keys of every protocol; see [`crate::audit::calibrate::calibrate`].
    ///
    /// # Errors
    /// As there.
    pub fn calibrations(&self, adversaries: &Adversaries) -> Result<Vec<(&str, Vec<Calibrated>)>> {
        let seed = Seed::new(self.config.seed).child("protocol", 0);
        let attempts = self.config.outage.attempts();
        self.subjects
            .iter()
            .map(|one| {
                self.cases.first().map(|case| self.scheme(one, case)).transpose()?;
                let (bounds, cases) = (&self.bounds, &self.cases[..]);
                let protocol = &one.protocol;
                let found = calibrate_until(self.stop, protocol, bounds, seed, attempts, adversaries, cases)?;
                Ok((one.name.as_str(), found))
            })
            .collect()
    }

    /// [`Subject::calibrations`] as lines of one table.
    ///
    /// # Errors
    /// As there.
    pub fn sufficient(&self, adversaries: &Adversaries) -> Result<Vec<Sufficient>> {
        let found = self.calibrations(adversaries)?.into_iter();
        Ok(found.flat_map(|(name, found)| sufficient(name, found)).collect())
    }

    /// A line for every audit in which a bound of `[privacy]` is exceeded.
    #[must_use]
    pub fn exceeded(&self, audits: &[Audit]) -> Vec<String> {
        let line = |audit: &Audit| {
            let among = if self.cases.len() > 1 { format!(" among {}", audit.cohort) } else { String::new() };
            let what = self.bounds.exceeded(audit)?;
            Some(format!("{}{among}: {what}", audit.protocol))
        };
        audits.iter().filter_map(line).collect()
    }
}

fn sufficient(protocol: &str, found: Vec<Calibrated>) -> Vec<Sufficient> {
    let first = found.first().and_then(|one| one.total_power);
    found
        .into_iter()
        .map(|one| Sufficient {
            protocol: protocol.to_owned(),
            keys: one.keys.map_or("noise", KeyChoice::name).to_owned(),
            key_std: one.key_std,
            total_power: one.total_power,
            power_ratio: one.total_power.zip(first).map(|(power, first)| power / first),
            obstacle: one.obstacle,
        })
        .collect()
}
