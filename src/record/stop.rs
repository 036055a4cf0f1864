//! When a run ends before its last round, other than by divergence.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Row;
use crate::error::count;

/// What ends a run before its last round.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stop {
    /// The test accuracy (fraction) to reach.
    pub target: Option<f64>,
    /// Whether the run ends there.
    pub at_target: bool,
    /// Tests in a row without a better accuracy, or a lower loss where there is none, after which the run
    /// ends.
    pub patience: Option<u64>,
}

impl Stop {
    /// Whether a run with these rounds, from the first on, is over.
    #[must_use]
    pub fn ends(&self, rows: &[Row]) -> bool {
        let target = self.target.filter(|_| self.at_target);
        let reached = target.is_some_and(|accuracy| rows.iter().any(|row| row.reaches(accuracy)));
        reached || self.exhausted(rows).is_some()
    }

    /// The patience of a run with these rounds, where it is at its end.
    #[must_use]
    pub fn exhausted(&self, rows: &[Row]) -> Option<Exhausted> {
        // Asked after every round: without a patience the rounds before are not looked through.
        let patience = self.patience?;
        let best = best(rows)?;
        let later = rows.iter().filter(|row| row.round > best.round && row.is_tested()).count();
        let (accuracy, loss) = match best.test_accuracy {
            Some(accuracy) => (Some(accuracy), None),
            None => (None, best.test_loss),
        };
        let exhausted = Exhausted { tests: later as u64, round: best.round, accuracy, loss };
        (later as u64 >= patience).then_some(exhausted)
    }
}

/// The first of the rounds with the highest test accuracy, or with the lowest test loss where there are no
/// accuracies; none where none was tested.
#[must_use]
pub fn best(rows: &[Row]) -> Option<&Row> {
    let by_accuracy = rows.iter().any(|row| row.test_accuracy.is_some());
    let merit = |row: &Row| match by_accuracy {
        true => row.test_accuracy,
        false => row.test_loss.map(|loss| -loss),
    };
    let tested = rows.iter().filter(|row| merit(row).is_some_and(f64::is_finite));
    tested.reduce(|best, row| if merit(row) > merit(best) { row } else { best })
}

/// A patience that is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exhausted {
    /// Tests without a better accuracy.
    pub tests: u64,
    /// The round of the best test.
    pub round: u64,
    /// Its accuracy (fraction).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Its loss, where there is no accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tests, round, accuracy, loss } = self;
        let best = match (accuracy, loss) {
            (Some(accuracy), _) => format!("{:.2} %", 100.0 * accuracy),
            (None, loss) => format!("a loss of {:.4}", loss.unwrap_or(f64::NAN)),
        };
        write!(f, "patience exhausted by {} no better than {best} in round {round}", count(tests, "test"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds with these accuracies, every second of them tested.
    fn rows(accuracies: &[f64]) -> Vec<Row> {
        let row = |(i, accuracy): (usize, &f64)| {
            let round = 2 * i as u64 + 1;
            [Row::blank(round), Row { test_accuracy: Some(*accuracy), ..Row::blank(round + 1) }]
        };
        accuracies.iter().enumerate().flat_map(row).collect()
    }

    #[test]
    fn patience_counts_tests_since_the_first_best() {
        let stop = Stop { patience: Some(2), ..Stop::default() };
        assert!(!stop.ends(&[]) && !stop.ends(&rows(&[0.5, 0.25])));
        assert!(!stop.ends(&rows(&[0.5, 0.25, 0.75, 0.5])));
        // The same accuracy is no better one.
        let over = stop.exhausted(&rows(&[0.5, 0.75, 0.75, 0.5])).unwrap();
        assert_eq!(over, Exhausted { tests: 2, round: 4, accuracy: Some(0.75), loss: None });
        assert_eq!(over.to_string(), "patience exhausted by 2 tests no better than 75.00 % in round 4");
        assert!(!Stop::default().ends(&rows(&[0.5, 0.75, 0.75, 0.5])));
        assert_eq!(best(&rows(&[0.5, 0.75, 0.75])).map(|row| row.round), Some(4));
        assert!(best(&[Row::blank(1)]).is_none());
    }

    #[test]
    fn where_there_is_no_accuracy_the_lowest_loss_is_best() {
        let losses = [3.0, 0.5, 0.5, f64::NAN];
        let row = |(i, loss): (usize, &f64)| Row { test_loss: Some(*loss), ..Row::blank(i as u64 + 1) };
        let rows: Vec<Row> = losses.iter().enumerate().map(row).collect();
        assert_eq!(best(&rows).map(|row| row.round), Some(2));
        let over = Stop { patience: Some(2), ..Stop::default() }.exhausted(&rows).unwrap();
        assert_eq!(
            over.to_string(),
            "patience exhausted by 2 tests no better than a loss of 0.5000 in round 2"
        );
        assert!(Stop { patience: Some(3), ..Stop::default() }.exhausted(&rows).is_none());
    }

    #[test]
    fn a_target_ends_a_run_where_it_is_to() {
        let target = Stop { target: Some(0.75), at_target: true, patience: None };
        assert!(target.ends(&rows(&[0.75, 0.5])) && !target.ends(&rows(&[0.5, 0.7])));
        assert!(!Stop { at_target: false, ..target }.ends(&rows(&[0.75])));
    }
}
