//! `seccogc privacy` end to end on two rounds, and where floating point ends "arbitrarily strong" keys.

use std::fs;
use std::process::Command;

use seccogc::config::Config;
use seccogc::learn::Device;
use seccogc::parallel::NEVER;
use seccogc::privacy_levels::{self, AccuracyRow, LeakageRow, RecoveryRow};
use seccogc::protocol::Arithmetic;
use seccogc::record::read_rows;

/// The configuration that ships, cut to two rounds of a softmax model over links that never fail.
fn tiny(sets: &[&str]) -> Config {
    let short = [
        "rounds=2",
        "evaluation.every=1",
        "model.kind=softmax",
        "solver.steps=1",
        "network.client_client.erasure=0.0",
        "network.client_server.erasure=0.0",
    ];
    let sets: Vec<String> = short.iter().chain(sets).map(ToString::to_string).collect();
    Config::load("configs/privacy.toml".as_ref(), &sets).unwrap()
}

#[test]
fn one_command_writes_three_tables_and_three_figures() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut command = Command::new(env!("CARGO_BIN_EXE_seccogc"));
    command.args(["privacy", "configs/privacy.toml", "--quiet", "--seeds", "2", "--out"]).arg(&out);
    for set in ["rounds=2", "evaluation.every=2", "model.kind=softmax", "study.key_stds=[1.0, 10.0]"] {
        command.args(["--set", set]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty() && output.stderr.is_empty());

    let header = |name: &str| fs::read_to_string(out.join(name)).unwrap().lines().next().unwrap().to_owned();
    assert_eq!(
        header("accuracy_privacy.csv"),
        "protocol,key_std,seed,lmip_bits,lmip_server_bits,lmip_sum_bits,epsilon,epsilon_total,lmip_bits_provable,\
         lmip_server_bits_provable,epsilon_provable,delta,rounds,recovered,final_accuracy,best_accuracy"
    );
    assert_eq!(
        header("leakage_per_client.csv"),
        "keys,key_std,total_power,client,link_bits,neighbour_bits,server_bits,sum_bits"
    );
    assert_eq!(header("recovery_error.csv"), "code,stragglers,arithmetic,key_std,relative_error");
    for figure in ["accuracy_privacy", "leakage_per_client", "recovery_error"] {
        let png = fs::read(out.join(figure).with_extension("png")).unwrap();
        assert!(png.starts_with(b"\x89PNG"), "{figure}");
        assert!(fs::read_to_string(out.join(figure).with_extension("svg")).unwrap().contains("</svg>"));
    }

    // The rules and a line per point: contenders and σ, clients, σ.
    for (table, lines) in
        [("accuracy_privacy.md", 10), ("leakage_per_client.md", 10), ("recovery_error.md", 13)]
    {
        let text = fs::read_to_string(out.join(table)).unwrap();
        assert_eq!(text.lines().count(), 2 + lines, "{table}: {text}");
        assert!(!text.contains("NaN"), "{table}: {text}");
    }

    let rows: Vec<AccuracyRow> = read_rows(&out.join("accuracy_privacy.csv")).unwrap();
    // Two seeds; four protocols with keys at two σ, two without.
    assert_eq!(rows.len(), 2 * (4 * 2 + 2));
    for row in &rows {
        assert_eq!(row.epsilon_total.is_finite(), row.key_std.is_some(), "{row:?}");
        assert_eq!(row.lmip_bits.is_finite(), row.key_std.is_some(), "{row:?}");
        assert!(row.epsilon_total >= row.epsilon, "{row:?}");
        // Messages show each masked input; the sum of them that a server gets tells less of real numbers.
        assert!(row.epsilon_provable >= row.epsilon_total, "{row:?}");
        assert!(row.lmip_bits_provable >= row.lmip_bits, "{row:?}");
        assert!(row.lmip_server_bits_provable >= row.lmip_server_bits, "{row:?}");
        assert_eq!(row.epsilon_provable.is_finite(), row.key_std.is_some(), "{row:?}");
    }
    for pair in rows.windows(2).filter(|pair| pair[0].key_std == Some(1.0)) {
        assert_eq!(pair[1].key_std, Some(10.0));
        // I = ½ log₂(1 + c/σ²) ≈ c/(2σ² ln 2): ten times the keys, a hundredth of the leakage.
        assert!((pair[0].lmip_bits / pair[1].lmip_bits / 100.0 - 1.0).abs() < 1e-3, "{pair:?}");
        assert!(pair[0].epsilon > pair[1].epsilon, "{pair:?}");
    }
    let leakage: Vec<LeakageRow> = read_rows(&out.join("leakage_per_client.csv")).unwrap();
    assert_eq!(leakage.len(), 20);
    assert!(leakage.iter().all(|row| (row.total_power - leakage[0].total_power).abs() < 1e-9));
}

#[test]
fn a_wrong_grid_is_refused_in_one_line() {
    for grid in ["[]", "[1.0, 0.5]", "[0.0, 1.0]", "[1.0, inf]"] {
        let sets = [format!("study.key_stds={grid}")];
        let error = Config::load("configs/privacy.toml".as_ref(), &sets).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "--set study.key_stds={grid}: study.key_stds: give at least one standard deviation, each finite and greater than 0, ascending"
            )
        );
    }
}

#[test]
fn fair_keys_protect_all_clients_alike_and_plain_ones_do_not() {
    let rows = privacy_levels::leakage(&tiny(&[])).unwrap();
    let spread = |keys: &str| {
        let links = rows.iter().filter(|row| row.keys == keys).map(|row| row.link_bits);
        links.clone().fold(0.0, f64::max) / links.fold(f64::INFINITY, f64::min)
    };
    assert!((spread("fair") - 1.0).abs() < 1e-6, "{}", spread("fair"));
    // The plain keys of Weng et al.: Var(u_k) = σ² for k < M and (M − 1)σ² for the last, which balances them.
    assert!((spread("plain") / 9.0 - 1.0).abs() < 1e-2, "{}", spread("plain"));
}

#[test]
fn recovery_in_single_precision_fails_where_keys_are_strong() {
    let config = tiny(&[]);
    let stds = [1.0, 1e3, 1e6, 1e9];
    let rows = privacy_levels::recovery(&config, &stds).unwrap();
    // Cyclic codes at s = 7, groups of five at s = 4: for fractional repetition s + 1 must divide 10.
    // There is no real code over the field.
    assert_eq!(rows.len(), (3 * 2 + 2) * stds.len());
    for curve in rows.chunks(stds.len()) {
        let errors: Vec<f64> = curve.iter().map(|row| row.relative_error).collect();
        if curve[0].arithmetic == Arithmetic::Field {
            assert!(errors.iter().all(|error| *error == errors[0] && *error < 1e-10), "{curve:?}");
        } else {
            // Under weak keys it is that of rounding updates to the grid.
            assert!(errors.windows(2).all(|pair| pair[0] <= 1.001 * pair[1]), "{curve:?}");
            assert!(errors[0] < errors[3], "{curve:?}");
        }
    }
    let of = |arithmetic, std| {
        let of =
            rows.iter().filter(move |row: &&RecoveryRow| (row.arithmetic, row.key_std) == (arithmetic, std));
        of.map(|row| row.relative_error)
    };
    assert!(of(Arithmetic::F32, 1e9).all(|error| error > 1.0));
    assert!(of(Arithmetic::F64, 1e6).all(|error| error < 1e-6));
}

#[test]
fn in_double_precision_a_million_times_the_key_costs_no_accuracy() {
    let config = tiny(&["study.key_stds=[1.0, 1e6]"]);
    let secure = Config { compare: config.compare[..1].to_vec(), ..config };
    let rows =
        privacy_levels::accuracy(&secure, &[1], &"cpu".parse::<Device>().unwrap(), &[], &NEVER, &mut |_| {
            Ok(())
        })
        .unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.key_std, row.recovered)).collect::<Vec<_>>(),
        [(Some(1.0), 2), (Some(1e6), 2)]
    );
    assert!((rows[0].final_accuracy - rows[1].final_accuracy).abs() <= 1e-6, "{rows:?}");
    assert!(rows[0].final_accuracy > 0.2, "it has learned: {rows:?}");
}
