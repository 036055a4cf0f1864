//! Defects of a scheme that its own messages give away, each under its name.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::Formal;
use super::rank::Determined;
use super::view::{Coalition, View};
use crate::algebra::{LinearForm, Unknown};
use crate::message::{Decoded, PartyId, Views};

/// A coefficient counts as remaining above this fraction of the largest one of its kind in the round's
/// messages.
const REMAINS: f64 = 1e-9;

/// What can be wrong with the keys or the decoding of a scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Defect {
    /// The same key draw masks the updates of two rounds: their difference is seen without a key.
    ReusedKey,
    /// The sum over all clients keeps keys: the server's result is noisy.
    KeysNotZeroSum,
    /// A link key reaches the server: it cancels within a complete sum only.
    LinkKeyUncancelled,
    /// Every attempt shows the server one sum, but not the same: one draw of keys served two decodings with
    /// different sets.
    TwoDecodings,
    /// The server determines a combination of updates that is not the sum, however strong the keys are.
    BeyondSum,
    /// The decoded sum does not hold every included update once and no other.
    WrongSum,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReusedKey => "a reused key",
            Self::KeysNotZeroSum => "keys that are not zero-sum",
            Self::LinkKeyUncancelled => "a link key that does not cancel",
            Self::TwoDecodings => "two decodings from one key draw",
            Self::BeyondSum => "more than the sum",
            Self::WrongSum => "a wrong sum",
        })
    }
}

/// A defect with its evidence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Its name.
    pub defect: Defect,
    /// The evidence in one line.
    pub evidence: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.defect, self.evidence)
    }
}

/// Examines one round of any scheme.
#[must_use]
pub fn of_formal(formal: &Formal) -> Vec<Finding> {
    match formal {
        Formal::Real(views) => of_round(views),
        Formal::Field(views) => views.findings(),
    }
}

/// Examines one round of which [`Formal::is_within`] another, examined one: what it decodes is its own.
#[must_use]
pub fn of_sum(formal: &Formal) -> Vec<Finding> {
    match formal {
        Formal::Real(views) => decoded(views).into_iter().collect(),
        Formal::Field(views) => views.findings_of_sum(),
    }
}

/// Examines one round.
#[must_use]
pub fn of_round(views: &Views) -> Vec<Finding> {
    [link_key(views), decoded(views), server(views)].into_iter().flatten().collect()
}

/// Examines two rounds whose keys must have nothing in common.
#[must_use]
pub fn of_rounds(first: &Formal, second: &Formal) -> Option<Finding> {
    let keys = |formal: &Formal| -> BTreeSet<Unknown> {
        match formal {
            Formal::Field(views) => views.keys(),
            Formal::Real(views) => {
                let forms = views.messages.iter().flat_map(|message| &message.forms);
                let unknowns = forms.flat_map(LinearForm::terms).map(|(unknown, _)| unknown);
                unknowns.filter(is_key).collect()
            }
        }
    };
    let shared = keys(first).intersection(&keys(second)).next().copied()?;
    let round = |formal: &Formal| formal.links().first().map_or(0, |(link, _)| link.round);
    let evidence = format!("{shared} is used in rounds {} and {}", round(first), round(second));
    Some(Finding { defect: Defect::ReusedKey, evidence })
}

/// The size below which a coefficient of an unknown of a kind is rounding: inputs, masks and link keys each
/// have their own scale.
pub(super) fn rounding(views: &Views, of: impl Fn(&Unknown) -> bool) -> f64 {
    let terms = views.messages.iter().flat_map(|message| &message.forms).flat_map(LinearForm::terms);
    REMAINS * terms.filter(|(unknown, _)| of(unknown)).map(|(_, c)| c.abs()).fold(0.0, f64::max)
}

/// Whether an unknown is a key draw.
pub(super) fn is_key(unknown: &Unknown) -> bool {
    matches!(unknown, Unknown::Key(..))
}

fn is_link_key(unknown: &Unknown) -> bool {
    matches!(unknown, Unknown::Key(key, _) if key.purpose == "link")
}

fn link_key(views: &Views) -> Option<Finding> {
    let least = rounding(views, is_link_key);
    let uploads = views.messages.iter().filter(|message| message.link.to == PartyId::Server);
    for message in uploads {
        let mut terms = message.forms.iter().flat_map(LinearForm::terms);
        let remains = terms.find(|(unknown, c)| is_link_key(unknown) && c.abs() > least);
        if let Some((unknown, _)) = remains {
            let evidence = format!("{unknown} remains in what {} sends to the server", message.link.from);
            return Some(Finding { defect: Defect::LinkKeyUncancelled, evidence });
        }
    }
    None
}

fn decoded(views: &Views) -> Option<Finding> {
    // An estimate promises no coefficients.
    let Decoded::Sum { sum, included, .. } = &views.decoded else { return None };
    let least = rounding(views, |unknown| !is_key(unknown)).max(REMAINS);
    let least_key = rounding(views, is_key);
    for form in sum {
        for k in 0..views.clients as u16 {
            let want = f64::from(u8::from(included.contains(&k)));
            let got = form.coefficient(Unknown::Input(k, 0));
            if (got - want).abs() > least {
                let evidence = format!("x{} is decoded {got:.4} times, not {want}", k + 1);
                return Some(Finding { defect: Defect::WrongSum, evidence });
            }
        }
        let key = form.terms().find(|(unknown, c)| is_key(unknown) && c.abs() > least_key);
        if let Some((unknown, c)) = key.filter(|_| included.len() == views.clients) {
            let evidence = format!("the sum over all clients keeps {c:.4} {unknown}");
            return Some(Finding { defect: Defect::KeysNotZeroSum, evidence });
        }
    }
    None
}

/// What a view determines; coefficients that are not finite are an error of the audit, not a defect of the
/// scheme.
fn determined(view: &View) -> Option<Determined> {
    Determined::of(view).ok()
}

fn server(views: &Views) -> Option<Finding> {
    let view = |views: &Views| View::of(views, Coalition::of([PartyId::Server]));
    let found = determined(&view(views))?.counterexample()?;
    // In the name of nobody no combination is allowed, not even the sum: each attempt may show one, and
    // always the same.
    let free = |views: &Views| {
        let nobody = View { coalition: Coalition::default(), ..view(views) };
        determined(&nobody).map_or(0, |determined| determined.combinations.len())
    };
    let attempts: BTreeSet<u32> = views.messages.iter().map(|message| message.link.attempt).collect();
    let alone = |attempt: &u32| {
        let messages = views.messages.iter().filter(|message| message.link.attempt == *attempt);
        free(&Views { messages: messages.cloned().collect(), ..views.clone() })
    };
    if attempts.len() > 1 && free(views) > 1 && attempts.iter().all(|attempt| alone(attempt) <= 1) {
        let evidence = format!("every attempt shows one sum, all together give the server {found}");
        return Some(Finding { defect: Defect::TwoDecodings, evidence });
    }
    Some(Finding { defect: Defect::BeyondSum, evidence: format!("the server determines {found}") })
}
