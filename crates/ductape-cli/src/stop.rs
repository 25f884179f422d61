//! Being told to stop: Ctrl-C, SIGTERM and SIGHUP. The first asks for a clean end, the second insists.

use crate::failure::{Failure, Outcome};
use tokio::sync::watch;

/// How often the process was told to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<u32>);

impl Stop {
    /// Listens from now on: no signal ends the process by itself any more.
    pub(crate) fn listen() -> Outcome<Self> {
        let (sender, told) = watch::channel(0);
        signals(sender).map_err(|error| {
            Failure::io("signals cannot be listened to", error, "see how many files this user may have open")
        })?;
        Ok(Stop(told))
    }

    /// Waits until the process is told to stop.
    pub(crate) async fn wanted(&mut self) {
        self.times(1).await;
    }

    /// Waits until the process is told to stop once more.
    pub(crate) async fn insisted(&mut self) {
        self.times(2).await;
    }

    async fn times(&mut self, times: u32) {
        if self.0.wait_for(|told| *told >= times).await.is_err() {
            // Nobody listens any more, so nobody will tell.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
fn signals(sender: watch::Sender<u32>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            let told = tokio::select! {
                told = interrupt.recv() => told,
                told = terminate.recv() => told,
                told = hang_up.recv() => told,
            };
            if told.is_none() {
                return;
            }
            sender.send_modify(|times| *times += 1);
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn signals(sender: watch::Sender<u32>) -> std::io::Result<()> {
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            sender.send_modify(|times| *times += 1);
        }
    });
    Ok(())
}
