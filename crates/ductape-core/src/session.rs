//! Sessions: a publish may say on whose behalf it is made, with a JSON Web Token (RFC 7519) as proof.
//!
//! ```text
//!  header.claims.signature ─▶ algorithm ─▶ signature ─▶ exp, nbf ─▶ iss, aud ─▶ subject ─▶ SessionRef
//! ```
//!
//! What holds:
//! - The algorithm is the catalogue's. The token's own `alg` is compared with it and chooses nothing, so neither
//!   `none` nor a public key passed off as an HMAC secret gets anywhere (RFC 8725 §3.1).
//! - No claim is read before the signature is good.
//! - Only the session's tag and its subject leave this module. Neither the token nor the key stands in an error,
//!   in `Debug` or in a message.

mod claims;
mod token;

#[cfg(test)]
mod tests;

use crate::error::{Error, ErrorKind, Result};
use crate::message::SessionRef;
use crate::tag::Tag;
use crate::time::Timestamp;
use claims::Claims;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use token::Token;

/// The longest subject, in bytes: it travels as a header.
pub const MAX_SUBJECT_LEN: usize = 256;

/// The smallest RSA key, in bits (RFC 7518 §3.3).
const MIN_RSA_BITS: usize = 2048;

/// How tokens of a session are signed. The names are those of RFC 7518 §3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum SessionAlgorithm {
    /// HMAC with SHA-256: one secret signs and verifies.
    #[serde(rename = "HS256")]
    Hs256,
    /// RSA PKCS #1 v1.5 with SHA-256, of at least 2048 bits and at most 4096.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
}

impl SessionAlgorithm {
    /// As the catalogue and a token's header write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            SessionAlgorithm::Hs256 => "HS256",
            SessionAlgorithm::Rs256 => "RS256",
            SessionAlgorithm::Es256 => "ES256",
        }
    }

    const fn native(self) -> jsonwebtoken::Algorithm {
        match self {
            SessionAlgorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
            SessionAlgorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            SessionAlgorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        }
    }
}

impl fmt::Display for SessionAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What tokens of a session must be like, its secret resolved.
#[derive(Clone)]
pub struct SessionSpec {
    /// The session's tag.
    pub tag: Tag,
    /// How its tokens are signed.
    pub algorithm: SessionAlgorithm,
    /// Under HS256 the secret's bytes (RFC 7518 §3.2 asks for 32 at least); otherwise the public key as PEM.
    pub key: Vec<u8>,
    /// The claim that names the subject: a string or a number. Default `sub`.
    pub subject: String,
    /// What the claim `iss` must be; anything by default.
    pub issuer: Option<String>,
    /// What the claim `aud` must be or hold. Without it a token that is meant for a named audience is refused
    /// (RFC 7519 §4.1.3).
    pub audience: Option<String>,
    /// How far the clocks of issuer and publisher may differ. Default 60 s.
    pub leeway: Duration,
}

impl SessionSpec {
    /// A session of any issuer whose subject is the claim `sub`.
    pub fn new(tag: Tag, algorithm: SessionAlgorithm, key: impl Into<Vec<u8>>) -> Self {
        SessionSpec {
            tag,
            algorithm,
            key: key.into(),
            subject: "sub".into(),
            issuer: None,
            audience: None,
            leeway: Duration::from_secs(60),
        }
    }
}

impl fmt::Debug for SessionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionSpec")
            .field("tag", &self.tag)
            .field("algorithm", &self.algorithm)
            .field("key", &format_args!("***"))
            .field("subject", &self.subject)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("leeway", &self.leeway)
            .finish()
    }
}

/// Verifies the tokens of one session.
///
/// ```
/// use ductape_core::session::{SessionAlgorithm, SessionSpec, SessionVerifier};
/// use ductape_core::{ErrorKind, Tag, Timestamp};
///
/// let spec = SessionSpec::new(Tag::new("user-session")?, SessionAlgorithm::Hs256, "a secret of your own");
/// let verifier = SessionVerifier::new(spec)?;
/// let refused = verifier.verify("not a token", Timestamp::from_micros(0)).unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::SessionInvalid);
/// # Ok::<(), ductape_core::Error>(())
/// ```
pub struct SessionVerifier {
    tag: Arc<str>,
    algorithm: SessionAlgorithm,
    key: DecodingKey,
    expected: claims::Expected,
}

impl SessionVerifier {
    /// Reads the key.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] where the key is empty, is not one for the algorithm, or is too weak.
    pub fn new(spec: SessionSpec) -> Result<Self> {
        let key = read_key(&spec).map_err(|e| e.with_context("session", &spec.tag))?;
        Ok(SessionVerifier {
            tag: Arc::from(spec.tag.as_str()),
            algorithm: spec.algorithm,
            key,
            expected: claims::Expected {
                subject: spec.subject,
                issuer: spec.issuer,
                audience: spec.audience,
                leeway: spec.leeway,
            },
        })
    }

    /// Verifies a token as of `now`, and returns the session that a message published under it carries.
    ///
    /// # Errors
    /// [`ErrorKind::SessionInvalid`], saying which check failed: the form, the algorithm, the signature, the expiry
    /// (a token must have one), the beginning of its validity, the issuer, the audience, or the subject.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<SessionRef> {
        let subject = self.subject(token, now).map_err(|e| e.with_context("session", &self.tag))?;
        Ok(SessionRef { tag: Arc::clone(&self.tag), subject: subject.into() })
    }

    fn subject(&self, token: &str, now: Timestamp) -> Result<String> {
        let token = Token::parse(token)?;
        token.check_algorithm(self.algorithm)?;
        self.check_signature(&token)?;
        Claims::parse(&token.claims()?)?.check(&self.expected, now)
    }

    fn check_signature(&self, token: &Token<'_>) -> Result<()> {
        // Not `jsonwebtoken::decode`: that asks a process-wide provider of cryptography, which another crate's
        // features can take away, and the system's clock.
        (DEFAULT_PROVIDER.verifier_factory)(&self.algorithm.native(), &self.key)
            .map_err(|_| unusable_key(self.algorithm))?
            .verify(token.signed(), &token.signature()?)
            .map_err(|_| {
                refused("the session token's signature does not fit the session's key")
                    .with_help("sign the token with the key that the catalogue's session names")
            })
    }
}

impl fmt::Debug for SessionVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionVerifier")
            .field("tag", &self.tag)
            .field("algorithm", &self.algorithm)
            .field("key", &format_args!("***"))
            .field("expected", &self.expected)
            .finish()
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
    (DEFAULT_PROVIDER.verifier_factory)(&jsonwebtoken::Algorithm::ES256, &key).map_err(unusable)?;
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

/// The refusal of a token. What stands in it must be the catalogue's or a point in time, never the token's text.
fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::SessionInvalid, message)
}
