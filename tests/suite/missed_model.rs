//! `network.server_client`: links from the server that fail, by hand, and what cannot go with them.

use std::sync::Mutex;

use seccogc::config::Config;
use seccogc::error::Result;
use seccogc::learn::LocalUpdate;
use seccogc::message::LinkUse;
use seccogc::network::{LinkModel, Node};
use seccogc::protocol::ProtocolConfig;
use seccogc::record::Outcome;
use seccogc::train::{Crew, Elsewhere, Experiment, Run, Setting, State, Tested, Trained};

/// Client k of loss ½(z − b_k)² takes one step of rate ½; who trained from where is noted.
struct Quadratics {
    optima: Vec<f32>,
    starts: Mutex<Vec<Vec<(u32, f32)>>>,
}

impl Crew for Quadratics {
    fn train(&self, run: &Run<'_>, state: &State, members: &[u32]) -> Result<Vec<Trained>> {
        let mut starts = Vec::new();
        let mut train = |&k: &u32| {
            let mut model = run.local_start(state, k);
            starts.push((k, model[0]));
            model.iter_mut().for_each(|z| *z -= 0.5 * (*z - self.optima[k as usize]));
            let how = LocalUpdate { delta: Vec::new(), loss: 0.0, examples: 1, steps: 1 };
            Ok(Trained { sent: run.update(state, k, model), how, metrics: Vec::new() })
        };
        let trained = members.iter().map(&mut train).collect();
        self.starts.lock().unwrap().push(starts);
        trained
    }

    fn test(&self, _: &Run<'_>, _: u64, parameters: &[f32]) -> Result<Tested> {
        Ok(Tested { accuracy: Some(parameters[0].into()), ..Tested::default() })
    }
}

/// Uploads that arrive, and models that do not: one list of clients a round each.
struct Links {
    heard: Vec<Vec<u32>>,
    down: Down,
}

struct Down(Vec<Vec<u32>>);

impl LinkModel for Down {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        let (Node::Server, Node::Client(to)) = (link.from, link.to) else { panic!("{link:?}") };
        // A round after the last one loses nothing.
        self.0.get(link.round as usize - 1).is_none_or(|missed| !missed.contains(&to))
    }

    fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
        f64::NAN
    }

    fn seconds(&self, link: LinkUse<Node>) -> Option<f64> {
        Some(if self.delivers(link) { 0.25 } else { 2.0 })
    }
}

impl LinkModel for Links {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        let Node::Client(from) = link.from else { return true };
        self.heard[link.round as usize - 1].contains(&from)
    }

    fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
        f64::NAN
    }

    fn downlinks(&self) -> Option<&dyn LinkModel> {
        Some(&self.down)
    }
}

fn setting(protocol: &str, missed_model: &str, missed: Vec<Vec<u32>>) -> Setting {
    let protocol: ProtocolConfig = toml::from_str(protocol).unwrap();
    // What the section says of losses these links replace.
    let network = format!("server_client = {{}}\nmissed_model = '{missed_model}'");
    let config = Config {
        clients: 3,
        rounds: missed.len() as u64,
        protocol,
        network: toml::from_str(&network).unwrap(),
        evaluation: toml::from_str("every = 1").unwrap(),
        ..Config::default()
    };
    let elsewhere = Elsewhere { layers: vec![("z".into(), vec![1])], start: vec![0.0], examples: vec![1; 3] };
    let links = Links { heard: vec![vec![0, 1, 2]; missed.len()], down: Down(missed) };
    Experiment::new(config).elsewhere(elsewhere).links(links).build().unwrap()
}

fn crew() -> Quadratics {
    Quadratics { optima: vec![0.0, 2.0, 4.0], starts: Mutex::default() }
}

const FEDAVG: &str = "kind = 'fedavg'\narithmetic = 'f64'";

/// The mean of the steps from where each client stands; whoever misses two models keeps the first.
#[test]
fn who_misses_the_model_trains_from_its_last_one() {
    let setting = setting(FEDAVG, "old-model", vec![vec![0], vec![], vec![0, 2], vec![2], vec![]]);
    let crew = crew();
    let run = setting.run(&setting.config().protocol).unwrap().with_crew(&crew);
    let mut state = run.start();
    // From 0: steps 0, 1, 2. From 1: −½, ½, 1½. Then clients 1 and 3 are still at 1, client 2 at 1½: −½, ¼,
    // 1½. At 23/12 clients 1 and 2, client 3 at 1: −23/24, 1/24, 1½.
    let models = [1.0, 1.5, 1.5 + 1.25 / 3.0];
    let fourth = models[2] + (1.5 - 22.0 / 24.0) / 3.0;
    let missed = [0.0, 0.0, 2.0, 1.0];
    for (round, (want, missed)) in
        [models[0], models[1], models[2], fourth].into_iter().zip(missed).enumerate()
    {
        let (row, _) = run.round(&mut state).unwrap();
        assert_eq!(row.outcome, Outcome::Recovered);
        assert!((row.test_accuracy.unwrap() - want).abs() < 1e-6, "round {}: {row:?}", round + 1);
        assert_eq!(row.metrics, [("missed_model".to_owned(), missed)]);
        // The broadcast takes as long as its last message, and there is none before the first round.
        let seconds = if round == 0 { None } else { Some(if missed > 0.0 { 2.0 } else { 0.25 }) };
        assert_eq!(row.seconds_simulated, seconds);
    }
    run.round(&mut state).unwrap();
    let starts = crew.starts.lock().unwrap();
    let at = |round: usize| starts[round].iter().map(|(_, start)| f64::from(*start)).collect::<Vec<_>>();
    assert_eq!((at(0), at(1), at(2)), (vec![0.0; 3], vec![1.0; 3], vec![1.0, 1.5, 1.0]));
    assert_eq!(at(3)[2], 1.0, "two models were missed");
    assert_eq!(at(4), [at(4)[0]; 3], "all have the last model");
    assert!(state.clients.received.iter().all(Vec::is_empty));
}

#[test]
fn who_sits_out_is_silent() {
    let setting = setting(FEDAVG, "sit-out", vec![vec![], vec![0], vec![0, 1, 2], vec![]]);
    let crew = crew();
    let run = setting.run(&setting.config().protocol).unwrap().with_crew(&crew);
    let mut state = run.start();
    // From 0 to 1; from 1 the steps ½ and 1½ of two; nobody; from 2 −1, 0, 1.
    let want = [
        (Outcome::Recovered, 1.0, 3),
        (Outcome::Partial, 2.0, 2),
        (Outcome::Outage, 2.0, 0),
        (Outcome::Recovered, 2.0, 3),
    ];
    for (round, (outcome, model, trained)) in want.into_iter().enumerate() {
        let (row, clients) = run.round(&mut state).unwrap();
        assert_eq!((row.outcome, row.test_accuracy, row.diverged), (outcome, Some(model), 0));
        assert_eq!(row.arrivals, trained);
        assert_eq!(clients.len(), 3);
        assert_eq!(crew.starts.lock().unwrap()[round].len() as u64, trained);
        assert_eq!(row.metrics, [("missed_model".to_owned(), (3 - trained) as f64)]);
        assert!(state.clients.received.is_empty());
    }
}

/// What is masked is an update like any other; with somebody who sits out there is no sum over all.
#[test]
fn a_private_sum_over_all_takes_old_models_and_no_absence() {
    let coded = "kind = 'sec-cogc'\nstragglers = 1";
    for (missed_model, want) in [("old-model", Outcome::Recovered), ("sit-out", Outcome::Outage)] {
        let setting = setting(coded, missed_model, vec![vec![], vec![1], vec![2]]);
        let crew = crew();
        let run = setting.run(&setting.config().protocol).unwrap().with_crew(&crew);
        let mut state = run.start();
        let outcomes: Vec<Outcome> = (0..3).map(|_| run.round(&mut state).unwrap().0.outcome).collect();
        assert_eq!(outcomes, [Outcome::Recovered, want, want]);
    }
}

/// Half of all models are lost on links of their own: uploads meet the losses that they met before.
#[test]
fn seeded_losses_leave_the_other_links_alone() {
    let rows = |network: &str| {
        let text = format!(
            "clients = 4\nrounds = 12\ndata = {{ name = 'mnist-subset' }}\nmodel = {{ kind = 'softmax' }}\n\
             solver = {{ steps = 1 }}\nprotocol = {{ kind = 'fedavg' }}\n[network]\nclient_server = {{ erasure = 0.3 }}\n{network}"
        );
        let config: Config = toml::from_str(&text).unwrap();
        let setting = Experiment::new(config).build().unwrap();
        let run = setting.run(&setting.config().protocol).unwrap();
        run.rounds().collect::<Result<Vec<_>>>().unwrap()
    };
    let (whole, losing) = (rows(""), rows("server_client = { erasure = 0.5 }"));
    assert!(whole.iter().zip(&losing).all(|(a, b)| a.arrivals == b.arrivals));
    assert!(whole.iter().all(|row| row.metrics.is_empty()));
    let missed: f64 = losing.iter().map(|row| row.metrics[0].1).sum();
    // 44 of 88: 5 standard deviations are 23, α < 10⁻⁶.
    assert!((10.0..=34.0).contains(&missed) && losing[0].metrics[0].1 == 0.0, "{missed}");
    assert_eq!(whole[0].test_accuracy, losing[0].test_accuracy);
    assert_ne!(whole[11].train_loss, losing[11].train_loss);
    let late = rows("server_client = { kind = 'deadline', deadline = 1.0, jitter = 0.2 }");
    assert!(late[0].seconds_simulated.is_none() && late[5].seconds_simulated.unwrap() > 0.0);
}

#[test]
fn what_cannot_go_with_missed_models_is_refused() {
    let refused = |rest: &str, key: &str, rule: &str| {
        let text = format!("clients = 4\nrounds = 1\nnetwork.server_client.erasure = 0.5\n{rest}");
        let config: Config = toml::from_str(&text).unwrap();
        let built = Experiment::new(config)
            .build()
            .and_then(|setting| setting.run(&setting.config().protocol).map(|_| ()));
        let line = built.unwrap_err().to_string();
        assert!(line.starts_with(key) && line.contains(rule), "{line}");
    };
    for policy in ["accumulate", "postpone", "echo"] {
        for missed in ["old-model", "sit-out"] {
            let rest = format!(
                "outage.policy = '{policy}'\nprotocol.kind = 'fedavg'\nnetwork.missed_model = '{missed}'"
            );
            refused(&rest, "network.server_client: ", policy);
        }
    }
    refused("solver.kind = 'scaffold'", "network.server_client: ", "control vectors");
    refused("cohort.sample = 3", "network.server_client: ", "sit-out");
    refused(
        "protocol = { kind = 'secure-gc', responders = 3, reduction = 2 }",
        "network.server_client: ",
        "secure-gc",
    );
    let sets = "clients = 4\nnetwork.server_client.erasure = 0.5\nnetwork.missed_model = 'sit-out'";
    let config: Config = toml::from_str(sets).unwrap();
    let stop = false.into();
    let line = seccogc::recover::recover(&config, 10, Some(&[1]), Some(10), &stop, &mut |_, _, _| Ok(()));
    let line = line.unwrap_err().to_string();
    assert!(line.starts_with("network.missed_model: ") && line.contains("old-model"), "{line}");
}
