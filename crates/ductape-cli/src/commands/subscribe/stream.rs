//! Printing what arrives: a burst of lines is written and flushed, and only then acknowledged.

use super::Arguments;
use super::envelope::push_delivery;
use crate::failure::{self, Failure, Outcome};
use crate::run::Context;
use crate::stop::Stop;
use crate::writer::Writer;
use ductape::{Ductape, Error, Incoming, IncomingStream, Subscribe};
use std::time::Duration;
use tokio::time::Instant;

/// The most lines of one write.
const BURST: usize = 1024;
/// Bytes of one write, past which a burst ends.
const BURST_BYTES: usize = 256 << 10;
/// How long a write that is under way may still take after a stop was asked for. What it did not write comes again.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Why no more is printed.
enum End {
    /// So many as were asked for, so long as was asked for, or told to stop.
    Done,
    /// The provider takes no more questions.
    Closed,
}

pub(super) async fn run(
    context: &Context,
    client: &Ductape,
    subscribe: Subscribe,
    arguments: &Arguments,
    stop: Stop,
) -> Outcome {
    let stream = client.broker().consume(subscribe).await?;
    let mut printer = Printer { context, arguments, writer: Writer::start(), stop, left: arguments.count };
    let (outcome, stream) = printer.print(stream).await;
    // Gives back what is in hand and not written; a second signal does not wait for that.
    tokio::select! {
        () = stream.close() => {}
        () = printer.stop.insisted() => {}
    }
    match outcome? {
        End::Done => Ok(()),
        End::Closed => Err(Error::closed("the subscription").with_help("run it again").into()),
    }
}

struct Printer<'c> {
    context: &'c Context,
    arguments: &'c Arguments,
    writer: Writer,
    stop: Stop,
    /// How many are still wanted; none where there is no end to them.
    left: Option<u64>,
}

impl Printer<'_> {
    async fn print(&mut self, mut stream: IncomingStream) -> (Outcome<End>, IncomingStream) {
        let mut idle_since = Instant::now();
        loop {
            if self.left == Some(0) {
                return (Ok(End::Done), stream);
            }
            let most = self.left.map_or(BURST, |left| usize::try_from(left).unwrap_or(BURST).min(BURST));
            let arrived = tokio::select! {
                biased;
                () = self.stop.wanted() => return (Ok(End::Done), stream),
                arrived = stream.next_many(most) => arrived,
                () = until(idle_since, self.arguments.timeout) => return (Ok(End::Done), stream),
            };
            if arrived.is_empty() {
                return (Ok(End::Closed), stream);
            }
            let deliveries = self.sort(arrived);
            if !deliveries.is_empty() {
                idle_since = Instant::now();
            }
            if let Err(failure) = self.burst(deliveries).await {
                return (Err(failure), stream);
            }
        }
    }

    /// Tells of what went wrong, and keeps what arrived. The stream mends itself.
    fn sort(&self, arrived: Vec<Result<Incoming, Error>>) -> Vec<Incoming> {
        let keep = |arrived: Result<Incoming, Error>| match arrived {
            Ok(incoming) => Some(incoming),
            Err(error) => {
                failure::tell(&error, None, self.context.format());
                None
            }
        };
        arrived.into_iter().filter_map(keep).collect()
    }

    /// Writes deliveries in pieces of a bounded size, and acknowledges each piece once it is flushed.
    async fn burst(&mut self, deliveries: Vec<Incoming>) -> Outcome {
        let mut lines = self.writer.buffer();
        let mut written = Vec::with_capacity(deliveries.len());
        for incoming in deliveries {
            match self.arguments.payload {
                true => {
                    lines.extend_from_slice(&incoming.message.payload);
                    lines.push(b'\n');
                }
                false => push_delivery(&mut lines, &incoming, &self.arguments.event),
            }
            written.push(incoming);
            if lines.len() >= BURST_BYTES {
                self.flush(lines, std::mem::take(&mut written)).await?;
                lines = self.writer.buffer();
            }
        }
        self.flush(lines, written).await
    }

    /// What is not written is dropped, and with that given back.
    async fn flush(&mut self, lines: Vec<u8>, deliveries: Vec<Incoming>) -> Outcome {
        let (writer, stop) = (&mut self.writer, &mut self.stop);
        let too_late = async {
            stop.wanted().await;
            tokio::time::sleep(LAST_WRITE).await;
        };
        tokio::select! {
            biased;
            written = writer.write(lines) => written?,
            () = too_late => return Err(Failure::ReaderGone),
        }
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(deliveries.len() as u64);
        }
        for result in Incoming::ack_all(deliveries).await {
            if let Err(error) = result {
                let error = error.with_help("it was printed, and comes again");
                failure::tell(&error, None, self.context.format());
            }
        }
        Ok(())
    }
}

/// Waits until nothing has arrived for so long; for ever where that is no matter.
async fn until(since: Instant, timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep_until(since + timeout).await,
        None => std::future::pending().await,
    }
}
