//! Group keys without a dealer.
//!
//! Once, before the first round, every client advertises an X25519 key. Then, over channels encrypted as
//! those of Bonawitz et al. (CCS 2017, step ShareKeys), every member of a group sends 256 random bits to
//! every other member, and the group's secret is HKDF of all contributions in the order of the members: no
//! member decides it, and whoever knows all but one contribution knows nothing. Keys of a round are expanded
//! from it with HKDF and ChaCha20.

use std::fmt;

use crate::crypto::{self, KEY_BYTES, KeyPair, Secret, TAG_BYTES, context};
use crate::parallel;
use crate::seed::Seed;
use rand::Rng;

/// What the groups agreed on.
#[derive(Clone)]
pub struct Agreement {
    /// One secret a group.
    pub secrets: Vec<Secret>,
    /// Bytes of all message bodies: public keys to and from the server, and contributions.
    pub bytes: u64,
}

impl fmt::Debug for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agreement").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

fn random(seed: Seed) -> Secret {
    let mut bytes = [0; KEY_BYTES];
    seed.rng().fill_bytes(&mut bytes);
    Secret::new(bytes)
}

impl Agreement {
    /// Carries out the agreement among `clients` clients whose randomness comes from `seed`.
    ///
    /// # Panics
    /// If a channel does not open what was sealed for it.
    #[must_use]
    pub fn of(clients: usize, groups: &[Vec<u16>], seed: Seed) -> Self {
        let pairs: Vec<KeyPair> =
            (0..clients as u64).map(|k| KeyPair::new(&random(seed.child("agreement", k)))).collect();
        let channel = |me: u16, other: u16| {
            let public = pairs[usize::from(other)].public();
            let key =
                pairs[usize::from(me)].agree(&public, &context("group", 0, me.min(other), me.max(other)));
            key.expect("the keys of this session have no small order")
        };
        let channels: Vec<Vec<Option<Secret>>> = parallel::map(0..clients as u16, |me| {
            (0..clients as u16).map(|other| (other != me).then(|| channel(me, other))).collect()
        });
        let secret = |(v, group): (usize, &Vec<u16>)| {
            // What the first member computes; the channels are symmetric, so that all compute the same.
            let receiver = group[0];
            let mut material = Vec::with_capacity(KEY_BYTES * group.len());
            for &k in group {
                let contribution = random(seed.child("contribution", (v as u64) << 16 | u64::from(k)));
                let key = |me: u16, other: u16| {
                    let channel = channels[usize::from(me)][usize::from(other)].as_ref()?;
                    Some(channel.derive(&context("contribution", v as u64, k, receiver)))
                };
                let opened = match key(k, receiver).zip(key(receiver, k)) {
                    None => contribution.bytes().to_vec(),
                    Some((sealing, opening)) => {
                        let sealed = crypto::seal(&sealing, contribution.bytes());
                        crypto::open(&opening, &sealed).expect("sealed under the same key")
                    }
                };
                material.extend(opened);
            }
            Secret::extract(&material, &context("group key", v as u64, 0, 0))
        };
        let secrets = parallel::map(groups.iter().enumerate(), secret);
        let advertised = clients * KEY_BYTES * clients;
        let contributed: usize =
            groups.iter().map(|group| group.len() * (group.len() - 1) * (KEY_BYTES + TAG_BYTES)).sum();
        Self { secrets, bytes: (advertised + contributed) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_secrets_of_their_own() {
        let groups = vec![vec![0, 1, 2], vec![0, 1, 3], vec![1, 2, 3]];
        let agreed = Agreement::of(4, &groups, Seed::new(1));
        let again = Agreement::of(4, &groups, Seed::new(1));
        for (i, secret) in agreed.secrets.iter().enumerate() {
            assert!(*secret == again.secrets[i] && agreed.secrets[..i].iter().all(|other| other != secret));
        }
        assert!(Agreement::of(4, &groups, Seed::new(2)).secrets[0] != agreed.secrets[0]);
        // Four keys to the server and three back to each, and per group 3 · 2 contributions of 48 bytes.
        assert_eq!(agreed.bytes, 4 * 32 + 4 * 3 * 32 + 3 * 6 * 48);
    }
}
