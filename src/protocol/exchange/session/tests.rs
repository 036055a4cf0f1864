use super::*;
use crate::network::NetworkConfig;
use crate::protocol::ProtocolConfig;

const CLIENTS: usize = 5;
const LEN: usize = 2 * CHUNK + 301;

/// Plays in parts of as many bytes.
struct InParts(usize);

impl Assemble for InParts {
    type Output = Box<dyn Aggregator>;

    const APART: bool = false;

    fn real<P>(self, protocol: P, single: bool, setup: Setup) -> Self::Output
    where
        P: Protocol<f32, Message: Wire<f32>>
            + Protocol<f64, Message: Wire<f64>>
            + Protocol<LinearForm>
            + 'static,
    {
        Simulated.real(protocol, single, Setup { part_bytes: self.0, ..setup })
    }

    fn field<F, P>(self, protocol: P, quantiser: Quantiser, setup: Setup) -> Self::Output
    where
        F: Prime + WireSymbol,
        P: Protocol<F, Message: Wire<F>> + Protocol<LinearForm<F>> + 'static,
    {
        Simulated.field::<F, P>(protocol, quantiser, Setup { part_bytes: self.0, ..setup })
    }
}

fn updates() -> Vec<Update> {
    let update = |k: usize| {
        let delta = (0..LEN).map(|i| ((3 * k + i) as f32).sin()).collect();
        Update { weight: 1.0 + k as f64, delta: Arc::new(delta) }
    };
    (0..CLIENTS).map(update).collect()
}

/// The same messages, sizes, losses and seconds as in one piece, and the same sum bit for bit: with the same
/// keys and coins.
#[test]
fn parts_make_the_whole() {
    let network = "client_client = { kind = 'bernoulli', erasure = 0.1 }\n\
                   client_server = { kind = 'deadline', deadline = 0.02, latency = 0.0, jitter = 0.005, rate = 1.8e7 }\n";
    let secure = |more: &str| format!("kind = 'sec-cogc'\nstragglers = 2\nkey_std = 3.0\n{more}");
    let cases = [
        secure("arithmetic = 'f64'"),
        secure("arithmetic = 'f64'\ndecoder = 'gc-plus'\nkeys = 'plain'"),
        secure("arithmetic = 'f32'\nlink_key_std = 1.0"),
        secure("arithmetic = 'field'\nquantisation = { clip = 8.0, bits = 20 }"),
        "kind = 'fedavg'\narithmetic = 'field'\nquantisation = { clip = 8.0, bits = 6, rounding = 'stochastic' }".into(),
        secure("arithmetic = 'field'\ndecoder = 'gc-plus'\nquantisation = { modulus = '2^31-1', clip = 8.0, bits = 20 }"),
        "kind = 'cogc'\nstragglers = 2\narithmetic = 'f32'".into(),
        "kind = 'zero-sum'\nkeys = 'pairwise'".into(),
        "kind = 'gaussian'".into(),
    ];
    let (updates, mut outages) = (updates(), 0);
    for case in cases {
        let config: ProtocolConfig = toml::from_str(&case).unwrap();
        let [whole, parts] = [usize::MAX, 0].map(|part_bytes| {
            let given = Given { clients: CLIENTS, seed: Seed::new(3), public: &Public::default() };
            config.assemble(given, InParts(part_bytes)).unwrap()
        });
        let network: NetworkConfig = toml::from_str(network).unwrap();
        let links = network.build(CLIENTS, 20, Seed::new(4)).unwrap();
        let mut sums = 0;
        for round in 1..=20 {
            let [a, b] = [&whole, &parts].map(|scheme| scheme.aggregate(round, &updates, &links, 2).unwrap());
            assert_eq!((a.attempts, a.arrivals, a.traffic), (b.attempts, b.arrivals, b.traffic), "{case}");
            assert_eq!((a.seconds, &a.sent), (b.seconds, &b.sent), "{case}");
            // The bound on what rounding did is wider where fewer coordinates are looked at together.
            match (&a.decoded, &b.decoded) {
                (
                    Decoded::Sum { sum, included, error },
                    Decoded::Sum { sum: other, included: same, error: more },
                ) => {
                    sums += 1;
                    assert_eq!(sum.len(), LEN);
                    assert!(sum == other && included == same, "{case}, round {round}");
                    assert!((*error..=1.1 * error).contains(more), "{error} {more}");
                }
                (Decoded::Outage(reason), Decoded::Outage(same)) if reason == same => outages += 1,
                _ => panic!("{case}, round {round}"),
            }
        }
        assert!(sums > 0, "{case}");
    }
    assert!(outages > 0);
}

/// Single updates are those that were received, whatever the parts: to the bit where nothing is added, and
/// else what an eavesdropper of the same round reads.
#[test]
fn single_updates_are_what_arrived() {
    let network = "client_server = { kind = 'bernoulli', erasure = 0.4 }";
    let network: NetworkConfig = toml::from_str(network).unwrap();
    let links = network.build(CLIENTS, 20, Seed::new(4)).unwrap();
    let updates = updates();
    for (case, plain) in [
        ("kind = 'ideal'", true),
        ("kind = 'fedavg'", true),
        ("kind = 'fedavg'\narithmetic = 'field'\nquantisation = { clip = 8.0, bits = 30 }", false),
        ("kind = 'gaussian'\narithmetic = 'f64'", false),
        ("kind = 'gaussian'\narithmetic = 'f64'\ngrid = false\nleast_included = 3", false),
        ("kind = 'gaussian'", false),
    ] {
        let config: ProtocolConfig = toml::from_str(case).unwrap();
        let (public, seed) = (Public::default(), Seed::new(3));
        let given = Given { clients: CLIENTS, seed, public: &public };
        let of_parts = |part_bytes: usize| match &config {
            ProtocolConfig::Ideal(_) => config.build(CLIENTS, seed).unwrap(),
            _ => config.assemble(given, InParts(part_bytes)).unwrap(),
        };
        let [whole, parts] = [usize::MAX, 0].map(of_parts);
        assert!(whole.shows_single_updates());
        let mut outages = 0;
        for round in 1..=6 {
            let (a, singles) = whole.aggregate_singly(round, &updates, &links, 1).unwrap();
            let (b, of_parts) = parts.aggregate_singly(round, &updates, &links, 1).unwrap();
            assert_eq!(b.decoded.included(), a.decoded.included());
            assert_eq!(parts.aggregate(round, &updates, &links, 1).unwrap().decoded, b.decoded, "{case}");
            outages += usize::from(a.decoded.reason().is_some());
            assert_eq!(
                (singles.len(), of_parts.len()),
                (b.decoded.included().len(), singles.len()),
                "{case}"
            );
            let received = whole.received(round, &updates, &links, 1, PartyId::Server);
            for (i, &k) in b.decoded.included().iter().enumerate() {
                let (own, single) = (&updates[usize::from(k)], &singles[i]);
                assert_eq!((single.weight, single.delta.len()), (own.weight, LEN));
                assert!(single.delta == of_parts[i].delta, "{case}, round {round}, client {k}");
                assert_eq!(Arc::ptr_eq(&single.delta, &own.delta), plain, "{case}");
                let heard: Vec<f32> = match &received {
                    Ok(vectors) => vectors[i].iter().map(|x| (own.weight.recip() * x) as f32).collect(),
                    // Over a field: the quantised update, half a step of 2⁻²⁶ off at most.
                    Err(_) => own.delta.to_vec(),
                };
                let tolerance = if case.contains("f64") { 0.0 } else { 1e-6 };
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= tolerance * (1.0 + b.abs());
                assert!(single.delta.iter().zip(&heard).all(near), "{case}, round {round}, client {k}");
            }
        }
        assert!(outages < 6 && (outages > 0 || !case.contains("least")), "{case}");
    }
    // Hidden ones cannot be had, and an update that is not finite is in nobody's hands.
    let build = |text: &str| {
        let config: ProtocolConfig = toml::from_str(text).unwrap();
        config.build(CLIENTS, Seed::new(3)).unwrap()
    };
    for hidden in ["kind = 'zero-sum'", "kind = 'cogc'\nstragglers = 2", "kind = 'sec-agg'\nthreshold = 3"] {
        let scheme = build(hidden);
        assert!(!scheme.shows_single_updates());
        let error = scheme.aggregate_singly(1, &updates, &links, 1).unwrap_err().to_string();
        assert_eq!(error, "the scheme shows the server a sum only; single updates cannot be had");
    }
    let mut broken = updates.clone();
    Arc::make_mut(&mut broken[0].delta)[0] = f32::NAN;
    let (aggregate, singles) = build("kind = 'gaussian'").aggregate_singly(1, &broken, &links, 1).unwrap();
    assert_eq!((aggregate.decoded, singles.len()), (Decoded::Outage(Reason::Precision), 0));
}

#[test]
fn parts_are_whole_chunks_and_occupy_all_threads() {
    let on = |threads, work: fn()| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work);
    };
    on(2, || {
        assert_eq!(part_len(0, 80), CHUNK);
        assert_eq!(part_len(80 * (4 * CHUNK - 1), 80), 2 * CHUNK);
        assert_eq!(part_len(80 * 4 * CHUNK, 80), 4 * CHUNK);
    });
    on(9, || assert_eq!(part_len(0, 80), 16 * crate::keys::CHUNK));
}

/// A scheme that hands over other inputs than it included is broken, and says so.
#[test]
fn singles_that_are_not_those_of_the_sum_are_a_defect() {
    use crate::protocol::exchange::singles::Gathered;
    let updates = updates();
    let append = |vectors: &[usize]| {
        let singles = vectors.iter().map(|&len| Arc::new(vec![1.0; len])).collect();
        let decoded = Decoded::exact(vec![0.0; 4], vec![1, 3]);
        Gathered::new(&updates).append::<u8, f64, f64>(&decoded, singles, |x| x)
    };
    assert!(append(&[4, 4]).is_ok());
    for (wrong, what) in [(&[4][..], "1 single inputs of [4]"), (&[4, 3], "2 single inputs of [4, 3]")] {
        let line = append(wrong).unwrap_err().to_string();
        let want =
            format!("u8: a result of 4 symbols over 2 clients is made of {what}; this breaks the contract");
        assert!(line.starts_with(&want), "{line}");
    }
}
