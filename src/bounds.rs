//! Sizes, bounded before memory is taken: of files, and of what they become.

use std::fs::{self, File, FileType};
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::error::{Error, Result, count};

/// Memory that is taken to be free where the system does not tell.
const UNKNOWN: u64 = 32 << 30;

/// Opens a regular file; its length in bytes comes with it. Pipes and devices, which may wait or go on for
/// ever, and folders are refused.
///
/// # Errors
/// [`Error::File`] for what is no regular file, [`Error::Io`] from the system.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let found = fs::metadata(path).map_err(Error::io("read", path))?;
    if !found.is_file() {
        return Err(irregular(path, found.file_type()));
    }
    Ok((File::open(path).map_err(Error::io("read", path))?, found.len()))
}

/// The content of a regular file of at most `most` bytes, which is a `what`.
///
/// # Errors
/// As [`open`]; [`Error::File`] for a longer one.
pub(crate) fn read(path: &Path, most: u64, what: &str) -> Result<Vec<u8>> {
    let (file, length) = open(path)?;
    match length > most {
        true => Err(too_long(path, most, what)),
        false => drain(file, path, most, what),
    }
}

/// The content of a regular file, a `what`, as long as memory holds it.
///
/// # Errors
/// As [`open`]; [`Error::File`] for one that memory does not hold, or that grows.
pub(crate) fn whole(path: &Path, what: &str) -> Result<Vec<u8>> {
    let (file, length) = open(path)?;
    check_memory(length).map_err(|free| Error::file(path, format!("{what} of {free}")))?;
    drain(file, path, length, what)
}

/// As [`read`], for text. What a shell hands over below `/dev` may be a pipe.
///
/// # Errors
/// As [`read`], and for what is not UTF-8.
pub(crate) fn read_text(path: &Path, most: u64, what: &str) -> Result<String> {
    let piped = path.starts_with("/dev") && !path.is_dir();
    let bytes = match piped {
        true => drain(File::open(path).map_err(Error::io("read", path))?, path, most, what)?,
        false => read(path, most, what)?,
    };
    let unreadable = |_| std::io::Error::new(ErrorKind::InvalidData, "not UTF-8 text");
    String::from_utf8(bytes).map_err(unreadable).map_err(Error::io("read", path))
}

fn drain(file: File, path: &Path, most: u64, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    match bytes.len() as u64 > most {
        true => Err(too_long(path, most, what)),
        false => Ok(bytes),
    }
}

fn too_long(path: &Path, most: u64, what: &str) -> Error {
    Error::file(path, format!("longer than {}, the most that {what} may have", size(most)))
}

/// What stands where a regular file belongs.
fn irregular(path: &Path, kind: FileType) -> Error {
    #[cfg(unix)]
    let is_pipe = std::os::unix::fs::FileTypeExt::is_fifo(&kind);
    #[cfg(not(unix))]
    let is_pipe = false;
    let found = match kind {
        _ if kind.is_dir() => "a folder",
        _ if is_pipe => "a pipe",
        _ => "a device",
    };
    Error::file(path, format!("{found}, not a file; name a regular file"))
}

/// Whether `bytes` of memory are free.
///
/// # Errors
/// How much they are, and how much is free.
pub(crate) fn check_memory(bytes: u64) -> Result<(), String> {
    let free = available().unwrap_or(UNKNOWN);
    match bytes > free {
        true => Err(format!("{} of memory, and {} are free", size(bytes), size(free))),
        false => Ok(()),
    }
}

/// A number of bytes for a reader: "16 MiB", "1.5 GiB".
pub(crate) fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..0x400 => return count(bytes, "byte"),
        0x400..0x10_0000 => (10, "KiB"),
        0x10_0000..0x4000_0000 => (20, "MiB"),
        _ => (30, "GiB"),
    };
    let scaled = bytes as f64 / (1u64 << unit) as f64;
    let decimals = usize::from(scaled.fract() >= 0.05 && scaled < 100.0);
    format!("{scaled:.decimals$} {name}")
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

    #[test]
    fn only_regular_files_within_the_bound_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        fs::write(&path, "grüße").unwrap();
        let line = |error: Error| error.to_string().replace(&path.display().to_string(), "text");
        assert_eq!(read_text(&path, 7, "a greeting").unwrap(), "grüße");
        let refusal = line(read_text(&path, 6, "a greeting").unwrap_err());
        assert_eq!(refusal, "text: longer than 6 bytes, the most that a greeting may have");
        fs::write(&path, [0xff]).unwrap();
        assert_eq!(line(read_text(&path, 9, "").unwrap_err()), "text: cannot read: not UTF-8 text");
        let folder = read(dir.path(), 9, "").unwrap_err().to_string();
        assert!(folder.ends_with(": a folder, not a file; name a regular file"), "{folder}");
    }

    #[cfg(unix)]
    #[test]
    fn devices_end_at_the_bound_or_are_refused() {
        let zero = Path::new("/dev/zero");
        let refusal = |error: Error| error.to_string();
        let longer = "/dev/zero: longer than 4 KiB, the most that a policy may have";
        assert_eq!(refusal(read_text(zero, 1 << 12, "a policy").unwrap_err()), longer);
        assert_eq!(refusal(open(zero).unwrap_err()), "/dev/zero: a device, not a file; name a regular file");
    }

    #[test]
    fn sizes_are_told_in_their_unit() {
        let told = [1, 1 << 10, 16 << 20, 3 << 29, 300 << 30].map(size);
        assert_eq!(told, ["1 byte", "1 KiB", "16 MiB", "1.5 GiB", "300 GiB"]);
        assert_eq!(check_memory(1), Ok(()));
        let refusal = check_memory(u64::MAX).unwrap_err();
        assert!(refusal.starts_with("17179869184 GiB of memory, and "), "{refusal}");
    }
}
