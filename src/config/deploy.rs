//! `[deploy]`: what `seccogc serve` and its clients agree on.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::paths;

/// A run with clients in processes of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeployConfig {
    /// Where the server listens for clients, HOST:PORT; "0.0.0.0:7447" for every network of the machine.
    pub listen: String,
    /// The clients who may take part, by the names in their certificates, as many as `clients`; everybody
    /// else is denied. Letters, digits, "-" and "_".
    pub names: Vec<String>,
    /// Folder with `ca.crt`, `server.crt` and `server.key`. Relative to the configuration file.
    pub pki: PathBuf,
    /// Seconds after the announcement of a round by which a client must have trained and what clients send
    /// first must have arrived: the shares of its neighbours, or of everybody; greater than 0. A later one is
    /// lost.
    #[schemars(range(min = 0.0))]
    pub share_deadline: f64,
    /// Seconds after the announcement of a round by which what clients send last must have arrived at the
    /// server; greater than `share_deadline`. Where they send in between, the time is divided in equal parts,
    /// one for each vote on who goes on too: uploads of `light-sec-agg` are there after a third, those of
    /// `sec-agg` after three fifths.
    #[schemars(range(min = 0.0))]
    pub upload_deadline: f64,
    /// Seconds that a round waits for clients who are connected and not ready yet, at least 0; the first
    /// round waits for all.
    #[schemars(range(min = 0.0))]
    pub gather: f64,
    /// Largest root mean square of a received vector's coordinates, greater than 0; a larger one is refused.
    /// Not with arithmetic = "field".
    #[schemars(range(min = 0.0))]
    pub largest: f64,
    /// Smallest and largest weight n_k·M/N of a client in a round of M clients with N examples, n_k of them
    /// its own: [0.5, 2.0], say; both from 0 up. A client takes part in no round in which anybody's weight
    /// lies outside, and audits assume the worst of the range, as the server cannot know what clients hold.
    /// Without it audits assume that one client may hold nearly everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<[f64; 2]>,
    /// Largest share that a client may have of all examples of a cohort of more than two, above 0 and at most
    /// 1; a client that claims more is refused. Clients have limits of their own (`join --policy`).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub largest_share: f64,
    /// Messages of one client in a row that the server refuses before it leaves the client out of the run and
    /// tells it; at least 1.
    #[schemars(range(min = 1))]
    pub refusals: u32,
    /// Where the server shows its page and, under /metrics, its numbers for Prometheus, HOST:PORT; "" for
    /// nowhere. Everybody who reaches the address sees them.
    pub page: String,
    /// Names under which the page may be asked for, beside "localhost", the name in `page` and addresses;
    /// requests for other names are refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub page_names: Vec<String>,
}

/// Most seconds that anybody waits for anything.
const WEEK: f64 = 604_800.0;

impl Default for DeployConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7447".into(),
            names: Vec::new(),
            pki: "pki".into(),
            share_deadline: 20.0,
            upload_deadline: 30.0,
            gather: 10.0,
            largest: 1e6,
            weights: None,
            largest_share: 0.5,
            refusals: 3,
            page: "127.0.0.1:9447".into(),
            page_names: Vec::new(),
        }
    }
}

/// Whether a name can stand in a certificate and in a key of the transport.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=63).contains(&name.len()) && name.chars().all(fits)
}

impl DeployConfig {
    /// Checks the values on their own.
    pub(super) fn check(&self) -> Result<()> {
        for (i, name) in self.names.iter().enumerate() {
            let refuse = |rule: &str| Err(Error::config(format!("names[{i}]"), format!("`{name}` {rule}")));
            if !is_name(name) {
                return refuse("is not a name; give 1 to 63 letters, digits, \"-\" and \"_\"");
            }
            if name == "server" || self.names[..i].contains(name) {
                return refuse("is taken; give every client another name");
            }
        }
        let times = [
            ("share_deadline", self.share_deadline),
            ("upload_deadline", self.upload_deadline),
            ("gather", self.gather),
        ];
        if let Some((key, value)) = times.into_iter().find(|(_, value)| *value > WEEK) {
            return Err(Error::config(key, format!("{value} is too long; give at most {WEEK}, a week")));
        }
        let positive = [
            ("share_deadline", self.share_deadline),
            ("upload_deadline", self.upload_deadline),
            ("largest", self.largest),
        ];
        if let Some((key, value)) =
            positive.into_iter().find(|(_, value)| !(*value > 0.0 && value.is_finite()))
        {
            return Err(Error::config(key, format!("{value} must be a finite number greater than 0")));
        }
        if let Some([least, most]) = self.weights
            && !(least >= 0.0 && least <= most && most > 0.0 && most.is_finite())
        {
            let rule =
                format!("[{least}, {most}] is no range of weights; give [least, most] with 0 ≤ least ≤ most");
            return Err(Error::config("weights", rule));
        }
        if !(self.largest_share > 0.0 && self.largest_share <= 1.0) {
            let rule = format!("{} must be above 0 and at most 1", self.largest_share);
            return Err(Error::config("largest_share", rule));
        }
        if self.upload_deadline <= self.share_deadline {
            let rule = format!(
                "{} must be greater than share_deadline, {}: sums are sent when the shares are there",
                self.upload_deadline, self.share_deadline
            );
            return Err(Error::config("upload_deadline", rule));
        }
        if self.refusals == 0 {
            return Err(Error::config("refusals", "0 is too small; give at least 1"));
        }
        if !(self.gather >= 0.0 && self.gather.is_finite()) {
            return Err(Error::config(
                "gather",
                format!("{} must be a finite number, at least 0", self.gather),
            ));
        }
        Ok(())
    }

    /// The first of `weights` that lies outside `deploy.weights`.
    #[cfg(feature = "deploy")]
    pub(crate) fn outside(&self, weights: &[f64]) -> Option<f64> {
        let [least, most] = self.weights?;
        weights.iter().copied().find(|weight| !(least..=most).contains(weight))
    }

    /// Makes the path absolute: it is relative to the configuration's `folder`.
    pub(super) fn resolve_paths(&mut self, folder: &Path) {
        self.pki = paths::absolute(folder, &self.pki);
    }
}
