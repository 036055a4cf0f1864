//! Accuracy, leakage and recovery error against the strength of the keys.

use std::path::Path;

use super::{Found, Watch};
use crate::config::Config;
use crate::error::Result;
use crate::learn::Device;
use crate::privacy_levels::{self, AccuracyRow};
use crate::record::{claim, keep_seeds, read_rows, to_csv, write_atomically};
use crate::report;

/// Measures with every seed into `folder`, which must be new or empty, and draws. With `resume` the folder is
/// that of a study which was interrupted: finished runs are kept, another one begins again.
///
/// # Errors
/// A configuration value that breaks a rule; a folder that cannot be written; what `watch` wants.
pub fn privacy(
    config: &Config,
    seeds: &[u64],
    device: &Device,
    folder: &Path,
    resume: bool,
    watch: &mut Watch<'_>,
) -> Result<Found> {
    let file = |name: &str| folder.join(name);
    // The quick ones first: what is wrong with the configuration shows before anything is trained.
    let leakage = privacy_levels::leakage(config)?;
    let decades: Vec<f64> = (0..=12).map(|exponent| 10f64.powi(exponent)).collect();
    let recovery = privacy_levels::recovery(config, &decades)?;
    let finished = file("accuracy_privacy.csv");
    let mut rows: Vec<AccuracyRow> = Vec::new();
    if !resume {
        claim(folder)?;
        write_atomically(&file("config.toml"), config.to_toml()?.as_bytes())?;
        keep_seeds(folder, seeds)?;
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
    let rows = privacy_levels::accuracy(config, seeds, device, &known, watch.stop, &mut |row| {
        rows.push(row.clone());
        write_atomically(&finished, &to_csv(&rows)?)?;
        watch.line(&line(row))
    })?;
    let csv = to_csv(&rows)?;
    write_atomically(&finished, &csv)?;
    let text = report::accuracy_table(&rows);
    write_atomically(&file("accuracy_privacy.md"), text.as_bytes())?;
    report::plot_privacy(&rows, "Accuracy against the level of privacy", &file("accuracy_privacy"))?;
    Ok(Found { csv, text })
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
