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
            config.assemble(CLIENTS, Seed::new(3), &Public::default(), InParts(part_bytes)).unwrap()
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
