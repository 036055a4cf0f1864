//! The server's page, and its numbers for Prometheus.
//!
//! | path | content |
//! |---|---|
//! | `/` | a page that follows the run |
//! | `/status.json` | what the page shows |
//! | `/metrics` | the same in Prometheus' text format, version 0.0.4 |

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::message::Hex;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::record::{Outcome, Row};

const HTML: &str = include_str!("page.html");

/// Most bytes of a request that are read.
const REQUEST: usize = 4096;

/// Readers who are answered at the same time; others are hung up on.
const READERS: usize = 32;

/// Time for a request and its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// The protocol.
    pub protocol: String,
    /// The run, in hexadecimal.
    pub run: String,
    /// Rounds in all.
    pub rounds: u64,
    /// The round that is played.
    pub round: u64,
    /// Names of all clients that may take part.
    pub names: Vec<String>,
    /// Who is connected.
    pub alive: Vec<String>,
    /// The cohort of the round.
    pub cohort: Vec<String>,
    /// Messages that were refused, by the peer that sent them.
    pub refused: BTreeMap<String, u64>,
    /// Rounds recovered over the whole cohort.
    pub recovered: u64,
    /// Rounds with a sum over some of the cohort.
    pub partial: u64,
    /// Rounds without a sum.
    pub outages: u64,
    /// Bytes of shares between clients.
    pub bytes_client_client: u64,
    /// Bytes of sums to the server.
    pub bytes_client_server: u64,
    /// Seconds of the last round, from the announcement to the decision.
    pub seconds: f64,
    /// (round, test accuracy) wherever it was tested.
    pub accuracy: Vec<(u64, f64)>,
    /// The outcome of every round.
    pub outcomes: Vec<Outcome>,
    /// Why there is no further round, if the run diverged.
    pub diverged: Option<String>,
    /// Names of the clients that are left out.
    pub left_out: Vec<String>,
}

impl Status {
    /// Takes note of a round.
    pub fn row(&mut self, row: Row) {
        match row.outcome {
            Outcome::Recovered => self.recovered += 1,
            Outcome::Partial | Outcome::Estimate => self.partial += 1,
            Outcome::Outage => self.outages += 1,
        }
        self.bytes_client_client += row.bytes_client_client;
        self.bytes_client_server += row.bytes_client_server;
        self.seconds = row.seconds_coding;
        self.accuracy.extend(row.test_accuracy.map(|accuracy| (row.round, accuracy)));
        self.outcomes.push(row.outcome);
    }

    /// Takes note of a message of `who` that was refused.
    pub fn refuse(&mut self, who: &str) {
        *self.refused.entry(who.into()).or_default() += 1;
    }

    /// In Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, values: &[(String, f64)]| {
            let _ = writeln!(text, "# HELP seccogc_{name} {help}\n# TYPE seccogc_{name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(text, "seccogc_{name}{labels} {value}");
            }
        };
        let one = |value: f64| vec![(String::new(), value)];
        metric("round", "gauge", "Round that is played.", &one(self.round as f64));
        metric("rounds", "gauge", "Rounds in all.", &one(self.rounds as f64));
        let outcomes = [("recovered", self.recovered), ("partial", self.partial), ("outage", self.outages)];
        let outcomes = outcomes.map(|(outcome, n)| (format!("{{outcome=\"{outcome}\"}}"), n as f64));
        metric("rounds_total", "counter", "Rounds played, by outcome.", &outcomes);
        let up = |name: &String| {
            (format!("{{client=\"{name}\"}}"), f64::from(u8::from(self.alive.contains(name))))
        };
        metric(
            "client_up",
            "gauge",
            "Whether a client is connected.",
            &self.names.iter().map(up).collect::<Vec<_>>(),
        );
        metric(
            "cohort_clients",
            "gauge",
            "Clients in the cohort of the round.",
            &one(self.cohort.len() as f64),
        );
        let bytes = [("client", self.bytes_client_client), ("server", self.bytes_client_server)];
        let bytes = bytes.map(|(to, n)| (format!("{{to=\"{to}\"}}"), n as f64));
        metric("sent_bytes_total", "counter", "Bytes of envelopes from clients, by receiver.", &bytes);
        let refused = |(who, n): (&String, &u64)| {
            let who = who.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            (format!("{{peer=\"{who}\"}}"), *n as f64)
        };
        let refused: Vec<_> = self.refused.iter().map(refused).collect();
        metric("refused_total", "counter", "Messages that the server refused, by peer.", &refused);
        metric("round_seconds", "gauge", "Seconds of the last round's exchange.", &one(self.seconds));
        let diverged = f64::from(u8::from(self.diverged.is_some()));
        metric("diverged", "gauge", "Whether the run ended because it diverged.", &one(diverged));
        if let Some((_, accuracy)) = self.accuracy.last() {
            metric("test_accuracy", "gauge", "Share of test examples classified rightly.", &one(*accuracy));
        }
        text
    }
}

/// The page of a running server.
pub struct Page(Arc<Mutex<Status>>);

impl Page {
    /// Starts to serve the page where the configuration says.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub fn open(config: &Config, run: Hex) -> Result<Self> {
        let status = Status {
            protocol: config.protocol.kind().into(),
            run: run.into(),
            rounds: config.rounds,
            names: config.deploy.names.clone(),
            ..Status::default()
        };
        let status = Arc::new(Mutex::new(status));
        let address = config.deploy.page.as_str();
        if !address.is_empty() {
            let refuse = |error: std::io::Error| {
                Error::config(
                    "deploy.page",
                    format!("cannot listen on {address}: {error}; take another address, or \"\" for none"),
                )
            };
            let listener = TcpListener::bind(address).map_err(refuse)?;
            let place = listener.local_addr().map_err(refuse)?;
            tracing::info!("page on http://{place}");
            let reader = Arc::new(Reader { status: Arc::clone(&status), hosts: hosts(config) });
            std::thread::spawn(move || listen(&listener, &reader));
        }
        Ok(Self(status))
    }

    /// Changes what is shown.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What requests are answered from.
struct Reader {
    status: Arc<Mutex<Status>>,
    /// Names by which the page may be asked for.
    hosts: Vec<String>,
}

/// Names by which the page may be asked for: its own, and those that the configuration adds. Addresses are
/// never foreign.
fn hosts(config: &Config) -> Vec<String> {
    let own = config.deploy.page.rsplit_once(':').map(|(host, _)| host);
    let names =
        ["localhost"].into_iter().chain(own).chain(config.deploy.page_names.iter().map(String::as_str));
    names.map(str::to_ascii_lowercase).collect()
}

/// Whether a request is for one of these: a page elsewhere that makes its reader's browser ask here, under a
/// name of its own that it lets point to this address, learns nothing.
fn is_ours(request: &str, hosts: &[String]) -> bool {
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim().to_ascii_lowercase())
    };
    let Some(host) = request.lines().skip(1).find_map(header) else { return true };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
        _ => &host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    address.parse::<std::net::IpAddr>().is_ok() || hosts.iter().any(|own| own == name)
}

fn listen(listener: &TcpListener, reader: &Arc<Reader>) {
    let busy = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming().flatten() {
        if busy.load(Ordering::Relaxed) >= READERS {
            continue;
        }
        busy.fetch_add(1, Ordering::Relaxed);
        let (reader, busy) = (Arc::clone(reader), Arc::clone(&busy));
        std::thread::spawn(move || {
            if let Err(error) = answer(stream, &reader) {
                tracing::debug!("page: {error}");
            }
            busy.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// A request up to its empty line. A reader that sends it drop by drop does not get more time.
fn request(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let end = Instant::now() + PATIENCE;
    let mut request = Vec::new();
    let mut buffer = [0; 512];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer)? {
            0 => break,
            n => request.extend_from_slice(&buffer[..n]),
        }
    }
    Ok(request)
}

fn answer(mut stream: TcpStream, reader: &Reader) -> std::io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = request(&mut stream)?;
    let status = || reader.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
    stream.write_all(respond(&request, &reader.hosts, status).as_bytes())
}

/// The answer to what a reader sent, whatever it is. `hosts` are the names by which the page may be asked
/// for, beside addresses.
#[must_use]
pub fn respond(request: &[u8], hosts: &[String], status: impl FnOnce() -> Status) -> String {
    let line = String::from_utf8_lossy(request);
    let (code, kind, body) = match line.split_whitespace().take(2).collect::<Vec<_>>()[..] {
        _ if !is_ours(&line, hosts) => {
            ("421 Misdirected Request", "text/plain", "not asked for by a name of ours\n".into())
        }
        ["GET", "/"] => ("200 OK", "text/html; charset=utf-8", HTML.into()),
        ["GET", "/metrics"] => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", status().metrics()),
        ["GET", "/status.json"] => {
            ("200 OK", "application/json", serde_json::to_string(&status()).unwrap_or_default())
        }
        ["GET", _] => ("404 Not Found", "text/plain", "not here\n".into()),
        _ => ("405 Method Not Allowed", "text/plain", "GET only\n".into()),
    };
    format!(
        "HTTP/1.1 {code}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_by_hand() {
        let mut status =
            Status { rounds: 9, round: 2, names: vec!["ann".into(), "bob".into()], ..Status::default() };
        status.alive = vec!["bob".into()];
        let row = |outcome, accuracy| Row {
            outcome,
            test_accuracy: accuracy,
            bytes_client_server: 70,
            ..Row::blank(1)
        };
        status.row(row(Outcome::Recovered, Some(0.5)));
        status.row(row(Outcome::Outage, None));
        status.refused.insert("a\"b".into(), 3);
        status.diverged = Some("diverged in round 3".into());
        let text = status.metrics();
        for line in [
            "seccogc_round 2",
            "seccogc_rounds_total{outcome=\"recovered\"} 1",
            "seccogc_rounds_total{outcome=\"outage\"} 1",
            "seccogc_client_up{client=\"ann\"} 0",
            "seccogc_client_up{client=\"bob\"} 1",
            "seccogc_sent_bytes_total{to=\"server\"} 140",
            "seccogc_refused_total{peer=\"a\\\"b\"} 3",
            "seccogc_test_accuracy 0.5",
            "seccogc_diverged 1",
            "# TYPE seccogc_rounds_total counter",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn the_page_answers_gets_only_and_survives_garbage() {
        let mut config = Config::default();
        config.deploy.page = "127.0.0.1:0".into();
        // A port of its own: the page does not tell which one it took, so take one that is free.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        config.deploy.page = free.to_string();
        let page = Page::open(&config, Hex([7; 32])).unwrap();
        page.update(|status| status.round = 5);
        let ask = |request: &[u8]| {
            let mut stream = TcpStream::connect(free).unwrap();
            stream.write_all(request).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        assert!(ask(b"GET / HTTP/1.1\r\n\r\n").contains("<!doctype html>"));
        assert!(ask(b"GET /metrics HTTP/1.1\r\n\r\n").contains("\nseccogc_round 5\n"));
        assert!(ask(b"GET /status.json HTTP/1.1\r\n\r\n").contains("\"round\":5"));
        assert!(ask(b"GET /../etc/passwd HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert!(ask(b"POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
        assert!(ask(b"\r\n\r\n").starts_with("HTTP/1.1 405"));
        let by = |host: &str| ask(format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes());
        for ours in ["localhost", "LOCALHOST:9447", "127.0.0.1:9447", "[::1]:9447", "10.1.2.3"] {
            assert!(by(ours).starts_with("HTTP/1.1 200"), "{ours}");
        }
        for foreign in
            ["evil.example", "evil.example:9447", "localhost.evil.example", "127.0.0.1.evil.example"]
        {
            assert!(by(foreign).starts_with("HTTP/1.1 421"), "{foreign}");
        }
        // Readers that drip block nobody else.
        let dripping: Vec<_> = (0..8)
            .map(|_| {
                let mut stream = TcpStream::connect(free).unwrap();
                stream.write_all(b"GET / HT").unwrap();
                stream
            })
            .collect();
        let start = Instant::now();
        assert!(ask(b"GET /metrics HTTP/1.1\r\n\r\n").contains("\nseccogc_round 5\n"));
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
        drop(dripping);
    }
}
