//! `--exec`: a command for each message.

use super::Arguments;
use super::quota::Quota;
use crate::failure::{Failure, Outcome, note};
use crate::output::Format;
use crate::run::Context;
use crate::stop::Stop;
use ductape::worker::Outcome as Handled;
use ductape::{Delivery, Ductape, Failure as NotHandled, Subscribe};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};

/// The codes by which a shell says that the command itself could not be run (POSIX, Shell Command Language §2.8.2).
const NOT_RUN: [i32; 2] = [126, 127];

/// What all commands of a run share.
struct Runner {
    command: String,
    format: Format,
    attempts: u64,
    quota: Quota,
    /// Told whenever a command starts or ends.
    moved: Notify,
    /// Why no command can be run at all.
    broken: watch::Sender<Option<String>>,
    /// Turns true when commands under way are to be ended.
    killed: watch::Sender<bool>,
}

pub(super) async fn run(
    context: &Context,
    client: &Ductape,
    subscribe: Subscribe,
    arguments: &Arguments,
    command: &str,
    mut stop: Stop,
) -> Outcome {
    let runner = Arc::new(Runner {
        command: command.to_owned(),
        format: context.format(),
        attempts: arguments.attempts,
        quota: Quota::new(arguments.count),
        moved: Notify::new(),
        broken: watch::Sender::new(None),
        killed: watch::Sender::new(false),
    });
    let handler = Arc::clone(&runner);
    let subscription = client
        .broker()
        .subscribe(subscribe, move |delivery: Delivery| Arc::clone(&handler).handle(delivery))
        .await?;
    let (mut quota, mut broken) = (runner.quota.clone(), runner.broken.subscribe());
    tokio::select! {
        () = stop.wanted() => {}
        () = quota.met() => {}
        _ = broken.wait_for(Option::is_some) => {}
        () = runner.idle(arguments.timeout, || subscription.stats().in_flight) => {}
    }
    subscription.request_stop();
    tokio::select! {
        finished = subscription.finished() => finished?,
        () = stop.insisted() => {
            runner.killed.send_replace(true);
            subscription.finished().await?;
        }
    }
    let fault = runner.broken.borrow().clone();
    match fault {
        Some(what) => Err(Failure::usage(what, "mend `--exec`; the messages are given back")),
        None => Ok(()),
    }
}

impl Runner {
    async fn handle(self: Arc<Self>, delivery: Delivery) -> Handled {
        self.moved.notify_waiters();
        let Some(leave) = self.quota.leave().await else {
            return Err(NotHandled::release("there are enough"));
        };
        // What was given back may be here again before the subscription has stopped.
        if self.broken.borrow().is_some() {
            return Err(NotHandled::release("the command cannot be run"));
        }
        let result = self.run(&delivery).await;
        self.moved.notify_waiters();
        match &result {
            Ok(()) => leave.used(),
            Err(failure) => self.tell(&delivery, failure),
        }
        result
    }

    async fn run(&self, delivery: &Delivery) -> Handled {
        let mut child = Group(self.spawn(delivery)?);
        let payload = delivery.message.payload.clone();
        let stdin = child.0.stdin.take();
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A command that does not read all of its input may still succeed.
                let _ = stdin.write_all(&payload).await;
            }
        };
        let mut killed = self.killed.subscribe();
        let (_, status) = tokio::select! {
            ended = async { tokio::join!(feed, child.0.wait()) } => ended,
            _ = killed.wait_for(|killed| *killed) => {
                child.kill();
                return Err(NotHandled::retry("the command was ended by a second signal"));
            }
        };
        self.judge(status?)
    }

    fn spawn(&self, delivery: &Delivery) -> std::io::Result<Child> {
        let message = &delivery.message;
        let (mut shell, option) = shell();
        shell.arg(option).arg(&self.command).stdin(Stdio::piped()).kill_on_drop(true);
        let known = [
            ("DUCTAPE_ID", message.id.to_string()),
            ("DUCTAPE_EVENT", message.event().to_owned()),
            ("DUCTAPE_TIME", message.time.to_string()),
            ("DUCTAPE_ATTEMPT", delivery.attempt.to_string()),
            ("DUCTAPE_KEY", message.key.as_ref().map(ToString::to_string).unwrap_or_default()),
        ];
        // A variable cannot hold a zero byte, and a foreign message may.
        shell.envs(known.into_iter().filter(|(_, value)| !value.contains('\0')));
        // In a group of its own, so that Ctrl-C at the terminal lets it finish.
        #[cfg(unix)]
        shell.process_group(0);
        shell.spawn()
    }

    fn judge(&self, status: ExitStatus) -> Handled {
        match status.code() {
            Some(0) => Ok(()),
            // Not the message's fault: trying others would only fill the dead letters.
            Some(code) if NOT_RUN.contains(&code) => {
                let what = format!("`{}` cannot be run: the shell ends with {code}", self.command);
                self.broken.send_replace(Some(what));
                Err(NotHandled::release("the command cannot be run"))
            }
            Some(code) => Err(NotHandled::retry(format_args!("`{}` ended with {code}", self.command))),
            None => Err(NotHandled::retry(format_args!("`{}`: {status}", self.command))),
        }
    }

    fn tell(&self, delivery: &Delivery, failure: &NotHandled) {
        let (id, attempt) = (&delivery.message.id, delivery.attempt);
        let next = match u64::from(attempt) >= self.attempts {
            true => "; it goes to the dead letters",
            false => "; it is tried again",
        };
        if self.broken.borrow().is_none() {
            note(self.format, &format!("message {id}, attempt {attempt}: {}{next}", failure.reason()));
        }
    }

    /// Waits until nothing has arrived, and nothing was in hand, for so long.
    async fn idle(&self, timeout: Option<Duration>, in_hand: impl Fn() -> u64) {
        let Some(timeout) = timeout else { return std::future::pending().await };
        loop {
            let quiet = tokio::time::timeout(timeout, self.moved.notified()).await.is_err();
            if quiet && in_hand() == 0 {
                return;
            }
        }
    }
}

#[cfg(unix)]
fn shell() -> (Command, &'static str) {
    (Command::new("sh"), "-c")
}

#[cfg(not(unix))]
fn shell() -> (Command, &'static str) {
    (Command::new("cmd"), "/C")
}

/// A command and whatever it started. Ended as a whole, so that nothing goes on behind a message that comes again.
struct Group(Child);

impl Group {
    #[cfg(unix)]
    fn kill(&mut self) {
        use nix::sys::signal::{Signal, killpg};
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            // It may have ended in the meantime.
            let _ = killpg(nix::unistd::Pid::from_raw(id), Signal::SIGKILL);
        }
    }

    #[cfg(not(unix))]
    fn kill(&mut self) {
        // It may have ended in the meantime.
        let _ = self.0.start_kill();
    }
}

impl Drop for Group {
    /// A handler that is cut off, at the end of a stop that took too long.
    fn drop(&mut self) {
        self.kill();
    }
}
