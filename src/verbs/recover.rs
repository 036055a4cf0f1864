//! How often rounds are recovered, over a grid of tolerances and values of a key.

use std::path::Path;

use super::{Found, Size, Step, Watch};
use crate::coding::CodeKind;
use crate::config::Config;
use crate::error::{Result, count};
use crate::record::{claim, to_csv, write_atomically};
use crate::recover::{RecoveryRow, SOLVED_CLIENTS, recover_each};
use crate::report::{HeatMap, markdown};

/// A grid of points: values of a key across, straggler tolerances down.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// What the figure is called.
    pub title: String,
    /// The key that varies; empty where none does.
    pub key: String,
    /// Its values, and the configuration with each; one empty value where nothing varies.
    pub columns: Vec<(String, Config)>,
    /// The tolerances; all for which the configured code exists where there are none.
    pub stragglers: Vec<usize>,
    /// Rounds at every point; as many as [`recover`](crate::recover::recover) takes where it is
    /// empty.
    pub rounds: Option<u64>,
}

impl Recovery {
    /// Plays every point.
    ///
    /// # Errors
    /// As [`recover`](crate::recover::recover).
    pub fn rows(&self, size: &mut Size, watch: &mut Watch<'_>) -> Result<Vec<RecoveryRow>> {
        let mut rows = Vec::new();
        self.rows_into(&mut rows, size, watch)?;
        Ok(rows)
    }

    /// [`Recovery::rows`] into `rows`, which after an error holds the points that were played until then.
    ///
    /// # Errors
    /// As there.
    pub fn rows_into(
        &self,
        rows: &mut Vec<RecoveryRow>,
        size: &mut Size,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let tolerances = (!self.stragglers.is_empty()).then_some(&self.stragglers[..]);
        for (value, config) in &self.columns {
            let coordinates = size.of(config)?;
            let mut found = |place, total, row: RecoveryRow| {
                let (code, s, percent) = (row.code.clone(), row.stragglers, 100.0 * row.probability);
                rows.push(RecoveryRow { value: value.clone(), ..row });
                let at = if value.is_empty() { String::new() } else { format!("{} = {value}, ", self.key) };
                let what = format!("{at}{code} s = {s}: recovered {percent:.3} %");
                (watch.hear)(&Step { place, total, what: &what })
            };
            recover_each(config, coordinates, tolerances, self.rounds, watch.stop, &mut found)?;
        }
        Ok(())
    }

    /// The table of `rows` for readers.
    #[must_use]
    pub fn table(&self, rows: &[RecoveryRow]) -> String {
        table(&self.key, rows, self.columns.first().map_or(0, |(_, config)| config.clients))
    }

    /// Writes the table and the figure of `rows` into a folder, which must be new or empty.
    ///
    /// # Errors
    /// A folder that holds something or cannot be written.
    pub fn write(&self, rows: &[RecoveryRow], folder: &Path) -> Result<Found> {
        let Some((_, first)) = self.columns.first() else {
            return Ok(Found { csv: Vec::new(), text: String::new() });
        };
        claim(folder)?;
        write_atomically(&folder.join("config.toml"), first.to_toml()?.as_bytes())?;
        let csv = to_csv(rows)?;
        write_atomically(&folder.join("recover.csv"), &csv)?;
        let text = self.table(rows);
        write_atomically(&folder.join("recover.md"), text.as_bytes())?;
        let values: Vec<String> = self.columns.iter().map(|(value, _)| value.clone()).collect();
        heat_map(&self.title, &self.key, &values, rows).write(&folder.join("recovery"))?;
        Ok(Found { csv, text })
    }
}

fn table(key: &str, rows: &[RecoveryRow], clients: usize) -> String {
    let header = [
        if key.is_empty() { "sweep" } else { key },
        "code",
        "s",
        "recovered (%)",
        "closed form (%)",
        "attempts",
        "client→client (MB)",
        "client→server (MB)",
        "time (s)",
    ];
    let lines: Vec<[String; 9]> = rows
        .iter()
        .map(|row| {
            let number = |value: Option<f64>, unit: f64, decimals: usize| {
                value.map_or_else(|| "–".into(), |value| format!("{:.decimals$}", value / unit))
            };
            let computed = match (row.closed_form, row.bounds) {
                (None, Some([below, above])) => format!("{:.3} to {:.3}", 100.0 * below, 100.0 * above),
                (closed_form, _) => number(closed_form, 0.01, 3),
            };
            [
                if row.value.is_empty() { "–".into() } else { row.value.clone() },
                row.code.clone(),
                row.stragglers.to_string(),
                format!("{:.3} ± {:.3}", 100.0 * row.probability, 100.0 * row.standard_error),
                computed,
                number(row.attempts_per_recovered, 1.0, 3),
                number(row.bytes_client_client_per_recovered, 1e6, 2),
                number(row.bytes_client_server_per_recovered, 1e6, 2),
                number(row.seconds_per_recovered, 1.0, 3),
            ]
        })
        .collect();
    let (least, most) =
        rows.iter().fold((u64::MAX, 0), |(least, most), row| (least.min(row.rounds), most.max(row.rounds)));
    let rounds = if least < most { format!("{least} to {most} rounds") } else { count(most, "round") };
    let mut text = format!(
        "{}\n{rounds} a line, ± one standard error; the last four columns per recovered round\n",
        markdown(&header, &[0, 1], &lines)
    );
    if clients > SOLVED_CLIENTS && rows.iter().any(|row| row.code == CodeKind::CyclicMds.name()) {
        text +=
            "cyclic-mds counts as decoding from M − s sums or more: at least so many rounds are recovered\n";
    }
    text
}

fn heat_map(name: &str, key: &str, values: &[String], rows: &[RecoveryRow]) -> HeatMap {
    let mut tolerances: Vec<usize> = rows.iter().map(|row| row.stragglers).collect();
    tolerances.sort_unstable();
    tolerances.dedup();
    let cell = |s: usize, value: &String| {
        rows.iter().find(|row| row.stragglers == s && row.value == *value).map(|row| row.probability)
    };
    HeatMap {
        title: format!("{name}: probability of a recovered round"),
        x: (key.into(), values.to_vec()),
        cells: tolerances.iter().map(|&s| values.iter().map(|value| cell(s, value)).collect()).collect(),
        y: ("stragglers s".into(), tolerances.iter().map(usize::to_string).collect()),
    }
}
