//! Envelopes over Zenoh: sessions with mutual TLS and an access list by certificate name, and messages that
//! are pulled in pieces.
//!
//! The links are QUIC, never TLS over TCP: zenoh-link-tls 1.10.2 reads and writes one TLS connection from two
//! threads without a lock (eclipse-zenoh/zenoh#2557) and crashes within seconds under our load; QUIC has a
//! stream for either direction.
//!
//! | key | held by | asked by |
//! |---|---|---|
//! | `seccogc/server/NAME/welcome`, `…/ready`, `…/model/ROUND`, `…/done/ROUND` | the server | client NAME |
//! | `seccogc/server/NAME/relay/ROUND/PHASE` | the server | client NAME |
//! | `seccogc/client/NAME/share/ROUND/PHASE/OTHER` | client NAME | client OTHER |
//! | `seccogc/client/NAME/sum/ROUND/PHASE` (sums, and whatever else goes to the server) | client NAME | the server |
//! | `seccogc/alive/NAME` | the liveliness token of client NAME | the server |
//!
//! The router denies everything but this. Nothing is pushed: whoever needs a message asks for it, piece by
//! piece, until its deadline has passed. Pieces are as large as the link is fast. A message that did not come
//! by then is lost, as on any other link, and a slow link carries at most one piece in vain.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zenoh::bytes::Encoding;
use zenoh::qos::{CongestionControl, Priority};
use zenoh::query::{ConsolidationMode, Reply};
use zenoh::{Session, Wait};

use super::message::told;
use crate::error::{Error, Result};

/// The first chunk of every key.
pub const ROOT: &str = "seccogc";

/// Bytes of the first piece of a message. At 100 kbit/s it takes 0.7 s, so that what else must pass, signs of
/// life above all, passes.
const FIRST_PIECE: usize = 8 * 1024;

/// Most bytes of a piece.
pub(super) const PIECE: usize = 256 * 1024;

/// Pieces grow while one takes less than this, and shrink when it takes four times as long.
const SOON: Duration = Duration::from_millis(250);

/// Longest time that one question stays open; it is asked again until the deadline.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Pause before a question that nobody took is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Silence after which a connection counts as broken.
const LEASE: Duration = Duration::from_secs(4);

/// Certificates of one party.
pub struct Identity<'a> {
    /// Folder with `ca.crt`, `NAME.crt` and `NAME.key`.
    pub folder: &'a Path,
    /// The party's name.
    pub name: &'a str,
}

impl Identity<'_> {
    /// A file of the folder, which is there.
    ///
    /// # Errors
    /// It is not.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        if path.exists() {
            return Ok(std::path::absolute(&path).unwrap_or(path));
        }
        let problem = format!(
            "there is no such file; `seccogc pki issue {}` makes it for a trial, or put your own there",
            self.name
        );
        Err(Error::file(&path, problem))
    }

    fn tls(&self) -> Result<Value> {
        let file = |name: &str| self.file(name).map(|path| path.display().to_string());
        let (certificate, key) = (file(&format!("{}.crt", self.name))?, file(&format!("{}.key", self.name))?);
        Ok(json!({
            "root_ca_certificate": file("ca.crt")?,
            "listen_certificate": certificate,
            "listen_private_key": key,
            "connect_certificate": certificate,
            "connect_private_key": key,
            "enable_mtls": true,
        }))
    }
}

/// What a session does in the network.
pub enum Place<'a> {
    /// Routes between the clients of these names, and listens here, HOST:PORT.
    Router(&'a str, &'a [String]),
    /// Connects to a router, HOST:PORT.
    Client(&'a str),
    /// Connects to a router, and directly to the other clients that listen; the second address is its own.
    Peer(&'a str, &'a str),
}

/// Opens a session; a client that cannot connect tries again for `patience`.
///
/// # Errors
/// Missing certificates; an address that cannot be listened on or reached.
pub fn open(identity: &Identity<'_>, place: &Place<'_>, patience: Duration) -> Result<Session> {
    let quic = |address: &str| format!("quic/{address}");
    let (mode, listen, connect, access) = match place {
        Place::Router(address, names) => ("router", Some(quic(address)), None, Some(access(names))),
        Place::Client(server) => ("client", None, Some(quic(server)), Some(access_of_client())),
        Place::Peer(server, own) => {
            ("peer", Some(quic(own)), Some(quic(server)), Some(access_of_peer(identity.name)))
        }
    };
    let sections = [
        ("mode", json!(mode)),
        ("listen/endpoints", json!(listen.into_iter().collect::<Vec<_>>())),
        ("connect/endpoints", json!(connect.into_iter().collect::<Vec<_>>())),
        ("connect/timeout_ms", json!(patience.as_millis() as u64)),
        (
            "connect/retry",
            json!({"period_init_ms": 200, "period_max_ms": 2000, "period_increase_factor": 1.5}),
        ),
        ("scouting/multicast/enabled", json!(false)),
        ("transport/link/protocols", json!(["quic"])),
        ("transport/link/tls", identity.tls()?),
        ("transport/link/tx/lease", json!(LEASE.as_millis() as u64)),
        // A slow link is late, not broken.
        ("transport/link/tx/queue/congestion_control/block/wait_before_close", json!(60_000_000)),
        ("transport/link/rx/max_message_size", json!(MOST_ON_THE_WIRE)),
        ("transport/unicast/max_sessions", json!(70_000)),
    ];
    let mut config = zenoh::Config::default();
    let all = sections.into_iter().chain(access.map(|access| ("access_control", access)));
    for (key, value) in all {
        config
            .insert_json5(key, &value.to_string())
            .map_err(|error| Error::Refused(format!("the transport refuses {key} = {value}: {error}")))?;
    }
    let where_to = match place {
        Place::Router(address, _) => format!("listen on {address}"),
        Place::Client(server) | Place::Peer(server, _) => format!("connect to {server}"),
    };
    zenoh::open(config)
        .wait()
        .map_err(|error| Error::Refused(format!("cannot {where_to}: {}", first_line(&*error))))
}

/// Most bytes of one message of the transport: a piece, or one of the small messages.
const MOST_ON_THE_WIRE: usize = super::message::MOST + 2 * PIECE;

fn first_line(error: &dyn std::error::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Who may do what at the router: everybody else, and everything else, is denied.
fn access(names: &[String]) -> Value {
    let mut rules = Vec::new();
    let mut subjects = Vec::new();
    let mut policies = Vec::new();
    for name in names {
        let own = [format!("{ROOT}/client/{name}/**")];
        let asked = [format!("{ROOT}/server/{name}/**"), format!("{ROOT}/client/*/share/*/*/{name}")];
        let alive = [format!("{ROOT}/alive/{name}")];
        let mut ids = Vec::new();
        let mut rule = |what: &str, flow: &str, messages: &[&str], keys: &[String]| {
            let id = format!("{name} {what} {flow}");
            ids.push(id.clone());
            rules.push(json!({
                "id": id, "permission": "allow", "flows": [flow], "messages": messages, "key_exprs": keys,
            }));
        };
        rule("asks", "ingress", &["query"], &asked);
        rule("is answered", "egress", &["reply"], &asked);
        rule("is asked", "egress", &["query"], &own);
        rule("answers", "ingress", &["reply", "declare_queryable"], &own);
        rule("lives", "ingress", &["liveliness_token"], &alive);
        rule("learns who answers", "egress", &["declare_queryable"], &[format!("{ROOT}/**")]);
        let subject = format!("client {name}");
        subjects.push(json!({"id": subject, "cert_common_names": [name], "link_protocols": ["quic"]}));
        policies.push(json!({"rules": ids, "subjects": [subject]}));
    }
    json!({
        "enabled": true, "default_permission": "deny", "rules": rules, "subjects": subjects, "policies": policies,
    })
}

/// All kinds of messages.
const ALL: [&str; 9] = [
    "put",
    "delete",
    "declare_subscriber",
    "query",
    "reply",
    "declare_queryable",
    "liveliness_token",
    "liveliness_query",
    "declare_liveliness_subscriber",
];

/// Who may do what at a client that nobody connects to: it talks to the server, and to nobody whose
/// certificate has another name.
fn access_of_client() -> Value {
    json!({
        "enabled": true,
        "default_permission": "deny",
        "rules": [{
            "id": "server",
            "permission": "allow",
            "flows": ["ingress", "egress"],
            "messages": ALL,
            "key_exprs": [format!("{ROOT}/**")],
        }],
        "subjects": [{"id": "server", "cert_common_names": ["server"], "link_protocols": ["quic"]}],
        "policies": [{"rules": ["server"], "subjects": ["server"]}],
    })
}

/// The name of the party at the other end of a client's only link, if its certificate has one.
///
/// # Errors
/// A link that is gone.
pub fn peer_name(session: &Session) -> Result<Option<String>> {
    let link = session.info().links().wait().next();
    let link = link.ok_or_else(|| Error::Refused("the connection to the server is gone".into()))?;
    Ok(link.auth_identifier().map(str::to_owned))
}

/// Who may do what at a client that others connect to: everything is between it and the server, but for
/// shares, which are sealed.
fn access_of_peer(name: &str) -> Value {
    let (own, others) = (format!("{ROOT}/client/{name}/share/**"), format!("{ROOT}/client/*/share/**"));
    let mine = format!("{ROOT}/client/*/share/*/*/{name}");
    let rule = |id: &str, flows: &[&str], messages: &[&str], key: &str| json!({"id": id, "permission": "allow", "flows": flows, "messages": messages, "key_exprs": [key]});
    let rules = [
        rule("server", &["ingress", "egress"], &ALL, &format!("{ROOT}/**")),
        rule("is asked", &["ingress"], &["query"], &own),
        rule("answers", &["egress"], &["reply", "declare_queryable"], &own),
        rule("asks", &["egress"], &["query"], &mine),
        rule("is answered", &["ingress"], &["reply"], &mine),
        rule("learns who answers", &["ingress"], &["declare_queryable"], &others),
    ];
    let shares = ["is asked", "answers", "asks", "is answered", "learns who answers"];
    json!({
        "enabled": true,
        "default_permission": "deny",
        "rules": rules,
        "subjects": [
            {"id": "server", "cert_common_names": ["server"], "link_protocols": ["quic"]},
            {"id": "anybody", "link_protocols": ["quic"]},
        ],
        "policies": [
            {"rules": ["server"], "subjects": ["server"]},
            {"rules": shares, "subjects": ["anybody"]},
        ],
    })
}

/// What became of a message that was asked for.
#[derive(Debug, PartialEq)]
pub enum Pulled {
    /// It is here.
    Whole(Vec<u8>),
    /// Its holder says that there is none, and why.
    Nothing(String),
    /// The deadline has passed, or `stop` was raised.
    Late,
    /// It is larger than it may be, or its pieces do not fit.
    Refused(String),
}

/// Pulls the message at `key`, of at most `most` bytes, until `deadline`.
pub fn pull(session: &Session, key: &str, most: usize, deadline: Instant, stop: &AtomicBool) -> Pulled {
    let mut whole: Vec<u8> = Vec::new();
    let mut announced = 0;
    let mut size = FIRST_PIECE;
    loop {
        let now = Instant::now();
        if now >= deadline || stop.load(Ordering::Relaxed) {
            return Pulled::Late;
        }
        let until = deadline.min(now + PATIENCE);
        let selector = format!("{key}?from={};bytes={size}", whole.len());
        let Some((bytes, total)) = ask(session, &selector, None, until, stop) else {
            if Instant::now() < until {
                std::thread::sleep(PAUSE.min(until - now));
            }
            continue;
        };
        let piece = match bytes {
            Ok(piece) => piece,
            Err(reason) => return Pulled::Nothing(reason),
        };
        let total = total.unwrap_or(usize::MAX);
        if !whole.is_empty() && total != announced {
            return Pulled::Refused(format!("a message of {total} bytes that had {announced} before"));
        }
        announced = total;
        if total > most {
            return Pulled::Refused(format!("a message of {total} bytes where at most {most} are expected"));
        }
        let expected = total.saturating_sub(whole.len()).min(size);
        if piece.len() != expected {
            return Pulled::Refused(format!(
                "a piece of {} bytes where {expected} are expected",
                piece.len()
            ));
        }
        whole.extend_from_slice(&piece);
        if whole.len() == total {
            return Pulled::Whole(whole);
        }
        let took = now.elapsed();
        if took < SOON {
            size = (2 * size).min(PIECE);
        } else if took > 4 * SOON {
            size = (size / 2).max(FIRST_PIECE);
        }
    }
}

/// The content of an answer, or the reason why there is none; and the bytes of the whole message where the
/// answer is a piece of one.
type Answer = (Result<Vec<u8>, String>, Option<usize>);

/// Asks once; `None` when nobody answers until then.
pub fn ask(
    session: &Session,
    selector: &str,
    payload: Option<Vec<u8>>,
    until: Instant,
    stop: &AtomicBool,
) -> Option<Answer> {
    let timeout = until.saturating_duration_since(Instant::now());
    let (send, replies) = mpsc::channel();
    let question = session
        .get(selector)
        .timeout(timeout)
        .consolidation(ConsolidationMode::None)
        .congestion_control(CongestionControl::Block)
        // Nobody may listen any more.
        .callback(move |reply| drop(send.send(reply)));
    let question = match payload {
        // Small messages overtake pieces.
        Some(payload) => question.payload(payload).priority(Priority::InteractiveHigh),
        None => question,
    };
    question.wait().inspect_err(|error| tracing::debug!("{selector}: {error}")).ok()?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match replies.recv_timeout(left.min(Duration::from_millis(20))) {
            Ok(reply) => return read(reply),
            Err(RecvTimeoutError::Timeout) if !left.is_zero() && !stop.load(Ordering::Relaxed) => {}
            Err(_) => return None,
        }
    }
}

/// The encoding of the reasons that a party gives: errors in another one are the transport's own, such as a
/// question that timed out at a router, and mean silence.
pub(super) const REASON: Encoding = Encoding::TEXT_PLAIN;

fn read(reply: Reply) -> Option<Answer> {
    match reply.result() {
        Ok(sample) => {
            let total = sample.attachment().and_then(|total| total.to_bytes().first_chunk().copied());
            let total = total.and_then(|total| usize::try_from(u64::from_le_bytes(total)).ok());
            Some((Ok(sample.payload().to_bytes().into_owned()), total))
        }
        Err(error) => {
            let reason = told(&String::from_utf8_lossy(&error.payload().to_bytes()));
            (*error.encoding() == REASON).then_some((Err(reason), None))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_access_list_names_every_client_and_denies_the_rest() {
        let list = access(&["ann".into(), "bob".into()]);
        assert_eq!(list["default_permission"], "deny");
        let text = list.to_string();
        assert!(text.contains("seccogc/client/*/share/*/*/bob") && !text.contains("\"**\""));
        let may_ask: Vec<&Value> = list["rules"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| rule["id"] == "ann asks ingress")
            .map(|rule| &rule["key_exprs"])
            .collect();
        assert_eq!(*may_ask[0], json!(["seccogc/server/ann/**", "seccogc/client/*/share/*/*/ann"]));
    }
}
