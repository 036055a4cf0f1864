//! The verb `privacy`.

use std::path::{Path, PathBuf};

use super::{Common, device, load_contenders, print, stem};
use crate::error::Result;
use crate::privacy_levels::{self, AccuracyRow};
use crate::record::{claim, free_name, to_csv, write_atomically};
use crate::report;

pub const EXAMPLES: &str = "Examples:\n  \
    seccogc privacy configs/privacy.toml\n  \
    seccogc privacy configs/privacy.toml --seeds 3 --set 'study.key_stds=[1.0, 10.0]' --out runs/privacy\n\n\
    Writes accuracy_privacy, leakage_per_client and recovery_error, each as .csv, .md, .svg and .png, and prints the first table.";

#[derive(clap::Args)]
pub struct Args {
    /// The configuration, a TOML file with [[compare]] sections; [study] lists the strengths of the keys
    config: PathBuf,
    /// Run everything with this many seeds: SEED, SEED + 1, …
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    #[command(flatten)]
    common: Common,
}

/// Measures and draws.
pub fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    super::show_warnings(common.quiet);
    let config = load_contenders(&args.config, common)?;
    let device = device(common, None)?;
    let name = stem(&args.config);
    let directory = common.out.clone().unwrap_or_else(|| free_name(&Path::new("runs").join(&name)));
    let seeds: Vec<u64> = (0..args.seeds).map(|n| config.seed.wrapping_add(n)).collect();
    let file = |name: &str| directory.join(name);

    // The quick ones first: what is wrong with the configuration shows before anything is trained.
    let leakage = privacy_levels::leakage(&config)?;
    let decades: Vec<f64> = (0..=12).map(|exponent| 10f64.powi(exponent)).collect();
    let recovery = privacy_levels::recovery(&config, &decades)?;
    claim(&directory)?;
    write_atomically(&file("config.toml"), config.to_toml()?.as_bytes())?;
    write_atomically(&file("leakage_per_client.csv"), &to_csv(&leakage)?)?;
    write_atomically(&file("leakage_per_client.md"), report::leakage_table(&leakage).as_bytes())?;
    report::plot_leakage(&leakage, "Leakage of each client", &file("leakage_per_client"))?;
    write_atomically(&file("recovery_error.csv"), &to_csv(&recovery)?)?;
    write_atomically(&file("recovery_error.md"), report::recovery_table(&recovery).as_bytes())?;
    report::plot_recovery(&recovery, "Recovery error against key power", &file("recovery_error"))?;

    let rows = privacy_levels::accuracy(&config, &seeds, &device, &mut |row| {
        if !common.quiet {
            eprintln!("{}", line(row));
        }
    })?;
    let csv = to_csv(&rows)?;
    write_atomically(&file("accuracy_privacy.csv"), &csv)?;
    let table = report::accuracy_table(&rows);
    write_atomically(&file("accuracy_privacy.md"), table.as_bytes())?;
    report::plot_privacy(&rows, "Accuracy against the level of privacy", &file("accuracy_privacy"))?;
    if common.csv {
        print(&String::from_utf8_lossy(&csv))?;
    } else if !common.quiet {
        print(&table)?;
    }
    if !common.quiet {
        eprintln!("results in {}", directory.display());
    }
    Ok(())
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
