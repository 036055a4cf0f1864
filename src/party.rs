//! The parties of a scheme in processes of their own, whatever carries their messages.
//!
//! | file | what |
//! |---|---|
//! | [`agreement`] | key pairs and what clients share with each other, without a dealer |
//! | [`seat`] | a party of any scheme that can be apart, step by step, with messages as bytes |
//! | [`exchange`] | shares and sums in three steps that each may happen in another process |
//!
//! [`seat`] waits for nobody and keeps no time: `deploy` carries its messages over Zenoh. Where a relay
//! carries one message at a time and the processes between do not last, [`exchange`] is enough.

pub mod agreement;
pub mod exchange;
pub mod seat;
