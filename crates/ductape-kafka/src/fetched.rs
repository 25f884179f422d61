//! What the client library has fetched of a partition.
//!
//! As rdkafka's own queue, whose every message has the clock asked, a place on the heap, and its headers' names looked
//! through for what is no text, which it cannot hand out.
//!
//! Not by `rd_kafka_consume_batch_queue`, which takes many at once: where an error came in a message's place, it has the
//! partition go on behind that message at the next rebalance, and says nothing of a topic that is gone.
#![allow(unsafe_code, reason = "rdkafka does not hand out headers whose names are no text")]

use crate::member::MemberContext;
use crate::message::Record;
use ductape_core::Timestamp;
use rdkafka::ClientContext as _;
use rdkafka::bindings as native;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{IsError as _, KafkaError};
use rdkafka::types::{RDKafkaEvent, RDKafkaHeaders, RDKafkaMessage, RDKafkaQueue, RDKafkaRespErr};
use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// The time of a message that has none.
const NO_TIME: i64 = -1;

/// The queue of one partition, apart from the others'.
pub(crate) struct FetchQueue {
    queue: Queue,
    partition: i32,
    client: Arc<BaseConsumer<MemberContext>>,
    /// The same queue, which calls back.
    _kept: PartitionQueue<MemberContext>,
}

/// A reference of one's own to a queue, which is to go before its client.
struct Queue(NonNull<RDKafkaQueue>);

// SAFETY: librdkafka's queues are locked inside; any thread may use them.
unsafe impl Send for Queue {}

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
        // SAFETY: the client is there, and the name lives for as long as the call.
        let queue = unsafe {
            native::rd_kafka_queue_get_partition(client.client().native_ptr(), name.as_ptr(), partition)
        };
        let queue = Queue(NonNull::new(queue)?);
        Some(FetchQueue { queue, partition, client: Arc::clone(client), _kept: kept })
    }

    /// Hands up to `room` messages to `each`, and errors as they come between them, until that breaks off. Does not wait.
    pub(crate) fn take(
        &mut self,
        room: usize,
        mut each: impl FnMut(Result<&Fetched<'_>, KafkaError>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut left = room;
        while left > 0
            && let Some(event) = self.queue.poll()
        {
            match event.kind() {
                native::RD_KAFKA_EVENT_FETCH => {
                    let Some(message) = event.message() else { continue };
                    let error = message.error();
                    left -= usize::from(error.is_none());
                    each(error.map_or(Ok(&message), |code| Err(self.error(code))))?;
                }
                native::RD_KAFKA_EVENT_ERROR => {
                    let (code, reason) = event.error();
                    self.client.context().error(KafkaError::Global(code.into()), &reason);
                    if code.is_error() {
                        each(Err(self.error(code)))?;
                    }
                }
                // All others come by the member's own queue.
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn error(&self, code: RDKafkaRespErr) -> KafkaError {
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => KafkaError::PartitionEOF(self.partition),
            // What is fatal comes by the member's own queue.
            code => KafkaError::MessageConsumption(code.into()),
        }
    }
}

impl Queue {
    fn poll(&self) -> Option<Event> {
        // SAFETY: the queue is there.
        NonNull::new(unsafe { native::rd_kafka_queue_poll(self.0.as_ptr(), 0) }).map(Event)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: it is this one's own reference, and its client is still there.
        unsafe { native::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// What the client library has to tell. A message of it is there for as long as it is.
struct Event(NonNull<RDKafkaEvent>);

impl Event {
    fn kind(&self) -> i32 {
        // SAFETY: the event is there.
        unsafe { native::rd_kafka_event_type(self.0.as_ptr()) }
    }

    fn message(&self) -> Option<Fetched<'_>> {
        // SAFETY: the event is there. It owns the message.
        let message = unsafe { native::rd_kafka_event_message_next(self.0.as_ptr()) };
        Some(Fetched(NonNull::new(message.cast_mut())?, PhantomData))
    }

    fn error(&self) -> (RDKafkaRespErr, String) {
        // SAFETY: the event is there, and its text with it.
        unsafe {
            let reason = native::rd_kafka_event_error_string(self.0.as_ptr());
            let reason = NonNull::new(reason.cast_mut()).map(|reason| CStr::from_ptr(reason.as_ptr()));
            let reason = reason.map(|reason| reason.to_string_lossy().trim().to_owned());
            (native::rd_kafka_event_error(self.0.as_ptr()), reason.unwrap_or_default())
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: only this one has it.
        unsafe { native::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// A message as the client library holds it.
pub(crate) struct Fetched<'e>(NonNull<RDKafkaMessage>, PhantomData<&'e Event>);

impl Fetched<'_> {
    fn native(&self) -> &RDKafkaMessage {
        // SAFETY: it is there for as long as its event.
        unsafe { self.0.as_ref() }
    }

    /// What came in a message's place.
    fn error(&self) -> Option<RDKafkaRespErr> {
        Some(self.native().err).filter(|code| code.is_error())
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
