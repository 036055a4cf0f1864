//! A model of one's own: a Burn module with layer normalisation.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Tensor, activation::gelu};
use seccogc::config::Config;
use seccogc::data::Dataset;
use seccogc::learn::{Classifier, Device};
use seccogc::train::Experiment;

#[derive(Module, Debug)]
struct Normed {
    hidden: Linear,
    norm: LayerNorm,
    output: Linear,
}

impl Classifier for Normed {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.norm.forward(self.hidden.forward(images.flatten(1, 3)));
        self.output.forward(gelu(x))
    }
}

fn normed(data: &Dataset, device: &Device) -> Normed {
    let (inputs, place) = (data.train.shape().iter().product(), device.plain());
    Normed {
        hidden: LinearConfig::new(inputs, 64).init(&place),
        norm: LayerNormConfig::new(64).init(&place),
        output: LinearConfig::new(64, data.classes).init(&place),
    }
}

pub fn main() -> seccogc::Result<()> {
    let config = Config { rounds: 3, ..Config::default() };
    let setting = Experiment::new(config).model(normed).build()?;
    println!("{} parameters", setting.parameters());
    let rows = setting.run(&setting.config().protocol)?.rounds().collect::<seccogc::Result<Vec<_>>>()?;
    println!("accuracy after three rounds: {:?}", rows[2].test_accuracy);
    assert!(rows[2].test_accuracy > Some(0.8));
    Ok(())
}
