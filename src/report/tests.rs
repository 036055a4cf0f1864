use std::fs;

use super::*;
use crate::record::{Outcome, Row, to_csv};

/// Rounds `1..=rounds` of a run that learns up to `best`, tested every second round.
fn learning(rounds: u64, best: f64, seed: u64) -> Vec<Row> {
    (1..=rounds)
        .map(|round| {
            let wobble = 0.02 * ((round * 7 + seed * 13) % 11) as f64 / 11.0;
            let learnt = 1.0 - (-(round as f64) / 20.0).exp();
            let accuracy = 0.1 + (best - 0.1) * learnt - wobble;
            let tested = round % 2 == 0;
            Row {
                cohort: 10,
                outcome: match (round * 5 + seed) % 9 {
                    0 => Outcome::Outage,
                    1 | 2 => Outcome::Partial,
                    _ => Outcome::Recovered,
                },
                arrivals: 8,
                recovery_error: Some(1e-6),
                bytes_client_client: 3_000_000,
                bytes_client_server: 1_500_000,
                train_loss: 2.4 - 2.2 * learnt + wobble,
                test_loss: tested.then_some(2.4 - 2.1 * learnt),
                test_accuracy: tested.then_some(accuracy),
                seconds_local: 0.5,
                seconds_coding: 0.1,
                seconds_evaluation: 0.2,
                ..Row::blank(round)
            }
        })
        .collect()
}

fn three_seeds(name: &str, best: f64) -> Series {
    Series { name: name.into(), runs: (0..3).map(|seed| learning(30, best, seed).into()).collect() }
}

/// Writes a run directory as far as figures need it.
fn run_directory(path: &Path, rows: &[Row]) {
    fs::create_dir_all(path).unwrap();
    fs::write(path.join("rounds.csv"), to_csv(rows).unwrap()).unwrap();
}

fn summary(name: &str, seed: u64) -> Summary {
    summarise(name, &Scheme::default(), seed, &learning(4, 0.9, seed).into(), 1.0, None)
}

/// Pixels, width and height of an RGB image.
fn decode(png: &[u8]) -> (Vec<u8>, usize, usize) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    (pixels, info.width as usize, info.height as usize)
}

#[test]
fn mean_and_deviation_are_those_computed_by_hand() {
    assert_eq!(mean_std([]), None);
    assert_eq!(mean_std([f64::NAN]), None);
    assert_eq!(mean_std([3.0]), Some((3.0, None)));
    // Deviations −3, −1, 1, 3 of mean 5: sum of squares 20, over n − 1 = 3.
    assert_eq!(mean_std([2.0, 4.0, 6.0, 8.0]), Some((5.0, Some((20.0f64 / 3.0).sqrt()))));
    assert_eq!(mean_std([2.0, f64::INFINITY, 4.0]), Some((3.0, Some(2.0f64.sqrt()))));
}

#[test]
fn a_summary_is_the_one_computed_by_hand() {
    let mut rows = learning(5, 0.9, 0);
    let outcomes =
        [Outcome::Recovered, Outcome::Outage, Outcome::Recovered, Outcome::Partial, Outcome::Recovered];
    let accuracies = [None, Some(0.25), Some(0.75), Some(0.5), Some(f64::NAN)];
    for ((row, outcome), accuracy) in rows.iter_mut().zip(outcomes).zip(accuracies) {
        (row.outcome, row.test_accuracy) = (outcome, accuracy);
    }
    rows[4].test_loss = Some(0.125);
    rows[4].bytes_client_client = 7;
    rows[4].bytes_client_server = 0;
    let scheme = Scheme {
        keys: "fair".into(),
        code: "cyclic".into(),
        stragglers: Some(7),
        key_std: Some(100.0),
        ..Scheme::default()
    };
    let expected = Summary {
        protocol: "A".into(),
        keys: "fair".into(),
        code: "cyclic".into(),
        stragglers: Some(7),
        key_std: Some(100.0),
        seed: 9,
        rounds: 5,
        recovered: 3,
        final_accuracy: 0.5,
        best_accuracy: 0.75,
        bytes_client_client: 12_000_007,
        bytes_client_server: 6_000_000,
        seconds: 2.5,
        rounds_to_target: Some(3),
        bytes_to_target: Some(13_500_000),
        seconds_to_target: None,
        diverged: None,
        epsilon: None,
        final_loss: Some(0.125),
    };
    let rows = Played::from(rows);
    assert_eq!(summarise("A", &scheme, 9, &rows, 2.5, Some(0.7)), expected);
    let never = Summary { rounds_to_target: None, bytes_to_target: None, ..expected };
    assert_eq!(summarise("A", &scheme, 9, &rows, 2.5, Some(0.8)), never);

    let diverged = Played { diverged: Some(6), ..rows.clone() };
    let cut = summarise("A", &scheme, 9, &diverged, 2.5, Some(0.7));
    assert!(cut.final_accuracy.is_nan() && cut.best_accuracy.is_nan(), "a mean over seeds leaves it out");
    assert_eq!((cut.rounds, cut.recovered, cut.diverged), (5, 3, Some(6)));

    let untested = Played::from(rows.rows[..1].to_vec());
    let untested = summarise("A", &Scheme::default(), 1, &untested, 0.0, Some(0.1));
    assert!(untested.final_accuracy.is_nan() && untested.best_accuracy.is_nan());
}

#[test]
fn a_summary_has_the_promised_columns_and_comes_back_from_csv() {
    let mut lines = vec![summary("A, with a comma", 1), summary("B", 2)];
    lines[0].stragglers = Some(7);
    lines[1].final_accuracy = f64::NAN;
    let csv = String::from_utf8(to_csv(&lines).unwrap()).unwrap();
    assert_eq!(
        csv.lines().next().unwrap(),
        "protocol,keys,code,stragglers,key_std,seed,rounds,recovered,final_accuracy,best_accuracy,\
         bytes_client_client,bytes_client_server,seconds,rounds_to_target,bytes_to_target,seconds_to_target,diverged,epsilon,\
         final_loss"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("summary.csv");
    fs::write(&path, csv).unwrap();
    let back: Vec<Summary> = read_rows(&path).unwrap();
    assert_eq!(back[0], lines[0]);
    assert!(back[1].final_accuracy.is_nan());
}

#[test]
fn the_table_says_what_the_target_cost_where_it_was_reached() {
    let line = |protocol: &str, rounds: Option<u64>| Summary {
        protocol: protocol.into(),
        rounds_to_target: rounds,
        bytes_to_target: rounds.map(|rounds| rounds * 500_000),
        ..summary("", 1)
    };
    let table = table(&[line("A", Some(10)), line("A", None), line("A", Some(12)), line("B", None)]);
    let last = |i: usize| {
        let line = table.lines().nth(i).unwrap();
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        cells[11..].join(", ")
    };
    assert_eq!(last(0), "rounds to target, MB to target, seconds to target");
    assert_eq!(last(2), "11 ± 1 (2/3), 5.5 ± 0.7 (2/3), –");
    assert_eq!(last(3), "–, –, –");
}

#[test]
fn the_table_is_aligned_and_valid_markdown() {
    let line = |protocol: &str, seed, accuracy, bytes| Summary {
        protocol: protocol.into(),
        keys: "plain".into(),
        code: "cyclic".into(),
        stragglers: Some(7),
        key_std: Some(0.5),
        seed,
        rounds: 200,
        recovered: 150,
        final_accuracy: accuracy,
        best_accuracy: 0.99,
        bytes_client_client: bytes,
        bytes_client_server: 1_550_000,
        seconds: 60.0,
        rounds_to_target: None,
        bytes_to_target: None,
        seconds_to_target: None,
        diverged: None,
        epsilon: None,
        final_loss: None,
    };
    let fedavg = Summary {
        keys: String::new(),
        code: String::new(),
        stragglers: None,
        key_std: None,
        final_accuracy: f64::NAN,
        ..line("FedAvg | σ", 1, 0.0, 0)
    };
    // Final accuracies 0.94, 0.96, 0.98: mean 96 %, deviation 2 %. Lines of one contender need not be
    // neighbours.
    let lines = [
        line("SecCoGC", 1, 0.94, 1_000_000),
        fedavg,
        line("SecCoGC", 2, 0.96, 2_000_000),
        line("SecCoGC", 3, 0.98, 3_000_000),
    ];
    let expected = "\
| protocol    | keys  | key std | code   | s | recovered (%) | final accuracy (%) | best accuracy (%) | client→client (MB) | client→server (MB) |   time (s) |
|:------------|:------|--------:|:-------|--:|--------------:|-------------------:|------------------:|-------------------:|-------------------:|-----------:|
| SecCoGC     | plain |     0.5 | cyclic | 7 |    75.0 ± 0.0 |       96.00 ± 2.00 |      99.00 ± 0.00 |          2.0 ± 1.0 |          1.6 ± 0.0 | 60.0 ± 0.0 |
| FedAvg \\| σ | –     |       – | –      | – |          75.0 |                  – |             99.00 |                0.0 |                1.6 |       60.0 |
";
    assert_eq!(table(&lines), expected);
}

#[test]
fn the_table_says_how_many_seeds_diverged_and_averages_the_others() {
    let line = |protocol: &str, diverged: Option<u64>, accuracy| Summary {
        protocol: protocol.into(),
        final_accuracy: accuracy,
        diverged,
        ..summary("", 1)
    };
    let lines = [
        line("A", None, 0.5),
        line("A", Some(3), f64::NAN),
        line("A", None, 0.5),
        line("B", Some(1), f64::NAN),
        line("C", None, 0.25),
    ];
    let table = table(&lines);
    let cells = |i: usize| {
        let line = table.lines().nth(i).unwrap();
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        [cells[6], cells[11]].join(", ")
    };
    let expected = [
        "final accuracy (%), divergence",
        "50.00 ± 0.00, 1 of 3 seeds diverged",
        "–, diverged in round 1",
        "25.00, no",
    ];
    assert_eq!([0, 2, 3, 4].map(cells), expected);
}

#[test]
fn names_become_folders() {
    assert_eq!(slug("SecCoGC (s = 7), σ = 0.5"), "seccogc-s-7-σ-0-5");
    assert_eq!(slug("../.."), "");
}

#[test]
fn runs_and_comparisons_are_found_and_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let lines = [summary("Fair SecCoGC", 1), summary("FedAvg", 1), summary("Fair SecCoGC", 5)];
    fs::create_dir(at("comparison")).unwrap();
    fs::write(at("comparison/summary.csv"), to_csv(&lines).unwrap()).unwrap();
    for (run, seed) in [("fair-seccogc/seed-1", 1), ("fair-seccogc/seed-5", 5), ("fedavg/seed-1", 7)] {
        run_directory(&at("comparison").join(run), &learning(4, 0.9, seed));
    }
    run_directory(&at("alone"), &learning(3, 0.9, 2));

    let series = load(&[
        at("comparison"),
        at("alone"),
        at("comparison/fedavg/seed-1"),
        at("comparison/fair-seccogc/seed-1"),
    ])
    .unwrap();
    let twin = |run: &str| format!("seed-1 ({})", at("comparison").join(run).display());
    let names: Vec<&str> = series.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(
        names,
        ["Fair SecCoGC", "FedAvg", "alone", &twin("fedavg/seed-1"), &twin("fair-seccogc/seed-1")]
    );
    assert_eq!(series[0].runs, [learning(4, 0.9, 1), learning(4, 0.9, 5)].map(Played::from));
    assert_eq!(series[1].runs, [learning(4, 0.9, 7)].map(Played::from));
    assert_eq!(series[2].runs, [learning(3, 0.9, 2)].map(Played::from));
}

#[test]
fn errors_are_one_line_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let refusal = |name: &str| load(&[at(name)]).unwrap_err().to_string();

    fs::create_dir(at("neither")).unwrap();
    run_directory(&at("empty"), &[]);
    run_directory(&at("damaged"), &learning(2, 0.9, 0));
    let half = fs::read_to_string(at("damaged/rounds.csv")).unwrap();
    fs::write(at("damaged/rounds.csv"), &half[..half.len() - 20]).unwrap();
    fs::create_dir(at("gap")).unwrap();
    fs::write(at("gap/summary.csv"), to_csv(&[summary("A", 3)]).unwrap()).unwrap();
    fs::create_dir(at("hollow")).unwrap();
    fs::write(at("hollow/summary.csv"), "").unwrap();

    for (name, file, words) in [
        (
            "neither",
            "neither",
            "neither a run (no rounds.csv) nor a comparison (no summary.csv) nor a sweep (no runs.csv); name a folder",
        ),
        ("absent", "absent", "no such folder; name one that train, compare or sweep has written"),
        ("empty", "empty/rounds.csv", "holds no round; the run stopped"),
        ("damaged", "damaged/rounds.csv", "not a table of this kind"),
        ("gap", "gap/a/seed-3/rounds.csv", "cannot read"),
        ("hollow", "hollow/summary.csv", "holds no run; the comparison stopped"),
    ] {
        let message = refusal(name);
        assert!(message.starts_with(&format!("{}: ", at(file).display())), "{message}");
        assert!(message.contains(words), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    let many: Vec<Series> = (0..22).map(|i| three_seeds(&i.to_string(), 0.9)).collect();
    let stem = at("figure");
    let message = plot_accuracy(&many, Spread::Deviation, "", &stem).unwrap_err().to_string();
    assert_eq!(message, "22 curves are too many for one figure, which holds 21; plot fewer runs");
    assert_eq!(
        plot_accuracy(&[], Spread::Deviation, "", &stem).unwrap_err().to_string(),
        "nothing to plot; name at least one run"
    );
    let nothing = plot_run(&Played::default(), "", &stem).unwrap_err().to_string();
    assert_eq!(nothing, "nothing to plot; the run holds no round");
    assert!(!at("figure.svg").exists());
}

#[test]
fn the_same_runs_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let series = [three_seeds("SecCoGC", 0.95), three_seeds("FedAvg", 0.6)];
    // A stem may contain dots.
    let stems = ["p-0.1", "p-0.2"].map(|stem| folder.path().join(stem));
    for stem in &stems {
        plot_accuracy(&series, Spread::Deviation, "MNIST & <friends>", stem).unwrap();
    }
    for suffix in ["svg", "png"] {
        let [one, other] =
            ["p-0.1", "p-0.2"].map(|stem| fs::read(folder.path().join(format!("{stem}.{suffix}"))).unwrap());
        assert!(one == other, "{suffix} differs");
    }
    let svg = fs::read_to_string(folder.path().join("p-0.1.svg")).unwrap();
    for text in [
        "MNIST &amp; &lt;friends&gt;",
        "SecCoGC",
        "FedAvg",
        "test accuracy (%)",
        "communication round",
        "over 3 seeds",
    ] {
        assert!(svg.contains(text), "{text}");
    }
}

#[test]
fn the_png_has_the_size_of_the_svg_and_text_without_any_font_of_the_machine() {
    let figure = |title| {
        plot::accuracy(&[three_seeds("SecCoGC", 0.95)], Spread::Confidence, title).unwrap().svg().unwrap()
    };
    let png_of = |svg: &str| plot::png(svg).unwrap();
    let titled = figure("Words");
    let bytes = png_of(&titled);
    assert_eq!(bytes[..8], *b"\x89PNG\r\n\x1a\n");
    let (pixels, width, height) = decode(&bytes);
    assert!(titled.starts_with(&format!("<svg width=\"{width}\" height=\"{height}\"")));

    let (bare, ..) = decode(&png_of(&figure("")));
    let differing = pixels.iter().zip(&bare).filter(|(a, b)| a != b).count();
    assert!(differing > 300, "the title inked {differing} bytes");
    // An arrow is not in the first font: drawn by the second, not as the box of a missing glyph.
    let [arrow, missing] = ["→", "\u{10FFFD}"].map(|title| decode(&png_of(&figure(title))).0);
    assert!(arrow != missing && arrow != bare);
}

#[test]
fn odd_runs_are_drawn() {
    let mut untested = learning(3, 0.9, 0);
    untested.iter_mut().for_each(|row| (row.test_accuracy, row.test_loss) = (None, None));
    let mut diverged = learning(40, 0.9, 0);
    for row in &mut diverged[20..] {
        row.train_loss = if row.round > 30 { f64::NAN } else { (row.round as f64).exp() };
        row.test_loss = Some(f64::INFINITY);
        row.test_accuracy = Some(f64::NAN);
    }
    let mut still = learning(3, 0.9, 0);
    for row in &mut still {
        (row.train_loss, row.test_loss) = (0.0, None);
        (row.bytes_client_client, row.bytes_client_server) = (0, 0);
    }
    let one_round = learning(1, 0.9, 0);
    let long = learning(1001, 0.9, 0);
    for rows in [&untested, &diverged, &still, &one_round, &long] {
        let svg = plot::run(&rows.clone().into(), "odd").unwrap().svg().unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        plot::png(&svg).unwrap();
    }
    let svg = plot::run(&diverged.into(), "").unwrap().svg().unwrap();
    assert!(svg.contains("1e10"), "a diverged loss has a logarithmic axis");

    let mut series: Vec<Series> = (0..12).map(|i| three_seeds(&format!("contender {i}"), 0.9)).collect();
    series.push(Series { name: "untested".into(), runs: vec![untested.into()] });
    series.push(Series { name: "one".into(), runs: vec![learning(2, 0.9, 0).into()] });
    let svg = plot::accuracy(&series, Spread::Deviation, "").unwrap().svg().unwrap();
    assert!(svg.contains("untested (no value)") && svg.contains("over 1 to 3 seeds"));
    plot::png(&svg).unwrap();
}

#[test]
fn a_run_that_diverged_is_drawn_to_where_it_was_with_a_cross_at_its_end() {
    let svg = |played: Played| plot::run(&played, "").unwrap().svg().unwrap();
    let rows = learning(6, 0.9, 0);
    let whole = svg(rows.clone().into());
    let cut = svg(Played { rows, diverged: Some(7) });
    assert!(cut.contains("diverged in round 7") && !whole.contains("diverged"));
    // Two strokes for each of accuracy, training loss and test loss.
    let strokes =
        |svg: &str| svg.matches("<line opacity=\"1\" stroke=\"#222222\" stroke-width=\"4\"").count();
    assert_eq!((strokes(&cut), strokes(&whole)), (6, 0));

    let at_once = svg(Played { rows: vec![], diverged: Some(1) });
    assert!(at_once.contains("diverged in round 1") && at_once.contains("test accuracy (no value)"));
    assert!(!at_once.contains("NaN"));
    plot::png(&at_once).unwrap();
}
