//! What handles deliveries, and what it may say of them.

use crate::delivery::Delivery;
use crate::error::{Error, ErrorKind};
use futures_util::FutureExt;
use futures_util::future::{Either, Map, Ready, ready};
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

/// What a handler says of a delivery: `Ok` acknowledges it.
pub type Outcome = Result<(), Failure>;

/// Why a handler did not handle a delivery, and what is to become of it.
///
/// Every error converts with `?` and means: try again by the subscription's policy.
///
/// ```
/// use ductape_core::worker::{Failure, Outcome};
/// async fn handle(text: String) -> Outcome {
///     let number: i64 = text.parse()?;                            // tried again, then dead-lettered
///     if number < 0 {
///         return Err(Failure::reject("negative"));                // dead-lettered at once
///     }
///     Ok(())
/// }
/// # let _ = handle("1".into());
/// ```
pub struct Failure(Box<Inner>);

struct Inner {
    verdict: FailureVerdict,
    reason: String,
}

/// What is to become of a delivery that was not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureVerdict {
    /// Try again by the policy.
    Retry,
    /// Try again after this long.
    RetryAfter(Duration),
    /// Dead-letter it at once.
    Reject,
    /// Acknowledge it unhandled.
    Discard,
    /// Give it back untried, its attempt not counted where that can be helped.
    Release,
}

impl Failure {
    fn new(verdict: FailureVerdict, reason: impl fmt::Display) -> Self {
        Failure(Box::new(Inner { verdict, reason: reason.to_string() }))
    }

    /// Try again by the subscription's policy.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Failure::new(FailureVerdict::Retry, reason)
    }

    /// Try again after this long; it counts as an attempt.
    pub fn retry_after(delay: Duration, reason: impl fmt::Display) -> Self {
        Failure::new(FailureVerdict::RetryAfter(delay), reason)
    }

    /// Dead-letter at once: trying again would not help.
    pub fn reject(reason: impl fmt::Display) -> Self {
        Failure::new(FailureVerdict::Reject, reason)
    }

    /// Acknowledge unhandled: nobody will miss it.
    pub fn discard(reason: impl fmt::Display) -> Self {
        Failure::new(FailureVerdict::Discard, reason)
    }

    /// Give it back untried: for a handler that sees that its program is about to stop, and asks its subscription
    /// to. Without a stop it comes again at once, behind later ones of its key that are in hand.
    pub fn release(reason: impl fmt::Display) -> Self {
        Failure::new(FailureVerdict::Release, reason)
    }

    /// What is to become of the delivery.
    pub fn verdict(&self) -> FailureVerdict {
        self.0.verdict
    }

    /// Why, as dead letters and logs show it.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").field("verdict", &self.0.verdict).field("reason", &self.0.reason).finish()
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason.push_str(": ");
            reason.push_str(&cause.to_string());
            source = cause.source();
        }
        Failure::retry(reason)
    }
}

/// Handles deliveries, one call each. Closures are handlers through [`IntoHandler`].
pub trait Handler: Send + Sync + 'static {
    /// What a call returns.
    type Future: Future<Output = Outcome> + Send + 'static;

    /// Handles one delivery. A call that is ready at its first poll costs no task and no allocation. What the
    /// future needs of the delivery it clones, which copies no bytes.
    fn call(&self, delivery: &Delivery) -> Self::Future;
}

/// What a subscription takes: `Fn(T)`, `Fn(T, Delivery)` with any `T: DeserializeOwned`, or `Fn(Delivery)`, each
/// returning a future of `()` or of a `Result<(), E>` whose error is a [`Failure`] or converts into one.
pub trait IntoHandler<Marker>: Sized {
    /// The handler.
    type Handler: Handler;

    /// Makes it one.
    fn into_handler(self) -> Self::Handler;
}

/// What a handler's future may return.
pub trait IntoOutcome {
    /// As an outcome.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Ok(())
    }
}

impl<E: Into<Failure>> IntoOutcome for Result<(), E> {
    fn into_outcome(self) -> Outcome {
        self.map_err(Into::into)
    }
}

/// Marks handlers that take the delivery as it is.
#[derive(Debug)]
pub struct Raw;
/// Marks handlers that take the decoded payload.
#[derive(Debug)]
pub struct Payload<T>(PhantomData<T>);
/// Marks handlers that take the decoded payload and the delivery.
#[derive(Debug)]
pub struct PayloadAndDelivery<T>(PhantomData<T>);

/// A closure as a handler.
#[derive(Debug)]
pub struct FnHandler<F, Marker>(F, PhantomData<fn() -> Marker>);

type Settled<Fut> = Map<Fut, fn(<Fut as Future>::Output) -> Outcome>;

fn settled<Fut>(future: Fut) -> Settled<Fut>
where
    Fut: Future<Output: IntoOutcome>,
{
    future.map(IntoOutcome::into_outcome)
}

/// Decodes the payload as JSON. What does not decode is rejected with serde's own reason.
fn decode<T: DeserializeOwned>(delivery: &Delivery) -> Result<T, Failure> {
    let payload = &delivery.message.payload;
    // Looking at all bytes once costs less than having serde look at each string.
    let decoded = match std::str::from_utf8(payload) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(payload),
    };
    decoded.map_err(|error| {
        let what = format!("the payload is not what the subscriber takes: {error}");
        Failure::reject(Error::new(ErrorKind::PayloadInvalid, what))
    })
}

impl<F, Fut> Handler for FnHandler<F, Raw>
where
    F: Fn(Delivery) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: IntoOutcome> + Send + 'static,
{
    type Future = Settled<Fut>;

    fn call(&self, delivery: &Delivery) -> Self::Future {
        settled((self.0)(delivery.clone()))
    }
}

impl<F, T, Fut> Handler for FnHandler<F, Payload<T>>
where
    F: Fn(T) -> Fut + Send + Sync + 'static,
    T: DeserializeOwned + 'static,
    Fut: Future<Output: IntoOutcome> + Send + 'static,
{
    type Future = Either<Settled<Fut>, Ready<Outcome>>;

    fn call(&self, delivery: &Delivery) -> Self::Future {
        match decode(delivery) {
            Ok(payload) => Either::Left(settled((self.0)(payload))),
            Err(failure) => Either::Right(ready(Err(failure))),
        }
    }
}

impl<F, T, Fut> Handler for FnHandler<F, PayloadAndDelivery<T>>
where
    F: Fn(T, Delivery) -> Fut + Send + Sync + 'static,
    T: DeserializeOwned + 'static,
    Fut: Future<Output: IntoOutcome> + Send + 'static,
{
    type Future = Either<Settled<Fut>, Ready<Outcome>>;

    fn call(&self, delivery: &Delivery) -> Self::Future {
        match decode(delivery) {
            Ok(payload) => Either::Left(settled((self.0)(payload, delivery.clone()))),
            Err(failure) => Either::Right(ready(Err(failure))),
        }
    }
}

impl<F, Fut> IntoHandler<Raw> for F
where
    F: Fn(Delivery) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: IntoOutcome> + Send + 'static,
{
    type Handler = FnHandler<F, Raw>;

    fn into_handler(self) -> Self::Handler {
        FnHandler(self, PhantomData)
    }
}

impl<F, T, Fut> IntoHandler<Payload<T>> for F
where
    F: Fn(T) -> Fut + Send + Sync + 'static,
    T: DeserializeOwned + 'static,
    Fut: Future<Output: IntoOutcome> + Send + 'static,
{
    type Handler = FnHandler<F, Payload<T>>;

    fn into_handler(self) -> Self::Handler {
        FnHandler(self, PhantomData)
    }
}

impl<F, T, Fut> IntoHandler<PayloadAndDelivery<T>> for F
where
    F: Fn(T, Delivery) -> Fut + Send + Sync + 'static,
    T: DeserializeOwned + 'static,
    Fut: Future<Output: IntoOutcome> + Send + 'static,
{
    type Handler = FnHandler<F, PayloadAndDelivery<T>>;

    fn into_handler(self) -> Self::Handler {
        FnHandler(self, PhantomData)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Position, Token};
    use crate::message::{Attributes, IdSource, Message};
    use crate::time::Timestamp;
    use std::sync::Arc;

    fn delivery(payload: &'static str) -> Delivery {
        let attributes = Attributes { source: "/s".into(), event: "a:b".into(), content_type: "x".into() };
        let time = Timestamp::default();
        Delivery {
            message: Message::new(payload, IdSource::new().next(time), time, Arc::new(attributes)),
            attempt: 1,
            position: Position::Sequence(0),
            token: Token::Numbers(0, 0),
        }
    }

    fn outcome<M, H: IntoHandler<M>>(handler: H, payload: &'static str) -> Outcome {
        handler.into_handler().call(&delivery(payload)).now_or_never().expect("ready at once")
    }

    #[test]
    fn closures_of_every_shape_are_handlers() {
        assert!(outcome(|_: Delivery| async {}, "1").is_ok());
        assert!(outcome(|n: i64| async move { assert_eq!(n, 1) }, "1").is_ok());
        let parse = |text: String, _: Delivery| async move {
            text.parse::<i64>()?;
            Ok::<_, Failure>(())
        };
        let failure = outcome(parse, "\"x\"").unwrap_err();
        assert_eq!(
            (failure.verdict(), failure.reason()),
            (FailureVerdict::Retry, "invalid digit found in string")
        );
    }

    #[test]
    fn what_does_not_decode_is_rejected_with_serdes_reason() {
        let failure = outcome(|_: i64| async {}, "\"x\"").unwrap_err();
        assert_eq!(failure.verdict(), FailureVerdict::Reject);
        assert!(failure.reason().contains("invalid type: string \"x\", expected i64"), "{failure:?}");
    }
}
