//! The scheme of a cohort, for every size that one may have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::algebra::grid::Public;
use crate::error::Result;
use crate::protocol::{Aggregator, ProtocolConfig};
use crate::seed::Seed;

/// A protocol for cohorts of every size.
pub struct Schemes {
    /// What makes more; `None` where there is but one.
    protocol: Option<ProtocolConfig>,
    seed: Seed,
    public: Public,
    built: Mutex<BTreeMap<usize, Option<Arc<dyn Aggregator>>>>,
}

impl Schemes {
    /// Builds the scheme for the largest cohort, `clients`; others follow when they are met. Clients add the
    /// noise that is `public`.
    ///
    /// # Errors
    /// Parameters that break a rule of the protocol, by their key in a configuration; a scheme whose clients
    /// cannot add the noise.
    pub fn new(
        protocol: &ProtocolConfig,
        clients: usize,
        seed: Seed,
        public: Public,
    ) -> Result<(Self, Arc<dyn Aggregator>)> {
        let full: Arc<dyn Aggregator> = build(protocol, clients, seed, &public)?.into();
        let built = Mutex::new(BTreeMap::from([(clients, Some(Arc::clone(&full)))]));
        Ok((Self { protocol: Some(protocol.clone()), seed, public, built }, full))
    }

    /// One scheme, for `clients` clients and no other number.
    #[must_use]
    pub fn only(clients: usize, scheme: Arc<dyn Aggregator>) -> Self {
        let built = Mutex::new(BTreeMap::from([(clients, Some(scheme))]));
        Self { protocol: None, seed: Seed::new(0), public: Public::default(), built }
    }

    /// The scheme for `clients` clients; `None` if the protocol has none of that size.
    #[must_use]
    pub fn of(&self, clients: usize) -> Option<Arc<dyn Aggregator>> {
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        built
            .entry(clients)
            .or_insert_with(|| {
                let protocol = self.protocol.as_ref()?;
                match build(&protocol.fitted(clients), clients, self.seed, &self.public) {
                    Ok(scheme) => Some(scheme.into()),
                    Err(error) => {
                        tracing::warn!("no scheme for a cohort of {clients}: {error}");
                        None
                    }
                }
            })
            .clone()
    }
}

/// A scheme whose clients add the noise that is `public`.
fn build(
    protocol: &ProtocolConfig,
    clients: usize,
    seed: Seed,
    public: &Public,
) -> Result<Box<dyn Aggregator>> {
    let mut scheme = protocol.build_for(clients, seed, public).map_err(|error| error.within("protocol"))?;
    if let Some(noise) = &public.noise {
        scheme.add_noise(noise)?;
    }
    Ok(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::CodeKind;
    use crate::protocol::cogc::SecCoGcConfig;

    #[test]
    fn smaller_cohorts_get_a_code_that_exists() {
        let config =
            SecCoGcConfig { stragglers: 7.into(), code: CodeKind::CyclicMds, ..SecCoGcConfig::default() };
        let protocol = ProtocolConfig::SecCoGc(config);
        let (schemes, full) = Schemes::new(&protocol, 10, Seed::new(1), Public::default()).unwrap();
        assert_eq!(full.code().unwrap().stragglers(), 7);
        for clients in 3..10 {
            let scheme = schemes.of(clients).unwrap();
            let code = scheme.code().unwrap();
            assert_eq!((code.clients(), code.stragglers()), (clients, 7.min(clients - 2)));
        }
        assert!(schemes.of(1).is_none(), "zero-sum keys need two");
    }
}
