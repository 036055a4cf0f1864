//! Private steps against plain ones, example by example; noise and samples against their laws.

use proptest::prelude::*;

use super::*;
use crate::data::Dataset;
use crate::learn::tests::{all, cpu, dataset, model, models, slack};
use crate::learn::{Job, LocalUpdate, ModelConfig, SolverConfig, Task, learner};

/// What a client with these examples learns from the initial weights.
fn learn(model: &ModelConfig, solver: &str, data: &Dataset, shard: &[usize], seed: u64) -> LocalUpdate {
    let solver: SolverConfig = toml::from_str(solver).unwrap();
    let learner = learner(model, &solver, data, cpu()).unwrap();
    let start = learner.init(Seed::new(1));
    let correction = vec![0.01; if solver.solver().has_controls() { start.len() } else { 0 }];
    let task = Task { correction: &correction, ..Task::new(&start) };
    learner.solve_together(&[Job { task, shard, seed: Seed::new(seed) }], &data.train).remove(0)
}

fn norm(x: impl Iterator<Item = f32>) -> f64 {
    x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

fn private(clip: f64, noise_multiplier: f64) -> String {
    format!("private = {{ clip = {clip:e}, noise_multiplier = {noise_multiplier:e} }}\n")
}

#[test]
fn without_bound_and_noise_steps_are_those_of_plain_gradients() {
    // Long steps of deep models multiply every difference.
    let sgd = "kind = 'sgd'\nlearning_rate = 0.005\nbatch_size = 50\nsteps = 3\nmomentum = 0.5\n\
               weight_decay = 0.1\n";
    let solvers = ["adam", "fedprox", "scaffold", "fednova", "feddyn"]
        .map(|kind| format!("kind = '{kind}'\nbatch_size = 50\nsteps = 3\n"));
    let small = (model("softmax"), [1, 6, 6]);
    let cases = models().into_iter().map(|(model, shape)| (model, shape, sgd.to_owned()));
    for (model, shape, solver) in
        cases.chain(solvers.into_iter().map(|solver| (small.0.clone(), small.1, solver)))
    {
        let data = dataset(12, shape, 4);
        let shard = all(&data.train);
        let plain = learn(&model, &solver, &data, &shard, 2);
        let own = learn(&model, &format!("{solver}{}", private(1e30, 0.0)), &data, &shard, 2);
        let off = norm(plain.delta.iter().zip(&own.delta).map(|(a, b)| a - b));
        // Adam divides by what may be next to nothing.
        let most = if solver.contains("adam") { 1e-2 } else { 1e-4 * f64::from(slack(&model)) };
        let size = norm(plain.delta.iter().copied());
        assert!(off < most * size && size > 0.0, "{} {solver}: {off} of {size}", model.kind());
        assert!((plain.loss - own.loss).abs() < 1e-4, "{} {solver}", model.kind());
        assert_eq!((plain.steps, plain.examples), (own.steps, own.examples));
    }
}

/// One step of rate 1 on three examples is the mean of their gradients, each of which a client that has this
/// example alone takes, and each scaled down to the bound.
#[test]
fn each_example_is_clipped_on_its_own() {
    let plain = "kind = 'sgd'\nlearning_rate = 1.0\nbatch_size = 3\nsteps = 1\n";
    for (model, shape) in models() {
        let data = dataset(12, shape, 4);
        let shard = [2, 7, 9];
        let alone: Vec<Vec<f32>> =
            shard.iter().map(|&i| learn(&model, plain, &data, &[i], 3).delta).collect();
        let norms: Vec<f64> = alone.iter().map(|delta| norm(delta.iter().copied())).collect();
        let mut sorted = norms.clone();
        sorted.sort_by(f64::total_cmp);
        // Two of the three are longer.
        let bound = (sorted[0] + sorted[1]) / 2.0;
        let own = learn(&model, &format!("{plain}{}", private(bound, 0.0)), &data, &shard, 3);
        let factors: Vec<f64> = norms.iter().map(|norm| (bound / norm).min(1.0)).collect();
        assert!(factors.iter().filter(|factor| **factor < 1.0).count() == 2);
        for (j, got) in own.delta.iter().enumerate() {
            let want: f64 = alone.iter().zip(&factors).map(|(delta, f)| f64::from(delta[j]) * f / 3.0).sum();
            assert!((f64::from(*got) - want).abs() < 1e-5 * bound, "{} {j}: {got} for {want}", model.kind());
        }
    }
}

/// A client with an example more takes a step that is moved by at most C over the sum, whatever augmentation
/// does to the examples.
#[test]
fn one_example_moves_a_sum_by_the_bound_at_most() {
    let solver =
        format!("kind = 'sgd'\nlearning_rate = 1.0\nbatch_size = 20\nsteps = 1\n{}", private(0.01, 0.0));
    let mut data = dataset(20, [1, 9, 8], 4);
    data.augmentation.flip = true;
    let model = model("cnn");
    let with = learn(&model, &solver, &data, &all(&data.train), 4);
    for left_out in [0, 7, 19] {
        let shard: Vec<usize> = (0..20).filter(|&i| i != left_out).collect();
        let without = learn(&model, &solver, &data, &shard, 4);
        let moved = norm(with.delta.iter().zip(&without.delta).map(|(a, b)| 20.0 * a - 19.0 * b));
        // Single precision of twenty gradients.
        assert!(moved < 0.01 * (1.0 + 1e-3) && moved > 0.009, "{left_out}: {moved}");
    }
}

/// The variance over all coordinates to 5 standard errors (α = 6 · 10⁻⁷), and another draw in every step and
/// for every seed.
#[test]
fn noise_has_its_variance() {
    let solver = |z: f64| format!("kind = 'sgd'\nlearning_rate = 1.0\nbatch_size = 8\n{}", private(0.5, z));
    let (model, data) = (model("lenet5"), dataset(16, [1, 12, 13], 4));
    let shard = all(&data.train);
    let run = |z: f64, seed: u64| {
        let text = format!("steps = 1\n{}", solver(z));
        learn(&model, &text, &data, &shard, seed).delta
    };
    let noise = |seed| -> Vec<f64> {
        let (noisy, plain) = (run(3.0, seed), run(0.0, seed));
        noisy.iter().zip(plain).map(|(a, b)| f64::from(a - b)).collect()
    };
    let (a, b) = (noise(5), noise(6));
    let n = a.len() as f64;
    // z C/B = 3 · 0.5/8.
    let variance = 0.1875f64 * 0.1875;
    for draws in [&a, &b] {
        let mean = draws.iter().sum::<f64>() / n;
        let square = draws.iter().map(|x| x * x).sum::<f64>() / n;
        assert!(mean.abs() < 5.0 * (variance / n).sqrt(), "{mean}");
        assert!((square - variance).abs() < 5.0 * variance * (2.0 / n).sqrt(), "{square}");
    }
    let product = a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>() / n;
    assert!(product.abs() < 5.0 * variance / n.sqrt(), "{product}");
    assert_eq!(a, noise(5));
}

/// Noise of several steps adds up: it is another one in each.
#[test]
fn steps_draw_their_own_noise() {
    let config = PrivateConfig { clip: 2.0, noise_multiplier: 1.5 };
    let noise = |step| Sum::new(config, 3 * CHUNK + 5).noisy(4, Seed::new(1).child("private noise", step));
    let (a, b) = (noise(0), noise(1));
    let n = a.len() as f64;
    // 2 · 1.5/4.
    let variance = 0.5625;
    let product =
        |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>() / n;
    assert!(product(&a, &b).abs() < 5.0 * variance / n.sqrt());
    assert!((product(&a, &a) - variance).abs() < 5.0 * variance * (2.0 / n).sqrt());
    // Chunks have draws of their own.
    assert!(
        (product(&a[..CHUNK], &a[CHUNK..2 * CHUNK]) * n / CHUNK as f64).abs()
            < 5.0 * variance / (CHUNK as f64).sqrt()
    );
}

/// 2000 samples of 7 of 20 in the mean: every example's share, the mean size and its variance, to 5 standard
/// errors.
#[test]
fn samples_are_poisson() {
    let shard: Vec<usize> = (100..120).collect();
    let samples: Vec<Vec<usize>> = (0..2000).map(|i| sample(&shard, 7, Seed::new(i))).collect();
    let (n, q) = (2000.0f64, 0.35);
    for i in &shard {
        let share = samples.iter().filter(|sample| sample.contains(i)).count() as f64 / n;
        assert!((share - q).abs() < 5.0 * (q * (1.0 - q) / n).sqrt(), "{i}: {share}");
    }
    let sizes: Vec<f64> = samples.iter().map(|sample| sample.len() as f64).collect();
    let mean = sizes.iter().sum::<f64>() / n;
    let variance = sizes.iter().map(|size| (size - mean).powi(2)).sum::<f64>() / n;
    let want = 20.0 * q * (1.0 - q);
    assert!((mean - 7.0).abs() < 5.0 * (want / n).sqrt(), "{mean}");
    assert!((variance - want).abs() < 5.0 * want * (2.0 / n).sqrt(), "{variance}");
    assert_eq!(sample(&shard, 20, Seed::new(1)), shard);
    assert_eq!(sample(&shard, 21, Seed::new(1)), shard);
    assert!(sample(&[], 3, Seed::new(1)).is_empty());
}

proptest! {
    #[test]
    fn clipped_gradients_are_within_the_bound(
        gradient in proptest::collection::vec(-1e20f32..1e20, 1..60), clip in 1e-6f64..1e6, shrink in 0i32..40,
    ) {
        let gradient: Vec<f32> = gradient.into_iter().map(|x| x * 10f32.powi(-shrink)).collect();
        let (first, second) = gradient.split_at(gradient.len() / 2);
        let mut sum = Sum::new(PrivateConfig { clip, noise_multiplier: 0.0 }, gradient.len());
        sum.add(&[(0, first), (first.len(), second)]);
        let norm = sum.values.iter().map(|x| x * x).sum::<f64>().sqrt();
        prop_assert!(norm <= clip * (1.0 + 1e-12));
        let exact = gradient.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        prop_assert!((norm - exact.min(clip)).abs() <= 1e-9 * exact.min(clip));
    }
}

#[test]
fn gradients_that_are_not_finite_are_left_out() {
    let mut sum = Sum::new(PrivateConfig { clip: 1.0, noise_multiplier: 0.0 }, 3);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        sum.add(&[(0, &[1.0, bad]), (2, &[1.0])]);
    }
    sum.add(&[(1, &[0.25])]);
    sum.add(&[(0, &[0.0; 3])]);
    assert_eq!(sum.noisy(2, Seed::new(1)), [0.0, 0.125, 0.0]);
}

#[test]
fn what_an_accountant_needs_and_what_is_refused() {
    let parse = |text: &str| toml::from_str::<SolverConfig>(text);
    let solver = parse(&format!("batch_size = 32\nepochs = 2\n{}", private(1.0, 1.1))).unwrap();
    let sampled = |n| solver.solver().sampled(n).unwrap();
    assert_eq!(sampled(320), SampledGaussian { rate: 0.1, noise_multiplier: 1.1, steps: 20 });
    assert_eq!(sampled(10), SampledGaussian { rate: 1.0, noise_multiplier: 1.1, steps: 2 });
    assert_eq!(sampled(0).steps, 0);
    assert_eq!(SolverConfig::default().solver().sampled(320), None);
    for (clip, z, key) in [
        (0.0, 1.0, "clip"),
        (f64::NAN, 1.0, "clip"),
        (f64::INFINITY, 1.0, "clip"),
        (1.0, -1.0, "noise_multiplier"),
        (1.0, f64::INFINITY, "noise_multiplier"),
    ] {
        for kind in SolverConfig::KINDS {
            let text =
                format!("kind = '{kind}'\nprivate.clip = {clip:?}\nprivate.noise_multiplier = {z:?}\n");
            let text = text.replace("NaN", "nan");
            let error = parse(&text).unwrap().solver().check_all().unwrap_err().to_string();
            assert!(error.starts_with(&format!("private.{key}: ")), "{text}: {error}");
        }
    }
    let error = parse("private.clip = 1.0").unwrap_err().to_string();
    assert!(error.contains("missing field `noise_multiplier`"), "{error}");
}
