//! Local training on request, to be measured beside other programs: `experiments/performance/run.py`.
//!
//! Reads lines `MODEL IMAGES` and answers each with the images per second of one epoch (batch 32, SGD,
//! shuffled) of every client; the only argument is the number of clients, one on each thread. The data are
//! random: the arithmetic does not depend on them.

use std::{io, time::Instant};

use rand::RngExt;
use rayon::prelude::*;
use seccogc::{
    data::{Augmentation, Dataset, Examples, Normalisation, Response},
    learn::{Learner, ModelConfig, SolverConfig, learner},
    seed::Seed,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn dataset(n: usize, shape: [usize; 3]) -> Dataset {
    let mut rng = Seed::new(1).rng();
    let mut examples = |n: usize| {
        let pixels = (0..n * shape.iter().product::<usize>()).map(|_| rng.random()).collect();
        let labels = (0..n).map(|_| rng.random_range(0..10)).collect();
        Examples::new(pixels, labels, shape).expect("as many pixels as the shape says")
    };
    Dataset {
        name: "random",
        response: Response::Class,
        classes: 10,
        scale: Normalisation::identity(10),
        class_names: (0..10).map(|class| class.to_string()).collect(),
        train: examples(n),
        test: examples(1),
        normalisation: Normalisation { mean: vec![0.5; shape[0]], std: vec![0.29; shape[0]] },
        augmentation: Augmentation::default(),
        users: None,
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo adds `--bench`.
    let clients = std::env::args().find_map(|argument| argument.parse::<usize>().ok()).unwrap_or(1);
    rayon::ThreadPoolBuilder::new().num_threads(clients).build_global()?;
    println!("seccogc {}", env!("CARGO_PKG_VERSION"));
    for line in io::stdin().lines() {
        let line = line?;
        let (name, images) = line.split_once(' ').ok_or("expected MODEL IMAGES")?;
        let (model, images): (ModelConfig, usize) =
            (toml::from_str(&format!("kind = {name:?}"))?, images.parse()?);
        let of_cifar = ["cifar-cnn", "resnet20", "resnet18", "vgg11"].contains(&name);
        let shape = if of_cifar { [3, 32, 32] } else { [1, 28, 28] };
        let data = dataset(images, shape);
        let learner = learner(&model, &SolverConfig::default(), &data, "cpu".parse()?)?;
        let learner: &dyn Learner = &*learner;
        let start = learner.init(Seed::new(3));
        let shard: Vec<usize> = (0..images).collect();
        learner.train(&start, &data.train, &shard[..images.min(96)], Seed::new(0)); // warm-up
        let clock = Instant::now();
        (0..clients as u64).into_par_iter().for_each(|client| {
            learner.train(&start, &data.train, &shard, Seed::new(client));
        });
        println!("{}", (clients * images) as f64 / clock.elapsed().as_secs_f64());
    }
    Ok(())
}
