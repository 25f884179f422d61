//! Standard output for what streams: written by a thread of its own, so that a reader that is slow, or has stopped
//! reading, holds up neither leases nor signals.

use crate::failure::{Failure, Outcome};
use crate::output::written;
use std::io::{self, Write};
use tokio::sync::{mpsc, oneshot};

/// What is to be written, and who waits for it to be flushed.
type Order = (Vec<u8>, oneshot::Sender<(Vec<u8>, io::Result<()>)>);

/// Writes to standard output.
#[derive(Debug)]
pub(crate) struct Writer {
    orders: mpsc::Sender<Order>,
    /// A buffer that was written, to be filled again.
    spare: Vec<u8>,
}

impl Writer {
    /// Starts the thread. It ends with the writer.
    pub(crate) fn start() -> Self {
        let (orders, mut waiting) = mpsc::channel::<Order>(1);
        std::thread::spawn(move || {
            let mut out = io::stdout().lock();
            while let Some((bytes, done)) = waiting.blocking_recv() {
                let result = out.write_all(&bytes).and_then(|()| out.flush());
                // Whoever waited may have been told to stop.
                let _ = done.send((bytes, result));
            }
        });
        Writer { orders, spare: Vec::new() }
    }

    /// An empty buffer to fill.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.spare)
    }

    /// Writes and flushes. When it returns the bytes are with the system, all of them.
    ///
    /// # Errors
    /// [`Failure::ReaderGone`] where nobody reads; some of the bytes may be written then.
    pub(crate) async fn write(&mut self, bytes: Vec<u8>) -> Outcome {
        if bytes.is_empty() {
            return Ok(());
        }
        let (done, written_back) = oneshot::channel();
        let gone =
            || Failure::io("standard output cannot be written", io::ErrorKind::Other.into(), "try again");
        self.orders.send((bytes, done)).await.map_err(|_| gone())?;
        let (mut buffer, result) = written_back.await.map_err(|_| gone())?;
        buffer.clear();
        self.spare = buffer;
        result.map_err(written)
    }
}
