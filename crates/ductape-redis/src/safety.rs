//! What of the server's settings may lose messages, said once a connection.

use crate::entry;
use crate::link::{Link, checked};
use redis::{Pipeline, Value};

/// Reads the settings and warns. A user who may not read them hears nothing: managed servers allow it to nobody.
pub(crate) async fn warn(link: &Link) {
    let names = ["appendonly", "appendfsync", "maxmemory", "maxmemory-policy"];
    let mut ask = Pipeline::new();
    for name in names {
        ask.cmd("CONFIG").arg("GET").arg(name);
    }
    // In a cluster any node's will do: they are set alike.
    let answers = match link.calls(&ask, "the settings").await {
        Ok(answers) => answers,
        Err(error) => return tracing::debug!(%error, "the server's settings are not known"),
    };
    let settings = answers.into_iter().zip(names).map(|(answer, name)| value(answer, name));
    let Ok([appendonly, appendfsync, maxmemory, policy]) = <[_; 4]>::try_from(settings.collect::<Vec<_>>())
    else {
        return;
    };
    for danger in dangers(&appendonly, &appendfsync, &maxmemory, &policy) {
        tracing::warn!(server = link.place(), "{danger}");
    }
}

fn value(answer: Value, name: &str) -> String {
    let known = checked(answer).ok().and_then(|answer| entry::field(&answer, name).and_then(entry::text));
    known.unwrap_or_default()
}

/// Nothing is said of what is not known.
fn dangers(appendonly: &str, appendfsync: &str, maxmemory: &str, policy: &str) -> Vec<&'static str> {
    let mut dangers = Vec::new();
    match (appendonly, appendfsync) {
        ("no", _) => dangers.push(
            "the server keeps no append-only file: a crash loses what was published since its last snapshot; set \
             `appendonly yes` and `appendfsync always`",
        ),
        ("yes", "everysec" | "no") => dangers.push(
            "the server writes to its disk later than it answers: a crash loses about the last second or more; set \
             `appendfsync always`",
        ),
        _ => {}
    }
    if policy.starts_with("allkeys") && maxmemory != "0" {
        dangers.push(
            "the server evicts any key when `maxmemory` is reached, whole streams with what waits in them: set \
             `maxmemory-policy noeviction`",
        );
    }
    dangers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_that_may_lose_messages_is_told() {
        let count = |appendonly, fsync, memory, policy| dangers(appendonly, fsync, memory, policy).len();
        assert_eq!(count("yes", "always", "100", "noeviction"), 0);
        assert_eq!(count("no", "everysec", "0", "allkeys-lru"), 1);
        assert_eq!(count("yes", "everysec", "100", "allkeys-lru"), 2);
        assert_eq!(count("yes", "always", "100", "volatile-lru"), 0);
        assert_eq!(count("", "", "", ""), 0);
    }
}
