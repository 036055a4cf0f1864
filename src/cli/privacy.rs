//! The verb `privacy`.

use std::path::{Path, PathBuf};

use super::job::Job;
use super::{Common, device, in_folder, tell};
use crate::error::Result;
use crate::learn::Device;
use crate::privacy_levels::{self, AccuracyRow};
use crate::record::{claim, keep_seeds, read_rows, to_csv, write_atomically};
use crate::report;
use crate::say::say;

pub const EXAMPLES: &str = "Examples:\n  \
    seccogc privacy configs/privacy.toml\n  \
    seccogc privacy configs/privacy.toml --seeds 3 --set 'study.key_stds=[1.0, 10.0]' --out runs/privacy\n  \
    seccogc privacy --resume runs/privacy                go on after an interruption\n\n\
    Writes accuracy_privacy, leakage_per_client and recovery_error, each as .csv, .md, .svg and .png, and prints the first table.";

#[derive(clap::Args)]
pub struct Args {
    /// The configuration, a TOML file with [[compare]] sections; [study] lists the strengths of the keys
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Run everything with this many seeds: SEED, SEED + 1, …
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Go on with an interrupted study: finished runs are kept, another one begins again
    #[arg(long, value_name = "DIR", conflicts_with_all = ["sets", "out", "seed", "seeds"])]
    resume: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Measures and draws.
pub fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    super::show_warnings(common.quiet);
    let device = device(common, None)?;
    let job = Job::of(args.config.as_deref(), args.resume.as_deref(), args.seeds, common)?;
    in_folder(job.out.as_deref(), &job.name, |folder| into(&job, folder, args, &device))
}

fn into(job: &Job, directory: &Path, args: &Args, device: &Device) -> Result<()> {
    let (common, Job { config, seeds, .. }) = (&args.common, job);
    let file = |name: &str| directory.join(name);
    // The quick ones first: what is wrong with the configuration shows before anything is trained.
    let leakage = privacy_levels::leakage(config)?;
    let decades: Vec<f64> = (0..=12).map(|exponent| 10f64.powi(exponent)).collect();
    let recovery = privacy_levels::recovery(config, &decades)?;
    let finished = file("accuracy_privacy.csv");
    let mut rows: Vec<AccuracyRow> = Vec::new();
    if args.resume.is_none() {
        claim(directory)?;
        write_atomically(&file("config.toml"), config.to_toml()?.as_bytes())?;
        keep_seeds(directory, seeds)?;
    } else if finished.exists() {
        rows = read_rows(&finished)?;
    }
    write_atomically(&file("leakage_per_client.csv"), &to_csv(&leakage)?)?;
    write_atomically(&file("leakage_per_client.md"), report::leakage_table(&leakage).as_bytes())?;
    report::plot_leakage(&leakage, "Leakage of each client", &file("leakage_per_client"))?;
    write_atomically(&file("recovery_error.csv"), &to_csv(&recovery)?)?;
    write_atomically(&file("recovery_error.md"), report::recovery_table(&recovery).as_bytes())?;
    report::plot_recovery(&recovery, "Recovery error against key power", &file("recovery_error"))?;

    let known = rows.clone();
    let rows = privacy_levels::accuracy(config, seeds, device, &known, &mut |row| {
        if !common.quiet {
            say!("{}", line(row));
        }
        rows.push(row.clone());
        write_atomically(&finished, &to_csv(&rows)?)
    })?;
    let csv = to_csv(&rows)?;
    write_atomically(&finished, &csv)?;
    let table = report::accuracy_table(&rows);
    write_atomically(&file("accuracy_privacy.md"), table.as_bytes())?;
    report::plot_privacy(&rows, "Accuracy against the level of privacy", &file("accuracy_privacy"))?;
    tell((common.csv, common.quiet), &csv, &table, directory)
}

fn line(row: &AccuracyRow) -> String {
    let std = row.key_std.map_or_else(String::new, |std| format!(", σ = {std}"));
    let accuracy = match 100.0 * row.final_accuracy {
        accuracy if accuracy.is_finite() => format!("accuracy {accuracy:.2} %"),
        _ => "diverged".into(),
    };
    format!(
        "{}{std}, seed {}: {accuracy}, recovered {}/{}, provable ε {:.3}, LMIP {:.3e} bits",
        row.protocol, row.seed, row.recovered, row.rounds, row.epsilon_provable, row.lmip_bits_provable
    )
}
