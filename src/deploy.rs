//! Clients on machines of their own: `seccogc serve` and `seccogc join` over Zenoh.
//!
//! The parties are those of [`crate::party`], step by step; only the carrier of the envelopes differs. A
//! scheme can be deployed if its messages have a binary form and every client can make its keys alone, from
//! its own randomness and from what it shares with each other client:
//!
//! | schemes | phases | keys |
//! |---|--:|---|
//! | `fedavg`, `gaussian`, `zero-sum` (`pairwise`), `cogc`, `sec-cogc` (`pairwise`) | 2 | own noise, or masks of pairs |
//! | `fedavg`, `gaussian`, `zero-sum` with `transmissions` = n | 2n | the same |
//! | `light-sec-agg`, `groupwise` (`agreement`) | 4, a vote | own masks, shared in phase 0; keys of pairs, or seeds told in phase 0 |
//! | `sec-agg`, `sec-agg-plus` (`agreement`) | 7, two votes or one | own secrets; public keys go through the server |
//!
//! A round:
//!
//! 1. Every client that is connected tells the server that it is ready, in an [entry](message::Entry) with a
//!    fresh public key that it signs ([`statement`]). The question stays open.
//! 2. The server forms the cohort of the clients that are ready and answers them: round and signed entries.
//!    It has written the round's number down before, and announces no number twice.
//! 3. Clients check who signed what ([`roster`]) and whether their [`policy`] allows it, write the round down
//!    ([`ledger`]), pull the model, train and make their keys.
//! 4. The phases of the scheme are played one after the other (`play`): shares between clients are sealed and
//!    offered by the sender, messages to the server too, those of the server by the server; whoever waits for
//!    one pulls it until the phase's deadline, the first `deploy.share_deadline`, the last
//!    `deploy.upload_deadline`. What did not come is lost, as on a failing link. Where the server tells its
//!    clients who goes on, they vote on it first.
//! 5. The server decodes: the exact sum over all, or over those whose uploads came, or an outage.
//!
//! Nothing is pushed and nothing is waited for without end: a client that is killed, cut off or slow costs
//! its messages, and is left out of the next cohort when it is gone. Clients reconnect by themselves and are
//! in the next round. What the server learns beside the protocol's messages: the names, and the number of
//! examples of every client, which weighs its update.
//!
//! What a peer sends is checked before anything is done with it: who it is (its certificate, and the access
//! list of the router by name), form and length ([`crate::wire`]), round, phase, sender and addressee
//! ([`crate::party::seat`]), seal ([`crate::party::agreement`]), size of the numbers (`deploy.largest`). What
//! fails is refused with its sender and the reason in the log, and counts as lost; whose messages are refused
//! `deploy.refusals` times in a row is left out of the run and told. A client sits out a round that its
//! policy forbids and says so; one whose update is not finite says so and sends nothing.
//!
//! # Who may deviate, and what then holds
//!
//! Privacy of an update, against
//!
//! - routers and eavesdroppers: yes: mutual TLS, and shares are sealed from client to client.
//! - a server that deviates: what the audit says of the server, of any cohort that the client's policy
//!   allows: keys, weights, cohort, round, model and configuration are signed by those whom they concern,
//!   and members to whom different ones were shown have no secret in common, so that the round is an
//!   outage.
//! - the same, where the server tells who goes on (`light-sec-agg`, `sec-agg`): yes, while as many members
//!   collude with it as the scheme withstands (T, t − 1) and a [`vote`] does, which is a third of the cohort
//!   or more ([`vote::tolerated`]). Clients act on a list of survivors only when more than two thirds of the
//!   cohort have signed the very same one, so that nobody gives both shares of one client, or the masks of
//!   two sums, and every sum is over more than two thirds of the cohort. A key that the server replaces
//!   opens no share, and nothing is masked with it.
//! - the same in `sec-agg-plus`, whose graphs are drawn from the run's seed, which the server chooses: yes,
//!   as far as its threshold is so large that every graph will do
//!   ([`any_graph`](crate::protocol::sec_agg::any_graph)); a client plays with smaller ones only where its
//!   policy trusts the seed.
//! - the same in `groupwise`: yes, against the server alone, whatever the seed of its coefficients: every
//!   client checks that with them masks are uniform ([`groupwise`](crate::protocol::groupwise)).
//! - that server with T members: what the audit says of the server and T clients
//!   (`audit --all-coalitions T`) in the smallest cohort that the policy allows; members may claim wrong
//!   numbers of examples, which `largest_share` bounds.
//! - the authority: no: whoever has its key can be every other member; `ca.key` stays apart. A revocation
//!   list counts as soon as its file is there, or another one, for all that is signed; the transport knows
//!   none, so that a revoked key still connects. It is in no cohort and opens no share, but gets the models
//!   of its name, may cost that rounds, and may get it left out.
//! - a server that bounds nothing: yes: over the reals a client plays only clipped updates on the grid
//!   beside keys of `least_key_ratio`, unless its policy says 0.
//! - sums of several rounds: only as far as the policy goes: sums are what every scheme here releases, and
//!   a server may show one model twice. Sums over cohorts that differ by few clients tell their difference:
//!   a client warns of cohorts that differ from one of the last 64 by a single client, and refuses those
//!   that differ by fewer than `least_difference` (by default it refuses none); members that collude can
//!   fill up the difference. Cohorts without it it does not see, but their members do; nor that a sum is
//!   over survivors, up to a third fewer. What changing cohorts tell in the long run: So, Ali, Güler, Jiao,
//!   Avestimehr, *Securing Secure Aggregation: Mitigating Multi-Round Privacy Leakage in Federated
//!   Learning*, AAAI 2023.
//!
//! Correctness of the sum, against
//!
//! - links, crashes: yes: exact or an outage.
//! - a member that sends a well-formed wrong sum or a poisoned update: no: exact sums of hidden updates
//!   cannot tell.
//!
//! Availability, against
//!
//! - a server that is put back to an earlier state, from a copy or not: no: nobody answers twice for a
//!   round, so that its clients end with one line.
//! - anybody: no: a server can announce nothing, and a member can cost every round that it is in; who sends
//!   what is refused is left out, and who sends nothing of the next round, then of the next two, four and so
//!   on.
//!
//! Audits speak of parties that follow the protocol and pool what they see; these checks are what makes a
//! deviating server no stronger than that.

pub mod client;
mod examples;
mod hub;
pub mod ledger;
pub mod message;
pub mod page;
pub mod pki;
mod play;
pub mod policy;
pub mod roster;
pub mod server;
pub mod shelf;
pub mod statement;
mod task;
pub mod transport;
pub mod vote;

pub use client::{Join, join};
pub use server::{Begin, serve};
pub use task::{LocalWork, Work};

/// The server's answer to a client that was welcomed to another run.
const OTHER_RUN: &str = "another run has begun";
