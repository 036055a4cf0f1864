//! Clients on machines of their own: `seccogc serve` and `seccogc join` over Zenoh.
//!
//! The parties are those of [`crate::protocol`], step by step; only the carrier of the envelopes differs. A
//! scheme can be deployed if its messages have a binary form and every client can make its keys alone, from
//! its own randomness and from what it shares with each other client:
//!
//! | schemes | phases | keys |
//! |---|--:|---|
//! | `fedavg`, `gaussian`, `zero-sum` (`pairwise`), `cogc`, `sec-cogc` (`pairwise`) | 2 | own noise, or masks of pairs |
//! | `fedavg`, `gaussian`, `zero-sum` with `transmissions` = n | 2n | the same |
//! | `light-sec-agg`, `groupwise` (`agreement`) | 4 | own masks, shared in phase 0; keys of pairs, or seeds told in phase 0 |
//! | `sec-agg`, `sec-agg-plus` (`agreement`) | 7 | own secrets; public keys go through the server |
//!
//! A round:
//!
//! 1. Every client that is connected tells the server that it is ready, with a fresh public key
//!    ([`agreement`]). The question stays open.
//! 2. The server forms the cohort of the clients that are ready and answers them: round, cohort, public keys.
//!    It has written the round's number down before, and announces no number twice.
//! 3. Clients pull the model, train and make their keys.
//! 4. The phases of the scheme are played one after the other (`play`): shares between clients are sealed and
//!    offered by the sender, messages to the server too, those of the server by the server; whoever waits for
//!    one pulls it until the phase's deadline, the first `deploy.share_deadline`, the last
//!    `deploy.upload_deadline`. What did not come is lost, as on a failing link.
//! 5. The server decodes: the exact sum over all, or over those whose uploads came, or an outage.
//!
//! Nothing is pushed and nothing is waited for without end: a client that is killed, cut off or slow costs
//! its messages, and is left out of the next cohort when it is gone. Clients reconnect by themselves and are
//! in the next round. What the server learns beside the protocol's messages: the names, and the number of
//! examples of every client, which weighs its update.
//!
//! What a peer sends is checked before anything is done with it: who it is (its certificate, and the access
//! list of the router by name), form and length ([`crate::wire`]), round, phase, sender and addressee
//! ([`seat`]), seal ([`agreement`]), size of the numbers (`deploy.largest`). What fails is refused with its
//! sender and the reason in the log, and counts as lost; whose messages are refused `deploy.refusals` times
//! in a row is left out of the run and told. A client whose update is not finite says so and sends nothing. A
//! client that sends a well-formed wrong sum is not found out: no scheme here promises that. `sec-agg` and
//! `sec-agg-plus` bring public keys of their own, which the server hands on in their first phases: their
//! promise is against a server that follows the protocol.

pub mod agreement;
pub mod client;
mod hub;
pub mod message;
pub mod page;
pub mod pki;
mod play;
pub mod seat;
pub mod server;
pub mod transport;

pub use client::{Join, join};
pub use server::{Begin, serve};

/// The server's answer to a client that was welcomed to another run.
const OTHER_RUN: &str = "another run has begun";
