use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

use super::{Availability, AvailabilityLaw, Draws, check};
use crate::error::Result;
use crate::seed::Seed;

/// Sessions of which each is looked at to see whether a client stays: whoever does so for longer stays.
const SESSIONS: u64 = 1_000_000;

/// Clients that are there by day or by night, each by a clock of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Diurnal {
    /// Share of its time that a client is there, greater than 0, at most 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub mean: f64,
    /// How far the probability that it is there swings about `mean`, from 0 up to where it would leave
    /// \[0, 1\].
    #[schemars(range(min = 0.0, max = 0.5))]
    pub amplitude: f64,
    /// Seconds of a day, greater than 0.
    #[schemars(range(min = 0.0))]
    pub period: f64,
    /// Seconds of a session, greater than 0, at most `period`: whether a client is there is drawn at the
    /// beginning of each, anew.
    #[schemars(range(min = 0.0))]
    pub session: f64,
}

impl Default for Diurnal {
    fn default() -> Self {
        Self { mean: 0.5, amplitude: 0.4, period: 86_400.0, session: 1800.0 }
    }
}

impl AvailabilityLaw for Diurnal {
    fn build(&self, _: usize, seed: Seed) -> Result<Box<dyn Availability>> {
        let Self { mean, amplitude, period, session } = *self;
        check("mean", mean, "(0, 1]", mean > 0.0 && mean <= 1.0)?;
        // As exact as the sum of two decimal numbers.
        let most = (mean.min(1.0 - mean) * 1e12).round() / 1e12;
        let bounds = format!("[0, {most}], by which probabilities stay in [0, 1]");
        check("amplitude", amplitude, &bounds, (0.0..=most).contains(&amplitude))?;
        check("period", period, "(0, ∞)", period > 0.0)?;
        check("session", session, &format!("(0, {period} (`period`)]"), session > 0.0 && session <= period)?;
        let draws = |name| Draws::new(seed, name);
        Ok(Box::new(Model { law: self.clone(), phases: draws("phases"), sessions: draws("sessions") }))
    }
}

struct Model {
    law: Diurnal,
    phases: Draws,
    sessions: Draws,
}

impl Model {
    fn session(&self, time: f64) -> u64 {
        (time / self.law.session) as u64
    }

    fn is_in(&self, client: u32, session: u64) -> bool {
        let Diurnal { mean, amplitude, period, session: seconds } = self.law;
        let days = session as f64 * seconds / period + self.phases.uniform(client, 0);
        self.sessions.uniform(client, session) < mean + amplitude * (TAU * days.fract()).sin()
    }
}

impl Availability for Model {
    fn is_there(&self, client: u32, time: f64) -> bool {
        self.is_in(client, self.session(time))
    }

    fn stays(&self, client: u32, from: f64, to: f64) -> bool {
        let (first, last) = (self.session(from), self.session(to));
        (first..last).take(SESSIONS as usize).all(|session| self.is_in(client, session + 1))
    }
}
