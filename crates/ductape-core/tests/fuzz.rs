//! Whatever is read from outside (catalogues, tokens, tags, references, headers) may hold anything: it is read or refused,
//! and harms nobody. Failures are written beside this file by proptest, and tried again first.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use bytes::Bytes;
use ductape_core::catalogue::{Catalogue, Format};
use ductape_core::message::{Attributes, Extensions, HeaderValue, IdSource};
use ductape_core::session::{SessionAlgorithm, SessionSpec, SessionVerifier};
use ductape_core::wire::{self, Reader};
use ductape_core::{ErrorKind, Event, Message, Tag, Timestamp, secret};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const YAML: &str = "
product: shop
brokers:
  - name: Orders
    tag: orders
    envs: [{ slug: dev, type: SQLITE, config: { path: dev.db } }]
    topics: [{ name: New, tag: orders:new, sample: { id: 1, lines: [{ n: 2 }] }, validation: strict }]
sessions: [{ tag: user, algorithm: HS256, secret: '${SECRET}', subject: sub }]
";
const FORMATS: [Format; 3] = [Format::Yaml, Format::Json, Format::Toml];
/// More than reading anything small may take, on a machine that is busy.
const LONG: Duration = Duration::from_secs(20);

/// The same catalogue in each format.
fn written(format: Format) -> String {
    let catalogue = Catalogue::from_yaml(YAML).unwrap();
    match format {
        Format::Yaml => YAML.to_owned(),
        Format::Json => serde_json::to_string_pretty(&catalogue).unwrap(),
        Format::Toml => toml_edit::ser::to_string(&catalogue).unwrap(),
    }
}

/// Reads or refuses, and says where.
fn read(text: &str, format: Format) -> Result<(), TestCaseError> {
    if let Err(error) = Catalogue::parse(text, format) {
        prop_assert!(!error.to_string().is_empty());
    }
    Ok(())
}

/// A text with bytes taken out and put in at some places.
fn damaged(text: &str, damage: &[(usize, usize, Vec<u8>)]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for (at, taken, put) in damage {
        let at = at % (bytes.len() + 1);
        let end = (at + taken).min(bytes.len());
        bytes.splice(at..end, put.iter().copied());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn damage() -> impl Strategy<Value = Vec<(usize, usize, Vec<u8>)>> {
    let put = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..6),
        prop::sample::select(vec![
            "&a", "*a", "<<:", "!!binary", "---", "\t", "{", "}", "[", "'", "\"", "|", "${"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop::collection::vec((any::<usize>(), 0..9usize, put), 1..8)
}

fn verifier() -> SessionVerifier {
    let tag = Tag::new("user").unwrap();
    let key = "a secret of this test that is long enough";
    SessionVerifier::new(SessionSpec::new(tag, SessionAlgorithm::Hs256, key)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_as_a_catalogue_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for format in FORMATS {
            read(&String::from_utf8_lossy(&bytes), format)?;
        }
    }

    #[test]
    fn a_damaged_catalogue_is_read_or_refused(damage in damage()) {
        for format in FORMATS {
            read(&damaged(&written(format), &damage), format)?;
        }
    }

    #[test]
    fn any_text_is_an_event_or_refused(text in ".{0,80}") {
        if let Ok(event) = text.parse::<Event>() {
            prop_assert_eq!(event.as_str(), &text);
            prop_assert_eq!(format!("{}:{}", event.broker(), event.topic()), text);
        }
    }

    #[test]
    fn any_reference_is_resolved_or_refused_and_none_leads_out_of_the_folder(text in "[a-zA-Z_:$.{}/ -]{0,60}") {
        let folder = Path::new("/nowhere/at/all");
        match secret::resolve(&text, folder, "config.password") {
            Ok(resolved) => {
                let from_a_file = text.contains("${file:");
                prop_assert!(!from_a_file, "{resolved}");
            }
            Err(error) => prop_assert!(
                matches!(error.kind(), ErrorKind::ConfigInvalid | ErrorKind::SecretMissing), "{error}"
            ),
        }
    }

    #[test]
    fn any_token_is_refused(token in prop_oneof![
        ".{0,200}",
        "[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}",
        "eyJhbGciOiJIUzI1NiJ9\\.[A-Za-z0-9_-]{0,90}\\.[A-Za-z0-9_-]{0,43}",
    ]) {
        let error = verifier().verify(&token, Timestamp::from_micros(0)).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::SessionInvalid);
        // The message says what is wrong with it, and never what it is.
        prop_assert!(token.len() < 12 || !error.to_string().contains(&token), "{error}");
    }

    #[test]
    fn any_headers_make_a_message(headers in prop::collection::vec(
        (
            prop_oneof![".{0,30}", "(ce_|ce-|cloudEvents:|)(id|time|type|source|specversion|partitionkey)",
                "dead-letter-(reason|attempts|failed-at|group|position|destination)", "ductape-[a-z-]{0,12}"],
            prop::collection::vec(any::<u8>(), 0..40),
        ),
        0..40,
    ), payload in prop::collection::vec(any::<u8>(), 0..100)) {
        for prefix in ["ce_", "ce-", "cloudEvents:", ""] {
            let mut reader = Reader::new(prefix);
            for (name, value) in &headers {
                reader.header(name, value.clone());
            }
            let message = reader.finish(Bytes::from(payload.clone()), "orders", 7, Timestamp::default());
            prop_assert_eq!(&message.payload[..], &payload[..]);
            prop_assert!(message.headers.len() <= headers.len());
        }
    }

    #[test]
    fn a_message_is_read_as_it_was_written(
        key in prop::option::of("[^\u{0}]{1,40}"),
        headers in prop::collection::vec(("x-[a-z]{1,10}", ".{0,20}"), 0..8),
        (source, event, trace) in (".{0,20}", ".{0,20}", prop::option::of("[0-9a-f-]{1,55}")),
    ) {
        let time = Timestamp::from_micros(1_700_000_000_000_001);
        let attributes = Attributes {
            source: source.into(), event: event.into(), content_type: "application/json".into(),
        };
        let mut message = Message::new("{}", IdSource::new().next(time), time, Arc::new(attributes));
        message.key = key.map(|key| key.as_str().into());
        message.headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if let Some(trace) = trace {
            *message.extensions_mut() = Extensions { traceparent: Some(trace.into()), ..Extensions::default() };
        }
        let mut reader = Reader::new("ce_");
        wire::write(&message, "ce_", |name, value| reader.header(name, value));
        message.headers.iter().for_each(|(name, value)| reader.header(name, HeaderValue::clone(value)));
        prop_assert_eq!(reader.finish(message.payload.clone(), "orders", 1, Timestamp::default()), message);
    }
}

/// Texts that are small and mean something huge, or something without an end.
#[test]
fn a_catalogue_that_blows_up_is_refused_in_no_time() {
    let laughs = (1..30).fold("a0: &a0 [lol, lol, lol, lol]\n".to_owned(), |text, n| {
        let before = format!("*a{}", n - 1);
        text + &format!("a{n}: &a{n} [{before}, {before}, {before}, {before}]\n")
    });
    let deep = |open: &str, close: &str| open.repeat(100_000) + &close.repeat(100_000);
    let bombs = [
        (Format::Yaml, laughs),
        (Format::Yaml, deep("[", "]")),
        (Format::Yaml, deep("{a: ", "}")),
        (Format::Yaml, "- ".repeat(100_000)),
        (Format::Json, deep("[", "]")),
        (Format::Json, deep("{\"a\":", "}")),
        (Format::Toml, format!("a = {}", deep("[", "]"))),
        (Format::Toml, format!("{} = 1", vec!["a"; 100_000].join("."))),
    ];
    for (format, bomb) in bombs {
        let begun = Instant::now();
        let refused = Catalogue::parse(&bomb, format).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::CatalogueInvalid, "{format:?}");
        assert!(begun.elapsed() < LONG, "{format:?} took {:?}", begun.elapsed());
    }
}
