//! What a token says, once its signature is good (RFC 7519 §4.1).

use super::token::malformed;
use super::{MAX_SUBJECT_LEN, refused};
use crate::error::{Error, Result};
use crate::time::Timestamp;
use serde_json::{Map, Value};
use std::time::Duration;

/// What the catalogue's session asks of the claims.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) subject: String,
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) leeway: Duration,
}

pub(super) struct Claims(Map<String, Value>);

impl Claims {
    pub(super) fn parse(json: &[u8]) -> Result<Self> {
        // serde's own words may quote the claims, which are nobody else's business.
        serde_json::from_slice(json).map(Claims).map_err(|_| malformed("its claims are not a JSON object"))
    }

    /// The subject, where every claim is as expected.
    pub(super) fn check(&self, expected: &Expected, now: Timestamp) -> Result<String> {
        self.check_expiry(expected.leeway, now)?;
        self.check_beginning(expected.leeway, now)?;
        self.check_issuer(expected.issuer.as_deref())?;
        self.check_audience(expected.audience.as_deref())?;
        self.subject(&expected.subject)
    }

    fn check_expiry(&self, leeway: Duration, now: Timestamp) -> Result<()> {
        let Some(expiry) = self.time("exp")? else {
            return Err(refused("the session token has no expiry (claim `exp`)")
                .with_help("have the issuer set `exp`: a token without it would be good for ever"));
        };
        if now < expiry.saturating_add(leeway) {
            return Ok(());
        }
        Err(refused(format!("the session token expired at {expiry}"))
            .with_help(format!("pass a fresh token; it is {now} here, with a leeway of {leeway:?}")))
    }

    fn check_beginning(&self, leeway: Duration, now: Timestamp) -> Result<()> {
        match self.time("nbf")? {
            Some(beginning) if now.saturating_add(leeway) < beginning => {
                Err(refused(format!("the session token is not valid before {beginning}"))
                    .with_help(format!("check the clocks; it is {now} here, with a leeway of {leeway:?}")))
            }
            _ => Ok(()),
        }
    }

    /// A NumericDate: seconds since 1970, perhaps with a fraction.
    fn time(&self, claim: &str) -> Result<Option<Timestamp>> {
        const SECOND: i64 = 1_000_000;
        let Some(value) = self.0.get(claim) else { return Ok(None) };
        let micros = match (value.as_i64(), value.as_f64()) {
            (Some(seconds), _) => seconds.saturating_mul(SECOND),
            // A float that does not fit ends at the bound of i64, as saturating_mul does.
            (None, Some(seconds)) => (seconds * SECOND as f64) as i64,
            (None, None) => return Err(malformed(format!("its claim `{claim}` is not a number of seconds"))),
        };
        Ok(Some(Timestamp::from_micros(micros)))
    }

    fn check_issuer(&self, expected: Option<&str>) -> Result<()> {
        let Some(expected) = expected else { return Ok(()) };
        match self.0.get("iss").and_then(Value::as_str) {
            Some(issuer) if issuer == expected => Ok(()),
            Some(_) => Err(differs("issuer", "iss", &format!("is not `{expected}`"))),
            None => Err(differs("issuer", "iss", &format!("is missing, `{expected}` is expected"))),
        }
    }

    fn check_audience(&self, expected: Option<&str>) -> Result<()> {
        let audiences: Vec<&str> = match self.0.get("aud") {
            None => Vec::new(),
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            Some(one) => one.as_str().into_iter().collect(),
        };
        match expected {
            Some(expected) if audiences.contains(&expected) => Ok(()),
            Some(expected) => Err(differs("audience", "aud", &format!("does not name `{expected}`"))),
            None if self.0.contains_key("aud") => {
                Err(differs("audience", "aud", "is set, and the session expects none")
                    .with_help("set the session's `audience` to the one that names this service"))
            }
            None => Ok(()),
        }
    }

    fn subject(&self, claim: &str) -> Result<String> {
        let fault = match self.0.get(claim) {
            Some(Value::String(text)) => match subject_fault(text) {
                None => return Ok(text.clone()),
                Some(fault) => fault,
            },
            Some(Value::Number(number)) => return Ok(number.to_string()),
            Some(_) => "is not a string or a number".into(),
            None => "is missing".into(),
        };
        Err(differs("subject", claim, &fault)
            .with_help("name the claim that holds the subject as the session's `subject`"))
    }
}

/// What keeps a text from being a header's value on every provider.
fn subject_fault(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("is empty".into());
    }
    if text.len() > MAX_SUBJECT_LEN {
        return Some(format!("has {} bytes, {MAX_SUBJECT_LEN} at most", text.len()));
    }
    text.contains(char::is_control).then(|| "holds a control character".into())
}

fn differs(what: &str, claim: &str, fault: &str) -> Error {
    refused(format!("the session token's {what} (claim `{claim}`) {fault}"))
}
