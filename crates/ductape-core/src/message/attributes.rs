//! What messages share.

use std::sync::Arc;

/// What many messages share: of one publisher, all its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// CloudEvents `source`: `/` and the product's tag for what Ductape published.
    pub source: Arc<str>,
    /// CloudEvents `type`: the event.
    pub event: Arc<str>,
    /// CloudEvents `datacontenttype`.
    pub content_type: Arc<str>,
}

/// The attributes of a batch's messages, counted apart from those of other batches.
///
/// Messages that share attributes share the counter of their references. Where one thread makes or receives messages and
/// another lets those of an earlier batch go, that counter's cache line goes to and fro between them with every message.
#[derive(Debug)]
pub struct BatchAttributes {
    is_long: bool,
    /// Those that were met last, and their copy.
    last: Option<(Arc<Attributes>, Arc<Attributes>)>,
}

impl BatchAttributes {
    /// From so many messages on a copy costs less than it saves.
    const LONG: usize = 32;

    /// For a batch of up to so many messages.
    pub fn new(messages: usize) -> Self {
        BatchAttributes { is_long: messages >= Self::LONG, last: None }
    }

    /// Attributes that are equal to these: the batch's own where it is long, else these.
    #[inline]
    pub fn like(&mut self, attributes: &Arc<Attributes>) -> Arc<Attributes> {
        match &self.last {
            Some((met, own)) if Arc::ptr_eq(met, attributes) => Arc::clone(own),
            _ if self.is_long => self.copy(attributes),
            _ => Arc::clone(attributes),
        }
    }

    #[cold]
    fn copy(&mut self, attributes: &Arc<Attributes>) -> Arc<Attributes> {
        let own = Arc::new(Attributes::clone(attributes));
        self.last = Some((Arc::clone(attributes), Arc::clone(&own)));
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_batch_has_one_copy_and_a_short_one_none() {
        let attributes = |event: &str| {
            Arc::new(Attributes { source: "s".into(), event: event.into(), content_type: "t".into() })
        };
        let (one, other) = (attributes("a:b"), attributes("a:c"));
        let mut short = BatchAttributes::new(1);
        assert!(Arc::ptr_eq(&short.like(&one), &one));
        let mut long = BatchAttributes::new(1000);
        let copy = long.like(&one);
        assert!(copy == one && !Arc::ptr_eq(&copy, &one) && Arc::ptr_eq(&long.like(&one), &copy));
        assert_eq!(long.like(&other), other);
    }
}
