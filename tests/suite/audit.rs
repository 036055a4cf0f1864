//! The audit against independent answers: closed forms, Monte-Carlo estimates and another implementation of
//! ε; and its command line.

use nalgebra::{DMatrix, DVector};
use seccogc::algebra::grid::Public;
use seccogc::algebra::{LinearForm, Sample};
use seccogc::audit::calibrate::{Bounds, calibrate};
use seccogc::audit::erasures::Lost;
use seccogc::audit::{Adversaries, Assumptions, Audit, Entry, Erasures, audit};
use seccogc::audits::{Losses, Subject};
use seccogc::coding::{CodeKind, GradientCode};
use seccogc::config::Config;
use seccogc::keys::{KeyChoice, KeyKind, SeededKeys};
use seccogc::message::Observed;
use seccogc::network::{LinkUse, Perfect};
use seccogc::privacy::rank::Determined;
use seccogc::privacy::view::{Coalition, View};
use seccogc::privacy::{Leakage, ldp, lmip};
use seccogc::protocol::cogc::{CoGc, CoGcConfig, Codes, Key, SecCoGcConfig};
use seccogc::protocol::exchange::run;
use seccogc::protocol::sec_agg::SecAggConfig;
use seccogc::protocol::{
    Aggregator, Input, Message, PartyId, Protocol, ProtocolConfig, Secret, Update, Views, uncoded,
};
use seccogc::seed::Seed;

const KINDS: [KeyKind; 3] = [KeyKind::Plain, KeyKind::Fair, KeyKind::Pairwise];

fn scheme(clients: usize, config: SecCoGcConfig) -> Box<dyn Aggregator> {
    ProtocolConfig::SecCoGc(config).build(clients, Seed::new(1)).unwrap()
}

fn assumptions(clients: usize) -> Assumptions {
    Assumptions {
        input_std: 1.0,
        clip: Some(1.0),
        weights: vec![1.0; clients].into(),
        delta: 1e-5,
        rounds: 1,
        coordinates: None,
    }
}

/// The worst-case audit without coalitions.
fn worst(scheme: &dyn Aggregator, assumptions: &Assumptions) -> Audit {
    audit("a", scheme, Erasures::Worst(Seed::new(2)), 1, &Adversaries::default(), assumptions).unwrap()
}

fn of_layer<'a>(entries: &'a [Entry], layer: &str) -> Vec<&'a Entry> {
    entries.iter().filter(|entry| entry.layer == layer).collect()
}

#[test]
fn epsilon_agrees_with_dp_accounting() {
    let table = include_str!("../../experiments/gaussian_dp/epsilon.csv");
    let mut lines = 0;
    for line in table.lines().skip(1) {
        let fields: Vec<f64> = line.split(',').map(|field| field.parse().unwrap()).collect();
        let &[mu, rounds, delta, closed, low, high] = &fields[..] else { panic!("{line}") };
        let epsilon = ldp::epsilon(mu * rounds.sqrt(), delta);
        assert!((epsilon / closed - 1.0).abs() < 1e-10, "{line}: {epsilon}");
        assert!(low <= epsilon && epsilon <= high * (1.0 + 1e-7), "{line}: {epsilon}");
        lines += 1;
    }
    assert_eq!(lines, 12);
}

#[test]
fn strengths_worked_by_hand() {
    // Independent noise of σ = 4, C = 1: an upload x + σ g moves by 2 on the view, μ = 2/4; with the sum
    // kept, two clients move by 2 each, μ = 2√2/4. Weights 2, 1, 1 stretch the reach of client 1, and of a
    // pair by the smaller one.
    let noise = ProtocolConfig::Gaussian(uncoded::Gaussian { key_std: 4.0, ..Default::default() });
    let scheme = noise.build(3, Seed::new(1)).unwrap();
    let assumptions = Assumptions { weights: vec![2.0, 1.0, 1.0].into(), rounds: 9, ..assumptions(3) };
    let audit = worst(&*scheme, &assumptions);
    let server = of_layer(&audit.entries, "server");
    let close = |got: f64, mu: f64| {
        let want = ldp::epsilon(mu, 1e-5);
        assert!((got / want - 1.0).abs() < 1e-9, "{got} for {want}");
    };
    close(server[0].epsilon_view, 1.0);
    close(server[1].epsilon_view, 0.5);
    close(server[0].epsilon_beyond_sum, 0.5 * 2f64.sqrt());
    close(server[1].epsilon_view_total, 1.5);
    close(server[1].epsilon_beyond_sum_total, 1.5 * 2f64.sqrt());
    // A link of Fair-SecCoGC: b (x + u) with Var(u) = σ², μ = 2C/σ and LMIP ½ ln(1 + 1/σ²), whatever b.
    let fair = self::scheme(6, SecCoGcConfig { key_std: 4.0, stragglers: 3.into(), ..Default::default() });
    let assumptions = Assumptions { rounds: 1, ..self::assumptions(6) };
    let audit = worst(&*fair, &assumptions);
    for entry in of_layer(&audit.entries, "link") {
        close(entry.epsilon_view, 0.5);
        assert!((entry.lmip_nats - 0.5 * (1.0 / 16.0f64).ln_1p()).abs() < 1e-12);
    }
}

#[test]
fn without_a_clip_epsilon_is_infinite_for_whoever_sees_something() {
    let scheme = scheme(4, SecCoGcConfig { stragglers: 1.into(), ..Default::default() });
    let assumptions = Assumptions { clip: None, ..assumptions(4) };
    let audit = worst(&*scheme, &assumptions);
    assert!(audit.entries.iter().all(|entry| entry.epsilon_view.is_infinite()));
    let fedavg = ProtocolConfig::FedAvg(uncoded::FedAvg::default()).build(4, Seed::new(1)).unwrap();
    let audit = worst(&*fedavg, &assumptions);
    for entry in of_layer(&audit.entries, "neighbour") {
        assert_eq!((entry.lmip_nats, entry.epsilon_view), (0.0, 0.0), "another client receives nothing");
    }
    assert!(
        of_layer(&audit.entries, "server")
            .iter()
            .all(|entry| entry.symbols == 3 && entry.counterexample == "x1")
    );
}

#[test]
fn the_layers_agree_with_the_per_round_leakage() {
    let scheme =
        scheme(6, SecCoGcConfig { keys: KeyKind::Plain.into(), stragglers: 3.into(), ..Default::default() });
    let leakage = Leakage::of(&scheme.views(1, &Perfect, 1).unwrap(), &[0.7; 6]).unwrap();
    let assumptions = Assumptions { input_std: 0.7, ..assumptions(6) };
    let adversaries = Adversaries { all: 2, coalition: Some(Coalition::parse("server+5+6", 6).unwrap()) };
    let audit = audit("a", &*scheme, Erasures::Worst(Seed::new(2)), 1, &adversaries, &assumptions).unwrap();
    for (layer, want) in
        [("link", &leakage.link), ("neighbour", &leakage.neighbour), ("server", &leakage.server)]
    {
        let entries = of_layer(&audit.entries, layer);
        assert_eq!(entries.len(), 6);
        assert!(
            entries.iter().zip(want).all(|(entry, want)| (entry.lmip_nats - want).abs() < 1e-12),
            "{layer}"
        );
    }
    let (one, two) =
        (of_layer(&audit.entries, "server + 1 client"), of_layer(&audit.entries, "server + 2 clients"));
    let named = of_layer(&audit.entries, "server+5+6");
    assert_eq!((one.len(), two.len(), named.len()), (6, 6, 4));
    for k in 0..4 {
        assert!(
            one[k].lmip_nats <= two[k].lmip_nats + 1e-12 && named[k].lmip_nats <= two[k].lmip_nats + 1e-12
        );
        assert!(two[k].symbols == 0 && two[k].floor_bits < two[k].lmip_bits);
    }
    assert!(audit.findings.is_empty(), "{:?}", audit.findings);
}

/// Squared multiple correlation of `x` with the columns of `z`, by least squares over the sample.
fn correlation(x: &DVector<f64>, z: &DMatrix<f64>) -> f64 {
    let gram = z.tr_mul(z);
    let moments = z.tr_mul(x);
    let weights = gram.cholesky().expect("the chosen messages are independent").solve(&moments);
    weights.dot(&moments) / x.norm_squared()
}

/// Every coordinate of a numeric round is one sample of (x_k, what the adversary sees), so that −½ ln(1 − R²)
/// estimates LMIP. With n = 40,000 coordinates its standard error is ρ/√n to first order; the bound of 4.5 of
/// them plus the bias p/2n for p regressors gives α < 10⁻⁵ a comparison for a correct audit.
#[test]
fn monte_carlo_estimates_agree_with_the_closed_forms() {
    let (clients, stragglers, n) = (6, 3, 40_000);
    for keys in KINDS {
        let seed = Seed::new(1).child("code", 0);
        let code = GradientCode::build(CodeKind::Auto, clients, stragglers, seed).unwrap();
        let protocol = CoGc {
            codes: Codes::new(code.into(), None).into(),
            keys: Some((keys.into(), 1.5)),
            link_std: 0.0,
            grid: None,
            public: Public::default(),
            least: 1,
        };
        let updates: Vec<Update> = (0..clients as u64)
            .map(|k| {
                let mut delta = vec![0.0f32; n];
                f32::sample(&mut Seed::new(20).child("x", k).rng(), &mut delta);
                Update { weight: 1.0, delta: delta.into() }
            })
            .collect();
        let inputs: Vec<&dyn Input<f64>> = updates.iter().map(|update| update as _).collect();
        let source = SeededKeys(Seed::new(21));
        let mut messages: Vec<(LinkUse, Vec<f64>)> = Vec::new();
        run(&protocol, 1, &inputs, &source, &Perfect, 1, |sent, _, link| {
            messages.push((link, Message::<f64>::reveals(sent).remove(0)));
        });
        let masks: Vec<Vec<f64>> =
            protocol.deal(1, n, &source).iter().map(|key: &Key<f64>| key.held().concat()).collect();
        let x = |k: usize| DVector::from_iterator(n, updates[k].delta.iter().map(|x| f64::from(*x)));
        let columns = |seen: &[&[f64]]| DMatrix::from_fn(n, seen.len(), |row, column| seen[column][row]);
        let formal = scheme(
            clients,
            SecCoGcConfig {
                keys: keys.into(),
                key_std: 1.5,
                stragglers: stragglers.into(),
                ..Default::default()
            },
        );
        let views = formal.views(1, &Perfect, 1).unwrap();
        let check = |name: &str, k: usize, seen: &[&[f64]], rows: &[LinearForm]| {
            let want = lmip(rows, &[1.0; 6]).unwrap()[k];
            let got = -0.5 * (-correlation(&x(k), &columns(seen))).ln_1p();
            let rho = (1.0 - (-2.0 * want).exp()).sqrt();
            let bound = 4.5 * rho / (n as f64).sqrt() + seen.len() as f64 / (2 * n) as f64 + 1e-4;
            assert!((got - want).abs() < bound, "{keys:?} {name} {k}: {got} for {want} ± {bound}");
        };
        let observed = |to: PartyId| -> Vec<(&[f64], &Observed)> {
            let both = messages.iter().zip(&views.messages);
            both.filter(|((link, _), _)| link.to == to)
                .map(|((_, seen), formal)| (&seen[..], formal))
                .collect()
        };
        // A link; client 1 with its own update and key; the server, from as many sums as are independent.
        let (link, (share, form)) = (messages[0].0, (&messages[0].1, &views.messages[0]));
        let PartyId::Client(sender) = link.from else { panic!("the first message is a share") };
        check("link", usize::from(sender), &[share], &form.forms);
        let own: Vec<f64> = updates[0].delta.iter().map(|x| f64::from(*x)).collect();
        let mut seen: Vec<&[f64]> = observed(PartyId::Client(0)).iter().map(|(seen, _)| *seen).collect();
        seen.extend([&own[..], &masks[0][..]]);
        let view = View::of(&views, Coalition::of([PartyId::Client(0)]));
        check("neighbour", 4, &seen, &view.rows);
        let sums = observed(PartyId::Server);
        let seen: Vec<&[f64]> = sums.iter().take(clients - stragglers).map(|(seen, _)| *seen).collect();
        let view = View::of(&views, Coalition::of([PartyId::Server]));
        check("server", 5, &seen, &view.rows);
    }
}

/// Rank decisions at the stated tolerances: codes with decoding amplifications up to some 10⁵ and keys from
/// 10⁻⁶ to 10⁶ times the update, against the ranks known by construction.
#[test]
fn rank_decisions_hold_for_bad_codes_and_extreme_keys() {
    let codes = [
        (CodeKind::CyclicMds, 10, 7),
        (CodeKind::CyclicMds, 21, 10),
        (CodeKind::CyclicRandom, 10, 4),
        (CodeKind::CyclicRandom, 21, 4),
        (CodeKind::FractionalRepetition, 12, 3),
    ];
    for (code, clients, stragglers) in codes {
        let bare =
            ProtocolConfig::CoGc(CoGcConfig { code, stragglers: stragglers.into(), ..Default::default() });
        let bare = bare.build(clients, Seed::new(1)).unwrap().views(1, &Perfect, 1).unwrap();
        let server =
            |views: &Views| Determined::of(&View::of(views, Coalition::of([PartyId::Server]))).unwrap();
        let rank = if code == CodeKind::FractionalRepetition {
            clients / (stragglers + 1)
        } else {
            clients - stragglers
        };
        let without_keys = server(&bare);
        assert_eq!((without_keys.combinations.len(), without_keys.sum), (rank - 1, true), "{code:?}");
        let mut scaled = Vec::new();
        for key_std in [1e-6, 1e-3, 1.0, 1e3, 1e6] {
            let config = SecCoGcConfig { code, stragglers: stragglers.into(), key_std, ..Default::default() };
            let scheme = scheme(clients, config);
            let determined = server(&scheme.views(1, &Perfect, 1).unwrap());
            assert!(
                determined.combinations.is_empty() && determined.sum,
                "{code:?} {clients} {key_std}: {determined:?}"
            );
            let lossless = Lost::default();
            let assumptions = Assumptions { clip: Some(key_std), ..assumptions(clients) };
            let result =
                audit("a", &*scheme, Erasures::These(&lossless), 1, &Adversaries::default(), &assumptions);
            scaled.push(of_layer(&result.unwrap().entries, "server")[0].epsilon_beyond_sum);
        }
        // C and σ grow together: the same ε.
        assert!(scaled.iter().all(|e| (e / scaled[2] - 1.0).abs() < 1e-6), "{code:?} {clients}: {scaled:?}");
    }
}

#[test]
fn calibrated_keys_are_the_weakest_that_suffice() {
    // Independent noise: LMIP ½ log₂(1 + 1/σ²) bits at upload and server, so b bits need σ = (4^b − 1)^−½;
    // and μ = 2C/σ.
    let noise = ProtocolConfig::Gaussian(uncoded::Gaussian::default());
    let smallest = |bounds: Bounds| {
        let found =
            calibrate(&noise, &bounds, Seed::new(1), 1, &Adversaries::default(), &[assumptions(3)]).unwrap();
        assert_eq!(found.len(), 1);
        found[0].key_std.unwrap()
    };
    let std = smallest(Bounds { epsilon: None, lmip_bits: Some(0.25) });
    let want = (4f64.powf(0.25) - 1.0).sqrt().recip();
    assert!(std >= want * (1.0 - 1e-9) && std <= want * 1.0002, "{std} for {want}");
    let std = smallest(Bounds { epsilon: Some(3.0), lmip_bits: None });
    let (met, missed) = (ldp::epsilon(2.0 / std, 1e-5), ldp::epsilon(2.0 * 1.0002 / std, 1e-5));
    assert!(met <= 3.0 && missed > 3.0, "{met} {missed}");
}

#[test]
fn fair_keys_need_less_power_than_plain_ones() {
    let protocol = ProtocolConfig::SecCoGc(SecCoGcConfig {
        code: CodeKind::CyclicMds,
        stragglers: 7.into(),
        ..Default::default()
    });
    let bounds = Bounds { epsilon: Some(8.0), lmip_bits: None };
    let assumptions = [Assumptions { rounds: 150, ..assumptions(10) }];
    let adversaries = Adversaries { all: 1, coalition: None };
    let found = calibrate(&protocol, &bounds, Seed::new(1), 1, &adversaries, &assumptions).unwrap();
    let power = |keys: KeyKind| {
        found.iter().find(|one| one.keys == Some(KeyChoice::from(keys))).unwrap().total_power.unwrap()
    };
    let (fair, plain, pairwise) = (power(KeyKind::Fair), power(KeyKind::Plain), power(KeyKind::Pairwise));
    assert!((plain / fair - 2.0).abs() < 1e-3, "{plain} {fair}");
    // The same law; but a client who colludes knows what it shares with each of the nine others.
    assert!((pairwise / fair - 10.0 / 9.0).abs() < 1e-3, "{pairwise} {fair}");
    // No key goes below what the sum itself reveals: ½ log₂(10/9) = 0.0760 bits.
    let bounds = Bounds { epsilon: None, lmip_bits: Some(0.07) };
    let adversaries = Adversaries::default();
    let refused = calibrate(&protocol, &bounds, Seed::new(1), 1, &adversaries, &assumptions).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "privacy.max_lmip_bits: 0.07 is below what the sum alone tells (server, client 1: 0.0760 bits per coordinate), which no keys \
         hide; give at least that, or examine fewer colluders"
    );
}

fn seccogc(args: &[&str]) -> (i32, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_seccogc")).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn an_exceeded_bound_is_exit_code_1_after_the_table() {
    let base = ["audit", "configs/mnist.toml", "--set", "protocol.key_std=10"];
    let with = |more: &[&str]| seccogc(&[&base[..], more].concat());
    let (code, out, err) = with(&["--set", "privacy.max_lmip_bits=0.13"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("server + 1 client"));
    assert!(
        out.contains("\nadversaries follow the protocol and pool what they see; what holds beyond that: ")
    );
    let (code, out, err) = with(&["--set", "privacy.max_lmip_bits=0.01"]);
    assert_eq!(code, 1);
    assert!(out.contains("server + 1 client") && err.lines().count() == 1, "{out}{err}");
    assert!(
        err.starts_with("exceeded: sec-cogc: server + 1 client, client ")
            && err.contains("above privacy.max_lmip_bits = 0.01"),
        "{err}"
    );
    let (code, _, err) = with(&["--set", "privacy.max_ldp_epsilon=5"]);
    assert_eq!(code, 1);
    assert!(err.contains("epsilon is unbounded"), "{err}");
    let (code, out, _) = with(&["--erasures", "actual", "--format", "csv"]);
    assert_eq!((code, out.lines().count()), (0, 1 + 5 * 10));
    for (wrong, line) in [
        (["--coalition", "11"], "error: coalition `11`: `11` is not a client; they are numbered 1 to 10\n"),
        (
            ["--set", "privacy.ldp_delta=1"],
            "error: --set privacy.ldp_delta=1: privacy.ldp_delta: 1 must be greater than 0 and below 1\n",
        ),
        (
            ["--set", "privacy.max_ldp_epsilon=0"],
            "error: --set privacy.max_ldp_epsilon=0: privacy.max_ldp_epsilon: 0 must be a finite number greater than 0\n",
        ),
    ] {
        assert_eq!(with(&wrong), (2, String::new(), line.into()));
    }
}

#[test]
fn erasure_files_are_read_and_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lost.csv");
    let sec_agg = ProtocolConfig::SecAgg(SecAggConfig::default()).build(3, Seed::new(1)).unwrap();
    let phases = sec_agg.phases();
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Lost::load(&path, 3, 2, &phases)
            .map_err(|error| error.to_string().replace(&path.display().to_string(), "F"))
    };
    let (one, two, server) = (PartyId::Client(0), PartyId::Client(1), PartyId::Server);
    // SecAgg's clients send to the server four times an attempt, and nothing to each other.
    assert_eq!(load("from,to\n1,2\n").unwrap(), Lost::default());
    let uploads = (0..2).flat_map(|attempt| (0..4).map(move |transfer| (attempt, transfer, one, server)));
    assert_eq!(load("from,to\n1,server\n").unwrap(), Lost(uploads.collect()));
    let second = (0..4).map(|transfer| (1, transfer, two, server));
    assert_eq!(load("from,to,attempt\n2,server,2\n").unwrap(), Lost(second.collect()));
    assert_eq!(
        load("from,to,attempt,transfer\n2,server,2,upload\n1,server,,keys\n").unwrap(),
        Lost([(1, 2, two, server), (0, 0, one, server), (1, 0, one, server)].into())
    );
    assert_eq!(
        load("from,to,attempt,transfer\n2,server,2,sum\n").unwrap_err(),
        "F: line 2: `sum` is no transfer from client 2 to server of this protocol; it has keys, shares, upload, answer"
    );
    assert_eq!(
        load("a,b\n1,2\n").unwrap_err(),
        "F: the first line must be `from,to`, `from,to,attempt` or `from,to,attempt,transfer`"
    );
    assert_eq!(
        load("from,to\n1,4\n").unwrap_err(),
        "F: line 2: `4` is neither `server` nor a client from 1 to 3"
    );
    assert_eq!(load("from,to\n1\n").unwrap_err(), "F: line 2: give sender and receiver");
    assert_eq!(load("from,to,attempt\n1,2,3\n").unwrap_err(), "F: line 2: `3` is not an attempt from 1 to 2");
}

#[test]
fn every_run_directory_holds_the_leakage_of_a_lossless_round() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let sets = [
        "rounds=1",
        "solver.steps=1",
        "solver.batch_size=2",
        "solver.clip_norm=1",
        "protocol.key_std=2",
        "model.hidden=2",
    ];
    let mut args = vec!["train", "configs/mnist.toml", "--quiet", "--out", run.to_str().unwrap()];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    let (code, _, err) = seccogc(&args);
    assert_eq!(code, 0, "{err}");
    let table = std::fs::read_to_string(run.join("leakage.csv")).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 1 + 4 * 10);
    let column = |name: &str| lines[0].split(',').position(|header| header == name).unwrap();
    let link: Vec<&str> = lines[1].split(',').collect();
    assert_eq!(link[column("layer")], "link");
    let value = |name: &str| link[column(name)].parse::<f64>().unwrap();
    // Client 1's input is w x with w its share of the examples: w²/σ² = w²/4, and μ = 2 w C / σ = w.
    let clients = std::fs::read_to_string(run.join("clients.csv")).unwrap();
    let examples: Vec<f64> =
        clients.lines().skip(1).map(|line| line.split(',').nth(2).unwrap().parse().unwrap()).collect();
    let weight = examples[0] * 10.0 / examples.iter().sum::<f64>();
    assert!((value("lmip_nats") - 0.5 * (weight * weight / 4.0).ln_1p()).abs() < 1e-9, "{table}");
    assert!((value("epsilon_view") - ldp::epsilon(weight, 1e-5)).abs() < 1e-9, "{weight} {table}");
}

#[test]
fn an_observer_hears_of_every_step_and_may_end_the_audit() {
    let config: Config = toml::from_str("clients = 6\nrounds = 5\nprotocol = { kind = \"cogc\" }").unwrap();
    let subject = Subject::new(&config, 100).unwrap();
    let nobody = Adversaries::default();
    let mut heard: Vec<(usize, usize, String)> = Vec::new();
    let audits = subject.audits(&nobody, &Losses::Worst, &mut |done, all, what| {
        heard.push((done, all, what.to_owned()));
        Ok(())
    });
    assert!(audits.unwrap()[0].entries.len() > 6);
    assert!(heard.windows(2).all(|two| two[0].0 <= two[1].0 && two[0].1 == two[1].1), "{heard:?}");
    let (done, all, what) = heard.last().unwrap();
    assert!((done, what.as_str()) == (all, "patterns of loss"), "{heard:?}");
    assert!(heard.iter().any(|(_, _, what)| what == "server"), "{heard:?}");
    let mut calls = 0;
    let ended = subject.audits(&nobody, &Losses::Worst, &mut |_, _, _| {
        calls += 1;
        Err(seccogc::Error::Refused("enough".into()))
    });
    assert_eq!((ended.unwrap_err().to_string().as_str(), calls), ("enough", 1));
}

#[test]
fn a_rule_of_participation_learns_nothing_beyond_the_view_of_the_server() {
    let subject = |text: &str| {
        let config: Config = toml::from_str(&format!("clients = 4\nrounds = 5\n{text}")).unwrap();
        let nobody = Adversaries::default();
        Subject::new(&config, 100)
            .and_then(|subject| subject.audits(&nobody, &Losses::Worst, &mut |_, _, _| Ok(())))
    };
    let noise = "protocol = { kind = \"gaussian\", key_std = 4.0 }\n";
    let plain = subject(noise).unwrap().remove(0);
    let with_rule = subject(&format!("{noise}participation = {{ kind = \"mifa\" }}")).unwrap().remove(0);
    assert_eq!(with_rule.protocol, "gaussian with mifa");
    assert_eq!((&plain.participation, with_rule.participation.as_deref()), (&None, Some("mifa")));
    assert!(plain.entries.len() > 4 && with_rule.findings == plain.findings);
    for (one, other) in plain.entries.iter().zip(&with_rule.entries) {
        assert_eq!((&one.layer, one.client, one.lmip_bits), (&other.layer, other.client, other.lmip_bits));
        assert_eq!(one.epsilon_view_total.to_bits(), other.epsilon_view_total.to_bits());
    }
    let line = "mifa reads single updates, and sec-cogc shows the server a sum only; take \"none\", or a protocol that shows them: \
                ideal, fedavg, gaussian or mds-relay";
    let coded = "{ kind = \"sec-cogc\", stragglers = 2 }";
    let refused = |text: &str| subject(text).unwrap_err().to_string();
    let one = refused(&format!("protocol = {coded}\nparticipation = {{ kind = \"mifa\" }}"));
    assert_eq!(one, format!("participation.kind: {line}"));
    let contenders = format!(
        "participation = {{ kind = \"mifa\" }}\ncompare = [{{ name = \"A\", protocol = {{ kind = \"fedavg\" }} }}, \
         {{ name = \"B\", protocol = {coded} }}]"
    );
    assert_eq!(refused(&contenders), format!("compare[1].participation.kind: {line}"));
    let own = contenders
        .replace(&format!("protocol = {coded}"), &format!("protocol = {coded}, participation = {{}}"));
    let rules: Vec<_> =
        subject(&own).unwrap().into_iter().map(|audit| (audit.protocol, audit.participation)).collect();
    assert_eq!(rules, [("A".to_owned(), Some("mifa".to_owned())), ("B".to_owned(), None)]);

    // The program says so, with the note on the former name.
    let (code, out, err) =
        seccogc(&["audit", "configs/mnist.toml", "--quiet", "--set", "protocol.kind=fedau"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("fedavg with fedau: the worst case"), "{out}");
    assert!(out.contains("; the mean is estimated from those whose updates arrive, 1 or more\n"), "{out}");
    let says = "fedau reads the single updates in the server's view and keeps what it makes of them: nothing beyond the view is learned";
    assert!(out.lines().any(|line| line == says), "{out}");
    assert_eq!(
        err,
        " WARN configs/mnist.toml: protocol.kind: \"fedau\" is a rule of participation now; write protocol.kind = \"fedavg\" and \
         participation = { kind = \"fedau\" }\n \
         WARN configs/mnist.toml: protocol.keys = \"fair\" falls away: kind = \"fedau\" has no such key\n \
         WARN configs/mnist.toml: protocol.key_std = 0.1 falls away: kind = \"fedau\" has no such key\n \
         WARN configs/mnist.toml: protocol.stragglers = 7 falls away: kind = \"fedau\" has no such key\n"
    );
}
