//! A round of shares and sums in steps from bytes to bytes.
//!
//! | step | who | from | to |
//! |---|---|---|---|
//! | [`Exchange::shares`] | a client | its update and secrets | sealed shares, one for each client that adds them up |
//! | [`Exchange::sum`] | a client | the same, and the sealed shares that came | the sum for the server |
//! | [`Decoder`] | the server | the sums that came | the sum over all, or an outage |
//!
//! A client's steps are made anew from what it stores between them, a [`KeyPair`] and an update, and with
//! these send the same bytes. Whoever carries them learns their sizes, and the masked sums.
//!
//! [`KeyPair`]: super::agreement::KeyPair

use super::agreement::Secrets;
use super::seat::{Scheme, Seat, public_of, scheme_of};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::message::{Phase, Role};
use crate::parallel;
use crate::precision;
use crate::protocol::{Decoded, PartyId, Update};

/// A round of a scheme with two phases, shares and sums, as everybody in it sees it.
pub struct Exchange {
    scheme: Box<dyn Scheme>,
    round: u64,
    len: usize,
    tolerance: f64,
}

/// What a client has for the server.
#[derive(Debug)]
pub struct Summed {
    /// Its sum as bytes; `None` where shares are missing without which it sends nothing.
    pub sum: Option<Vec<u8>>,
    /// From whom a share was refused, and the rule that it breaks.
    pub refused: Vec<(u16, String)>,
}

impl Exchange {
    /// The round `round` of a cohort with these weights n_k M/N, in the order in which its clients are
    /// numbered, whose updates have `len` coordinates. Of the configuration count `protocol`, `clients`,
    /// `seed`, `outage.recovery_tolerance`, `deploy.largest` and the solver's clip.
    ///
    /// # Errors
    /// A cohort larger than `clients`, weights that are not positive numbers, a scheme that has no cohort of
    /// this size, whose parties cannot be apart, or that sends more than shares and sums.
    pub fn new(config: &Config, weights: &[f64], len: usize, round: u64) -> Result<Self> {
        let members = weights.len();
        if members > config.clients {
            let rule = format!("{} is too small for a cohort of {members}", config.clients);
            return Err(Error::config("clients", rule));
        }
        if let Some(weight) = weights.iter().find(|weight| !(**weight > 0.0 && weight.is_finite())) {
            return Err(Error::Refused(format!("a client of weight {weight}; weights are positive numbers")));
        }
        let public = public_of(config, weights, len);
        let scheme = scheme_of(config, members, &public)?;
        let roles = |phase: &Phase| (phase.from, phase.to);
        if !scheme.phases().iter().map(roles).eq([(Role::Client, Role::Client), (Role::Client, Role::Server)])
        {
            let rule = "its server speaks to its clients, and here they send shares and sums only; take \
                        sec-cogc with keys = \"pairwise\"";
            return Err(Error::config("protocol.kind", rule));
        }
        Ok(Self { scheme, round, len, tolerance: public.tolerance })
    }

    /// The clients from whom client `own` should get shares, ascending.
    #[must_use]
    pub fn sources(&self, own: u16) -> Vec<u16> {
        self.scheme.sources(0, own)
    }

    /// The sealed shares of client `own`, each with its receiver.
    ///
    /// # Errors
    /// An update of another length.
    pub fn shares(&self, own: u16, update: &Update, secrets: &Secrets) -> Result<Vec<(u16, Vec<u8>)>> {
        let letters = self.client(own, update, secrets)?.step();
        let sealed = parallel::map(letters, |letter| match letter.to {
            PartyId::Client(to) => secrets.seal(to, 0, &letter.bytes).map(|sealed| (to, sealed)),
            PartyId::Server | PartyId::Helper(_) => None,
        });
        Ok(sealed.into_iter().flatten().collect())
    }

    /// The sum of client `own` from the sealed shares that `arrived`, each with its sender.
    ///
    /// # Errors
    /// An update of another length.
    pub fn sum<'a>(
        &self,
        own: u16,
        update: &Update,
        secrets: &Secrets,
        arrived: impl IntoIterator<Item = (u16, &'a [u8])>,
    ) -> Result<Summed> {
        let mut seat = self.client(own, update, secrets)?;
        seat.step();
        let mut refused = Vec::new();
        for (from, sealed) in arrived {
            let taken = match secrets.open(from, 0, sealed) {
                Some(bytes) => seat.admit(PartyId::Client(from), &bytes),
                None => Err("a share that was not sealed by this client for us, or was changed".into()),
            };
            refused.extend(taken.err().map(|rule| (from, rule)));
        }
        let sum = seat.step().into_iter().next().map(|letter| letter.bytes);
        Ok(Summed { sum, refused })
    }

    /// The server's part.
    #[must_use]
    pub fn decoder(&self) -> Decoder {
        let mut seat = self.scheme.server(self.round, self.len);
        self.scheme.phases().iter().for_each(|_| drop(seat.step()));
        Decoder { seat, tolerance: self.tolerance }
    }

    fn client(&self, own: u16, update: &Update, secrets: &Secrets) -> Result<Box<dyn Seat>> {
        if update.delta.len() != self.len {
            let (got, want) = (update.delta.len(), self.len);
            return Err(Error::Refused(format!("an update of {got} coordinates instead of {want}")));
        }
        self.scheme.client(own, self.round, update, secrets)
    }
}

/// The server in a round.
pub struct Decoder {
    seat: Box<dyn Seat>,
    tolerance: f64,
}

impl Decoder {
    /// Takes the sum of client `from`.
    ///
    /// # Errors
    /// The broken rule, as [`Seat::admit`].
    pub fn admit(&mut self, from: u16, sum: &[u8]) -> Result<(), String> {
        self.seat.admit(PartyId::Client(from), sum)
    }

    /// The sum over all clients that it includes, or an outage.
    #[must_use]
    pub fn decode(mut self) -> Decoded<f64> {
        self.seat.step();
        precision::checked(self.seat.decoded().unwrap_or(Decoded::lost()), self.tolerance)
    }
}

#[cfg(test)]
mod tests;
