//! How much memory a run takes.

use crate::protocol::ProtocolConfig;

/// What a run takes beside its vectors: batches, activations, tables.
const REST: u64 = 64 << 20;

/// Rough peak in bytes of one run of `clients` clients with `parameters` parameters, without the dataset,
/// which runs share.
pub(super) fn of_run(protocol: &ProtocolConfig, clients: usize, parameters: usize) -> u64 {
    protocol.section().memory() * clients as u64 * parameters as u64 + REST
}
