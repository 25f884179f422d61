//! Names of topics and subscriptions.

use ductape_core::{Destination, Error, ErrorKind, Result};
use std::fmt::Write as _;

/// The longest name of a resource, in characters, which are ASCII
/// (<https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names>).
const MAX_LEN: usize = 255;
const MIN_LEN: usize = 3;

/// A topic's full name.
pub(crate) fn topic(project: &str, name: &str) -> String {
    format!("projects/{project}/topics/{name}")
}

/// A subscription's full name.
pub(crate) fn subscription(project: &str, name: &str) -> String {
    format!("projects/{project}/subscriptions/{name}")
}

/// The name of a group's subscription. The default group's is the group's own where the config names it, and that of
/// dead letters, whose group has their destination's name. Every other is named by both, since one group may read
/// many topics and all subscriptions of a project share one name space.
pub(crate) fn of_group(destination: &Destination, group: &str, config_names_it: bool) -> String {
    let is_default = group == &*destination.default_group;
    if is_default && (config_names_it || *group == *destination.name) {
        return group.to_owned();
    }
    fit(format!("{}.{}", destination.name, encode(group)))
}

/// The group of a subscription: [`of_group`] the other way round. One that is not named so is a group of its own name.
pub(crate) fn group_of(destination: &Destination, subscription: &str, config_names_it: bool) -> String {
    if subscription == of_group(destination, &destination.default_group, config_names_it) {
        return destination.default_group.to_string();
    }
    let rest = subscription
        .strip_prefix(&*destination.name)
        .and_then(|rest| rest.strip_prefix('.'))
        .and_then(decode);
    rest.unwrap_or_else(|| subscription.to_owned())
}

/// What Pub/Sub allows in a name besides letters and digits.
const MARKS: &str = "-_.~+%";

/// Writes what a name may not hold as `%` and two digits, and `%` itself too, so that it can be read again.
fn encode(group: &str) -> String {
    let mut name = String::with_capacity(group.len());
    for byte in group.bytes() {
        if byte.is_ascii_alphanumeric() || (byte != b'%' && MARKS.as_bytes().contains(&byte)) {
            name.push(char::from(byte));
        } else {
            // A String takes all that is written.
            let _ = write!(name, "%{byte:02X}");
        }
    }
    name
}

fn decode(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after.get(2..)?;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Cuts a name that is too long, and puts a digest of all of it at its end: two long names stay two.
fn fit(name: String) -> String {
    if name.len() <= MAX_LEN {
        return name;
    }
    // FNV-1a, 64 bits: stable, since what waits in a subscription depends on its name.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut end = MAX_LEN - 17;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{hash:016x}", &name[..end])
}

/// Says before the server does what is wrong with a name.
///
/// # Errors
/// `CONFIG_INVALID`.
pub(crate) fn check(what: &str, field: &str, name: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || MARKS.contains(c);
    let fault = if !(MIN_LEN..=MAX_LEN).contains(&name.len()) {
        "is not of 3 to 255 characters"
    } else if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        "does not begin with a letter"
    } else if name.starts_with("goog") {
        "begins with `goog`, which is Google's own"
    } else if !name.chars().all(legal) {
        "holds more than letters, digits and - _ . ~ + %"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::ConfigInvalid, format!("the {what} `{name}` {fault}"))
        .with_help(format!("name it by `{field}` in the config, or give the topic a destination of its own")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;
    use proptest::prelude::*;

    fn orders() -> Destination {
        Destination::new("orders", "shop")
    }

    #[test]
    fn a_subscription_that_the_config_names_has_that_name() {
        assert_eq!(of_group(&orders(), "shop", true), "shop");
        assert_eq!(of_group(&orders(), "shop", false), "orders.shop");
        assert_eq!(of_group(&orders(), "audit", true), "orders.audit");
        assert_eq!(of_group(&Destination::new("dead", "dead"), "dead", false), "dead");
    }

    #[test]
    fn a_foreign_subscription_is_a_group_of_its_own_name() {
        assert_eq!(group_of(&orders(), "analytics", false), "analytics");
        assert_eq!(group_of(&orders(), "orders.%zz", false), "orders.%zz");
    }

    #[test]
    fn a_name_that_google_refuses_is_refused_with_the_reason() {
        for (name, fault) in [
            ("ab", "3 to 255"),
            ("9lives", "letter"),
            ("google-orders", "goog"),
            ("a b c", "more than"),
            (&"x".repeat(256), "3 to 255"),
        ] {
            let error = check("topic", "topicName", name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(error.message().contains(fault), "{error}");
        }
        check("topic", "topicName", "Orders-1_2.3~4+5%20").unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_group_is_read_back_from_its_subscription(group in "\\PC{1,15}", named: bool) {
            let destination = orders();
            let name = of_group(&destination, &group, named);
            prop_assert_eq!(group_of(&destination, &name, named), group);
        }

        #[test]
        fn a_long_name_is_cut_to_what_is_allowed(group in "[a-z/]{250,400}") {
            let name = of_group(&orders(), &group, false);
            prop_assert!(check("subscription", "subscriptionName", &name).is_ok());
        }
    }
}
