//! The server of cooperative gradient coding.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::CoGcMessage;
use super::stack::{Codes, Stack, row_of};
use crate::algebra::Symbol;
use crate::coding::{Code, Coefficient, GradientCode};
use crate::precision::{Sizes, Weighted};
use crate::protocol::{Decoded, Envelope, PartyId, Reason};

/// The server's state.
pub struct Server<S: Symbol> {
    pub(super) codes: Arc<Codes<S::Scalar>>,
    /// d.
    pub(super) len: usize,
    /// Fewest clients in a sum.
    pub(super) least: usize,
    /// The complete sums of this attempt, by row; with `gc-plus` of this repeat.
    pub(super) complete: BTreeMap<usize, Arc<Vec<S>>>,
    /// What these decode to.
    pub(super) standard: Option<Decoded<S>>,
    /// What `gc-plus` decodes from.
    pub(super) stack: Option<Stack<S>>,
    /// What it knows of the sizes of masked inputs.
    pub(super) sizes: Sizes,
    pub(super) decoded: Option<Decoded<S>>,
}

impl<S: Symbol<Scalar: Coefficient>> Server<S> {
    pub(super) fn refusal(&self, message: &Envelope<CoGcMessage<S>>) -> Option<String> {
        let (sum, held) = match (message.from, &message.body, &self.stack) {
            (PartyId::Client(_), CoGcMessage::Sum(sum), None) => (sum, None),
            (PartyId::Client(k), CoGcMessage::Partial { held, sum }, Some(_)) => (sum, Some((k, held.len()))),
            _ => return Some("the server receives sums of its decoder's kind from clients only".into()),
        };
        if let Some((k, got)) = held {
            let want = self.codes.first().support(k.into()).len();
            if got != want {
                return Some(format!("the list of shares has {got} entries instead of {want}"));
            }
        }
        let (got, want) = (sum.len(), self.len);
        (got != want).then(|| format!("the sum has {got} symbols instead of {want}"))
    }

    /// Takes the sums of one repeat, sent with `code`. Those of another decoder's kind never come here.
    pub(super) fn take(&mut self, code: &GradientCode<S::Scalar>, inbox: &[Envelope<CoGcMessage<S>>]) {
        for envelope in inbox {
            let PartyId::Client(from) = envelope.from else { continue };
            let from = usize::from(from);
            match (&envelope.body, &mut self.stack) {
                (CoGcMessage::Sum(sum), _) => drop(self.complete.insert(from, Arc::clone(sum))),
                (CoGcMessage::Partial { held, sum }, Some(stack)) => {
                    stack.push(row_of(code, from, held), Arc::clone(sum));
                    if !held.contains(&false) {
                        self.complete.insert(from, Arc::clone(sum));
                    }
                }
                _ => {}
            }
        }
        let rows: Vec<usize> = self.complete.keys().copied().collect();
        // First, also for gc-plus: what the standard decoder recovers, gc-plus recovers.
        if self.standard.is_none()
            && let Some(weights) = code.decode(&rows)
        {
            let terms = weights.into_iter().zip(&self.complete);
            let terms: Vec<_> = terms.map(|(weight, (&m, sum))| Weighted::of(code, m, weight, sum)).collect();
            self.standard = Some(self.combined(&terms, (0..code.clients() as u16).collect()));
        }
        // Other repeats have other codes.
        if self.stack.is_some() {
            self.complete.clear();
        }
    }

    /// The result of an attempt, from what was taken in it and, with `gc-plus`, before.
    pub(super) fn decode(&mut self) -> Decoded<S> {
        self.complete.clear();
        if let Some(standard) = self.standard.take() {
            return standard;
        }
        match self.stack.as_ref().and_then(Stack::decode) {
            None => Decoded::lost(),
            Some((_, included)) if included.len() < self.least => Decoded::Outage(Reason::TooFew),
            Some((terms, included)) => self.combined(&terms, included),
        }
    }

    fn combined(&self, terms: &[Weighted<'_, S>], included: Vec<u16>) -> Decoded<S> {
        let addends: Vec<_> = terms.iter().map(|term| (term.weight, term.sum)).collect();
        let mut sum = S::combine(self.len, &addends);
        let error = self.sizes.settle(&mut sum, terms, &included);
        Decoded::Sum { sum, included, error }
    }
}
