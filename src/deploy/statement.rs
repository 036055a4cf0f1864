//! Statements: what a party says under its name, signed with the key of its certificate, so that others
//! believe it whoever hands it on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, TrustAnchor, UnixTime};
use rustls::sign::SigningKey;
use serde::Serialize;
use serde::de::DeserializeOwned;
use webpki::{EndEntityCert, KeyUsage, OwnedCertRevocationList, RevocationOptionsBuilder};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::message::{Signed, VERSION, from_hex, from_json, to_hex, to_json, told};
use super::transport::Identity;
use crate::bounds;
use crate::config::is_name;
use crate::error::{Error, Result};

/// Most bytes of a certificate with those that stand between it and the authority.
const CHAIN: usize = 8 * 1024;

/// Most certificates of a chain.
const LINKS: usize = 4;

/// Most bytes of a signature: one of RSA with 8192 bits.
pub(super) const SIGNATURE: usize = 1024;

/// Days before the end of its own certificate from which on a party is warned.
pub const SOON: i64 = 30;

/// What a statement is about; a signature holds for one of them only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The server: what a run is.
    Welcome,
    /// A client: that it is ready for a round.
    Entry,
    /// The server: the roster of a round.
    Announcement,
    /// A client: who goes on in a round, as the server told it.
    Vote,
}

impl Topic {
    fn name(self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::Entry => "entry",
            Self::Announcement => "announcement",
            Self::Vote => "vote",
        }
    }

    fn is_of_server(self) -> bool {
        matches!(self, Self::Welcome | Self::Announcement)
    }

    /// What is signed.
    fn message(self, body: &str) -> Vec<u8> {
        [format!("seccogc {VERSION} {}\0", self.name()).as_bytes(), body.as_bytes()].concat()
    }
}

/// A party that signs.
pub struct Signer {
    chain: String,
    key: Arc<dyn SigningKey>,
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    default_provider().signature_verification_algorithms
}

fn read(path: &Path) -> Result<String> {
    bounds::read_text(path, 1 << 20, "a certificate or key")
}

fn damaged<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> Error + '_ {
    move |error| Error::file(path, format!("damaged: {error}"))
}

impl Signer {
    /// Reads `NAME.crt` and `NAME.key`.
    ///
    /// # Errors
    /// Files that cannot be read; a certificate of another name, or one that is over; a key of a kind that
    /// nobody here can check.
    pub fn load(identity: &Identity<'_>) -> Result<Self> {
        let path = identity.file(&format!("{}.crt", identity.name))?;
        let chain = read(&path)?;
        let certificates = certificates(&chain).map_err(damaged(&path))?;
        let name = name(&certificates[0]).map_err(damaged(&path))?;
        if name != identity.name {
            let rule = format!("the certificate of `{name}`; give that of `{}`", identity.name);
            return Err(Error::file(&path, rule));
        }
        let days = days_left(&certificates[0]).map_err(damaged(&path))?;
        if days < 0 {
            return Err(Error::file(&path, format!("expired {} days ago; have a new one issued", -days)));
        }
        if days < SOON {
            tracing::warn!("{}: expires in {days} days; have a new one issued", path.display());
        }
        let path = identity.file(&format!("{}.key", identity.name))?;
        let key = PrivateKeyDer::from_pem_slice(read(&path)?.as_bytes()).map_err(damaged(&path))?;
        let key = any_supported_type(&key).map_err(damaged(&path))?;
        Ok(Self { chain, key })
    }

    /// Signs what is said about `topic`.
    ///
    /// # Errors
    /// A key that cannot sign.
    pub fn sign(&self, topic: Topic, said: &impl Serialize) -> Result<Signed> {
        let refuse = |error: &dyn std::fmt::Display| Error::Refused(format!("cannot sign: {error}"));
        let body = String::from_utf8(to_json(said)).expect("JSON is text");
        let offered: Vec<SignatureScheme> = algorithms().mapping.iter().map(|(scheme, _)| *scheme).collect();
        let signer = self.key.choose_scheme(&offered);
        let signer = signer.ok_or_else(|| refuse(&"the key is of a kind that nobody here can check"))?;
        let signature = signer.sign(&topic.message(&body)).map_err(|error| refuse(&error))?;
        let scheme = signer.scheme().into();
        Ok(Signed { body, chain: self.chain.clone(), scheme, signature: to_hex(&signature) })
    }
}

/// Who vouches for names, and whom it does not vouch for any more.
pub struct Authority {
    anchor: TrustAnchor<'static>,
    /// `ca.crl`.
    path: PathBuf,
    revoked: RwLock<Revoked>,
}

/// A revocation list.
#[derive(Default)]
struct Revoked {
    written: Option<Written>,
    list: Option<Arc<webpki::CertRevocationList<'static>>>,
}

/// When a file was written, and how long it is.
type Written = (SystemTime, u64);

/// `None` where there is no file.
fn written(path: &Path) -> Option<Written> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len()))
}

fn revocations(path: &Path) -> Result<webpki::CertRevocationList<'static>> {
    let list = CertificateRevocationListDer::from_pem_slice(read(path)?.as_bytes()).map_err(damaged(path))?;
    Ok(OwnedCertRevocationList::from_der(&list).map_err(damaged(path))?.into())
}

impl Authority {
    /// Reads `ca.crt` and, where it is there, the revocation list `ca.crl`, which is read again whenever its
    /// file has changed.
    ///
    /// # Errors
    /// Files that cannot be read, or are damaged.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("ca.crt");
        let certificate = CertificateDer::from_pem_slice(read(&path)?.as_bytes()).map_err(damaged(&path))?;
        let anchor = webpki::anchor_from_trusted_cert(&certificate).map_err(damaged(&path))?.to_owned();
        let path = folder.join("ca.crl");
        let written = written(&path);
        let list = written.map(|_| revocations(&path)).transpose()?.map(Arc::new);
        Ok(Self { anchor, path, revoked: RwLock::new(Revoked { written, list }) })
    }

    /// The revocation list as it is now. Without a file, or with one that is damaged, the last one stays in
    /// force.
    fn revoked(&self) -> Option<Arc<webpki::CertRevocationList<'static>>> {
        let written = written(&self.path);
        {
            let known = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
            if written.is_none() || written == known.written {
                return known.list.clone();
            }
        }
        let mut known = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        // Of a damaged file is told once.
        known.written = written;
        match revocations(&self.path) {
            Ok(list) => {
                tracing::info!("{}: read again", self.path.display());
                known.list = Some(Arc::new(list));
            }
            Err(error) => tracing::warn!("{error}; the last revocation list stays in force"),
        }
        known.list.clone()
    }

    /// The name of who signed, and what it says.
    ///
    /// # Errors
    /// A certificate that the authority does not vouch for, or not any more; a signature for something else;
    /// a party that may not speak about `topic`.
    pub fn verify<T: DeserializeOwned>(&self, topic: Topic, signed: &Signed) -> Result<(String, T), String> {
        let chain = certificates(&signed.chain)?;
        let name = name(&chain[0])?;
        let who = if name == "server" { "the server".to_owned() } else { format!("`{name}`") };
        if topic.is_of_server() != (name == "server") {
            return Err(format!("the {} is signed by {who}", topic.name()));
        }
        let end =
            EndEntityCert::try_from(&chain[0]).map_err(|error| format!("certificate of {who}: {error}"))?;
        self.vouched(&end, &chain, topic.is_of_server())
            .map_err(|error| format!("certificate of {who}: {}", reason(&error)))?;
        let forged = || format!("the {} was not signed by {who}", topic.name());
        let bytes =
            from_hex(&signed.signature).filter(|bytes| bytes.len() <= SIGNATURE).ok_or_else(forged)?;
        let scheme = SignatureScheme::from(signed.scheme);
        let known = algorithms().mapping.iter().find(|(known, _)| *known == scheme).ok_or_else(forged)?;
        let message = topic.message(&signed.body);
        // One scheme of TLS 1.2 stands for several curves.
        let fits = known.1.iter().any(|one| end.verify_signature(*one, &message, &bytes).is_ok());
        if !fits {
            return Err(forged());
        }
        let said = from_json(signed.body.as_bytes());
        said.map(|said| (name, said)).map_err(|error| format!("the {} of {who}: {error}", topic.name()))
    }

    fn vouched(
        &self,
        end: &EndEntityCert<'_>,
        chain: &[CertificateDer<'_>],
        server: bool,
    ) -> Result<(), webpki::Error> {
        let revoked = self.revoked();
        let lists: Vec<&webpki::CertRevocationList<'_>> = revoked.as_deref().into_iter().collect();
        let revocation = (!lists.is_empty()).then(|| {
            let builder = RevocationOptionsBuilder::new(&lists).expect("there is a list");
            // The list is the authority's; what stands in between has lists of its own, which we do not have.
            builder
                .with_depth(webpki::RevocationCheckDepth::EndEntity)
                .with_status_policy(webpki::UnknownStatusPolicy::Allow)
                .build()
        });
        let usage = if server { KeyUsage::server_auth() } else { KeyUsage::client_auth() };
        let (now, anchors) = (UnixTime::now(), std::slice::from_ref(&self.anchor));
        end.verify_for_usage(algorithms().all, anchors, &chain[1..], now, usage, revocation, None).map(drop)
    }
}

/// A failed check in the words of people.
fn reason(error: &webpki::Error) -> String {
    match error {
        webpki::Error::CertExpired { time, not_after } => {
            let days = time.as_secs().saturating_sub(not_after.as_secs()) / 86_400;
            format!("expired {days} days ago")
        }
        webpki::Error::CertNotValidYet { .. } => "not valid yet".into(),
        webpki::Error::CertRevoked => "revoked".into(),
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            "not of our authority".into()
        }
        other => other.to_string(),
    }
}

/// The certificates of a chain, the party's own first; at least one.
fn certificates(chain: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    if chain.len() > CHAIN {
        return Err(format!("certificates of {} bytes where at most {CHAIN} are expected", chain.len()));
    }
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    match parsed {
        Ok(parsed) if (1..=LINKS).contains(&parsed.len()) => Ok(parsed),
        Ok(parsed) => Err(format!("{} certificates where 1 to {LINKS} are expected", parsed.len())),
        Err(error) => Err(format!("a certificate that is none: {error}")),
    }
}

/// The name in a certificate: its only common name.
fn name(certificate: &CertificateDer<'_>) -> Result<String, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| "a certificate that is none")?;
    let mut names = parsed.subject().iter_common_name();
    let (Some(first), None) = (names.next(), names.next()) else {
        return Err("a certificate without exactly one common name".into());
    };
    match first.as_str() {
        Ok(name) if is_name(name) => Ok(name.to_owned()),
        Ok(name) => Err(format!("`{}` in a certificate is not a name", told(name))),
        Err(_) => Err("a common name that is no text".into()),
    }
}

/// Days until a certificate expires, negative since then.
fn days_left(certificate: &CertificateDer<'_>) -> Result<i64, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| "a certificate that is none")?;
    let left = parsed.validity().not_after.timestamp() - UnixTime::now().as_secs() as i64;
    Ok(left.div_euclid(86_400))
}

/// The number of the certificate in a file.
///
/// # Errors
/// A file that cannot be read or holds no certificate.
pub fn serial(path: &Path) -> Result<Vec<u8>> {
    let chain = certificates(&read(path)?).map_err(damaged(path))?;
    let (_, parsed) = X509Certificate::from_der(&chain[0]).map_err(damaged(path))?;
    Ok(parsed.raw_serial().to_vec())
}
