//! `[compression]` through the real round loop: on constant updates, whose sums are known by hand, and under
//! every protocol.

use std::sync::Arc;

use seccogc::audit::{Adversaries, Entry};
use seccogc::audits::{Losses, Subject};
use seccogc::compress::{CompressionConfig, size};
use seccogc::config::Config;
use seccogc::data::{Augmentation, Dataset, Examples, Normalisation, Response};
use seccogc::learn::{Evaluation, Learner, LocalUpdate, Task};
use seccogc::message::LinkUse;
use seccogc::network::{LinkModel, Node};
use seccogc::protocol::ProtocolConfig;
use seccogc::record::Outcome;
use seccogc::seed::Seed;
use seccogc::train::{Experiment, Run, Setting, State};

const M: usize = 4;

/// Client k moves by k + 1 times these numbers in every round, wherever it is.
struct Constant(Vec<f32>);

impl Constant {
    fn of(&self, client: usize) -> Vec<f32> {
        self.0.iter().map(|x| (client + 1) as f32 * x).collect()
    }
}

impl Learner for Constant {
    fn parameters(&self) -> usize {
        self.0.len()
    }

    fn layers(&self) -> Vec<(String, Vec<usize>)> {
        let d = self.0.len();
        match d % 8 {
            0 => vec![("matrix".into(), vec![8, d / 8])],
            _ => vec![("vector".into(), vec![d])],
        }
    }

    fn init(&self, _: Seed) -> Vec<f32> {
        vec![0.0; self.0.len()]
    }

    fn solve(&self, _: &Task<'_>, data: &Examples, shard: &[usize], _: Seed) -> LocalUpdate {
        let delta = self.of(usize::from(data.labels()[shard[0]]));
        LocalUpdate { delta, loss: 0.0, examples: shard.len(), steps: 1 }
    }

    fn logits(&self, _: &[f32], _: &Examples) -> Vec<f32> {
        unreachable!("nobody asks")
    }

    fn evaluate(&self, _: &[f32], data: &Examples) -> Evaluation {
        Evaluation { loss: 0.0, accuracy: Some(0.0), metrics: Vec::new(), examples: data.len() }
    }
}

/// Uploads that get through, by the round (from 1) and the client.
#[derive(Clone)]
struct Uploads(fn(u64, u32) -> bool);

impl LinkModel for Uploads {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        match (link.from, link.to) {
            (Node::Client(k), Node::Server) => (self.0)(link.round, k),
            _ => true,
        }
    }

    fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
        0.5
    }
}

fn always(_: u64, _: u32) -> bool {
    true
}

/// Clients of one example each, over links on which these uploads arrive.
fn setting(toml: &str, update: &[f32], uploads: fn(u64, u32) -> bool) -> Setting {
    let common = format!("clients = {M}\nevaluation = {{ every = 1000 }}\nprivacy.measure = false\n");
    let config: Config = toml::from_str(&(common + toml)).unwrap();
    let labels: Vec<u16> = (0..M as u16).collect();
    let examples = || Examples::new(vec![0; M], labels.clone(), [1, 1, 1]).unwrap();
    let dataset = Dataset {
        name: "constants",
        response: Response::Class,
        classes: M,
        scale: Normalisation::identity(M),
        class_names: (0..M).map(|class| class.to_string()).collect(),
        train: examples(),
        test: examples(),
        normalisation: Normalisation { mean: vec![0.0], std: vec![1.0] },
        augmentation: Augmentation::default(),
        users: None,
    };
    let learner = Box::new(Constant(update.to_vec()));
    let links = Uploads(uploads);
    let shards = (0..M).map(|k| vec![k]).collect();
    Experiment::new(config).data(dataset).shards(shards).learner(learner).links(links).build().unwrap()
}

fn protocol(text: &str) -> ProtocolConfig {
    toml::from_str(text).unwrap()
}

/// Plays rounds; `observe` sees the model before and the state after each.
fn play(run: &Run<'_>, rounds: u64, mut observe: impl FnMut(&[f32], &State, Outcome)) -> State {
    let mut state = run.start();
    for _ in 0..rounds {
        let before = state.server.parameters.clone();
        let (row, _) = run.round(&mut state).unwrap();
        observe(&before, &state, row.outcome);
    }
    state
}

fn near(got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len());
    assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() <= tolerance), "{got:?} for {want:?}");
}

/// One of three coordinates is sent in a round. Whatever a coordinate did in earlier rounds, and in rounds
/// that were lost, comes with it when it is sent again: after round t it is at Δ times the last round in
/// which it was chosen and arrived, and client k keeps Δ_k times the rounds since.
#[test]
fn three_coordinates_by_hand() {
    let update = [1.0, -2.0, 4.0];
    let compression = "compression = { kind = \"random-coordinates\", ratio = 0.34 }";
    // Round 2, and each fifth, is lost.
    let setting = setting(compression, &update, |round, _| !round.is_multiple_of(5) && round != 2);
    assert_eq!(setting.coordinates(), 1);
    let run = setting.run(&protocol("kind = \"sec-cogc\"\nstragglers = 1\narithmetic = \"f64\"")).unwrap();
    let mut last = [0u64; 3];
    let state = play(&run, 23, |before, state, outcome| {
        assert_eq!(outcome == Outcome::Outage, state.round.is_multiple_of(5) || state.round == 2);
        let moved: Vec<usize> = (0..3).filter(|&i| state.server.parameters[i] != before[i]).collect();
        assert_eq!(moved.len(), usize::from(outcome != Outcome::Outage));
        moved.iter().for_each(|&i| last[i] = state.round);
        // Clients of equal weight: the mean of 1 to 4 is 2.5.
        let want: Vec<f32> = (0..3).map(|i| 2.5 * update[i] * last[i] as f32).collect();
        near(&state.server.parameters, &want, 1e-3);
        for (k, kept) in state.clients.residuals.iter().enumerate() {
            let since = |i: usize| (state.round - last[i]) as f32;
            let want: Vec<f32> = (0..3).map(|i| (k + 1) as f32 * update[i] * since(i)).collect();
            near(kept, &want, 1e-3);
        }
    });
    assert!(last.iter().all(|round| *round > 0), "{last:?}");
    assert_eq!(state.clients.residuals.len(), M);
}

/// Client 1 is never heard: it keeps all that it did, and the others keep what was not carried.
#[test]
fn who_is_not_in_the_sum_keeps_everything() {
    let update: Vec<f32> = (0..40).map(|i| (i % 7) as f32 - 3.0).collect();
    for kind in ["random-coordinates", "low-rank"] {
        let toml = format!("compression = {{ kind = \"{kind}\", ratio = 0.4 }}");
        let setting = setting(&toml, &update, |_, k| k != 0);
        let run = setting.run(&protocol("kind = \"fedavg\"\narithmetic = \"f64\"")).unwrap();
        let state = play(&run, 6, |_, state, outcome| {
            assert_eq!(outcome, Outcome::Partial);
            let times = state.round as f32;
            near(&state.clients.residuals[0], &update.iter().map(|x| times * x).collect::<Vec<_>>(), 1e-3);
            // Of clients 2 to 4: what was applied to the model, and the mean of what they keep, are all.
            let kept = |i: usize| state.clients.residuals[1..].iter().map(|kept| kept[i]).sum::<f32>() / 3.0;
            let all: Vec<f32> = (0..40).map(|i| state.server.parameters[i] + kept(i)).collect();
            near(&all, &update.iter().map(|x| 3.0 * times * x).collect::<Vec<_>>(), 1e-2);
        });
        assert!(state.server.parameters.iter().any(|x| *x != 0.0));
    }
}

/// What is sent has the norm to which it is clipped, and what was clipped away is kept.
#[test]
fn what_is_sent_is_clipped() {
    let update: Vec<f32> = (0..40).map(|i| 1.0 + i as f32).collect();
    let toml = "compression = { kind = \"random-coordinates\", ratio = 0.1 }\nsolver = { kind = \"sgd\", clip_norm = 2.0 }";
    let setting = setting(toml, &update, always);
    assert_eq!((setting.public().clip, setting.public().coordinates), (Some(2.0), Some(4)));
    let run = setting.run(&protocol("kind = \"ideal\"\narithmetic = \"f64\"")).unwrap();
    let state = play(&run, 12, |before, state, _| {
        let moved: f32 =
            state.server.parameters.iter().zip(before).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
        // All clients send along the same vector; B divides by √10.
        assert!(moved <= 2.0 / 10f32.sqrt() + 1e-4, "{moved}");
    });
    let norm: f32 = update.iter().map(|x| x * x).sum::<f32>().sqrt();
    for kept in &state.clients.residuals {
        let all: Vec<f32> = state.server.parameters.iter().zip(kept).map(|(x, kept)| x + kept).collect();
        near(&all, &update.iter().map(|x| 12.0 * 2.0 * x / norm).collect::<Vec<_>>(), 1e-3);
    }
}

/// Everything of an update, compressed, is the update: the same run.
#[test]
fn a_ratio_of_one_changes_nothing() {
    let update: Vec<f32> = (0..40).map(|i| (i % 7) as f32 - 3.0).collect();
    let model = |toml: &str| {
        let setting = setting(toml, &update, |round, k| round != 3 || k != 1);
        let run = setting.run(&protocol("kind = \"cogc\"\nstragglers = 1\narithmetic = \"f64\"")).unwrap();
        play(&run, 8, |_, _, _| ()).server.parameters
    };
    let whole = model("");
    assert!(whole.iter().any(|x| *x != 0.0));
    let chosen = "compression = { kind = \"random-coordinates\", ratio = 1.0, error_feedback = false }";
    near(&model(chosen), &whole, 0.0);
    near(&model("compression = { kind = \"low-rank\", ratio = 1.0, error_feedback = false }"), &whole, 1e-4);
}

/// Keys of a protocol without which it does not fit four clients.
fn own_keys(kind: &str) -> &'static str {
    match kind {
        "pricer" => "epsilon = 5.0\nown_std = 0.1\nassumed = { client_client = 0.0, client_server = 0.0 }",
        "colrel" | "fedacs" => "assumed = { client_client = 0.0, client_server = 0.0 }",
        "hierarchical" => "helpers = 3\nthreshold = 2\ncolluding = 1",
        "zhao-sun" | "light-sec-agg" => "survivors = 3\ncolluders = 1",
        "groupwise" => "survivors = 3\ngroup_size = 3",
        "secure-gc" => "responders = 3\nreduction = 2",
        "sec-agg" => "threshold = 3",
        "sec-agg-plus" => "neighbours = 2\nthreshold = 2",
        "cogc" | "sec-cogc" => "stragglers = 1",
        _ => "",
    }
}

/// All protocols that sum exactly carry the same compressed sum, up to their arithmetic; those that estimate,
/// or add noise, move the same coordinates.
#[test]
fn every_protocol_carries_the_compressed_sum() {
    let update: Vec<f32> = (0..40).map(|i| 0.02 * ((i * i) as f32 * 0.37).sin()).collect();
    for kind in ["random-coordinates", "low-rank", "count-sketch"] {
        let toml = format!(
            "compression = {{ kind = \"{kind}\", ratio = 0.3 }}\nsolver = {{ kind = \"sgd\", clip_norm = 1.0 }}"
        );
        let setting = setting(&toml, &update, always);
        let model = |text: &str| {
            let run = setting.run(&protocol(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
            let state = play(&run, 3, |_, _, outcome| assert_ne!(outcome, Outcome::Outage, "{text}"));
            state.server.parameters
        };
        let want = model("kind = \"ideal\"\narithmetic = \"f64\"");
        for protocol in ProtocolConfig::KINDS {
            let got = model(&format!("kind = \"{protocol}\"\n{}", own_keys(protocol)));
            let estimates = ["gaussian", "pricer", "fedacs", "zero-sum", "coffee", "colrel"];
            if !estimates.contains(protocol) {
                near(&got, &want, 1e-4);
            } else if kind == "random-coordinates" {
                let moves = |x: &[f32]| x.iter().map(|x| *x != 0.0).collect::<Vec<_>>();
                let (got, want) = (moves(&got), moves(&want));
                assert!(got.iter().zip(&want).all(|(got, want)| *got || !*want), "{protocol}");
            }
        }
    }
}

/// The bytes of a round are those of as many coordinates as are sent.
#[test]
fn messages_are_shorter() {
    let update = vec![1.0; 4000];
    for text in [
        "kind = \"sec-cogc\"\nstragglers = 2\narithmetic = \"f64\"",
        "kind = \"fedavg\"\narithmetic = \"f32\"",
    ] {
        let bytes = |toml: &str| {
            let setting = setting(toml, &update, always);
            let run = setting.run(&protocol(text)).unwrap();
            let (row, _) = run.round(&mut run.start()).unwrap();
            (row.bytes_between() + row.bytes_to_server(), setting.coordinates())
        };
        let (whole, d) = bytes("");
        for kind in ["random-coordinates", "low-rank", "count-sketch"] {
            let (short, sent) = bytes(&format!("compression = {{ kind = \"{kind}\", ratio = 0.01 }}"));
            assert_eq!((d, sent), (4000, 40), "{kind}");
            // Beside the coordinates every message has a header.
            let messages = (whole - short) / ((d - sent) as u64 * if text.contains("f64") { 8 } else { 4 });
            assert_eq!(messages, if text.contains("f64") { (M * 3) as u64 } else { M as u64 });
        }
    }
}

/// With error feedback the estimates of single updates are projections: a rule of participation reads them.
#[test]
fn rules_of_participation_read_what_arrived() {
    let update: Vec<f32> = (0..40).map(|i| (i % 7) as f32 - 3.0).collect();
    let toml =
        "participation = { kind = \"mifa\" }\ncompression = { kind = \"random-coordinates\", ratio = 0.5 }";
    let setting = setting(toml, &update, always);
    let run = setting.run(&protocol("kind = \"fedavg\"\narithmetic = \"f64\"")).unwrap();
    let state = play(&run, 1, |_, _, _| ());
    assert_eq!(
        state.server.parameters.iter().filter(|x| **x != 0.0).count(),
        state.server.memory[0].iter().filter(|x| **x != 0.0).count()
    );
    for (k, memory) in state.server.memory.iter().enumerate() {
        let want: Vec<f32> = state.server.parameters.iter().map(|x| x / 2.5 * (k + 1) as f32).collect();
        near(memory, &want, 1e-5);
    }
}

/// Codes, keys and what they hide are those of the scheme: only the length of a message is another.
#[test]
fn the_audit_is_that_of_the_code() {
    let text = "clients = 5\nrounds = 3\nmodel = { kind = \"softmax\" }\nsolver = { kind = \"sgd\", clip_norm = 1.0 }\n\
                protocol = { kind = \"sec-cogc\", stragglers = 2 }\n";
    let audit = |more: &str| {
        let config: Config = toml::from_str(&format!("{text}{more}")).unwrap();
        let coordinates = config.coordinates().unwrap();
        let subject = Subject::new(&config, coordinates).unwrap();
        let audit =
            subject.audits(&Adversaries::default(), &Losses::Worst, &mut |_, _, _| Ok(())).unwrap().remove(0);
        // What rounding adds is proved for so many coordinates.
        let of_code = |entry: Entry| Entry { lmip_bits_floating: None, epsilon_floating: None, ..entry };
        (coordinates, audit.entries.into_iter().map(of_code).collect::<Vec<_>>())
    };
    let (d, whole) = audit("");
    let (sent, compressed) = audit("compression = { kind = \"random-coordinates\", ratio = 0.1 }\n");
    assert_eq!((d, sent), (7850, 785));
    assert!(!whole.is_empty() && whole.iter().any(|entry| entry.lmip_bits > 0.0));
    assert_eq!(whole, compressed);
}

/// A family of one's own: the first half of the coordinates.
#[test]
fn a_compression_of_ones_own() {
    use seccogc::compress::{Compression, Map, Residual};
    use seccogc::error::Result;
    struct FirstHalf;
    struct Half(usize);
    impl Compression for FirstHalf {
        fn check(&self) -> Result<()> {
            Ok(())
        }
        fn residual(&self) -> Residual {
            Residual::Clients
        }
        fn coordinates(&self, tensors: &[Vec<usize>]) -> usize {
            size(tensors) / 2
        }
        fn draw(&self, tensors: &[Vec<usize>], _: Seed, _: u64) -> Box<dyn Map> {
            Box::new(Half(size(tensors)))
        }
    }
    impl Map for Half {
        fn compress(&self, x: &[f32]) -> Vec<f32> {
            x[..self.0 / 2].to_vec()
        }
        fn expand(&self, y: &[f64]) -> Vec<f64> {
            let mut x = y.to_vec();
            x.resize(self.0, 0.0);
            x
        }
    }
    let config = Config { rounds: 1, ..Config::default() };
    let setting = Experiment::new(config).compression(FirstHalf).build().unwrap();
    assert_eq!(setting.coordinates(), setting.parameters() / 2);
    let run = setting.run(&protocol("kind = \"ideal\"")).unwrap();
    assert_eq!(run.info().own, ["compression"]);
    let state = play(&run, 1, |_, _, _| ());
    let half = setting.coordinates();
    assert!(state.clients.residuals.iter().all(|kept| kept[..half].iter().all(|x| x.abs() < 1e-6)));
    assert!(state.clients.residuals.iter().any(|kept| kept[half..].iter().any(|x| x.abs() > 1e-6)));
}

/// Memory that there is not is refused before it is taken.
#[test]
fn what_clients_keep_is_bounded() {
    let config = Config {
        clients: 60_000,
        compression: toml::from_str::<CompressionConfig>("kind = \"random-coordinates\"").unwrap(),
        privacy: toml::from_str("measure = false").unwrap(),
        ..Config::default()
    };
    let dataset = Arc::new(config.data.load().unwrap());
    let model = |config: &Config| {
        let hidden = "kind = \"mlp\"\nhidden = 20000";
        Config { model: toml::from_str(hidden).unwrap(), ..config.clone() }
    };
    let shards = (0..60_000).map(|k| vec![k % 10_000]).collect();
    let setting = Experiment::new(model(&config)).data(dataset).shards(shards).build();
    let line = setting.err().unwrap().to_string();
    assert!(
        line.starts_with(
            "compression.error_feedback: what 60000 clients keep takes 3554 GiB of memory, and "
        ),
        "{line}"
    );
}
