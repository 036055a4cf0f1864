//! Clients act on what the server says of who goes on only when it has said the same to enough of them.
//!
//! Bonawitz et al. 2017, figure 4, round 3 (ConsistencyCheck): a server that names different survivors to
//! different clients would be given both shares of one of them, or the masks of two sums. So whoever is told
//! a list ([`crate::message::Phase::is_list`]) signs it, the server hands the signatures on, and a client
//! goes on when it has those of [`quorum`] members of its roster, itself included, over the list that it was
//! told; otherwise the list counts as lost, and the client sends nothing more that depends on it.
//!
//! Of n members let m sign whatever the server likes; the others sign one list in a phase. Two lists with q
//! signatures each need 2(q − m) ≤ n − m members who do not, so that only one list can be acted on while
//! m < 2q − n. With q = ⌊2n/3⌋ + 1 that is so for m ≤ n/3, as in the paper, whose t is q here: how many
//! shares reveal a secret does not matter for it, as long as more than m are needed ([`tolerated`]).

use serde::{Deserialize, Serialize};

use super::message::{Hex, Signed, to_json};
use super::statement::{Authority, SIGNATURE, Signer, Topic};
use crate::error::Result;

/// Most bytes of a ballot: a signature in hexadecimal and three small numbers.
pub const BALLOT: usize = 2 * SIGNATURE + 128;

/// How many of so many members of a round must have been told the same: more than two thirds.
#[must_use]
pub fn quorum(members: usize) -> usize {
    2 * members / 3 + 1
}

/// How many of so many members may sign whatever the server likes, and still nobody acts on another list.
#[must_use]
pub fn tolerated(members: usize) -> usize {
    (2 * quorum(members)).saturating_sub(members + 1)
}

/// Who goes on in a round, as the server told the one who signs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// SHA-256 of the announcement of the round, which names run, round, cohort and keys.
    pub roster: Hex,
    /// The phase of the round's only attempt.
    pub phase: u8,
    /// The clients, by their places in the cohort, ascending.
    pub clients: Vec<u16>,
}

/// A signature under a [`Vote`] that its reader knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ballot {
    /// Who signs, by its place in the cohort.
    pub member: u16,
    /// The signature scheme, by its number in TLS.
    pub scheme: u16,
    /// The signature, hexadecimal.
    pub signature: String,
}

/// The members of a round, who vote.
pub struct Electorate {
    /// SHA-256 of the announcement of the round.
    pub roster: Hex,
    /// Name and certificates of each, PEM.
    pub members: Vec<(String, String)>,
}

impl Electorate {
    /// What is voted on.
    #[must_use]
    pub fn vote(&self, phase: usize, clients: &[u16]) -> Vote {
        Vote { roster: self.roster, phase: phase as u8, clients: clients.to_vec() }
    }

    /// The ballot of `member`.
    ///
    /// # Errors
    /// A key that cannot sign.
    pub fn cast(&self, signer: &Signer, member: u16, vote: &Vote) -> Result<Ballot> {
        let Signed { scheme, signature, .. } = signer.sign(Topic::Vote, vote)?;
        Ok(Ballot { member, scheme, signature })
    }

    /// Checks that a ballot is for this vote, of a member on the list.
    ///
    /// # Errors
    /// The broken rule.
    pub fn check(&self, authority: &Authority, vote: &Vote, ballot: &Ballot) -> Result<(), String> {
        let listed = vote.clients.binary_search(&ballot.member).is_ok();
        let member = self.members.get(usize::from(ballot.member)).filter(|_| listed);
        let (name, chain) = member.ok_or("a ballot of nobody on the list")?;
        let body = String::from_utf8(to_json(vote)).expect("JSON is text");
        let Ballot { scheme, ref signature, .. } = *ballot;
        let signed = Signed { body, chain: chain.clone(), scheme, signature: signature.clone() };
        match authority.verify::<Vote>(Topic::Vote, &signed)? {
            (signer, _) if signer == *name => Ok(()),
            (signer, _) => Err(format!("`{signer}` signed for `{name}`")),
        }
    }

    /// Whether so many ballots for a vote suffice that nobody acts on another one.
    #[must_use]
    pub fn suffices(&self, ballots: usize) -> bool {
        ballots >= quorum(self.members.len())
    }

    /// How many members have cast a valid one of these ballots.
    #[must_use]
    pub fn count(&self, authority: &Authority, vote: &Vote, ballots: &[Ballot]) -> usize {
        let mut heard = vec![false; self.members.len()];
        // More than there are members are not looked at.
        for ballot in ballots.iter().take(self.members.len()) {
            if let Some(heard @ false) = heard.get_mut(usize::from(ballot.member)) {
                *heard = self.check(authority, vote, ballot).is_ok();
            }
        }
        heard.into_iter().filter(|heard| *heard).count()
    }
}

#[cfg(test)]
mod equivocation_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::pki;
    use crate::deploy::transport::Identity;

    #[test]
    fn no_two_lists_have_a_quorum() {
        for n in 1..200usize {
            let (q, m) = (quorum(n), tolerated(n));
            assert!(3 * q > 2 * n && q <= n, "{n}");
            // Whoever does not sign whatever the server likes signs one list: two quorums do not exist.
            assert!(2 * (q - m) > n - m && m >= n / 3, "{n}: {q}, {m}");
            // The bound is sharp.
            let more = m + 1;
            assert!(more >= q || 2 * (q - more) <= n - more, "{n}: {q}, {m}");
        }
        assert_eq!([3, 4, 5, 6, 10].map(quorum), [3, 3, 4, 5, 7]);
        assert_eq!([3, 4, 5, 6, 10].map(tolerated), [2, 1, 2, 3, 3]);
    }

    #[test]
    fn only_ballots_of_members_for_the_very_same_vote_count() {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("pki");
        pki::init(&pki, &[]).unwrap();
        let names = ["ann", "bob", "cleo", "dan"];
        names.iter().for_each(|name| pki::issue(&pki, name, &[], pki::DAYS).unwrap());
        let signer = |name| Signer::load(&Identity { folder: &pki, name }).unwrap();
        let chain = |name: &str| std::fs::read_to_string(pki.join(format!("{name}.crt"))).unwrap();
        let members = names.map(|name| (name.to_owned(), chain(name))).to_vec();
        let all = Electorate { roster: Hex([1; 32]), members };
        let authority = Authority::load(&pki).unwrap();
        let vote = all.vote(5, &[0, 1, 3]);
        let cast = |k: usize, vote: &Vote| all.cast(&signer(names[k]), k as u16, vote).unwrap();
        let good = [0, 1, 3].map(|k| cast(k, &vote));
        assert_eq!(all.count(&authority, &vote, &good), 3);
        assert!(all.suffices(3) && !all.suffices(2));
        let twice = [good[0].clone(), good[0].clone(), good[1].clone()];
        assert_eq!(all.count(&authority, &vote, &twice), 2);
        let refused = |ballot: &Ballot| all.check(&authority, &vote, ballot).unwrap_err();
        assert_eq!(refused(&cast(2, &vote)), "a ballot of nobody on the list");
        assert_eq!(refused(&Ballot { member: 9, ..good[0].clone() }), "a ballot of nobody on the list");
        for other in
            [all.vote(5, &[0, 1]), all.vote(3, &[0, 1, 3]), Vote { roster: Hex([2; 32]), ..vote.clone() }]
        {
            assert_eq!(refused(&cast(1, &other)), "the vote was not signed by `bob`");
        }
        // In another's name, and what was signed as something else.
        let posed = Ballot { member: 3, ..good[1].clone() };
        assert_eq!(refused(&posed), "the vote was not signed by `dan`");
        let entry = signer("bob").sign(Topic::Entry, &vote).unwrap();
        let mixed = Ballot { signature: entry.signature, ..good[1].clone() };
        assert_eq!(refused(&mixed), "the vote was not signed by `bob`");
    }
}
