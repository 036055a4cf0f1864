//! Who is there: what the callbacks of the transport tell the server's rounds, and the rounds tell the
//! clients that wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zenoh::query::Query;

use super::message::{Hex, Member, Order, Ready, from_json, to_json};
use super::page::Page;
use super::transport::{Shelf, refuse, reply};

/// A client that waits for the next round.
struct Waiting {
    ready: Ready,
    question: Query,
}

#[derive(Default)]
pub(super) struct Lobby {
    alive: BTreeSet<String>,
    ready: BTreeMap<String, Waiting>,
    /// The round that was announced last: its cohort, and the announcement.
    pub announced: Option<(Vec<Member>, Arc<Vec<u8>>)>,
    over: bool,
    /// How many messages in a row were refused.
    refused: BTreeMap<String, u32>,
    /// Who does not take part any more, and why.
    left_out: BTreeMap<String, String>,
}

/// What the callbacks of the transport share with the rounds.
pub(super) struct Hub {
    pub run: Hex,
    pub names: Vec<String>,
    /// Refused messages in a row after which a client is left out.
    pub refusals: u32,
    pub welcome: Arc<Vec<u8>>,
    pub lobby: Mutex<Lobby>,
    pub changed: Condvar,
    /// The models and announcements of the round, and at its end that it is over.
    pub models: Shelf,
    pub page: Page,
}

impl Hub {
    pub fn lobby(&self) -> MutexGuard<'_, Lobby> {
        self.lobby.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn refused(&self, who: &str, problem: &str) {
        tracing::warn!("refused from {who}: {problem}");
        self.page.update(|status| *status.refused.entry(who.into()).or_default() += 1);
        if !self.names.iter().any(|name| name == who) {
            return;
        }
        let mut lobby = self.lobby();
        let times = lobby.refused.get(who).map_or(1, |times| times + 1);
        lobby.refused.insert(who.into(), times);
        if times < self.refusals || lobby.left_out.contains_key(who) {
            return;
        }
        let reason =
            format!("left out of this run: {times} messages in a row were refused, the last one: {problem}");
        tracing::warn!("{who} is {reason}");
        lobby.left_out.insert(who.into(), reason.clone());
        if let Some(waiting) = lobby.ready.remove(who) {
            refuse(waiting.question, reason);
        }
        drop(lobby);
        self.page.update(|status| status.left_out.push(who.into()));
        self.changed.notify_all();
    }

    /// Ends a row of refusals: a sum was taken.
    pub fn accepted(&self, who: &str) {
        self.lobby().refused.remove(who);
    }

    /// The authority vouches for the name; whether it is invited is ours to say. The router denies the others
    /// everything.
    pub fn connected(&self, name: &str) {
        if !self.names.iter().any(|invited| invited == name) {
            self.refused(name, "not among deploy.names");
        }
    }

    pub fn question(&self, question: Query) {
        let key = question.key_expr().to_string();
        let mut chunks = key.split('/').skip(2);
        let (Some(name), Some(what)) = (chunks.next(), chunks.next()) else { return };
        let name = name.to_owned();
        if !self.names.contains(&name) {
            self.refused(&name, "not among deploy.names");
            return;
        }
        match what {
            "welcome" => reply(question, Arc::clone(&self.welcome)),
            "model" | "announcement" | "done" => self.models.question(question),
            "ready" => self.ready(name, question),
            other => {
                self.refused(&name, &format!("a question for `{other}`"));
                refuse(question, "no such question".into());
            }
        }
    }

    fn ready(&self, name: String, question: Query) {
        let payload = question.payload().map(|payload| payload.to_bytes().into_owned()).unwrap_or_default();
        let ready = from_json::<Ready>(&payload).and_then(|ready| match ready.examples {
            0 => Err("no example to train on".into()),
            _ => Ok(ready),
        });
        let ready = match ready {
            Ok(ready) => ready,
            Err(problem) => {
                self.refused(&name, &problem);
                return refuse(question, problem);
            }
        };
        if ready.run != self.run {
            return refuse(question, super::OTHER_RUN.into());
        }
        let mut lobby = self.lobby();
        if lobby.over {
            return reply(question, Arc::new(to_json(&Order::Over)));
        }
        if let Some(reason) = lobby.left_out.get(&name) {
            return refuse(question, reason.clone());
        }
        // An announcement that was lost on its way is repeated.
        let again = lobby.announced.as_ref().filter(|(members, _)| {
            members.iter().any(|member| member.name == name && member.public == ready.public)
        });
        if let Some((_, order)) = again {
            return reply(question, Arc::clone(order));
        }
        lobby.alive.insert(name.clone());
        lobby.ready.insert(name, Waiting { ready, question });
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

    /// Waits for a cohort: for everybody at the start, later for who is connected, at most `gather` longer
    /// than for the `least` clients.
    pub fn gather(&self, first: bool, least: usize, gather: Duration) -> Vec<Member> {
        let mut lobby = self.lobby();
        let mut since = Instant::now();
        let mut told = Instant::now();
        loop {
            let enough = lobby.ready.len() >= least;
            if !enough {
                since = Instant::now();
            }
            let invited = |name: &String| !lobby.left_out.contains_key(name);
            let expected = |name: &String| invited(name) && (first || lobby.alive.contains(name));
            let complete =
                self.names.iter().filter(|name| expected(name)).all(|name| lobby.ready.contains_key(name));
            if enough && (complete || since.elapsed() >= gather) {
                break;
            }
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                let absent: Vec<&str> = self
                    .names
                    .iter()
                    .filter(|name| invited(name) && !lobby.ready.contains_key(*name))
                    .map(String::as_str)
                    .collect();
                tracing::info!("{} clients are ready, waiting for {}", lobby.ready.len(), absent.join(", "));
            }
            let pause = Duration::from_millis(100);
            lobby = self.changed.wait_timeout(lobby, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
        let of = |name: &String| {
            let Ready { public, examples, .. } = lobby.ready.get(name)?.ready;
            Some(Member { name: name.clone(), public, examples })
        };
        self.names.iter().filter_map(of).collect()
    }

    /// Tells the cohort that its round begins, and the others who wait nothing.
    pub fn announce(&self, round: u64, members: &[Member]) {
        let order = Order::Round { run: self.run, round, members: members.to_vec() };
        let order = Arc::new(to_json(&order));
        let mut lobby = self.lobby();
        lobby.announced = Some((members.to_vec(), Arc::clone(&order)));
        for member in members {
            // A key that came after the cohort was formed is for the next round.
            if lobby.ready.get(&member.name).is_some_and(|waiting| waiting.ready.public == member.public)
                && let Some(waiting) = lobby.ready.remove(&member.name)
            {
                reply(waiting.question, Arc::clone(&order));
            }
        }
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
