//! The server of cooperative gradient coding.

use std::sync::Arc;

use super::CoGcMessage;
use super::stack::{Codes, Stack, row_of};
use crate::algebra::Symbol;
use crate::coding::{Code, Coefficient, GradientCode};
use crate::precision::{Sizes, Weighted};
use crate::protocol::{Decoded, Envelope, PartyId};

/// The server's state.
pub struct Server<S: Symbol> {
    pub(super) codes: Arc<Codes<S::Scalar>>,
    /// d.
    pub(super) len: usize,
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

    /// The result of an attempt with `code`, from what arrived in it and, with `gc-plus`, before.
    pub(super) fn decode<'a>(
        &mut self,
        code: &GradientCode<S::Scalar>,
        inbox: &'a [Envelope<CoGcMessage<S>>],
    ) -> Decoded<S> {
        let mut complete: Vec<(usize, &'a [S])> = Vec::with_capacity(inbox.len());
        for envelope in inbox {
            let PartyId::Client(from) = envelope.from else { continue };
            let from = usize::from(from);
            match (&envelope.body, &mut self.stack) {
                (CoGcMessage::Sum(sum), _) => complete.push((from, sum)),
                (CoGcMessage::Partial { held, sum }, Some(stack)) => {
                    stack.push(row_of(code, from, held), Arc::clone(sum));
                    if !held.contains(&false) {
                        complete.push((from, sum));
                    }
                }
                _ => {}
            }
        }
        complete.sort_by_key(|(m, _)| *m);
        let rows: Vec<usize> = complete.iter().map(|(m, _)| *m).collect();
        let terms = if let Some(weights) = code.decode(&rows) {
            // First, also for gc-plus: what the standard decoder recovers, gc-plus recovers.
            let terms = weights.into_iter().zip(&complete);
            Some(terms.map(|(weight, &(m, sum))| Weighted::of(code, m, weight, sum)).collect())
        } else {
            self.stack.as_ref().and_then(Stack::decode)
        };
        let included = (0..code.clients() as u16).collect();
        terms.map_or(Decoded::lost(), |terms: Vec<Weighted<'_, S>>| {
            let addends: Vec<_> = terms.iter().map(|term| (term.weight, term.sum)).collect();
            let mut sum = S::combine(self.len, &addends);
            let error = self.sizes.settle(&mut sum, &terms);
            Decoded::Sum { sum, included, error }
        })
    }
}
