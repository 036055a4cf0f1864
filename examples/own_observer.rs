//! An observer of one's own: the mean of the last models, which is kept beside the run.

use seccogc::config::Config;
use seccogc::error::{Error, Result};
use seccogc::record::write_atomically;
use seccogc::train::{Experiment, Observer, Over};

/// x̄ ← x̄ + (x − x̄)/n over the models after the rounds from `first` on (Polyak & Juditsky 1992).
struct Mean {
    first: u64,
    model: Vec<f64>,
    count: u32,
}

impl Observer for Mean {
    fn round(&mut self, over: &Over<'_>) -> Result<()> {
        if over.state.round < self.first {
            return Ok(());
        }
        let model = &over.state.server.parameters;
        self.model.resize(model.len(), 0.0);
        self.count += 1;
        for (mean, x) in self.model.iter_mut().zip(model) {
            *mean += (f64::from(*x) - *mean) / f64::from(self.count);
        }
        Ok(())
    }
}

pub fn main() -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::io("create", &std::env::temp_dir()))?;
    let setting = Experiment::new(Config { rounds: 4, ..Config::default() }).build()?;
    let run = setting.run(&setting.config().protocol)?;
    let (state, mut directory) = run.create(&folder.path().join("run"))?;
    let mut mean = Mean { first: 3, model: Vec::new(), count: 0 };
    let (last, _) = run.record_to(state, &mut directory, &mut [&mut mean])?;
    let model: Vec<f32> = mean.model.iter().map(|x| *x as f32).collect();
    let path = folder.path().join("run/mean.safetensors");
    write_atomically(&path, &setting.state_dict(&model, last.round).to_safetensors()?)?;
    println!("the mean of {} models is in {}", mean.count, path.display());
    assert!(mean.count == 2 && model != last.server.parameters);
    Ok(())
}
