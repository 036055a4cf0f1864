//! Links between clients that work both ways or not at all.

use super::{Dependence, LinkModel, LinkUse};
use crate::error::{Error, Result};
use crate::message::{COHORT, Node};

/// `links` between clients, of which both directions of a pair meet the fate of the first of them: from the
/// client with the smaller number to the other.
///
/// # Errors
/// Probabilities that depend on the direction, at the key `reciprocal`.
pub(super) fn both_ways(links: Box<dyn LinkModel>, clients: usize) -> Result<Box<dyn LinkModel>> {
    if clients > COHORT {
        let rule = format!(
            "whether links are the same both ways is looked up pair by pair, which {clients} clients take too long for; give at \
             most {COHORT}, or false"
        );
        return Err(Error::config("reciprocal", rule));
    }
    let client = |k: usize| Node::Client(k as u32);
    for k in 0..clients {
        for m in k + 1..clients {
            let [there, back] = [(k, m), (m, k)].map(|(a, b)| links.erasure(client(a), client(b), 0));
            if there != back {
                let rule = format!(
                    "client {} loses {there} of its messages to client {}, and {back} are lost the other way; make \
                     client_client the same both ways",
                    k + 1,
                    m + 1
                );
                return Err(Error::config("reciprocal", rule));
            }
        }
    }
    Ok(Box::new(BothWays(links)))
}

struct BothWays(Box<dyn LinkModel>);

/// The direction that decides.
fn first(from: Node, to: Node) -> (Node, Node) {
    if from.code() <= to.code() { (from, to) } else { (to, from) }
}

fn place(link: LinkUse<Node>) -> LinkUse<Node> {
    let (from, to) = first(link.from, link.to);
    LinkUse { from, to, ..link }
}

impl LinkModel for BothWays {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        self.0.delivers(place(link))
    }

    fn erasure(&self, from: Node, to: Node, bytes: u64) -> f64 {
        let (from, to) = first(from, to);
        self.0.erasure(from, to, bytes)
    }

    fn is_silent(&self, party: Node) -> bool {
        self.0.is_silent(party)
    }

    fn seconds(&self, link: LinkUse<Node>) -> Option<f64> {
        self.0.seconds(place(link))
    }

    fn deadline(&self, from: Node, to: Node) -> Option<f64> {
        let (from, to) = first(from, to);
        self.0.deadline(from, to)
    }

    fn combines(&self) -> bool {
        self.0.combines()
    }

    fn dependence(&self) -> Dependence {
        Dependence::Links
    }
}

#[cfg(test)]
mod tests {
    use crate::message::{LinkUse, Node};
    use crate::network::bernoulli::Bernoulli;
    use crate::network::values::PerLink;
    use crate::network::{Dependence, LinkConfig, LinkModel, NetworkConfig};
    use crate::seed::Seed;

    fn network(erasure: PerLink) -> NetworkConfig {
        let client_client = LinkConfig::Bernoulli(Bernoulli { erasure });
        NetworkConfig { client_client, reciprocal: true, ..NetworkConfig::default() }
    }

    #[test]
    fn a_pair_loses_both_messages_of_a_step_or_none() {
        let links = network(PerLink::Same(0.3)).build(3, 2000, Seed::new(1)).unwrap();
        let client = Node::Client;
        let sent =
            |round, from, to| links.delivers(LinkUse { round, attempt: 0, transfer: 0, from, to, bytes: 40 });
        let mut lost = 0;
        for round in 1..=2000 {
            assert_eq!(sent(round, client(0), client(1)), sent(round, client(1), client(0)));
            lost += u32::from(!sent(round, client(0), client(1)));
        }
        // 600 ± 5 standard deviations: α < 10⁻⁶.
        assert!((500..=700).contains(&lost), "{lost}");
        let uploads = (1..=500).map(|round| sent(round, client(0), Node::Server)).filter(|ok| *ok);
        assert_eq!(uploads.count(), 500, "uploads have links of their own");
        assert_eq!(links.dependence(), Dependence::Links);
    }

    #[test]
    fn directions_that_differ_are_refused() {
        let rows = vec![vec![0.0, 0.1, 0.2], vec![0.1, 0.0, 0.3], vec![0.2, 0.4, 0.0]];
        let error = network(PerLink::Rows(rows)).build(3, 1, Seed::new(1)).err().unwrap().to_string();
        assert!(error.contains("reciprocal") && error.contains("client 2 loses 0.4"), "{error}");
    }
}
