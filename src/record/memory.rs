//! How much memory there is, and how much a run takes.

use std::fs;

use crate::protocol::ProtocolConfig;

/// What a run takes beside its vectors: batches, activations, tables.
const REST: u64 = 64 << 20;

/// Rough peak in bytes of one run of `clients` clients with `parameters` parameters, without the dataset,
/// which runs share.
pub(crate) fn of_run(protocol: &ProtocolConfig, clients: usize, parameters: usize) -> u64 {
    protocol.section().memory() * clients as u64 * parameters as u64 + REST
}

/// Bytes that this process may still take; `None` where the system does not tell.
pub(crate) fn available() -> Option<u64> {
    let host = fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_meminfo(&text));
    let group = || {
        let of_process = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = of_process.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
        let number = |file: &str| -> Option<u64> {
            fs::read_to_string(format!("/sys/fs/cgroup{path}/{file}")).ok()?.trim().parse().ok()
        };
        Some(number("memory.max")?.saturating_sub(number("memory.current")?))
    };
    host.into_iter().chain(group()).min()
}

/// Most bytes that this process has held so far; `None` where the system does not tell.
pub(crate) fn peak() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

fn of_meminfo(text: &str) -> Option<u64> {
    kilobytes(text, "MemAvailable:")
}

/// A line of the system's tables, in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_table_is_read() {
        let text = "MemTotal:       16384 kB\nMemFree:  10 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(of_meminfo(text), Some(2 << 20));
        assert_eq!(of_meminfo("MemTotal: 5 kB\n"), None);
    }
}
