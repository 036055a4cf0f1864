//! The verb `attack`.

use std::path::PathBuf;

use super::{Common, device, in_folder, load, source, stem, tell};
use crate::error::Result;
use crate::parallel::NEVER;
use crate::say::say;
use crate::train::Setting;
use crate::verbs::{self, Step, Watch};

pub const EXAMPLES: &str = "Examples:\n  \
    seccogc attack configs/attack.toml\n  \
    seccogc attack configs/attack.toml --set 'attack.key_stds=[0.01, 1.0]' --out runs/attack\n  \
    seccogc attack --resume runs/attack                  go on after an interruption\n  \
    seccogc attack configs/mnist.toml --released         the models of whole runs, of any protocol and model\n\n\
    Writes inversion.csv with images.png, and membership.csv with roc.csv, roc.svg and roc.png; with --released\n\
    released.csv, roc.csv, roc.svg and roc.png.";

#[derive(clap::Args)]
pub struct Args {
    /// The configuration, a TOML file with the protocol sec-cogc and the model mlp; [attack] says what is
    /// tried
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Go on with an interrupted attack: a finished inversion is kept
    #[arg(long, value_name = "DIR", conflicts_with_all = ["sets", "out", "seed", "quick"])]
    resume: Option<PathBuf>,
    /// Attack the models of whole runs, of any protocol and model, beside what [privacy.release]
    /// promises
    #[arg(long, conflicts_with = "resume")]
    released: bool,
    #[command(flatten)]
    common: Common,
}

/// Attacks, writes and prints.
pub fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    super::show_warnings(common.quiet);
    let path = source(args.config.as_deref(), args.resume.as_deref())?;
    let config = load(&path, common)?;
    let setting = Setting::build(&config, device(common, None)?)?;
    let out = args.resume.as_deref().or(common.out.as_deref());
    let mut hear = |step: &Step<'_>| {
        if !common.quiet {
            say!("{}", step.what);
        }
        Ok(())
    };
    in_folder(out, &stem(&path), |folder| {
        let mut watch = Watch { stop: &NEVER, hear: &mut hear };
        let found = match args.released {
            true => verbs::attack_released(&config, setting, folder, &mut watch)?,
            false => verbs::attack(&config, setting, folder, args.resume.is_some(), &mut watch)?,
        };
        tell((common.csv, common.quiet), &found.csv, &found.text, folder)
    })
}
