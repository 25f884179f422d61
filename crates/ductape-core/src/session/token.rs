//! The compact form of a signed token (RFC 7515 §7.1): three parts of unpadded base64url, with dots between.

use super::{SessionAlgorithm, refused};
use crate::error::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The longest token, in bytes; HTTP servers end at 8 KiB to 16 KiB a header.
pub(super) const MAX_TOKEN_LEN: usize = 16 << 10;

/// The algorithms of RFC 7518 §3.1 and RFC 8037, which may be named in an error; other text is the sender's own.
const NAMES: [&str; 13] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384",
    "PS512", "EdDSA",
];

/// A token in its parts, still encoded.
pub(super) struct Token<'t> {
    header: &'t str,
    claims: &'t str,
    signed: &'t str,
    signature: &'t str,
}

/// What is read of a header. A field that stands twice is an error of serde's.
#[derive(Deserialize)]
struct Header {
    alg: String,
    crit: Option<IgnoredAny>,
}

impl<'t> Token<'t> {
    pub(super) fn parse(token: &'t str) -> Result<Self> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(malformed(format!("it has {} bytes, {MAX_TOKEN_LEN} at most", token.len())));
        }
        let parts = token.rsplit_once('.').and_then(|(signed, signature)| {
            let (header, claims) = signed.split_once('.')?;
            (!claims.contains('.')).then_some(Token { header, claims, signed, signature })
        });
        parts.ok_or_else(|| malformed("it has not three parts"))
    }

    /// Refuses every algorithm but the session's.
    pub(super) fn check_algorithm(&self, expected: SessionAlgorithm) -> Result<()> {
        let header: Header = serde_json::from_slice(&decode("header", self.header)?)
            .map_err(|_| malformed("its header is not a JSON object with `alg`"))?;
        if header.alg != expected.as_str() {
            return Err(another_algorithm(&header.alg, expected));
        }
        // RFC 7515 §4.1.11: who does not understand a critical extension must refuse the token.
        if header.crit.is_some() {
            return Err(malformed("its header has critical extensions, which are not supported"));
        }
        Ok(())
    }

    /// What the signature is over.
    pub(super) fn signed(&self) -> &'t [u8] {
        self.signed.as_bytes()
    }

    pub(super) fn signature(&self) -> Result<Vec<u8>> {
        decode("signature", self.signature)
    }

    pub(super) fn claims(&self) -> Result<Vec<u8>> {
        decode("claims part", self.claims)
    }
}

fn decode(part: &str, text: &str) -> Result<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed(format!("its {part} is not base64url")))
}

fn another_algorithm(found: &str, expected: SessionAlgorithm) -> Error {
    let message = if found.eq_ignore_ascii_case("none") {
        format!("the session token is not signed, and the session asks for {expected}")
    } else if NAMES.contains(&found) {
        format!("the session token's algorithm is {found}, and the session's is {expected}")
    } else {
        format!("the session token's algorithm is unknown, and the session's is {expected}")
    };
    refused(message).with_help(format!("sign the token with {expected}, or mend the session's `algorithm`"))
}

pub(super) fn malformed(what: impl std::fmt::Display) -> Error {
    refused(format!("the session token is malformed: {what}"))
        .with_help("pass the token as its issuer gave it: `header.claims.signature`, without `Bearer`")
}
