//! Certificates for servers that speak TLS, made anew for each.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use std::io;
use std::path::{Path, PathBuf};

/// A certificate authority, and a certificate that it gave to `localhost` and 127.0.0.1, as PEM files in one folder.
///
/// A test of an unknown authority makes a second set and hands its [`ca`](Self::ca) to the client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Certificates {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// The server's private key, PKCS#8.
    pub key: PathBuf,
    /// Key and certificate in one file, as Kafka reads them.
    pub keystore: PathBuf,
}

impl Certificates {
    /// Makes a fresh set in a folder, which is made where it is missing. They do not expire.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn generate(folder: &Path) -> io::Result<Self> {
        let (ca, certificate, key) = sign().map_err(io::Error::other)?;
        std::fs::create_dir_all(folder)?;
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::write(&file, text).map(|()| file)
        };
        Ok(Certificates {
            ca: write("ca.pem", &ca)?,
            certificate: write("server.pem", &certificate)?,
            key: write("server.key", &key)?,
            keystore: write("keystore.pem", &format!("{key}{certificate}"))?,
        })
    }
}

/// PEM texts: the authority's certificate, the server's, and the server's key.
fn sign() -> Result<(String, String, String), rcgen::Error> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.distinguished_name.push(DnType::CommonName, "Ductape tests");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let certificate = server.signed_by(&key, &authority)?;
    Ok((authority.pem(), certificate.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_set_has_an_authority_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let one = Certificates::generate(&folder.path().join("one")).unwrap();
        let two = Certificates::generate(&folder.path().join("two")).unwrap();
        assert_ne!(read(&one.ca), read(&two.ca));
        assert!(read(&one.key).starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_eq!(read(&one.keystore), read(&one.key) + &read(&one.certificate));
    }
}
