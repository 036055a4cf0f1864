//! A user's own model, and several clients in one tensor program against the same clients one by one.

use burn::{
    module::Module,
    nn::{BatchNorm, BatchNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig},
};

use super::tests::{all, cpu, dataset, model, models, slack};
use super::*;

/// Four clients, two epochs each: batches that end earlier, a client with a single example and one with none.
const SHARDS: [std::ops::Range<usize>; 4] = [0..14, 14..33, 33..34, 34..34];

/// What the clients learn on `device`, together and, on the CPU, one by one; starts and correction differ
/// between the clients.
fn both(
    model: &ModelConfig,
    shape: [usize; 3],
    solver: &str,
    device: Device,
) -> (Vec<LocalUpdate>, Vec<LocalUpdate>) {
    let mut data = dataset(40, shape, 4);
    data.augmentation.flip = true;
    let solver: SolverConfig = toml::from_str(solver).unwrap();
    let alone = learner(model, &solver, &data, cpu()).unwrap();
    let starts: Vec<Vec<f32>> = (0..4).map(|k| alone.init(Seed::new(k))).collect();
    let scaled = |by: f32| -> Vec<Vec<f32>> {
        starts.iter().map(|start| start.iter().map(|w| by * w).collect()).collect()
    };
    let (globals, corrections) = (scaled(0.5), scaled(0.1));
    let shards: Vec<Vec<usize>> = SHARDS.map(Iterator::collect).into();
    let jobs: Vec<Job<'_>> = (0..4)
        .map(|k| Job {
            task: Task {
                start: &starts[k],
                global: &globals[k],
                correction: if solver.solver().has_controls() { &corrections[k] } else { &[] },
                rate: 0.5,
            },
            shard: &shards[k],
            seed: Seed::new(7).child("client", k as u64),
        })
        .collect();
    let apart = jobs.iter().map(|job| alone.solve(&job.task, &data.train, job.shard, job.seed)).collect();
    let learner = learner(model, &solver, &data, device.clone()).unwrap();
    assert_eq!(learner.together() > 1, device.name() == "wgpu");
    (learner.solve_together(&jobs, &data.train), apart)
}

/// Agreement to `tolerance` of each client's largest change.
fn assert_agrees(what: &str, (together, apart): &(Vec<LocalUpdate>, Vec<LocalUpdate>), tolerance: f32) {
    assert_eq!(together.len(), apart.len());
    for (k, (a, b)) in together.iter().zip(apart).enumerate() {
        assert_eq!((a.steps, a.examples), (b.steps, b.examples), "{what}, client {k}");
        let top = b.delta.iter().fold(0.0_f32, |top, x| top.max(x.abs()));
        assert_eq!(top > 0.0, b.steps > 0, "{what}, client {k}");
        let worst = a.delta.iter().zip(&b.delta).fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(worst <= tolerance * top, "{what}, client {k}: {worst} of {top}");
        let loss = (a.loss - b.loss).abs() <= f64::from(tolerance) * b.loss;
        assert!(
            loss || a.loss.is_nan() && b.loss.is_nan() && b.steps == 0,
            "{what}, client {k}: {a:?} {b:?}"
        );
    }
}

/// Long steps of deep models multiply every difference.
const SGD: &str = "kind = 'sgd'\nbatch_size = 8\nepochs = 2\nlearning_rate = 0.005\nmomentum = 0.5\n";

const SOLVERS: [&str; 5] = [
    "kind = 'adam'\nbatch_size = 8\nepochs = 2\nweight_decay = 0.1\n",
    "kind = 'fedprox'\nbatch_size = 8\nsteps = 3\nproximal = 0.5\n",
    "kind = 'scaffold'\nbatch_size = 8\nepochs = 2\nweight_decay = 0.1\n",
    "kind = 'feddyn'\nbatch_size = 8\nepochs = 2\n",
    "kind = 'fednova'\nbatch_size = 8\nepochs = 2\nmomentum = 0.9\n",
];

/// Otherwise the comparisons below are of one thing with itself.
#[test]
fn every_model_stacks() {
    fn stacks<C: Architecture>(config: &C) -> bool {
        let data = dataset(8, [1, 12, 12], 4);
        let model = config.init([1, 12, 12], 4, &cpu().plain());
        let objective = objective::of(&data);
        Trainer::new(model, SolverConfig::default().into(), objective, &data, cpu()).unwrap().stacks()
    }
    assert!(
        stacks(&SoftmaxConfig::default()) && stacks(&MlpConfig::default()) && stacks(&CnnConfig::default())
    );
    assert!(stacks(&LeNet5Config::default()) && stacks(&CifarCnnConfig::default()));
    assert!(stacks(&ResNet20Config::default()) && stacks(&ResNet18Config::default()));
    assert!(stacks(&Vgg11Config::default()));
}

#[test]
fn every_model_trains_several_clients_at_once() {
    for (model, shape) in models() {
        assert_agrees(model.kind(), &both(&model, shape, SGD, cpu()), slack(&model) * 1e-4);
    }
}

/// ‖a − b‖/‖b‖.
fn apart(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let (off, size) =
        a.iter().zip(b).fold((0.0, 0.0), |(off, size), (a, b)| (off + square(a - b), size + square(*b)));
    (off / size).sqrt()
}

/// Rounding decides which of the many units of a deep network are above 0, and its gradient jumps with each
/// of them, so that steps of the kernels and of Burn's operations part. One gradient does not: the kernels'
/// is nearer to Burn's than Burn's own after the weights are moved by a hundred-thousandth.
#[test]
fn gradients_of_deep_models_are_those_of_burns_operations() {
    let step = "kind = 'sgd'\nbatch_size = 16\nsteps = 1\nlearning_rate = 0.01\n";
    let solver: SolverConfig = toml::from_str(step).unwrap();
    for (text, shape) in [("kind = 'resnet18'", [1, 16, 16]), ("kind = 'vgg11'\ngroups = 2", [1, 32, 32])] {
        let model: ModelConfig = toml::from_str(text).unwrap();
        let data = dataset(16, shape, 4);
        let learner = learner(&model, &solver, &data, cpu()).unwrap();
        let start = learner.init(Seed::new(3));
        let sign = |i: usize| if (i * 7919 + i / 13).is_multiple_of(2) { 1.0 } else { -1.0 };
        let moved: Vec<f32> = start.iter().enumerate().map(|(i, w)| w * (1.0 + 1e-5 * sign(i))).collect();
        let (shard, seed) = (all(&data.train), Seed::new(1));
        let kernels = learner.solve(&Task::new(&start), &data.train, &shard, seed).delta;
        // Several clients go through Burn's operations.
        let jobs = [&start, &moved].map(|start| Job { task: Task::new(start), shard: &shard, seed });
        let burns = learner.solve_together(&jobs, &data.train);
        let near = apart(&kernels, &burns[0].delta);
        let far = apart(&burns[1].delta, &burns[0].delta);
        assert!(near < far && near < 2e-3, "{text}: {near}, {far}");
    }
}

#[test]
fn every_solver_moves_several_clients_at_once() {
    for solver in SOLVERS {
        assert_agrees(solver, &both(&model("lenet5"), [1, 12, 13], solver, cpu()), 1e-3);
    }
}

/// `cargo test --release --features wgpu --lib on_a_gpu -- --ignored`; a software driver serves too (Debian:
/// `mesa-vulkan-drivers`).
#[test]
#[cfg(feature = "wgpu")]
#[ignore = "needs a Vulkan, Metal or DirectX driver"]
fn several_clients_on_a_gpu_learn_what_one_learns_on_the_cpu() {
    let gpu: Device = "wgpu".parse().unwrap();
    for (model, shape) in models() {
        assert_agrees(model.kind(), &both(&model, shape, SGD, gpu.clone()), 1e-3);
    }
    for solver in SOLVERS {
        assert_agrees(solver, &both(&model("lenet5"), [1, 12, 13], solver, gpu.clone()), 1e-3);
    }
}

#[derive(Module, Debug)]
struct Normed {
    norm: LayerNorm,
    output: Linear,
}

impl Classifier for Normed {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.output.forward(self.norm.forward(images.flatten(1, 3)))
    }
}

#[derive(Module, Debug)]
struct Batched {
    norm: BatchNorm,
    output: Linear,
}

impl Classifier for Batched {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.output.forward(self.norm.forward(images).flatten(1, 3))
    }
}

#[test]
fn a_users_own_model_is_a_module() {
    let data = dataset(60, [1, 4, 4], 4);
    let device = cpu();
    let output = LinearConfig::new(16, 4).init(&device.plain());
    let model = Normed { norm: LayerNormConfig::new(16).init(&device.plain()), output: output.clone() };
    let learner = learner_of(model, SolverConfig::default().into(), &data, device.clone()).unwrap();
    let names: Vec<String> = learner.layers().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["norm.gamma", "norm.beta", "output.weight", "output.bias"]);
    let start = learner.init(Seed::new(1));
    assert!(start[..16].iter().all(|&x| x == 1.0) && start[16..32].iter().all(|&x| x == 0.0));
    let update = learner.train(&start, &data.train, &all(&data.train), Seed::new(2));
    assert!(update.delta.chunks(16).all(|layer| layer.iter().any(|&x| x != 0.0)));

    let model = Batched { norm: BatchNormConfig::new(1).init(&device.plain()), output };
    let error = learner_of(model, SolverConfig::default().into(), &data, device).err().unwrap();
    assert!(error.to_string().contains("`norm.gamma` belongs to a batch normalisation"), "{error}");
    assert!(error.to_string().ends_with("in no sum of updates; use GroupNorm or LayerNorm"), "{error}");
}
