//! The attacks against the metrics, small: what is open is taken, what the metric calls nothing stays at
//! chance. Fixed seeds; the statements about chance are 95 % intervals, so that a correct program fails them
//! for one seed in twenty, and not for this one.

use std::fs;
use std::process::Command;

use seccogc::attack::released::ReleasedRow;
use seccogc::attack::{InversionRow, MembershipRow, proportion_interval};
use seccogc::record::read_rows;

#[test]
fn open_updates_are_read_and_strong_keys_leave_guessing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("attack");
    let sets = [
        "clients=5",
        "protocol.stragglers=3",
        "protocol.code=cyclic-random",
        "model.hidden=32",
        "rounds=3",
        "attack.iterations=60",
        "attack.examples=20",
        "attack.key_stds=[100.0]",
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_seccogc"));
    command.args(["attack", "configs/attack.toml", "--quiet", "--out"]).arg(&out);
    for set in sets {
        command.args(["--set", set]);
    }
    assert!(command.status().unwrap().success());

    let rows: Vec<InversionRow> = read_rows(&out.join("inversion.csv")).unwrap();
    let of = |adversary: &str, keys: bool, method: &str| -> Vec<&InversionRow> {
        let wanted = |row: &&InversionRow| {
            row.adversary == adversary && row.key_std.is_some() == keys && row.method == method
        };
        rows.iter().filter(wanted).collect()
    };
    let open = of("neighbour", false, "closed-form");
    assert_eq!(open.len(), 5);
    for row in open {
        assert!(
            row.lmip_bits.is_infinite() && row.identified && row.psnr > 40.0 && row.ssim > 0.99,
            "{row:?}"
        );
    }
    for method in ["closed-form", "idlg"] {
        let closed = of("neighbour", true, method);
        let hits = closed.iter().filter(|row| row.identified).count();
        let (low, high) = proportion_interval(hits, closed.len());
        assert!(low <= 0.2 && 0.2 <= high, "{method}: {hits} of {}", closed.len());
        assert!(closed.iter().all(|row| row.update_bits < 1e-3 && row.ssim < 0.1), "{closed:?}");
    }

    let rows: Vec<MembershipRow> = read_rows(&out.join("membership.csv")).unwrap();
    let of = |adversary: &str, keys: bool| {
        rows.iter().find(|row| row.adversary == adversary && row.key_std.is_some() == keys).unwrap()
    };
    assert!(of("neighbour", false).auc_low > 0.6, "{rows:?}");
    assert!(of("neighbour", true).at_chance, "{rows:?}");
    assert!(
        of("server", true).auc < of("neighbour", false).auc,
        "the server sees the sum, the neighbour the update"
    );
    for name in ["images.png", "roc.svg", "roc.png", "roc.csv", "summary.md", "config.toml"] {
        assert!(fs::metadata(out.join(name)).unwrap().len() > 100, "{name}");
    }
}

#[test]
fn exact_proportion_intervals() {
    // Clopper & Pearson: 0 of n has the upper end 1 − 0.025^(1/n).
    let (low, high) = proportion_interval(0, 10);
    assert!(low == 0.0 && (high - (1.0 - 0.025f64.powf(0.1))).abs() < 1e-9);
    let (low, high) = proportion_interval(5, 10);
    assert!((low - 0.187_086).abs() < 1e-5 && (high - 0.812_914).abs() < 1e-5, "{low} {high}");
}

#[test]
fn what_cannot_be_attacked_is_refused_in_one_line() {
    let refusal = |set: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_seccogc"))
            .args(["attack", "configs/attack.toml", "--set", set])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap().lines().last().unwrap().to_owned()
    };
    assert_eq!(
        refusal("model.kind=softmax"),
        "error: model.kind: the inversion is for mlp, not softmax; take model.kind = \"mlp\""
    );
    assert_eq!(
        refusal("protocol.kind=fedavg"),
        "error: protocol.kind: `fedavg` has no keys to attack; take sec-cogc"
    );
    assert_eq!(
        refusal("attack.iterations=0"),
        "error: --set attack.iterations=0: attack.iterations: 0 is too small; give at least 1"
    );
    assert_eq!(
        refusal("attack.runs=3"),
        "error: --set attack.runs=3: attack.runs: 3 is too small; give at least 4"
    );
    assert_eq!(
        refusal("attack.key_stds=[0.0]"),
        "error: --set attack.key_stds=[0.0]: attack.key_stds: give finite standard deviations greater than 0"
    );
}

/// Ten clients of five digits each, in 24 runs that take part or not.
fn released_of(more: &str, folder: &std::path::Path) -> Vec<ReleasedRow> {
    let text = format!(
        "rounds = 8\nclients = 10\n[partition]\nkind = 'iid'\n[model]\nkind = 'softmax'\n[solver]\nkind = 'sgd'\nlearning_rate = 0.5\n\
         epochs = 5\nclip_norm = 1.0\n[evaluation]\nevery = 8\n[privacy]\nmeasure = false\n[network.client_server]\nerasure = 0.2\n\
         [attack]\nexamples = 5\nruns = 24\n[protocol]\nkind = 'sec-cogc'\nstragglers = 6\narithmetic = 'f64'\n{more}"
    );
    let path = folder.join("run.toml");
    fs::write(&path, text).unwrap();
    let out = folder.join("out");
    let mut command = Command::new(env!("CARGO_BIN_EXE_seccogc"));
    command.arg("attack").arg(&path).args(["--released", "--quiet", "--out"]).arg(&out);
    assert!(command.status().unwrap().success());
    for name in ["roc.svg", "roc.png", "roc.csv", "released.md", "config.toml"] {
        assert!(fs::metadata(out.join(name)).unwrap().len() > 100, "{name}");
    }
    read_rows(&out.join("released.csv")).unwrap()
}

#[test]
fn released_models_tell_who_took_part_and_noise_bounds_it() {
    let folder = || tempfile::tempdir().unwrap();
    let open = released_of("", folder().path());
    let names: Vec<&str> = open.iter().map(|row| row.attack.as_str()).collect();
    assert_eq!(names, ["loss", "likelihood", "updates"]);
    assert!(open.iter().all(|row| row.members + row.others == 240 && row.kept.is_none()));
    assert!(open[0].auc_low > 0.7 && open[1].auc_low > 0.7 && open[2].auc > 0.99, "{open:?}");

    // Hardly a promise: ε is large, and so is what the models tell.
    let weak = released_of("[privacy.release]\nepsilon = 30.0\nadjacency = 'zero-out'", folder().path());
    assert!(weak[2].auc_low > 0.8 && weak.iter().all(|row| row.kept == Some(true)), "{weak:?}");
    // At ε = 1 the areas stay below e/(1 + e) and a little: had the runs the noise of ε = 30, that would be
    // refuted.
    let strong = released_of("[privacy.release]\nepsilon = 1.0\nadjacency = 'zero-out'", folder().path());
    for row in &strong {
        let epsilon = row.epsilon.unwrap();
        assert!(epsilon > 0.1 && epsilon <= 1.0 && row.kept == Some(true), "{row:?}");
        assert!(row.auc_bound.unwrap() < 0.732 && row.auc_low <= row.auc_bound.unwrap(), "{row:?}");
        assert!(weak[2].auc_low > row.auc_bound.unwrap());
    }
}
