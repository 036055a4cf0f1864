//! `outage.policy = "postpone"` (FedPBC) and "echo" (FedAWE): whoever is not in the sum has a model of its
//! own.

use seccogc::config::Config;
use seccogc::error::Result;
use seccogc::learn::LocalUpdate;
use seccogc::message::LinkUse;
use seccogc::network::{LinkModel, Node};
use seccogc::protocol::ProtocolConfig;
use seccogc::record::Outcome;
use seccogc::seed::Seed;
use seccogc::train::{Crew, Elsewhere, Experiment, Run, Setting, State, Tested, Trained};

/// Client k of loss ½(z − b_k)² takes one step of this rate; the model tests as its own number.
struct Quadratics {
    optima: Vec<f32>,
    rate: f32,
}

impl Crew for Quadratics {
    fn train(&self, run: &Run<'_>, state: &State, members: &[u32]) -> Result<Vec<Trained>> {
        let train = |&k: &u32| {
            let mut model = run.local_start(state, k);
            model.iter_mut().for_each(|z| *z -= self.rate * (*z - self.optima[k as usize]));
            let how = LocalUpdate { delta: Vec::new(), loss: 0.0, examples: 1, steps: 1 };
            Ok(Trained { sent: run.update(state, k, model), how, metrics: Vec::new() })
        };
        members.iter().map(train).collect()
    }

    fn test(&self, _: &Run<'_>, _: u64, parameters: &[f32]) -> Result<Tested> {
        Ok(Tested { accuracy: Some(parameters[0].into()), ..Tested::default() })
    }
}

/// Uploads that arrive: one list of clients a round.
struct Heard(Vec<Vec<u32>>);

impl LinkModel for Heard {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        let Node::Client(from) = link.from else { return true };
        self.0[link.round as usize - 1].contains(&from)
    }

    fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
        f64::NAN
    }
}

fn setting(policy: &str, rounds: u64, clients: usize, heard: Vec<Vec<u32>>) -> Setting {
    let protocol: ProtocolConfig = toml::from_str("kind = 'fedavg'\narithmetic = 'f64'").unwrap();
    let (evaluation, outage) =
        (toml::from_str("every = 1").unwrap(), toml::from_str(&format!("policy = '{policy}'")).unwrap());
    let config = Config { clients, rounds, protocol, evaluation, outage, ..Config::default() };
    let layers = vec![("z".into(), vec![1])];
    let elsewhere = Elsewhere { layers, start: vec![0.0], examples: vec![1; clients] };
    Experiment::new(config).elsewhere(elsewhere).links(Heard(heard)).build().unwrap()
}

fn locals(state: &State) -> Vec<f32> {
    (0..3)
        .map(|k| state.server.parameters[0] + state.clients.carried.get(k).map_or(0.0, |own| own[0]))
        .collect()
}

#[test]
fn three_rounds_by_hand() {
    let setting = setting("postpone", 4, 3, vec![vec![0, 1], vec![2], vec![0, 2], vec![]]);
    let crew = Quadratics { optima: vec![0.0, 1.0, 5.0], rate: 0.5 };
    let run = setting.run(&setting.config().protocol).unwrap().with_crew(&crew);
    let mut state = run.start();
    let want = [
        (Outcome::Partial, [0.25, 0.25, 2.5], 0.25, 1.0),
        (Outcome::Partial, [0.125, 0.625, 3.75], 3.75, 1.5),
        (Outcome::Partial, [2.21875, 0.8125, 2.21875], 2.21875, 1.75),
        // Nobody is heard, and everybody makes its step.
        (Outcome::Outage, [1.109_375, 0.906_25, 3.609_375], 2.21875, 1.875),
    ];
    for (outcome, models, server, mean) in want {
        let (row, _) = run.round(&mut state).unwrap();
        assert_eq!((row.outcome, row.test_accuracy), (outcome, Some(server)));
        assert_eq!(locals(&state), models);
        assert_eq!(row.metrics.len(), 1, "no loss, no column of it");
        let (name, value) = &row.metrics[0];
        // Thirds are rounded.
        assert!(name == "test_locals_accuracy" && (value - mean).abs() < 1e-6, "{name} = {value}");
    }
}

/// Whatever is lost, the mean of local models makes the step of everybody's mean.
#[test]
fn the_mean_of_locals_forgets_the_losses() {
    let (rounds, rate, optimum) = (200, 0.2f64, 2.0);
    let mut rng = Seed::new(3).rng();
    let mut arrives = |p: f64| rand::RngExt::random::<f64>(&mut rng) < p;
    let heard = (0..rounds)
        .map(|_| [0.9, 0.5, 0.1].iter().zip(0..3).filter(|(p, _)| arrives(**p)).map(|(_, k)| k).collect())
        .collect();
    let setting = setting("postpone", rounds, 3, heard);
    let crew = Quadratics { optima: vec![0.0, 1.0, 5.0], rate: rate as f32 };
    let run = setting.run(&setting.config().protocol).unwrap().with_crew(&crew);
    let mut state = run.start();
    let mut mean = 0.0f64;
    for _ in 0..rounds {
        run.round(&mut state).unwrap();
        mean -= rate * (mean - optimum);
        let got = locals(&state).iter().map(|z| f64::from(*z)).sum::<f64>() / 3.0;
        assert!((got - mean).abs() < 1e-4, "round {}: {got} for {mean}", state.round);
    }
}

#[test]
fn echoes_by_hand() {
    let setting = setting("echo", 5, 3, vec![vec![0, 1], vec![2], vec![0, 2], vec![], vec![1]]);
    let crew = Quadratics { optima: vec![0.0, 1.0, 5.0], rate: 0.5 };
    let run = setting.run(&setting.config().protocol).unwrap().with_crew(&crew);
    let mut state = run.start();
    let want = [
        ([0.25, 0.25, 0.0], [0, 0, 1]),
        ([0.25, 0.25, 5.0], [1, 1, 0]),
        ([2.5, 0.25, 2.5], [0, 2, 0]),
        // Nobody is heard, and nobody keeps what it learned.
        ([2.5, 0.25, 2.5], [1, 3, 1]),
        // Client 2 learns 0.375 and counts it for four rounds.
        ([2.5, 1.75, 2.5], [2, 0, 2]),
    ];
    for (models, silent) in want {
        run.round(&mut state).unwrap();
        assert_eq!((locals(&state), &state.presence.misses), (models.to_vec(), &silent.to_vec()));
    }
}

#[test]
fn what_keeps_local_models_refuses_what_cannot_go_with_it() {
    let refused = |rest: &str, key: &str, rule: &str| {
        for policy in ["postpone", "echo"] {
            let text = format!("clients = 4\nrounds = 1\noutage.policy = '{policy}'\n{rest}");
            let config: Config = toml::from_str(&text).unwrap();
            let built = Experiment::new(config)
                .build()
                .and_then(|setting| setting.run(&setting.config().protocol).map(|_| ()));
            let error = built.unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(rule), "{error}");
        }
    };
    refused("solver.kind = 'scaffold'", "outage.policy", "take skip or retry");
    refused("cohort.sample = 3", "cohort.sample", "nothing to carry on from");
    refused("outage.attempts = 3", "outage.attempts", "");
    refused("protocol.kind = 'colrel'", "outage.policy", "an estimate");
}
