//! A partition of one's own: clients live in different time zones, and digits have their hours.

use seccogc::config::Config;
use seccogc::data::partition::Partition;
use seccogc::error::{Error, Result};
use seccogc::seed::Rng;
use seccogc::train::Experiment;

/// Client k holds examples of `width` neighbouring classes around its own hour.
struct TimeZones {
    width: usize,
}

impl Partition for TimeZones {
    fn check(&self) -> Result<()> {
        match self.width {
            0 => Err(Error::config("width", "0 is too small; give at least 1")),
            _ => Ok(()),
        }
    }

    fn divide(&self, labels: &[u16], classes: usize, parts: &mut [Vec<usize>], _: &mut Rng) -> Result<()> {
        let clients = parts.len();
        for (example, label) in labels.iter().enumerate() {
            let hour = usize::from(*label) * clients / classes;
            parts[(hour + example % self.width) % clients].push(example);
        }
        Ok(())
    }

    fn least(&self) -> Option<usize> {
        None
    }

    fn remedy(&self) -> (&'static str, &'static str) {
        ("width", "raise width or use fewer clients")
    }
}

pub fn main() -> Result<()> {
    let config = Config { rounds: 3, ..Config::default() };
    let setting = Experiment::new(config).partition(TimeZones { width: 3 }).build()?;
    println!("{}", setting.class_table());
    for row in setting.run(&setting.config().protocol)?.rounds() {
        println!("accuracy {:?}", row?.test_accuracy);
    }
    Ok(())
}
