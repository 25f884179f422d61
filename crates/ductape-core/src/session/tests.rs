//! Tokens here are signed by this file under HS256, by OpenSSL under RS256 and ES256 (fixtures), and by RFC 7515.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

const SECRET: &[u8] = b"a secret of thirty-two bytes ...";
const RSA_PEM: &str = include_str!("fixtures/rsa.public.pem");
const RSA_1024_PEM: &str = include_str!("fixtures/rsa-1024.public.pem");
const EC_PEM: &str = include_str!("fixtures/ec.public.pem");
const EC_P384_PEM: &str = include_str!("fixtures/ec-p384.public.pem");
const RS256_TOKEN: &str = include_str!("fixtures/rs256.jwt");
const ES256_TOKEN: &str = include_str!("fixtures/es256.jwt");
/// The fixtures' tokens and the claims of [`claims`] expire an hour after this.
const ISSUED: i64 = 1_700_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn spec(algorithm: SessionAlgorithm, key: impl Into<Vec<u8>>) -> SessionSpec {
    let mut spec = SessionSpec::new(Tag::new("user-session").unwrap(), algorithm, key);
    spec.subject = "userId".into();
    spec
}

fn hs256() -> SessionSpec {
    spec(SessionAlgorithm::Hs256, SECRET)
}

fn claims() -> Value {
    json!({ "userId": "user-42", "exp": ISSUED + 3600 })
}

fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

fn sign_with(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let key = EncodingKey::from_secret(secret);
    let signature =
        jsonwebtoken::crypto::sign(signed.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

fn sign(claims: &Value) -> String {
    sign_with(&json!({ "alg": "HS256" }), claims, SECRET)
}

fn verify(spec: SessionSpec, token: &str, now: i64) -> Result<String> {
    SessionVerifier::new(spec)?.verify(token, at(now)).map(|session| session.subject.to_string())
}

/// The refusal's words, after checking what holds for every refusal.
#[track_caller]
fn refusal(spec: SessionSpec, token: &str, now: i64) -> String {
    let error = verify(spec, token, now).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SessionInvalid, "{error}");
    assert_eq!(error.context("session"), Some("user-session"));
    assert_eq!(error.retry(), crate::error::Retry::Never);
    for part in token.split('.').filter(|part| part.len() > 12) {
        assert!(!format!("{error} {error:?}").contains(part), "the token is shown: {error}");
    }
    error.message().to_owned()
}

#[test]
fn a_good_token_gives_the_sessions_tag_and_its_subject() {
    let verifier = SessionVerifier::new(hs256()).unwrap();
    let session = verifier.verify(&sign(&claims()), at(ISSUED)).unwrap();
    assert_eq!((&*session.tag, &*session.subject), ("user-session", "user-42"));
}

#[test]
fn tokens_that_openssl_signed_are_good() {
    let rsa = spec(SessionAlgorithm::Rs256, RSA_PEM);
    let ec = spec(SessionAlgorithm::Es256, EC_PEM);
    assert_eq!(verify(rsa, RS256_TOKEN, ISSUED).unwrap(), "user-42");
    assert_eq!(verify(ec, ES256_TOKEN, ISSUED).unwrap(), "user-42");
}

/// RFC 7515, appendix A.1.
#[test]
fn the_token_of_the_standard_is_good() {
    let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                 eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
                 dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let mut spec = spec(SessionAlgorithm::Hs256, URL_SAFE_NO_PAD.decode(key).unwrap());
    spec.subject = "iss".into();
    assert_eq!(verify(spec, token, 1_300_819_379).unwrap(), "joe");
}

#[test]
fn a_changed_claim_or_another_key_fails_at_the_signature() {
    let token = sign(&claims());
    let (_, signature) = token.rsplit_once('.').unwrap();
    let forged =
        format!("{}.{}.{signature}", encode(&json!({ "alg": "HS256" })), encode(&json!({ "userId": 1 })));
    let foreign = sign_with(&json!({ "alg": "HS256" }), &claims(), b"another secret");
    for token in [&forged, &foreign] {
        assert!(refusal(hs256(), token, ISSUED).contains("signature"));
    }
    for (algorithm, pem, token) in
        [(SessionAlgorithm::Rs256, RSA_PEM, RS256_TOKEN), (SessionAlgorithm::Es256, EC_PEM, ES256_TOKEN)]
    {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let swapped: String = signature.chars().rev().collect();
        let words = refusal(spec(algorithm, pem), &format!("{signed}.{swapped}"), ISSUED);
        assert!(words.contains("signature"), "{words}");
    }
}

#[test]
fn the_algorithm_is_the_sessions_and_never_the_tokens() {
    let public_key_as_secret = sign_with(&json!({ "alg": "HS256" }), &claims(), RSA_PEM.as_bytes());
    let words = refusal(spec(SessionAlgorithm::Rs256, RSA_PEM), &public_key_as_secret, ISSUED);
    assert_eq!(words, "the session token's algorithm is HS256, and the session's is RS256");

    for none in ["none", "None", "NONE"] {
        let unsigned = format!("{}.{}.", encode(&json!({ "alg": none })), encode(&claims()));
        assert!(refusal(hs256(), &unsigned, ISSUED).contains("is not signed"));
    }
    let invented = sign_with(&json!({ "alg": "invented" }), &claims(), SECRET);
    let words = refusal(hs256(), &invented, ISSUED);
    assert!(words.contains("algorithm is unknown") && !words.contains("invented"), "{words}");
}

#[test]
fn a_header_claiming_another_algorithm_over_the_right_signature_is_refused() {
    let relabelled = sign_with(&json!({ "alg": "RS256" }), &claims(), SECRET);
    assert!(refusal(hs256(), &relabelled, ISSUED).contains("algorithm is RS256"));
}

#[test]
fn a_token_is_good_until_its_expiry_and_the_leeway() {
    let token = sign(&claims());
    assert!(verify(hs256(), &token, ISSUED + 3659).is_ok());
    let words = refusal(hs256(), &token, ISSUED + 3660);
    assert_eq!(words, "the session token expired at 2023-11-14T23:13:20Z");
    let mut strict = hs256();
    strict.leeway = Duration::ZERO;
    assert!(refusal(strict, &token, ISSUED + 3600).contains("expired"));
}

#[test]
fn a_token_is_refused_before_it_begins() {
    let token = sign(&claims_with("nbf", json!(ISSUED + 61)));
    assert!(refusal(hs256(), &token, ISSUED).contains("not valid before 2023-11-14T22:14:21Z"));
    assert!(verify(hs256(), &token, ISSUED + 1).is_ok());
}

#[test]
fn times_may_have_a_fraction_and_must_be_numbers() {
    let fraction = sign(&claims_with("exp", json!(ISSUED as f64 + 0.5)));
    let mut exact = hs256();
    exact.leeway = Duration::ZERO;
    assert!(verify(exact.clone(), &fraction, ISSUED).is_ok());
    assert!(refusal(exact.clone(), &fraction, ISSUED + 1).contains("expired"));
    assert!(verify(hs256(), &sign(&claims_with("exp", json!(1e300))), ISSUED).is_ok());
    assert!(refusal(hs256(), &sign(&claims_with("exp", json!(-1e300))), ISSUED).contains("expired"));
    let text = sign(&claims_with("exp", json!("tomorrow")));
    assert!(refusal(hs256(), &text, ISSUED).contains("`exp` is not a number"));
}

#[test]
fn a_token_without_expiry_is_refused() {
    let token = sign(&json!({ "userId": "user-42" }));
    assert!(refusal(hs256(), &token, ISSUED).contains("no expiry"));
}

#[test]
fn issuer_and_audience_are_as_the_session_says() {
    let mut both = hs256();
    both.issuer = Some("https://id.example.com".into());
    both.audience = Some("orders".into());
    let mut claims = claims_with("iss", json!("https://id.example.com"));
    claims["aud"] = json!(["billing", "orders"]);
    assert!(verify(both.clone(), &sign(&claims), ISSUED).is_ok());

    claims["aud"] = json!("billing");
    assert!(refusal(both.clone(), &sign(&claims), ISSUED).contains("(claim `aud`) does not name `orders`"));
    claims["iss"] = json!("https://evil.example.com");
    assert!(refusal(both.clone(), &sign(&claims), ISSUED).contains("(claim `iss`) is not"));
    assert!(refusal(both, &sign(&self::claims()), ISSUED).contains("(claim `iss`) is missing"));
    let unexpected = sign(&claims_with("aud", json!("billing")));
    assert!(refusal(hs256(), &unexpected, ISSUED).contains("the session expects none"));
}

#[test]
fn the_subject_is_a_string_or_a_number_that_can_be_a_header() {
    let number = sign(&claims_with("userId", json!(42)));
    assert_eq!(verify(hs256(), &number, ISSUED).unwrap(), "42");
    for (subject, fault) in [
        (json!(true), "is not a string or a number"),
        (json!(null), "is not a string or a number"),
        (json!(""), "is empty"),
        (json!("a\r\nb: c"), "holds a control character"),
        (json!("x".repeat(257)), "has 257 bytes, 256 at most"),
    ] {
        let words = refusal(hs256(), &sign(&claims_with("userId", subject)), ISSUED);
        assert_eq!(words, format!("the session token's subject (claim `userId`) {fault}"));
    }
    let mut other = hs256();
    other.subject = "sub".into();
    assert!(refusal(other, &sign(&claims()), ISSUED).contains("(claim `sub`) is missing"));
}

#[test]
fn what_is_not_a_token_is_malformed() {
    let good = encode(&json!({ "alg": "HS256" }));
    let critical = sign_with(&json!({ "alg": "HS256", "crit": ["exp"] }), &claims(), SECRET);
    let list = sign(&json!([1]));
    let long = "x".repeat(token::MAX_TOKEN_LEN + 1);
    for (token, fault) in [
        ("", "three parts"),
        ("..", "JSON object with `alg`"),
        ("one.two", "three parts"),
        ("one.two.three.four", "three parts"),
        ("Bearer x.y.z", "header is not base64url"),
        (&format!("{good}.e30.a+b="), "signature is not base64url"),
        (&critical, "critical extensions"),
        (&list, "claims are not a JSON object"),
        (&long, "16385 bytes, 16384 at most"),
    ] {
        let words = refusal(hs256(), token, ISSUED);
        assert!(words.contains("is malformed") && words.contains(fault), "{words}");
    }
}

#[test]
fn a_key_that_is_not_one_for_the_algorithm_is_refused_at_once() {
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\n";
    for (algorithm, key, fault) in [
        (SessionAlgorithm::Hs256, "", "secret is empty"),
        (SessionAlgorithm::Hs256, RSA_PEM, "secret is a PEM file"),
        (SessionAlgorithm::Rs256, "not a key", "not one for RS256"),
        (SessionAlgorithm::Rs256, EC_PEM, "not one for RS256"),
        (SessionAlgorithm::Rs256, RSA_1024_PEM, "has 1024 bits, 2048 at least"),
        (SessionAlgorithm::Rs256, private, "is a private one"),
        (SessionAlgorithm::Es256, RSA_PEM, "not one for ES256"),
        (SessionAlgorithm::Es256, EC_P384_PEM, "not one for ES256"),
        (
            SessionAlgorithm::Es256,
            "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----",
            "not one for",
        ),
    ] {
        let error = SessionVerifier::new(spec(algorithm, key)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert!(error.message().contains(fault), "{error}");
        assert_eq!(error.context("session"), Some("user-session"));
        assert!(error.help().is_some());
    }
}

#[test]
fn debug_shows_no_key() {
    let spec = hs256();
    let shown = format!("{spec:?} {:?}", SessionVerifier::new(spec.clone()).unwrap());
    assert!(!shown.contains("thirty-two") && !shown.contains("97, 32, 115"), "{shown}");
    assert!(shown.contains("***"));
}

/// One verifier serves all publishers.
#[test]
fn a_verifier_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<SessionVerifier>();
}
