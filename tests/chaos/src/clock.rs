//! A clock that goes as the system's does, and can be made to jump.

use ductape::{Clock, Timestamp};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often it is moved.
const TICK: Duration = Duration::from_millis(5);

/// Starts such a clock at the time that it is. A thread of its own moves it for as long as the process lives, since its
/// users' runtimes come and go.
pub(crate) fn ticking() -> Clock {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let clock = Clock::manual(Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)));
    let ticked = clock.clone();
    thread::spawn(move || {
        let mut before = Instant::now();
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
