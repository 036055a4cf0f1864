//! What the parties of a scheme without keys hold before a round.

use super::Secret;

/// No key.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    /// A client.
    Client,
    /// The server, and the length d of an update.
    Server(usize),
}

impl Key {
    /// Those of a round among `clients` clients, the server's last.
    pub(super) fn deal(clients: usize, len: usize) -> Vec<Self> {
        (0..clients).map(|_| Self::Client).chain([Self::Server(len)]).collect()
    }
}

impl<S> Secret<S> for Key {
    fn held(&self) -> Vec<&[S]> {
        Vec::new()
    }
}
