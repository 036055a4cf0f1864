//! Links from the server to the clients: a law of message loss that is made for uploads, the other way round.

use super::LinkModel;
use crate::message::{LinkUse, Node};

/// The links on which the server sends, of a model for links from the clients.
pub(super) struct Downlink(pub Box<dyn LinkModel>);

fn place(link: LinkUse<Node>) -> LinkUse<Node> {
    LinkUse { from: link.to, to: link.from, ..link }
}

impl LinkModel for Downlink {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        self.0.delivers(place(link))
    }

    fn erasure(&self, from: Node, to: Node, bytes: u64) -> f64 {
        self.0.erasure(to, from, bytes)
    }

    fn seconds(&self, link: LinkUse<Node>) -> Option<f64> {
        self.0.seconds(place(link))
    }

    fn deadline(&self, from: Node, to: Node) -> Option<f64> {
        self.0.deadline(to, from)
    }
}

#[cfg(test)]
mod tests {
    use crate::message::{LinkUse, Node};
    use crate::network::{LinkModel, NetworkConfig};
    use crate::seed::Seed;

    #[test]
    fn each_client_has_a_loss_of_its_own_and_other_links_go_on_as_they_were() {
        let build = |text: &str| {
            let config: NetworkConfig = toml::from_str(text).unwrap();
            config.build(3, 2000, Seed::new(1)).unwrap()
        };
        let losing =
            build("client_server = { erasure = 0.5 }\nserver_client = { erasure = [0.0, 0.3, 1.0] }");
        let whole = build("client_server = { erasure = 0.5 }");
        assert!(whole.downlinks().is_none());
        let down = losing.downlinks().unwrap();
        let (server, client) = (Node::Server, Node::Client);
        let sent = |round, from, to| LinkUse { round, attempt: 0, transfer: 0, from, to, bytes: 40 };
        let mut arrived = [0; 3];
        for round in 1..=2000 {
            for (k, arrived) in (0..).zip(&mut arrived) {
                *arrived += u32::from(down.delivers(sent(round, server, client(k))));
                // What the server tells within a round always arrives.
                assert!(losing.delivers(sent(round, server, client(k))));
                let up = sent(round, client(k), server);
                assert_eq!(losing.delivers(up), whole.delivers(up));
            }
        }
        // 1400 ± 5 standard deviations: α < 10⁻⁶.
        assert!(arrived[0] == 2000 && arrived[1].abs_diff(1400) < 103 && arrived[2] == 0, "{arrived:?}");
        assert_eq!(down.erasure(server, client(1), 40), 0.3);
    }

    #[test]
    fn what_sits_out_needs_links_on_which_something_is_missed() {
        let config: NetworkConfig = toml::from_str("missed_model = 'sit-out'").unwrap();
        let line = config.build(3, 1, Seed::new(1)).err().unwrap().to_string();
        assert!(line.starts_with("missed_model: ") && line.contains("server_client"), "{line}");
        let config: NetworkConfig = toml::from_str("server_client = { erasure = [0.1, 0.2] }").unwrap();
        let line = config.build(3, 1, Seed::new(1)).err().unwrap().to_string();
        assert!(line.starts_with("server_client.erasure: "), "{line}");
    }
}
