//! Local training throughput in images per second: `cargo bench --bench learn`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::RngExt;
use seccogc::{
    data::{Augmentation, Dataset, Examples, Normalisation, Response},
    learn::{
        CnnConfig, LeNet5Config, Learner, MlpConfig, ModelConfig, PrivateConfig, SgdConfig, SoftmaxConfig,
        SolverConfig, learner,
    },
    seed::Seed,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SHAPE: [usize; 3] = [1, 28, 28];

fn random_examples(n: usize, seed: Seed) -> Examples {
    let mut rng = seed.rng();
    let pixels = (0..n * SHAPE.iter().product::<usize>()).map(|_| rng.random()).collect();
    let labels = (0..n).map(|_| rng.random_range(0..10)).collect();
    Examples::new(pixels, labels, SHAPE).unwrap()
}

fn dataset(n: usize) -> Dataset {
    Dataset {
        name: "random",
        response: Response::Class,
        classes: 10,
        scale: Normalisation::identity(10),
        class_names: (0..10).map(|class| class.to_string()).collect(),
        train: random_examples(n, Seed::new(1)),
        test: random_examples(n, Seed::new(2)),
        normalisation: Normalisation { mean: vec![0.5], std: vec![0.29] },
        augmentation: Augmentation::default(),
        users: None,
    }
}

/// One epoch on one thread, then the same by two clients on two threads.
fn train(criterion: &mut Criterion) {
    for (name, model, images) in [
        ("softmax", ModelConfig::Softmax(SoftmaxConfig::default()), 3200),
        ("mlp", ModelConfig::Mlp(MlpConfig::default()), 3200),
        ("lenet5", ModelConfig::LeNet5(LeNet5Config::default()), 640),
        ("cnn", ModelConfig::Cnn(CnnConfig::default()), 128),
    ] {
        let data = dataset(images);
        let solver = SolverConfig::Sgd(SgdConfig { batch_size: 32, ..SgdConfig::default() });
        let plain = learner(&model, &solver, &data, "cpu".parse().unwrap()).unwrap();
        let plain: &dyn Learner = &*plain;
        let start = plain.init(Seed::new(3));
        let shard: Vec<usize> = (0..images).collect();
        let client = |k| plain.train(&start, &data.train, &shard, Seed::new(k));

        let mut group = criterion.benchmark_group(format!("train/{name}"));
        group.sample_size(10);
        group.throughput(Throughput::Elements(images as u64));
        group.bench_function("1 client", |b| b.iter(|| black_box(client(4))));
        group.throughput(Throughput::Elements(2 * images as u64));
        group.bench_function("2 clients", |b| {
            b.iter(|| rayon::join(|| black_box(client(4)), || black_box(client(5))))
        });
        group.throughput(Throughput::Elements(images as u64));
        let private = Some(PrivateConfig { clip: 1.0, noise_multiplier: 1.0 });
        let solver = SolverConfig::Sgd(SgdConfig { batch_size: 32, private, ..SgdConfig::default() });
        let private = learner(&model, &solver, &data, "cpu".parse().unwrap()).unwrap();
        group.bench_function("1 client, private", |b| {
            b.iter(|| black_box(private.train(&start, &data.train, &shard, Seed::new(4))));
        });
        group.bench_function("evaluate", |b| b.iter(|| black_box(plain.evaluate(&start, &data.test))));
    }
}

criterion_group!(benches, train);
criterion_main!(benches);
