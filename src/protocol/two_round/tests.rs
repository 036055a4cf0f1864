use super::*;
use crate::algebra::field::{M61, Prime};
use crate::keys::SeededKeys;
use crate::protocol::exchange::admit;
use crate::protocol::zhao_sun::ZhaoSun;
use crate::seed::Seed;

type Scheme = ZhaoSun<M61>;
type Sent = Mail<M61, Scheme>;

struct Ones(usize);

impl Input<M61> for Ones {
    fn len(&self) -> usize {
        self.0
    }

    fn add_to(&self, y: &mut [M61]) {
        M61::axpy(y, M61::ONE, &vec![M61::ONE; y.len()]);
    }
}

/// K = 4, U = 2, T = 1, d = 3.
fn parties() -> Vec<Role<M61, Scheme>> {
    let protocol = Rounds::new(Scheme::new(4, 2, 1).unwrap());
    let keys = Protocol::<M61>::deal(&protocol, 1, 3, &SeededKeys(Seed::new(1)));
    let ids = Protocol::<M61>::parties(&protocol).into_iter();
    ids.zip(keys)
        .map(|(id, key)| protocol.party(id, key, (id != PartyId::Server).then_some(&Ones(3) as _)))
        .collect()
}

fn clock(phase: u8) -> Clock {
    Clock { round: 1, attempt: 0, phase }
}

fn uploads(parties: &mut [Role<M61, Scheme>]) -> Vec<Sent> {
    parties[..3].iter_mut().flat_map(|party| party.step(clock(1), Vec::new())).collect()
}

/// The reasons for which the gate of `party` refuses `inbox` at its step in `phase`; `to` is its name.
fn refused(party: &Role<M61, Scheme>, to: PartyId, phase: u8, inbox: Vec<Sent>) -> Vec<String> {
    let known = |id| matches!(id, PartyId::Server | PartyId::Client(..4));
    let arrived = inbox.into_iter().map(|envelope| (envelope.from, envelope)).collect();
    let (_, refused) = admit(party, to, clock(phase), known, arrived);
    refused.iter().map(ToString::to_string).collect()
}

fn set(included: &[u16]) -> Sent {
    let body = TwoRoundMessage::Survivors { included: Arc::new(included.to_vec()), clients: 4 };
    Envelope { sent: clock(2), from: PartyId::Server, to: PartyId::Client(1), body }
}

#[test]
fn the_server_refuses_what_no_client_may_send_and_goes_on() {
    let mut parties = parties();
    let sent = uploads(&mut parties);
    let server = &mut parties[4];
    let at = |phase: u8, from: &str, rule: &str| {
        vec![format!("round 1, attempt 1, phase {phase}: server refuses a message of {from}: {rule}")]
    };
    let with = |body| vec![sent[1].clone(), Envelope { body, ..sent[0].clone() }];
    let check = |server: &_, phase, inbox, from, rule| {
        assert_eq!(refused(server, PartyId::Server, phase, inbox), at(phase, from, rule));
    };
    let short = TwoRoundMessage::Upload(Arc::new(vec![M61::ONE; 2]));
    check(server, 2, with(short), "client 1", "the upload has 2 symbols instead of 3");
    let early = TwoRoundMessage::Answer(Arc::new(Symbols(vec![M61::ONE; 3])));
    check(server, 2, with(early), "client 1", "no message to the server in phase 1");
    let twice = vec![sent[0].clone(), sent[1].clone(), sent[0].clone()];
    check(server, 2, twice, "client 1", "second message in one phase");
    let late = vec![Envelope { sent: clock(0), ..sent[0].clone() }];
    check(server, 2, late, "client 1", "it is from phase 0");
    let replayed = vec![Envelope { sent: Clock { round: 0, ..clock(1) }, ..sent[0].clone() }];
    check(server, 2, replayed, "client 1", "it is from round 0, attempt 1");
    let retried = vec![Envelope { sent: Clock { attempt: 1, ..clock(1) }, ..sent[0].clone() }];
    check(server, 2, retried, "client 1", "it is from round 1, attempt 2");
    let stranger = vec![Envelope { from: PartyId::Client(4), ..sent[0].clone() }];
    check(server, 2, stranger, "client 5", "no other party of this round");
    let astray = vec![Envelope { to: PartyId::Client(2), ..sent[0].clone() }];
    check(server, 2, astray, "client 1", "it is addressed to client 3");

    let announced = server.step(clock(2), sent.clone());
    assert_eq!(announced.len(), 3);
    let mut answers: Vec<Sent> = Vec::new();
    for envelope in announced {
        let PartyId::Client(k) = envelope.to else { panic!("to clients") };
        answers.extend(parties[usize::from(k)].step(clock(3), vec![envelope]));
    }
    let server = &mut parties[4];
    let truncated = TwoRoundMessage::Answer(Arc::new(Symbols(vec![M61::ONE; 2])));
    let truncated = vec![Envelope { body: truncated, ..answers[0].clone() }];
    check(server, 4, truncated, "client 1", "the answer has 2 symbols instead of 3");
    let outside = vec![Envelope { from: PartyId::Client(3), ..answers[0].clone() }];
    check(server, 4, outside, "client 4", "an answer from outside the survivor set");
    let upload = vec![Envelope { sent: clock(3), ..sent[0].clone() }];
    check(server, 4, upload, "client 1", "no message to the server in phase 3");

    assert!(server.step(clock(4), answers).is_empty());
    let sum = vec![M61::new(3); 3];
    assert_eq!(server.decoded(), Some(Decoded::exact(sum, vec![0, 1, 2])));
}

#[test]
fn a_client_answers_for_one_survivor_set_only() {
    let mut parties = parties();
    let sent = uploads(&mut parties);
    let client = &mut parties[1];
    let check = |client: &_, phase: u8, message: Sent, rule: &str| {
        let from = message.from;
        let want = format!("round 1, attempt 1, phase {phase}: client 2 refuses a message of {from}: {rule}");
        assert_eq!(refused(client, PartyId::Client(1), phase, vec![message]), [want]);
    };
    for (included, rule) in [
        (&[1u16][..], "1 survivors are fewer than 2; their sum must stay masked"),
        (&[0, 2], "the survivor set is without the receiver"),
        (&[1, 0], "the survivor set is not an ascending list of clients"),
        (&[1, 1], "the survivor set is not an ascending list of clients"),
        (&[1, 4], "the survivor set is not an ascending list of clients"),
    ] {
        check(client, 3, set(included), rule);
    }
    let two = refused(client, PartyId::Client(1), 3, vec![set(&[0, 1]), set(&[1, 2])]);
    assert!(two.len() == 1 && two[0].ends_with("second message in one phase"), "{two:?}");
    let forged = Envelope { from: PartyId::Client(2), ..set(&[0, 1]) };
    check(client, 3, forged, "no message to a client in phase 2");
    let share = || TwoRoundMessage::Share(Arc::new(Symbols(vec![M61::ONE; 3])));
    let dealt = Envelope { sent: clock(0), to: PartyId::Client(1), body: share(), ..sent[0].clone() };
    check(client, 1, dealt, "this scheme has no shares");

    assert!(client.step(clock(3), Vec::new()).is_empty());
    let answer = |sent: Vec<Sent>| match &sent[..] {
        [Envelope { body: TwoRoundMessage::Answer(answer), .. }] => answer.0.clone(),
        _ => panic!("one answer"),
    };
    let first = answer(client.step(clock(3), vec![set(&[0, 1, 2])]));
    check(client, 3, set(&[0, 1]), "second survivor set in one round; two sums would tell more than one");
    // Asked again for the same set, it says the same.
    assert_eq!(answer(client.step(clock(3), vec![set(&[0, 1, 2])])), first);
    // Having answered, it does not upload again.
    assert!(client.step(clock(1), Vec::new()).is_empty());
}
