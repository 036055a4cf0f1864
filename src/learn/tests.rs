use rand::RngExt;
use rayon::prelude::*;

use super::*;
use crate::data::{Augmentation, Normalisation};

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
        classes,
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

fn mlp(hidden: usize) -> ModelConfig {
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

/// Every kind, each with images that it takes.
pub(super) fn models() -> [(ModelConfig, [usize; 3]); 6] {
    [
        (model("softmax"), [1, 6, 6]),
        (ModelConfig::Mlp(MlpConfig { hidden: Hidden::Several(vec![20, 15]) }), [3, 5, 5]),
        (model("cnn"), [1, 9, 8]),
        (model("lenet5"), [1, 12, 13]),
        (model("cifar-cnn"), [3, 7, 9]),
        (model("resnet20"), [2, 8, 9]),
    ]
}

#[test]
fn parameter_counts_are_those_of_the_literature() {
    let two_layers = ModelConfig::Mlp(MlpConfig { hidden: Hidden::Several(vec![200, 200]) });
    for (model, shape, count) in [
        // McMahan et al. 2017, section 3: "2NN" 199,210, CNN 1,663,370, CIFAR network "about 10⁶" on 24×24
        // crops.
        (&two_layers, [1, 28, 28], 199_210),
        (&model("cnn"), [1, 28, 28], 1_663_370),
        (&model("cifar-cnn"), [3, 24, 24], 1_068_298),
        // LeCun et al. 1998 with dense C3: 156 + 2,416 + 48,120 + 10,164 + 850.
        (&model("lenet5"), [1, 32, 32], 61_706),
        (&model("lenet5"), [1, 28, 28], 61_706),
        // He et al. 2016, table 6: 0.27M.
        (&model("resnet20"), [3, 32, 32], 269_722),
        (&model("softmax"), [1, 28, 28], 7_850),
        (&mlp(200), [1, 28, 28], 159_010),
        (&model("softmax"), [3, 32, 32], 30_730),
        (&mlp(200), [3, 32, 32], 616_610),
        (&model("cnn"), [3, 32, 32], 2_156_490),
        (&model("lenet5"), [3, 32, 32], 62_006),
        (&model("cifar-cnn"), [3, 32, 32], 1_756_426),
        (&model("cifar-cnn"), [1, 28, 28], 1_384_586),
        (&model("resnet20"), [1, 28, 28], 269_434),
        // The smallest images, and sides that are neither even nor equal.
        (&model("cnn"), [1, 4, 5], 90_506),
        (&model("lenet5"), [1, 12, 13], 15_626),
        (&model("cifar-cnn"), [1, 4, 5], 229_514),
        (&model("resnet20"), [2, 8, 9], 269_578),
    ] {
        let data = dataset(4, shape, 10);
        let learner = learner(model, &SolverConfig::default(), &data, cpu()).unwrap();
        assert_eq!(learner.parameters(), count, "{} {shape:?}", model.kind());
        assert_eq!(model.size(shape, 10).unwrap(), count);
        let sizes = learner.layers().iter().map(|(_, s)| s.iter().product::<usize>()).sum::<usize>();
        assert_eq!(sizes, count);
        assert_eq!(learner.init(Seed::new(0)).len(), count);
        let layers = model.layers(shape, 10, &cpu()).unwrap();
        assert_eq!(layers.iter().map(Parameter::size).sum::<usize>(), count);
        let evaluation = learner.evaluate(&learner.init(Seed::new(0)), &data.test);
        assert!(evaluation.loss.is_finite() && evaluation.examples == 4);
    }
    let refused = mlp(usize::MAX).size([1, 28, 28], 10).unwrap_err().to_string();
    assert!(refused.starts_with("hidden: 18446744073709551615 parameters are too many"), "{refused}");
    assert!(mlp(340_000).size([1, 28, 28], 10).is_ok() && mlp(342_000).size([1, 28, 28], 10).is_err());
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
    check_gradient(&model("cifar-cnn"), [2, 6, 6], 1.0);
    check_gradient(&model("resnet20"), [2, 8, 8], 5.0);
}

/// Two epochs with momentum, then a test: the kernels against Burn's own operations, to 10⁻⁴ of the largest
/// change.
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
            learning_rate: 0.01,
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
            assert!((a - b).abs() <= 1e-4 * top, "{}: {a} {b}", model.kind());
        }
        assert!((fast.0.loss - slow.0.loss).abs() < 1e-5 && fast.0.steps == 6, "{}", model.kind());
        assert!((fast.1.loss - slow.1.loss).abs() < 1e-4, "{}", model.kind());
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
fn hidden_layers_are_read_as_a_number_or_a_list() {
    let read = |text: &str| toml::from_str::<MlpConfig>(text);
    assert_eq!(read("hidden = [30, 20]").unwrap().hidden.units(), [30, 20]);
    assert_eq!(toml::to_string(&read("hidden = 30").unwrap()).unwrap(), "hidden = 30\n");
    for (text, want) in [
        (
            "hidden = \"wide\"",
            "invalid type: string \"wide\", expected a number of hidden units, or a list of them",
        ),
        ("hidden = -1", "the number of hidden units is negative"),
    ] {
        assert!(read(text).unwrap_err().message().contains(want), "{text}");
    }
    let check = |hidden: &str| read(hidden).unwrap().check([1, 2, 2]).unwrap_err().to_string();
    assert_eq!(check("hidden = []"), "hidden: must name at least one layer; use softmax for none");
    assert_eq!(check("hidden = [4, 0]"), "hidden: must be at least 1; set the number of hidden units");
}

#[test]
fn convolutions_refuse_images_that_are_too_small_and_tables() {
    let refusal = |kind, shape| model(kind).check(shape).unwrap_err().to_string();
    for (kind, side) in [("cnn", 4), ("lenet5", 12), ("cifar-cnn", 4), ("resnet20", 8)] {
        assert!(model(kind).check([1, side, side]).is_ok());
        for [height, width] in [[side - 1, 99], [99, side - 1], [1, 13]] {
            assert_eq!(
                refusal(kind, [1, height, width]),
                format!(
                    "kind: {kind} needs images of at least {side}×{side} pixels, not {height}×{width}; use mlp or softmax"
                )
            );
        }
    }
    let groups = ModelConfig::ResNet20(ResNet20Config { groups: 3 }).check([3, 32, 32]).unwrap_err();
    assert_eq!(groups.to_string(), "groups: 3 does not divide the 16 channels; take 1, 2, 4, 8 or 16");
}

/// In a residual block whose convolutions are 0, what comes out is the shortcut: every second pixel in the
/// first half of the channels, zeros in the rest.
#[test]
fn shortcuts_have_no_parameters() {
    let data = dataset(6, [1, 8, 8], 4);
    let learner = learner(&model("resnet20"), &SolverConfig::default(), &data, cpu()).unwrap();
    let mut weights = learner.init(Seed::new(4));
    let mut at = 0;
    let mut output = 0;
    for (name, shape) in learner.layers() {
        let size: usize = shape.iter().product();
        match name.as_str() {
            name if name.starts_with("blocks") && name.ends_with("conv.weight") => {
                weights[at..at + size].fill(0.0)
            }
            "output.weight" => output = at,
            _ => {}
        }
        at += size;
    }
    let loss = |weights: &[f32]| learner.evaluate(weights, &data.test).loss;
    let before = loss(&weights);
    // Rows 16 to 63 of the output layer belong to channels that are zero then.
    let mut changed = weights.clone();
    changed[output + 16 * 4..output + 64 * 4].fill(9.0);
    assert_eq!(loss(&changed), before);
    changed[output] += 1.0;
    assert_ne!(loss(&changed), before);
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
    assert!(before.accuracy < 0.6 && before.loss > 1.0, "{before:?}");
    assert!(after.accuracy == 1.0 && after.loss < 0.01, "{after:?}");
}

#[test]
fn evaluation_equals_a_count_by_hand() {
    let data = dataset(700, [1, 3, 3], 4);
    let model = model("softmax");
    let learner = learner(&model, &SolverConfig::default(), &data, cpu()).unwrap();
    let params = learner.init(Seed::new(1));
    let mut pixels = Vec::new();
    data.test.extend_batch(&all(&data.test), &data.normalisation, &mut pixels);
    let (mut hits, mut loss) = (0, 0.0);
    for (x, &label) in pixels.chunks(9).zip(data.test.labels()) {
        let score = |c: usize| -> f64 {
            let dot = |i: usize| f64::from(x[i]) * f64::from(params[i * 4 + c]);
            f64::from(params[36 + c]) + (0..9).map(dot).sum::<f64>()
        };
        let own = score(label.into());
        hits += usize::from((0..4).all(|c| score(c) <= own));
        loss += (0..4).map(|c| (score(c) - own).exp()).sum::<f64>().ln();
    }
    let evaluation = learner.evaluate(&params, &data.test);
    assert_eq!(evaluation.accuracy, hits as f64 / 700.0);
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
    assert!(evaluation.loss.is_nan() && evaluation.accuracy == 0.0);
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
