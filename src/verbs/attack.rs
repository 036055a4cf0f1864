//! Gradient inversion and membership inference, with their figures.

use std::path::Path;

use serde::Serialize;

use super::{Found, Watch};
use crate::attack::released::{ReleasedRow, released};
use crate::attack::roc::Roc;
use crate::attack::{InversionRow, MembershipRow, invert, membership, proportion_interval};
use crate::config::Config;
use crate::error::Result;
use crate::record::{claim, read_rows, to_csv, write_atomically};
use crate::report;
use crate::train::Setting;

#[derive(Serialize)]
struct RocRow<'a> {
    curve: &'a str,
    false_positive_rate: f64,
    true_positive_rate: f64,
}

/// Attacks the first round and the final model in `setting`, into `folder`, which must be new or empty, and
/// draws. With `resume` the folder is that of an attack which was interrupted: a finished inversion is kept.
///
/// # Errors
/// As [`invert`] and [`membership`]; a folder that cannot be written; what `watch` wants.
pub fn attack(
    config: &Config,
    mut setting: Setting,
    folder: &Path,
    resume: bool,
    watch: &mut Watch<'_>,
) -> Result<Found> {
    setting.truncate(config.attack.examples);
    let setting = &setting;
    let file = |name: &str| folder.join(name);
    // Before the work, which takes minutes, and leaves no folder where it is refused.
    if !resume && folder.exists() {
        claim(folder)?;
    }
    // Written last, so that where it is the pictures are, too.
    let first = file("inversion.csv");
    let inverted: Vec<InversionRow> = if first.exists() {
        read_rows(&first)?
    } else {
        watch.line("inverting the updates of one image each")?;
        let (inverted, strips) = invert(config, setting, watch.stop)?;
        if !resume {
            claim(folder)?;
            write_atomically(&file("config.toml"), config.to_toml()?.as_bytes())?;
        }
        let [channels, height, width] = setting.dataset().train.shape();
        report::plot_images(&strips, (channels, height, width), &file("images.png"))?;
        write_atomically(&first, &to_csv(&inverted)?)?;
        inverted
    };
    watch.line("testing membership on messages and on the final model")?;
    let (tested, curves) = membership(config, setting, watch.stop)?;
    let csv = to_csv(&tested)?;
    write_atomically(&file("membership.csv"), &csv)?;
    draw(&tested.iter().map(label).zip(curves).collect::<Vec<_>>(), folder)?;
    let text = summary(&inverted, &tested);
    write_atomically(&file("summary.md"), text.as_bytes())?;
    Ok(Found { csv, text })
}

/// The curves as a table and as a figure.
fn draw(named: &[(String, Roc)], folder: &Path) -> Result<()> {
    let points: Vec<RocRow> = named
        .iter()
        .flat_map(|(curve, roc)| {
            roc.points.iter().map(move |&(false_positive_rate, true_positive_rate)| RocRow {
                curve,
                false_positive_rate,
                true_positive_rate,
            })
        })
        .collect();
    write_atomically(&folder.join("roc.csv"), &to_csv(&points)?)?;
    report::plot_roc(named, "Membership inference", &folder.join("roc"))
}

/// Attacks the models that runs in `setting` release, into `folder`, which must be new or empty, and draws.
///
/// # Errors
/// As [`released`]; a folder that cannot be written; what `watch` wants.
pub fn attack_released(
    config: &Config,
    mut setting: Setting,
    folder: &Path,
    watch: &mut Watch<'_>,
) -> Result<Found> {
    setting.truncate(config.attack.examples);
    if folder.exists() {
        claim(folder)?;
    }
    watch.line(&format!("playing {} runs with and without each client", config.attack.runs))?;
    let (rows, curves) = released(config, &setting, watch.stop)?;
    claim(folder)?;
    write_atomically(&folder.join("config.toml"), config.to_toml()?.as_bytes())?;
    let csv = to_csv(&rows)?;
    write_atomically(&folder.join("released.csv"), &csv)?;
    let label = |row: &ReleasedRow| {
        format!("{}: {:.3} ({:.3}–{:.3})", row.attack, row.auc, row.auc_low, row.auc_high)
    };
    draw(&rows.iter().map(label).zip(curves).collect::<Vec<_>>(), folder)?;
    let text = released_table(&rows);
    write_atomically(&folder.join("released.md"), text.as_bytes())?;
    Ok(Found { csv, text })
}

/// The areas beside what ε and δ allow, as a Markdown table.
fn released_table(rows: &[ReleasedRow]) -> String {
    let header = [
        "attack",
        "AUC (95 % interval)",
        "at most",
        "TPR − FPR",
        "at most",
        "TPR at 1 %",
        "at most",
        "ε",
        "promise",
    ];
    let allowed = |bound: Option<f64>| bound.map_or_else(|| "–".into(), |bound| format!("{bound:.3}"));
    let line = |row: &ReleasedRow| {
        vec![
            row.attack.clone(),
            format!("{:.3} ({:.3}–{:.3})", row.auc, row.auc_low, row.auc_high),
            allowed(row.auc_bound),
            format!("{:.3}", row.advantage),
            allowed(row.advantage_bound),
            format!("{:.3}", row.tpr_at_1_percent),
            allowed(row.tpr_bound),
            allowed(row.epsilon),
            match row.kept {
                Some(true) => "kept",
                Some(false) => "refuted",
                None => "none",
            }
            .into(),
        ]
    };
    report::markdown(&header, &[0, 8], &rows.iter().map(line).collect::<Vec<_>>())
}

fn keys(key_std: Option<f64>) -> String {
    key_std.map_or_else(|| "no keys".into(), |std| format!("σ = {std}"))
}

fn label(row: &MembershipRow) -> String {
    let MembershipRow { adversary, key_std, auc, auc_low, auc_high, .. } = row;
    format!("{adversary}, {}: {auc:.3} ({auc_low:.3}–{auc_high:.3})", keys(*key_std))
}

/// Both attacks as Markdown tables: means over the victims.
fn summary(inverted: &[InversionRow], tested: &[MembershipRow]) -> String {
    let mut lines = vec![
        "| adversary | keys | method | LMIP (bits) | × d (bits) | PSNR (dB) | SSIM | identified (95 % interval; chance) |"
            .to_owned(),
        "|:--|:--|:--|--:|--:|--:|--:|:--|".to_owned(),
    ];
    let mut cases: Vec<(&str, Option<f64>, &str)> = Vec::new();
    for row in inverted {
        let case = (row.adversary.as_str(), row.key_std, row.method.as_str());
        if !cases.contains(&case) {
            cases.push(case);
        }
    }
    for (adversary, key_std, method) in cases {
        let of_case: Vec<&InversionRow> = inverted
            .iter()
            .filter(|row| row.adversary == adversary && row.key_std == key_std && row.method == method)
            .collect();
        let n = of_case.len();
        let mean = |of: fn(&InversionRow) -> f64| of_case.iter().map(|row| of(row)).sum::<f64>() / n as f64;
        let hits = of_case.iter().filter(|row| row.identified).count();
        // With strong keys the server draws one picture for all victims: its hits are not independent trials.
        let trials = if adversary == "server" {
            String::new()
        } else {
            let (low, high) = proportion_interval(hits, n);
            format!("{low:.2}–{high:.2}; ")
        };
        let leak = of_case.iter().map(|row| row.lmip_bits).fold(0.0, f64::max);
        let whole = of_case.iter().map(|row| row.update_bits).fold(0.0, f64::max);
        lines.push(format!(
            "| {adversary} | {} | {method} | {leak:.3e} | {whole:.2e} | {:.1} | {:.3} | {hits} of {n} ({trials}{:.2}) |",
            keys(key_std),
            mean(|row| row.psnr),
            mean(|row| row.ssim),
            1.0 / n as f64
        ));
    }
    lines.push(String::new());
    lines.push(
        "| membership seen by | keys | LMIP (bits) | × d (bits) | AUC (95 % interval) | verdict |".into(),
    );
    lines.push("|:--|:--|--:|--:|:--|:--|".into());
    for row in tested {
        let leak = row.lmip_bits.map_or_else(|| "–".into(), |leak| format!("{leak:.3e}"));
        let whole = row.update_bits.map_or_else(|| "–".into(), |bits| format!("{bits:.2e}"));
        let verdict = if row.at_chance { "at chance" } else { "better than guessing" };
        let verdict = if row.auc_high < 0.5 { "worse than guessing" } else { verdict };
        lines.push(format!(
            "| {} | {} | {leak} | {whole} | {:.3} ({:.3}–{:.3}) | {verdict} |",
            row.adversary,
            keys(row.key_std),
            row.auc,
            row.auc_low,
            row.auc_high
        ));
    }
    lines.join("\n") + "\n"
}
