//! The thread that commits for a member: one request at a time, for all that was settled meanwhile.

use crate::consumer::Handle;
use crate::error;
use crate::groups;
use crate::ledger::Mark;
use crate::link::lock;
use crate::member::MemberContext;
use ductape_core::ErrorKind;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::sync::Arc;
use std::time::Duration;

/// The thread is woken when something is due; this is only how long it sleeps otherwise.
const IDLE: Duration = Duration::from_secs(60);
/// Before a commit is repeated.
const PAUSE: Duration = Duration::from_millis(20);
/// The same at most, where it is refused time and again. Within what the last commit may take.
const LONGEST: Duration = Duration::from_secs(1);

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Taken,
    /// It is repeated, and will be taken.
    Passing,
    /// It is repeated, and somebody has to mend something first.
    Refused,
}

pub(crate) struct Committer {
    handle: Arc<Handle>,
    client: Arc<BaseConsumer<MemberContext>>,
}

impl Committer {
    pub(crate) fn new(handle: Arc<Handle>, client: Arc<BaseConsumer<MemberContext>>) -> Self {
        Committer { handle, client }
    }

    /// Commits whatever is due, until the member has ended.
    pub(crate) fn run(self) {
        let mut pause = PAUSE;
        while !lock(&self.handle.state).ended {
            let Some(marks) = self.begin() else {
                self.handle.due.wait(IDLE);
                continue;
            };
            match self.commit(&marks) {
                End::Taken => pause = PAUSE,
                End::Passing => std::thread::sleep(PAUSE),
                End::Refused => {
                    std::thread::sleep(pause);
                    pause = LONGEST.min(pause * 2);
                }
            }
        }
    }

    /// What there is to tell the cluster.
    fn begin(&self) -> Option<Vec<(u32, i32, Mark)>> {
        let mut state = lock(&self.handle.state);
        let marks = if state.at_last { state.ledger.to_commit_at_last() } else { state.ledger.to_commit() };
        if marks.is_empty() && !state.commits.is_awaited() {
            return None;
        }
        state.commits.begin(marks.clone());
        Some(marks)
    }

    fn commit(&self, marks: &[(u32, i32, Mark)]) -> End {
        let list = marks.iter().map(|(_, number, mark)| (*number, mark.clone()));
        let told = match marks.is_empty() {
            // Who waits has lost what it waited for.
            true => Ok(()),
            false => groups::marks_list(&self.handle.destination.name, list)
                .and_then(|list| self.client.commit(&list, CommitMode::Sync)),
        };
        let end = self.end(told);
        // What was held back for its count may be handed out, and a partition may be told all.
        self.handle.wake.notify_waiters();
        self.handle.bell.ring();
        end
    }

    /// Tells those who wait, or where nobody does, whoever receives next: messages may wait for the count of the first.
    fn end(&self, told: Result<(), KafkaError>) -> End {
        let mut state = lock(&self.handle.state);
        match told.map_err(|error| error::code(&error).unwrap_or(Code::Fail)) {
            Ok(()) => {
                for (epoch, _, mark) in state.commits.succeed() {
                    state.ledger.committed(epoch, mark);
                }
                End::Taken
            }
            Err(code) if is_passing(code) => {
                tracing::debug!(%code, group = %self.handle.group, "a commit is repeated");
                state.commits.repeat();
                End::Passing
            }
            Err(code) => {
                let error = error::coded(code, "the commit", true);
                // That it is no member any more it hears by itself.
                if !state.commits.is_heard() && error.kind() != ErrorKind::LeaseLost {
                    state.tell(self.handle.located(error.replicate()));
                }
                state.commits.fail(error);
                End::Refused
            }
        }
    }
}

/// Whether a commit fails only because the group or its coordinator is being moved about: while the partition is this
/// member's it is repeated, and once it is not, that is told by a revocation.
fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::RebalanceInProgress
            | Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::WaitingForCoordinator
            | Code::BrokerTransportFailure
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::TimedOutQueue
            | Code::NetworkException
            | Code::InProgress
            | Code::UnstableOffsetCommit
    )
}
