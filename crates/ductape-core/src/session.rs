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
#[cfg(feature = "sessions")]
mod key;
#[cfg(not(feature = "sessions"))]
#[path = "session/no_key.rs"]
mod key;
mod token;

#[cfg(test)]
#[cfg(feature = "sessions")]
mod tests;

use crate::error::{Error, ErrorKind, Result};
use crate::message::SessionRef;
use crate::tag::Tag;
use crate::time::Timestamp;
use claims::Claims;
use key::SessionKey;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use token::Token;

/// The longest subject, in bytes: it travels as a header.
pub const MAX_SUBJECT_LEN: usize = 256;

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

/// Verifies the tokens of one session. Needs the feature `sessions`, which is among the default ones.
///
/// ```
/// # #[cfg(feature = "sessions")] {
/// use ductape_core::session::{SessionAlgorithm, SessionSpec, SessionVerifier};
/// use ductape_core::{ErrorKind, Tag, Timestamp};
///
/// let spec = SessionSpec::new(Tag::new("user-session")?, SessionAlgorithm::Hs256, "a secret of your own");
/// let verifier = SessionVerifier::new(spec)?;
/// let refused = verifier.verify("not a token", Timestamp::from_micros(0)).unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::SessionInvalid);
/// # }
/// # Ok::<(), ductape_core::Error>(())
/// ```
pub struct SessionVerifier {
    tag: Arc<str>,
    algorithm: SessionAlgorithm,
    key: SessionKey,
    expected: claims::Expected,
}

impl SessionVerifier {
    /// Reads the key.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] where the key is empty, is not one for the algorithm, or is too weak;
    /// [`ErrorKind::Unsupported`] in a build without the feature `sessions`.
    pub fn new(spec: SessionSpec) -> Result<Self> {
        let key = SessionKey::read(&spec).map_err(|e| e.with_context("session", &spec.tag))?;
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
        self.key.check_signature(self.algorithm, token.signed(), token.signature()?)?;
        Claims::parse(&token.claims()?)?.check(&self.expected, now)
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

/// The refusal of a token. What stands in it must be the catalogue's or a point in time, never the token's text.
fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::SessionInvalid, message)
}
