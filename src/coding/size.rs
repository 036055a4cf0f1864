//! Bounds on what is built, checked before memory is taken.

use super::CodeKind;
use crate::error::{Error, Result};

/// Clients of a code of which systems are solved: 2048² numbers are 32 MiB, and to judge the conditioning of
/// such a code takes minutes.
pub const DENSE_CLIENTS: usize = 2048;

/// Coefficients of a fractional repetition, which solves none: with their places 1.5 GiB.
const COEFFICIENTS: usize = 1 << 26;

/// Clients who all hold something of each other: 2048² shares of a few hundred bytes are about 1 GiB.
pub const PAIRED_CLIENTS: usize = 2048;

/// The family that is built for M = `clients` and s = `stragglers`: the one that is asked for, and beyond
/// [`DENSE_CLIENTS`] for [`CodeKind::Auto`] the only one that is.
pub(super) fn buildable(kind: CodeKind, clients: usize, stragglers: usize) -> Result<CodeKind> {
    let repetition = CodeKind::FractionalRepetition;
    let is_repetition =
        kind == repetition || kind == CodeKind::Auto && repetition.exists(clients, stragglers);
    let coefficients = clients.saturating_mul(stragglers + 1);
    if clients <= DENSE_CLIENTS {
        return Ok(kind);
    }
    if is_repetition && coefficients <= COEFFICIENTS {
        return Ok(repetition);
    }
    let rule = if is_repetition {
        format!(
            "a code of {clients} clients and {stragglers} stragglers has {coefficients} coefficients, and at most \
             {COEFFICIENTS} are built; take fewer stragglers, or cohorts of fewer clients (cohort.sample)"
        )
    } else {
        let memory = (clients as f64).powi(2) * 8.0 / f64::from(1 << 30);
        format!(
            "a {} code of {clients} clients is a dense matrix of {memory:.1} GiB, and at most {DENSE_CLIENTS} clients are \
             computed with; take code = \"fractional-repetition\" and stragglers + 1 that divides the clients, or cohorts \
             of at most {DENSE_CLIENTS} (cohort.sample)",
            if kind == CodeKind::Auto { "cyclic" } else { kind.name() }
        )
    };
    Err(Error::no_code(rule))
}

/// Whether every client may hold something of every other; `instead` says what to take where there are too
/// many.
///
/// # Errors
/// More than [`PAIRED_CLIENTS`].
pub(crate) fn check_pairs(kind: &str, clients: usize, instead: &str) -> Result<()> {
    if clients <= PAIRED_CLIENTS {
        return Ok(());
    }
    let pairs = clients.saturating_mul(clients - 1);
    let rule = format!(
        "every client of {kind} holds shares of every other, {pairs} among {clients}, and at most {PAIRED_CLIENTS} clients are \
         computed with; take {instead}cohorts of at most {PAIRED_CLIENTS} (cohort.sample)"
    );
    Err(Error::config("kind", rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_bounded_before_they_are_built() {
        use CodeKind::{Auto, CyclicMds, CyclicRandom, FractionalRepetition};
        for kind in [Auto, CyclicMds, CyclicRandom, FractionalRepetition] {
            assert_eq!(buildable(kind, DENSE_CLIENTS, 7).unwrap(), kind);
        }
        assert_eq!(buildable(Auto, 65_535, 4).unwrap(), FractionalRepetition);
        let refused = |kind, stragglers| buildable(kind, 65_535, stragglers).unwrap_err().to_string();
        let dense =
            "code: a cyclic code of 65535 clients is a dense matrix of 32.0 GiB, and at most 2048 clients";
        assert!(refused(Auto, 7).starts_with(dense), "{}", refused(Auto, 7));
        assert!(refused(CyclicMds, 4).contains("take code = \"fractional-repetition\""));
        let large = refused(FractionalRepetition, 65_534);
        assert!(
            large.contains("4294836225 coefficients") && large.contains("take fewer stragglers"),
            "{large}"
        );
    }

    #[test]
    fn pairs_are_bounded() {
        check_pairs("sec-agg", PAIRED_CLIENTS, "").unwrap();
        let refused = check_pairs("sec-agg", 10_000, "sec-agg-plus, or ").unwrap_err().to_string();
        let want = "kind: every client of sec-agg holds shares of every other, 99990000 among 10000, and at most 2048 clients \
                    are computed with; take sec-agg-plus, or cohorts of at most 2048 (cohort.sample)";
        assert_eq!(refused, want);
    }
}
