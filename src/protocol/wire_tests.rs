use proptest::prelude::*;

use std::sync::Arc;

use super::cogc::CoGcMessage;
use super::groupwise::Seeds;
use super::sec_agg::{Cryptographic, PublicKeys, SecAggMessage, ShortShare};
use super::two_round::{Symbols, TwoRoundMessage};
use super::uncoded::Upload;
use super::{Clock, Envelope, PartyId};
use crate::algebra::field::{M31, M61, Prime, Small};
use crate::crypto::{KEY_BYTES, Secret};
use crate::message::{HEADER_BYTES, Message};
use crate::wire::*;

const FORM: Form = Form { len: 3, members: 10, largest: 1e6 };

fn envelope<M>(body: M) -> Envelope<M> {
    Envelope {
        sent: Clock { round: 0x0102, attempt: 3, phase: 1 },
        from: PartyId::Client(2),
        to: PartyId::Server,
        body,
    }
}

fn refusal<S: WireSymbol, M: Wire<S>>(bytes: &[u8]) -> String {
    decode::<S, M>(bytes, &FORM).map(|_| ()).unwrap_err()
}

#[test]
fn an_envelope_by_hand() {
    let bytes = encode::<f32, _>(&envelope(Upload(Arc::new(vec![1.0f32, -2.0, 0.5]))));
    let header = [2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0b0010_0000, 3, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0];
    assert_eq!(bytes[..26], header);
    assert_eq!(bytes[26..], [0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0, 0x3f]);
    let read = decode::<f32, Upload<f32>>(&bytes, &FORM).unwrap();
    assert_eq!(read.sent, Clock { round: 0x0102, attempt: 3, phase: 1 });
    assert_eq!((read.from, read.to), (PartyId::Client(2), PartyId::Server));
    assert_eq!(*read.body.0, [1.0, -2.0, 0.5]);
}

#[test]
fn a_list_of_shares_is_one_bit_each() {
    let held = vec![true, false, true, true, false, false, false, false, false, true];
    let sum = Arc::new(vec![M31::new(1), M31::new(2), M31::new(2_147_483_646)]);
    let bytes =
        encode::<M31, _>(&envelope(CoGcMessage::Partial { held: held.clone(), sum: Arc::clone(&sum) }));
    assert_eq!(bytes[26..28], [0b0000_1101, 0b10]);
    assert_eq!(bytes.len(), 26 + 2 + 12);
    let read = decode::<M31, CoGcMessage<M31>>(&bytes, &FORM).unwrap();
    let CoGcMessage::Partial { held: h, sum: s } = read.body else { panic!() };
    assert_eq!((h, s), (held, sum));
    let mut long = bytes.clone();
    long[27] |= 0b100;
    assert!(
        refusal::<M31, CoGcMessage<M31>>(&long)
            .ends_with("a list of shares that is longer than the code row")
    );
}

#[test]
fn a_share_travels_scaled() {
    let share = CoGcMessage::Share { scale: -0.5, vector: Arc::new(vec![1.0f64, 2.0, 3.0]) };
    let read = decode::<f64, CoGcMessage<f64>>(&encode::<f64, _>(&envelope(share)), &FORM).unwrap();
    let CoGcMessage::Share { scale, vector } = read.body else { panic!() };
    assert_eq!((scale, &vector[..]), (1.0, &[-0.5, -1.0, -1.5][..]));
}

#[test]
fn refusals_name_the_rule() {
    let good = encode::<f64, _>(&envelope(CoGcMessage::Sum(Arc::new(vec![1.0f64, 2.0, 3.0]))));
    let patched = |at: usize, new: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        refusal::<f64, CoGcMessage<f64>>(&bytes)
    };
    assert_eq!(patched(13, &[0b0100_1001]), "version 2 of the binary form, here 1");
    assert_eq!(patched(13, &[0b0010_0001]), "symbols of arithmetic 0, here 1");
    assert_eq!(patched(13, &[0b0010_1111]), "message variant 7, which this protocol does not have");
    assert_eq!(patched(22, &[25]), "a body of 24 bytes that says it has 25");
    assert_eq!(patched(14, &[0, 0, 1, 1]), "no party has number 16842752");
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(patched(34, &bad.to_le_bytes()), "a coordinate that is not a finite number");
    }
    let big = patched(34, &1e200f64.to_le_bytes());
    assert_eq!(big, "coordinates of size inf, beyond the accepted 1.000e6");
    assert_eq!(
        patched(34, &2e6f64.to_le_bytes()),
        "coordinates of size 1.155e6, beyond the accepted 1.000e6"
    );
    let mut short = good[..good.len() - 8].to_vec();
    short[22] = 16;
    assert_eq!(refusal::<f64, CoGcMessage<f64>>(&short), "16 bytes instead of 3 symbols of 8");
    for cut in 0..good.len() {
        refusal::<f64, CoGcMessage<f64>>(&good[..cut]);
    }
    let mut field = encode::<M61, _>(&envelope(Upload(Arc::new(vec![M61::new(5); 3]))));
    field[26..34].copy_from_slice(&M61::MODULUS.to_le_bytes());
    assert_eq!(refusal::<M61, Upload<M61>>(&field), "a coordinate that is not a residue of the field");
}

#[test]
fn every_party_has_its_number_back() {
    let parties = [
        PartyId::Server,
        PartyId::Client(0),
        PartyId::Client(u16::MAX),
        PartyId::Helper(0),
        PartyId::Helper(u16::MAX),
    ];
    for party in parties {
        assert_eq!(PartyId::from_code(party.code()), Some(party));
    }
    for code in [65_537, 1 << 17 | 1 << 16, u32::MAX] {
        assert_eq!(PartyId::from_code(code), None);
    }
}

type Light = TwoRoundMessage<M61, Symbols<M61>>;
type Grouped = TwoRoundMessage<M61, Symbols<M61>, Seeds>;
type Agg = SecAggMessage<M61, Cryptographic>;

/// The body that a message has on its way, once it is known to come back.
fn travelled<M: Wire<M61>>(message: M, form: &Form) -> Vec<u8> {
    let bytes = encode::<M61, _>(&envelope(message));
    let read = decode::<M61, M>(&bytes, form).unwrap();
    assert_eq!(bytes.len(), HEADER_BYTES + read.body.bytes(), "what is counted is what is sent");
    assert_eq!(encode::<M61, _>(&read), bytes);
    bytes[HEADER_BYTES..].to_vec()
}

fn body<M: Wire<M61>>(variant: u8, body: &[u8]) -> String {
    M::take(variant, body, &FORM).err().unwrap()
}

#[test]
fn the_messages_of_two_rounds_by_hand() {
    let clients = |clients| Form { members: clients, ..FORM };
    // Clients 1, 3, 4 and 10 of 10.
    let included = Arc::new(vec![0, 2, 3, 9]);
    let survivors = Light::Survivors { included: Arc::clone(&included), clients: 10 };
    assert_eq!(travelled(survivors, &clients(10)), [0b0000_1101, 0b10]);
    assert_eq!(body::<Light>(2, &[0b0000_1101, 0b110]), "a set that is not of 10 clients");
    assert_eq!(body::<Light>(2, &[0b0000_1101]), "a set that is not of 10 clients");
    let vector = vec![M61::new(1), M61::new(258), M61::new(0)];
    let bytes = [1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(travelled(Light::Upload(Arc::new(vector.clone())), &FORM), bytes);
    assert_eq!(travelled(Light::Share(Arc::new(Symbols(vector.clone()))), &FORM), bytes);
    assert_eq!(travelled(Light::Answer(Arc::new(Symbols(vector))), &FORM), bytes);
    assert_eq!(body::<Light>(0, &bytes[..16]), "16 bytes instead of 3 symbols of 8");
    assert_eq!(body::<Light>(4, &[]), "message variant 4, which this protocol does not have");

    let seeds = Seeds((1..=3).map(|i| Secret::new([i; KEY_BYTES])).collect());
    let told = travelled(Grouped::Share(Arc::new(seeds)), &FORM);
    assert_eq!((told.len(), told[0], told[31], told[32], told[95]), (96, 1, 1, 2, 3));
    assert_eq!(body::<Grouped>(0, &told[1..]), "95 bytes instead of 3 seeds of 32");
}

#[test]
fn the_messages_of_secagg_by_hand() {
    let public = |i: u8| PublicKeys::new([i; KEY_BYTES], [i + 1; KEY_BYTES]);
    let keys = travelled(Agg::Keys(public(5)), &FORM);
    assert_eq!(keys, [[5; 32], [6; 32]].concat());
    assert_eq!(body::<Agg>(0, &keys[..63]), "63 bytes instead of 64");
    let roster = travelled(Agg::Roster(Arc::new(vec![(1, public(5)), (0x0203, public(7))])), &FORM);
    assert_eq!(roster, [&[1, 0][..], &keys, &[3, 2], &[7; 32], &[8; 32]].concat());
    assert_eq!(body::<Agg>(1, &roster[1..]), "131 bytes instead of up to 10 entries of 66");
    assert_eq!(body::<Agg>(1, &[0; 11 * 66]), "726 bytes instead of up to 10 entries of 66");
    assert_eq!(travelled(Agg::Roster(Arc::default()), &FORM), [0u8; 0]);
    let sealed = travelled(Agg::Shares(Arc::new(vec![(4, vec![9; 96])])), &FORM);
    assert_eq!(sealed, [&[4, 0][..], &[9; 96]].concat());
    assert_eq!(travelled(Agg::Forwarded(Arc::new(vec![(4, vec![9; 96])])), &FORM), sealed);
    let share = ShortShare((1..=5).map(M61::new).collect());
    let answer = travelled(Agg::Answer(Arc::new(vec![(7, share)])), &FORM);
    assert_eq!((answer.len(), answer[0], answer[2], answer[34]), (42, 7, 1, 5));
    let mut residue = answer.clone();
    residue[2..10].copy_from_slice(&M61::MODULUS.to_le_bytes());
    assert_eq!(body::<Agg>(6, &residue), "a share with a number that is no residue");
    let set = Agg::Survivors { included: Arc::new(vec![9]), clients: 10 };
    assert_eq!(travelled(set, &FORM), [0, 0b10]);
}

fn round_trip<S: WireSymbol>(vector: Vec<S>, held: Vec<bool>, round: u64, attempt: u32, phase: u8) {
    use crate::algebra::Scalar;
    let form = Form { len: vector.len(), members: held.len(), largest: f64::INFINITY };
    let vector = Arc::new(vector);
    let messages = [
        CoGcMessage::Share { scale: S::Scalar::ONE, vector: Arc::clone(&vector) },
        CoGcMessage::Sum(Arc::clone(&vector)),
        CoGcMessage::Partial { held, sum: vector },
    ];
    for body in messages {
        let envelope = Envelope {
            sent: Clock { round, attempt, phase },
            from: PartyId::Client(7),
            to: PartyId::Client(9),
            body,
        };
        let bytes = encode::<S, _>(&envelope);
        assert_eq!(bytes.len(), HEADER_BYTES + envelope.body.bytes(), "what is counted is what is sent");
        let read = decode::<S, CoGcMessage<S>>(&bytes, &form).unwrap();
        assert_eq!(read.sent, Clock { round, attempt, phase });
        assert_eq!(read.body.reveals(), envelope.body.reveals());
        assert_eq!(encode::<S, _>(&read), bytes);
    }
}

fn written<M: Wire<M61>>(message: &M) -> Vec<u8> {
    let mut out = Vec::new();
    message.put(&mut out);
    out
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        words in proptest::collection::vec(any::<u64>(), 0..40),
        held in proptest::collection::vec(any::<bool>(), 0..20),
        round: u64, attempt: u32, phase: u8,
    ) {
        let reals: Vec<f64> =
            words.iter().map(|&w| f64::from_bits(w)).map(|x| if x.is_finite() { x } else { 0.0 }).collect();
        // Squares of huge numbers are infinite and ∞ ≤ ∞: what accepts everything accepts them.
        round_trip(reals.iter().map(|&x| x as f32).map(|x| if x.is_finite() { x } else { 0.0 }).collect(), held.clone(), round, attempt, phase);
        round_trip(reals, held.clone(), round, attempt, phase);
        round_trip(words.iter().map(|&w| M61::new(w % M61::MODULUS)).collect(), held.clone(), round, attempt, phase);
        round_trip(words.iter().map(|&w| M31::new(w % M31::MODULUS)).collect::<Vec<M31>>(), held.clone(), round, attempt, phase);
        round_trip(words.iter().map(|&w| Small::<7>::new(w % 7)).collect::<Vec<_>>(), held, round, attempt, phase);
    }

    #[test]
    fn garbage_is_refused_or_is_a_message(bytes in proptest::collection::vec(any::<u8>(), 0..80), len in 0usize..6, members in 0usize..20) {
        let form = Form { len, members, largest: 1e3 };
        let _ = decode::<f32, Upload<f32>>(&bytes, &form);
        let _ = decode::<f64, CoGcMessage<f64>>(&bytes, &form);
        let _ = decode::<M61, CoGcMessage<M61>>(&bytes, &form);
        // Past the header, too; what is accepted has one form only.
        for variant in 0..8 {
            if let Ok(read) = Light::take(variant, &bytes, &form) {
                prop_assert_eq!(written(&read), &bytes[..]);
            }
            if let Ok(read) = Grouped::take(variant, &bytes, &form) {
                prop_assert_eq!(written(&read), &bytes[..]);
            }
            if let Ok(read) = Agg::take(variant, &bytes, &form) {
                prop_assert_eq!(written(&read), &bytes[..]);
            }
        }
    }

    #[test]
    fn one_damaged_byte_is_refused_or_still_well_formed(place in 0usize..64, flip in 1u8..) {
        let body = CoGcMessage::Partial { held: vec![true; 10], sum: Arc::new(vec![0.5f64, -1.0, 2.0]) };
        let mut bytes = encode::<f64, _>(&envelope(body));
        let place = place % bytes.len();
        bytes[place] ^= flip;
        if let Ok(read) = decode::<f64, CoGcMessage<f64>>(&bytes, &FORM) {
            let well_formed = match read.body {
                CoGcMessage::Share { vector, .. } | CoGcMessage::Sum(vector) | CoGcMessage::Partial { sum: vector, .. } => {
                    vector.len() == 3 && vector.iter().all(|x| x.is_finite())
                }
            };
            prop_assert!(well_formed);
        }
    }
}
