//! The bar: how far, how fast, how long still. On a terminal alone.

use crate::output::Format;
use crate::terminal;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

const WITH_LENGTH: &str = "{bar:30} {percent:>3}%  {msg}  ETA {eta}";
const WITHOUT: &str = "{spinner} {bytes}  {msg}";

/// A bar on standard error, or nothing where that is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    begun: Instant,
    told: Instant,
}

impl Progress {
    pub(crate) fn new(format: Format, length: Option<u64>) -> Self {
        let shown = format == Format::Human && terminal::stderr_is_one();
        let bar = shown.then(|| {
            let (bar, template) = match length {
                Some(length) => (ProgressBar::new(length), WITH_LENGTH),
                None => (ProgressBar::no_length(), WITHOUT),
            };
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        let now = Instant::now();
        Progress { bar, begun: now, told: now }
    }

    /// Tells that so many bytes of the source are dealt with, and so many messages taken.
    pub(crate) fn advance(&mut self, bytes: u64, messages: u64) {
        let Some(bar) = &self.bar else { return };
        if self.told.elapsed() < Duration::from_millis(50) {
            return;
        }
        self.told = Instant::now();
        let rate = messages as f64 / self.begun.elapsed().as_secs_f64();
        bar.set_message(format!("{messages} messages, {rate:.0}/s"));
        bar.set_position(bytes);
    }

    /// Lets something else be written to the terminal.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the bar away: the count tells the rest.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
