//! What goes with devices that come and go.

use super::Config;
use crate::devices::Devices;
use crate::error::{Error, Result};
use crate::seed::Seed;

impl Config {
    /// The devices of a run.
    ///
    /// # Errors
    /// See [`crate::devices::DevicesConfig::build`].
    pub fn devices(&self) -> Result<Devices> {
        let seed = Seed::new(self.seed).child("devices", 0);
        self.devices.build(self.clients, seed).map_err(|error| error.within("devices"))
    }

    /// Whether every client takes part in every round.
    #[must_use]
    pub fn is_everybody(&self) -> bool {
        self.cohort.is_everybody() && self.devices.are_there()
    }

    /// For what looks at given clients: that the same ones take part in every round.
    ///
    /// # Errors
    /// [`Error::Config`] at the key that says otherwise.
    pub fn is_the_same_in_every_round(&self) -> Result<()> {
        self.cohort.is_the_same_in_every_round()?;
        let rule = "who is there differs from round to round, so that only the worst case can be audited; take --erasures worst";
        self.are_there(rule)
    }

    /// For what looks at one cohort only: that none is drawn, and that it is there.
    ///
    /// # Errors
    /// [`Error::Config`] at the key that says otherwise.
    pub fn is_not_drawn(&self) -> Result<()> {
        self.cohort.is_not_drawn()?;
        self.are_there("only training asks who is there; take \"always\"")
    }

    fn are_there(&self, rule: &str) -> Result<()> {
        match self.devices.are_there() {
            true => Ok(()),
            false => Err(Error::config("devices.availability.kind", rule)),
        }
    }

    /// Checks what goes with clients that are not always there.
    pub(super) fn check_devices(&self) -> Result<()> {
        let refuse = |key: &str, rule: &str| Err(Error::config(key, rule));
        if self.cohort.over_select.is_some() && !self.devices.take_time() {
            let rule =
                "who computes fastest stays, and computing takes no time; give devices.compute, or remove it";
            return refuse("cohort.over_select", rule);
        }
        if self.cohort.buffered.is_some() {
            if !self.devices.take_time() {
                let rule = "who has computed first is in the round first, and computing takes no time; give devices.compute";
                return refuse("cohort.buffered", rule);
            }
            if self.network.server_client.is_some() {
                let rule = "a client takes the model when it begins to compute, in no round; remove it, or cohort.buffered";
                return refuse("network.server_client", rule);
            }
        }
        if self.devices.are_there() {
            return Ok(());
        }
        if self.cohort.rate.is_some() {
            let rule = "the sum is divided by the weight that is expected of all clients, and not all are there; take sample";
            return refuse("cohort.rate", rule);
        }
        if self.cohort.drop_after.is_some() {
            return refuse("cohort.drop_after", "who is not there is not waited for; remove it");
        }
        if self.outage.keeps_local_models() {
            let rule = "a client that is not there has nothing to carry on from; take \"skip\" or \"retry\"";
            return refuse("outage.policy", rule);
        }
        Ok(())
    }
}
