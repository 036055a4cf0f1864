//! A protocol of one's own: what arrives is divided by the number of all clients, an estimate that needs no
//! code.

use seccogc::algebra::Symbol;
use seccogc::config::Config;
use seccogc::keys::KeySource;
use seccogc::protocol::exchange::{Session, Setup};
use seccogc::protocol::uncoded::{Key, Role, Uncoded, Upload};
use seccogc::protocol::{Clock, Decoded, Envelope, Input, Party, PartyId, Phase, Protocol, Scheme};
use seccogc::record::Outcome;
use seccogc::seed::Seed;
use seccogc::train::Experiment;

struct FixedDivisor(Uncoded);

struct Fixed<S>(Role<S>);

impl<S: Symbol> Party<Upload<S>, S> for Fixed<S> {
    fn refusal(&self, message: &Envelope<Upload<S>>) -> Option<String> {
        self.0.refusal(message)
    }
    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<Upload<S>>>) -> Vec<Envelope<Upload<S>>> {
        self.0.step(clock, inbox)
    }
    fn decoded(&mut self) -> Option<Decoded<S>> {
        Some(match self.0.decoded()? {
            Decoded::Sum { sum, included, .. } => Decoded::Estimate { sum, included },
            other => other,
        })
    }
}

impl<S: Symbol> Protocol<S> for FixedDivisor {
    type Message = Upload<S>;
    type Key = Key<S>;
    type Party = Fixed<S>;
    fn parties(&self) -> Vec<PartyId> {
        Protocol::<S>::parties(&self.0)
    }
    fn phases(&self) -> Vec<Phase> {
        Protocol::<S>::phases(&self.0)
    }
    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Key<S>> {
        self.0.deal(round, len, source)
    }
    fn party(&self, id: PartyId, key: Key<S>, input: Option<&dyn Input<S>>) -> Fixed<S> {
        Fixed(self.0.party(id, key, input))
    }
}

pub fn main() -> seccogc::Result<()> {
    let setting = Experiment::new(Config { rounds: 3, ..Config::default() }).build()?;
    let uploads = Uncoded::new(10);
    let setup = Setup::new(10, Seed::new(1), Scheme::default());
    let scheme = Session { protocol: FixedDivisor(uploads), single: true, setup };
    for row in setting.run_of("fixed divisor", Box::new(scheme))?.rounds() {
        assert_eq!(row?.outcome, Outcome::Estimate);
    }
    Ok(())
}
