//! Codes without their numbers, for many clients: who combines whose updates decides how often a round is
//! recovered, and a dense code of a thousand clients takes minutes to build.

use crate::coding::{Code, CodeKind};
use crate::seed::Seed;

/// Up to this many clients codes are built, and sets of rows are solved for.
pub const SOLVED_CLIENTS: usize = 32;

/// Straggler tolerances that are looked at among many clients, at most.
const TOLERANCES: usize = 24;

/// The supports of a code. `cyclic-mds` counts as decoding from M − s rows and more only: some smaller sets
/// decode too, so that what it recovers is a lower bound.
#[derive(Debug)]
pub struct Outline {
    kind: CodeKind,
    support: Vec<Vec<usize>>,
    holders: Vec<Vec<usize>>,
    repeats: u32,
}

impl Outline {
    /// Of a family that exists for M = `clients` and s = `stragglers`; of [`CodeKind::Auto`] the first in the
    /// order in which it prefers equally good ones.
    #[must_use]
    pub fn of(family: CodeKind, clients: usize, stragglers: usize) -> Self {
        let exists = |kind: &CodeKind| kind.exists(clients, stragglers);
        let kind = match family {
            CodeKind::Auto => CodeKind::FAMILIES.into_iter().find(exists).unwrap_or(CodeKind::CyclicRandom),
            named => named,
        };
        let size = stragglers + 1;
        let of_row = |m: usize| -> Vec<usize> {
            if kind == CodeKind::FractionalRepetition {
                return (m / size * size..(m / size + 1) * size).collect();
            }
            let mut row: Vec<usize> = (m..m + size).map(|k| k % clients).collect();
            row.sort_unstable();
            row
        };
        let support: Vec<Vec<usize>> = (0..clients).map(of_row).collect();
        let mut holders = vec![Vec::with_capacity(size); clients];
        for (row, of_row) in support.iter().enumerate() {
            of_row.iter().for_each(|&k| holders[k].push(row));
        }
        Self { kind, support, holders, repeats: 1 }
    }

    /// The same with shares and sums sent so many times in an attempt.
    #[must_use]
    pub fn repeated(self, repeats: u32) -> Self {
        Self { repeats, ..self }
    }
}

impl Code for Outline {
    fn kind(&self) -> CodeKind {
        self.kind
    }

    fn clients(&self) -> usize {
        self.support.len()
    }

    fn stragglers(&self) -> usize {
        self.support.first().map_or(0, |row| row.len() - 1)
    }

    fn support(&self, row: usize) -> &[usize] {
        &self.support[row]
    }

    fn holders(&self, k: usize) -> &[usize] {
        &self.holders[k]
    }

    fn decodes(&self, rows: &[usize]) -> bool {
        if self.kind == CodeKind::FractionalRepetition {
            let size = self.stragglers() + 1;
            let mut arrived = vec![false; self.clients() / size];
            rows.iter().for_each(|row| arrived[row / size] = true);
            return arrived.iter().all(|arrived| *arrived);
        }
        rows.len() >= self.clients() - self.stragglers()
    }

    fn is_outlined(&self) -> bool {
        true
    }

    fn repeats(&self) -> u32 {
        self.repeats
    }

    /// Nothing is known of it without numbers.
    fn amplification(&self, _: usize, _: Seed) -> f64 {
        f64::NAN
    }
}

/// The tolerances s < `clients` that are looked at when none is named: those for which the family exists,
/// among more than [`SOLVED_CLIENTS`] some of them at equal ratios of s + 1.
#[must_use]
pub fn tolerances(family: CodeKind, clients: usize) -> Vec<usize> {
    let all: Vec<usize> = (0..clients).filter(|&s| family.exists(clients, s)).collect();
    if clients <= SOLVED_CLIENTS || all.len() <= TOLERANCES {
        return all;
    }
    let ratio = (clients as f64).powf(1.0 / (TOLERANCES - 1) as f64);
    let wanted = (0..TOLERANCES as i32).map(|i| ratio.powi(i) - 1.0);
    let nearest = |want: f64| {
        let distance = |s: usize| (s as f64 - want).abs();
        all.iter().copied().min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
    };
    let mut some: Vec<usize> = wanted.filter_map(nearest).collect();
    some.dedup();
    some
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::GradientCode;

    #[test]
    fn an_outline_has_the_supports_of_its_code() {
        for (kind, clients, stragglers) in [
            (CodeKind::FractionalRepetition, 12, 3),
            (CodeKind::CyclicMds, 12, 5),
            (CodeKind::CyclicRandom, 11, 2),
            (CodeKind::CyclicRandom, 5, 4),
            (CodeKind::CyclicMds, 7, 0),
        ] {
            let (code, outline) = (
                GradientCode::build(kind, clients, stragglers, Seed::new(1)).unwrap(),
                Outline::of(kind, clients, stragglers),
            );
            assert_eq!(
                (outline.kind(), outline.clients(), outline.stragglers()),
                (kind, clients, stragglers)
            );
            for m in 0..clients {
                assert_eq!((code.support(m), code.holders(m)), (outline.support(m), outline.holders(m)));
            }
            // Where it says that rows decode, they do.
            for set in 0_u32..1 << clients {
                let rows: Vec<usize> = (0..clients).filter(|m| set >> m & 1 == 1).collect();
                assert!(!outline.decodes(&rows) || code.decodes(&rows), "{kind:?} {rows:?}");
            }
        }
        assert_eq!(Outline::of(CodeKind::Auto, 100, 3).kind(), CodeKind::FractionalRepetition);
        assert_eq!(Outline::of(CodeKind::Auto, 100, 7).kind(), CodeKind::CyclicMds);
        assert_eq!(Outline::of(CodeKind::Auto, 100, 6).kind(), CodeKind::CyclicRandom);
    }

    #[test]
    fn few_tolerances_of_many_and_all_of_few() {
        assert_eq!(tolerances(CodeKind::Auto, 10), (0..10).collect::<Vec<_>>());
        assert_eq!(tolerances(CodeKind::FractionalRepetition, 100), [0, 1, 3, 4, 9, 19, 24, 49, 99]);
        for (family, clients) in [(CodeKind::Auto, 1000), (CodeKind::CyclicMds, 1000), (CodeKind::Auto, 33)] {
            let some = tolerances(family, clients);
            assert!(some.len() <= TOLERANCES && some.len() > 12, "{some:?}");
            assert!(some[0] == 0 && some.last() == Some(&(clients - 1)), "{some:?}");
            assert!(some.windows(2).all(|two| two[0] < two[1]), "{some:?}");
            assert!(some.iter().all(|&s| family.exists(clients, s)), "{some:?}");
        }
    }
}
