//! A clock that goes as the system's does, and can be made to jump.

use ductape::{Clock, Timestamp};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often it is moved.
const TICK: Duration = Duration::from_millis(5);

/// Starts such a clock at the time that it is. A thread of its own moves it for as long as the process lives, since its
/// users' runtimes come and go.
pub(crate) fn ticking() -> Clock {
    // Both at once: a process that is stopped before its thread begins would live in the past ever after.
    let (since, mut before) =
        (SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), Instant::now());
    let clock = Clock::manual(Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)));
    let ticked = clock.clone();
    thread::spawn(move || {
        loop {
            // tidy: sleeps because it measures how long the machine stood still.
            thread::sleep(TICK);
            let now = Instant::now();
            ticked.advance(now - before);
            before = now;
        }
    });
    clock
}
