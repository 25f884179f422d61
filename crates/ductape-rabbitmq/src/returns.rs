//! Which messages of a call the server returned since no queue takes them.
//!
//! The server returns a message and then confirms it. Lapin has a return come with the next confirm on the channel, which
//! may be another message's, and one confirm of the server's may stand for many messages, in no order. So a message is
//! known by its id to be returned, and not by the confirm that a return came with.

use ductape_core::{Error, Position, Result};
use lapin::types::ShortString;
use std::sync::{Mutex, PoisonError};

/// What came back with the confirms of one call.
///
/// Calls that overlap have one channel, and a return of the one may come with a confirm of the other. Who sees a
/// stranger's return takes none of its own messages for taken. **The stranger is not told**: where it has all its confirms
/// by then, its message counts as taken though no queue has it; so does one whose return came with the confirm of a caller
/// who went away. That cannot be mended from here, since lapin tells of returns in no other way, and the stranger's caller
/// may have its answer before this one's task runs. It takes a queue that is deleted while publishes of several calls are
/// in flight; what is published after that is returned and refused.
#[derive(Default)]
pub(crate) struct Returns(Mutex<Vec<Option<ShortString>>>);

impl Returns {
    /// Notes the id of a message that came back. One without is nobody's.
    pub(crate) fn note(&self, id: Option<ShortString>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    /// Corrects the results of a call, in which all that were confirmed count as taken.
    pub(crate) fn correct(
        self,
        results: &mut [Result<Position>],
        returned: impl Fn() -> Error,
        unknown: impl Fn() -> Error,
    ) {
        let ids = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !ids.is_empty() {
            correct(results, &ids, returned, unknown);
        }
    }
}

fn correct(
    results: &mut [Result<Position>],
    ids: &[Option<ShortString>],
    returned: impl Fn() -> Error,
    unknown: impl Fn() -> Error,
) {
    let mut own = 0;
    for result in results.iter_mut().filter(|result| is_among(result, ids)) {
        *result = Err(returned());
        own += 1;
    }
    if own < ids.len() {
        results.iter_mut().filter(|result| result.is_ok()).for_each(|result| *result = Err(unknown()));
    }
}

fn is_among(result: &Result<Position>, ids: &[Option<ShortString>]) -> bool {
    let Ok(Position::Id(id)) = result else { return false };
    id.with_text(|id| ids.iter().flatten().any(|returned| returned.as_str() == id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ductape_core::error::Retry;
    use ductape_core::{ErrorKind, MessageId};

    /// What is said of messages of these ids, all confirmed, where these came back.
    fn told(ids: &[&str], back: &[Option<&str>]) -> Vec<&'static str> {
        let taken = |id: &&str| Ok(Position::Id(MessageId::Text((*id).into())));
        let mut results: Vec<_> = ids.iter().map(taken).collect();
        let returns = Returns::default();
        back.iter().for_each(|id| returns.note(id.map(Into::into)));
        let error = |retry| Error::new(ErrorKind::DestinationNotFound, "x").with_retry(retry);
        returns.correct(&mut results, || error(Retry::Never), || error(Retry::Uncertain));
        let word = |result: Result<Position>| match result {
            Ok(_) => "taken",
            Err(error) if error.is_uncertain() => "unknown",
            Err(_) => "returned",
        };
        results.into_iter().map(word).collect()
    }

    #[test]
    fn a_message_is_returned_by_its_id_whatever_confirm_it_came_with() {
        assert_eq!(told(&["a", "b", "c"], &[]), ["taken", "taken", "taken"]);
        assert_eq!(told(&["a", "b", "c"], &[Some("c"), Some("b")]), ["taken", "returned", "returned"]);
        assert_eq!(told(&["a"], &[Some("a")]), ["returned"]);
    }

    #[test]
    fn a_strangers_return_leaves_what_is_not_returned_unknown() {
        assert_eq!(told(&["a", "b"], &[Some("x")]), ["unknown", "unknown"]);
        assert_eq!(told(&["a", "b"], &[Some("x"), Some("b")]), ["unknown", "returned"]);
        assert_eq!(told(&["a", "b"], &[None]), ["unknown", "unknown"]);
    }

    #[test]
    fn what_failed_otherwise_stays_as_it_is() {
        let failed = || Error::new(ErrorKind::MessageTooLarge, "x");
        let mut results = vec![Err(failed()), Ok(Position::Id(MessageId::Text("a".into())))];
        let returns = Returns::default();
        returns.note(Some("a".into()));
        returns.correct(&mut results, failed, failed);
        assert!(
            results
                .iter()
                .all(|result| result.as_ref().is_err_and(|e| e.kind() == ErrorKind::MessageTooLarge))
        );
    }
}
