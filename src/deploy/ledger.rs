//! What a client has spent: the rounds that it took part in and the cohorts of their sums, in a file that
//! outlives the process.
//!
//! A round is written down, on the disk, before anything that depends on an update is sent in it, so that
//! nobody gets two answers for one round from a client that was killed in between. Keys are never written:
//! those of a round that a crash interrupted are gone, and so is the round.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::message::{Hex, to_hex, to_json, told};
use super::roster::About;
use crate::error::{Error, Result};
use crate::record::write_secretly;

/// Last round that a run may have: up to there sums over runs do not overflow.
const ROUNDS: u64 = i64::MAX as u64;

/// Different cohorts that are remembered, the latest.
const COHORTS: usize = 64;

/// The content of a ledger.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    version: u32,
    runs: Vec<RunSpent>,
    cohorts: Vec<Vec<String>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunSpent {
    run: Hex,
    /// The last round that was played.
    round: u64,
    /// Rounds that were played.
    releases: u64,
    /// What the whole run may cost beyond its sums, by the digest of the welcome; `None` where nobody asked.
    epsilon: Vec<(Hex, Option<f64>)>,
    /// Rounds whose cohort differed from a remembered one by a single client.
    singled_out: u64,
}

impl Spent {
    /// Whether a client can have written it. What was changed or damaged must not pass as less than was
    /// spent: costs below 0 would give budget back, and numbers that overflow would begin at 0 again.
    fn check(&self) -> Result<(), String> {
        let mut known = BTreeSet::new();
        for one in &self.runs {
            let RunSpent { run, round, releases, singled_out, .. } = one;
            let name = to_hex(&run.0[..4]);
            if !known.insert(run.0) {
                return Err(format!("run {name}… twice"));
            }
            if *round > ROUNDS || releases > round || singled_out > releases {
                return Err(format!(
                    "run {name}…: {releases} sums, {singled_out} of them singled out, by round {round}"
                ));
            }
            let mut costs = one.epsilon.iter().filter_map(|(_, epsilon)| *epsilon);
            if let Some(cost) = costs.find(|cost| !cost.is_finite() || *cost < 0.0) {
                return Err(format!("run {name}…: ε = {cost}"));
            }
        }
        Ok(())
    }
}

/// A client's record of what it took part in.
pub struct Ledger {
    path: PathBuf,
    spent: Spent,
    /// Held as long as the ledger is: two clients with one ledger would answer twice for a round.
    _lock: File,
}

impl Ledger {
    /// Reads a ledger; without a file it is empty.
    ///
    /// # Errors
    /// A file that cannot be read or is no ledger: what was spent must not be forgotten. A ledger that
    /// another process has opened.
    pub fn open(path: &Path) -> Result<Self> {
        let lock = lock(path)?;
        let spent = match std::fs::read(path) {
            Ok(bytes) => Self::parse(&bytes).map_err(|problem| {
                Error::file(path, format!("not a ledger of `seccogc join`: {problem}; take another --ledger"))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Spent { version: 1, ..Spent::default() }
            }
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        Ok(Self { path: path.to_owned(), spent, _lock: lock })
    }

    /// Reads what a ledger holds.
    ///
    /// # Errors
    /// The broken rule.
    pub fn parse(bytes: &[u8]) -> Result<Spent, String> {
        let spent: Spent = serde_json::from_slice(bytes).map_err(|error| told(&error.to_string()))?;
        if spent.version != 1 {
            return Err(format!("version {}, here 1", spent.version));
        }
        spent.check()?;
        Ok(spent)
    }

    fn of(&self, run: Hex) -> Option<&RunSpent> {
        self.spent.runs.iter().find(|one| one.run == run)
    }

    /// The last round of a run that was played, 0 for none.
    #[must_use]
    pub fn last(&self, run: Hex) -> u64 {
        self.of(run).map_or(0, |one| one.round)
    }

    /// Sums that may hold an update of this client, over all runs: every round that it took part in, as it
    /// does not learn which of them were outages.
    #[must_use]
    pub fn releases(&self) -> u64 {
        self.spent.runs.iter().fold(0, |all, one| all.saturating_add(one.releases))
    }

    /// Rounds of a run in which the cohort differed from an earlier one by a single client.
    #[must_use]
    pub fn singled_out(&self, run: Hex) -> u64 {
        self.of(run).map_or(0, |one| one.singled_out)
    }

    /// What all other runs, and this one under other welcomes, may have cost beyond their sums: ε adds up,
    /// and so does δ. `None` when one was played without anybody asking.
    #[must_use]
    pub fn epsilon_before(&self, about: About) -> Option<f64> {
        let other = |run: Hex, digest: Hex| (run, digest) != (about.run, about.digest);
        let spent = self.spent.runs.iter().flat_map(|one| one.epsilon.iter().map(|spent| (one.run, spent)));
        spent.filter(|(run, (digest, _))| other(*run, *digest)).map(|(_, (_, epsilon))| *epsilon).sum()
    }

    /// Clients by which a cohort differs from the most similar one of the earlier cohorts that are not the
    /// same; `None` when there is none.
    #[must_use]
    pub fn nearest(&self, names: &[&str]) -> Option<usize> {
        let cohort: BTreeSet<&str> = names.iter().copied().collect();
        let other = |earlier: &Vec<String>| {
            let earlier: BTreeSet<&str> = earlier.iter().map(String::as_str).collect();
            cohort.symmetric_difference(&earlier).count()
        };
        self.spent.cohorts.iter().map(other).filter(|difference| *difference > 0).min()
    }

    /// Writes down that a round is played, before anything is sent in it. `epsilon` is what the whole run may
    /// cost beyond its sums. Returns whether the cohort differs from a remembered one by a single client.
    ///
    /// # Errors
    /// A round that was played before; a file that cannot be written.
    pub fn play(&mut self, about: About, round: u64, names: &[&str], epsilon: Option<f64>) -> Result<bool> {
        let About { run, digest } = about;
        if round <= self.last(run) {
            let rule = format!("round {round} after round {}: one answer a round", self.last(run));
            return Err(Error::Refused(rule));
        }
        let single = self.nearest(names) == Some(1);
        let place = self.spent.runs.iter().position(|one| one.run == run).unwrap_or_else(|| {
            self.spent.runs.push(RunSpent {
                run,
                round: 0,
                releases: 0,
                epsilon: Vec::new(),
                singled_out: 0,
            });
            self.spent.runs.len() - 1
        });
        let one = &mut self.spent.runs[place];
        one.round = round;
        one.releases += 1;
        if !one.epsilon.iter().any(|(known, _)| *known == digest) {
            one.epsilon.push((digest, epsilon));
        }
        one.singled_out += u64::from(single);
        let cohort: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.spent.cohorts.retain(|earlier| *earlier != cohort);
        self.spent.cohorts.push(cohort);
        let surplus = self.spent.cohorts.len().saturating_sub(COHORTS);
        self.spent.cohorts.drain(..surplus);
        write_secretly(&self.path, &to_json(&self.spent))?;
        Ok(single)
    }
}

/// Takes the ledger for this process alone, until it ends.
fn lock(path: &Path) -> Result<File> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let beside = path.with_file_name(name);
    let open = File::options().create(true).truncate(false).write(true).open(&beside);
    let file = open.map_err(Error::io("write", &beside))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let rule = "another `seccogc join` has this ledger; stop it, or give this one another name";
            Err(Error::file(path, rule))
        }
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &beside)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_survives_and_no_round_is_played_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ann.json");
        let (a, b) = (Hex([1; 32]), Hex([2; 32]));
        let of = |run| About { run, digest: run };
        let mut ledger = Ledger::open(&path).unwrap();
        assert_eq!((ledger.last(a), ledger.releases(), ledger.nearest(&["ann"])), (0, 0, None));
        assert!(!ledger.play(of(a), 3, &["ann", "bob", "cleo"], Some(0.5)).unwrap());
        assert!(ledger.play(of(a), 5, &["ann", "bob"], Some(0.5)).unwrap(), "without cleo");
        ledger.play(of(b), 1, &["ann", "bob"], Some(0.25)).unwrap();
        let line = Ledger::open(&path).err().unwrap().to_string();
        assert!(
            line.ends_with("another `seccogc join` has this ledger; stop it, or give this one another name")
        );
        drop(ledger);
        let mut ledger = Ledger::open(&path).unwrap();
        assert_eq!((ledger.last(a), ledger.last(b), ledger.releases()), (5, 1, 3));
        assert_eq!((ledger.singled_out(a), ledger.singled_out(b)), (1, 1));
        assert_eq!((ledger.epsilon_before(of(a)), ledger.epsilon_before(of(b))), (Some(0.25), Some(0.5)));
        // The same run under another welcome costs anew.
        assert_eq!(ledger.epsilon_before(About { run: a, digest: b }), Some(0.75));
        assert_eq!(ledger.nearest(&["ann", "bob", "dan"]), Some(1));
        assert_eq!(ledger.nearest(&["ann", "dan", "eve"]), Some(3), "bob, dan and eve");
        let line = ledger.play(of(a), 5, &["ann"], None).unwrap_err().to_string();
        assert_eq!(line, "round 5 after round 5: one answer a round");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        ledger.play(of(a), 6, &["ann", "bob"], None).unwrap();
        assert_eq!(ledger.epsilon_before(of(b)), Some(0.5), "known under this welcome");
        ledger.play(of(Hex([3; 32])), 1, &["ann", "bob"], None).unwrap();
        assert_eq!(ledger.epsilon_before(of(b)), None);
        drop(ledger);
        std::fs::write(&path, "{}").unwrap();
        let line = Ledger::open(&path).err().unwrap().to_string();
        assert!(line.contains("not a ledger of `seccogc join`: missing field `version`"), "{line}");
    }

    #[test]
    fn what_no_client_wrote_is_refused() {
        let run = |run: u8, rest: &str| format!("{{\"run\":\"{}\",{rest}}}", to_hex(&[run; 32]));
        let refused = |runs: &[String]| {
            let text = format!("{{\"version\":1,\"runs\":[{}],\"cohorts\":[]}}", runs.join(","));
            Ledger::parse(text.as_bytes()).map(drop)
        };
        let fair = "\"round\":7,\"releases\":5,\"epsilon\":[],\"singled_out\":2";
        let cost = |cost: &str| fair.replace("[]", &format!("[[\"{}\",{cost}]]", to_hex(&[9; 32])));
        assert_eq!(refused(&[run(1, fair), run(2, &cost("0.5")), run(3, &cost("null"))]), Ok(()));
        let line = |rest: &str| refused(&[run(1, rest)]).unwrap_err();
        let counts = |releases, singled, round| {
            format!("run 01010101…: {releases} sums, {singled} of them singled out, by round {round}")
        };
        // More sums than rounds, more rounds than there are, and what would give budget back.
        assert_eq!(line(&fair.replace(":5", ":8")), counts(8, 2, 7));
        assert_eq!(line(&fair.replace(":2", ":6")), counts(5, 6, 7));
        assert_eq!(line(&fair.replace(":7", ":18446744073709551615")), counts(5, 2, u64::MAX));
        assert_eq!(line(&cost("-3.5")), "run 01010101…: ε = -3.5");
        assert_eq!(refused(&[run(1, fair), run(1, fair)]).unwrap_err(), "run 01010101… twice");
    }
}
