//! What a provider can do, in few words.

use ductape::Capabilities;
use ductape::capability::{Attempts, Delay, Durability, Groups, Ordering, Replay};

/// The headings of [`cells`].
pub(super) const HEADINGS: [&str; 8] =
    ["ORDER", "GROUPS", "REPLAY", "DELAYED RETRY", "ATTEMPTS", "SURVIVES", "LARGEST MESSAGE", "MOST HEADERS"];

/// One cell for each of [`HEADINGS`].
pub(super) fn cells(capabilities: &Capabilities) -> [String; 8] {
    let order = match capabilities.ordering {
        Ordering::None => "none",
        Ordering::PerKey => "by key",
        Ordering::Total => "total",
    };
    let groups = match capabilities.groups {
        Groups::One => "one",
        Groups::Many => "many",
    };
    let replay = match capabilities.replay {
        Replay::None => "no",
        Replay::Kept => "what is kept",
    };
    let attempts = match capabilities.attempts {
        Attempts::Forgotten => "in this process",
        Attempts::Counted => "counted",
        Attempts::CountedAtWatermark => "counted, one a partition",
        Attempts::Overcounted => "counted, never too few",
    };
    let survives = match capabilities.durability {
        Durability::Process => "nothing",
        Durability::ProcessCrash => "a crash",
        Durability::Stored => "loss of power",
        Durability::FireAndForget => "nothing, nor the way",
    };
    let delay = match capabilities.delay {
        Delay::None => "no".to_owned(),
        Delay::UpTo(longest) => duration(longest),
    };
    let headers = capabilities.max_headers.map_or_else(|| "any".to_owned(), |most| most.to_string());
    let largest = bytes(capabilities.max_message_bytes);
    [order.into(), groups.into(), replay.into(), delay, attempts.into(), survives.into(), largest, headers]
}

fn duration(longest: std::time::Duration) -> String {
    match longest.as_secs() {
        seconds if seconds >= 86_400 => format!("up to {} d", seconds / 86_400),
        seconds if seconds >= 3600 => format!("up to {} h", seconds / 3600),
        seconds => format!("up to {seconds} s"),
    }
}

/// A size in the largest unit that keeps it whole.
fn bytes(size: usize) -> String {
    match size {
        size if size >= 1 << 20 && size % (1 << 20) == 0 => format!("{} MiB", size >> 20),
        size if size >= 1 << 10 && size % (1 << 10) == 0 => format!("{} KiB", size >> 10),
        size => format!("{size} B"),
    }
}
