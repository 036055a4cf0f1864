//! Resumable HTTP downloads and atomic, verified installation of files.

use super::catalogue::md5_hex;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use md5::{Digest, Md5};
use std::fs::{self, File};
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;

/// Tells the user on stderr what happens: bars on a terminal, plain lines elsewhere, nothing when quiet.
#[derive(Clone, Copy)]
pub(super) struct Voice {
    pub quiet: bool,
}

impl Voice {
    pub fn say(self, line: impl std::fmt::Display) {
        if !self.quiet {
            crate::say::line(format_args!("{line}"));
        }
    }

    /// A bar over `total` bytes of which `have` are here.
    fn bar(self, what: &str, have: u64, total: Option<u64>) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            let megabytes = total.map_or(String::new(), |bytes| format!(" of {:.1} MB", bytes as f64 / 1e6));
            self.say(format_args!("{what}: from byte {have}{megabytes}"));
            return ProgressBar::hidden();
        }
        let style = "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
        ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr())
            .with_style(ProgressStyle::with_template(style).expect("a valid template"))
            .with_message(what.to_owned())
            .with_position(have)
    }
}

/// A client that gives up within seconds on a mirror that does not answer.
pub(super) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("seccogc/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(Duration::from_secs(4)))
        .timeout_connect(Some(Duration::from_secs(4)))
        .timeout_recv_response(Some(Duration::from_secs(10)))
        .timeout_per_read(Some(Duration::from_secs(20)))
        .build()
        .into()
}

/// Downloads `url` into `part` until its MD5 is `md5`. Bytes that an earlier call left in `part` are kept; a
/// connection that breaks is resumed as long as each attempt brings new bytes.
pub(super) fn download(
    agent: &ureq::Agent,
    url: &str,
    md5: &str,
    part: &Path,
    voice: Voice,
) -> Result<(), String> {
    let size = || fs::metadata(part).map_or(0, |data| data.len());
    let mut most = size();
    let mut old = most > 0;
    loop {
        match piece(agent, url, part, size(), voice) {
            Ok(()) => {
                let found = File::open(part).and_then(md5_hex).map_err(|error| error.to_string())?;
                if found == md5 {
                    return Ok(());
                }
                fs::remove_file(part).map_err(|error| error.to_string())?;
                if !old {
                    return Err(format!("the content has MD5 {found}, not {md5}"));
                }
                // The bytes of an earlier call may be to blame: once more from the start.
                (old, most) = (false, 0);
            }
            Err(_) if size() > most => most = size(),
            Err(reason) => return Err(reason),
        }
    }
}

/// One request for the bytes of `url` from `have` on, appended to `part`.
fn piece(agent: &ureq::Agent, url: &str, part: &Path, have: u64, voice: Voice) -> Result<(), String> {
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let mut response = request.call().map_err(|error| error.to_string())?;
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let (start, total) = match response.status().as_u16() {
        200 => (0, header("content-length").and_then(|length| length.parse().ok())),
        206 => {
            let range = header("content-range").and_then(|range| range.strip_prefix("bytes "));
            let (range, total) = range.and_then(|range| range.split_once('/')).unwrap_or_default();
            if range.split_once('-').and_then(|(start, _)| start.parse().ok()) != Some(have) {
                return Err(format!("answered another range ({range}) than asked for ({have}-)"));
            }
            (have, total.parse().ok())
        }
        // Nothing beyond what is here: the checksum decides.
        416 if have > 0 => return Ok(()),
        status => return Err(format!("answered HTTP status {status}")),
    };
    let mut file = if start > 0 { File::options().append(true).open(part) } else { File::create(part) }
        .map_err(|error| format!("cannot write {}: {error}", part.display()))?;
    let bar = voice.bar(url, start, total);
    let mut body = response.body_mut().as_reader();
    let mut buffer = vec![0; 1 << 16];
    let mut size: u64 = start;
    loop {
        let n = body.read(&mut buffer).map_err(|error| format!("broke off after {size} bytes ({error})"))?;
        if n == 0 {
            break;
        }
        file.write_all(&buffer[..n]).map_err(|error| format!("cannot write {}: {error}", part.display()))?;
        size += n as u64;
        bar.set_position(size);
    }
    bar.finish_and_clear();
    match total {
        Some(total) if total != size => Err(format!("broke off after {size} of {total} bytes")),
        _ => Ok(()),
    }
}

/// Puts what `fill` writes at `target`, in one step and only when its MD5 is `md5`: an interruption or wrong
/// content leaves what was there.
pub(super) fn install(
    target: &Path,
    md5: &str,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), String>,
) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("cannot write {}: {error}", target.display());
    let folder = target.parent().expect("a data file lies in a folder");
    let mut builder = tempfile::Builder::new();
    builder.prefix(".incomplete-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.tempfile_in(folder).map_err(cannot)?;
    let mut out = Hashing { file: std::io::BufWriter::new(temporary), hash: Md5::new() };
    fill(&mut out)?;
    let found = format!("{:x}", out.hash.finalize());
    if found != md5 {
        let name = target.file_name().unwrap_or_default().display();
        return Err(format!("{name} has MD5 {found}, not {md5}"));
    }
    let temporary = out.file.into_inner().map_err(|error| cannot(error.into_error()))?;
    temporary.as_file().sync_all().map_err(cannot)?;
    temporary.persist(target).map_err(|error| cannot(error.error))?;
    Ok(())
}

struct Hashing {
    file: std::io::BufWriter<tempfile::NamedTempFile>,
    hash: Md5,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    /// How the server treats one request, in turn; the last way is kept.
    #[derive(Clone, Copy)]
    pub enum Way {
        /// Promises everything, sends half of it and drops the connection.
        Drop,
        /// Honours `Range`.
        Ranges,
        /// Sends everything from the start whatever is asked.
        Whole,
        /// Sends as many bytes as it should, but wrong ones.
        Corrupt,
        /// Answers 404.
        Lost,
    }

    /// The path and the start of the range of every request.
    pub type Log = Arc<Mutex<Vec<(String, usize)>>>;

    /// Serves `content` under every path on 127.0.0.1; returns the address and the log.
    pub fn serve(content: Vec<u8>, ways: &'static [Way]) -> (String, Log) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            for (i, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let (mut path, mut start) = (String::new(), 0);
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let line = line.unwrap().to_ascii_lowercase();
                    if let Some(rest) = line.strip_prefix("get ") {
                        path = rest.split(' ').next().unwrap().to_owned();
                    } else if let Some(range) = line.strip_prefix("range: bytes=") {
                        start = range.trim_end_matches('-').parse().unwrap();
                    } else if line.is_empty() {
                        break;
                    }
                }
                shared.lock().unwrap().push((path, start));
                let way = ways[i.min(ways.len() - 1)];
                let total = content.len();
                let (head, body) = match way {
                    Way::Ranges if start >= total && start > 0 => {
                        ("416 Range Not Satisfiable\r\n".into(), vec![])
                    }
                    Way::Ranges if start > 0 => (
                        format!(
                            "206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}\r\n",
                            total - 1
                        ),
                        content[start..].to_vec(),
                    ),
                    Way::Corrupt => ("200 OK\r\n".into(), content.iter().map(|byte| byte ^ 1).collect()),
                    Way::Lost => ("404 Not Found\r\n".into(), vec![]),
                    _ => ("200 OK\r\n".to_owned(), content.clone()),
                };
                let sent = if matches!(way, Way::Drop) { body.len() / 2 } else { body.len() };
                let length = body.len();
                // The client may hang up early; that is its affair.
                let _ =
                    write!(stream, "HTTP/1.1 {head}Content-Length: {length}\r\nConnection: close\r\n\r\n")
                        .and_then(|()| stream.write_all(&body[..sent]));
            }
        });
        (address, log)
    }

    fn content() -> (Vec<u8>, String) {
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        let md5 = md5_hex(bytes.as_slice()).unwrap();
        (bytes, md5)
    }

    fn fetched(before: &[u8], ways: &'static [Way]) -> (Result<(), String>, Option<Vec<u8>>, Vec<usize>) {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("file.part");
        if !before.is_empty() {
            fs::write(&part, before).unwrap();
        }
        let (bytes, md5) = content();
        let (address, log) = serve(bytes, ways);
        let result = download(&agent(), &(address + "file"), &md5, &part, Voice { quiet: true });
        let starts = log.lock().unwrap().iter().map(|(_, start)| *start).collect();
        (result, fs::read(part).ok(), starts)
    }

    #[test]
    fn a_broken_connection_is_resumed_where_it_broke() {
        let (result, file, starts) = fetched(&[], &[Way::Drop, Way::Ranges]);
        assert_eq!(result, Ok(()));
        assert_eq!(file, Some(content().0));
        assert_eq!(starts, [0, 150_000]);
    }

    #[test]
    fn an_earlier_call_is_continued_also_where_it_had_finished() {
        let (bytes, _) = content();
        let (result, file, starts) = fetched(&bytes[..1000], &[Way::Ranges]);
        assert_eq!((result, file.as_ref(), starts), (Ok(()), Some(&bytes), vec![1000]));
        let (result, file, starts) = fetched(&bytes, &[Way::Ranges]);
        assert_eq!((result, file.as_ref(), starts), (Ok(()), Some(&bytes), vec![300_000]));
    }

    #[test]
    fn a_server_without_ranges_starts_again() {
        let (bytes, _) = content();
        let (result, file, starts) = fetched(&bytes[..1000], &[Way::Whole]);
        assert_eq!((result, file, starts), (Ok(()), Some(bytes), vec![1000]));
    }

    #[test]
    fn wrong_earlier_bytes_are_dropped_and_wrong_content_is_refused() {
        let (result, file, starts) = fetched(&[1; 1000], &[Way::Ranges]);
        assert_eq!((result, file, starts), (Ok(()), Some(content().0), vec![1000, 0]));
        let (result, file, starts) = fetched(&[], &[Way::Corrupt]);
        assert!(result.unwrap_err().starts_with("the content has MD5 "));
        assert_eq!((file, starts), (None, vec![0]));
    }

    #[test]
    fn a_server_that_brings_nothing_new_is_given_up_and_the_part_kept() {
        let (result, file, starts) = fetched(&[], &[Way::Drop, Way::Lost]);
        assert_eq!(result.unwrap_err(), "answered HTTP status 404");
        assert_eq!((file.unwrap(), starts), (content().0[..150_000].to_vec(), vec![0, 150_000]));
        // Half of it every time, never more: no endless loop.
        let (result, _, starts) = fetched(&[], &[Way::Drop]);
        assert!(result.unwrap_err().starts_with("broke off after 150000 "));
        assert_eq!(starts, [0, 150_000]);
    }

    #[test]
    fn installation_is_all_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("data");
        fs::write(&target, "old").unwrap();
        let md5 = md5_hex(&b"new"[..]).unwrap();
        let put = |text: &'static str, end: Result<(), String>| {
            install(&target, &md5, |out| {
                out.write_all(text.as_bytes()).unwrap();
                assert_eq!(fs::read(&target).unwrap(), b"old");
                end
            })
        };
        assert_eq!(put("new", Err("interrupted".into())).unwrap_err(), "interrupted");
        let error = put("wrong", Ok(())).unwrap_err();
        assert_eq!(error, format!("data has MD5 2bda2998d9b0ee197da142a0447f6725, not {md5}"));
        assert_eq!(fs::read(&target).unwrap(), b"old");
        put("new", Ok(())).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
