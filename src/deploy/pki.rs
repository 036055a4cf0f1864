//! Certificates for a first trial: one authority, one certificate for every party. An organisation brings its
//! own.
//!
//! | folder | file | for whom |
//! |---|---|---|
//! | `pki-authority` | `ca.key`, `revoked.json` | the authority alone: whoever has the key can be anybody |
//! | `pki` | `ca.crt`, `ca.crl` | everybody |
//! | `pki` | `NAME.crt`, `NAME.key` | that party alone |

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::message::{from_hex, to_hex};
use super::statement::serial;
use crate::config::is_name;
use crate::error::{Error, Result};
use crate::party::agreement::entropy;
use crate::record::{claim, write_durably};

/// Days for which an authority vouches.
const AUTHORITY_DAYS: i64 = 3650;

/// Days for which a party's certificate is valid, by default.
pub const DAYS: u16 = 365;

fn refuse(error: &rcgen::Error) -> Error {
    Error::Refused(format!("cannot make a certificate: {error}"))
}

/// Where the key of the authority is, apart from what its parties get: `pki-authority` beside `pki`.
#[must_use]
pub fn authority_folder(pki: &Path) -> PathBuf {
    let mut name = pki.file_name().unwrap_or("pki".as_ref()).to_owned();
    name.push("-authority");
    pki.with_file_name(name)
}

/// A secret file, for its owner's eyes only; an existing file stays.
fn write_new(path: &Path, content: &str, secret: bool) -> Result<()> {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if secret { 0o600 } else { 0o644 });
    let mut file = options.open(path).map_err(Error::io("create", path))?;
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(Error::io("write", path))
}

/// What the certificate of every trial authority says; only their keys and their times differ.
fn authority() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).map_err(|error| refuse(&error))?;
    params.distinguished_name.push(DnType::CommonName, "seccogc trial authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, AUTHORITY_DAYS);
    Ok(params)
}

/// From yesterday on, as clocks differ.
fn valid(params: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::DAY;
    params.not_after = now + Duration::days(days);
}

/// Makes an authority in new or empty folders, `pki` and [`authority_folder`], and the certificate of the
/// server for `hosts`: names or addresses under which clients reach it.
///
/// # Errors
/// A folder that is not empty or cannot be written; a host that is neither a name nor an address.
pub fn init(pki: &Path, hosts: &[String]) -> Result<()> {
    let secret = authority_folder(pki);
    claim(&secret)?;
    claim(pki)?;
    #[cfg(unix)]
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .map_err(Error::io("protect", &secret))?;
    let key = KeyPair::generate().map_err(|error| refuse(&error))?;
    let authority = authority()?.self_signed(&key).map_err(|error| refuse(&error))?;
    write_new(&secret.join("ca.key"), &key.serialize_pem(), true)?;
    write_new(&pki.join("ca.crt"), &authority.pem(), false)?;
    sign(pki, "server", hosts, DAYS)
}

/// Makes the certificate of client `name` for so many days; with `hosts` others may connect to it directly
/// under these.
///
/// # Errors
/// A name that cannot stand in a certificate, or is taken; a folder without authority.
pub fn issue(pki: &Path, name: &str, hosts: &[String], days: u16) -> Result<()> {
    if !is_name(name) || name == "server" || name == "ca" {
        let rule = format!(
            "`{}` cannot be a client's name; give 1 to 63 letters, digits, \"-\" and \"_\", not server or ca",
            super::message::told(name)
        );
        return Err(Error::Refused(rule));
    }
    sign(pki, name, hosts, days)
}

/// The authority's key and name.
fn issuer(pki: &Path) -> Result<Issuer<'static, KeyPair>> {
    let mut path = authority_folder(pki).join("ca.key");
    let beside = pki.join("ca.key");
    if !path.exists() && beside.exists() {
        tracing::warn!("{} lies where clients get theirs; move it to {}", beside.display(), path.display());
        path = beside;
    }
    let key = std::fs::read_to_string(&path)
        .map_err(|_| Error::file(&path, "there is no such file; `seccogc pki init` makes it"))?;
    let key = KeyPair::from_pem(&key).map_err(|error| Error::file(&path, format!("damaged: {error}")))?;
    Ok(Issuer::new(authority()?, key))
}

fn sign(pki: &Path, name: &str, hosts: &[String], days: u16) -> Result<()> {
    let issuer = issuer(pki)?;
    let mut params = CertificateParams::new(Vec::new()).map_err(|error| refuse(&error))?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, days.into());
    // 127 random bits: a certificate is revoked by its number.
    let mut number = entropy()?.bytes()[..16].to_vec();
    number[0] = number[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&number));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Only who is connected to may pose as what is connected to.
    if name != "server" {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    if name == "server" || !hosts.is_empty() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    for host in hosts {
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => {
                let rule = || Error::Refused(format!("--host {host}: neither a host name nor an address"));
                SanType::DnsName(host.as_str().try_into().map_err(|_| rule())?)
            }
        });
    }
    let key = KeyPair::generate().map_err(|error| refuse(&error))?;
    let certificate = params.signed_by(&key, &issuer).map_err(|error| refuse(&error))?;
    write_new(&pki.join(format!("{name}.key")), &key.serialize_pem(), true)?;
    write_new(&pki.join(format!("{name}.crt")), &certificate.pem(), false)
}

/// A certificate that does not count any more.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoked {
    name: String,
    serial: String,
    /// Seconds since 1970.
    time: i64,
}

/// Revokes the certificate of `name`: `ca.crl`, which everybody gets anew, lists it. Its files get names
/// under which nobody takes them for valid ones, so that another one may be issued.
///
/// # Errors
/// A name without certificate; a folder without authority.
pub fn revoke(pki: &Path, name: &str) -> Result<()> {
    let path = pki.join(format!("{name}.crt"));
    if !is_name(name) || name == "ca" || !path.exists() {
        return Err(Error::Refused(format!("`{}` has no certificate here", super::message::told(name))));
    }
    let serial = to_hex(&serial(&path)?);
    let issuer = issuer(pki)?;
    let list = authority_folder(pki).join("revoked.json");
    let mut all: Vec<Revoked> = match std::fs::read(&list) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| Error::file(&list, format!("damaged: {error}")))?
        }
        Err(_) => Vec::new(),
    };
    let now = OffsetDateTime::now_utc();
    all.push(Revoked { name: name.into(), serial: serial.clone(), time: now.unix_timestamp() });
    let entry = |one: &Revoked| {
        let number = from_hex(&one.serial)
            .ok_or_else(|| Error::file(&list, format!("damaged: `{}` is no number", one.serial)))?;
        Ok(RevokedCertParams {
            serial_number: SerialNumber::from_slice(&number),
            revocation_time: OffsetDateTime::from_unix_timestamp(one.time).unwrap_or(now),
            reason_code: None,
            invalidity_date: None,
        })
    };
    let params = CertificateRevocationListParams {
        this_update: now,
        next_update: now + Duration::days(AUTHORITY_DAYS),
        crl_number: SerialNumber::from(all.len() as u64),
        issuing_distribution_point: None,
        revoked_certs: all.iter().map(entry).collect::<Result<_>>()?,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let crl = params.signed_by(&issuer).and_then(|crl| crl.pem()).map_err(|error| refuse(&error))?;
    let json = serde_json::to_vec_pretty(&all).expect("names and numbers have a JSON form");
    write_durably(&list, &json)?;
    write_durably(&pki.join("ca.crl"), crl.as_bytes())?;
    for kind in ["crt", "key"] {
        let (from, to) =
            (pki.join(format!("{name}.{kind}")), pki.join(format!("{name}.revoked-{}.{kind}", &serial[..8])));
        if from.exists() {
            std::fs::rename(&from, &to).map_err(Error::io("rename", &from))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_issues_every_name_once() {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("pki");
        init(&pki, &["localhost".into(), "127.0.0.1".into()]).unwrap();
        issue(&pki, "ann", &[], DAYS).unwrap();
        for file in ["ca.crt", "server.crt", "server.key", "ann.crt", "ann.key", "../pki-authority/ca.key"] {
            let text = std::fs::read_to_string(pki.join(file)).unwrap();
            assert!(text.starts_with("-----BEGIN "), "{file}");
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                let mode = std::fs::metadata(pki.join(file)).unwrap().permissions().mode() & 0o077;
                assert_eq!(mode == 0, file.ends_with(".key"), "{file}");
            }
        }
        assert!(!pki.join("ca.key").exists(), "nothing of the authority's where clients get theirs");
        assert!(issue(&pki, "ann", &[], DAYS).is_err(), "never overwritten");
        for name in ["server", "ca", "", "a/b", "a*", "a b", "a\nb"] {
            let line = issue(&pki, name, &[], DAYS).unwrap_err().to_string();
            assert!(line.contains("cannot be a client's name") && line.lines().count() == 1, "{line}");
        }
        assert!(init(&pki, &[]).is_err());
        let nowhere = issue(&folder.path().join("no"), "ann", &[], DAYS).unwrap_err().to_string();
        assert!(nowhere.ends_with("there is no such file; `seccogc pki init` makes it"), "{nowhere}");
    }

    #[test]
    fn a_revoked_certificate_is_listed_and_its_name_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("pki");
        init(&pki, &[]).unwrap();
        for _ in 0..2 {
            issue(&pki, "ann", &[], DAYS).unwrap();
            revoke(&pki, "ann").unwrap();
        }
        let list = std::fs::read_to_string(authority_folder(&pki).join("revoked.json")).unwrap();
        assert_eq!(list.matches("\"ann\"").count(), 2);
        assert!(std::fs::read_to_string(pki.join("ca.crl")).unwrap().starts_with("-----BEGIN X509 CRL"));
        assert_eq!(revoke(&pki, "ann").unwrap_err().to_string(), "`ann` has no certificate here");
        assert_eq!(revoke(&pki, "../x").unwrap_err().to_string(), "`../x` has no certificate here");
        issue(&pki, "ann", &[], DAYS).unwrap();
    }
}
