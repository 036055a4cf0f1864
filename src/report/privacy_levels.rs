//! The tables of `seccogc privacy`.

use super::Spread;
use super::table::{groups, markdown, mean_pm, short, text};
use crate::privacy_levels::{AccuracyRow, LeakageRow, RecoveryRow};

/// One line per contender and σ: what each adversary learns, of real numbers and, provable, of the bits that
/// are sent, and the accuracy, mean ± sample standard deviation over the seeds.
#[must_use]
pub fn accuracy_table(rows: &[AccuracyRow]) -> String {
    const HEADER: [&str; 10] = [
        "protocol",
        "σ",
        "ε of all rounds",
        "provable",
        "LMIP (bits)",
        "provable",
        "LMIP, server (bits)",
        "provable",
        "recovered (%)",
        "final accuracy (%)",
    ];
    let points = groups(rows, |a, b| (&a.protocol, a.key_std) == (&b.protocol, b.key_std));
    let lines: Vec<_> = points
        .iter()
        .map(|seeds| {
            let first = seeds[0];
            let worst =
                |of: fn(&AccuracyRow) -> f64| short(seeds.iter().map(|row| of(row)).fold(0.0, f64::max));
            let mean = |decimals, of: fn(&AccuracyRow) -> f64| {
                mean_pm(decimals, Spread::Deviation, seeds.iter().map(|row| of(row)))
            };
            [
                text(&first.protocol),
                first.key_std.map_or_else(|| "–".into(), |std| std.to_string()),
                worst(|row| row.epsilon_total),
                worst(|row| row.epsilon_provable),
                worst(|row| row.lmip_bits),
                worst(|row| row.lmip_bits_provable),
                worst(|row| row.lmip_server_bits),
                worst(|row| row.lmip_server_bits_provable),
                mean(1, |row| 100.0 * row.recovered as f64 / row.rounds as f64),
                mean(2, |row| 100.0 * row.final_accuracy),
            ]
        })
        .collect();
    markdown(&HEADER, &[0], &lines)
}

/// One line per client, the largest LMIP against a link, another client and the server under each key
/// construction.
#[must_use]
pub fn leakage_table(rows: &[LeakageRow]) -> String {
    let keys = rows.iter().filter(|row| row.client == 1).map(|row| &row.keys);
    let header: Vec<String> = std::iter::once("client".to_owned())
        .chain(keys.flat_map(|keys| {
            ["link", "other client", "server"].map(|adversary| format!("{keys}: {adversary} (bits)"))
        }))
        .collect();
    let line = |own: &Vec<&LeakageRow>| -> Vec<String> {
        let bits = own.iter().flat_map(|row| [row.link_bits, row.neighbour_bits, row.server_bits]);
        std::iter::once(own[0].client.to_string()).chain(bits.map(short)).collect()
    };
    let clients = groups(rows, |a, b| a.client == b.client);
    markdown(&header, &[], &clients.iter().map(line).collect::<Vec<_>>())
}

/// One line per σ, the relative error of each code in each arithmetic.
#[must_use]
pub fn recovery_table(rows: &[RecoveryRow]) -> String {
    let scheme = |row: &RecoveryRow| {
        let arithmetic = serde_json::to_value(row.arithmetic).unwrap_or_default();
        let arithmetic = arithmetic.as_str().unwrap_or_default();
        format!("{}, s = {}, {arithmetic}", row.code, row.stragglers)
    };
    let mut schemes: Vec<String> = rows.iter().map(scheme).collect();
    schemes.dedup();
    let mut key_stds: Vec<f64> = rows.iter().map(|row| row.key_std).collect();
    key_stds.sort_by(f64::total_cmp);
    key_stds.dedup();
    let line = |&key_std: &f64| -> Vec<String> {
        let error = |of: &String| {
            let found = rows.iter().find(|row| scheme(row) == *of && row.key_std == key_std);
            found.map_or_else(|| "–".into(), |row| short(row.relative_error))
        };
        std::iter::once(format!("{key_std:e}")).chain(schemes.iter().map(error)).collect()
    };
    let lines: Vec<_> = key_stds.iter().map(line).collect();
    let header: Vec<String> = std::iter::once("σ".to_owned()).chain(schemes.iter().cloned()).collect();
    markdown(&header, &[], &lines)
}
