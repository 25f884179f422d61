//! The key of a session: reading it, and checking signatures with it.

use super::{SessionAlgorithm, SessionSpec, refused};
use crate::error::{Error, ErrorKind, Result};
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, DecodingKey};

/// The smallest RSA key, in bits (RFC 7518 §3.3).
const MIN_RSA_BITS: usize = 2048;

/// A key that fits the session's algorithm.
pub(super) struct SessionKey(DecodingKey);

impl SessionKey {
    pub(super) fn read(spec: &SessionSpec) -> Result<Self> {
        read_key(spec).map(SessionKey)
    }

    pub(super) fn check_signature(
        &self,
        algorithm: SessionAlgorithm,
        signed: &[u8],
        signature: Vec<u8>,
    ) -> Result<()> {
        // Not `jsonwebtoken::decode`: that asks a process-wide provider of cryptography, which another crate's
        // features can take away, and the system's clock.
        (DEFAULT_PROVIDER.verifier_factory)(&native(algorithm), &self.0)
            .map_err(|_| unusable_key(algorithm))?
            .verify(signed, &signature)
            .map_err(|_| {
                refused("the session token's signature does not fit the session's key")
                    .with_help("sign the token with the key that the catalogue's session names")
            })
    }
}

const fn native(algorithm: SessionAlgorithm) -> Algorithm {
    match algorithm {
        SessionAlgorithm::Hs256 => Algorithm::HS256,
        SessionAlgorithm::Rs256 => Algorithm::RS256,
        SessionAlgorithm::Es256 => Algorithm::ES256,
    }
}

fn read_key(spec: &SessionSpec) -> Result<DecodingKey> {
    let pem = std::str::from_utf8(&spec.key).unwrap_or_default();
    match spec.algorithm {
        SessionAlgorithm::Hs256 => read_secret(&spec.key, pem),
        SessionAlgorithm::Rs256 => read_rsa(public(pem, spec.algorithm)?),
        SessionAlgorithm::Es256 => read_ec(public(pem, spec.algorithm)?),
    }
}

fn read_secret(secret: &[u8], text: &str) -> Result<DecodingKey> {
    if secret.is_empty() {
        return Err(invalid_key("the session's secret is empty")
            .with_help("set `secret`, for instance to \"${SESSION_SECRET}\""));
    }
    // A public key is known to everybody: as a secret it would let everybody sign.
    if text.trim_start().starts_with("-----BEGIN") {
        return Err(invalid_key("the session's secret is a PEM file")
            .with_help("HS256 takes a shared secret; for a public key set `algorithm` to RS256 or ES256"));
    }
    Ok(DecodingKey::from_secret(secret))
}

/// The PEM text, where its label is a public key's.
fn public(pem: &str, algorithm: SessionAlgorithm) -> Result<&[u8]> {
    let label = pem.trim_start().strip_prefix("-----BEGIN ").and_then(|rest| rest.split("-----").next());
    match label {
        Some("PUBLIC KEY" | "RSA PUBLIC KEY") => Ok(pem.as_bytes()),
        Some(label) if label.ends_with("PRIVATE KEY") => {
            Err(invalid_key("the session's key is a private one")
                .with_help("give the public key: `openssl pkey -in private.pem -pubout`"))
        }
        _ => Err(unusable_key(algorithm)),
    }
}

fn read_rsa(pem: &[u8]) -> Result<DecodingKey> {
    let unusable = |_| unusable_key(SessionAlgorithm::Rs256);
    let key = DecodingKey::from_rsa_pem(pem).map_err(unusable)?;
    let der = key.try_get_as_bytes().map_err(unusable)?;
    let (modulus, _) =
        (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der).map_err(unusable)?;
    let bits = modulus.len() * 8;
    if bits < MIN_RSA_BITS {
        return Err(invalid_key(format!("the session's RSA key has {bits} bits, {MIN_RSA_BITS} at least"))
            .with_help("make a longer key: `openssl genrsa 3072`"));
    }
    Ok(key)
}

fn read_ec(pem: &[u8]) -> Result<DecodingKey> {
    let unusable = |_| unusable_key(SessionAlgorithm::Es256);
    let key = DecodingKey::from_ec_pem(pem).map_err(unusable)?;
    (DEFAULT_PROVIDER.verifier_factory)(&Algorithm::ES256, &key).map_err(unusable)?;
    Ok(key)
}

fn invalid_key(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message)
}

fn unusable_key(algorithm: SessionAlgorithm) -> Error {
    let wanted = match algorithm {
        SessionAlgorithm::Hs256 => "a secret",
        SessionAlgorithm::Rs256 => {
            "an RSA public key of 2048 to 4096 bits in PEM (`-----BEGIN PUBLIC KEY-----`)"
        }
        SessionAlgorithm::Es256 => "a P-256 public key in PEM (`-----BEGIN PUBLIC KEY-----`)",
    };
    invalid_key(format!("the session's key is not one for {algorithm}")).with_help(format!("give {wanted}"))
}
