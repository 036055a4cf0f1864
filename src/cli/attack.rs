//! The verb `attack`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Common, device, in_folder, load, source, stem, tell};
use crate::attack::{InversionRow, MembershipRow, invert, membership, proportion_interval};
use crate::config::Config;
use crate::error::Result;
use crate::record::{claim, read_rows, to_csv, write_atomically};
use crate::report;
use crate::say::say;
use crate::train::Setting;

pub const EXAMPLES: &str = "Examples:\n  \
    seccogc attack configs/attack.toml\n  \
    seccogc attack configs/attack.toml --set 'attack.key_stds=[0.01, 1.0]' --out runs/attack\n  \
    seccogc attack --resume runs/attack                  go on after an interruption\n\n\
    Writes inversion.csv with images.png, and membership.csv with roc.csv, roc.svg and roc.png.";

#[derive(clap::Args)]
pub struct Args {
    /// The configuration, a TOML file with the protocol sec-cogc and the model mlp; [attack] says what is
    /// tried
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Go on with an interrupted attack: a finished inversion is kept
    #[arg(long, value_name = "DIR", conflicts_with_all = ["sets", "out", "seed"])]
    resume: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct RocRow<'a> {
    curve: &'a str,
    false_positive_rate: f64,
    true_positive_rate: f64,
}

/// Attacks, writes and prints.
pub fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    super::show_warnings(common.quiet);
    let path = source(args.config.as_deref(), args.resume.as_deref())?;
    let config = load(&path, common)?;
    let mut setting = Setting::build(&config, device(common, None)?)?;
    setting.truncate(config.attack.examples);
    let out = args.resume.as_deref().or(common.out.as_deref());
    in_folder(out, &stem(&path), |folder| into(&config, &setting, folder, args))
}

fn into(config: &Config, setting: &Setting, directory: &Path, args: &Args) -> Result<()> {
    let common = &args.common;
    let say = |line: &str| {
        if !common.quiet {
            say!("{line}");
        }
    };
    let file = |name: &str| directory.join(name);
    // Before the work, which takes minutes, and leaves no folder where it is refused.
    if args.resume.is_none() && directory.exists() {
        claim(directory)?;
    }
    // Written last, so that where it is the pictures are, too.
    let first = file("inversion.csv");
    let inverted: Vec<InversionRow> = if first.exists() {
        read_rows(&first)?
    } else {
        say("inverting the updates of one image each");
        let (inverted, strips) = invert(config, setting)?;
        if args.resume.is_none() {
            claim(directory)?;
            write_atomically(&file("config.toml"), config.to_toml()?.as_bytes())?;
        }
        let [channels, height, width] = setting.dataset().train.shape();
        report::plot_images(&strips, (channels, height, width), &file("images.png"))?;
        write_atomically(&first, &to_csv(&inverted)?)?;
        inverted
    };
    say("testing membership on messages and on the final model");
    let (tested, curves) = membership(config, setting)?;
    let csv = to_csv(&tested)?;
    write_atomically(&file("membership.csv"), &csv)?;
    let named: Vec<_> = tested.iter().map(label).zip(curves).collect();
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
    write_atomically(&file("roc.csv"), &to_csv(&points)?)?;
    report::plot_roc(&named, "Membership inference", &file("roc"))?;
    let table = summary(&inverted, &tested);
    write_atomically(&file("summary.md"), table.as_bytes())?;
    tell((common.csv, common.quiet), &csv, &table, directory)
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
