//! Audits as text.

use super::short;
use crate::audit::{Assumptions, Audit, Entry};
use crate::error::count;

/// An audit as text: what is assumed, one line a layer, smallest and largest value over the clients.
#[must_use]
pub fn audit_table(audit: &Audit, assumptions: &Assumptions) -> String {
    let Assumptions { input_std, clip, delta, rounds, .. } = assumptions;
    let clipped = match clip {
        Some(clip) => format!("updates clipped to {clip}"),
        None => "epsilon is unbounded: updates are not clipped (set solver.clip_norm)".into(),
    };
    let assumed = if audit.exact {
        format!(
            "over a prime field: LMIP in bits per coordinate for uniform updates; epsilon is 0 or infinite, for 1 | {}",
            count(rounds, "round")
        )
    } else {
        format!(
            "LMIP in bits per coordinate at update_std {input_std}; epsilon at delta {delta} for 1 | {}; {clipped}",
            count(rounds, "round")
        )
    };
    let mut text = format!("{}: {}\n{assumed}\n{}\n", audit.protocol, audit.erasures, clients(audit));
    text +=
        "adversaries follow the protocol and pool what they see; what holds beyond that: seccogc::deploy\n";
    if let Some(step) = audit.step {
        text += &format!(
            "of bits: provable of what is sent in floating point, in multiples of 2^{:.0}, for {}; the rest is for real numbers\n",
            step.log2(),
            count(rounds, "round")
        );
    } else if !audit.exact {
        text += "nothing is proved of the bits that are sent: there are no keys, or they are not on a grid\n";
    }
    if let Some([leakage, bound]) = audit.optimised {
        text += &format!(
            "optimised keys: the largest that counts (protocol.optimise) is {}, and no keys of their power bring it below {}\n",
            short(leakage),
            short(bound)
        );
    }
    if let Some([size, least]) = audit.key_size {
        text += &format!(
            "all keys together are {} updates long, and no linear scheme of this assignment does with less than {}\n",
            short(size),
            short(least)
        );
    }
    if let Some(idealised) = audit.idealised {
        text += &format!("{idealised}\n");
    }
    if let Some(rule) = &audit.participation {
        text += &format!(
            "{rule} reads the single updates in the server's view and keeps what it makes of them: nothing beyond the view is learned\n"
        );
    }
    let mut lines = vec![
        [
            "adversary",
            "LMIP min",
            "max",
            "max/min",
            "of the sum",
            "symbols",
            "eps on the view",
            "eps beyond the sum",
            "LMIP of bits",
            "eps of bits",
        ]
        .map(String::from),
    ];
    for entries in audit.entries.chunk_by(|a, b| a.layer == b.layer) {
        let extremes = |of: fn(&Entry) -> f64| {
            let values = entries.iter().map(of);
            (values.clone().fold(f64::INFINITY, f64::min), values.fold(0.0, f64::max))
        };
        let (least, most) = extremes(|entry| entry.lmip_bits);
        let pair = |one: fn(&Entry) -> f64, all: fn(&Entry) -> f64| {
            format!("{} | {}", short(extremes(one).1), short(extremes(all).1))
        };
        lines.push([
            entries[0].layer.clone(),
            short(least),
            short(most),
            format!("{:.3}", if most == least { 1.0 } else { most / least }),
            short(extremes(|entry| entry.floor_bits).1),
            entries.iter().map(|entry| entry.symbols).max().unwrap_or(0).to_string(),
            pair(|entry| entry.epsilon_view, |entry| entry.epsilon_view_total),
            pair(|entry| entry.epsilon_beyond_sum, |entry| entry.epsilon_beyond_sum_total),
            optional(entries, |entry| entry.lmip_bits_floating),
            optional(entries, |entry| entry.epsilon_floating),
        ]);
    }
    text += &aligned(&lines);
    for entries in audit.entries.chunk_by(|a, b| a.layer == b.layer) {
        if let Some(entry) = entries.iter().find(|entry| entry.symbols > 0) {
            text += &format!("{} sees without any key: {}\n", entry.layer, entry.counterexample);
        }
    }
    for finding in &audit.findings {
        text += &format!("finding: {finding}\n");
    }
    text
}

/// The largest of what all clients have, – where one has none.
fn optional(entries: &[Entry], of: fn(&Entry) -> Option<f64>) -> String {
    let values: Option<Vec<f64>> = entries.iter().map(of).collect();
    values.map_or_else(|| "–".into(), |values| short(values.into_iter().fold(0.0, f64::max)))
}

/// Whose round it is, and what is assumed of them.
fn clients(audit: &Audit) -> String {
    let Audit { cohort, weights: [least, most], open, exact, .. } = audit;
    let mut text = match open {
        true => format!(
            "{} in a round, each of any weight from {least:.4} to {most:.4} that tells most",
            count(cohort, "client")
        ),
        false => format!("{} of weights from {least:.4} to {most:.4}", count(cohort, "client")),
    };
    if *exact {
        text += "; uniform updates tell the same at every weight";
    }
    if let Some(least) = audit.least_included {
        let what =
            if audit.participation.is_some() { "the mean is estimated from" } else { "the sum is over" };
        text += &format!("; {what} those whose updates arrive, {least} or more");
    }
    text
}

/// Columns of equal width, the first one to the left.
pub(crate) fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: &[String; N]| {
        let cells = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") }
        });
        cells.collect::<String>() + "\n"
    };
    lines.iter().map(line).collect()
}
