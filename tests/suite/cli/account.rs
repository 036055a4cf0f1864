//! `account`: what it prints, and what it refuses.

use super::{refusal, seccogc};

fn printed(args: &str) -> String {
    let args: Vec<&str> = std::iter::once("account").chain(args.split_whitespace()).collect();
    let output = seccogc(&args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(args: &str) -> String {
    refusal(&std::iter::once("account").chain(args.split_whitespace()).collect::<Vec<_>>())
}

/// A cell of the only line of a table.
fn cell(csv: &str, name: &str) -> f64 {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let at = reader.headers().unwrap().iter().position(|own| own == name).unwrap();
    reader.records().next().unwrap().unwrap()[at].parse().unwrap()
}

#[test]
fn epsilon_is_printed_by_every_path_and_in_words() {
    let page = printed("--noise-multiplier 1.1 --sample-rate 0.01 --rounds 1000 --delta 1e-5");
    assert!(page.starts_with(
        "1000 rounds with Gaussian noise of multiplier 1.1; everybody takes part with probability 0.01"
    ));
    for line in [
        "Gaussian curve, sampling not counted",
        "privacy-loss distributions",
        "Rényi divergence of order 9.5",
        "ε ≤ 1.515363 at δ = 0.00001 (privacy-loss distributions)",
        "told apart: all inputs, and those with one client more or less (add-or-remove)",
        "adversary: whoever sees every released sum or model, but not who took part",
        "assumes: ",
    ] {
        assert!(page.contains(line), "{line} is missing in\n{page}");
    }
    let fixed = printed("--noise-multiplier 4 --cohort 10 --clients 100 --rounds 10 --delta 1e-5");
    assert!(fixed.contains("cohorts of 10 of 100 clients") && fixed.contains("(replace-one)"), "{fixed}");
    let nothing = printed("--noise-multiplier 4 --rounds 0 --delta 0");
    assert!(nothing.contains("ε ≤ 0.000000 at δ = 0"), "{nothing}");
    let all = printed("--noise-multiplier 4 --rounds 1 --delta 0");
    assert!(all.contains("ε ≤ ∞ at δ = 0"), "{all}");
}

#[test]
fn targets_are_met_from_the_safe_side() {
    let at = |args: &str| printed(&format!("--csv --delta 1e-5 --sample-rate 0.05 {args}"));
    let noise = cell(&at("--epsilon 2 --rounds 200"), "noise_multiplier");
    let epsilon =
        |z: f64, rounds: u64| cell(&at(&format!("--noise-multiplier {z} --rounds {rounds}")), "epsilon");
    assert!(epsilon(noise, 200) <= 2.0 && epsilon(noise * (1.0 - 2e-6), 200) > 2.0, "{noise}");
    let rounds = cell(&at("--epsilon 2 --noise-multiplier 1.5"), "rounds") as u64;
    assert!(epsilon(1.5, rounds) <= 2.0 && epsilon(1.5, rounds + 1) > 2.0, "{rounds}");
}

#[test]
fn integers_have_renyi_numbers() {
    let csv = printed(
        "--csv --mechanism skellam --l2 1025.52064 --dimension 8192 --shares 10 --noise-multiplier 4.99258601 \
         --adjacency zero-out --rounds 100 --delta 1e-5",
    );
    // A deviation of five clipping norms: shared/design/competitors.md, section 7.
    assert!((cell(&csv, "epsilon") - 10.8195).abs() < 6e-4, "{csv}");
    assert_eq!(cell(&csv, "epsilon"), cell(&csv, "renyi"));
}

#[test]
fn wrong_arguments_are_refused_in_one_line() {
    for (args, line) in [
        ("--noise-multiplier 0 --rounds 1 --delta 1e-5", "error: noise_multiplier: 0 is not above 0"),
        ("--noise-multiplier 1 --rounds 1 --delta 1", "error: delta: 1 is no probability below 1"),
        ("--noise-multiplier 1 --rounds 1 --delta nan", "error: delta: NaN is no probability below 1"),
        ("--epsilon 0 --rounds 1 --delta 1e-5", "error: epsilon: 0 is not above 0"),
        ("--epsilon 1 --delta 1e-5", "error: --epsilon: give --noise-multiplier or --rounds with it"),
        (
            "--epsilon 1 --noise-multiplier 1 --rounds 1 --delta 1e-5",
            "error: --epsilon: leave out it, --noise-multiplier or --rounds",
        ),
        (
            "--noise-multiplier 1 --sample-rate 2 --rounds 1 --delta 1e-5",
            "error: rate: 2 is no probability from 0 to 1",
        ),
        (
            "--noise-multiplier 1 --cohort 3 --clients 2 --rounds 1 --delta 1e-5",
            "error: cohort: 3 of 2 clients: take from 1 to all of them",
        ),
        (
            "--noise-multiplier 1 --cohort 1 --clients 2 --adjacency zero-out --rounds 1 --delta 1e-5",
            "error: adjacency: zero-out has no bound for samples of fixed size: take replace-one, or Poisson sampling",
        ),
        (
            "--noise-multiplier 1 --sampling poisson --rounds 1 --delta 1e-5",
            "error: --sampling poisson: give --sample-rate, or --cohort and --clients",
        ),
        (
            "--noise-multiplier 1 --sampling none --sample-rate 0.1 --rounds 1 --delta 1e-5",
            "error: --sampling none: leave out --sample-rate, --cohort and --clients",
        ),
        (
            "--noise-multiplier 1 --mechanism skellam --l2 1 --rounds 1 --delta 1e-5",
            "error: --mechanism: noise of integers needs --l2, --dimension and --shares",
        ),
        (
            "--noise-multiplier 1 --l2 1 --rounds 1 --delta 1e-5",
            "error: --l2, --l1, --dimension and --shares are for integers: take --mechanism skellam or discrete-gaussian",
        ),
    ] {
        assert_eq!(refused(args), line);
    }
    assert!(refused("--rounds 1 --delta 1e-5").contains("--noise-multiplier <Z>"));
}
