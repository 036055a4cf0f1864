//! Links of one's own: satellites that pass over the server in turns.

use seccogc::config::Config;
use seccogc::message::LinkUse;
use seccogc::network::{LinkModel, Node};
use seccogc::train::Experiment;

/// Client k is out of sight of the server in every round that it shares with k modulo `orbit`.
struct Orbits {
    orbit: u64,
}

impl LinkModel for Orbits {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        match (link.from, link.to) {
            (Node::Client(k), Node::Server) => link.round % self.orbit != u64::from(k) % self.orbit,
            _ => true,
        }
    }

    fn erasure(&self, from: Node, to: Node, _bytes: u64) -> f64 {
        match (from, to) {
            (Node::Client(_), Node::Server) => 1.0 / self.orbit as f64,
            _ => 0.0,
        }
    }
}

pub fn main() -> seccogc::Result<()> {
    let config = Config { rounds: 6, ..Config::default() };
    let setting = Experiment::new(config).links(Orbits { orbit: 3 }).build()?;
    for row in setting.run(&setting.config().protocol)?.rounds() {
        let row = row?;
        println!("round {}: {:?} from {} uploads", row.round, row.outcome, row.arrivals);
        // Of ten clients four are out of sight in every third round, and three in the others.
        assert_eq!(row.arrivals, if row.round % 3 == 0 { 6 } else { 7 });
    }
    Ok(())
}
