use rand::RngExt;
use rayon::prelude::*;

use super::*;
use crate::data::{Augmentation, Normalisation, Response};

/// Random images whose label is a noisy function of them, from a fixed seed.
pub(super) fn dataset(n: usize, shape: [usize; 3], classes: usize) -> Dataset {
    let mut rng = Seed::new(11).child("images", n as u64).rng();
    let size: usize = shape.iter().product();
    let mut examples = |n: usize| {
        let labels: Vec<u16> = (0..n).map(|_| rng.random_range(0..classes as u8).into()).collect();
        let pixels = labels.iter().flat_map(|&label| {
            let mut image: Vec<u8> = (0..size).map(|_| rng.random()).collect();
            image[usize::from(label)] = 255;
            image
        });
        let pixels = pixels.collect();
        Examples::new(pixels, labels, shape).unwrap()
    };
    Dataset {
        name: "random",
        response: Response::Class,
        classes,
        scale: Normalisation::identity(classes),
        class_names: (0..classes).map(|class| class.to_string()).collect(),
        train: examples(n),
        test: examples(n),
        normalisation: Normalisation { mean: vec![0.5; shape[0]], std: vec![0.25; shape[0]] },
        augmentation: Augmentation::default(),
        users: None,
    }
}

pub(super) fn cpu() -> Device {
    "cpu".parse().unwrap()
}

fn sgd(config: SgdConfig) -> SolverConfig {
    SolverConfig::Sgd(config)
}

pub(super) fn mlp(hidden: usize) -> ModelConfig {
    ModelConfig::Mlp(MlpConfig { hidden: Hidden::One(hidden) })
}

pub(super) fn all(data: &Examples) -> Vec<usize> {
    (0..data.len()).collect()
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

pub(super) fn model(kind: &str) -> ModelConfig {
    toml::from_str(&format!("kind = \"{kind}\"")).unwrap()
}

/// Every kind over images, each with some that it takes, but the deepest: rounding puts some of their many
/// units on the other side of 0, where gradients jump. What they are made of is that of the others.
pub(super) fn models() -> [(ModelConfig, [usize; 3]); 7] {
    [
        (model("softmax"), [1, 6, 6]),
        (ModelConfig::Mlp(MlpConfig { hidden: Hidden::Several(vec![20, 15]) }), [3, 5, 5]),
        (model("cnn"), [1, 9, 8]),
        (model("lenet5"), [1, 12, 13]),
        (model("cifar-cnn"), [3, 7, 9]),
        (model("resnet20"), [2, 8, 9]),
        (niid_cnn(), [2, 16, 17]),
    ]
}

/// How many times further than others a model may be from the same model computed in another way: Winograd's
/// sums are rounded ten times more.
pub(super) fn slack(model: &ModelConfig) -> f32 {
    if model.kind() == "resnet20" { 10.0 } else { 1.0 }
}

/// NIID-Bench's simple CNN.
pub(super) fn niid_cnn() -> ModelConfig {
    toml::from_str("kind = 'lenet5'\nactivation = 'relu'\npooling = 'max'\npadded = false").unwrap()
}

#[test]
fn initial_weights_follow_the_fan_in() {
    let data = dataset(4, [3, 8, 8], 10);
    let cnn = model("cnn");
    let learner = learner(&cnn, &SolverConfig::default(), &data, cpu()).unwrap();
    let weights = learner.init(Seed::new(5));
    assert_eq!(weights, learner.init(Seed::new(5)));
    assert_ne!(weights, learner.init(Seed::new(6)));
    let fan_in = [75, 75, 800, 800, 256, 256, 512, 512];
    let mut rest = weights.as_slice();
    for ((name, shape), fan_in) in learner.layers().into_iter().zip(fan_in) {
        let (layer, tail) = rest.split_at(shape.iter().product());
        rest = tail;
        let bound = 1.0 / (fan_in as f32).sqrt();
        assert!(layer.iter().all(|x| x.abs() <= bound), "{name}");
        // The variance of U(±b) is b²/3. Weight layers hold at least 2400 values, whose sample variance has a
        // relative standard error of at most √(0.8/2400) < 0.02: 0.1 is beyond five of them, α < 1e-6.
        if name.ends_with("weight") {
            let variance = norm(layer).powi(2) / layer.len() as f64;
            let ratio = variance / (f64::from(bound).powi(2) / 3.0);
            assert!((ratio - 1.0).abs() < 0.1, "{name}: {ratio}");
        }
    }
    assert!(rest.is_empty());
}

/// One full-batch step of size 1 returns minus the gradient. Each layer's gradient is compared with central
/// differences of the loss, along itself and along single coordinates. The differences are good to about
/// 1e-7 / ε = 2e-4 (rounding of f32 logits) plus what ReLU and max-pool kinks within ε contribute, which
/// is more in a deep model: `slack` multiplies the tolerance.
fn check_gradient(model: &ModelConfig, shape: [usize; 3], slack: f64) {
    let data = dataset(128, shape, 4);
    let solver = sgd(SgdConfig { learning_rate: 1.0, batch_size: 128, ..SgdConfig::default() });
    let learner = learner(model, &solver, &data, cpu()).unwrap();
    let start = learner.init(Seed::new(1));
    let update = learner.train(&start, &data.train, &all(&data.train), Seed::new(2));
    assert_eq!((update.steps, update.examples), (1, 128));
    let here = learner.evaluate(&start, &data.train).loss;
    assert!((update.loss - here).abs() < 1e-6, "{} {here}", update.loss);

    let epsilon = 5e-4;
    let slope = |at: usize, direction: &[f32]| {
        let loss = |sign: f32| {
            let mut moved = start.clone();
            for (x, u) in moved[at..].iter_mut().zip(direction) {
                *x += sign * epsilon * u;
            }
            learner.evaluate(&moved, &data.train).loss
        };
        (loss(1.0) - loss(-1.0)) / (2.0 * f64::from(epsilon))
    };
    let mut rng = Seed::new(3).rng();
    let mut at = 0;
    for (name, shape) in learner.layers() {
        let size: usize = shape.iter().product();
        let gradient: Vec<f32> = update.delta[at..at + size].iter().map(|x| -x).collect();
        let length = norm(&gradient);
        let unit: Vec<f32> = gradient.iter().map(|g| g / length as f32).collect();
        let measured = slope(at, &unit);
        assert!((measured - length).abs() < slack * (2e-4 + 1e-2 * length), "{name}: {measured} {length}");
        for _ in 0..4 {
            let i = rng.random_range(0..size);
            let (measured, expected) = (slope(at + i, &[1.0]), f64::from(gradient[i]));
            let tolerance = slack * (2e-4 + 2e-2 * expected.abs());
            assert!((measured - expected).abs() < tolerance, "{name}[{i}]: {measured} {expected}");
        }
        at += size;
    }
}

#[test]
fn gradients_match_finite_differences() {
    check_gradient(&model("softmax"), [1, 6, 6], 1.0);
    check_gradient(&mlp(20), [3, 5, 5], 1.0);
    check_gradient(&ModelConfig::Mlp(MlpConfig { hidden: Hidden::Several(vec![20, 15]) }), [3, 5, 5], 1.0);
    check_gradient(&model("cnn"), [2, 8, 8], 1.0);
    check_gradient(&model("lenet5"), [1, 12, 12], 1.0);
    check_gradient(&niid_cnn(), [1, 16, 16], 1.0);
    for other in ["activation = 'relu'", "pooling = 'max'"] {
        let other = format!("kind = 'lenet5'\n{other}");
        check_gradient(&toml::from_str(&other).unwrap(), [1, 12, 12], 1.0);
    }
    check_gradient(&model("cifar-cnn"), [2, 6, 6], 1.0);
    check_gradient(&model("resnet20"), [2, 8, 8], 5.0);
}

/// Two epochs with momentum, then a test: the kernels against Burn's own operations, to 10⁻⁴ of the largest
/// change, times [`slack`].
#[test]
fn every_model_trains_as_with_burns_operations() {
    // Tests on this thread, where the switch between the two is.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
    for (model, shape) in models() {
        let data = dataset(40, shape, 4);
        let config = SgdConfig {
            batch_size: 16,
            epochs: Some(2),
            momentum: 0.5,
            // Long steps of deep models multiply every difference.
            learning_rate: 0.001,
            ..SgdConfig::default()
        };
        let learner = learner(&model, &sgd(config), &data, cpu()).unwrap();
        let start = learner.init(Seed::new(1));
        let (fast, slow) = kernels::tests::both(|| {
            let update = learner.train(&start, &data.train, &all(&data.train), Seed::new(2));
            let end: Vec<f32> = start.iter().zip(&update.delta).map(|(w, x)| w + x).collect();
            (update, pool.install(|| learner.evaluate(&end, &data.test)))
        });
        let top = slow.0.delta.iter().fold(0.0_f32, |top, x| top.max(x.abs()));
        for (a, b) in fast.0.delta.iter().zip(&slow.0.delta) {
            assert!((a - b).abs() <= slack(&model) * 1e-4 * top, "{}: {a} {b} of {top}", model.kind());
        }
        let off = [fast.0.loss - slow.0.loss, fast.1.loss - slow.1.loss].map(|off| off.abs() as f32);
        assert!(off[0] < slack(&model) * 1e-5 && fast.0.steps == 6, "{}: {off:?}", model.kind());
        assert!(off[1] < slack(&model) * 1e-4, "{}: {off:?}", model.kind());
    }
}

/// Full-batch SGD on a softmax model, in f64 with plain loops.
fn softmax_by_hand(start: &[f32], data: &Dataset, sgd: &SgdConfig, steps: usize) -> Vec<f64> {
    let (n, classes) = (data.train.len(), data.classes);
    let inputs: usize = data.train.shape().iter().product();
    let mut pixels = Vec::new();
    data.train.extend_batch(&all(&data.train), &data.normalisation, &mut pixels);
    let mut weights: Vec<f64> = start.iter().map(|&w| w.into()).collect();
    let mut velocity = vec![0.0; weights.len()];
    for _ in 0..steps {
        let mut gradient: Vec<f64> = weights.iter().map(|w| sgd.weight_decay * w).collect();
        for (x, &label) in pixels.chunks(inputs).zip(data.train.labels()) {
            let scores: Vec<f64> = (0..classes)
                .map(|c| {
                    let dot = |i: usize| f64::from(x[i]) * weights[i * classes + c];
                    (weights[inputs * classes + c] + (0..inputs).map(dot).sum::<f64>()).exp()
                })
                .collect();
            let total: f64 = scores.iter().sum();
            for c in 0..classes {
                let error = scores[c] / total - f64::from(u8::from(usize::from(label) == c));
                for i in 0..inputs {
                    gradient[i * classes + c] += error * f64::from(x[i]) / n as f64;
                }
                gradient[inputs * classes + c] += error / n as f64;
            }
        }
        for ((w, v), g) in weights.iter_mut().zip(&mut velocity).zip(gradient) {
            *v = sgd.momentum * *v + g;
            *w -= sgd.learning_rate * *v;
        }
    }
    weights.iter().zip(start).map(|(w, &s)| w - f64::from(s)).collect()
}

#[test]
fn momentum_and_weight_decay_equal_the_hand_computation() {
    let data = dataset(10, [1, 2, 3], 3);
    for (momentum, weight_decay) in [(0.0, 0.0), (0.9, 0.0), (0.0, 0.1), (0.9, 0.1)] {
        let config = SgdConfig {
            learning_rate: 0.1,
            momentum,
            weight_decay,
            batch_size: 10,
            epochs: Some(7),
            ..SgdConfig::default()
        };
        let model = model("softmax");
        let learner = learner(&model, &sgd(config.clone()), &data, cpu()).unwrap();
        let start = learner.init(Seed::new(1));
        let update = learner.train(&start, &data.train, &all(&data.train), Seed::new(2));
        let expected = softmax_by_hand(&start, &data, &config, 7);
        for (got, want) in update.delta.iter().zip(&expected) {
            assert!((f64::from(*got) - want).abs() < 2e-6, "μ={momentum} λ={weight_decay}: {got} {want}");
        }
        assert!(expected.iter().any(|x| x.abs() > 0.05));
    }
}

#[test]
fn same_seed_same_bytes_whatever_the_threads() {
    let data = dataset(700, [1, 6, 6], 4);
    let solver = sgd(SgdConfig { batch_size: 16, momentum: 0.5, ..SgdConfig::default() });
    for model in [mlp(30), model("cnn")] {
        let learner = learner(&model, &solver, &data, cpu()).unwrap();
        let start = learner.init(Seed::new(1));
        let run = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let updates: Vec<LocalUpdate> = (0..4_usize)
                    .into_par_iter()
                    .map(|k| {
                        let shard: Vec<usize> = (k * 50..k * 50 + 50).collect();
                        learner.train(&start, &data.train, &shard, Seed::new(seed).child("client", k as u64))
                    })
                    .collect();
                (updates, learner.evaluate(&start, &data.test))
            })
        };
        let one = run(1, 9);
        assert_eq!(one, run(2, 9));
        assert_ne!(one.0, run(2, 10).0);
        assert!(one.0.iter().all(|u| u.steps == 4 && u.examples == 50 && norm(&u.delta) > 0.0));
    }
}

#[test]
fn steps_cycle_over_reshuffled_epochs() {
    let data = dataset(10, [1, 2, 3], 3);
    let run = |epochs, steps| {
        let config = SgdConfig { batch_size: 4, epochs, steps, ..SgdConfig::default() };
        let learner = learner(&mlp(5), &sgd(config), &data, cpu()).unwrap();
        let start = learner.init(Seed::new(1));
        learner.train(&start, &data.train, &all(&data.train), Seed::new(2))
    };
    assert_eq!(run(Some(2), None), run(None, Some(6)));
    let partial = run(None, Some(4));
    assert_eq!((partial.steps, partial.examples), (4, 14));
}

/// A client that sees one image, mirrored or not: the update is one of two.
#[test]
fn augmentation_is_part_of_local_training_and_not_of_testing() {
    let mut data = dataset(40, [1, 4, 4], 4);
    let train = |data: &Dataset, shard: &[usize], seed| {
        let learner = learner(&mlp(8), &SolverConfig::default(), data, cpu()).unwrap();
        let start = learner.init(Seed::new(1));
        (learner.train(&start, &data.train, shard, Seed::new(seed)), learner.evaluate(&start, &data.test))
    };
    let (plain, tested) = train(&data, &[7], 0);
    data.augmentation.flip = true;
    let runs: Vec<LocalUpdate> = (0..20).map(|seed| train(&data, &[7], seed).0).collect();
    let kept = runs.iter().filter(|run| **run == plain).count();
    let mirrored = runs.iter().find(|run| **run != plain).unwrap();
    assert_eq!(runs.iter().filter(|run| *run == mirrored).count(), 20 - kept);
    // Twenty fair coins: neither side has fewer than 3, α < 5e-4; fixed seed.
    assert!((3..=17).contains(&kept), "{kept}");
    data.augmentation.crop = 2;
    let all = all(&data.train);
    assert_eq!(train(&data, &all, 3), train(&data, &all, 3));
    assert_eq!(train(&data, &all, 3).1, tested);
}

#[test]
fn overfits_64_examples() {
    let data = dataset(64, [1, 6, 6], 4);
    let config = SgdConfig {
        learning_rate: 0.1,
        epochs: Some(60),
        batch_size: 16,
        momentum: 0.9,
        ..SgdConfig::default()
    };
    let learner = learner(&mlp(64), &sgd(config), &data, cpu()).unwrap();
    let start = learner.init(Seed::new(1));
    let before = learner.evaluate(&start, &data.train);
    let update = learner.train(&start, &data.train, &all(&data.train), Seed::new(2));
    let end: Vec<f32> = start.iter().zip(&update.delta).map(|(w, x)| w + x).collect();
    let after = learner.evaluate(&end, &data.train);
    assert!(before.accuracy < Some(0.6) && before.loss > 1.0, "{before:?}");
    assert!(after.accuracy == Some(1.0) && after.loss < 0.01, "{after:?}");
}

#[test]
fn evaluation_equals_a_count_by_hand() {
    let data = dataset(700, [1, 3, 3], 4);
    let model = model("softmax");
    let learner = learner(&model, &SolverConfig::default(), &data, cpu()).unwrap();
    let params = learner.init(Seed::new(1));
    let mut pixels = Vec::new();
    data.test.extend_batch(&all(&data.test), &data.normalisation, &mut pixels);
    let (mut hits, mut loss) = (0u32, 0.0);
    for (x, &label) in pixels.chunks(9).zip(data.test.labels()) {
        let score = |c: usize| -> f64 {
            let dot = |i: usize| f64::from(x[i]) * f64::from(params[i * 4 + c]);
            f64::from(params[36 + c]) + (0..9).map(dot).sum::<f64>()
        };
        let own = score(label.into());
        hits += u32::from((0..4).all(|c| score(c) <= own));
        loss += (0..4).map(|c| (score(c) - own).exp()).sum::<f64>().ln();
    }
    let evaluation = learner.evaluate(&params, &data.test);
    assert_eq!(evaluation.accuracy, Some(f64::from(hits) / 700.0));
    assert!((evaluation.loss - loss / 700.0).abs() < 1e-6);
}

#[test]
fn divergence_and_empty_shards_do_not_panic() {
    let data = dataset(20, [1, 4, 4], 4);
    let config = SgdConfig { learning_rate: 1e30, epochs: Some(5), ..SgdConfig::default() };
    let learner = learner(&mlp(8), &sgd(config), &data, cpu()).unwrap();
    let start = learner.init(Seed::new(1));
    let update = learner.train(&start, &data.train, &all(&data.train), Seed::new(2));
    assert!(update.loss.is_nan());
    let evaluation = learner.evaluate(&vec![f32::NAN; start.len()], &data.test);
    assert!(evaluation.loss.is_nan() && evaluation.accuracy == Some(0.0));
    let empty = learner.train(&start, &data.train, &[], Seed::new(2));
    assert_eq!((empty.steps, empty.examples), (0, 0));
    assert!(empty.loss.is_nan() && empty.delta.iter().all(|&x| x == 0.0));
}

#[test]
fn refusals_name_the_key() {
    let data = dataset(4, [1, 3, 3], 4);
    let refused = |model: &ModelConfig, solver: SgdConfig| {
        learner(model, &sgd(solver), &data, cpu()).err().unwrap().to_string()
    };
    let bad = SgdConfig { batch_size: 0, ..SgdConfig::default() };
    assert_eq!(refused(&mlp(1), bad), "solver.batch_size: must be at least 1");
    assert!(refused(&mlp(0), SgdConfig::default()).starts_with("model.hidden: "));
    let cnn = refused(&model("cnn"), SgdConfig::default());
    assert!(cnn.starts_with("model.kind: ") && cnn.contains("not 3×3"), "{cnn}");
}
