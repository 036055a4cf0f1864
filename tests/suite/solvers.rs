//! Solvers, server optimisers and participation rules through the real round loop: on quadratics, whose fixed
//! points are known in closed form, and on real images under SecCoGC.

use seccogc::config::{Config, Contender};
use seccogc::data::{Augmentation, Dataset, Examples, Normalisation, Response};
use seccogc::learn::{Evaluation, Learner, LocalUpdate, SolverConfig, Task};
use seccogc::protocol::{Arithmetic, ProtocolConfig};
use seccogc::record::{Outcome, Row};
use seccogc::seed::Seed;
use seccogc::train::{Run, Setting, State};

use burn::tensor::{Tensor, TensorData};

/// Curvature a and minimum b of every client's f(w) = Σ_i a_i/2 (w_i − b_i)², and its number of examples n.
const CLIENTS: [([f64; 3], [f64; 3], usize); 4] = [
    ([1.0, 0.5, 2.0], [1.0, -2.0, 0.5], 1),
    ([3.0, 0.5, 1.0], [-1.0, 4.0, 2.0], 2),
    ([0.5, 2.0, 1.0], [3.0, 1.0, -1.0], 4),
    ([2.0, 1.0, 0.5], [0.0, 2.0, 3.0], 5),
];

/// The client whose class is c minimises `CLIENTS[c]`, with exact gradients; the steps are those of the real
/// solvers.
struct Quadratics(SolverConfig);

impl Learner for Quadratics {
    fn parameters(&self) -> usize {
        3
    }

    fn layers(&self) -> Vec<(String, Vec<usize>)> {
        vec![("first".into(), vec![1]), ("rest".into(), vec![2])]
    }

    fn init(&self, _: Seed) -> Vec<f32> {
        vec![0.25; 3]
    }

    fn solve(&self, task: &Task<'_>, data: &Examples, shard: &[usize], _: Seed) -> LocalUpdate {
        let (a, b, n) = CLIENTS[usize::from(data.labels()[shard[0]])];
        assert_eq!(shard.len(), n);
        let device = "cpu".parse::<seccogc::learn::Device>().unwrap().plain();
        let tensor = |x: Vec<f32>| {
            let size = x.len();
            Tensor::<1>::from_data(TensorData::new(x, [size]), &device)
        };
        let steps = self.0.solver().steps(n);
        let mut solver = self.0.solver().begin(&[*task], &[1, 2]);
        let mut w = task.start.to_vec();
        for _ in 0..steps {
            for (parameter, at) in [0..1, 1..3].into_iter().enumerate() {
                let gradient = at.clone().map(|i| (a[i] * (f64::from(w[i]) - b[i])) as f32).collect();
                let moved = solver.step(parameter, tensor(w[at.clone()].to_vec()), tensor(gradient));
                w[at].copy_from_slice(moved.into_data().as_slice::<f32>().unwrap());
            }
        }
        let delta = w.iter().zip(task.start).map(|(w, start)| w - start).collect();
        LocalUpdate { delta, loss: 0.0, examples: n, steps }
    }

    fn logits(&self, _: &[f32], _: &Examples) -> Vec<f32> {
        unreachable!("nobody asks")
    }

    fn evaluate(&self, _: &[f32], data: &Examples) -> Evaluation {
        Evaluation { loss: 0.0, accuracy: Some(0.0), metrics: Vec::new(), examples: data.len() }
    }
}

fn setting(toml: &str) -> Setting {
    let common = "clients = 4\nevaluation = { every = 1000 }\npartition = { kind = \"classes-per-client\" }\n\
                  privacy = { measure = false }\n";
    let config: Config = toml::from_str(&format!("{common}{toml}")).unwrap();
    let labels: Vec<u16> = (0..4).flat_map(|c| vec![c; CLIENTS[usize::from(c)].2]).collect();
    let examples = || Examples::new(vec![0; labels.len()], labels.clone(), [1, 1, 1]).unwrap();
    let dataset = Dataset {
        name: "quadratics",
        response: Response::Class,
        classes: 4,
        scale: Normalisation::identity(4),
        class_names: (0..4).map(|class| class.to_string()).collect(),
        train: examples(),
        test: examples(),
        normalisation: Normalisation { mean: vec![0.0], std: vec![1.0] },
        augmentation: Augmentation::default(),
        users: None,
    };
    let learner = Box::new(Quadratics(config.solver.clone()));
    Setting::of(&config, dataset, learner).unwrap()
}

fn play(run: &Run<'_>, rounds: u64, mut observe: impl FnMut(&State, &Row)) -> State {
    let mut state = run.start();
    for _ in 0..rounds {
        let (row, _) = run.round(&mut state).unwrap();
        observe(&state, &row);
    }
    state
}

/// The global model after `rounds` rounds over links that never fail.
fn ideal(toml: &str, rounds: u64) -> Vec<f64> {
    let setting = setting(&format!("rounds = {rounds}\n{toml}"));
    let run = setting.run(&toml::from_str("kind = \"ideal\"\narithmetic = \"f64\"").unwrap()).unwrap();
    play(&run, rounds, |_, _| ()).server.parameters.into_iter().map(f64::from).collect()
}

/// Σ n s b / Σ n s in every coordinate, for the weight s(a, n) of a client.
fn mean_of_minima(weight: impl Fn(f64, usize) -> f64) -> Vec<f64> {
    let sum = |i: usize, with: &dyn Fn(f64) -> f64| -> f64 {
        CLIENTS.iter().map(|(a, b, n)| *n as f64 * weight(a[i], *n) * with(b[i])).sum()
    };
    (0..3).map(|i| sum(i, &|b| b) / sum(i, &|_| 1.0)).collect()
}

/// Where the weighted gradients sum to zero.
fn optimum() -> Vec<f64> {
    mean_of_minima(|a, _| a)
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn assert_close(got: &[f64], want: &[f64], tolerance: f64) {
    assert!(distance(got, want) < tolerance, "{got:?} for {want:?}");
}

#[test]
fn fedavg_drifts_to_its_known_fixed_point() {
    // K steps contract the distance to b by r^K with r = 1 − ηa: a client counts with 1 − r^K instead of a.
    let biased = mean_of_minima(|a, _| 1.0 - (1.0 - 0.1 * a).powi(10));
    assert_close(&ideal("solver = { kind = \"sgd\", learning_rate = 0.1, steps = 10 }", 200), &biased, 1e-5);
    assert!(distance(&biased, &optimum()) > 0.3);
    // One step has no drift.
    assert_close(
        &ideal("solver = { kind = \"sgd\", learning_rate = 0.1, steps = 1 }", 600),
        &optimum(),
        1e-5,
    );
}

#[test]
fn fedprox_reduces_the_drift_as_computed() {
    let (rate, mu) = (0.1, 2.0);
    let weight = |a: f64, _| (1.0 - (1.0 - rate * (a + mu)).powi(10)) * a / (a + mu);
    let fixed = mean_of_minima(weight);
    let got = ideal("solver = { kind = \"fedprox\", proximal = 2.0, learning_rate = 0.1, steps = 10 }", 400);
    assert_close(&got, &fixed, 1e-5);
    let fedavg = mean_of_minima(|a, _| 1.0 - (1.0 - rate * a).powi(10));
    assert!(distance(&fixed, &optimum()) < 0.7 * distance(&fedavg, &optimum()));
}

#[test]
fn scaffold_and_feddyn_reach_the_optimum_under_drift() {
    let scaffold = "solver = { kind = \"scaffold\", learning_rate = 0.1, steps = 10 }";
    assert_close(&ideal(scaffold, 300), &optimum(), 1e-5);
    let feddyn = "solver = { kind = \"feddyn\", alpha = 1.0, learning_rate = 0.1, steps = 10 }";
    assert_close(&ideal(feddyn, 300), &optimum(), 1e-5);
}

#[test]
fn fednova_removes_the_inconsistency_of_unequal_steps() {
    // Client k takes n_k steps: the fixed point counts it with (1 − r^n)/n, which tends to ηa for small η;
    // FedAvg with 1 − r^n.
    let nova = |rate: f64| mean_of_minima(|a, n| (1.0 - (1.0 - rate * a).powi(n as i32)) / n as f64);
    let run = |kind: &str, rate: f64, rounds| {
        ideal(
            &format!("solver = {{ kind = \"{kind}\", learning_rate = {rate}, epochs = 1, batch_size = 1 }}"),
            rounds,
        )
    };
    assert_close(&run("fednova", 0.1, 200), &nova(0.1), 1e-5);
    let slow = run("fednova", 0.01, 2000);
    assert_close(&slow, &nova(0.01), 1e-4);
    let fedavg = run("sgd", 0.01, 2000);
    assert_close(&fedavg, &mean_of_minima(|a, n| 1.0 - (1.0 - 0.01 * a).powi(n as i32)), 1e-4);
    assert!(distance(&fedavg, &optimum()) > 10.0 * distance(&slow, &optimum()));
}

#[test]
fn fednova_with_momentum_and_equal_steps_is_fedavg() {
    // With equal a_k the normalisation cancels.
    let keys = "learning_rate = 0.05, steps = 7, momentum = 0.8";
    let run = |kind: &str| ideal(&format!("solver = {{ kind = \"{kind}\", {keys} }}"), 20);
    assert_close(&run("fednova"), &run("sgd"), 1e-5);
}

#[test]
fn weight_decay_shifts_the_optimum_as_a_ridge_does() {
    // One step: Σ n (a(w − b) + λw) = 0.
    let lambda = 0.5;
    let n: f64 = CLIENTS.iter().map(|(.., n)| *n as f64).sum();
    let ridge: Vec<f64> = (0..3)
        .map(|i| {
            let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
                CLIENTS.iter().map(|(a, b, n)| *n as f64 * f(a[i], b[i])).sum()
            };
            sum(&|a, b| a * b) / (sum(&|a, _| a) + n * lambda)
        })
        .collect();
    for kind in ["sgd", "scaffold"] {
        let toml = format!(
            "solver = {{ kind = \"{kind}\", weight_decay = {lambda}, learning_rate = 0.1, steps = 1 }}"
        );
        assert_close(&ideal(&toml, 400), &ridge, 1e-5);
    }
}

#[test]
fn schedules_and_server_optimisers_reach_the_optimum_too() {
    let solver = "solver = { kind = \"scaffold\", learning_rate = 0.1, steps = 5 }\n";
    for (rest, tolerance) in [
        ("schedule = { warm_up = 20, decay = { kind = \"cosine\", floor = 0.1 } }", 1e-4),
        ("server = { kind = \"fedavgm\", learning_rate = 0.5, momentum = 0.5 }", 1e-4),
        ("server = { kind = \"fedadagrad\", learning_rate = 0.5 }", 1e-3),
        ("server = { kind = \"fedadam\", learning_rate = 0.02, tau = 0.1 }", 1e-3),
        ("server = { kind = \"fedyogi\", learning_rate = 0.02, tau = 0.1 }", 1e-3),
    ] {
        assert_close(&ideal(&format!("{solver}{rest}"), 1000), &optimum(), tolerance);
    }
    // A decayed learning rate is what the clients really use: the drift of K steps of 0.1·½.
    let decay = "solver = { kind = \"sgd\", learning_rate = 0.2, steps = 10 }\nschedule = { decay = { kind = \"step\", every = 1, factor = 0.5 } }";
    let once = ideal(&decay.replace("every = 1", "every = 2"), 1);
    let twice = ideal(decay, 2);
    let half = |x: f64, k: usize, i: usize| {
        let (a, b, _) = CLIENTS[k];
        (1.0 - (1.0 - 0.1 * a[i]).powi(10)) * (b[i] - x)
    };
    let total: f64 = CLIENTS.iter().map(|(.., n)| *n as f64).sum();
    let want: Vec<f64> = (0..3)
        .map(|i| once[i] + (0..4).map(|k| CLIENTS[k].2 as f64 / total * half(once[i], k, i)).sum::<f64>())
        .collect();
    assert_close(&twice, &want, 1e-5);
}

/// Σ_k w_k c_k / Σ w_k − c, the largest coordinate, in units of the largest control.
fn imbalance(setting: &Setting, state: &State) -> f64 {
    let weights = setting.assumptions().weights;
    let weights: Vec<f64> = (0..weights.clients()).map(|k| weights.most(k)).collect();
    let total: f64 = weights.iter().sum();
    // Nothing where it has not moved yet.
    let of = |control: &[f32], i: usize| control.get(i).copied().unwrap_or(0.0);
    let largest = state.clients.controls.iter().flatten().fold(1e-3f32, |m, c| m.max(c.abs()));
    (0..3)
        .map(|i| {
            let mean: f64 = state
                .clients
                .controls
                .iter()
                .zip(&weights)
                .map(|(c, w)| w / total * f64::from(of(c, i)))
                .sum();
            (mean - f64::from(state.server.control[i])).abs() / f64::from(largest)
        })
        .fold(0.0, f64::max)
}

const FAILING: &str = "[network.client_client]\nkind = \"bernoulli\"\nerasure = 0.2\n\
                       [network.client_server]\nkind = \"bernoulli\"\nerasure = [0.1, 0.3, 0.5, 0.7]\n";

fn protocol(text: &str) -> ProtocolConfig {
    toml::from_str(text).unwrap()
}

#[test]
fn control_vectors_stay_balanced_through_outages_and_partial_rounds() {
    for solver in [
        "{ kind = \"scaffold\", learning_rate = 0.1, steps = 10 }",
        "{ kind = \"scaffold\", learning_rate = 0.1, steps = 10, clip_norm = 0.5 }",
        "{ kind = \"feddyn\", alpha = 1.0, learning_rate = 0.1, steps = 10 }",
    ] {
        for scheme in [
            "kind = \"sec-cogc\"\nkey_std = 1.0\nstragglers = 2",
            "kind = \"sec-cogc\"\nstragglers = 2\narithmetic = \"field\"\nquantisation = { clip = 64.0, bits = 48 }",
            "kind = \"cogc\"\nstragglers = 1\ndecoder = \"gc-plus\"",
            "kind = \"fedavg\"\narithmetic = \"f64\"",
        ] {
            let setting = setting(&format!(
                "rounds = 300\nsolver = {solver}\nserver = {{ kind = \"fedavgm\", momentum = 0.5 }}\n{FAILING}"
            ));
            let run = setting.run(&protocol(scheme)).unwrap();
            let mut last = run.start();
            let mut seen = [0; 3];
            let state = play(&run, 300, |state, row| {
                seen[row.outcome as usize] += 1;
                if row.outcome == Outcome::Outage {
                    assert_eq!(*state, State { round: state.round, ..last.clone() }, "nothing moves");
                } else {
                    let moved = state
                        .clients
                        .controls
                        .iter()
                        .zip(&last.clients.controls)
                        .filter(|(a, b)| a != b)
                        .count();
                    // Those move that the sum contains, until all have converged.
                    let included = if row.outcome == Outcome::Recovered { 4 } else { row.arrivals as usize };
                    assert!(moved == included || row.round > 10, "{scheme}: {moved} of {included}");
                    assert!(imbalance(&setting, state) < 1e-5, "{scheme} {solver} {}", state.round);
                }
                last = state.clone();
            });
            let partial = scheme.contains("fedavg");
            assert!(seen[Outcome::Recovered as usize] > 5, "{scheme}: {seen:?}");
            assert_eq!(seen[Outcome::Partial as usize] > 50, partial, "{scheme}: {seen:?}");
            assert!(seen[Outcome::Outage as usize] > 0, "{scheme}: {seen:?}");
            assert!(state.clients.controls.iter().flatten().any(|c| c.abs() > 0.05));
        }
    }
}

#[test]
fn scaffold_reaches_the_optimum_although_links_fail() {
    // Its fixed point does not depend on who arrives; that of FedAvg does.
    for scheme in ["kind = \"sec-cogc\"\nkey_std = 0.1\nstragglers = 2", "kind = \"fedavg\""] {
        let solver = "solver = { kind = \"scaffold\", learning_rate = 0.1, steps = 10 }";
        let setting = setting(&format!("rounds = 1500\n{solver}\n{FAILING}"));
        let run = setting.run(&protocol(scheme)).unwrap();
        let state = play(&run, 1500, |_, _| ());
        let got: Vec<f64> = state.server.parameters.into_iter().map(f64::from).collect();
        assert_close(&got, &optimum(), 1e-3);
    }
}

#[test]
fn proximal_terms_stay_at_the_global_model_while_local_models_go_on() {
    // Nothing ever arrives: local models approach (ab + μx)/(a + μ), x being the initial model all the time.
    let solver = "solver = { kind = \"fedprox\", proximal = 2.0, learning_rate = 0.1, steps = 10 }";
    let links = "[network.client_server]\nkind = \"bernoulli\"\nerasure = 1.0\n";
    let setting = setting(&format!("rounds = 20\n{solver}\noutage = {{ policy = \"accumulate\" }}\n{links}"));
    let run = setting.run(&protocol("kind = \"fedavg\"")).unwrap();
    let state = play(&run, 20, |_, row| assert_eq!(row.outcome, Outcome::Outage));
    assert_eq!(state.server.parameters, [0.25; 3]);
    let mut carried: Vec<Vec<f64>> =
        state.clients.carried.iter().map(|x| x.iter().copied().map(f64::from).collect()).collect();
    let mut want: Vec<Vec<f64>> = CLIENTS
        .iter()
        .map(|(a, b, _)| (0..3).map(|i| a[i] * (b[i] - 0.25) / (a[i] + 2.0)).collect())
        .collect();
    // Classes go to the clients in random order.
    carried.sort_by(|a, b| a[0].total_cmp(&b[0]));
    want.sort_by(|a, b| a[0].total_cmp(&b[0]));
    carried.iter().zip(&want).for_each(|(carried, want)| assert_close(carried, want, 1e-5));
}

#[test]
fn participation_rules_remove_the_bias_towards_clients_that_arrive() {
    const ROUNDS: u64 = 6000;
    let toml = format!(
        "rounds = {ROUNDS}\nsolver = {{ kind = \"sgd\", learning_rate = 0.02, steps = 1 }}\n{FAILING}"
    );
    let setting = setting(&toml);
    // The mean over the second half, in which the model is at its fixed point up to the noise of who arrives.
    let settled = |scheme: &str, rule: &str| {
        let run = setting.contender(&contender(scheme, rule)).unwrap();
        let mut mean = vec![0.0; 3];
        play(&run, ROUNDS, |state, _| {
            if state.round > ROUNDS / 2 {
                let share = 2.0 / ROUNDS as f64;
                mean.iter_mut().zip(&state.server.parameters).for_each(|(m, x)| *m += share * f64::from(*x));
            }
        });
        distance(&mean, &optimum())
    };
    let fedavg = "kind = \"fedavg\"";
    let biased = settled(fedavg, "none");
    assert!(biased > 0.2, "{biased}");
    for (rule, least) in [("mifa", 1e-3), ("fedvarp", 1e-3), ("fedau", 0.2 * biased)] {
        let distance = settled(fedavg, rule);
        assert!(distance < least, "{rule}: {distance}, without {biased}");
    }
    // Noise of its own in every upload, σ 0.05 a coordinate, beside steps of 0.02: it averages out, but for
    // what is left of it in a mean over 3000 rounds.
    let distance = settled("kind = \"gaussian\"\nkey_std = 0.05", "mifa");
    assert!(distance < 0.2 * biased, "{distance}, without rule or noise {biased}");
}

/// One of `[[compare]]` with a rule of participation of its own.
fn contender(scheme: &str, rule: &str) -> Contender {
    let participation = toml::from_str(&format!("kind = \"{rule}\"")).unwrap();
    Contender { name: rule.into(), protocol: protocol(scheme), participation: Some(participation) }
}

#[test]
fn a_rule_reads_what_the_server_received() {
    let toml = "rounds = 6\nsolver = { kind = \"sgd\", learning_rate = 0.1, steps = 1 }\n";
    let setting = setting(&format!("{toml}{FAILING}"));
    for (scheme, noise) in [
        ("kind = \"fedavg\"", 0.0),
        ("kind = \"fedavg\"\narithmetic = \"field\"\nquantisation = { clip = 16.0, bits = 30 }", 0.0),
        ("kind = \"gaussian\"\nkey_std = 10.0\narithmetic = \"f64\"", 10.0),
        ("kind = \"gaussian\"\nkey_std = 10.0\ntransmissions = 2", 10.0),
    ] {
        let run = setting.contender(&contender(scheme, "mifa")).unwrap();
        let mut state = run.start();
        let (mut heard, mut squares) = (0, 0.0);
        for _ in 0..6 {
            let before = state.clone();
            let (_, clients) = run.round(&mut state).unwrap();
            let mut mean = [0.0; 3];
            for (k, client) in clients.iter().enumerate() {
                let (a, b, n) = CLIENTS.iter().find(|(.., n)| *n == client.examples).unwrap();
                let (was, is) = (&before.server.memory[k], &state.server.memory[k]);
                heard += u32::from(was != is);
                for i in 0..3 {
                    let weight = *n as f64 / 3.0;
                    let sent = -0.1 * a[i] * (f64::from(before.server.parameters[i]) - b[i]);
                    let off = f64::from(is[i]) - sent;
                    // The update to single precision, or with the client's own noise.
                    assert!(was == is || noise > 0.0 || off.abs() < 1e-6, "{scheme}: {is:?}");
                    squares += if was == is { 0.0 } else { (weight * off).powi(2) };
                    mean[i] += weight / 4.0 * f64::from(is[i]);
                }
            }
            // Nobody was heard, or the model moves by the mean of what is remembered.
            let moves = before.server.memory != state.server.memory;
            for ((now, was), mean) in state.server.parameters.iter().zip(&before.server.parameters).zip(mean)
            {
                let moved = f64::from(*now) - f64::from(*was);
                let want = if moves { mean } else { 0.0 };
                assert!((moved - want).abs() < 1e-5 * (1.0 + noise), "{scheme}: {moved} for {want}");
            }
        }
        // χ² with as many degrees of freedom as coordinates were heard: within 5 deviations of its mean.
        let freedom = f64::from(3 * heard);
        let ratio = if noise > 0.0 { squares / (noise * noise) } else { freedom };
        assert!(heard > 8 && (ratio - freedom).abs() < 5.0 * (2.0 * freedom).sqrt(), "{scheme}: {ratio}");
    }
}

#[test]
fn contenders_have_the_common_rule_or_their_own() {
    let common = "rounds = 30\nsolver = { kind = \"sgd\", learning_rate = 0.1, steps = 2 }\n";
    let with_rule = setting(&format!("{common}participation = {{ kind = \"mifa\" }}\n{FAILING}"));
    let without = setting(&format!("{common}{FAILING}"));
    let fedavg = "kind = \"fedavg\"";
    let state = |run: Run<'_>| play(&run, 30, |_, _| ());
    let inherits = Contender { participation: None, ..contender(fedavg, "none") };
    let mifa = state(with_rule.run(&protocol(fedavg)).unwrap());
    assert_eq!(state(with_rule.contender(&inherits).unwrap()), mifa);
    assert_eq!(state(without.contender(&contender(fedavg, "mifa")).unwrap()), mifa);
    let plain = state(without.run(&protocol(fedavg)).unwrap());
    assert_eq!(state(with_rule.contender(&contender(fedavg, "none")).unwrap()), plain);
    assert!(plain.server.memory.is_empty() && plain.server.parameters != mifa.server.parameters);
    // Each run records its own rule, and is called by it.
    let run = without.contender(&contender(fedavg, "fedau")).unwrap();
    assert_eq!(
        (run.config().participation.kind(), run.info().protocol),
        ("fedau", "fedavg with fedau".into())
    );
    let refused = |contender: &Contender| with_rule.contender(contender).err().unwrap().to_string();
    let coded = "kind = \"sec-cogc\"\nstragglers = 2";
    let line = refused(&Contender { participation: None, ..contender(coded, "none") });
    assert_eq!(
        line,
        "participation.kind: mifa reads single updates, and sec-cogc shows the server a sum only; take \"none\", or a protocol that \
         shows them: ideal, fedavg, gaussian or mds-relay"
    );
    assert!(with_rule.contender(&contender(coded, "none")).is_ok());
}

#[test]
fn every_state_survives_a_checkpoint_in_every_round() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.bin");
    let servers = ["fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi", "amplified"];
    for (i, solver) in SolverConfig::KINDS.iter().enumerate() {
        for rule in ["none", "mifa", "fedvarp", "fedau"] {
            let server = servers[i % servers.len()];
            let setting = setting(&format!(
                "rounds = 12\nserver = {{ kind = \"{server}\" }}\nsolver = {{ kind = \"{solver}\", steps = 3 }}\n{FAILING}"
            ));
            let scheme = match rule {
                "none" => "kind = \"sec-cogc\"\nstragglers = 2",
                "mifa" => "kind = \"gaussian\"",
                _ => "kind = \"fedavg\"",
            };
            let contender = contender(scheme, rule);
            if rule != "none" && ["scaffold", "feddyn"].contains(solver) {
                let error = setting.contender(&contender).err().unwrap().to_string();
                assert!(error.starts_with("participation.kind: ") && error.contains(solver), "{error}");
                continue;
            }
            let run = setting.contender(&contender).unwrap();
            let whole = play(&run, 12, |_, _| ());
            let mut state = run.start();
            for _ in 0..12 {
                run.round(&mut state).unwrap();
                state.save(&path, &run.fingerprint()).unwrap();
                let loaded = State::load(&path, &run.fingerprint()).unwrap();
                assert!(loaded.same_shape(&run.start()));
                state = loaded;
            }
            assert_eq!(state, whole, "{solver} {server}");
        }
    }
}

#[test]
fn scaffold_and_fedadam_are_exact_under_sec_cogc_on_real_images() {
    // The decoded sum of 2d coordinates is the true one up to the precision of the symbols, so that both
    // trajectories agree. Over the field a coordinate is rounded to a multiple of 2⁻²³.
    let levels = [(Arithmetic::F64, 1e-6), (Arithmetic::F32, 1e-2), (Arithmetic::Field, 1e-3)];
    for (arithmetic, tolerance) in levels {
        let toml = "rounds = 4\ndata = { name = \"mnist-subset\" }\npartition = { kind = \"dirichlet\", alpha = 0.3 }\n\
            model = { kind = \"softmax\" }\nsolver = { kind = \"scaffold\", steps = 3 }\n\
            server = { kind = \"fedadam\", tau = 0.1 }\nprivacy = { measure = false }";
        let config: Config = toml::from_str(toml).unwrap();
        let setting = Setting::build(&config, "cpu".parse().unwrap()).unwrap();
        assert_eq!(setting.coordinates(), 2 * 7850);
        let name = toml::Value::try_from(arithmetic).unwrap();
        let run = |scheme: &str| {
            let run = setting.run(&protocol(&format!("{scheme}\narithmetic = {name}"))).unwrap();
            let state = play(&run, 4, |_, row| {
                assert_eq!(row.outcome, Outcome::Recovered);
                let error = row.recovery_error.unwrap();
                assert!(error < tolerance, "{scheme} {arithmetic:?}: {error}");
            });
            assert!(state.clients.controls.iter().flatten().any(|c| c.abs() > 1e-3));
            state
        };
        let coded = match arithmetic {
            Arithmetic::Field => "kind = \"sec-cogc\"",
            Arithmetic::F32 | Arithmetic::F64 => "kind = \"sec-cogc\"\nkey_std = 0.01",
        };
        let (ideal, coded) = (run("kind = \"ideal\""), run(coded));
        if arithmetic == Arithmetic::Field {
            assert_eq!(ideal, coded, "modular sums are exact");
        }
        let relative = |a: &[f32], b: &[f32]| {
            let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut a.iter().copied())
        };
        // The states are kept in single precision.
        let tolerance = tolerance.max(1e-6);
        assert!(relative(&ideal.server.parameters, &coded.server.parameters) < tolerance);
        assert!(relative(&ideal.server.control, &coded.server.control) < tolerance);
        assert!(relative(&ideal.server.moments[1], &coded.server.moments[1]) < tolerance);
        assert!(relative(&ideal.clients.controls[3], &coded.clients.controls[3]) < 10.0 * tolerance);
    }
}
