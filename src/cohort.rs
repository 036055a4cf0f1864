//! Who takes part in a round: client sampling and elastic cohorts.
//!
//! A scheme runs among the m clients of a round's *cohort*; code, keys and weights are theirs alone. With
//! `sample` the server draws the cohort uniformly, in every round anew (McMahan et al. 2017). With
//! `drop_after` the cohort is *elastic*: every client sends the server a sign of life in every round, over
//! its link to the server; a client that is not heard for so many rounds in a row is left out, because every
//! code row that needs it would stay incomplete, and the code is formed anew over the others. It is back in
//! the round after it is heard again. With `over_select` more are drawn than are needed, and who has computed
//! first stays (Bonawitz et al. 2019, section 9: 1.3 times as many).
//!
//! Keys are drawn by round, and a round has one cohort: no key serves two cohorts.

mod buffered;
mod schemes;

use rand::RngExt;
use rand::seq::index;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::message::{COHORT, HEADER_BYTES, LinkUse, Node, SIGN_OF_LIFE};
use crate::network::{Dependence, LinkModel};
use crate::seed::Seed;
pub use buffered::Buffered;
pub use schemes::Schemes;

/// Clients of a population who are looked at for each that is wanted, where not all are there.
pub(crate) const LOOKS: usize = 100;

/// The clients of a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CohortConfig {
    /// Clients drawn for every round, from `least` to `clients`; all by default.
    #[schemars(range(min = 1))]
    pub sample: Option<usize>,
    /// With `sample`: how many times as many clients are drawn, greater than 1. Those who compute fastest
    /// make up the sample, and the work of the others is lost (`[devices]` says how fast they are).
    #[schemars(range(min = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_select: Option<f64>,
    /// Instead: the probability with which each client takes part in a round, independently of the others
    /// (Poisson sampling), greater than 0, at most 1. The sum is then divided by the expected weight, not by
    /// that of those who take part.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Rounds in a row without a sign of life after which a client is left out, until it is heard again; at
    /// least 1. Nobody is left out by default.
    #[schemars(range(min = 1))]
    pub drop_after: Option<u32>,
    /// Instead: the clients of a round are those who have computed next (`[devices]`), as in FedBuff (Nguyen
    /// et al. 2022). Every client's update counts 1/√(1 + s) after s rounds since it took its model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffered: Option<Buffered>,
    /// Fewest clients of a round, at least 1; with fewer the round is an outage. The sum over two clients
    /// shows each the other's update.
    #[schemars(range(min = 1))]
    pub least: usize,
}

impl Default for CohortConfig {
    fn default() -> Self {
        Self { sample: None, over_select: None, rate: None, drop_after: None, buffered: None, least: 3 }
    }
}

impl CohortConfig {
    /// Whether every client takes part in every round.
    #[must_use]
    pub fn is_everybody(&self) -> bool {
        self.sample.is_none() && self.rate.is_none() && self.drop_after.is_none() && self.buffered.is_none()
    }

    /// Checks every value, for a run of `clients` clients who may go on from their own models
    /// (`keeps_local_models`) or not.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    pub fn check(&self, clients: usize, keeps_local_models: bool) -> Result<()> {
        if self.least == 0 {
            return Err(Error::config("least", "0 is too small; give at least 1"));
        }
        match (self.over_select, self.sample) {
            (Some(times), _) if !(times > 1.0 && times.is_finite()) => {
                return Err(Error::config(
                    "over_select",
                    format!("{times} is too small; give a number above 1"),
                ));
            }
            (Some(_), None) => {
                return Err(Error::config(
                    "over_select",
                    "says by how much a sample is exceeded; give sample",
                ));
            }
            (Some(times), Some(sample)) if sample <= clients && self.drawn(clients) > clients => {
                let rule = format!(
                    "{times} times {sample} (`sample`) is more than the {clients} clients; give less"
                );
                return Err(Error::config("over_select", rule));
            }
            _ => {}
        }
        if self.is_everybody() {
            return Ok(());
        }
        if self.least > clients {
            let rule = format!("{} is more than the {clients} clients; give at most as many", self.least);
            return Err(Error::config("least", rule));
        }
        if let Some(sample) = self.sample.filter(|s| !(self.least..=clients).contains(s)) {
            let rule =
                format!("{sample} is out of range; give {} (`least`) to {clients} (`clients`)", self.least);
            return Err(Error::config("sample", rule));
        }
        if let Some(rate) = self.rate.filter(|rate| !(*rate > 0.0 && *rate <= 1.0)) {
            return Err(Error::config("rate", format!("{rate} is outside (0, 1]; give a probability")));
        }
        if self.rate.is_some() && (self.sample.is_some() || self.drop_after.is_some()) {
            let rule = "each client is drawn for itself; remove sample and drop_after";
            return Err(Error::config("rate", rule));
        }
        if let Some(buffered) = &self.buffered {
            if self.sample.is_some() || self.rate.is_some() || self.drop_after.is_some() {
                let rule = "who has computed is in the next round; remove sample, rate and drop_after";
                return Err(Error::config("buffered", rule));
            }
            buffered.check(self.least, clients).map_err(|error| error.within("buffered"))?;
        }
        if self.drop_after == Some(0) {
            return Err(Error::config("drop_after", "0 is too small; give at least 1 or leave it out"));
        }
        if keeps_local_models {
            let rule = "a client that is not in the cohort has nothing to carry on from; take outage.policy = \"skip\" or \
                        \"retry\"";
            return Err(Error::config(self.key(), rule));
        }
        Ok(())
    }

    /// The key that says who takes part.
    fn key(&self) -> &'static str {
        match (self.sample, self.rate, &self.buffered) {
            (Some(_), ..) => "sample",
            (_, Some(_), _) => "rate",
            (.., Some(_)) => "buffered",
            _ => "drop_after",
        }
    }

    /// How many are drawn for a round of `clients` clients where a number of them is.
    fn drawn(&self, clients: usize) -> usize {
        let times = |sample: usize| (self.over_select.unwrap_or(1.0) * sample as f64).ceil() as usize;
        self.sample.map_or(clients, times)
    }

    /// The largest cohort among `clients` clients; of more of them than a round may have, each drawn for
    /// itself, the size that is passed with a probability below 10⁻²⁰.
    #[must_use]
    pub fn most(&self, clients: usize) -> usize {
        if let Some(buffered) = &self.buffered {
            return buffered.size;
        }
        match (self.sample, self.rate) {
            (Some(sample), _) => sample,
            (None, Some(rate)) if clients > COHORT => {
                // Bernstein's inequality: exp(−t²/(2v + 2t/3)) at t = 10√v + 40 is below e⁻⁴⁶ for all v.
                let mean = rate * clients as f64;
                ((mean + 10.0 * (mean * (1.0 - rate)).sqrt() + 40.0).ceil() as usize).min(clients)
            }
            _ => clients,
        }
    }

    /// For what looks at given clients: that the same ones take part in every round.
    ///
    /// # Errors
    /// [`Error::Config`] at `cohort.sample` or `cohort.drop_after`.
    pub fn is_the_same_in_every_round(&self) -> Result<()> {
        if self.is_everybody() {
            return Ok(());
        }
        let key = format!("cohort.{}", self.key());
        let rule = "who takes part differs from round to round, so that only the worst case can be audited; take --erasures worst";
        Err(Error::config(key, rule))
    }

    /// For what looks at one cohort only: that none is drawn.
    ///
    /// # Errors
    /// [`Error::Config`] at `cohort.sample`.
    pub fn is_not_drawn(&self) -> Result<()> {
        let (key, size) = match (self.sample, self.rate, &self.buffered) {
            (None, None, None) => return Ok(()),
            (Some(sample), ..) => ("cohort.sample", sample.to_string()),
            (_, Some(_), _) => ("cohort.rate", "as many as are drawn".into()),
            (.., Some(buffered)) => ("cohort.buffered", buffered.size.to_string()),
        };
        let rule = format!("only training draws cohorts; take clients = {size} and remove {key}");
        Err(Error::config(key, rule))
    }

    /// The cohort of a round among `clients` clients, ascending: drawn from those who missed fewer than
    /// `drop_after` rounds, and with `over_select` larger than it will be. Empty when there are fewer than
    /// `least`.
    #[must_use]
    pub fn members(&self, clients: usize, misses: &[u32], round: u64, seed: Seed) -> Vec<u32> {
        let rng = || seed.child("cohort", round).rng();
        let everybody = 0..clients as u32;
        let sample = self.sample.map(|_| self.drawn(clients));
        let mut members: Vec<u32> = match (self.rate, self.drop_after, sample) {
            (Some(rate), ..) => {
                let mut rng = rng();
                everybody.filter(|_| rng.random::<f64>() < rate).collect()
            }
            (None, Some(n), _) => everybody.filter(|&k| misses[k as usize] < n).collect(),
            // Of a population only those who are drawn are looked at.
            (None, None, Some(sample)) if sample < clients => {
                index::sample(&mut rng(), clients, sample).iter().map(|k| k as u32).collect()
            }
            (None, None, _) => everybody.collect(),
        };
        if let (Some(_), Some(sample)) = (self.drop_after, sample.filter(|&n| n < members.len())) {
            members = index::sample(&mut rng(), members.len(), sample).iter().map(|i| members[i]).collect();
        }
        members.sort_unstable();
        if self.is_everybody() || members.len() >= self.least { members } else { Vec::new() }
    }

    /// The cohort of a round as [`Self::members`] draws it, of those clients only who are there: of more
    /// clients than a hundred for each that is wanted so many are looked at, in a random order. Empty when
    /// there are fewer than `least`.
    #[must_use]
    pub fn present(
        &self,
        clients: usize,
        round: u64,
        seed: Seed,
        is_there: &dyn Fn(u32) -> bool,
    ) -> Vec<u32> {
        let wanted = self.drawn(clients);
        let looked = clients.min(LOOKS.saturating_mul(wanted));
        let order = index::sample(&mut seed.child("cohort", round).rng(), clients, looked);
        let mut members: Vec<u32> =
            order.iter().map(|k| k as u32).filter(|&k| is_there(k)).take(wanted).collect();
        members.sort_unstable();
        if members.len() >= self.least { members } else { Vec::new() }
    }

    /// Counts the rounds in a row in which each client was not heard. Returns the bytes of the signs of life.
    /// Who is silent sends none.
    pub fn listen(&self, misses: &mut [u32], round: u64, links: &dyn LinkModel) -> u64 {
        if self.drop_after.is_none() {
            return 0;
        }
        let bytes = HEADER_BYTES as u64;
        let mut signs = 0;
        for (k, misses) in (0..).zip(misses) {
            let (from, to) = (Node::Client(k), Node::Server);
            let speaks = !links.is_silent(from);
            let link = LinkUse { round, attempt: 0, transfer: SIGN_OF_LIFE, from, to, bytes };
            *misses = if speaks && links.delivers(link) { 0 } else { misses.saturating_add(1) };
            signs += u64::from(speaks);
        }
        bytes * signs
    }
}

/// The links among all clients in a round in which some of them send nothing.
pub struct Silence<'a> {
    /// The links, if everybody used them.
    pub links: &'a dyn LinkModel,
    /// The clients who are silent, ascending.
    pub silent: &'a [u32],
}

impl LinkModel for Silence<'_> {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        !self.is_silent(link.from) && self.links.delivers(link)
    }

    fn erasure(&self, from: Node, to: Node, bytes: u64) -> f64 {
        if self.is_silent(from) { 1.0 } else { self.links.erasure(from, to, bytes) }
    }

    fn is_silent(&self, party: Node) -> bool {
        matches!(party, Node::Client(k) if self.silent.binary_search(&k).is_ok())
    }

    fn seconds(&self, link: LinkUse<Node>) -> Option<f64> {
        self.links.seconds(link)
    }

    fn deadline(&self, from: Node, to: Node) -> Option<f64> {
        self.links.deadline(from, to)
    }

    fn dependence(&self) -> Dependence {
        self.links.dependence()
    }
}

/// The links among the members of a cohort, who are numbered from 0.
pub struct CohortLinks<'a> {
    /// The links among all clients.
    pub links: &'a dyn LinkModel,
    /// The members' numbers among all clients.
    pub members: &'a [u32],
}

impl CohortLinks<'_> {
    fn party(&self, party: Node) -> Node {
        match party {
            Node::Client(k) => Node::Client(self.members[k as usize]),
            other => other,
        }
    }

    fn place(&self, link: LinkUse<Node>) -> LinkUse<Node> {
        LinkUse { from: self.party(link.from), to: self.party(link.to), ..link }
    }
}

impl LinkModel for CohortLinks<'_> {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        self.links.delivers(self.place(link))
    }

    fn erasure(&self, from: Node, to: Node, bytes: u64) -> f64 {
        self.links.erasure(self.party(from), self.party(to), bytes)
    }

    fn is_silent(&self, party: Node) -> bool {
        self.links.is_silent(self.party(party))
    }

    fn seconds(&self, link: LinkUse<Node>) -> Option<f64> {
        self.links.seconds(self.place(link))
    }

    fn deadline(&self, from: Node, to: Node) -> Option<f64> {
        self.links.deadline(self.party(from), self.party(to))
    }

    fn dependence(&self) -> Dependence {
        self.links.dependence()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Client 2 (of 4) is down in rounds 3 to 5.
    struct Down;

    impl LinkModel for Down {
        fn delivers(&self, link: LinkUse<Node>) -> bool {
            !((3..=5).contains(&link.round) && [link.from, link.to].contains(&Node::Client(1)))
        }

        fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
            0.0
        }
    }

    /// Of 2000 draws of 20 clients each is drawn about as often as the rate says, within 5.5 standard errors
    /// (α < 10⁻⁶ for all), and one independently of another.
    #[test]
    fn clients_are_drawn_one_by_one() {
        let config = CohortConfig { rate: Some(0.3), least: 1, ..CohortConfig::default() };
        config.check(20, false).unwrap();
        let (mut counts, mut pairs) = ([0u32; 20], 0u32);
        for round in 0..2000 {
            let members = config.members(20, &[], round, Seed::new(5));
            assert!(members.is_sorted());
            members.iter().for_each(|&k| counts[k as usize] += 1);
            pairs += u32::from(members.contains(&3) && members.contains(&4));
        }
        let near = |count: u32, rate: f64| {
            let (mean, std) = (2000.0 * rate, (2000.0 * rate * (1.0 - rate)).sqrt());
            (f64::from(count) - mean).abs() < 5.5 * std
        };
        assert!(counts.iter().all(|&count| near(count, 0.3)), "{counts:?}");
        assert!(near(pairs, 0.09), "{pairs}");
        let line = |config: CohortConfig| config.check(20, false).unwrap_err().to_string();
        assert_eq!(
            line(CohortConfig { rate: Some(0.0), ..config.clone() }),
            "rate: 0 is outside (0, 1]; give a probability"
        );
        assert_eq!(
            line(CohortConfig { sample: Some(5), ..config.clone() }),
            "rate: each client is drawn for itself; remove sample and drop_after"
        );
        assert_eq!(
            config.is_not_drawn().unwrap_err().to_string(),
            "cohort.rate: only training draws cohorts; take clients = as many as are drawn and remove cohort.rate"
        );
    }

    #[test]
    fn a_silent_client_leaves_after_n_misses_and_comes_back_when_heard() {
        let config = CohortConfig { drop_after: Some(2), ..Default::default() };
        let mut misses = vec![0; 4];
        let mut sizes = Vec::new();
        for round in 1..=8 {
            let members = config.members(4, &misses, round, Seed::new(1));
            sizes.push(members.len());
            assert_eq!(members.contains(&1), members.len() == 4);
            assert_eq!(config.listen(&mut misses, round, &Down), 4 * 26);
        }
        // Missed in 3 and 4, out in 5 and 6, heard in 6, back in 7.
        assert_eq!(sizes, [4, 4, 4, 4, 3, 3, 4, 4]);
        // Who has nothing to send is not heard either, and sends no sign of life.
        let silence = Silence { links: &Down, silent: &[3] };
        assert_eq!((config.listen(&mut misses, 9, &silence), &misses[..]), (3 * 26, &[0, 0, 0, 1][..]));
        let least = CohortConfig { least: 4, ..config };
        assert_eq!(least.members(4, &[0, 2, 0, 0], 1, Seed::new(1)), [] as [u32; 0]);
    }

    #[test]
    fn samples_are_uniform_and_drawn_anew() {
        let config = CohortConfig { sample: Some(3), ..Default::default() };
        let mut counts = [0f64; 10];
        for round in 0..5000 {
            let members = config.members(10, &[], round, Seed::new(2));
            assert!(members.len() == 3 && members.is_sorted());
            members.iter().for_each(|&k| counts[k as usize] += 1.0);
            assert_eq!(members, config.members(10, &[], round, Seed::new(2)));
        }
        // Each is in a sample with probability 0.3; α = 10⁻⁴ for ten comparisons at 4.42 standard errors.
        let error = 4.42 * (5000.0f64 * 0.3 * 0.7).sqrt();
        assert!(counts.iter().all(|n| (n - 1500.0).abs() < error), "{counts:?}");
    }

    /// Those who are there are drawn as if there were no others, and of a population not all are asked.
    #[test]
    fn cohorts_are_drawn_from_those_who_are_there() {
        let config = CohortConfig { sample: Some(3), ..Default::default() };
        let mut counts = [0f64; 10];
        for round in 0..5000 {
            let members = config.present(10, round, Seed::new(2), &|k| k % 2 == 1);
            assert!(members.len() == 3 && members.is_sorted());
            members.iter().for_each(|&k| counts[k as usize] += 1.0);
        }
        // Each of five is in a sample with probability 0.6; α = 10⁻⁴ as above, at 4.27 standard errors.
        let error = 4.27 * (5000.0f64 * 0.6 * 0.4).sqrt();
        assert!((0..10).all(|k| if k % 2 == 1 {
            (counts[k] - 3000.0).abs() < error
        } else {
            counts[k] == 0.0
        }));
        assert_eq!(config.present(10, 1, Seed::new(2), &|k| k < 2), [] as [u32; 0]);
        let asked = std::cell::Cell::new(0);
        let nobody = |_| {
            asked.set(asked.get() + 1);
            false
        };
        assert_eq!(config.present(10_000_000, 1, Seed::new(2), &nobody), [] as [u32; 0]);
        assert_eq!(asked.get(), 3 * LOOKS);
        let everybody = CohortConfig::default().present(5, 1, Seed::new(2), &|k| k != 2);
        assert_eq!(everybody, [0, 1, 3, 4]);
    }

    #[test]
    fn members_use_their_own_links() {
        let links = CohortLinks { links: &crate::network::Perfect, members: &[2, 5] };
        assert_eq!(links.party(Node::Client(1)), Node::Client(5));
    }
}
