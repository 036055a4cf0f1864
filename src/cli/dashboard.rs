//! The dashboard of a run that goes on: a few lines that follow accuracy, loss, recovery, leakage and
//! traffic.

use console::{Style, truncate_str};

use crate::error::Diverged;
use crate::record::{Outcome, Row};
use crate::report::short;

/// Characters of a sparkline.
const SPARK: usize = 40;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The lines below the bar, without line break at the end, each at most `width` columns wide.
pub(super) fn board(rows: &[Row], diverged: Option<&Diverged>, width: usize) -> String {
    let head = |name: &str| Style::new().for_stderr().dim().apply_to(format!("  {name:<11}")).to_string();
    let Some(last) = rows.last() else {
        let first = diverged.map(|_| format!("{}{}", head("recovered"), outcomes(rows, diverged)));
        return first.map_or_else(String::new, |line| truncate_str(&line, width, "…").into_owned());
    };
    let strong = |text: String| Style::new().for_stderr().bold().apply_to(text).to_string();
    let spark = |values: &[f64], range, style: Style| {
        style.for_stderr().apply_to(format!("{:<SPARK$}", sparkline(values, range, SPARK))).to_string()
    };

    let accuracies: Vec<f64> = rows.iter().filter_map(|row| row.test_accuracy).collect();
    let best = rows
        .iter()
        .filter_map(|row| Some((row.round, row.test_accuracy?)))
        .reduce(|best, next| if next.1 > best.1 { next } else { best });
    let losses: Vec<f64> = rows.iter().map(|row| row.train_loss).collect();
    let recovered: Vec<f64> =
        rows.iter().map(|row| f64::from(u8::from(row.outcome == Outcome::Recovered))).collect();
    let share = 100.0 * recovered.iter().sum::<f64>() / rows.len() as f64;

    let mut lines = Vec::new();
    lines.push(match (accuracies.last(), best) {
        (Some(accuracy), Some((round, best))) => format!(
            "{}{}  {}  best {:.2} % in round {round}",
            head("accuracy"),
            strong(format!("{:>9}", format!("{:.2} %", 100.0 * accuracy))),
            spark(&accuracies, None, Style::new().green()),
            100.0 * best
        ),
        // The loss is in the next line.
        _ if rows.iter().any(Row::is_tested) => format!("{}–", head("accuracy")),
        _ => format!("{}not tested yet", head("accuracy")),
    });
    let test_loss = rows.iter().rev().find_map(|row| row.test_loss);
    lines.push(format!(
        "{}{}  {}  test {}",
        head("loss"),
        strong(format!("{:>9.4}", last.train_loss)),
        spark(&losses, None, Style::new().yellow()),
        test_loss.map_or_else(|| "–".into(), |loss| format!("{loss:.4}"))
    ));
    lines.push(format!(
        "{}{}  {}  {}",
        head("recovered"),
        strong(format!("{:>9}", format!("{share:.1} %"))),
        spark(&recovered, Some((0.0, 1.0)), Style::new().cyan()),
        outcomes(rows, diverged)
    ));
    let leakage =
        [("link", last.leakage_link), ("neighbour", last.leakage_neighbour), ("server", last.leakage_server)];
    let leakage: Vec<String> =
        leakage.iter().filter_map(|(who, nats)| nats.map(|nats| format!("{who} {}", short(nats)))).collect();
    if !leakage.is_empty() {
        lines.push(format!("{}{} nats per coordinate", head("leakage"), leakage.join(", ")));
    }
    let sent = |of: fn(&Row) -> u64| rows.iter().map(of).sum::<u64>() as f64 / 1e6;
    lines.push(format!(
        "{}{:.1} MB between clients, {:.1} MB to the server",
        head("traffic"),
        sent(Row::bytes_between),
        sent(Row::bytes_to_server)
    ));
    let cut = lines.iter().map(|line| truncate_str(line, width, "…").into_owned());
    cut.collect::<Vec<_>>().join("\n")
}

/// How the rounds ended, and what was not finite: the updates of clients who stayed silent for it, and the
/// round in which the run diverged.
fn outcomes(rows: &[Row], diverged: Option<&Diverged>) -> String {
    let count = |kind| rows.iter().filter(|row| row.outcome == kind).count();
    let mut parts = vec![
        format!("{} of {}", count(Outcome::Recovered), rows.len()),
        format!("{} partial", count(Outcome::Partial)),
        format!("{} lost", count(Outcome::Outage)),
    ];
    let estimates = count(Outcome::Estimate);
    parts.extend((estimates > 0).then(|| format!("{estimates} estimated")));
    let silent: usize = rows.iter().map(|row| row.diverged).sum();
    parts.extend((silent > 0).then(|| format!("{silent} updates not finite")));
    let end = |diverged: &Diverged| {
        let mark = format!("diverged in round {}", diverged.round);
        Style::new().for_stderr().red().apply_to(mark).to_string()
    };
    parts.extend(diverged.map(end));
    parts.join(", ")
}

/// One character per value, or per mean of neighbouring values where there are more than `most`; from the
/// lowest to the highest value unless a range is given.
fn sparkline(values: &[f64], range: Option<(f64, f64)>, most: usize) -> String {
    let values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let columns = values.len().min(most);
    let means = (0..columns).map(|i| {
        let part = &values[i * values.len() / columns..(i + 1) * values.len() / columns];
        part.iter().sum::<f64>() / part.len() as f64
    });
    let means: Vec<f64> = means.collect();
    let (low, high) = range.unwrap_or_else(|| {
        means.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)))
    });
    let level = |&mean: &f64| {
        let part = if high > low { (mean - low) / (high - low) } else { 0.0 };
        LEVELS[(part * (LEVELS.len() - 1) as f64).round() as usize]
    };
    means.iter().map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(round: u64, outcome: Outcome, accuracy: Option<f64>) -> Row {
        Row {
            outcome,
            bytes_client_client: 1_500_000,
            bytes_client_server: 250_000,
            train_loss: 2.0 / round as f64,
            test_loss: accuracy.map(|a| 1.0 - a),
            test_accuracy: accuracy,
            leakage_neighbour: Some(0.5),
            ..Row::blank(round)
        }
    }

    #[test]
    fn a_sparkline_spans_its_range() {
        assert_eq!(sparkline(&[0.0, 0.5, 1.0], None, 10), "▁▅█");
        assert_eq!(sparkline(&[0.0, 1.0, 1.0, 1.0], Some((0.0, 1.0)), 2), "▅█");
        assert_eq!(sparkline(&[3.0, f64::NAN, 3.0], None, 10), "▁▁");
        assert_eq!(sparkline(&[], None, 10), "");
        assert_eq!(sparkline(&[1.0; 100], None, 7).chars().count(), 7);
    }

    #[test]
    fn divergence_stands_with_the_outcomes() {
        let end = |round| Diverged { round, client: Some(2), what: crate::error::NotFinite::TrainingLoss };
        let plain = |rows: &[Row], end: Option<&Diverged>| {
            console::strip_ansi_codes(&board(rows, end, 200)).into_owned()
        };
        let silent = Row { diverged: 2, ..row(2, Outcome::Partial, None) };
        let rows = [row(1, Outcome::Recovered, None), silent];
        let line = |end| plain(&rows, end).lines().nth(2).unwrap().to_owned();
        let counts = "1 of 2, 1 partial, 0 lost, 2 updates not finite";
        assert!(line(None).ends_with(counts), "{}", line(None));
        let third = end(3);
        assert!(line(Some(&third)).ends_with(&format!("{counts}, diverged in round 3")));
        // Nothing was played, and the line is there all the same.
        assert_eq!(plain(&[], None), "");
        assert_eq!(plain(&[], Some(&end(1))), "  recovered  0 of 0, 0 partial, 0 lost, diverged in round 1");
        assert_eq!(console::measure_text_width(&board(&[], Some(&end(1)), 30)), 30);
    }

    #[test]
    fn the_board_tells_the_numbers_of_the_rounds() {
        let rows = [
            row(1, Outcome::Recovered, Some(0.25)),
            row(2, Outcome::Outage, Some(0.75)),
            row(3, Outcome::Partial, None),
            row(4, Outcome::Recovered, Some(0.5)),
        ];
        let text = console::strip_ansi_codes(&board(&rows, None, 200)).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines[0].starts_with("  accuracy     50.00 %  ▁█▅"), "{text}");
        assert!(lines[0].ends_with("best 75.00 % in round 2"), "{text}");
        assert!(lines[1].contains("0.5000") && lines[1].ends_with("test 0.5000"), "{text}");
        assert!(
            lines[2].contains("50.0 %  █▁▁█") && lines[2].ends_with("2 of 4, 1 partial, 1 lost"),
            "{text}"
        );
        assert_eq!(lines[3], "  leakage    neighbour 0.5000 nats per coordinate");
        assert_eq!(lines[4], "  traffic    6.0 MB between clients, 1.0 MB to the server");
        for line in board(&rows, None, 30).lines() {
            assert!(console::measure_text_width(line) <= 30, "{line}");
        }
    }
}
