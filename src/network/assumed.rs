//! What a scheme takes the losses of the links for: some schemes weigh what arrives by how likely it was to
//! arrive, and are as right as what they know.

use serde::{Deserialize, Serialize};

use super::values::{PROBABILITY, PerLink};
use super::{Dependence, LinkModel, Network, Shape};
use crate::error::{Error, Result};
use crate::message::{LinkUse, Node};

/// Rounds before a run at most.
const MOST_ROUNDS: u64 = 1_000_000;

/// The loss probabilities that a scheme is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Assumed {
    /// Loss probability between clients, each in [0, 1]: one number, a list with one per sender, or a list of
    /// rows, one per receiver, with a number per sender. Those of the configured network by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_client: Option<PerLink>,
    /// Loss probability of uploads, each in [0, 1]: one number, or a list with one per client. Those of the
    /// configured network by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_server: Option<PerLink>,
    /// Whether two clients are taken to hear each other both ways or not at all; as `network.reciprocal` by
    /// default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reciprocal: Option<bool>,
    /// By how much the loss probabilities of the network are taken for larger than they are, up to 1; at
    /// least 0. 1 for what they are.
    #[schemars(range(min = 0.0))]
    pub factor: f64,
    /// Rounds before the run, 1 to 1000000, in which losses are counted, as a source of probabilities instead
    /// of the network's own.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_rounds: Option<u64>,
}

impl Default for Assumed {
    fn default() -> Self {
        Self { client_client: None, client_server: None, reciprocal: None, factor: 1.0, counted_rounds: None }
    }
}

/// How likely messages are to arrive, as a scheme knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// p_km, by sender k and receiver m, with p_kk = 1.
    pub between: Vec<Vec<f64>>,
    /// p_k of uploads.
    pub up: Vec<f64>,
    /// Whether p_km is also the probability that both directions arrive; else they are independent.
    pub reciprocal: bool,
}

impl Assumed {
    /// The rounds before the run that `network` is asked for; `None` where none are counted.
    ///
    /// # Errors
    /// A number out of its range.
    pub fn rounds(&self) -> Result<Option<u64>> {
        match self.counted_rounds {
            Some(rounds) if !(1..=MOST_ROUNDS).contains(&rounds) => {
                let rule = format!("{rounds} is out of range; give 1 to {MOST_ROUNDS}, or leave it out");
                Err(Error::config("counted_rounds", rule))
            }
            rounds => Ok(rounds),
        }
    }

    /// The same with all that it takes from the network written out, for messages of `bytes` bytes.
    ///
    /// # Errors
    /// Numbers out of their range; losses of different links that depend on each other.
    pub fn over(&self, network: &Network, clients: usize, bytes: u64) -> Result<Self> {
        if !(self.factor >= 0.0 && self.factor.is_finite()) {
            let rule = format!("{} is no factor; give a finite number from 0 on", self.factor);
            return Err(Error::config("factor", rule));
        }
        let rounds = self.rounds()?;
        let asks = self.client_client.is_none() || self.client_server.is_none();
        if asks && network.dependence_one_way() == Dependence::Links {
            let rule = "links of this network fail together, and the scheme's weights are for links that do not; give \
                        client_client and client_server to use it all the same";
            return Err(Error::config("client_client", rule));
        }
        let client = |k: usize| Node::Client(k as u32);
        let lost = |from, to| {
            let loss = match rounds {
                None => network.erasure(from, to, bytes),
                Some(rounds) => {
                    let arrives = |&round: &u64| {
                        network.delivers(LinkUse { round, attempt: 0, transfer: 0, from, to, bytes })
                    };
                    1.0 - (1..=rounds).filter(arrives).count() as f64 / rounds as f64
                }
            };
            (self.factor * loss).min(1.0)
        };
        let between = || {
            let row = |m: usize| {
                (0..clients).map(|k| if k == m { 0.0 } else { lost(client(k), client(m)) }).collect()
            };
            PerLink::Rows((0..clients).map(row).collect())
        };
        let up = || PerLink::PerClient((0..clients).map(|k| lost(client(k), Node::Server)).collect());
        Ok(Self {
            client_client: Some(self.client_client.clone().unwrap_or_else(between)),
            client_server: Some(self.client_server.clone().unwrap_or_else(up)),
            reciprocal: Some(self.reciprocal.unwrap_or(network.is_reciprocal())),
            factor: 1.0,
            counted_rounds: None,
        })
    }

    /// The probabilities of arrival among `clients` clients.
    ///
    /// # Errors
    /// Numbers out of their range, lists of another length; what only a network tells
    /// ([`Assumed::over`]).
    pub fn delivery(&self, clients: usize) -> Result<Delivery> {
        let unknown = |key| Error::config(key, "is not known without a network; give it");
        let between = self.client_client.as_ref().ok_or_else(|| unknown("client_client"))?;
        let up = self.client_server.as_ref().ok_or_else(|| unknown("client_server"))?;
        let between = between.load_inline("client_client", PROBABILITY, clients, Shape::Mesh)?;
        let up = up.load_inline("client_server", PROBABILITY, clients, Shape::Star)?;
        let arrives = |k: usize, m: usize| match k == m {
            true => 1.0,
            false => 1.0 - between.at(Node::Client(k as u32), Node::Client(m as u32)),
        };
        let delivery = Delivery {
            between: (0..clients).map(|k| (0..clients).map(|m| arrives(k, m)).collect()).collect(),
            up: (0..clients).map(|k| 1.0 - up.of(k as u32)).collect(),
            reciprocal: self.reciprocal.unwrap_or(false),
        };
        let differs =
            |k: usize, m: usize| delivery.reciprocal && delivery.between[k][m] != delivery.between[m][k];
        if (0..clients).any(|k| (0..k).any(|m| differs(k, m))) {
            let rule = "two clients that hear each other both ways or not at all have one probability; make \
                        client_client the same both ways";
            return Err(Error::config("reciprocal", rule));
        }
        Ok(delivery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::bernoulli::Bernoulli;
    use crate::network::client_outage::ClientOutage;
    use crate::network::{LinkConfig, NetworkConfig};
    use crate::seed::Seed;

    fn bernoulli(erasure: PerLink) -> LinkConfig {
        LinkConfig::Bernoulli(Bernoulli { erasure })
    }

    fn network() -> Network {
        let rows = vec![vec![0.0, 0.1, 0.2], vec![0.3, 0.0, 0.4], vec![0.5, 0.6, 0.0]];
        let config = NetworkConfig {
            client_client: bernoulli(PerLink::Rows(rows)),
            client_server: bernoulli(PerLink::PerClient(vec![0.1, 0.5, 0.9])),
            ..NetworkConfig::default()
        };
        config.build(3, 4000, Seed::new(7)).unwrap()
    }

    #[test]
    fn what_is_assumed_is_what_the_network_says_unless_told_otherwise() {
        let exact = Assumed::default().over(&network(), 3, 100).unwrap().delivery(3).unwrap();
        // Rows of the configuration are receivers.
        assert_eq!(exact.between, [[1.0, 0.7, 0.5], [0.9, 1.0, 0.4], [0.8, 0.6, 1.0]]);
        assert_eq!(exact.up, [0.9, 0.5, 1.0 - 0.9]);
        assert!(!exact.reciprocal);
        let worse = Assumed { factor: 2.0, ..Assumed::default() };
        let worse = worse.over(&network(), 3, 100).unwrap().delivery(3).unwrap();
        assert_eq!(worse.up, [0.8, 0.0, 0.0], "twice 0.9 is 1");
        assert_eq!(worse.between[2][0], 1.0 - 2.0 * 0.2);
        let own = Assumed { client_server: Some(PerLink::Same(0.25)), ..Assumed::default() };
        assert_eq!(own.over(&network(), 3, 100).unwrap().delivery(3).unwrap().up, [0.75; 3]);
    }

    #[test]
    fn counted_losses_come_near_the_truth() {
        let assumed = Assumed { counted_rounds: Some(4000), ..Assumed::default() };
        let counted = assumed.over(&network(), 3, 100).unwrap().delivery(3).unwrap();
        // Five standard deviations of 4000 draws: α < 10⁻⁵ for all of them.
        for (got, want) in counted.up.iter().zip([0.9, 0.5, 0.1]) {
            assert!((got - want).abs() < 0.04, "{got} for {want}");
        }
        assert!((counted.between[0][2] - 0.5).abs() < 0.04, "{counted:?}");
        assert_ne!(counted.between[0][2], 0.5);
    }

    #[test]
    fn what_cannot_be_known_is_refused() {
        let error = Assumed::default().delivery(3).unwrap_err().to_string();
        assert!(error.contains("client_client") && error.contains("network"), "{error}");
        let bad = Assumed { factor: f64::NAN, ..Assumed::default() };
        assert!(bad.over(&network(), 3, 100).unwrap_err().to_string().contains("factor"));
        let none = Assumed { counted_rounds: Some(0), ..Assumed::default() };
        assert!(none.over(&network(), 3, 100).unwrap_err().to_string().contains("counted_rounds"));
        let together = NetworkConfig {
            client_server: LinkConfig::ClientOutage(ClientOutage::default()),
            ..NetworkConfig::default()
        };
        let together = together.build(3, 10, Seed::new(1)).unwrap();
        let error = Assumed::default().over(&together, 3, 100).unwrap_err().to_string();
        assert!(error.contains("fail together"), "{error}");
        let told = Assumed {
            client_client: Some(PerLink::Same(0.1)),
            client_server: Some(PerLink::Same(0.2)),
            ..Assumed::default()
        };
        assert!(told.over(&together, 3, 100).is_ok());
        let file = Assumed { client_client: Some(PerLink::Matrix("x.csv".into())), ..told };
        assert!(file.delivery(3).unwrap_err().to_string().contains("not a file"));
    }
}
