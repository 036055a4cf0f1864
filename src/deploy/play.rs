//! The exchange of a round, phase by phase, as the scheme declares it
//! ([`crate::protocol::Protocol::phases`]).
//!
//! Both sides step their party through all phases. What a party sends it puts on its shelf, under a key with
//! round and phase, or says there why it sends nothing; whom it waits for, it pulls until the phase's
//! deadline ([`deadlines`]) and goes on when all is there. What did not come is lost.
//!
//! | phase | on whose shelf | who pulls |
//! |---|---|---|
//! | among clients | the sender's, sealed | whoever waits for it, until the server has decoded |
//! | to the server | the sender's | the server: everybody's, or of those to whom it spoke last |
//! | of the server | the server's | every client; those to whom it does not speak are told so |
//!
//! Where the server tells its clients a list of themselves, they vote on it before they go on ([`vote`]):
//! whoever is on it puts a ballot beside what it sends the server, and the server puts all that came where it
//! put the list.
//!
//! [`vote`]: super::vote

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use zenoh::Session;

use super::hub::Hub;
use super::message::{DIVERGED, DONE, from_json, to_json, told};
use super::roster::Member;
use super::shelf::Shelf;
use super::statement::{Authority, Signer};
use super::transport::{Pulled, ROOT, pull};
use super::vote::{BALLOT, Ballot, Electorate, quorum};
use crate::config::DeployConfig;
use crate::crypto::TAG_BYTES;
use crate::message::{Expects, Phase, Role};
use crate::party::agreement::Secrets;
use crate::party::seat::{Letter, Scheme, Seat};
use crate::protocol::PartyId;

/// Where client `name` puts what it sends client `to`.
fn share_key(name: &str, round: u64, phase: usize, to: &str) -> String {
    format!("{ROOT}/client/{name}/share/{round}/{phase}/{to}")
}

/// Where client `name` puts what it sends the server.
fn sum_key(name: &str, round: u64, phase: usize) -> String {
    format!("{ROOT}/client/{name}/sum/{round}/{phase}")
}

/// Where the server puts what it tells client `name`.
fn relay_key(name: &str, round: u64, phase: usize) -> String {
    format!("{ROOT}/server/{name}/relay/{round}/{phase}")
}

/// Where client `name` puts its ballot.
fn ballot_key(name: &str, round: u64, phase: usize) -> String {
    format!("{}/ballot", sum_key(name, round, phase))
}

/// Where the server puts everybody's ballots for client `name`.
fn ballots_key(name: &str, round: u64, phase: usize) -> String {
    format!("{}/ballots", relay_key(name, round, phase))
}

/// When what is sent in each phase must be there, counted from the announcement of the round: what clients
/// send first by `share_deadline`, what they send last by `upload_deadline`, what they send in between, their
/// ballots too, at equal intervals; and what the server tells them by the deadline of what they send next.
pub(super) fn deadlines(phases: &[Phase], start: Instant, config: &DeployConfig) -> Vec<Instant> {
    let sends = |phase: &&Phase| phase.from == Role::Client || phase.is_list;
    let of_clients = |phases: &[Phase]| phases.iter().filter(sends).count();
    let last = of_clients(phases).saturating_sub(1);
    let between = config.upload_deadline - config.share_deadline;
    let deadline = |phase| {
        let sent = of_clients(&phases[..phase]).min(last);
        let share = if last == 0 { 1.0 } else { sent as f64 / last as f64 };
        start + Duration::from_secs_f64(config.share_deadline + share * between)
    };
    (0..phases.len()).map(deadline).collect()
}

/// A round as everybody in it sees it.
pub(super) struct Round<'a> {
    pub session: &'a Session,
    pub scheme: &'a dyn Scheme,
    pub number: u64,
    pub members: &'a [Member],
    pub electorate: &'a Electorate,
    /// Coordinates of an update.
    pub len: usize,
    pub deadlines: Vec<Instant>,
}

impl Round<'_> {
    fn phases(&self) -> impl Iterator<Item = (usize, &Phase)> {
        self.scheme.phases().iter().enumerate()
    }

    fn name(&self, client: u16) -> &str {
        &self.members[usize::from(client)].name
    }

    /// Pulls what the clients `from` hold for somebody at `key`, all at once, and hands over what became of
    /// it in the order in which it is there, until the deadline or until `stop` is raised.
    fn gather(
        &self,
        phase: usize,
        from: &[u16],
        most: usize,
        key: impl Fn(&str) -> String + Sync,
        stop: &AtomicBool,
        mut take: impl FnMut(u16, Pulled),
    ) {
        let (send, receive) = mpsc::channel();
        std::thread::scope(|scope| {
            for &k in from {
                let (send, key) = (send.clone(), key(self.name(k)));
                scope.spawn(move || {
                    drop(send.send((k, pull(self.session, &key, most, self.deadlines[phase], stop))));
                });
            }
            drop(send);
            receive.into_iter().for_each(|(k, pulled)| take(k, pulled));
            stop.store(true, Ordering::Relaxed);
        });
    }
}

/// What a client does in a round.
pub(super) struct OfClient<'a> {
    pub round: Round<'a>,
    pub shelf: &'a Shelf,
    pub signer: &'a Signer,
    pub authority: &'a Authority,
    /// Its place among the members.
    pub own: u16,
}

impl OfClient<'_> {
    fn name(&self) -> &str {
        self.round.name(self.own)
    }

    /// Tells everybody why there is nothing of this client in this round, beside what it has sent already.
    pub fn is_silent(&self, reason: &'static str) {
        let Round { number: round, members, .. } = self.round;
        for (i, phase) in self.round.phases() {
            match (phase.from, phase.to) {
                (Role::Client, Role::Client) => {
                    for member in members {
                        self.shelf.put_nothing(share_key(self.name(), round, i, &member.name), reason);
                    }
                }
                (Role::Client, _) => self.shelf.put_nothing(sum_key(self.name(), round, i), reason),
                _ if phase.is_list => self.shelf.put_nothing(ballot_key(self.name(), round, i), reason),
                (Role::Helper | Role::Server, _) => {}
            }
        }
    }

    /// Goes through all phases. Returns how many shares of other clients came and were taken, and how many
    /// there should have been.
    pub fn play(&self, seat: &mut dyn Seat, secrets: &Secrets) -> (usize, usize) {
        let round = self.round.number;
        let (mut arrived, mut expected) = (0, 0);
        for (i, phase) in self.round.phases() {
            let letters = seat.step();
            match (phase.from, phase.to) {
                (Role::Client, Role::Client) => {
                    self.share(i, letters, secrets);
                    let from = self.round.scheme.sources(i, self.own);
                    expected += from.len();
                    arrived += self.collect(i, &from, seat, secrets);
                }
                (Role::Client, _) => {
                    let key = sum_key(self.name(), round, i);
                    match letters.into_iter().next() {
                        Some(letter) => self.shelf.put(key, letter.bytes),
                        None => self.shelf.put_nothing(key, "what it needs for it did not come"),
                    }
                }
                (_, Role::Client) => {
                    self.listen(i, phase.name, seat);
                    if phase.is_list {
                        self.vote(i, phase.name, seat);
                    }
                }
                _ => {}
            }
        }
        (arrived, expected)
    }

    fn share(&self, phase: usize, letters: Vec<Letter>, secrets: &Secrets) {
        for Letter { to, bytes } in letters {
            let PartyId::Client(to) = to else { continue };
            if let Some(sealed) = secrets.seal(to, phase as u8, &bytes) {
                let key = share_key(self.name(), self.round.number, phase, self.round.name(to));
                self.shelf.put(key, sealed);
            }
        }
    }

    /// Pulls the shares of `from` until the deadline, or until the server has decoded without them. Returns
    /// how many came and were taken.
    fn collect(&self, phase: usize, from: &[u16], seat: &mut dyn Seat, secrets: &Secrets) -> usize {
        let Round { session, scheme, number: round, len, .. } = self.round;
        let (own, deadline) = (self.name(), self.round.deadlines[phase]);
        let most = scheme.envelope_bytes(phase, len) + TAG_BYTES;
        let (mut arrived, stop) = (0, AtomicBool::new(from.is_empty()));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let key = format!("{ROOT}/server/{own}/done/{round}");
                if pull(session, &key, DONE.len(), deadline, &stop) != Pulled::Late {
                    stop.store(true, Ordering::Relaxed);
                }
            });
            let key = |name: &str| share_key(name, round, phase, own);
            self.round.gather(phase, from, most, key, &stop, |k, pulled| {
                let name = self.round.name(k);
                let taken = match pulled {
                    Pulled::Whole(sealed) => match secrets.open(k, phase as u8, &sealed) {
                        Some(bytes) => seat.admit(PartyId::Client(k), &bytes),
                        None => {
                            Err("a share that was not sealed by this client for us, or was changed".into())
                        }
                    },
                    Pulled::Refused(problem) => Err(problem),
                    Pulled::Late => {
                        let why = if Instant::now() < deadline { "not needed any more" } else { "late" };
                        return tracing::info!("round {round}: the share of {name} is {why}");
                    }
                    Pulled::Nothing(reason) => {
                        return tracing::info!("round {round}: no share of {name}: {reason}");
                    }
                };
                match taken {
                    Ok(()) => arrived += 1,
                    Err(problem) => tracing::warn!("round {round}: refused from {name}: {}", told(&problem)),
                }
            });
        });
        arrived
    }

    /// Pulls what the server tells this client in a phase.
    fn listen(&self, phase: usize, what: &str, seat: &mut dyn Seat) {
        let Round { session, scheme, number: round, len, .. } = self.round;
        let key = relay_key(self.name(), round, phase);
        let (most, deadline) = (scheme.envelope_bytes(phase, len), self.round.deadlines[phase]);
        let refused = match pull(session, &key, most, deadline, &AtomicBool::new(false)) {
            Pulled::Whole(bytes) => seat.admit(PartyId::Server, &bytes),
            Pulled::Refused(problem) => Err(problem),
            Pulled::Late => return tracing::info!("round {round}: no `{what}` of the server in time"),
            Pulled::Nothing(reason) => {
                return tracing::info!("round {round}: no `{what}` of the server: {reason}");
            }
        };
        if let Err(problem) = refused {
            tracing::warn!("round {round}: refused from server: {}", told(&problem));
        }
    }
}

impl OfClient<'_> {
    /// Says what the server told, and takes it for untold unless enough others say the same.
    fn vote(&self, phase: usize, what: &str, seat: &mut dyn Seat) {
        let Round { session, number: round, electorate, .. } = self.round;
        let (own, ballot) = (self.name(), ballot_key(self.name(), round, phase));
        let Some(clients) = seat.told() else {
            return self.shelf.put_nothing(ballot, "it was not told who goes on");
        };
        let vote = electorate.vote(phase, &clients);
        match electorate.cast(self.signer, self.own, &vote) {
            Ok(cast) => self.shelf.put(ballot, to_json(&cast)),
            Err(error) => {
                tracing::warn!("round {round}: {error}");
                self.shelf.put_nothing(ballot, "the client cannot sign");
            }
        }
        // They come before what clients send next.
        let deadline = self.round.deadlines.get(phase + 1).unwrap_or(&self.round.deadlines[phase]);
        let (key, most) = (ballots_key(own, round, phase), BALLOT * electorate.members.len());
        let pulled = match pull(session, &key, most, *deadline, &AtomicBool::new(false)) {
            Pulled::Whole(bytes) => from_json::<Vec<Ballot>>(&bytes),
            Pulled::Refused(problem) => Err(problem),
            Pulled::Late => Ok(Vec::new()),
            Pulled::Nothing(reason) => {
                tracing::info!("round {round}: no ballots on `{what}` of the server: {reason}");
                Ok(Vec::new())
            }
        };
        let ballots = pulled.unwrap_or_else(|problem| {
            tracing::warn!("round {round}: refused from server: {}", told(&problem));
            Vec::new()
        });
        let same = electorate.count(self.authority, &vote, &ballots);
        if !electorate.suffices(same) {
            let (of, want) = (electorate.members.len(), quorum(electorate.members.len()));
            tracing::warn!(
                "round {round}: {same} of {of} clients signed that the server told them the same `{what}`, and \
                 {want} must; nothing more is sent"
            );
            seat.forget();
        }
    }
}

/// What the server heard in a round.
#[derive(Default)]
pub(super) struct Heard {
    /// Messages that were taken.
    pub arrivals: u64,
    /// Clients who said that their update is not finite.
    pub diverged: BTreeSet<u16>,
    /// Clients of whom anything came, be it why nothing comes.
    pub present: BTreeSet<u16>,
    /// Clients who let a deadline pass.
    pub late: BTreeSet<u16>,
    /// Bytes of the messages that came, refused ones included; those of ballots apart.
    pub bytes: u64,
}

/// What the server does in a round.
pub(super) struct OfServer<'a> {
    pub round: Round<'a>,
    pub hub: &'a Hub,
}

impl OfServer<'_> {
    /// Goes through all phases, up to the step in which the server decodes.
    pub fn play(&self, seat: &mut dyn Seat) -> Heard {
        let everybody: Vec<u16> = (0..self.round.members.len() as u16).collect();
        let mut addressed = everybody.clone();
        let mut heard = Heard::default();
        for (i, phase) in self.round.phases() {
            let letters = seat.step();
            match (phase.from, phase.to) {
                (Role::Server, Role::Client) => {
                    addressed = self.announce(i, letters);
                    if phase.is_list {
                        self.poll(i, &addressed);
                    }
                }
                (Role::Client, Role::Server) => {
                    let from = match phase.expects {
                        Expects::Everybody => &everybody[..],
                        Expects::Addressed => &addressed,
                        Expects::Nobody => &[],
                    };
                    self.hear(i, phase.name, from, seat, &mut heard);
                }
                _ => {}
            }
        }
        seat.step();
        heard
    }

    /// Puts what the server tells each client on its shelf. Returns to whom it speaks.
    fn announce(&self, phase: usize, letters: Vec<Letter>) -> Vec<u16> {
        let key = |k| relay_key(self.round.name(k), self.round.number, phase);
        let mut addressed = Vec::with_capacity(letters.len());
        for Letter { to, bytes } in letters {
            if let PartyId::Client(k) = to {
                self.hub.models.put(key(k), bytes);
                addressed.push(k);
            }
        }
        let others = (0..self.round.members.len() as u16).filter(|k| !addressed.contains(k));
        others.for_each(|k| self.hub.models.put_nothing(key(k), "it is not asked for anything"));
        addressed
    }

    /// Collects the ballots of `clients` on the list that they were told, of themselves, until enough are
    /// here or the deadline has passed, and hands them all to each.
    fn poll(&self, phase: usize, clients: &[u16]) {
        let Round { number: round, electorate, .. } = self.round;
        let vote = electorate.vote(phase, clients);
        let (stop, mut ballots) = (AtomicBool::new(!electorate.suffices(clients.len())), Vec::new());
        let key = |name: &str| ballot_key(name, round, phase);
        self.round.gather(phase, clients, BALLOT, key, &stop, |k, pulled| {
            let name = self.round.name(k);
            let checked = match pulled {
                Pulled::Whole(bytes) => from_json::<Ballot>(&bytes).and_then(|ballot| {
                    electorate.check(&self.hub.authority, &vote, &ballot).map(|()| ballot)
                }),
                Pulled::Refused(problem) => Err(problem),
                Pulled::Nothing(reason) => {
                    return tracing::info!("round {round}: no ballot of {name}: {reason}");
                }
                Pulled::Late => return,
            };
            match checked {
                Ok(ballot) => ballots.push(ballot),
                Err(problem) => self.hub.refused(name, &problem),
            }
            if electorate.suffices(ballots.len()) {
                stop.store(true, Ordering::Relaxed);
            }
        });
        if !electorate.suffices(ballots.len()) && !clients.is_empty() {
            let (of, want) = (electorate.members.len(), quorum(electorate.members.len()));
            tracing::warn!(
                "round {round}: {} of {of} clients are there to agree who goes on, and {want} must",
                ballots.len()
            );
        }
        let ballots = to_json(&ballots);
        for &k in clients {
            self.hub.models.put(ballots_key(self.round.name(k), round, phase), ballots.clone());
        }
    }

    /// Pulls what the clients `from` send in a phase until it suffices, all is here, or the deadline has
    /// passed.
    fn hear(&self, phase: usize, what: &str, from: &[u16], seat: &mut dyn Seat, heard: &mut Heard) {
        let Round { scheme, number: round, len, .. } = self.round;
        let (stop, mut taken) = (AtomicBool::new(false), 0);
        let key = |name: &str| sum_key(name, round, phase);
        self.round.gather(phase, from, scheme.envelope_bytes(phase, len), key, &stop, |k, pulled| {
            let name = self.round.name(k);
            if pulled != Pulled::Late {
                heard.present.insert(k);
            }
            match pulled {
                Pulled::Whole(bytes) => {
                    heard.bytes += bytes.len() as u64;
                    match seat.admit(PartyId::Client(k), &bytes) {
                        Ok(()) => {
                            taken += 1;
                            self.hub.accepted(name);
                        }
                        Err(problem) => self.hub.refused(name, &problem),
                    }
                }
                Pulled::Refused(problem) => self.hub.refused(name, &problem),
                Pulled::Nothing(reason) if reason == DIVERGED => {
                    heard.diverged.insert(k);
                    tracing::warn!("round {round}: no {what} of {name}: {reason}");
                }
                Pulled::Nothing(reason) => tracing::info!("round {round}: no {what} of {name}: {reason}"),
                Pulled::Late if stop.load(Ordering::Relaxed) => {}
                Pulled::Late => {
                    heard.late.insert(k);
                    tracing::info!("round {round}: no {what} of {name} in time");
                }
            }
            if scheme.enough().is_some_and(|enough| taken >= enough) {
                stop.store(true, Ordering::Relaxed);
            }
        });
        heard.arrivals += taken as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cogc;

    #[test]
    fn time_is_divided_over_what_clients_send() {
        let (start, config) = (
            Instant::now(),
            DeployConfig { share_deadline: 6.0, upload_deadline: 12.0, ..Default::default() },
        );
        let seconds = |phases: &[Phase]| -> Vec<f64> {
            let all = deadlines(phases, start, &config);
            all.iter().map(|deadline| deadline.duration_since(start).as_secs_f64()).collect()
        };
        assert_eq!(seconds(&cogc::phases(3, 1)), [6.0, 12.0]);
        let upload = Phase::upload("upload", Expects::Everybody);
        let told = Phase::announcement("told", Role::Client);
        assert_eq!(seconds(&[upload]), [12.0]);
        // SecAgg: keys, shares, uploads and answers, and what the server says in between.
        let phases = [upload, told, upload, told, upload, told, upload];
        assert_eq!(seconds(&phases), [6.0, 8.0, 8.0, 10.0, 10.0, 12.0, 12.0]);
        assert_eq!(seconds(&[upload, upload, told]), [6.0, 12.0, 12.0]);
        // Ballots on the survivors: one more thing that clients send.
        let list = Phase::list("survivors");
        assert_eq!(seconds(&[upload, upload, list, upload]), [6.0, 8.0, 10.0, 12.0]);
    }
}
