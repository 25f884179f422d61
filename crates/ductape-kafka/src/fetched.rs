//! What the client library has fetched of a partition, taken many at once.
//!
//! rdkafka hands out an event a message; for each it asks the clock several times, takes several locks and allocates. This
//! takes what is there by one call of librdkafka (`rd_kafka_consume_batch_queue`), and reads headers where they lie.
#![allow(unsafe_code, reason = "rdkafka takes one message at a time")]

use crate::member::MemberContext;
use crate::message::Record;
use ductape_core::Timestamp;
use rdkafka::bindings as native;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafkaHeaders, RDKafkaMessage, RDKafkaQueue, RDKafkaRespErr};
use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// The most messages that one call takes. What is taken and not looked at is thrown away, so not too many.
const MOST: usize = 128;
/// The time of a message that has none.
const NO_TIME: i64 = -1;

/// The queue of one partition, apart from the others'.
pub(crate) struct FetchQueue {
    queue: NonNull<RDKafkaQueue>,
    /// The same queue, which keeps the client and calls back.
    _kept: PartitionQueue<MemberContext>,
}

// SAFETY: librdkafka's queues are locked inside; any thread may use them.
unsafe impl Send for FetchQueue {}

impl FetchQueue {
    /// The queue of a partition; `on_message` is called when it is empty no more. None where there is no such partition.
    ///
    /// To be called before the partition is assigned: what came before goes another way.
    pub(crate) fn split(
        client: &Arc<BaseConsumer<MemberContext>>,
        topic: &str,
        partition: i32,
        on_message: impl Fn() + Send + Sync + 'static,
    ) -> Option<Self> {
        let mut kept = client.split_partition_queue(topic, partition)?;
        kept.set_nonempty_callback(on_message);
        let name = CString::new(topic).ok()?;
        // SAFETY: the client lives for as long as `kept`, and the name for as long as the call.
        let queue = unsafe {
            native::rd_kafka_queue_get_partition(client.client().native_ptr(), name.as_ptr(), partition)
        };
        Some(FetchQueue { queue: NonNull::new(queue)?, _kept: kept })
    }

    /// Hands up to `room` messages to `each`, and errors as they come between them, until that breaks off. Does not wait.
    pub(crate) fn take(
        &mut self,
        room: usize,
        mut each: impl FnMut(Result<&Fetched<'_>, KafkaError>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut left = room;
        while left > 0 {
            let mut chunk = Chunk::take(self, left);
            if chunk.len == 0 {
                break;
            }
            left -= chunk.len;
            while let Some(message) = chunk.next() {
                each(message.error().map_or(Ok(&message), Err))?;
            }
        }
        ControlFlow::Continue(())
    }
}

impl Drop for FetchQueue {
    fn drop(&mut self) {
        // SAFETY: it is this one's own reference, and its client is still there.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// What one call took, and who looks at it has not seen.
struct Chunk {
    messages: [*mut RDKafkaMessage; MOST],
    seen: usize,
    len: usize,
}

impl Chunk {
    fn take(queue: &mut FetchQueue, room: usize) -> Self {
        let mut messages = [ptr::null_mut(); MOST];
        let (into, most) = (messages.as_mut_ptr(), room.min(MOST));
        // SAFETY: there is room for so many, and nobody else writes there.
        let taken = unsafe { native::rd_kafka_consume_batch_queue(queue.queue.as_ptr(), 0, into, most) };
        // Below zero it took none.
        Chunk { messages, seen: 0, len: usize::try_from(taken).unwrap_or(0) }
    }

    fn next(&mut self) -> Option<Fetched<'_>> {
        let message = *self.messages[..self.len].get(self.seen)?;
        self.seen += 1;
        Some(Fetched(NonNull::new(message)?, PhantomData))
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        while self.next().is_some() {}
    }
}

/// A message as the client library holds it.
pub(crate) struct Fetched<'c>(NonNull<RDKafkaMessage>, PhantomData<&'c Chunk>);

impl Fetched<'_> {
    fn native(&self) -> &RDKafkaMessage {
        // SAFETY: it is destroyed with `self` and not before.
        unsafe { self.0.as_ref() }
    }

    /// What came in a message's place.
    fn error(&self) -> Option<KafkaError> {
        match self.native().err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => None,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                Some(KafkaError::PartitionEOF(self.native().partition))
            }
            error => Some(KafkaError::MessageConsumption(error.into())),
        }
    }

    pub(crate) fn offset(&self) -> i64 {
        self.native().offset
    }

    pub(crate) fn record<'m>(&'m self, topic: &'m str) -> Record<'m> {
        let native = self.native();
        // SAFETY: librdkafka tells where key and payload lie, and how long they are.
        let (key, payload) =
            unsafe { (bytes(native.key, native.key_len), bytes(native.payload, native.len)) };
        let (partition, offset, time) = (native.partition, native.offset, self.time());
        Record { topic, partition, offset, key, payload, time }
    }

    fn time(&self) -> Timestamp {
        // SAFETY: the message is there, and its kind of time is not asked for.
        let millis = unsafe { native::rd_kafka_message_timestamp(self.0.as_ptr(), ptr::null_mut()) };
        let millis = if millis == NO_TIME { 0 } else { millis };
        Timestamp::from_micros(millis.saturating_mul(1000))
    }

    /// The headers, in their order. A name may be anything.
    pub(crate) fn headers(&self) -> HeaderBytes<'_> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is there. What it answers belongs to it.
        let answer = unsafe { native::rd_kafka_message_headers(self.0.as_ptr(), &mut headers) };
        let is_there = answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
        HeaderBytes { headers: if is_there { headers } else { ptr::null_mut() }, next: 0, of: PhantomData }
    }
}

impl Drop for Fetched<'_> {
    fn drop(&mut self) {
        // SAFETY: only this one has it.
        unsafe { native::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// Names and values of headers.
#[derive(Clone)]
pub(crate) struct HeaderBytes<'m> {
    headers: *const RDKafkaHeaders,
    next: usize,
    of: PhantomData<&'m RDKafkaMessage>,
}

impl<'m> Iterator for HeaderBytes<'m> {
    type Item = (&'m [u8], &'m [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.headers.is_null() {
            return None;
        }
        let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the headers belong to the message, which outlives this. A name ends with a zero.
        unsafe {
            let answer =
                native::rd_kafka_header_get_all(self.headers, self.next, &mut name, &mut value, &mut len);
            if answer != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
            self.next += 1;
            Some((CStr::from_ptr(name).to_bytes(), bytes(value.cast_mut(), len).unwrap_or_default()))
        }
    }
}

/// What lies there, unless that is nowhere.
///
/// # Safety
/// So many bytes lie there for as long as `'m`, and nobody changes them.
unsafe fn bytes<'m>(at: *mut c_void, len: usize) -> Option<&'m [u8]> {
    // SAFETY: as the caller promises.
    NonNull::new(at.cast::<u8>()).map(|at| unsafe { std::slice::from_raw_parts(at.as_ptr(), len) })
}
