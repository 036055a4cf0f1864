//! A federated run from a configuration, round by round.

use seccogc::config::Config;
use seccogc::train::Experiment;

pub fn main() -> seccogc::Result<()> {
    let config = Config { rounds: 5, ..Config::load("configs/mnist.toml".as_ref(), &[])? };
    let setting = Experiment::new(config).build()?;
    let run = setting.run(&setting.config().protocol)?;
    println!("{}", setting.class_table());
    for row in run.rounds() {
        let row = row?;
        println!(
            "round {}: {:?}, loss {:.3}, accuracy {:?}",
            row.round, row.outcome, row.train_loss, row.test_accuracy
        );
    }
    Ok(())
}
