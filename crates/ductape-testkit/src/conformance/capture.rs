//! Everything that this process logs through `tracing`, held against texts that must not stand in it.
//!
//! One subscriber for the process, since providers log from threads of their own. While nobody listens it takes
//! nothing.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

static LISTENERS: Mutex<Vec<Weak<Heard>>> = Mutex::new(Vec::new());
static LISTENING: AtomicUsize = AtomicUsize::new(0);
/// Whether the process had no subscriber yet, and so has this one.
static INSTALLED: LazyLock<bool> = LazyLock::new(|| tracing::subscriber::set_global_default(Capture).is_ok());

/// Listens from [`Listener::start`] until it is dropped.
pub(super) struct Listener(Arc<Heard>);

struct Heard {
    needles: Vec<String>,
    found: Mutex<Vec<String>>,
    records: AtomicU64,
}

impl Listener {
    /// Listens for records that hold one of these; `None` where another subscriber has the process's logs.
    pub(super) fn start(needles: Vec<String>) -> Option<Self> {
        if !*INSTALLED {
            return None;
        }
        let heard = Arc::new(Heard { needles, found: Mutex::default(), records: AtomicU64::new(0) });
        listeners().push(Arc::downgrade(&heard));
        LISTENING.fetch_add(1, Ordering::AcqRel);
        Some(Listener(heard))
    }

    /// The records that hold one.
    pub(super) fn found(&self) -> Vec<String> {
        lock(&self.0.found).clone()
    }

    /// How many records there were.
    pub(super) fn records(&self) -> u64 {
        self.0.records.load(Ordering::Acquire)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        LISTENING.fetch_sub(1, Ordering::AcqRel);
        listeners().retain(|heard| !std::ptr::eq(heard.as_ptr(), Arc::as_ptr(&self.0)));
    }
}

fn listeners() -> MutexGuard<'static, Vec<Weak<Heard>>> {
    lock(&LISTENERS)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(record: &str) {
    for heard in listeners().iter().filter_map(Weak::upgrade) {
        heard.records.fetch_add(1, Ordering::AcqRel);
        if heard.needles.iter().any(|needle| record.contains(needle.as_str())) {
            lock(&heard.found).push(record.to_owned());
        }
    }
}

struct Capture;

impl Subscriber for Capture {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // Asked each time, since who listens changes.
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        LISTENING.load(Ordering::Relaxed) > 0
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut line = Line(span.metadata().name().to_owned());
        span.record(&mut line);
        tell(&line.0);
        Id::from_u64(NEXT.fetch_add(1, Ordering::Relaxed).max(1))
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line(String::new());
        values.record(&mut line);
        tell(&line.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().target().to_owned());
        event.record(&mut line);
        tell(&line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A record as text. Texts stand in it as they are, so that no escape hides one.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = write!(self.0, " {}={value:?}", field.name());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {}={value}", field.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_hears_every_thread_and_finds_what_it_listens_for() {
        let listener = Listener::start(vec!["a \"needle\"".into()]).unwrap();
        tracing::info!(text = "hay", "more hay");
        std::thread::spawn(|| tracing::trace!(text = "a \"needle\"", "in a field")).join().unwrap();
        tracing::warn!("a {:?} in words", "needle");
        let _span = tracing::debug_span!("of work", text = "a \"needle\" in a span");
        assert_eq!(listener.found().len(), 3, "{:?}", listener.found());
        assert!(listener.records() >= 4);
    }

    #[test]
    fn a_listener_that_is_gone_hears_nothing() {
        let heard = {
            let listener = Listener::start(vec!["late".into()]).unwrap();
            Arc::clone(&listener.0)
        };
        tracing::error!("late");
        assert!(lock(&heard.found).is_empty());
    }
}
