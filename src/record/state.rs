//! The state of a run between two rounds, by who keeps it.

use super::flights::Flights;
use crate::algebra::is_finite;
use crate::release::Ledger;

/// The state of a run after a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Rounds done.
    pub round: u64,
    /// What the server steps with.
    pub server: ServerState,
    /// Who is heard, who computes, and what time it is.
    pub presence: Presence,
    /// What clients keep of their own.
    pub clients: ClientStates,
    /// What the rounds have cost each client of its privacy ([`crate::release`]); empty where that is not
    /// charged.
    pub ledger: Ledger,
}

/// What the server steps with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerState {
    /// The global model, d parameters.
    pub parameters: Vec<f32>,
    /// The control vector ([`crate::learn::solver`]), d numbers; empty for solvers without.
    pub control: Vec<f32>,
    /// The vectors of the optimiser ([`crate::server_rule`]).
    pub moments: Vec<Vec<f32>>,
    /// What a rule of participation remembers of each client; empty without one.
    pub memory: Vec<Vec<f32>>,
    /// What was not taken yet of compressed updates ([`crate::compress`]); empty where nothing is kept.
    pub residual: Vec<f32>,
    /// The clip of the next round, where it moves ([`crate::release::Clipping`]).
    pub clip: Option<f64>,
}

/// Who is heard, who computes, and what time it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Presence {
    /// Rounds in a row in which each client was not heard ([`crate::cohort`]); empty for fixed cohorts.
    pub misses: Vec<u32>,
    /// Simulated seconds that have passed.
    pub seconds: f64,
    /// Who computes on the model of which round, under buffered aggregation.
    pub flights: Flights,
}

/// What clients keep of their own, by client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientStates {
    /// Under the policies `accumulate`, `postpone` and `echo` each client's local model − global model; empty
    /// where all are the same.
    pub carried: Vec<Vec<f32>>,
    /// Control vectors, d numbers each, or none where it is still zero; empty for solvers without.
    pub controls: Vec<Vec<f32>>,
    /// The models from which those train who missed the global one, d parameters, empty for a client that has
    /// it; empty where it always arrives.
    pub received: Vec<Vec<f32>>,
    /// What was not carried of each one's updates, d numbers; empty where they keep nothing.
    pub residuals: Vec<Vec<f32>>,
}

/// What a round may move before it can still diverge.
pub(crate) struct Before {
    round: u64,
    /// What the server stepped with.
    pub server: ServerState,
    presence: Presence,
}

pub(super) fn lengths(vectors: &[Vec<f32>]) -> Vec<usize> {
    vectors.iter().map(Vec::len).collect()
}

impl State {
    /// Whether both have the same vectors, those aside that come and go: carried ones, and models of clients
    /// who missed the last.
    #[must_use]
    pub fn same_shape(&self, other: &Self) -> bool {
        let shape = |state: &Self| {
            let Self { server, presence, clients, ledger, .. } = state;
            let moves = usize::from(server.clip.is_some());
            let own = [server.parameters.len(), server.control.len(), server.residual.len(), moves];
            let each =
                [presence.misses.len(), clients.controls.len(), clients.residuals.len(), ledger.clients()];
            [[own, each].concat(), lengths(&server.moments), lengths(&server.memory)]
        };
        shape(self) == shape(other)
    }

    /// A copy of what [`State::rewind`] takes back.
    pub(crate) fn before(&self) -> Before {
        Before { round: self.round, server: self.server.clone(), presence: self.presence.clone() }
    }

    /// Undoes a round that diverged. What clients keep moves only when nothing can diverge any more, and what
    /// they have paid stays: what was told cannot be taken back.
    pub(crate) fn rewind(&mut self, before: Before) {
        let Before { round, server, presence } = before;
        (self.round, self.server, self.presence) = (round, server, presence);
    }

    /// The model from which client `k` trains, d parameters: the global one, or an older one where that did
    /// not arrive, or came while the client computed.
    #[must_use]
    pub fn model_of(&self, k: usize) -> &[f32] {
        let received = self.clients.received.get(k).filter(|own| !own.is_empty());
        received.or_else(|| self.presence.flights.model_of(k)).unwrap_or(&self.server.parameters)
    }
}

impl ServerState {
    /// Whether all that the server steps with is finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        let vectors = [&self.parameters, &self.control];
        vectors.into_iter().chain(&self.moments).all(|vector| is_finite(vector))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::{Adversary, Cost};

    fn server(x: f32) -> ServerState {
        ServerState { parameters: vec![x; 3], moments: vec![vec![x; 3]], ..ServerState::default() }
    }

    #[test]
    fn what_diverged_is_undone_and_what_was_told_is_not() {
        let presence = Presence { misses: vec![0, 9], seconds: 0.5, ..Presence::default() };
        let mut state =
            State { round: 7, server: server(1.0), presence, ledger: Ledger::new(2), ..State::default() };
        let (was, before) = (state.clone(), state.before());
        state.round = 8;
        state.server = server(f32::NAN);
        state.presence.misses[0] = 1;
        state.presence.seconds = 2.0;
        state.ledger.charge(1, Adversary::Server, Cost::Gaussian(1.0));
        let paid = state.ledger.clone();
        state.rewind(before);
        assert_eq!(state, State { ledger: paid, ..was });
    }

    #[test]
    fn shapes_are_of_what_always_exists() {
        let state = State { server: server(1.0), ..State::default() };
        let other = |change: fn(&mut State)| {
            let mut other = state.clone();
            change(&mut other);
            other
        };
        assert!(state.same_shape(&other(|state| state.clients.carried = vec![vec![1.0; 3]])));
        assert!(state.same_shape(&other(|state| state.clients.received = vec![vec![1.0; 3]])));
        assert!(!state.same_shape(&other(|state| state.server.moments.clear())));
        assert!(!state.same_shape(&other(|state| state.server.memory = vec![vec![1.0]])));
        assert!(!state.same_shape(&other(|state| state.server.residual = vec![1.0])));
        assert!(!state.same_shape(&other(|state| state.server.clip = Some(1.0))));
        assert!(!state.same_shape(&other(|state| state.clients.residuals = vec![Vec::new()])));
        assert!(!state.same_shape(&other(|state| state.presence.misses = vec![0])));
    }

    #[test]
    fn no_vector_of_the_server_may_be_infinite() {
        let with = |change: fn(&mut ServerState)| {
            let mut server = server(1.0);
            change(&mut server);
            server.is_finite()
        };
        assert!(with(|_| {}));
        assert!(!with(|server| server.parameters[1] = f32::NAN));
        assert!(!with(|server| server.control = vec![f32::INFINITY]));
        assert!(!with(|server| server.moments[0][2] = f32::NEG_INFINITY));
    }
}
