//! Certificates for a first trial: one authority, one certificate for every party. An organisation brings its
//! own.

use std::net::IpAddr;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::config::is_name;
use crate::error::{Error, Result};
use crate::record::claim;

fn refuse(error: &rcgen::Error) -> Error {
    Error::Refused(format!("cannot make a certificate: {error}"))
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

/// What the certificate of every trial authority says; only their keys differ.
fn authority() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).map_err(|error| refuse(&error))?;
    params.distinguished_name.push(DnType::CommonName, "seccogc trial authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Makes an authority in the new or empty `folder`, and the certificate of the server for `hosts`: names or
/// addresses under which clients reach it.
///
/// # Errors
/// A folder that is not empty or cannot be written; a host that is neither a name nor an address.
pub fn init(folder: &Path, hosts: &[String]) -> Result<()> {
    claim(folder)?;
    let key = KeyPair::generate().map_err(|error| refuse(&error))?;
    let authority = authority()?.self_signed(&key).map_err(|error| refuse(&error))?;
    write_new(&folder.join("ca.key"), &key.serialize_pem(), true)?;
    write_new(&folder.join("ca.crt"), &authority.pem(), false)?;
    sign(folder, "server", hosts)
}

/// Makes the certificate of client `name` with the authority in `folder`; with `hosts` others may connect to
/// it directly under these.
///
/// # Errors
/// A name that cannot stand in a certificate, or is taken; a folder without authority.
pub fn issue(folder: &Path, name: &str, hosts: &[String]) -> Result<()> {
    if !is_name(name) || name == "server" || name == "ca" {
        let rule = format!(
            "`{name}` cannot be a client's name; give 1 to 63 letters, digits, \"-\" and \"_\", not server or ca"
        );
        return Err(Error::Refused(rule));
    }
    sign(folder, name, hosts)
}

fn sign(folder: &Path, name: &str, hosts: &[String]) -> Result<()> {
    let path = folder.join("ca.key");
    let key = std::fs::read_to_string(&path)
        .map_err(|_| Error::file(&path, "there is no such file; `seccogc pki init` makes it"))?;
    let key = KeyPair::from_pem(&key).map_err(|error| Error::file(&path, format!("damaged: {error}")))?;
    let issuer = Issuer::new(authority()?, key);
    let mut params = CertificateParams::new(Vec::new()).map_err(|error| refuse(&error))?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
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
    write_new(&folder.join(format!("{name}.key")), &key.serialize_pem(), true)?;
    write_new(&folder.join(format!("{name}.crt")), &certificate.pem(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_issues_every_name_once() {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("pki");
        init(&pki, &["localhost".into(), "127.0.0.1".into()]).unwrap();
        issue(&pki, "ann", &[]).unwrap();
        for file in ["ca.crt", "ca.key", "server.crt", "server.key", "ann.crt", "ann.key"] {
            let text = std::fs::read_to_string(pki.join(file)).unwrap();
            assert!(text.starts_with("-----BEGIN "), "{file}");
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                let mode = std::fs::metadata(pki.join(file)).unwrap().permissions().mode() & 0o077;
                assert_eq!(mode == 0, file.ends_with(".key"), "{file}");
            }
        }
        assert!(issue(&pki, "ann", &[]).is_err(), "never overwritten");
        for name in ["server", "ca", "", "a/b", "a*", "a b"] {
            assert!(issue(&pki, name, &[]).unwrap_err().to_string().contains("cannot be a client's name"));
        }
        assert!(init(&pki, &[]).is_err());
        let nowhere = issue(&folder.path().join("no"), "ann", &[]).unwrap_err().to_string();
        assert!(nowhere.ends_with("there is no such file; `seccogc pki init` makes it"), "{nowhere}");
    }
}
