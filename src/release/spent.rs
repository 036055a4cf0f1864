//! What clients have paid.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Adjacency, Adversary, Charge};
use crate::error::count;
use crate::privacy::ldp;

/// What all rounds so far tell about one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Σ μ² of the rounds with Gaussian noise; kept as its bits, lest a run that goes on pays another sum.
    #[serde(with = "bits")]
    mu_squared: f64,
}

mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(value.to_bits())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        u64::deserialize(from).map(f64::from_bits)
    }
}

impl Spent {
    /// With a further round that is μ-Gaussian-differentially private.
    #[must_use]
    pub fn and(self, mu: f64) -> Self {
        Self { mu_squared: self.mu_squared + mu * mu }
    }

    /// The least ε that is known for this δ; 0 before the first round, infinite where everything was told.
    #[must_use]
    pub fn epsilon(&self, delta: f64) -> f64 {
        ldp::epsilon(self.mu_squared.sqrt(), delta)
    }
}

/// What every client has paid, by adversary; empty where nothing is charged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    server: Vec<Spent>,
    observer: Vec<Spent>,
}

impl Ledger {
    /// Of so many clients, before the first round.
    #[must_use]
    pub fn new(clients: usize) -> Self {
        Self { server: vec![Spent::default(); clients], observer: vec![Spent::default(); clients] }
    }

    /// Number of clients.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.server.len()
    }

    /// Charges these clients for a round.
    pub fn charge(&mut self, clients: &[u16], charges: &[Charge]) {
        for (&k, charge) in clients.iter().zip(charges) {
            let k = usize::from(k);
            self.server[k] = self.server[k].and(charge.server);
            self.observer[k] = self.observer[k].and(charge.observer);
        }
    }

    /// ε of the client who paid the most.
    #[must_use]
    pub fn epsilon(&self, adversary: Adversary, delta: f64) -> f64 {
        self.after(adversary, 0.0, delta)
    }

    /// The same if every client paid `mu` more.
    #[must_use]
    pub fn after(&self, adversary: Adversary, mu: f64, delta: f64) -> f64 {
        let most = self
            .of(adversary)
            .iter()
            .copied()
            .reduce(|a, b| if a.mu_squared >= b.mu_squared { a } else { b });
        most.unwrap_or_default().and(mu).epsilon(delta)
    }

    /// What each client has paid.
    #[must_use]
    pub fn of(&self, adversary: Adversary) -> &[Spent] {
        match adversary {
            Adversary::Server => &self.server,
            Adversary::Observer => &self.observer,
        }
    }
}

/// What a run promises in the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// ε against the server with its colluders; absent where the server is trusted or everything was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<f64>,
    /// ε against who sees all models; absent where everything was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<f64>,
    /// δ of both.
    pub delta: f64,
    /// Which runs are neighbours.
    pub adjacency: Adjacency,
    /// Clients T who collude with the server.
    pub colluders: usize,
    /// z.
    pub noise_multiplier: f64,
    /// The budget that a further round might have exceeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<f64>,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, observer, delta, adjacency, colluders, .. } = self;
        let number =
            |epsilon: &Option<f64>| epsilon.map_or_else(|| "∞".into(), |epsilon| format!("{epsilon:.3}"));
        let with = match colluders {
            0 => String::new(),
            _ => format!(" with {}", count(*colluders as u64, "client")),
        };
        write!(
            f,
            "released with ε = {} against the server{with}, {} against who sees the models",
            number(server),
            number(observer)
        )?;
        write!(f, " (δ = {delta:e}, {}, per client)", adjacency.name())?;
        self.spent.map_or(Ok(()), |budget| write!(f, "; another round might exceed the budget of {budget}"))
    }
}
