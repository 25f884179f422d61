//! Queues as they are named: by a name or by a URL, standard or FIFO.

use ductape_core::{Error, ErrorKind, Result};

/// The ending of a FIFO queue's name (SQS Developer Guide, "FIFO queue").
const FIFO: &str = ".fifo";

/// Whether a name or URL is that of a FIFO queue.
pub(crate) fn is_fifo(name: &str) -> bool {
    name.ends_with(FIFO)
}

/// Whether this is a URL, and not a name.
pub(crate) fn is_url(name: &str) -> bool {
    name.contains("://")
}

/// The queue's own name: of a URL the last part.
pub(crate) fn own_name(name: &str) -> &str {
    name.trim_end_matches('/').rsplit_once('/').map_or(name, |(_, last)| last)
}

/// What follows the host, by which two URLs of one queue can be compared whatever way leads there.
pub(crate) fn path(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("", |start| &rest[start..]).trim_end_matches('/')
}

/// Checks a name or URL without asking the server.
///
/// # Errors
/// `CONFIG_INVALID` where it can be of no queue, or is of another region than the connection.
pub(crate) fn check(name: &str, region: &str, endpoint: Option<&str>) -> Result<()> {
    let own = own_name(name);
    let stem = own.strip_suffix(FIFO).unwrap_or(own);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if stem.is_empty() || own.len() > 80 || !stem.bytes().all(legal) {
        return Err(invalid(format!("`{name}` is no name of a queue"))
            .with_help("a queue's name has up to 80 of `A-Z a-z 0-9 - _`, and may end in `.fifo`"));
    }
    match region_of(name).filter(|_| endpoint.is_none()) {
        Some(other) if other != region => {
            Err(invalid(format!("the queue is in the region {other}, and the config says {region}"))
                .with_help(format!("write `region: {other}` in the config, or mend the `queueUrl`")))
        }
        _ => Ok(()),
    }
}

fn invalid(what: String) -> Error {
    Error::new(ErrorKind::ConfigInvalid, what)
}

/// The region in the host of a queue's URL, where AWS has it: `sqs.REGION.amazonaws.com`, the older
/// `REGION.queue.amazonaws.com`, and endpoints of a VPC or for FIPS.
fn region_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let host = rest.split(['/', ':']).next()?;
    let (labels, _) = host.split_once(".amazonaws.com")?;
    let labels: Vec<&str> = labels.split('.').collect();
    if let Some(sqs) = labels.iter().position(|label| *label == "sqs" || *label == "sqs-fips") {
        return labels.get(sqs + 1).copied();
    }
    match labels[..] {
        ["queue"] => Some("us-east-1"),
        [region, "queue"] => Some(region),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_read_from_each_form_of_url() {
        for (url, region) in [
            ("https://sqs.eu-west-1.amazonaws.com/123456789012/orders", Some("eu-west-1")),
            ("https://eu-west-1.queue.amazonaws.com/123456789012/orders", Some("eu-west-1")),
            ("https://queue.amazonaws.com/123456789012/orders", Some("us-east-1")),
            ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/orders", Some("cn-north-1")),
            ("https://sqs-fips.us-west-2.amazonaws.com/123456789012/orders", Some("us-west-2")),
            ("https://vpce-1-x.sqs.us-east-2.vpce.amazonaws.com/123456789012/orders", Some("us-east-2")),
            ("http://localhost:9324/000000000000/orders", None),
            ("orders", None),
        ] {
            assert_eq!(region_of(url), region, "{url}");
        }
    }

    #[test]
    fn a_url_of_another_region_is_refused_with_both_named() {
        let url = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders";
        assert!(check(url, "eu-west-1", None).is_ok());
        let error = check(url, "us-east-1", None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        let said = error.to_string();
        assert!(said.contains("eu-west-1") && said.contains("us-east-1"), "{said}");
        // An endpoint of one's own answers for every region.
        assert!(check(url, "us-east-1", Some("http://localhost:4566")).is_ok());
    }

    #[test]
    fn a_name_that_no_queue_can_have_is_refused() {
        for name in ["", ".fifo", "a.b", "über", &"x".repeat(81), "https://h/1/a b"] {
            assert_eq!(check(name, "r", None).unwrap_err().kind(), ErrorKind::ConfigInvalid, "{name}");
        }
        for name in ["a", "a-b_C9", "a.fifo", "https://h/1/a.fifo"] {
            assert!(check(name, "r", None).is_ok(), "{name}");
        }
    }

    #[test]
    fn two_ways_to_one_queue_have_one_path() {
        assert_eq!(path("http://a:1/000/q"), path("https://b/000/q/"));
        assert_eq!(own_name("https://b/000/q.fifo"), "q.fifo");
        assert_eq!(own_name("q"), "q");
    }
}
