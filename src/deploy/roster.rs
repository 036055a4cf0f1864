//! The roster of a round, as a client reads it: who takes part, in what, each under its own signature.
//!
//! A client believes the server nothing about the others. It checks every entry against the authority and its
//! own policy, and derives what it shares with the others from a digest of the whole announcement
//! ([`Roster::context`]): members to whom different rounds, cohorts, weights, keys or configurations were
//! shown have no secret in common, their shares do not open, and the round is an outage.

use sha2::{Digest, Sha256};

use super::message::{Announcement, Entry, Hex, Signed};
use super::statement::{Authority, Topic};
use super::vote::Electorate;
use crate::config::Config;
use crate::crypto::{KEY_BYTES, KeyPair, Secret};

/// Most examples that a client may claim: up to there counts are exact as numbers of 64 bits.
pub const EXAMPLES: u64 = 1 << 53;

/// One client of a round's cohort.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its public key for this round.
    pub public: Hex,
    /// Its number of training examples.
    pub examples: u64,
}

/// What an entry must be about.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The run.
    pub run: Hex,
    /// SHA-256 of the welcome.
    pub digest: Hex,
}

/// Checks one entry and who signed it.
///
/// # Errors
/// The broken rule.
pub fn entry(signed: &Signed, about: About, authority: &Authority) -> Result<Entry, String> {
    let (name, entry): (String, Entry) = authority.verify(Topic::Entry, signed)?;
    if entry.name != name {
        return Err(format!("`{name}` signed an entry of another name"));
    }
    if entry.run != about.run {
        return Err(format!("the entry of `{name}` is for another run"));
    }
    if entry.digest != about.digest {
        return Err(format!("`{name}` was welcomed to another configuration"));
    }
    // With a key of small order nobody could agree on anything.
    if KeyPair::new(&Secret::new([1; KEY_BYTES])).agree(&entry.public.0, b"").is_none() {
        return Err(format!("the public key of `{name}` is of small order"));
    }
    if !(1..=EXAMPLES).contains(&entry.examples) {
        return Err(format!("`{name}` claims {} examples; 1 to 2^53 are possible", entry.examples));
    }
    Ok(entry)
}

/// The cohort of a round.
#[derive(Debug)]
pub struct Roster {
    /// The round.
    pub round: u64,
    /// Its clients, in the order of the names in the configuration.
    pub members: Vec<Member>,
    /// The place of the reader among them.
    pub own: u16,
    /// SHA-256 of the model that they train from: with another model for everybody else, the sum could be
    /// made to tell one update (Pasquini et al. 2022).
    pub model: Hex,
    /// The certificates of the members, PEM.
    chains: Vec<String>,
    digest: [u8; 32],
}

impl Roster {
    /// Reads the announcement of the round for which the reader signed `own`.
    ///
    /// # Errors
    /// The broken rule: nothing may be sent in the round then.
    pub fn read(
        signed: &Signed,
        own: &Signed,
        about: About,
        config: &Config,
        authority: &Authority,
    ) -> Result<Self, String> {
        let (_, announced): (_, Announcement) = authority.verify(Topic::Announcement, signed)?;
        if (announced.run, announced.digest) != (about.run, about.digest) {
            return Err("the announcement is for another run or configuration".into());
        }
        let round = announced.round;
        if !(1..=config.rounds).contains(&round) {
            return Err(format!("round {round} of {}", config.rounds));
        }
        if announced.members.len() > config.clients {
            return Err(format!("round {round}: {} clients of {}", announced.members.len(), config.clients));
        }
        let mut members = Vec::with_capacity(announced.members.len());
        let mut chains = Vec::with_capacity(announced.members.len());
        let mut place = None;
        let mut last = None;
        for (i, signed) in announced.members.iter().enumerate() {
            let entry = entry(signed, about, authority).map_err(|rule| format!("round {round}: {rule}"))?;
            if entry.round != round {
                return Err(format!(
                    "round {round}: the entry of `{}` is for round {}",
                    entry.name, entry.round
                ));
            }
            let index = config.deploy.names.iter().position(|name| *name == entry.name);
            if index.is_none() || index <= last {
                return Err(format!("round {round}: its cohort is not made of the run's clients in order"));
            }
            last = index;
            if signed.body == own.body {
                place = Some(i as u16);
            }
            members.push(Member { name: entry.name, public: entry.public, examples: entry.examples });
            chains.push(signed.chain.clone());
        }
        let own =
            place.ok_or_else(|| format!("round {round}: its cohort does not have this client's entry"))?;
        if let Some(weight) = config.deploy.outside(&weights(&members)) {
            return Err(format!("round {round}: a client of weight {weight:.3}, outside deploy.weights"));
        }
        Ok(Self { round, members, own, model: announced.model, chains, digest: signed.digest().0 })
    }

    /// Who votes in the round.
    #[must_use]
    pub fn electorate(&self) -> Electorate {
        let names = self.members.iter().map(|member| member.name.clone());
        Electorate { roster: Hex(self.digest), members: names.zip(self.chains.iter().cloned()).collect() }
    }

    /// What the secrets of the cohort are bound to: everything that was announced.
    #[must_use]
    pub fn context(&self) -> Vec<u8> {
        Sha256::new().chain_update(b"seccogc roster").chain_update(self.digest).finalize().to_vec()
    }

    /// The names of the cohort.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.members.iter().map(|member| member.name.as_str()).collect()
    }

    /// The numbers of examples of the cohort.
    #[must_use]
    pub fn examples(&self) -> Vec<u64> {
        self.members.iter().map(|member| member.examples).collect()
    }
}

/// n_k · M / N for each client of a cohort.
#[must_use]
pub fn weights(members: &[Member]) -> Vec<f64> {
    let total: f64 = members.iter().map(|member| member.examples as f64).sum();
    members.iter().map(|member| member.examples as f64 * members.len() as f64 / total).collect()
}

/// Who has the largest share of all examples of a cohort, and how large it is.
#[must_use]
pub fn share(members: &[Member]) -> Option<(&str, f64)> {
    let total: f64 = members.iter().map(|member| member.examples as f64).sum();
    let most = members.iter().max_by_key(|member| member.examples)?;
    Some((&most.name, most.examples as f64 / total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::pki;
    use crate::deploy::statement::Signer;
    use crate::deploy::transport::Identity;

    const NAMES: [&str; 4] = ["ann", "bob", "cleo", "dan"];
    const ABOUT: About = About { run: Hex([1; 32]), digest: Hex([2; 32]) };

    const MODEL: Hex = Hex([3; 32]);

    struct Trial {
        folder: tempfile::TempDir,
        config: Config,
    }

    fn entry_of(name: &str) -> Entry {
        let (nonce, public) = (Hex([name.len() as u8; 32]), Hex([name.as_bytes()[0]; 32]));
        let About { run, digest } = ABOUT;
        Entry { run, digest, round: 3, nonce, name: name.into(), public, examples: 10 }
    }

    impl Trial {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let pki = folder.path().join("pki");
            pki::init(&pki, &["localhost".into()]).unwrap();
            NAMES.iter().for_each(|name| pki::issue(&pki, name, &[], pki::DAYS).unwrap());
            let mut config = Config { clients: 4, ..Config::default() };
            config.deploy.names = NAMES.map(String::from).to_vec();
            Self { folder, config }
        }

        fn signer(&self, name: &str) -> Signer {
            Signer::load(&Identity { folder: &self.folder.path().join("pki"), name }).unwrap()
        }

        fn authority(&self) -> Authority {
            Authority::load(&self.folder.path().join("pki")).unwrap()
        }

        fn enter(&self, name: &str, change: impl Fn(&mut Entry)) -> Signed {
            let mut entry = entry_of(name);
            change(&mut entry);
            self.signer(name).sign(Topic::Entry, &entry).unwrap()
        }

        fn announce(&self, members: &[Signed], change: impl Fn(&mut Announcement)) -> Signed {
            let members = members.to_vec();
            let mut announced =
                Announcement { run: ABOUT.run, digest: ABOUT.digest, round: 3, model: MODEL, members };
            change(&mut announced);
            self.signer("server").sign(Topic::Announcement, &announced).unwrap()
        }

        fn read(&self, announcement: &Signed, own: &Signed) -> Result<Roster, String> {
            Roster::read(announcement, own, ABOUT, &self.config, &self.authority())
        }
    }

    #[test]
    fn a_roster_is_what_its_members_signed() {
        let trial = Trial::new();
        let entries = ["ann", "bob", "dan"].map(|name| trial.enter(name, |_| ()));
        let roster = trial.read(&trial.announce(&entries, |_| ()), &entries[1]).unwrap();
        assert_eq!((roster.round, roster.own, roster.names()), (3, 1, vec!["ann", "bob", "dan"]));
        assert_eq!(roster.examples(), [10, 10, 10]);
        assert_eq!(roster.members[2].public, Hex([b'd'; 32]));
    }

    #[test]
    fn members_who_were_shown_different_things_share_no_context() {
        let trial = Trial::new();
        let entries = NAMES.map(|name| trial.enter(name, |_| ()));
        let heavy = trial.enter("dan", |entry| entry.examples = 11);
        let shown = [
            trial.announce(&entries, |_| ()),
            trial.announce(&entries[..3], |_| ()),
            trial.announce(&entries, |announced| announced.model = Hex([4; 32])),
            trial.announce(&[entries[0].clone(), entries[1].clone(), entries[2].clone(), heavy], |_| ()),
        ];
        let contexts: Vec<_> =
            shown.iter().map(|one| trial.read(one, &entries[0]).unwrap().context()).collect();
        let different: std::collections::BTreeSet<_> = contexts.iter().collect();
        assert_eq!(different.len(), shown.len());
        assert_eq!(contexts[0], trial.read(&shown[0], &entries[3]).unwrap().context());
    }

    #[test]
    fn whatever_the_server_changes_is_refused() {
        let trial = Trial::new();
        let entries = NAMES.map(|name| trial.enter(name, |_| ()));
        let own = &entries[0];
        let refused = |announcement: &Signed| trial.read(announcement, own).unwrap_err();
        let with = |bob: Signed| trial.announce(&[entries[0].clone(), bob, entries[2].clone()], |_| ());
        // A key of the server's own for bob.
        let mut forged = entries[1].clone();
        forged.body = forged.body.replace(&String::from(Hex([b'b'; 32])), &String::from(Hex([7; 32])));
        assert_eq!(refused(&with(forged)), "round 3: the entry was not signed by `bob`");
        // Signed by the server, or by cleo, in bob's name.
        let entry = entry_of("bob");
        let by = |name: &str| trial.signer(name).sign(Topic::Entry, &entry).unwrap();
        assert_eq!(refused(&with(by("server"))), "round 3: the entry is signed by the server");
        assert_eq!(refused(&with(by("cleo"))), "round 3: `cleo` signed an entry of another name");
        // Entries of other rounds, runs and configurations.
        let other = |change: fn(&mut Entry)| refused(&with(trial.enter("bob", change)));
        assert_eq!(other(|entry| entry.round = 2), "round 3: the entry of `bob` is for round 2");
        assert_eq!(other(|entry| entry.run = Hex([9; 32])), "round 3: the entry of `bob` is for another run");
        let digest = other(|entry| entry.digest = Hex([9; 32]));
        assert_eq!(digest, "round 3: `bob` was welcomed to another configuration");
        let small = other(|entry| entry.public = Hex([0; 32]));
        assert_eq!(small, "round 3: the public key of `bob` is of small order");
        let none = other(|entry| entry.examples = 0);
        assert_eq!(none, "round 3: `bob` claims 0 examples; 1 to 2^53 are possible");
        // The reader's own entry: left out, or another one of its own.
        let absent = refused(&trial.announce(&entries[1..], |_| ()));
        assert_eq!(absent, "round 3: its cohort does not have this client's entry");
        let mut second = entries.clone();
        second[0] = trial.enter("ann", |entry| entry.examples = 99);
        assert_eq!(refused(&trial.announce(&second, |_| ())), absent);
        // The same client twice, or out of order.
        let twice = refused(&trial.announce(&[own.clone(), own.clone()], |_| ()));
        assert_eq!(twice, "round 3: its cohort is not made of the run's clients in order");
        let turned = [entries[1].clone(), own.clone()];
        assert_eq!(refused(&trial.announce(&turned, |_| ())), twice);
        // Another round or run than the entries', and an announcement of somebody else.
        let late = refused(&trial.announce(&entries, |announced| announced.round = 4));
        assert_eq!(late, "round 4: the entry of `ann` is for round 3");
        for over in [0, trial.config.rounds + 1] {
            let line = refused(&trial.announce(&entries, |announced| announced.round = over));
            assert_eq!(line, format!("round {over} of {}", trial.config.rounds));
        }
        let run = refused(&trial.announce(&entries, |announced| announced.run = Hex([5; 32])));
        assert_eq!(run, "the announcement is for another run or configuration");
        let announced = Announcement {
            run: ABOUT.run,
            digest: ABOUT.digest,
            round: 3,
            model: MODEL,
            members: entries.to_vec(),
        };
        let posed = trial.signer("bob").sign(Topic::Announcement, &announced).unwrap();
        assert_eq!(refused(&posed), "the announcement is signed by `bob`");
        // What was signed as something else.
        let mixed = trial.signer("server").sign(Topic::Welcome, &announced).unwrap();
        assert_eq!(refused(&mixed), "the announcement was not signed by the server");
    }

    #[test]
    fn certificates_of_others_revoked_and_damaged_ones_are_refused() {
        let trial = Trial::new();
        let entries = NAMES.map(|name| trial.enter(name, |_| ()));
        let other = Trial::new();
        let stranger = other.enter("bob", |_| ());
        let cohort = [entries[0].clone(), stranger, entries[2].clone()];
        let line = trial.read(&trial.announce(&cohort, |_| ()), &entries[0]).unwrap_err();
        assert_eq!(line, "round 3: certificate of `bob`: not of our authority");
        let announcement = trial.announce(&entries, |_| ());
        let (pki, running) = (trial.folder.path().join("pki"), trial.authority());
        let read = || Roster::read(&announcement, &entries[0], ABOUT, &trial.config, &running);
        read().unwrap();
        pki::revoke(&pki, "cleo").unwrap();
        let revoked = "round 3: certificate of `cleo`: revoked";
        assert_eq!(trial.read(&announcement, &entries[0]).unwrap_err(), revoked);
        // Who has been running for long hears of it too, and does not forget it.
        assert_eq!(read().unwrap_err(), revoked);
        let list = pki.join("ca.crl");
        std::fs::write(&list, "damaged").unwrap();
        assert_eq!(read().unwrap_err(), revoked);
        std::fs::remove_file(&list).unwrap();
        assert_eq!(read().unwrap_err(), revoked);
        let without = [entries[0].clone(), entries[1].clone(), entries[3].clone()];
        trial.read(&trial.announce(&without, |_| ()), &entries[0]).unwrap();
        for chain in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let damaged = Signed { chain: chain.into(), ..entries[1].clone() };
            let cohort = [entries[0].clone(), damaged];
            let line = trial.read(&trial.announce(&cohort, |_| ()), &entries[0]).unwrap_err();
            assert!(line.starts_with("round 3: ") && line.contains("certificate"), "{line}");
        }
        let huge = Signed { chain: "x".repeat(1 << 20), ..entries[1].clone() };
        let line = entry(&huge, ABOUT, &trial.authority()).unwrap_err();
        assert_eq!(line, "certificates of 1048576 bytes where at most 8192 are expected");
        for signature in ["", "zz", "00", &"0".repeat(4000)] {
            let damaged = Signed { signature: signature.into(), ..entries[1].clone() };
            let line = entry(&damaged, ABOUT, &trial.authority()).unwrap_err();
            assert_eq!(line, "the entry was not signed by `bob`");
        }
        let unknown = Signed { scheme: 0x0201, ..entries[1].clone() };
        assert_eq!(
            entry(&unknown, ABOUT, &trial.authority()).unwrap_err(),
            "the entry was not signed by `bob`"
        );
    }
}
