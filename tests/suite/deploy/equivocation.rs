//! A server that plays SecAgg with four honest clients and tells them what is not so.

use seccogc::algebra::field::M61;
use seccogc::algebra::grid::Public;
use seccogc::config::Config;
use seccogc::deploy::vote::Ballot;
use seccogc::party::seat::{Letter, Seat, scheme};
use seccogc::protocol::sec_agg::{Cryptographic, SecAggMessage};
use seccogc::seed::Seed;
use seccogc::wire::{Form, decode, encode};

use super::rogue::{D, NAMES, Rogue, config, logged, trial};
use super::*;

/// Two shares reveal a secret: half of the clients would be enough.
const SEC_AGG: &str = "kind = \"sec-agg\"\nthreshold = 2\nleast_included = 2";

type Mail = Envelope<SecAggMessage<M61, Cryptographic>>;

/// A round in which a server follows the protocol, but for the letters that it changes.
struct Play<'a> {
    rogue: &'a Rogue<'a>,
    server: Box<dyn Seat>,
}

impl<'a> Play<'a> {
    /// Announces round 1 to all.
    fn begin(rogue: &'a Rogue<'a>, config: &str) -> Self {
        let config: Config = toml::from_str(config).unwrap();
        let seed = Seed::new(config.seed).child("protocol", 0);
        let scheme = scheme(&config.protocol, NAMES.len(), seed, &Public::default(), 1e6).unwrap();
        let server = scheme.server(1, D);
        let members = NAMES.map(|name| rogue.entry(name));
        let order = Order::Round(rogue.announcement(1, &members));
        rogue.put_models(1);
        NAMES.iter().for_each(|name| rogue.answer(name, &order));
        Self { rogue, server }
    }

    /// What a client has for the server at `what`.
    fn pull(&self, name: &str, what: &str) -> Pulled {
        self.rogue.pull_within(&format!("seccogc/client/{name}/sum/1/{what}"), 20)
    }

    /// Hears everybody in a phase.
    fn hear(&mut self, phase: usize) {
        for (k, name) in (0..).zip(NAMES) {
            let Pulled::Whole(bytes) = self.pull(name, &phase.to_string()) else {
                panic!("{name} in phase {phase}: {}", self.rogue.trial.log(&format!("{name}.log")))
            };
            self.server.admit(PartyId::Client(k), &bytes).unwrap();
        }
    }

    /// Tells everybody what `change` makes of what the protocol says.
    fn tell(&mut self, phase: usize, change: impl Fn(u16, Mail) -> Mail) {
        let form = Form { len: D, members: NAMES.len(), largest: 1e6 };
        for Letter { to, bytes } in self.server.step() {
            let PartyId::Client(k) = to else { panic!() };
            let mail = change(k, decode::<M61, _>(&bytes, &form).unwrap());
            self.put(k, &format!("{phase}"), encode::<M61, _>(&mail));
        }
    }

    fn put(&self, k: u16, what: &str, bytes: Vec<u8>) {
        let key = format!("seccogc/server/{}/relay/1/{what}", NAMES[usize::from(k)]);
        self.rogue.put(key, bytes);
    }

    /// Hands all ballots to all.
    fn hand_on_ballots(&self, phase: usize) {
        let ballot = |name| match self.pull(name, &format!("{phase}/ballot")) {
            Pulled::Whole(bytes) => from_json::<Ballot>(&bytes).unwrap(),
            other => panic!("{name}: {other:?}; {}", self.rogue.trial.log(&format!("{name}.log"))),
        };
        let all = to_json(&NAMES.map(ballot).to_vec());
        (0..4).for_each(|k| self.put(k, &format!("{phase}/ballots"), all.clone()));
    }
}

fn slow(trial: &Trial) -> String {
    config(trial)
        .replace("share_deadline = 4.0", "share_deadline = 10.0")
        .replace("upload_deadline = 6.0", "upload_deadline = 25.0")
}

fn nothing() -> Pulled {
    Pulled::Nothing("what it needs for it did not come".into())
}

#[test]
fn halves_that_were_told_different_survivors_reveal_no_share() {
    let trial = trial(SEC_AGG);
    let config = slow(&trial);
    let rogue = Rogue::start(&trial, &config);
    let clients = NAMES.map(|name| trial.join(name));
    let mut play = Play::begin(&rogue, &config);
    play.server.step();
    play.hear(0);
    play.tell(1, |_, mail| mail);
    play.server.step();
    play.hear(2);
    play.tell(3, |_, mail| mail);
    play.hand_on_ballots(3);
    play.server.step();
    play.hear(4);
    play.tell(5, |k, mail| {
        let included = Arc::new(if k < 2 { vec![0, 1] } else { vec![2, 3] });
        Envelope { body: SecAggMessage::Survivors { included, clients: 4 }, ..mail }
    });
    play.hand_on_ballots(5);
    for name in NAMES {
        assert_eq!(play.pull(name, "6"), nothing(), "{name}");
        let line =
            "round 1: 2 of 4 clients signed that the server told them the same `survivors`, and 3 must";
        logged(&trial, name, line);
    }
    drop(clients);
}

#[test]
fn a_masking_key_that_the_server_replaced_ends_the_round_before_anything_is_masked() {
    let trial = trial(SEC_AGG);
    let config = slow(&trial);
    let rogue = Rogue::start(&trial, &config);
    let clients = NAMES.map(|name| trial.join(name));
    let mut play = Play::begin(&rogue, &config);
    play.server.step();
    play.hear(0);
    let own = KeyPair::generate().unwrap().public();
    play.tell(1, |k, mail| {
        let SecAggMessage::Roster(keys) = &mail.body else { panic!() };
        if k != 0 {
            return mail;
        }
        // Ann is told another masking key of dan.
        let mut bytes = encode::<M61, _>(&mail);
        let end = bytes.len();
        assert_eq!(keys.last().unwrap().0, 3);
        bytes[end - 32..].copy_from_slice(&own);
        decode::<M61, _>(&bytes, &Form { len: D, members: 4, largest: 1e6 }).unwrap()
    });
    play.server.step();
    play.hear(2);
    play.tell(3, |_, mail| mail);
    let rule = |k: u16| {
        format!("refused from server: the shares of client {k} were changed, or sealed for other keys")
    };
    for (name, other) in [("ann", 4), ("dan", 1)] {
        logged(&trial, name, &rule(other));
        assert_eq!(play.pull(name, "3/ballot"), Pulled::Nothing("it was not told who goes on".into()));
        assert_eq!(play.pull(name, "4"), nothing(), "{name}");
    }
    drop(clients);
}
