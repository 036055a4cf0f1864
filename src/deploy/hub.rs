//! Who is there: what the callbacks of the transport tell the server's rounds, and the rounds tell the
//! clients that wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zenoh::query::Query;

use super::message::{Announcement, Entry, Hex, Order, Signed, from_json, to_json, told};
use super::page::Page;
use super::roster::{self, About, Member, share, weights};
use super::shelf::{Shelf, refuse, reply, without_payload};
use super::statement::{Authority, Signer, Topic};
use super::vote::Electorate;
use crate::config::DeployConfig;
use crate::error::{Error, Result, count};

/// Most bytes of a signed entry.
const ENTRY: usize = 12 * 1024;

/// A client that waits for the next round.
struct Waiting {
    entry: Entry,
    signed: Signed,
    question: Query,
}

/// The cohort of a round, as its members signed for it.
pub(super) struct Cohort {
    pub members: Vec<Member>,
    entries: Vec<Signed>,
}

impl Cohort {
    /// Who votes in the round with this announcement.
    pub fn electorate(&self, announcement: Hex) -> Electorate {
        let one = |(member, entry): (&Member, &Signed)| (member.name.clone(), entry.chain.clone());
        let members = self.members.iter().zip(&self.entries).map(one).collect();
        Electorate { roster: announcement, members }
    }
}

impl Lobby {
    /// Nobody is here yet, and `next` is the round that is announced next.
    pub fn new(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    fn rests(&self, name: &str) -> bool {
        self.silent.get(name).is_some_and(|silence| self.next < silence.until)
    }

    /// Who is ready for the next round and was heard in its last one; where they are too few, all who are
    /// ready.
    fn candidates(&self, least: usize) -> BTreeSet<&String> {
        let heard: BTreeSet<&String> = self.ready.keys().filter(|name| !self.rests(name)).collect();
        if heard.len() < least { self.ready.keys().collect() } else { heard }
    }
}

impl Waiting {
    fn member(&self) -> (Member, Signed) {
        let Entry { name, public, examples, .. } = &self.entry;
        (Member { name: name.clone(), public: *public, examples: *examples }, self.signed.clone())
    }
}

#[derive(Default)]
pub(super) struct Lobby {
    alive: BTreeSet<String>,
    ready: BTreeMap<String, Waiting>,
    /// The round that was announced last: the entries of its cohort, and the announcement.
    pub announced: Option<(Vec<Signed>, Arc<Vec<u8>>)>,
    /// The round that is announced next.
    next: u64,
    over: bool,
    /// How many messages in a row were refused.
    refused: BTreeMap<String, u32>,
    /// Who does not take part any more, and why.
    left_out: BTreeMap<String, String>,
    /// Who said nothing in the last rounds that it was in.
    silent: BTreeMap<String, Silence>,
}

/// The silence of one client.
struct Silence {
    /// Rounds in a row.
    rounds: u32,
    /// The first round that it may be in again.
    until: u64,
}

/// Most rounds that a silent client is left out of before it gets another one.
const LONGEST: u64 = 64;

/// What the callbacks of the transport share with the rounds.
pub(super) struct Hub {
    pub about: About,
    pub deploy: DeployConfig,
    pub authority: Authority,
    pub signer: Signer,
    pub welcome: Arc<Vec<u8>>,
    pub lobby: Mutex<Lobby>,
    pub changed: Condvar,
    /// The models of the round, what the server says in its phases, and at its end that it is over.
    pub models: Shelf,
    pub page: Page,
}

impl Hub {
    pub fn lobby(&self) -> MutexGuard<'_, Lobby> {
        self.lobby.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn refused(&self, who: &str, problem: &str) {
        let (who, problem) = (told(who), told(problem));
        let invited = self.deploy.names.contains(&who);
        self.page.update(|status| status.refuse(if invited { &who } else { "others" }));
        if !invited {
            tracing::warn!("refused from {who}: {problem}");
            return;
        }
        let mut lobby = self.lobby();
        if lobby.left_out.contains_key(&who) {
            // It was told, and so was the log.
            return;
        }
        tracing::warn!("refused from {who}: {problem}");
        let times = lobby.refused.get(&who).map_or(1, |times| times + 1);
        lobby.refused.insert(who.clone(), times);
        if times < self.deploy.refusals {
            return;
        }
        let reason =
            format!("left out of this run: {times} messages in a row were refused, the last one: {problem}");
        tracing::warn!("{who} is {reason}");
        lobby.left_out.insert(who.clone(), reason.clone());
        if let Some(waiting) = lobby.ready.remove(&who) {
            refuse(waiting.question, reason);
        }
        drop(lobby);
        self.page.update(|status| status.left_out.push(who));
        self.changed.notify_all();
    }

    /// Ends a row of refusals: a sum was taken.
    pub fn accepted(&self, who: &str) {
        self.lobby().refused.remove(who);
    }

    /// The authority vouches for the name; whether it is invited is ours to say. The router denies the others
    /// everything.
    pub fn connected(&self, name: &str) {
        if !self.deploy.names.iter().any(|invited| invited == name) {
            self.refused(name, "not among deploy.names");
        }
    }

    pub fn question(&self, mut question: Query) {
        let payload = question.payload().filter(|payload| payload.len() <= ENTRY);
        let payload = payload.map(|payload| payload.to_bytes().into_owned()).unwrap_or_default();
        without_payload(&mut question);
        let key = question.key_expr().to_string();
        let mut chunks = key.split('/').skip(2);
        let (Some(name), Some(what)) = (chunks.next(), chunks.next()) else { return };
        let name = name.to_owned();
        if !self.deploy.names.contains(&name) {
            self.refused(&name, "not among deploy.names");
            return;
        }
        match what {
            "welcome" => reply(question, Arc::clone(&self.welcome)),
            "model" | "relay" | "done" => self.models.question(question),
            "ready" => self.ready(name, &payload, question),
            other => {
                self.refused(&name, &format!("a question for `{}`", told(other)));
                refuse(question, "no such question".into());
            }
        }
    }

    fn ready(&self, name: String, payload: &[u8], question: Query) {
        {
            let lobby = self.lobby();
            if lobby.over {
                return reply(question, Arc::new(to_json(&Order::Over)));
            }
            if let Some(reason) = lobby.left_out.get(&name) {
                return refuse(question, reason.clone());
            }
        }
        let signed = match from_json::<Signed>(payload) {
            Ok(signed) => signed,
            Err(problem) => {
                self.refused(&name, &problem);
                return refuse(question, problem);
            }
        };
        // An entry for what was before the server began anew is nobody's fault.
        let other = from_json::<Entry>(signed.body.as_bytes())
            .is_ok_and(|entry| (entry.run, entry.digest) != (self.about.run, self.about.digest));
        if other {
            return refuse(question, super::OTHER_RUN.into());
        }
        let entry = roster::entry(&signed, self.about, &self.authority).and_then(|entry| {
            if entry.name == name { Ok(entry) } else { Err(format!("an entry of `{}`", entry.name)) }
        });
        let entry = match entry {
            Ok(entry) => entry,
            Err(problem) => {
                self.refused(&name, &problem);
                return refuse(question, problem);
            }
        };
        let mut lobby = self.lobby();
        // An announcement that was lost on its way is repeated.
        let again = lobby.announced.as_ref().filter(|(entries, _)| entries.contains(&signed));
        if let Some((_, order)) = again {
            return reply(question, Arc::clone(order));
        }
        if entry.round != lobby.next {
            return reply(question, Arc::new(to_json(&Order::Next(lobby.next))));
        }
        lobby.alive.insert(name.clone());
        lobby.ready.insert(name, Waiting { entry, signed, question });
        drop(lobby);
        self.changed.notify_all();
    }

    pub fn lives(&self, name: &str, alive: bool) {
        let mut lobby = self.lobby();
        if alive {
            lobby.alive.insert(name.into());
        } else {
            lobby.alive.remove(name);
            lobby.ready.remove(name);
        }
        let now: Vec<String> = lobby.alive.iter().cloned().collect();
        drop(lobby);
        tracing::info!("{name} {}", if alive { "is here" } else { "is gone" });
        self.page.update(|status| status.alive = now);
        self.changed.notify_all();
    }

    /// Leaves clients who said nothing in a round out of the next one, at the second time in a row of the
    /// next two, then of four, up to [`LONGEST`], so that the others do not wait for them in every round: as
    /// long as there are enough without them. Whoever was heard starts anew.
    pub fn heard(&self, round: u64, heard: &[&str], silent: &[&str]) {
        let mut lobby = self.lobby();
        lobby.silent.retain(|name, _| !heard.contains(&name.as_str()));
        for name in silent {
            let rounds = lobby.silent.get(*name).map_or(1, |silence| silence.rounds + 1);
            let pause = 1_u64.checked_shl(rounds - 1).map_or(LONGEST, |pause| pause.min(LONGEST));
            let until = round + 1 + pause;
            tracing::warn!("{name} said nothing in round {round} and is left out until round {until}");
            lobby.silent.insert((*name).to_owned(), Silence { rounds, until });
        }
    }

    /// Waits for a cohort: for everybody at the start, later for who is connected, at most `gather` longer
    /// than for the `least` clients. A client that claims too large a share of the examples is refused.
    pub fn gather(&self, first: bool, least: usize, gather: Duration) -> Cohort {
        loop {
            let cohort = self.complete(first, least, gather);
            let Some((name, problem)) = self.unfit(&cohort.members) else { return cohort };
            self.refused(name, &problem);
            if let Some(waiting) = self.lobby().ready.remove(name) {
                refuse(waiting.question, problem);
            }
        }
    }

    /// Whom clients would not play with, and why.
    fn unfit<'a>(&self, members: &'a [Member]) -> Option<(&'a str, String)> {
        let weights = weights(members);
        if let Some(weight) = self.deploy.outside(&weights) {
            let place = weights.iter().position(|other| *other == weight)?;
            return Some((&members[place].name, format!("weight {weight:.3}, outside deploy.weights")));
        }
        let limit = self.deploy.largest_share;
        // Of two clients one always has half.
        let (name, share) = share(members).filter(|(_, share)| members.len() > 2 && *share > limit)?;
        Some((name, format!("{share:.3} of all examples, and deploy.largest_share is {limit}")))
    }

    fn complete(&self, first: bool, least: usize, gather: Duration) -> Cohort {
        let mut lobby = self.lobby();
        let mut since = Instant::now();
        let mut told = Instant::now();
        loop {
            let enough = lobby.candidates(least).len() >= least;
            if !enough {
                since = Instant::now();
            }
            let invited = |name: &String| !lobby.left_out.contains_key(name);
            let expected =
                |name: &String| invited(name) && !lobby.rests(name) && (first || lobby.alive.contains(name));
            let complete = self
                .deploy
                .names
                .iter()
                .filter(|name| expected(name))
                .all(|name| lobby.ready.contains_key(name));
            if enough && (complete || since.elapsed() >= gather) {
                break;
            }
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                let absent: Vec<&str> = self
                    .deploy
                    .names
                    .iter()
                    .filter(|name| invited(name) && !lobby.ready.contains_key(*name))
                    .map(String::as_str)
                    .collect();
                let ready = count(lobby.ready.len(), "client");
                tracing::info!("{ready} ready, waiting for {}", absent.join(", "));
            }
            let pause = Duration::from_millis(100);
            lobby = self.changed.wait_timeout(lobby, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
        let candidates = lobby.candidates(least);
        let ready = |name: &String| candidates.get(name).and_then(|name| lobby.ready.get(*name));
        let mut left = super::message::MOST - 2 * ENTRY;
        // Who does not fit into the announcement is in the next round.
        let fits = |waiting: &&Waiting| {
            let bytes = to_json(&waiting.signed);
            let escaped = to_json(&String::from_utf8_lossy(&bytes)).len();
            let fits = escaped <= left;
            left = left.saturating_sub(escaped);
            fits
        };
        let fitting = self.deploy.names.iter().filter_map(ready).take_while(fits);
        let (members, entries) = fitting.map(Waiting::member).unzip();
        Cohort { members, entries }
    }

    /// Tells the cohort that its round begins, and the others who wait which one is next. Returns SHA-256 of
    /// the announcement.
    ///
    /// # Errors
    /// More clients than an announcement holds.
    pub fn announce(&self, round: u64, model: Hex, cohort: &Cohort) -> Result<Hex> {
        let About { run, digest } = self.about;
        let announcement = Announcement { run, digest, round, model, members: cohort.entries.clone() };
        let announcement = self.signer.sign(Topic::Announcement, &announcement)?;
        let said = announcement.digest();
        let order = to_json(&Order::Round(announcement));
        if order.len() > super::message::MOST {
            let rule =
                format!("{} clients in one round; their entries are too long together", cohort.members.len());
            return Err(Error::config("deploy.names", rule));
        }
        let order = Arc::new(order);
        let mut lobby = self.lobby();
        lobby.next = round + 1;
        lobby.announced = Some((cohort.entries.clone(), Arc::clone(&order)));
        let next = Arc::new(to_json(&Order::Next(round + 1)));
        for (_, waiting) in std::mem::take(&mut lobby.ready) {
            // An entry that came after the cohort was formed is in no round.
            let order = if cohort.entries.contains(&waiting.signed) { &order } else { &next };
            reply(waiting.question, Arc::clone(order));
        }
        Ok(said)
    }

    /// Tells everybody that there are no more rounds.
    pub fn close(&self) {
        let mut lobby = self.lobby();
        lobby.over = true;
        let over = Arc::new(to_json(&Order::Over));
        for waiting in std::mem::take(&mut lobby.ready).into_values() {
            reply(waiting.question, Arc::clone(&over));
        }
    }
}
