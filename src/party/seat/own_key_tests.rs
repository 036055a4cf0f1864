use std::fmt::Debug;

use super::*;
use crate::algebra::field::{M31, M61};
use crate::network::Perfect;
use crate::party::agreement::tests::{Dealer, cohort_of};
use crate::protocol::Secret;
use crate::protocol::exchange::run;
use crate::protocol::groupwise::Groupwise;
use crate::protocol::light_sec_agg::LightSecAgg;
use crate::protocol::sec_agg::{Cryptographic, SecAgg};
use crate::protocol::two_round::Rounds;
use crate::protocol::zhao_sun::ZhaoSun;

const M: u16 = 6;
const LEN: usize = 11;
const ROUND: u64 = 5;

fn cohort() -> Vec<Secrets> {
    cohort_of(M, b"own keys")
}

struct Constant(u64);

impl<F: Prime> Input<F> for Constant {
    fn len(&self) -> usize {
        LEN
    }

    fn add_to(&self, y: &mut [F]) {
        F::axpy(y, F::new(self.0), &[F::ONE; LEN]);
    }
}

/// Client for client the same symbols are held and the same is sent, and the keys of a dealer add up; a
/// source that draws what it must not, panics.
fn made_alone<F: Prime, P: Protocol<F, Message: Debug>>(protocol: &P) {
    let secrets = cohort();
    let dealt = protocol.deal(ROUND, LEN, &Dealer(&secrets));
    let inputs: Vec<Constant> = (1..=u64::from(M)).map(Constant).collect();
    for ((id, dealt), k) in protocol.parties().into_iter().zip(dealt).zip(0..) {
        let own = secrets.get(k).map_or_else(
            || protocol.own_key(id, ROUND, LEN, &Zeros),
            |secrets| protocol.own_key(id, ROUND, LEN, secrets),
        );
        let own = own.expect("no dealer is needed");
        assert_eq!(own.held(), dealt.held(), "{id}");
        let sent = |key| {
            let mut party = protocol.party(id, key, inputs.get(k).map(|input| input as &dyn Input<F>));
            let step = |phase| party.step(Clock { round: ROUND, attempt: 0, phase }, Vec::new());
            format!("{:?}", (0..2).flat_map(step).collect::<Vec<_>>())
        };
        assert_eq!(sent(own), sent(dealt), "{id}");
    }
    let inputs: Vec<&dyn Input<F>> = inputs.iter().map(|input| input as _).collect();
    let outcome = run(protocol, ROUND, &inputs, &Dealer(&secrets), &Perfect, 1, |_, _, _| ());
    assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
    assert_eq!(outcome.decoded, Decoded::exact(vec![F::new(21); LEN], (0..M).collect()));
}

fn over<F: Prime>() {
    for (survivors, colluders) in [(4, 0), (5, 2), (6, 5)] {
        let scheme = LightSecAgg::<F>::new(M.into(), survivors, colluders).unwrap();
        made_alone::<F, _>(&Rounds::new(scheme));
    }
    for size in 2..=5 {
        let scheme = Groupwise::<F>::new(M.into(), 4, size, Seed::new(2)).unwrap().apart();
        made_alone::<F, _>(&Rounds::new(scheme));
    }
    for degree in [None, Some(4), Some(5)] {
        made_alone::<F, _>(&SecAgg::<Cryptographic>::new(M.into(), degree, None, Seed::new(3)).unwrap());
    }
}

#[test]
fn own_keys_of_the_field_schemes_are_those_of_a_dealer() {
    over::<M61>();
    over::<M31>();
}

#[test]
fn shares_of_masks_of_others_need_a_dealer() {
    fn own_key<P: Protocol<M61>>(protocol: &P) -> Option<P::Key> {
        protocol.own_key(PartyId::Client(0), ROUND, LEN, &cohort()[0])
    }
    assert!(own_key(&Rounds::new(ZhaoSun::<M61>::new(M.into(), 4, 1).unwrap())).is_none());
    assert!(own_key(&Rounds::new(Groupwise::<M61>::new(M.into(), 4, 2, Seed::new(2)).unwrap())).is_none());
}

#[test]
fn what_is_drawn_is_fresh_and_nobody_else_can_draw_it() {
    let scheme = Rounds::new(Groupwise::<M61>::new(M.into(), 4, 3, Seed::new(2)).unwrap().apart());
    let key = |secrets: &Secrets, round| {
        Protocol::<M61>::own_key(&scheme, PartyId::Client(1), round, LEN, secrets).unwrap()
    };
    let (one, other) = (cohort(), cohort());
    let held = |secrets, round| {
        let key = key(secrets, round);
        key.held().into_iter().flatten().copied().collect::<Vec<M61>>()
    };
    // Client 2 knows what it adds itself: one sub-key for each of its C(5, 2) groups, none of the others'.
    assert_eq!(key(&one[1], 1).held().len(), 10);
    let all = [held(&one[1], 1), held(&one[1], 2), held(&other[1], 1)].concat();
    assert!(all.iter().collect::<std::collections::BTreeSet<_>>().len() == all.len(), "{all:?}");
}
