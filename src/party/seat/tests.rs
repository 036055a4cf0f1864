use std::collections::BTreeSet;

use rand::RngExt;

use super::*;
use crate::algebra::quantise::{Modulus, Quantisation};
use crate::keys::KeyChoice;
use crate::message::{LinkUse, Role};
use crate::network::{LinkModel, Node};
use crate::party::agreement::KeyPair;
use crate::protocol::cogc::{CoGcConfig, DecoderKind, SecCoGcConfig};
use crate::protocol::groupwise::GroupwiseConfig;
use crate::protocol::hierarchical::HierarchicalConfig;
use crate::protocol::light_sec_agg::LightSecAggConfig;
use crate::protocol::sec_agg::{SecAggConfig, SecAggPlusConfig};
use crate::protocol::secure_gc::SecureGcConfig;
use crate::protocol::zhao_sun::ZhaoSunConfig;
use crate::protocol::{Arithmetic, SharedKeys, uncoded};

const M: u16 = 6;
const LEN: usize = 7;
const ROUND: u64 = 9;

/// Client k's vector has the coordinates (i − 2) (k + 1)/16.
fn updates() -> Vec<Update> {
    let of = |k: u16| (0..LEN).map(|i| (i as f32 - 2.0) * f32::from(k + 1) / 16.0).collect();
    (0..M).map(|k| Update { weight: 1.0, delta: Arc::new(of(k)) }).collect()
}

/// What became of a round from bytes.
struct Played {
    decoded: Decoded<f64>,
    /// Whose masked update reached the server.
    uploaded: BTreeSet<u16>,
}

/// Plays a round of 6 clients phase by phase; what `arrives` does not hold for is lost.
fn play(config: &ProtocolConfig, arrives: impl Fn(LinkUse) -> bool) -> Played {
    let scheme = scheme(config, M.into(), Seed::new(4), &Public::default(), 1e6).unwrap();
    let pairs: Vec<KeyPair> = (0..M).map(|_| KeyPair::generate().unwrap()).collect();
    let public: Vec<_> = pairs.iter().map(KeyPair::public).collect();
    let secrets: Vec<_> =
        (0..).zip(&pairs).map(|(k, pair)| pair.agree(k, &public, b"test").unwrap()).collect();
    let mut seats: Vec<(PartyId, Box<dyn Seat>)> = (0..)
        .zip(updates().iter().zip(&secrets))
        .map(|(k, (update, secrets))| (PartyId::Client(k), scheme.client(k, ROUND, update, secrets).unwrap()))
        .collect();
    seats.push((PartyId::Server, scheme.server(ROUND, LEN)));
    let place = |id| if let PartyId::Client(k) = id { usize::from(k) } else { usize::from(M) };
    let mut uploaded = BTreeSet::new();
    for (i, phase) in scheme.phases().iter().enumerate() {
        let sent: Vec<(PartyId, Letter)> = seats
            .iter_mut()
            .flat_map(|(id, seat)| seat.step().into_iter().map(|letter| (*id, letter)))
            .collect();
        for (from, Letter { to, bytes }) in sent {
            assert_eq!((from.role(), to.role()), (phase.from, phase.to), "{} in phase {i}", config.kind());
            assert!(bytes.len() <= scheme.envelope_bytes(i, LEN), "{} in phase {i}", config.kind());
            let transfer = Phase::transfer(&scheme.phases()[..i], from.role(), to.role());
            let link = LinkUse { round: ROUND, attempt: 0, transfer, from, to, bytes: bytes.len() as u64 };
            let opened = match (from, to) {
                (PartyId::Client(k), PartyId::Client(to)) => {
                    assert!(scheme.sources(i, to).contains(&k));
                    // Receivers wait for nothing that is not sent, and what is counted is what is sent.
                    assert_eq!(bytes.len(), scheme.envelope_bytes(i, LEN));
                    let sealed = secrets[usize::from(k)].seal(to, i as u8, &bytes).unwrap();
                    secrets[usize::from(to)].open(k, i as u8, &sealed).unwrap()
                }
                _ => bytes,
            };
            if arrives(link) {
                let receiver = &mut seats[place(to)].1;
                receiver.admit(from, &opened).unwrap();
                assert!(receiver.admit(from, &opened).is_err(), "twice");
                if let (PartyId::Client(k), "upload" | "upload again" | "sum") = (from, phase.name) {
                    uploaded.insert(k);
                }
            }
        }
    }
    let (_, server) = seats.last_mut().unwrap();
    server.step();
    Played { decoded: server.decoded().unwrap(), uploaded }
}

fn coded() -> Vec<ProtocolConfig> {
    let coded = |arithmetic, decoder| CoGcConfig {
        stragglers: 3.into(),
        arithmetic,
        decoder,
        ..CoGcConfig::default()
    };
    let secure = |arithmetic, decoder, quantisation| {
        let config = SecCoGcConfig {
            stragglers: 3.into(),
            keys: KeyChoice::Pairwise,
            arithmetic,
            decoder,
            quantisation,
            ..SecCoGcConfig::default()
        };
        ProtocolConfig::SecCoGc(config)
    };
    let (standard, plus) = (DecoderKind::Standard, DecoderKind::GcPlus);
    vec![
        ProtocolConfig::CoGc(coded(Arithmetic::F64, standard)),
        ProtocolConfig::CoGc(coded(Arithmetic::F32, plus)),
        secure(Arithmetic::F64, standard, None),
        secure(Arithmetic::F64, plus, None),
        secure(Arithmetic::Field, standard, Some(quantisation(Modulus::M61))),
        secure(Arithmetic::Field, standard, Some(quantisation(Modulus::M31))),
    ]
}

fn quantisation(modulus: Modulus) -> Quantisation {
    Quantisation { clip: 2.0, bits: 26, modulus, ..Quantisation::default() }
}

/// The schemes that sum over whoever uploaded, masked; any four clients suffice in all of them.
fn two_round(modulus: Modulus) -> Vec<ProtocolConfig> {
    let quantisation = || quantisation(modulus);
    let light = |colluders| {
        let config = LightSecAggConfig { survivors: 4, colluders, ..LightSecAggConfig::default() };
        ProtocolConfig::LightSecAgg(LightSecAggConfig { quantisation: quantisation(), ..config })
    };
    let groups = |group_size| {
        let config = GroupwiseConfig { survivors: 4, group_size, ..GroupwiseConfig::default() };
        ProtocolConfig::Groupwise(GroupwiseConfig { quantisation: quantisation(), ..config })
    };
    let plus = |neighbours, threshold| {
        let config =
            SecAggPlusConfig { neighbours, threshold: Some(threshold), ..SecAggPlusConfig::default() };
        ProtocolConfig::SecAggPlus(SecAggPlusConfig { quantisation: quantisation(), ..config })
    };
    let sec_agg =
        SecAggConfig { threshold: Some(4), quantisation: quantisation(), ..SecAggConfig::default() };
    vec![
        light(0),
        light(2),
        groups(2),
        groups(3),
        groups(4),
        ProtocolConfig::SecAgg(sec_agg),
        plus(5, 3),
        plus(4, 2),
    ]
}

fn uncoded() -> Vec<ProtocolConfig> {
    vec![
        ProtocolConfig::FedAvg(uncoded::FedAvg::default()),
        ProtocolConfig::FedAvg(uncoded::FedAvg { transmissions: 3, ..uncoded::FedAvg::default() }),
        ProtocolConfig::ZeroSum(uncoded::ZeroSum {
            keys: KeyChoice::Pairwise,
            ..uncoded::ZeroSum::default()
        }),
    ]
}

fn schemes() -> Vec<ProtocolConfig> {
    [uncoded(), coded(), two_round(Modulus::M61), two_round(Modulus::M31)].concat()
}

/// Panics unless the result is the sum over `included`.
fn check(config: &ProtocolConfig, decoded: &Decoded<f64>, included: &BTreeSet<u16>) {
    let Decoded::Sum { sum, included: got, .. } = decoded else { panic!("{config:?}: {decoded:?}") };
    assert_eq!(got.iter().collect::<Vec<_>>(), included.iter().collect::<Vec<_>>(), "{config:?}");
    let total: f64 = included.iter().map(|&k| f64::from(k) + 1.0).sum();
    for (i, x) in sum.iter().enumerate() {
        let exact = (i as f64 - 2.0) * total / 16.0;
        assert!((x - exact).abs() < 1e-4, "{config:?}: {x} for {exact}");
    }
}

#[test]
fn every_deployed_scheme_decodes_the_sum_from_bytes() {
    for config in schemes() {
        check(&config, &play(&config, |_| true).decoded, &(0..M).collect());
    }
}

#[test]
fn lost_messages_of_coded_schemes_give_the_exact_sum_or_an_outage() {
    // Any 3 complete sums suffice.
    let everybody = (0..M).collect();
    let tolerated =
        |link: LinkUse| link.to != PartyId::Server || !matches!(link.from, PartyId::Client(0 | 2 | 5));
    for config in &coded() {
        check(config, &play(config, tolerated).decoded, &everybody);
        let nothing_to_two = |link: LinkUse| !matches!(link.to, PartyId::Client(1 | 2));
        check(config, &play(config, nothing_to_two).decoded, &everybody);
        let one_is_gone = |link: LinkUse| link.from != PartyId::Client(3);
        assert_eq!(play(config, one_is_gone).decoded, Decoded::lost(), "{}", config.kind());
    }
}

/// A client that is gone from some moment on: nothing of it arrives from the phase `from` on.
#[test]
fn a_client_that_is_gone_costs_the_others_nothing_whenever_it_goes() {
    for config in two_round(Modulus::M61) {
        let phases =
            scheme(&config, M.into(), Seed::new(4), &Public::default(), 1.0).unwrap().phases().to_vec();
        let sends: Vec<usize> = (0..phases.len()).filter(|&i| phases[i].from == Role::Client).collect();
        for first in sends {
            let transfers = Phase::transfers(&phases);
            let gone = |link: LinkUse| {
                let roles = (link.from.role(), link.to.role());
                let at = (0..phases.len())
                    .find(|&i| (phases[i].from, phases[i].to) == roles && transfers[i] == link.transfer);
                link.from == PartyId::Client(3) && at.unwrap() >= first
            };
            let Played { decoded, uploaded } = play(&config, |link| !gone(link));
            assert!(uploaded.len() >= 5);
            check(&config, &decoded, &uploaded);
        }
    }
}

/// Independent losses, the same for a simulated round and for one from bytes.
struct Fate(Seed, f64);

impl LinkModel for Fate {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        let name = u64::from(link.from.code()) << 32 | u64::from(link.to.code());
        let mut rng = self.0.child("link", name).child("transfer", link.transfer.into()).rng();
        rng.random_range(0.0..1.0) >= self.1
    }

    fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
        self.1
    }
}

#[test]
fn a_round_from_bytes_ends_as_the_simulated_one() {
    let mut ends = [0; 3];
    for config in schemes() {
        // In simulation larger groups agree before the round and share nothing in it; masks of reals that do
        // not cancel are drawn otherwise.
        let alike = !matches!(&config, ProtocolConfig::Groupwise(groups) if groups.group_size > 2)
            && !matches!(config, ProtocolConfig::ZeroSum(_));
        let simulated = config.build(M.into(), Seed::new(4)).unwrap();
        for seed in 0..25 {
            let links = Fate(Seed::new(seed), 0.02 * (seed % 5) as f64);
            let arrives = |link: LinkUse| link.from == PartyId::Server || links.delivers(link.into());
            let Played { decoded, uploaded } = play(&config, arrives);
            if alike {
                let same = simulated.aggregate(ROUND, &updates(), &links, 1).unwrap().decoded;
                assert_eq!(decoded.reason(), same.reason(), "{config:?}, seed {seed}");
                assert_eq!(decoded.included(), same.included(), "{config:?}, seed {seed}");
            }
            let everybody: BTreeSet<u16> = (0..M).collect();
            match (&config, &decoded) {
                (_, Decoded::Outage(_)) => ends[0] += 1,
                (ProtocolConfig::ZeroSum(_), _) => {}
                (ProtocolConfig::CoGc(_) | ProtocolConfig::SecCoGc(_), _) => {
                    check(&config, &decoded, &everybody);
                }
                _ => {
                    check(&config, &decoded, &uploaded);
                    ends[1 + usize::from(uploaded == everybody)] += 1;
                }
            }
        }
    }
    // Outages, sums over some, sums over all.
    assert!(ends.iter().all(|&count| count > 30), "{ends:?}");
}

#[test]
fn partial_sums_and_repeats_from_bytes_are_the_simulated_ones() {
    let mut sizes = BTreeSet::new();
    for repeats in [1, 2] {
        let text = format!("kind = 'cogc'\nstragglers = 2\ndecoder = 'gc-plus-partial'\nrepeats = {repeats}");
        let config: ProtocolConfig = toml::from_str(&text).unwrap();
        let simulated = config.build(M.into(), Seed::new(4)).unwrap();
        for seed in 0..25 {
            let links = Fate(Seed::new(seed), 0.5);
            let decoded = play(&config, |link| links.delivers(link.into())).decoded;
            let same = simulated.aggregate(ROUND, &updates(), &links, 1).unwrap().decoded;
            assert_eq!(decoded.included(), same.included(), "{repeats} repeats, seed {seed}");
            if decoded.is_sum() {
                check(&config, &decoded, &decoded.included().iter().copied().collect());
            }
            sizes.insert(decoded.included().len());
        }
    }
    assert!(sizes.len() > 3, "{sizes:?}");
}

#[test]
fn an_announcement_that_is_late_is_a_client_that_drops_out() {
    for config in two_round(Modulus::M31) {
        for seed in 0..20 {
            let links = Fate(Seed::new(seed), 0.1);
            let arrives = |link: LinkUse| link.from != PartyId::Server || links.delivers(link.into());
            let Played { decoded, uploaded } = play(&config, arrives);
            if decoded.is_sum() {
                check(&config, &decoded, &uploaded);
            }
        }
    }
}

#[test]
fn an_upload_that_did_not_arrive_is_asked_for_again() {
    let config = &uncoded()[1];
    let lost = |link: LinkUse| link.from == PartyId::Client(2) && link.transfer < 2;
    check(config, &play(config, |link| link.to != PartyId::Server || !lost(link)).decoded, &(0..M).collect());
    let never = |link: LinkUse| link.from == PartyId::Client(2);
    let without = [0, 1, 3, 4, 5].into();
    check(config, &play(config, |link| link.to != PartyId::Server || !never(link)).decoded, &without);
}

#[test]
fn a_seat_refuses_what_is_not_for_it_now() {
    let config = &coded()[0];
    let scheme = scheme(config, 6, Seed::new(4), &Public::default(), 10.0).unwrap();
    let pair = KeyPair::generate().unwrap();
    let public: Vec<_> =
        (0..6).map(|k| if k == 0 { pair.public() } else { KeyPair::generate().unwrap().public() }).collect();
    let secrets = pair.agree(0, &public, b"").unwrap();
    let update = |x: f32| Update { weight: 1.0, delta: Arc::new(vec![x; 4]) };
    let seat = |round, x| scheme.client(0, round, &update(x), &secrets).unwrap();
    let first = |mut seat: Box<dyn Seat>| seat.step().remove(0);
    let letter = first(seat(5, 1.0));
    let PartyId::Client(to) = letter.to else { panic!() };
    let mut receiver = scheme
        .client(to, 5, &update(0.0), &{
            let pair = KeyPair::generate().unwrap();
            let public: Vec<_> =
                (0..6).map(|k| if k == to { pair.public() } else { public[usize::from(k)] }).collect();
            pair.agree(to, &public, b"").unwrap()
        })
        .unwrap();
    receiver.step();
    let mut refusal = |from, bytes: &[u8]| receiver.admit(from, bytes).unwrap_err();
    let sender = PartyId::Client(0);
    assert_eq!(refusal(sender, &first(seat(4, 1.0)).bytes), "it is from round 4, attempt 1");
    let other = refusal(PartyId::Client(4), &letter.bytes);
    assert_eq!(other, "it names client 1 as its sender");
    let huge = refusal(sender, &first(seat(5, 1e9)).bytes);
    assert!(huge.contains("beyond the accepted 1.000e1"), "{huge}");
    refusal(sender, &letter.bytes[..20]);
    receiver.admit(sender, &letter.bytes).unwrap();
}

#[test]
fn a_seat_refuses_what_the_scheme_does_not_expect_of_a_phase() {
    let config = &two_round(Modulus::M61)[5];
    let scheme = scheme(config, M.into(), Seed::new(4), &Public::default(), 1.0).unwrap();
    let mut server = scheme.server(ROUND, LEN);
    assert_eq!(server.admit(PartyId::Client(0), &[0; 40]).unwrap_err(), "nothing was sent yet");
    server.step();
    let header = |variant: u8, phase: u8, bytes: u8| {
        let mut envelope = vec![0; HEADER_BYTES];
        (envelope[0], envelope[12], envelope[13]) = (ROUND as u8, phase, 1 << 5 | 2 << 3 | variant);
        (envelope[14], envelope[22]) = (1, bytes);
        envelope
    };
    let mut refusal = |envelope: &[u8]| server.admit(PartyId::Client(0), envelope).unwrap_err();
    assert_eq!(refusal(&header(7, 0, 0)), "message variant 7, which this protocol does not have");
    assert_eq!(refusal(&[header(0, 0, 9), vec![1; 9]].concat()), "9 bytes instead of 64");
    assert_eq!(refusal(&[header(0, 0, 64), vec![0; 64]].concat()), "a public key has small order");
    let upload = [header(4, 0, 56), vec![0; 56]].concat();
    assert_eq!(refusal(&upload), "no message to the server in phase 0");
    // Seven clients in a list, where there are six.
    let list = [header(1, 0, 0), vec![0; 7 * 66]].concat();
    let list = [&list[..22], &(7u32 * 66).to_le_bytes(), &list[26..]].concat();
    assert_eq!(refusal(&list), "462 bytes instead of up to 6 entries of 66");
}

#[test]
fn a_dealer_or_a_simulated_scheme_is_refused() {
    let refusal = |config: &ProtocolConfig| {
        scheme(config, 6, Seed::new(1), &Public::default(), 1.0).err().unwrap().to_string()
    };
    for keys in [KeyChoice::Fair, KeyChoice::Optimised] {
        let config = SecCoGcConfig { keys, stragglers: 3.into(), ..SecCoGcConfig::default() };
        assert_eq!(
            refusal(&ProtocolConfig::SecCoGc(config)),
            "keys: without a dealer keys are agreed by pairs of clients; take keys = \"pairwise\" and no link keys"
        );
    }
    assert_eq!(
        refusal(&ProtocolConfig::Ideal(uncoded::Ideal::default())),
        "kind: ideal runs in simulation only; take fedavg, gaussian, zero-sum, cogc, sec-cogc, light-sec-agg, groupwise, \
         sec-agg or sec-agg-plus"
    );
    assert_eq!(
        refusal(&ProtocolConfig::ZhaoSun(ZhaoSunConfig::default())),
        "kind: zhao-sun needs a dealer of its masks' shares; take light-sec-agg, the same without one"
    );
    assert_eq!(
        refusal(&ProtocolConfig::Hierarchical(HierarchicalConfig::default())),
        "kind: hierarchical needs helpers, and a deployment has none; take light-sec-agg"
    );
    assert_eq!(
        refusal(&ProtocolConfig::SecureGc(SecureGcConfig::default())),
        "kind: secure-gc needs data that several clients hold, and deployed clients keep theirs; take sec-cogc"
    );
    let keys = SharedKeys::Uniform;
    for config in [
        ProtocolConfig::SecAgg(SecAggConfig { keys, ..SecAggConfig::default() }),
        ProtocolConfig::SecAggPlus(SecAggPlusConfig { keys, neighbours: 4, ..SecAggPlusConfig::default() }),
        ProtocolConfig::Groupwise(GroupwiseConfig { keys, ..GroupwiseConfig::default() }),
    ] {
        let rule = "keys: uniform keys need a dealer, and a deployment has none; take \"agreement\"";
        assert_eq!(refusal(&config), rule);
    }
    let few = ProtocolConfig::LightSecAgg(LightSecAggConfig { survivors: 7, ..LightSecAggConfig::default() });
    assert_eq!(refusal(&few), "survivors: 7 survivors of 6 clients do not exist; give 1 to 6");
}
