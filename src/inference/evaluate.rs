//! How good a model is: on test data as a whole and by class, and on what every client holds.

use std::path::Path;

use super::{TrainedModel, csv_of};
use crate::data::{Dataset, Examples};
use crate::error::Result;
use crate::learn::{predicted, score};

/// What a group of examples is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All test examples.
    Test,
    /// The test examples of a class.
    Class,
    /// The examples that a client trains on.
    Client,
    /// The examples that a client keeps out of its training (`evaluation.client_share`).
    HeldOut,
}

impl Part {
    /// As tables call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Class => "class",
            Self::Client => "client",
            Self::HeldOut => "held-out",
        }
    }
}

/// A model on a group of examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What the examples are.
    pub part: Part,
    /// The class, or the client from 1; "all" for [`Part::Test`].
    pub name: String,
    /// Their number.
    pub examples: usize,
    /// Mean cross-entropy in nats; NaN without examples.
    pub loss: f64,
    /// Share of them that is classified rightly; NaN without examples.
    pub accuracy: f64,
    /// How many are taken for each class: for the groups of classes, the confusion matrix.
    pub predicted: Vec<usize>,
}

/// A model on its test data and its clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// The classes in the order of [`Group::predicted`].
    pub classes: Vec<String>,
    /// All test examples, those of each class, and what each client holds.
    pub groups: Vec<Group>,
}

impl Evaluated {
    /// The groups of one kind.
    pub fn of(&self, part: Part) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(move |group| group.part == part)
    }

    /// As CSV, one group a line: `of,name,examples,loss,accuracy`, then how many examples are `predicted
    /// CLASS`.
    ///
    /// # Errors
    /// None but a defect.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let columns = self.classes.iter().map(|class| format!("predicted {class}"));
        let header = ["of", "name", "examples", "loss", "accuracy"].map(str::to_owned);
        let line = |group: &Group| {
            let Group { part, name, examples, loss, accuracy, predicted } = group;
            let own = [part.as_str().into(), name.clone(), examples.to_string()];
            let own = own.into_iter().chain([loss.to_string(), accuracy.to_string()]);
            own.chain(predicted.iter().map(usize::to_string)).collect()
        };
        let header = header.into_iter().chain(columns).collect();
        csv_of(std::iter::once(header).chain(self.groups.iter().map(line)))
    }
}

impl TrainedModel {
    /// Measures the model on the run's test examples and on every client's examples; or only on labelled
    /// examples in another file or folder.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another form.
    pub fn evaluate(&self, data: Option<&Path>) -> Result<Evaluated> {
        let Dataset { train, test, class_names, .. } = self.dataset();
        let (setting, classes) = (&self.setting, class_names.clone());
        let read = |path| setting.config().data.labelled(path, &classes, train.shape());
        let own = data.map(read).transpose()?;
        let test = own.as_ref().unwrap_or(test);
        let logits = self.logits(test);
        let mut groups = vec![group((Part::Test, "all".into()), &logits, test.labels(), classes.len())];
        for (class, name) in classes.iter().enumerate() {
            let own = |label: &u16| usize::from(*label) == class;
            let rows = logits.chunks_exact(classes.len()).zip(test.labels()).filter(|(_, label)| own(label));
            let rows: Vec<f32> = rows.flat_map(|(row, _)| row).copied().collect();
            let labels: Vec<u16> = test.labels().iter().copied().filter(own).collect();
            groups.push(group((Part::Class, name.clone()), &rows, &labels, classes.len()));
        }
        if own.is_none() {
            let holdings = setting.holdings();
            let mut of_client = |part, k: usize, own: &Examples| {
                groups.push(group(
                    (part, (k + 1).to_string()),
                    &self.logits(own),
                    own.labels(),
                    classes.len(),
                ));
            };
            for k in 0..holdings.clients() {
                of_client(Part::Client, k, &setting.own(k)?.subset());
            }
            for k in (0..holdings.clients()).filter(|_| holdings.are_tested()) {
                of_client(Part::HeldOut, k, &holdings.held_out(self.dataset(), k)?);
            }
        }
        Ok(Evaluated { classes, groups })
    }

    fn logits(&self, examples: &Examples) -> Vec<f32> {
        self.setting.learner().logits(&self.parameters, examples)
    }
}

fn group((part, name): (Part, String), logits: &[f32], labels: &[u16], classes: usize) -> Group {
    let (loss, hits) = score(logits, labels.iter().map(|label| usize::from(*label)));
    let mut counts = vec![0; classes];
    for class in logits.chunks_exact(classes).filter_map(predicted) {
        counts[class] += 1;
    }
    let count = labels.len() as f64;
    let (loss, accuracy) = (loss / count, hits as f64 / count);
    Group { part, name, examples: labels.len(), loss, accuracy, predicted: counts }
}
