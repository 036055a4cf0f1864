//! Links that lose what a test says, among clients and the server.

use seccogc::network::{LinkModel, LinkUse, Node};

/// Links that lose exactly the messages whose bit is set, in every attempt: bit (sender · (M+1) + receiver),
/// the server being receiver M.
pub struct Scripted {
    pub clients: usize,
    pub lost: u64,
}

impl Scripted {
    pub fn bit(&self, from: usize, to: usize) -> u64 {
        1 << (from * (self.clients + 1) + to)
    }

    pub fn loses(&self, from: usize, to: usize) -> bool {
        self.lost & self.bit(from, to) != 0
    }
}

impl LinkModel for Scripted {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        let Node::Client(from) = link.from else { return true };
        let to = match link.to {
            Node::Client(to) => to as usize,
            Node::Helper(_) => return true,
            Node::Server => self.clients,
        };
        !self.loses(from as usize, to)
    }

    fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
        0.5
    }
}
